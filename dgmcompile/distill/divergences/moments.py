"""What divergences of two families and cross-entropies are made of: E -log q in moments of p, E log p, and moments."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import EULER_GAMMA
from dgmcompile.distill.divergences.special import langevin_ratio, log1p_ratio, log_gamma_ratio, log_sinhc

# --- E -log q, of moments of p -----------------------------------------------------------------------


def normal_surprise(mean: Tensor, variance: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """E -log N(x; loc, scale)."""
    return torch.log(scale) + 0.5 * (math.log(2 * math.pi) + (variance + (mean - loc) ** 2) / scale**2)


def gamma_surprise(mean: Tensor, mean_log: Tensor, concentration: Tensor, rate: Tensor) -> Tensor:
    """E -log Gamma(x; concentration, rate)."""
    norm = torch.lgamma(concentration) - concentration * torch.log(rate)
    return norm - (concentration - 1) * mean_log + rate * mean


def exponential_surprise(mean: Tensor, rate: Tensor) -> Tensor:
    """E -log Exponential(x; rate)."""
    return rate * mean - torch.log(rate)


def gumbel_surprise(mean: Tensor, log_mean_exp: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """E -log Gumbel(x; loc, scale); ``log_mean_exp`` is log E exp(-x / scale)."""
    return torch.log(scale) + (mean - loc) / scale + torch.exp(log_mean_exp + loc / scale)


def beta_surprise(mean_log: Tensor, mean_log_rest: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """E -log Beta(x; a, b); ``mean_log_rest`` is E log(1 - x)."""
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return log_beta - (a - 1) * mean_log - (b - 1) * mean_log_rest


def continuous_bernoulli_surprise(mean: Tensor, logits: Tensor) -> Tensor:
    """E -log ContinuousBernoulli(x; logits)."""
    return log_sinhc((logits / 2) ** 2) - logits * (mean - 0.5)


# --- E log p -----------------------------------------------------------------------------------------


def normal_negentropy(scale: Tensor) -> Tensor:
    """E log of a normal density."""
    return -torch.log(scale) - 0.5 * math.log(2 * math.pi * math.e)


def gamma_negentropy(concentration: Tensor, rate: Tensor) -> Tensor:
    """E log of a Gamma density."""
    shape = (concentration - 1) * torch.digamma(concentration) - torch.lgamma(concentration)
    return torch.log(rate) - concentration + shape


def beta_negentropy(a: Tensor, b: Tensor) -> Tensor:
    """E log of a Beta density."""
    mean_log, mean_log_rest = beta_mean_log(a, b), beta_mean_log(b, a)
    return -beta_surprise(mean_log, mean_log_rest, a, b)


def pareto_negentropy(scale: Tensor, alpha: Tensor) -> Tensor:
    """E log of a Pareto density."""
    return torch.log(alpha / scale) - 1 - 1 / alpha


def kumaraswamy_negentropy(a: Tensor, b: Tensor) -> Tensor:
    """E log of a Kumaraswamy density."""
    harmonic = torch.digamma(b + 1) + EULER_GAMMA
    return torch.log(a) + torch.log(b) - (a - 1) / a * harmonic - (b - 1) / b


def student_t_negentropy(df: Tensor, scale: Tensor) -> Tensor:
    """E log of a density of Student's t."""
    shape = log_gamma_ratio(df / 2, torch.full_like(df, 0.5)) - 0.5 * torch.log(math.pi * df)
    return shape - torch.log(scale) - 0.5 * (df + 1) * (torch.digamma((df + 1) / 2) - torch.digamma(df / 2))


# --- moments -----------------------------------------------------------------------------------------


def beta_mean_log(a: Tensor, b: Tensor) -> Tensor:
    """E log x of a Beta variable; that of 1 - x with the arguments exchanged."""
    return torch.digamma(a) - torch.digamma(a + b)


def continuous_bernoulli_mean(logits: Tensor) -> Tensor:
    """E x of a continuous Bernoulli variable."""
    return 0.5 + logits / 4 * langevin_ratio((logits / 2) ** 2)


def uniform_mean_log(low: Tensor, high: Tensor) -> Tensor:
    """E log x of a uniform variable on [low, high], low >= 0."""
    share = (high - low) / high
    inner = torch.where(low > 0, share, 0.5)
    return torch.log(high) - 1 + torch.where(low > 0, (1 - inner) * log1p_ratio(-inner), 0.0)
