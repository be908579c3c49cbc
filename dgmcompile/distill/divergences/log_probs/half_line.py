"""Log-densities from one end upwards.

Where the density at the end itself is infinite, 0 or a number, depending on a parameter, so is its logarithm there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.log_probs.real_line import log_prob_cauchy, log_prob_normal
from dgmcompile.distill.divergences.special import (
    binomial_term,
    factorial_correction,
    log1p_ratio,
    log_power_of_zero,
    poisson_excess,
)


def log_prob_log_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a log-normal."""
    log_value = torch.log(torch.where(value <= 0, 1.0, value))
    return torch.where(value <= 0, -math.inf, log_prob_normal(log_value, loc, scale) - log_value)


def log_prob_half_normal(value: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a half-normal."""
    return torch.where(value < 0, -math.inf, math.log(2) + log_prob_normal(value, torch.zeros_like(value), scale))


def log_prob_half_cauchy(value: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a half-Cauchy distribution."""
    return torch.where(value < 0, -math.inf, math.log(2) + log_prob_cauchy(value, torch.zeros_like(value), scale))


def log_prob_exponential(value: Tensor, rate: Tensor) -> Tensor:
    """Log-density of an exponential."""
    value, rate = as_tensors(value, rate)
    return torch.where(value < 0, -math.inf, torch.log(rate) - rate * value)


def log_prob_gamma(value: Tensor, concentration: Tensor, rate: Tensor) -> Tensor:
    """Log-density of a Gamma distribution."""
    value, concentration, rate = as_tensors(value, concentration, rate)
    inside = torch.where(value <= 0, 1.0, value)
    excess = poisson_excess(concentration, rate * inside, torch.log(rate) + torch.log(inside))
    log_density = torch.log(concentration) - factorial_correction(concentration) - excess - torch.log(inside)
    at_zero = log_power_of_zero(concentration - 1) + torch.log(rate)
    return torch.where(value < 0, -math.inf, torch.where(value == 0, at_zero, log_density))


def log_prob_chi2(value: Tensor, df: Tensor) -> Tensor:
    """Log-density of a chi-squared distribution."""
    value, df = as_tensors(value, df)
    return log_prob_gamma(value, df / 2, torch.full_like(df, 0.5))


def log_prob_inverse_gamma(value: Tensor, concentration: Tensor, rate: Tensor) -> Tensor:
    """Log-density of what has a Gamma-distributed inverse."""
    value, concentration, rate = as_tensors(value, concentration, rate)
    inside = torch.where(value <= 0, 1.0, value)
    excess = poisson_excess(concentration, rate / inside, torch.log(rate) - torch.log(inside))
    log_density = torch.log(concentration) - factorial_correction(concentration) - excess - torch.log(inside)
    return torch.where(value <= 0, -math.inf, log_density)


def log_prob_fisher_snedecor(value: Tensor, df1: Tensor, df2: Tensor) -> Tensor:
    """Log-density of the ratio of two means of squares."""
    value, df1, df2 = as_tensors(value, df1, df2)
    inside = torch.where(value <= 0, 1.0, value)
    log_ratio = torch.log(inside) + torch.log(df1 / df2)
    log_p, log_q = F.logsigmoid(log_ratio), F.logsigmoid(-log_ratio)
    log_density = binomial_term(df1 / 2, df2 / 2, torch.sigmoid(log_ratio), torch.sigmoid(-log_ratio), log_p, log_q)
    log_density = log_density + torch.log(df1 / 2) - torch.log1p(df1 / df2) - torch.log(inside)
    at_zero = log_power_of_zero(df1 - 2)
    return torch.where(value < 0, -math.inf, torch.where(value == 0, at_zero, log_density))


def log_prob_pareto(value: Tensor, scale: Tensor, alpha: Tensor) -> Tensor:
    """Log-density of a Pareto distribution, from scale upwards."""
    value, scale, alpha = as_tensors(value, scale, alpha)
    log_ratio = torch.log(torch.where(value < scale, scale, value) / scale)
    return torch.where(value < scale, -math.inf, torch.log(alpha / scale) - (alpha + 1) * log_ratio)


def log_prob_generalized_pareto(value: Tensor, loc: Tensor, scale: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of excesses over ``loc``: exponential at concentration 0, ends at -scale / concentration below 0."""
    value, loc, scale, concentration = as_tensors(value, loc, scale, concentration)
    z = (value - loc) / scale
    outside = (z < 0) | (concentration * z <= -1)
    z = torch.where(outside, 0.0, z)
    bent = concentration * z
    return torch.where(outside, -math.inf, -z * log1p_ratio(bent) - torch.log1p(bent) - torch.log(scale))


def log_prob_weibull(value: Tensor, scale: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of a Weibull distribution."""
    value, scale, concentration = as_tensors(value, scale, concentration)
    log_ratio = torch.log(torch.where(value <= 0, scale, value) / scale)
    log_density = torch.log(concentration / scale) + (concentration - 1) * log_ratio
    return torch.where(value <= 0, -math.inf, log_density - torch.exp(concentration * log_ratio))


def log_prob_truncated_polya_gamma(value: Tensor, prototype: Tensor) -> Tensor:
    """Log-density of PG(1, 0) on (0, 2.5): Polson, Scott & Windle 2013, section 4; one of two series on either side.

    ``prototype`` has a dtype and a device only.
    """
    outside = (value <= 0) | (value >= 2.5)
    inside = torch.where(outside, 0.25, value)
    odd = 2 * torch.arange(6, dtype=inside.dtype, device=inside.device) + 1
    signs = torch.cos(math.pi * (odd - 1) / 2)
    low = torch.where(inside < 0.16, inside, 0.16).unsqueeze(-1)
    low_sum = (signs * odd * torch.exp((1 - odd**2) / (8 * low))).sum(-1)
    low = low.squeeze(-1)
    left = torch.log(low_sum) - 1 / (8 * low) - 1.5 * torch.log(low) - 0.5 * math.log(2 * math.pi)
    high = torch.where(inside < 0.16, 0.16, inside).unsqueeze(-1)
    high_sum = (signs * odd * torch.exp((1 - odd**2) * (0.5 * math.pi**2) * high)).sum(-1)
    right = torch.log(high_sum) - (0.5 * math.pi**2) * high.squeeze(-1) + math.log(2 * math.pi)
    beyond = 4 / math.pi * math.exp(-1.25 * math.pi**2)
    return torch.where(outside, -math.inf, torch.where(inside < 0.16, left, right) - math.log1p(-beyond))
