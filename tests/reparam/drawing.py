"""Parameters, noise and values of a family, for tests."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from dgmcompile.reparam import NoiseTransform
from dgmcompile.reparam.registry import converted_with
from tests import seeds
from tests.reparam.example import Given

INDICES = ("group_idx",)
"""Parameters that are whole numbers in every precision."""


def as_given(given: Given, dtype: torch.dtype, numbers: bool = False) -> Given:
    """The parameters as tensors of ``dtype``, but for words and, with ``numbers``, for numbers."""

    def value(name: str, given: Any) -> Any:
        if isinstance(given, str) or (numbers and not isinstance(given, list)):
            return given
        return torch.tensor(given, dtype=torch.long if name in INDICES else dtype)

    return {name: value(name, part) for name, part in given.items()}


def canonical(transform: NoiseTransform, given: Given) -> list[Any]:
    """The parameters that ``forward`` takes, from those that a user gave."""
    values: list[Any] = []
    for name in transform.params:
        if name in given:
            values.append(given[name])
        else:
            (other,) = set(transform.conversions[name]) & set(given)
            formula = transform.conversions[name][other]
            values.append(formula.function(given[other], *(given[beside] for beside in converted_with(formula))))
    return values


def draw_noise(
    transform: NoiseTransform, params: list[Any], shape: tuple[int, ...], dtype: torch.dtype
) -> list[Tensor]:
    """Noise for a value of ``shape``, from a fixed seed."""
    generator = seeds.generator(1)
    shapes = {
        name: tuple(p.shape) if isinstance(p, Tensor) else () for name, p in zip(transform.params, params, strict=True)
    }
    return [
        source.law.draw.function(size, dtype=source.dtype or dtype, device=generator.device, generator=generator)
        for source, size in zip(transform.noises, transform.noise_shapes(shape, shapes), strict=True)
    ]


def draw(transform: NoiseTransform, given: Given, batch: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    params = canonical(transform, given)
    event = library(transform, given).event_shape
    return transform.forward.function(*draw_noise(transform, params, (*batch, *event), dtype), *params)


def library(transform: NoiseTransform, given: Given) -> Any:
    return getattr(dist, transform.family)(**given)
