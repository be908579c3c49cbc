"""Distributions as the user wrote them: from the constructor call, never from the instance's attributes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.distribution import COERCIONS, DistributionMeta
from torch import Tensor

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.transforms import StepRecorder
from dgmcompile.ir.graph import Law, Ref, Shape, TransformStep, leaves, map_arg

_WRAPPERS = {
    "Independent": "base_distribution",
    "MaskedDistribution": "base_dist",
    "ExpandedDistribution": "base_dist",
    "TransformedDistribution": "base_distribution",
}


@dataclass(frozen=True)
class Mask:
    """A mask as given; so many event dims were reinterpreted outside it."""

    value: Any
    event_dim: int = 0


@dataclass
class Unwrapped:
    """A distribution without its wrappers: its law, and the masks of the masked ones, as given."""

    law: Law
    masks: list[Mask] = field(default_factory=list)


StepReader = Callable[[Any, Callable[[], Tensor], str, Location | None], tuple[TransformStep, ...]]


class ConstructorCalls:
    """Remembers how each distribution was made while `watched`; the instances are kept alive."""

    def __init__(self, recorder: Recorder, steps: StepReader | None = None) -> None:
        self._recorder = recorder
        self.steps = steps or StepRecorder(recorder).steps
        self._made: dict[int, tuple[Any, dict[str, Any], list[tuple[Tensor, int, Any]]]] = {}
        self._expanded: dict[int, tuple[Any, Any]] = {}
        self.classes: dict[str, type] = {}
        """Those that `unwrapped` met, by family."""

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
        """One of Pyro's classes, which ask their `COERCIONS`."""
        return self._remembered(cls, args, kwargs, lambda: super(DistributionMeta, cls).__call__(*args, **kwargs))  # type: ignore[misc]

    def initialise(
        self, original: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """``__init__`` of one of torch's, for `methods_of_distributions`."""
        if self._recorder.in_constructor:
            original(instance, *args, **kwargs)
            return

        def made() -> Any:
            original(instance, *args, **kwargs)
            return instance

        self._remembered(type(instance), args, kwargs, made)

    def _remembered(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], make: Callable[[], Any]) -> Any:
        given = given_to(cls, args, kwargs, self._recorder.arg)
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor) and not leaf.is_inference()]
        held = [(tensor, tensor._version, self._recorder.arg(tensor)) for tensor in tensors]
        self._recorder.in_constructor += 1
        try:
            instance = make()
        finally:
            self._recorder.in_constructor -= 1
        self._made[id(instance)] = (instance, given, held)
        return instance

    def unwrapped(
        self, distribution: Any, site: str, location: Location | None, drawn: Shape | None = None
    ) -> Unwrapped:
        """The family and parameters behind the wrappers of ``distribution``, and its masks.

        Args:
            drawn: shape of a draw, where it is not the distribution's own.
        Errors:
            `CompileError` ``unseen-distribution`` where the parameters cannot be known.
        """
        own = _shape_of(distribution)
        return _Unwrapping(self, site, location).unwrapped(distribution, own, own if drawn is None else drawn)

    def original(self, distribution: Any) -> Any:
        """The one that was constructed, where ``distribution`` was made from it by ``expand``."""
        while id(distribution) in self._expanded:
            distribution = self._expanded[id(distribution)][1]
        return distribution

    def parameters(self, distribution: Any, location: Location | None) -> dict[str, Any]:
        if id(distribution) in self._made:
            _, given, held = self._made[id(distribution)]
            if any(isinstance(ref, Ref) and self._recorder.is_written(t, version, ref) for t, version, ref in held):
                raise CompileError(_written(type(distribution).__name__, location))
            return given
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


Method = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""(the method itself, the distribution, args, kwargs) -> what the call returns."""


@contextmanager
def methods_of_distributions(seen: Mapping[str, Method]) -> Iterator[None]:
    """Calls of these methods of torch's distributions, those of subclasses included, go to the functions given."""
    replaced = [
        (cls, name, vars(cls)[name])
        for cls in _classes(torch.distributions.Distribution)
        for name in seen
        if name in vars(cls)
    ]
    passing = [_passing(original) for _, _, original in replaced]
    before = [to[0] for _, to in passing]
    try:
        for (cls, name, _), (method, to) in zip(replaced, passing, strict=True):
            to[0] = seen[name]
            setattr(cls, name, method)
        yield
    finally:
        for (cls, name, original), (_, to), earlier in zip(replaced, passing, before, strict=True):
            to[0] = earlier
            setattr(cls, name, original)


