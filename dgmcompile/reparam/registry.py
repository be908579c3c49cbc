"""The shape of an entry: family -> (noise law, transform, inverse, differentiable?, source)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, Formula, Law, Shape


@dataclass(frozen=True)
class NoiseLaw:
    """A law without parameters.

    ``draw(size, *, dtype, device, generator)`` returns a tensor of ``size``; emitted code contains it.
    """

    name: str
    draw: Formula


Entry = TypeVar("Entry")

NoiseShapes = Callable[[Shape, Mapping[str, Shape]], tuple[Shape, ...]]
"""(shape of the value, shapes of the canonical parameters) -> shape of each noise."""


def _shape_of_the_value(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value,)


def _no_refusal(params: Mapping[str, Shape]) -> str | None:
    return None


def _same_shape(shape: Shape) -> Shape:
    return shape


@dataclass(frozen=True)
class NoiseSource:
    """One noise of a transform: its law, and its dtype where that is not the parameters' own.

    ``dtype`` is float64 where one uniform decides a discrete value.
    """

    law: NoiseLaw
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class NoiseTransform:
    """How a family is written as parameter-free noise and a deterministic transform of it.

    ``forward(*noises, *params)`` has exactly the law ``family(*params)``, elementwise over broadcast
    batch dims, and the dtype of the library's own sample. A parameter may be a Python number. Its
    text stands in emitted code, so it reads torch, math and formulas of ours only.

    Args:
        family: class name in ``pyro.distributions``.
        noises: in the order that ``forward`` takes them.
        params: canonical parameters, in the order that ``forward`` takes them after the noises.
        forward: the transform.
        source: where the construction comes from.
        noise_shapes: see `NoiseShapes`; by default each noise has the shape of the value.
        inverse: ``inverse(value, *params)`` gives the noise (the only one) back; None where
            ``forward`` is not one-to-one.
        differentiable: do gradients reach every parameter? Where not they are exactly zero.
        biased: is the family's own gradient not the derivative of the value, as of a straight-through draw?
        no_gradient: the parameters that get none, where others do; see `without_gradient`.
        conversions: canonical parameter -> {parameter that a user may give instead: formula of it, and of the
            canonical parameters by whose names its further arguments are called}.
        identity: values of the parameters for which ``forward(noise, ...)`` is the noise itself.
        event_dim: of a single draw.
        event_dim_of: shapes of the canonical parameters -> event dims, where these decide; see `event_dim_at`.
        discrete: is the support countable?
        gradients: named stand-ins for a zero gradient (``straight_through``, ``relaxed``): formulas with
            the arguments of ``forward`` (then options with defaults, as ``temperature``) and exactly its
            values, through which a biased gradient reaches the parameters. Never the default.
        variants: other exact constructions of the same law, by name (``inverse_cdf``), for pairs whose
            noises would not agree in shape, and for users who ask.
        limits: what ``forward`` cannot do, with the reason: keys of `CAPABILITIES`.
        refusal: shapes of the canonical parameters -> why there is no transform at these, or None.
    """

    family: str
    noises: tuple[NoiseSource, ...]
    params: tuple[str, ...]
    forward: Formula
    source: str
    noise_shapes: NoiseShapes = _shape_of_the_value
    inverse: Formula | None = None
    differentiable: bool = True
    biased: bool = False
    conversions: Mapping[str, Mapping[str, Formula]] = field(default_factory=dict)
    identity: Mapping[str, float] = field(default_factory=dict)
    event_dim: int = 0
    event_dim_of: Callable[[Mapping[str, Shape]], int] | None = None
    discrete: bool = False
    gradients: Mapping[str, Formula] = field(default_factory=dict)
    variants: Mapping[str, NoiseTransform] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    no_gradient: frozenset[str] = frozenset()
    refusal: Callable[[Mapping[str, Shape]], str | None] = _no_refusal

    def event_dim_at(self, shapes: Mapping[str, Shape]) -> int:
        """Event dims of a single draw, with canonical parameters of these shapes."""
        return self.event_dim if self.event_dim_of is None else self.event_dim_of(shapes)

    @property
    def without_gradient(self) -> frozenset[str]:
        """The canonical parameters that get no gradient."""
        return self.no_gradient if self.differentiable or self.no_gradient else frozenset(self.params)


CAPABILITIES = ("torch.compile", "vmap", "double backward")
"""What every ``forward`` can do unless its ``limits`` say otherwise."""


class Draws(Protocol):
    """What a composition is written with: by a pass as nodes, by a sampler as tensors."""

    def draw(self, law: Law, shape: Shape, label: str, variant: str = "") -> Arg:
        """A value of ``law``; its noise is drawn in ``shape``, which broadcasts with the law's own.

        ``variant`` names another construction of the law's family.

        A dim of 1 in ``shape`` that is larger in the law's parameters shares its noise along this dim.
        """
        ...

    def call(self, label: str, formula: Formula, *args: Arg) -> Arg:
        """``formula(*args)``."""
        ...


def _event_dim_of_the_parts(params: Mapping[str, Arg]) -> int:
    return max([part.event_dim for part in params.values() if isinstance(part, Law)], default=0)


def _none(params: Mapping[str, Arg]) -> None:
    return None


@dataclass(frozen=True)
class Composition:
    """How a family that holds other distributions is written in draws from these.

    Args:
        family: class name in ``pyro.distributions``.
        params: canonical parameters, which ``write`` reads.
        write: ``write(params, shape, draws)`` is a value of ``shape``, exactly of this law.
        formulas: what ``write`` calls.
        source: where the construction comes from.
        conversions: as in `NoiseTransform`.
        also: families that ``write`` draws from beside the parts.
        variants: as in `NoiseTransform`.
        differentiable: do gradients reach the parameters of every part?
        event_dim: parameters -> event dims of a single draw; by default those of the parts.
        refusal: parameters -> why it cannot be drawn with these, or None.
    """

    family: str
    params: tuple[str, ...]
    write: Callable[[Mapping[str, Arg], Shape, Draws], Arg]
    formulas: tuple[Formula, ...]
    source: str
    conversions: Mapping[str, Mapping[str, Formula]] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    variants: Mapping[str, Composition] = field(default_factory=dict)
    differentiable: bool = True
    event_dim: Callable[[Mapping[str, Arg]], int] = _event_dim_of_the_parts
    refusal: Callable[[Mapping[str, Arg]], str | None] = _none


@dataclass(frozen=True)
class StepTransform:
    """One ``torch.distributions.transforms`` class, or its inverse.

    Args:
        name: of the class; ``X.inv`` is the inverse of ``X`` and has its parameters.
        params: what ``forward`` reads; others that the class takes (cache_size, event_dim) are not here.
        forward: ``forward(value, *params)`` is the push-forward.
        source: where the map comes from.
        inverse: ``inverse(value, *params)``; None where the map is not one-to-one.
        log_abs_det_jacobian: ``log_abs_det_jacobian(x, y, *params)`` has the shape of ``y`` without its
            ``codomain_event_dim`` rightmost dims; None where the map is not one-to-one.
        domain_event_dim, codomain_event_dim: rightmost dims of x and y that the map takes as one.
        domain_shape: shape of y -> shape of x.
    """

    name: str
    params: tuple[str, ...]
    forward: Formula
    source: str
    inverse: Formula | None = None
    log_abs_det_jacobian: Formula | None = None
    domain_event_dim: int = 0
    codomain_event_dim: int = 0
    domain_shape: Callable[[Shape], Shape] = _same_shape


class Registry(Generic[Entry]):
    """Entries by name. A name stands once; looking one up does not search base classes.

    ``table`` is changed by `dgmcompile.registration` alone, where users add families of their own.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.table = dict(entries)

    def get(self, name: str) -> Entry | None:
        return self.table.get(name)

    def __getitem__(self, name: str) -> Entry:
        return self.table[name]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.table.values())

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, name: object) -> bool:
        return name in self.table

    def names(self) -> tuple[str, ...]:
        return tuple(self.table)


def converted_with(formula: Formula) -> tuple[str, ...]:
    """The canonical parameters that a conversion reads beside what was given."""
    arguments = list(inspect.signature(formula.function).parameters.values())[1:]
    return tuple(argument.name for argument in arguments if argument.default is argument.empty)


def tensor_or_number(value: Tensor | float) -> Tensor:
    """A number becomes a tensor of the default dtype, as in torch.distributions."""
    return value if isinstance(value, Tensor) else torch.tensor(float(value))
