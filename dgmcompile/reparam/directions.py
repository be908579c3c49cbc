"""Directions: unit vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.inverse_cdf import continuous_bernoulli_from_noise
from dgmcompile.reparam.laws import STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def projected_normal_from_noise(noise: Tensor, concentration: Tensor) -> Tensor:
    """The direction of a Normal vector."""
    value = concentration + noise
    return value / torch.linalg.vector_norm(value, dim=-1, keepdim=True)


PROJECTED_NORMAL = NoiseTransform(
    family="ProjectedNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("concentration",),
    forward=Formula.of(projected_normal_from_noise),
    event_dim=1,
    source="by definition; Hernandez-Stumpfhauser, Breidt & van der Woerd 2017, Bayesian Analysis 12(1), section 2",
)


def rotated_to_pole(x: Tensor, y: Tensor, z: Tensor, pole: Tensor) -> Tensor:
    """(x, y, z), turned as the third axis must be turned to be ``pole``: continuous but where that is half a turn.

    With (a, b, c) the pole, a and b over their length have to stand for a^2 / (1 + c) where 1 + c loses its digits.
    """
    a, b, c = pole.unbind(-1)
    below = (c < 0) & ((a != 0) | (b != 0))
    length = torch.hypot(torch.where(below, a, 1.0), torch.where(below, b, 0.0))
    u, v = torch.where(below, a, 1.0) / length, torch.where(below, b, 0.0) / length
    over = 1 / torch.where(c < 0, 1.0, 1 + c)
    aa = torch.where(c < 0, u**2 * (1 - c), a**2 * over)
    ab = torch.where(c < 0, u * v * (1 - c), a * b * over)
    bb = torch.where(c < 0, v**2 * (1 - c), b**2 * over)
    first, second = torch.stack((1 - aa, -ab, -a), -1), torch.stack((-ab, 1 - bb, -b), -1)
    return x.unsqueeze(-1) * first + y.unsqueeze(-1) * second + z.unsqueeze(-1) * pole


def von_mises_3d_from_noise(height: Tensor, turn: Tensor, concentration: Tensor) -> Tensor:
    """The cosine to the mean direction by its inverse CDF, and a uniform angle around it.

    With kappa the length of ``concentration``, (1 - cosine) / 2 is ContinuousBernoulli(logits=-2 kappa).
    The mean direction of a concentration of 0 is the third axis.
    """
    kappa = torch.linalg.vector_norm(concentration, dim=-1, keepdim=True)
    axis = torch.eye(3, dtype=concentration.dtype, device=concentration.device)[2]
    pole = torch.where(kappa > 0, concentration, axis) / torch.where(kappa > 0, kappa, 1.0)
    limits = torch.finfo(concentration.dtype)
    half = continuous_bernoulli_from_noise(height, -2 * kappa.squeeze(-1)).clamp(limits.tiny, 1 - limits.eps / 2)
    radius, angle = 2 * torch.sqrt(half * (1 - half)), 2 * math.pi * turn
    return rotated_to_pole(radius * torch.cos(angle), radius * torch.sin(angle), 1 - 2 * half, pole)


def _two_noises_a_vector(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value[:-1], value[:-1])


VON_MISES_3D = NoiseTransform(
    family="VonMises3D",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_UNIFORM)),
    params=("concentration",),
    forward=Formula.of(von_mises_3d_from_noise),
    noise_shapes=_two_noises_a_vector,
    event_dim=1,
    source="Ulrich 1984, Applied Statistics 33(2), 158-163",
)