def _classes(cls: type) -> list[type]:
    found = {cls: None}
    todo = [cls]
    while todo:
        new = [sub for sub in todo.pop().__subclasses__() if sub not in found]
        found.update(dict.fromkeys(new))
        todo += new
    return list(found)


@functools.lru_cache(2048)
def _passing(original: Callable[..., Any]) -> tuple[Callable[..., Any], list[Method | None]]:
    """A method in its place, and whom it passes its calls to; made once, as there are hundreds at each recording."""
    to: list[Method | None] = [None]

    @functools.wraps(original, assigned=("__name__",), updated=())
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen = to[0]
        return original(self, *args, **kwargs) if seen is None else seen(original, self, args, kwargs)

    return method, to


def _written(family: str, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="law-write",
        message=f"a {family} is drawn from after a tensor that it was made of was written in place",
        location=location,
        notes=("some distributions hold the tensor itself, and are another one now; some hold a copy",),
        help="make the distribution after the last write, or write into a clone of the tensor",
    )


@dataclass
class _Unwrapping:
    """Reads the distribution of one site, and those inside it."""

    calls: ConstructorCalls
    site: str
    location: Location | None

    def unwrapped(self, distribution: Any, shape: Shape, drawn: Shape) -> Unwrapped:
        """See `ConstructorCalls`; ``shape`` is the distribution's own, and it is drawn in ``drawn``."""
        expanded, distribution = distribution, self.calls.original(distribution)
        given = dict(self.calls.parameters(distribution, self.location))
        name = family_of(type(distribution))
        self.calls.classes[name] = type(distribution)
        if name not in _WRAPPERS:
            return Unwrapped(self._law(name, distribution, given, shape, drawn))
        found = self.unwrapped(given.get(_WRAPPERS[name], given.get("base_dist")), shape, drawn)
        if name == "MaskedDistribution":
            found.masks.append(Mask(given.get("mask", given.get("_mask"))))
        if name == "Independent":
            dims = given["reinterpreted_batch_ndims"]
            found.masks[:] = [replace(mask, event_dim=mask.event_dim + dims) for mask in found.masks]
        if name == "TransformedDistribution":
            _refuse_masks(found.masks, self.site, self.location)
            steps = self._steps(expanded, given["transforms"], drawn)
            found.law = replace(found.law, transforms=(*found.law.transforms, *steps))
        return found

    def _law(self, name: str, distribution: Any, given: dict[str, Any], shape: Shape, drawn: Shape) -> Law:
        def part_or_value(key: str, value: Any) -> Any:
            if not isinstance(value, torch.distributions.Distribution):
                return value
            return self._part(value, _shape_of_part(name, key, value, drawn, len(distribution.event_shape)))

        params = {key: map_arg(value, partial(part_or_value, key)) for key, value in given.items()}
        steps: tuple[TransformStep, ...] = ()
        if name == "LinearHMM":
            params["observation_dist"] = self._before_steps(distribution, params["observation_dist"])
            steps = self._steps_of(distribution.transforms, partial(_noise_of_observations, distribution, drawn))
        return Law(family=name, params=params, transforms=steps, event_dim=event_dim_of(distribution), shape=shape)

    def _before_steps(self, hmm: Any, law: Law) -> Law:
        """What a linear model adds to its observations: it takes the steps off, and applies them to the sum."""
        base = type(unwrapped(hmm.observation_dist)).__name__
        if base != law.family:  # it is made of steps itself
            if law.family != "LogNormal":
                raise CompileError(_hidden_steps(self.site, law.family, base, self.location))
            law = replace(law, family=base)
        return replace(law, transforms=())

    def _part(self, distribution: Any, drawn: Shape) -> Law:
        """A distribution among the parameters of another one."""
        found = self.unwrapped(distribution, _shape_of(distribution), drawn)
        _refuse_masks(found.masks, self.site, self.location)
        return replace(found.law, event_dim=len(distribution.event_shape))

    def _steps(self, distribution: Any, parts: Any, shape: Shape) -> tuple[TransformStep, ...]:
        def base() -> Tensor:
            batch: Any = shape[: len(shape) - len(distribution.event_shape)]
            return distribution.expand(torch.Size(batch)).base_dist.sample()

        return self._steps_of(parts, base)

    def _steps_of(self, parts: Any, base: Callable[[], Tensor]) -> tuple[TransformStep, ...]:
        parts = parts if isinstance(parts, list | tuple) else [parts]
        return self.calls.steps(parts, base, self.site, self.location)


