"""Skewed and smoothed relatives of Laplace and Logistic."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform

_DEVROYE = "inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section II.2"


def asymmetric_laplace_from_noise(
    noise: Tensor, loc: Tensor | float, scale: Tensor | float, asymmetry: Tensor | float
) -> Tensor:
    """Inverse CDF: an Exponential to the left with probability asymmetry^2 / (1 + asymmetry^2), else to the right."""
    below = 1 / (1 + asymmetry**-2)
    above = 1 / (1 + asymmetry**2)
    left, right = asymmetry * torch.log(noise / below), torch.log((1 - noise) / above) / asymmetry
    return loc + scale * torch.where(noise < below, left, -right)


def noise_from_asymmetric_laplace(
    value: Tensor, loc: Tensor | float, scale: Tensor | float, asymmetry: Tensor | float
) -> Tensor:
    """CDF."""
    z = (value - loc) / scale
    left = torch.exp(z.clamp(max=0) / asymmetry) / (1 + asymmetry**-2)
    return torch.where(z < 0, left, 1 - torch.exp(-z.clamp(min=0) * asymmetry) / (1 + asymmetry**2))


ASYMMETRIC_LAPLACE = NoiseTransform(
    family="AsymmetricLaplace",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("loc", "scale", "asymmetry"),
    forward=Formula.of(asymmetric_laplace_from_noise),
    inverse=Formula.of(noise_from_asymmetric_laplace),
    source=_DEVROYE,
)


def soft_asymmetric_laplace_from_noise(
    normal: Tensor,
    uniform: Tensor,
    loc: Tensor | float,
    scale: Tensor | float,
    asymmetry: Tensor | float = 1.0,
    softness: Tensor | float = 1.0,
) -> Tensor:
    """A Normal and an AsymmetricLaplace, added."""
    return asymmetric_laplace_from_noise(uniform, loc + scale * softness * normal, scale, asymmetry)


SOFT_ASYMMETRIC_LAPLACE = NoiseTransform(
    family="SoftAsymmetricLaplace",
    noises=(NoiseSource(STANDARD_NORMAL), NoiseSource(STANDARD_UNIFORM)),
    params=("loc", "scale", "asymmetry", "softness"),
    forward=Formula.of(soft_asymmetric_laplace_from_noise),
    noise_shapes=lambda value, params: (value, value),
    source="convolution; Reed 2006, The Normal-Laplace Distribution and Its Relatives, section 2",
)


def soft_laplace_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Inverse CDF, log(tan(pi noise / 2)), from the nearer end: tan loses its digits towards pi / 2."""
    near = torch.log(torch.tan(math.pi / 2 * torch.minimum(noise, 1 - noise)))
    return loc + scale * torch.where(noise < 0.5, near, -near)


def noise_from_soft_laplace(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """CDF."""
    z = (value - loc) / scale
    near = 2 / math.pi * torch.atan(torch.exp(-torch.abs(z)))
    return torch.where(z < 0, near, 1 - near)


SOFT_LAPLACE = NoiseTransform(
    family="SoftLaplace",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("loc", "scale"),
    forward=Formula.of(soft_laplace_from_noise),
    inverse=Formula.of(noise_from_soft_laplace),
    source=_DEVROYE,
)


def skew_logistic_from_noise(
    noise: Tensor, loc: Tensor | float, scale: Tensor | float, asymmetry: Tensor | float = 1.0
) -> Tensor:
    """logit(u^(1 / asymmetry)) of a uniform u, as -log(e^y - 1) with y = noise / asymmetry and noise = -log u."""
    y = noise / asymmetry
    return loc - scale * (y + torch.log(-torch.expm1(-y)))


def noise_from_skew_logistic(
    value: Tensor, loc: Tensor | float, scale: Tensor | float, asymmetry: Tensor | float = 1.0
) -> Tensor:
    return asymmetry * F.softplus((loc - value) / scale)


SKEW_LOGISTIC = NoiseTransform(
    family="SkewLogistic",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("loc", "scale", "asymmetry"),
    forward=Formula.of(skew_logistic_from_noise),
    inverse=Formula.of(noise_from_skew_logistic),
    source=_DEVROYE,
)
