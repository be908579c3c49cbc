"""Families on a half-line or an interval by their closed-form inverse CDF.

An Exponential stands for -log of the uniform where the formula has this logarithm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_UNIFORM
from dgmcompile.reparam.near_zero import relative_expm1, relative_log1p
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform, tensor_or_number
from dgmcompile.reparam.relaxed import inner_logits_from_probs

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


def generalized_pareto_from_noise(
    noise: Tensor, loc: Tensor | float, scale: Tensor | float, concentration: Tensor | float
) -> Tensor:
    """loc + scale (e^(concentration noise) - 1) / concentration, the limit where this is 0 / 0."""
    return loc + scale * noise * relative_expm1(concentration * noise)


def noise_from_generalized_pareto(
    value: Tensor, loc: Tensor | float, scale: Tensor | float, concentration: Tensor | float
) -> Tensor:
    z = (value - loc) / scale
    return z * relative_log1p(concentration * z)


GENERALIZED_PARETO = NoiseTransform(
    family="GeneralizedPareto",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("loc", "scale", "concentration"),
    forward=Formula.of(generalized_pareto_from_noise),
    inverse=Formula.of(noise_from_generalized_pareto),
    identity={"loc": 0.0, "scale": 1.0, "concentration": 0.0},
    source=_DEVROYE,
)


def kumaraswamy_from_noise(noise: Tensor, concentration1: Tensor | float, concentration0: Tensor | float) -> Tensor:
    """(1 - u^(1 / concentration0))^(1 / concentration1) with noise = -log u, kept inside (0, 1)."""
    limits = torch.finfo(noise.dtype)
    value = (-torch.expm1(-noise / concentration0)) ** (1 / concentration1)
    return value.clamp(limits.tiny, 1 - limits.eps / 2)


def noise_from_kumaraswamy(value: Tensor, concentration1: Tensor | float, concentration0: Tensor | float) -> Tensor:
    return -concentration0 * torch.log1p(-(value**concentration1))


KUMARASWAMY = NoiseTransform(
    family="Kumaraswamy",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("concentration1", "concentration0"),
    forward=Formula.of(kumaraswamy_from_noise),
    inverse=Formula.of(noise_from_kumaraswamy),
    source="inverse CDF; Jones 2009, Statistical Methodology 6(1), 70-81",
)


def continuous_bernoulli_from_noise(noise: Tensor, logits: Tensor | float) -> Tensor:
    """Inverse CDF, log(1 + u (e^logits - 1)) / logits: u at 0, and without e^logits where that is large."""
    logits = tensor_or_number(logits)
    usual, large = logits.clamp(max=20), logits.clamp(min=20)
    growth = noise * relative_expm1(usual)
    near = growth * relative_log1p(usual * growth)
    far = torch.logaddexp(torch.log1p(-noise), torch.log(noise) + large) / large
    return torch.where(logits < 20, near, far)


def noise_from_continuous_bernoulli(value: Tensor, logits: Tensor | float) -> Tensor:
    """CDF, (e^(logits x) - 1) / (e^logits - 1)."""
    logits = tensor_or_number(logits)
    usual, large = logits.clamp(max=20), logits.clamp(min=20)
    near = value * relative_expm1(usual * value) / relative_expm1(usual)
    far = torch.exp(large * (value - 1)) * torch.expm1(-large * value) / torch.expm1(-large)
    return torch.where(logits < 20, near, far)


CONTINUOUS_BERNOULLI = NoiseTransform(
    family="ContinuousBernoulli",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("logits",),
    forward=Formula.of(continuous_bernoulli_from_noise),
    inverse=Formula.of(noise_from_continuous_bernoulli),
    conversions={"logits": {"probs": Formula.of(inner_logits_from_probs)}},
    identity={"logits": 0.0},
    source="inverse CDF; Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, appendix",
)