def _noise_of_observations(hmm: Any, shape: Shape) -> Tensor:
    noise = hmm.observation_dist
    return noise.expand(torch.Size(shape[: len(shape) - len(noise.event_shape)])).sample()  # type: ignore[arg-type]


def event_dim_of(distribution: Any) -> int:
    """How many dims of a draw are one event: `GroupedNormalNormal` says that there is none, and has one."""
    inner = unwrapped(distribution)
    hidden = type(inner).__name__ == "GroupedNormalNormal"
    return len(distribution.event_shape) + hidden


def _shape_of(distribution: Any) -> Shape:
    return (*distribution.batch_shape, *distribution.event_shape)


_AT_EACH_STEP = ("transition_dist", "observation_dist")


def _shape_of_part(family: str, name: str, part: Any, outer: Shape, event_dim: int) -> Shape:
    """In which shape a part is drawn for a draw of ``outer``, which has so many event dims."""
    batch, event = outer[: len(outer) - event_dim], outer[len(outer) - event_dim :]
    match family, name:
        case "MixtureSameFamily", "component_distribution":
            batch = (*batch, 1)
        case "DiscreteHMM", "observation_dist":
            batch = (*batch, event[0], 1)
        case "IndependentHMM", "base_dist":
            batch = (*batch, event[-1])
        case "GaussianHMM" | "GammaGaussianHMM" | "GaussianMRF" | "LinearHMM", _ if name in _AT_EACH_STEP:
            batch = (*batch, event[0])
        case _:
            pass
    try:
        return (*torch.broadcast_shapes(batch, part.batch_shape), *part.event_shape)  # type: ignore[arg-type]
    except RuntimeError:  # another's class, which may draw as it likes
        return _shape_of(part)


def _hidden_steps(site: str, family: str, base: str, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="hidden-steps",
        message=f"the LinearHMM of site {site!r} takes its observation_dist, {family}, apart into {base} and steps, "
        "and adds what is observed of the states before these",
        location=location,
        help="write the observation_dist as a TransformedDistribution of the noise that is added",
    )


def _refuse_masks(masks: list[Mask], site: str, location: Location | None) -> None:
    """Below what is made of a distribution there is no mask."""
    if any(mask.value is not True for mask in masks):
        raise CompileError(
            Diagnostic(
                code="masked-part",
                message=f"the distribution of site {site!r} holds a masked one",
                location=location,
                help="mask the site: dist.MixtureSameFamily(...).mask(mask)",
            )
        )


def unwrapped(distribution: Any) -> Any:
    """The distribution without masks, expansions and reinterpreted dims."""
    while type(distribution).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
        distribution = distribution.base_dist
    return distribution


def held_masks(distribution: Any) -> Iterator[Any]:
    """The masks that it and those inside it hold, which are the user's own tensors where these are boolean."""
    while type(distribution).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
        if type(distribution).__name__ == "MaskedDistribution":
            yield distribution._mask
        distribution = distribution.base_dist


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


def given_to(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], lift: Callable[[Any], Any]) -> dict[str, Any]:
    """The arguments of a constructor call by name, with defaults, each one lifted."""
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


def family_of(cls: type) -> str:
    """What a family is called: a public class by its name, another one with its module."""
    return cls.__name__ if _is_public(cls) else f"{cls.__module__}.{cls.__qualname__}"


def _is_public(cls: type) -> bool:
    return any(getattr(module, cls.__name__, None) is cls for module in (dist, torch.distributions))
