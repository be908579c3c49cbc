"""Polya-Gamma, as the library has it: the first eight terms of the sum, cut off at 2.5."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def truncated_polya_gamma_from_noise(noise: Tensor, prototype: Tensor) -> Tensor:
    """Exponentials over 2 pi^2 (k - 1/2)^2, added and cut off; ``prototype`` is read for its dtype."""
    terms = torch.arange(8, dtype=noise.dtype, device=noise.device) + 0.5
    return ((noise / terms**2).sum(-1) / (2 * math.pi**2)).clamp(max=2.5).to(prototype.dtype)


TRUNCATED_POLYA_GAMMA = NoiseTransform(
    family="TruncatedPolyaGamma",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("prototype",),
    forward=Formula.of(truncated_polya_gamma_from_noise),
    noise_shapes=lambda value, params: ((*value, 8),),
    differentiable=False,
    source="Polson, Scott & Windle 2013, JASA 108(504), equation 2, truncated as in pyro.distributions",
)
