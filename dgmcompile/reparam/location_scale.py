"""Location-scale families: ``loc + scale * g(noise)``."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform

_DEVROYE = "inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section II.2"


def normal_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return loc + scale * noise


def noise_from_normal(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return (value - loc) / scale


NORMAL = NoiseTransform(
    family="Normal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("loc", "scale"),
    forward=Formula.of(normal_from_noise),
    inverse=Formula.of(noise_from_normal),
    identity={"loc": 0.0, "scale": 1.0},
    source="Kingma & Welling 2014, arXiv:1312.6114, section 2.4",
)
NAN_MASKED_NORMAL = replace(NORMAL, family="NanMaskedNormal")  # a NaN is masked where it is observed, not drawn


def log_normal_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return torch.exp(loc + scale * noise)


def noise_from_log_normal(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return (torch.log(value) - loc) / scale


LOG_NORMAL = NoiseTransform(
    family="LogNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("loc", "scale"),
    forward=Formula.of(log_normal_from_noise),
    inverse=Formula.of(noise_from_log_normal),
    source="exp of a Normal; Kingma & Welling 2014, arXiv:1312.6114, section 2.4",
)


def half_normal_from_noise(noise: Tensor, scale: Tensor | float) -> Tensor:
    return scale * torch.abs(noise)


HALF_NORMAL = NoiseTransform(
    family="HalfNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("scale",),
    forward=Formula.of(half_normal_from_noise),
    source="absolute value of a Normal: exact in both tails, where erfinv is not",
)


def uniform_from_noise(noise: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    return low + (high - low) * noise


def noise_from_uniform(value: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    return (value - low) / (high - low)


UNIFORM = NoiseTransform(
    family="Uniform",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("low", "high"),
    forward=Formula.of(uniform_from_noise),
    inverse=Formula.of(noise_from_uniform),
    identity={"low": 0.0, "high": 1.0},
    source=_DEVROYE,
)


def laplace_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Inverse CDF."""
    centred = noise - 0.5
    return loc - scale * torch.sign(centred) * torch.log1p(-2 * torch.abs(centred))


def noise_from_laplace(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """CDF."""
    z = (value - loc) / scale
    return 0.5 - 0.5 * torch.sign(z) * torch.expm1(-torch.abs(z))


LAPLACE = NoiseTransform(
    family="Laplace",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("loc", "scale"),
    forward=Formula.of(laplace_from_noise),
    inverse=Formula.of(noise_from_laplace),
    source=_DEVROYE,
)


def cauchy_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Inverse CDF, tan(pi (noise - 1/2)), as a cotangent: it keeps its digits in both tails."""
    centred = noise - 0.5
    return loc + scale * torch.sign(centred) / torch.tan(math.pi * (0.5 - torch.abs(centred)))


def noise_from_cauchy(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """CDF."""
    z = (value - loc) / scale
    return torch.atan2(torch.ones_like(z), -z) / math.pi


CAUCHY = NoiseTransform(
    family="Cauchy",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("loc", "scale"),
    forward=Formula.of(cauchy_from_noise),
    inverse=Formula.of(noise_from_cauchy),
    source=_DEVROYE,
)


def gumbel_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return loc - scale * torch.log(noise)


def noise_from_gumbel(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return torch.exp((loc - value) / scale)


GUMBEL = NoiseTransform(
    family="Gumbel",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("loc", "scale"),
    forward=Formula.of(gumbel_from_noise),
    inverse=Formula.of(noise_from_gumbel),
    source="-log of an Exponential; Devroye 1986, Non-Uniform Random Variate Generation, section II.2",
)


def logistic_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Inverse CDF."""
    return loc + scale * torch.logit(noise)


def noise_from_logistic(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """CDF."""
    return torch.sigmoid((value - loc) / scale)


LOGISTIC = NoiseTransform(
    family="Logistic",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("loc", "scale"),
    forward=Formula.of(logistic_from_noise),
    inverse=Formula.of(noise_from_logistic),
    source=_DEVROYE,
)
