"""The shape of an entry: family -> (noise law, transform, inverse, differentiable?, source)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape


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
        differentiable: do gradients reach the parameters? Where not they are exactly zero.
        conversions: canonical parameter -> {parameter that a user may give instead: formula of it}.
        identity: values of the parameters for which ``forward(noise, ...)`` is the noise itself.
        event_dim: of a single draw.
        discrete: is the support countable?
    """

    family: str
    noises: tuple[NoiseSource, ...]
    params: tuple[str, ...]
    forward: Formula
    source: str
    noise_shapes: NoiseShapes = _shape_of_the_value
    inverse: Formula | None = None
    differentiable: bool = True
    conversions: Mapping[str, Mapping[str, Formula]] = field(default_factory=dict)
    identity: Mapping[str, float] = field(default_factory=dict)
    event_dim: int = 0
    discrete: bool = False


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
    """Entries by name. A name stands once; looking one up does not search base classes."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)


def tensor_or_number(value: Tensor | float) -> Tensor:
    """A number becomes a tensor of the default dtype, as in torch.distributions."""
    return value if isinstance(value, Tensor) else torch.tensor(float(value))
