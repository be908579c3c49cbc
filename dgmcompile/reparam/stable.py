"""Stable laws, through alpha = 1 without a hole.

With V uniform on (-pi/2, pi/2) and W exponential, Chambers, Mallows & Stuck's value is, in Nolan's S0 coordinates and
with e = 1 - alpha, b = beta / tan(pi e / 2), A = cos(e V) + b sin(e V) and y = (e / alpha) log(A / (W cos V)),

    sin(alpha V) / cos(V) e^y + b (cos(alpha V) / cos(V) e^y - 1).

Nothing but b diverges as e -> 0, and what it multiplies is e times a smooth function: the formula below.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.gamma import in_double
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_UNIFORM
from dgmcompile.reparam.near_zero import relative_expm1, relative_sin
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def stable_from_noise(
    uniform: Tensor,
    exponential: Tensor,
    stability: Tensor | float,
    skew: Tensor | float,
    scale: Tensor | float = 1.0,
    loc: Tensor | float = 0.0,
    coords: str = "S0",
) -> Tensor:
    """Chambers, Mallows & Stuck's transform, continuous in ``stability``; ``coords`` is "S0" or "S"."""
    alpha, beta = in_double(stability), in_double(skew)
    e, v = 1 - alpha, math.pi * (uniform - 0.5)
    quarter = math.pi / 2 * e
    b_e = beta * torch.cos(quarter) / (math.pi / 2 * relative_sin(quarter))  # b e
    sin_e = v * relative_sin(e * v)  # sin(e V) / e
    cos_e = v * (torch.tan(v) * relative_sin(e * v) - torch.sin(e * v / 2) * relative_sin(e * v / 2))
    a = (torch.cos(e * v) + b_e * sin_e).clamp(min=torch.finfo(torch.float64).eps)
    log_ratio = torch.log(a / (exponential.double() * torch.cos(v))) / alpha
    growth = torch.exp(e * log_ratio)
    # cos_e is (cos(alpha V) / cos(V) - 1) / e
    value = torch.sin(alpha * v) / torch.cos(v) * growth
    value = value + b_e * (log_ratio * relative_expm1(e * log_ratio) + cos_e * growth)
    if coords == "S":
        value = value + torch.where(e == 0, 0.0, b_e / torch.where(e == 0, 1.0, e))
    return loc + scale * value.to(exponential.dtype)


STABLE = NoiseTransform(
    family="Stable",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64), NoiseSource(STANDARD_EXPONENTIAL)),
    params=("stability", "skew", "scale", "loc", "coords"),
    forward=Formula.of(stable_from_noise),
    noise_shapes=lambda value, params: (value, value),
    source="Chambers, Mallows & Stuck 1976, JASA 71(354), 340-344; coordinates: Nolan 1997, Stochastic Models 13(4)",
)
STABLE_WITH_LOG_PROB = replace(STABLE, family="StableWithLogProb")
