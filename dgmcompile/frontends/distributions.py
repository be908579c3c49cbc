"""Distributions as the user wrote them: from the constructor call, never from the instance's attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.distribution import COERCIONS, DistributionMeta
from torch.distributions import Transform, transforms

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.record import Recorder
from dgmcompile.ir.graph import Arg, TransformStep

_WRAPPERS = {
    "Independent": "base_distribution",
    "MaskedDistribution": "base_dist",
    "ExpandedDistribution": "base_dist",
    "TransformedDistribution": "base_distribution",
}


@dataclass
class Law:
    """A distribution without its wrappers; ``masks`` are those of the masked ones, as given."""

    family: str
    params: dict[str, Arg]
    steps: tuple[TransformStep, ...] = ()
    masks: list[Any] = field(default_factory=list)


class ConstructorCalls:
    """Remembers how each distribution was made while `watched`; the instances are kept alive."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._made: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._expanded: dict[int, tuple[Any, Any]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Pyro's constructors and ``expand`` are seen while inside."""
        base = torch.distributions.Distribution
        original = base._get_checked_instance
        calls = self

        def checked_instance(self: Any, cls: type, _instance: Any = None) -> Any:
            new = original(self, cls, _instance)
            calls._expanded.setdefault(id(new), (new, self))
            return new

        COERCIONS.append(self._construct)
        base._get_checked_instance = checked_instance  # type: ignore[method-assign]
        try:
            yield
        finally:
            base._get_checked_instance = original  # type: ignore[method-assign]
            COERCIONS.remove(self._construct)

    def _construct(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = _given(cls, args, kwargs, self._recorder.arg)
        self._recorder.in_constructor += 1
        try:
            instance = super(DistributionMeta, cls).__call__(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._recorder.in_constructor -= 1
        self._made[id(instance)] = (instance, given)
        return instance

    def law(self, distribution: Any, location: Location | None) -> Law:
        """The family and parameters behind the wrappers of ``distribution``."""
        while id(distribution) in self._expanded:
            distribution = self._expanded[id(distribution)][1]
        given = self._parameters(distribution, location)
        name = type(distribution).__name__
        if not _is_public(type(distribution)):
            return Law(f"{type(distribution).__module__}.{type(distribution).__qualname__}", given)
        if name not in _WRAPPERS:
            return Law(name, {key: _described(value) for key, value in given.items()})
        law = self.law(given.get(_WRAPPERS[name], given.get("base_dist")), location)
        if name == "MaskedDistribution":
            law.masks.append(given.get("mask", given.get("_mask")))
        if name == "TransformedDistribution":
            parts = given["transforms"]
            law.steps += self._steps(parts if isinstance(parts, list | tuple) else [parts])
        return law

    def _parameters(self, distribution: Any, location: Location | None) -> dict[str, Any]:
        if id(distribution) in self._made:
            return self._made[id(distribution)][1]
        found = _held(distribution)
        missing = [names for names in _needed(type(distribution)) if not found.keys() & names]
        if missing:
            raise CompileError(
                Diagnostic(
                    code="unseen-distribution",
                    message=f"a {type(distribution).__name__} was made before the model ran, "
                    f"so its {', '.join(' or '.join(sorted(names)) for names in missing)} cannot be known",
                    location=location,
                    help="construct the distribution inside the model",
                )
            )
        return {name: self._recorder.arg(value) for name, value in found.items()}

    def _steps(self, parts: Any) -> tuple[TransformStep, ...]:
        return tuple(step for part in parts for step in self._step(part))

    def _step(self, transform: Transform) -> tuple[TransformStep, ...]:
        if isinstance(transform, transforms.ComposeTransform):
            return self._steps(transform.parts)
        if isinstance(transform, transforms._InverseTransform):
            inner: Any = transform._inv
            if isinstance(inner, transforms.ComposeTransform):
                return self._steps([part.inv for part in reversed(inner.parts)])
            return tuple(TransformStep(f"{s.name}.inv", s.params) for s in self._step(inner))
        names = [n for n in inspect.signature(type(transform)).parameters if n != "cache_size"]
        held = vars(transform)
        values = {n: held.get(n, held.get(f"_{n}")) for n in names}
        params = {n: self._recorder.arg(v) for n, v in values.items() if v is not None}
        return (TransformStep(type(transform).__name__, params),)


def unwrapped(distribution: Any) -> Any:
    """The distribution without masks, expansions and reinterpreted dims."""
    while type(distribution).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
        distribution = distribution.base_dist
    return distribution


_INSIDE = ("_categorical", "_bernoulli", "_binomial", "_gamma", "_multinomial")
"""Attributes in which a family keeps its ``probs`` or ``logits``."""


_EITHER = ({"probs", "logits"}, {"covariance_matrix", "precision_matrix", "scale_tril"})
"""Parameters of which one is given; the others are computed from it, and kept, when they are asked for."""


def _held(distribution: Any) -> dict[str, Any]:
    """What a distribution made out of sight was made of, as far as it can be read without computing anything."""
    cls = type(distribution)
    names = inspect.signature(cls).parameters.keys() - {"validate_args", "_validate_args"}
    inner = next((vars(distribution)[key] for key in _INSIDE if key in vars(distribution)), None)
    found = {}
    for own, value in {**vars(inner or distribution), **vars(distribution)}.items():
        name = "base_distribution" if own == "base_dist" and "base_distribution" in names else own.lstrip("_")
        if name in names and value is not None:
            found.setdefault(name, value)
    for group in _EITHER:  # the one that was given was there first
        for name in [name for name in found if name in group][1:]:
            del found[name]
    for name in sorted(names - found.keys() - set().union(*_EITHER)):
        if isinstance(inspect.getattr_static(cls, name, None), property):
            found[name] = getattr(distribution, name)
    return found


def _needed(cls: type) -> list[set[str]]:
    """Names of which one has to be known: each required parameter, and one of those that exclude each other."""
    parameters = inspect.signature(cls).parameters
    required = [{n} for n, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return required + [names for names in _EITHER if names <= parameters.keys()]


def _given(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], lift: Callable[[Any], Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(cls).bind(*args, **kwargs)
    except TypeError:
        return {}  # the constructor itself will say what is wrong
    bound.apply_defaults()
    named = dict(bound.arguments)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(name))
    return {n: lift(v) for n, v in named.items() if n != "validate_args" and v is not None}


def _is_public(cls: type) -> bool:
    return any(getattr(module, cls.__name__, None) is cls for module in (dist, torch.distributions))


def _described(value: Any) -> Any:
    """A distribution inside another one has no place in a graph yet; its name keeps recordings comparable."""
    return type(value).__name__ if isinstance(value, torch.distributions.Distribution) else value
