"""Log-densities on the whole line, and of angles."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.special import log1p_square, log_erfc, log_gamma_ratio, scaled_bessel_0, scaled_erfc


def log_prob_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a normal."""
    value, loc, scale = as_tensors(value, loc, scale)
    return -0.5 * ((value - loc) / scale) ** 2 - torch.log(scale) - 0.5 * math.log(2 * math.pi)


def log_prob_nan_masked_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a normal; 0 for a value that is missing: NaN or infinite."""
    missing = ~value.isfinite()
    log_density = log_prob_normal(torch.where(missing, 0.0, value), loc, scale)
    return torch.where(missing, 0.0, log_density)


def log_prob_laplace(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a Laplace distribution."""
    value, loc, scale = as_tensors(value, loc, scale)
    return -(value - loc).abs() / scale - torch.log(2 * scale)


def log_prob_asymmetric_laplace(value: Tensor, loc: Tensor, scale: Tensor, asymmetry: Tensor) -> Tensor:
    """Log-density of exponentials of mean scale * asymmetry to the left, and scale / asymmetry to the right."""
    value, loc, scale, asymmetry = as_tensors(value, loc, scale, asymmetry)
    z = (value - loc) / scale
    return torch.where(z < 0, z / asymmetry, -z * asymmetry) - torch.log(scale * (asymmetry + 1 / asymmetry))


def log_prob_soft_laplace(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a hyperbolic secant: 2 / pi / (e^z + e^-z)."""
    value, loc, scale = as_tensors(value, loc, scale)
    z = (value - loc) / scale
    return F.logsigmoid(2 * z) - z - torch.log(scale) + math.log(2 / math.pi)


def log_prob_soft_asymmetric_laplace(
    value: Tensor, loc: Tensor, scale: Tensor, asymmetry: Tensor, softness: Tensor
) -> Tensor:
    """Log-density of an asymmetric Laplace variable and an independent normal of scale * softness."""
    value, loc, scale, asymmetry, softness = as_tensors(value, loc, scale, asymmetry, softness)
    z = (value - loc) / scale
    left = exponential_beside_normal(-z, asymmetry, softness)
    right = exponential_beside_normal(z, 1 / asymmetry, softness)
    return torch.logaddexp(left, right) - torch.log(2 * scale * (asymmetry + 1 / asymmetry))


def exponential_beside_normal(z: Tensor, mean: Tensor, softness: Tensor) -> Tensor:
    """log of 2 E max(0, exp(-(z - y) / mean) for y < z), over normal y of the scale ``softness``.

    ``erfcx`` is erfc without its exponential decay, which would round to 0.
    """
    reach = (softness / mean - z / softness) / math.sqrt(2)
    positive = torch.where(reach > 0, reach, 0.0)
    inner = torch.log(scaled_erfc(positive)) - 0.5 * (z / softness) ** 2
    outer = 0.5 * (softness / mean) ** 2 - z / mean + log_erfc(torch.where(reach > 0, 0.0, reach))
    return torch.where(reach > 0, inner, outer)


def log_prob_cauchy(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a Cauchy distribution."""
    value, loc, scale = as_tensors(value, loc, scale)
    return -log1p_square((value - loc) / scale) - torch.log(math.pi * scale)


def log_prob_student_t(value: Tensor, df: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of Student's t."""
    value, df, loc, scale = as_tensors(value, df, loc, scale)
    z = (value - loc) / scale / torch.sqrt(df)
    half = torch.full_like(df, 0.5)
    norm = torch.log(scale) + 0.5 * torch.log(math.pi * df) - log_gamma_ratio(df / 2, half)
    return -0.5 * (df + 1) * log1p_square(z) - norm


def log_prob_gumbel(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a Gumbel distribution."""
    value, loc, scale = as_tensors(value, loc, scale)
    z = (value - loc) / scale
    return -z - torch.exp(-z) - torch.log(scale)


def log_prob_logistic(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a logistic distribution."""
    value, loc, scale = as_tensors(value, loc, scale)
    z = (value - loc) / scale
    return F.logsigmoid(z) + F.logsigmoid(-z) - torch.log(scale)


def log_prob_skew_logistic(value: Tensor, loc: Tensor, scale: Tensor, asymmetry: Tensor) -> Tensor:
    """Log-density where the CDF is a logistic one to the power ``asymmetry``."""
    value, loc, scale, asymmetry = as_tensors(value, loc, scale, asymmetry)
    z = (value - loc) / scale
    return asymmetry * F.logsigmoid(z) + F.logsigmoid(-z) + torch.log(asymmetry / scale)


def log_prob_von_mises(value: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of an angle, in any turn."""
    value, loc, concentration = as_tensors(value, loc, concentration)
    fall = -2 * concentration * torch.sin((value - loc) / 2) ** 2
    return fall - torch.log(2 * math.pi * scaled_bessel_0(concentration))
