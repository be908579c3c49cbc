"""Positive families by their closed-form inverse CDF; an Exponential stands for -log of the uniform."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform

_DEVROYE = "inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section II.2"


def exponential_from_noise(noise: Tensor, rate: Tensor | float) -> Tensor:
    return noise / rate


def noise_from_exponential(value: Tensor, rate: Tensor | float) -> Tensor:
    return value * rate


EXPONENTIAL = NoiseTransform(
    family="Exponential",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("rate",),
    forward=Formula.of(exponential_from_noise),
    inverse=Formula.of(noise_from_exponential),
    identity={"rate": 1.0},
    source=_DEVROYE,
)


def pareto_from_noise(noise: Tensor, scale: Tensor | float, alpha: Tensor | float) -> Tensor:
    return scale * torch.exp(noise / alpha)


def noise_from_pareto(value: Tensor, scale: Tensor | float, alpha: Tensor | float) -> Tensor:
    return alpha * torch.log(value / scale)


PARETO = NoiseTransform(
    family="Pareto",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("scale", "alpha"),
    forward=Formula.of(pareto_from_noise),
    inverse=Formula.of(noise_from_pareto),
    source=_DEVROYE,
)


def weibull_from_noise(noise: Tensor, scale: Tensor | float, concentration: Tensor | float) -> Tensor:
    return scale * noise ** (1 / concentration)


def noise_from_weibull(value: Tensor, scale: Tensor | float, concentration: Tensor | float) -> Tensor:
    return (value / scale) ** concentration


WEIBULL = NoiseTransform(
    family="Weibull",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("scale", "concentration"),
    forward=Formula.of(weibull_from_noise),
    inverse=Formula.of(noise_from_weibull),
    identity={"scale": 1.0, "concentration": 1.0},
    source=_DEVROYE,
)


def half_cauchy_from_noise(noise: Tensor, scale: Tensor | float) -> Tensor:
    """Inverse CDF, tan(pi noise / 2), from the nearer end: tan loses its digits towards pi / 2."""
    near = torch.tan(math.pi / 2 * torch.minimum(noise, 1 - noise))
    return scale * torch.where(noise < 0.5, near, 1 / near)


def noise_from_half_cauchy(value: Tensor, scale: Tensor | float) -> Tensor:
    """CDF."""
    return 2 / math.pi * torch.atan(value / scale)


HALF_CAUCHY = NoiseTransform(
    family="HalfCauchy",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("scale",),
    forward=Formula.of(half_cauchy_from_noise),
    inverse=Formula.of(noise_from_half_cauchy),
    source=_DEVROYE,
)
