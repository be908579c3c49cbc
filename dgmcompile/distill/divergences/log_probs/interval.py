"""Log-densities between two ends.

Where the density at an end itself is infinite, 0 or a number, depending on a parameter, so is its logarithm there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.special import binomial_term, log_power_of_zero, log_sinhc


def log_prob_uniform(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log-density of a uniform on [low, high)."""
    value, low, high = as_tensors(value, low, high)
    log_density = torch.where((value < low) | (value >= high), -math.inf, -torch.log(high - low))
    return torch.where(value.isnan(), value, log_density)


def log_prob_beta(value: Tensor, concentration1: Tensor, concentration0: Tensor) -> Tensor:
    """Log-density of a Beta distribution on [0, 1]."""
    value, concentration1, concentration0 = as_tensors(value, concentration1, concentration0)
    return log_prob_beta_of_parts(value, 1 - value, concentration1, concentration0)


def log_prob_beta_of_parts(x: Tensor, rest: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Log-density of Beta(a, b) at x, where ``rest`` is 1 - x."""
    edge = (x <= 0) | (rest <= 0)
    p, q = torch.where(edge, 0.5, x), torch.where(edge, 0.5, rest)
    log_p, log_q = torch.log(p), torch.log(q)
    density_at_half = torch.log(a) + torch.log(b) - torch.log(a + b)
    log_density = binomial_term(a, b, p, q, log_p, log_q) + density_at_half - log_p - log_q
    at_zero, at_one = log_power_of_zero(a - 1) + torch.log(b), log_power_of_zero(b - 1) + torch.log(a)
    log_density = torch.where(x == 0, at_zero, torch.where(rest == 0, at_one, log_density))
    return torch.where((x < 0) | (rest < 0), -math.inf, log_density)


def log_prob_affine_beta(
    value: Tensor, concentration1: Tensor, concentration0: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    """Log-density of a Beta distribution stretched to [loc, loc + scale]."""
    value, a, b, loc, scale = as_tensors(value, concentration1, concentration0, loc, scale)
    x, rest = (value - loc) / scale, (loc + scale - value) / scale
    return log_prob_beta_of_parts(x, rest, a, b) - torch.log(scale)


def log_prob_kumaraswamy(value: Tensor, concentration1: Tensor, concentration0: Tensor) -> Tensor:
    """Log-density where the CDF is 1 - (1 - x^concentration1)^concentration0."""
    value, a, b = as_tensors(value, concentration1, concentration0)
    edge = (value <= 0) | (value >= 1)
    log_value = torch.log(torch.where(edge, 0.5, value))
    log_rest = torch.log(-torch.expm1(a * log_value))
    log_density = torch.log(a) + torch.log(b) + (a - 1) * log_value + (b - 1) * log_rest
    at_zero, at_one = log_power_of_zero(a - 1) + torch.log(b), log_power_of_zero(b - 1) + torch.log(a)
    log_density = torch.where(value == 0, at_zero, torch.where(value == 1, at_one, log_density))
    return torch.where((value < 0) | (value > 1), -math.inf, log_density)


def log_prob_continuous_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """Log-density proportional to exp(logits * value) on [0, 1]."""
    value, logits = as_tensors(value, logits)
    log_density = logits * (value - 0.5) - log_sinhc((logits / 2) ** 2)
    return torch.where((value < 0) | (value > 1), -math.inf, log_density)


def log_prob_relaxed_bernoulli(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    """Log-density of the sigmoid of a logistic variable (logits + noise) / temperature.

    A value that is 0 or 1 is one that was rounded: it counts as the nearest number between.
    """
    value, temperature, logits = as_tensors(value, temperature, logits)
    limits = torch.finfo(value.dtype)
    inside = value.clamp(limits.tiny, 1 - limits.eps / 2)
    log_value, log_rest = torch.log(inside), torch.log1p(-inside)
    noise = temperature * (log_value - log_rest) - logits
    log_density = torch.log(temperature) + F.logsigmoid(noise) + F.logsigmoid(-noise) - log_value - log_rest
    return torch.where((value < 0) | (value > 1), -math.inf, log_density)
