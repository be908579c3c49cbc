"""The laws of noise: they have no parameters, so teacher and student can share a draw."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.registry import NoiseLaw


def standard_normal(
    size: tuple[int, ...], *, dtype: torch.dtype, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Normal of mean 0 and variance 1."""
    return torch.randn(size, dtype=dtype, device=device, generator=generator)


def standard_exponential(
    size: tuple[int, ...], *, dtype: torch.dtype, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Exponential of rate 1, never 0."""
    return torch.empty(size, dtype=dtype, device=device).exponential_(generator=generator)


def standard_uniform(
    size: tuple[int, ...], *, dtype: torch.dtype, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Uniform on (0, 1), never 0 or 1: the middle of one of 1/eps equal cells, so that 1 - u is exact too."""
    eps = torch.finfo(dtype).eps
    cell = torch.randint(round(1 / eps), size, device=device, generator=generator)
    return (cell.to(dtype) + 0.5) * eps


STANDARD_NORMAL = NoiseLaw("StandardNormal", Formula.of(standard_normal))
STANDARD_EXPONENTIAL = NoiseLaw("StandardExponential", Formula.of(standard_exponential))
STANDARD_UNIFORM = NoiseLaw("StandardUniform", Formula.of(standard_uniform))
