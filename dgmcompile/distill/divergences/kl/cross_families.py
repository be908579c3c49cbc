"""KL(p || q) of two different families: p's entropy, and q's surprise -log q in terms of p's moments.

Pairs whose KL is always infinite, as q's support never holds that of p, have no entry.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import EULER_GAMMA, as_tensors
from dgmcompile.distill.divergences.moments import (
    beta_mean_log,
    beta_negentropy,
    beta_surprise,
    continuous_bernoulli_mean,
    continuous_bernoulli_surprise,
    exponential_surprise,
    gamma_negentropy,
    gamma_surprise,
    gumbel_surprise,
    normal_negentropy,
    normal_surprise,
    pareto_negentropy,
    uniform_mean_log,
)
from dgmcompile.distill.divergences.special import langevin_ratio

# --- from a positive variable ------------------------------------------------------------------------


def kl_exponential_gumbel(p_rate: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of an exponential from a Gumbel distribution."""
    p_rate, q_loc, q_scale = as_tensors(p_rate, q_loc, q_scale)
    return kl_gamma_gumbel(torch.ones_like(p_rate), p_rate, q_loc, q_scale)


def kl_exponential_normal(p_rate: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of an exponential from a normal."""
    p_rate, q_loc, q_scale = as_tensors(p_rate, q_loc, q_scale)
    return kl_gamma_normal(torch.ones_like(p_rate), p_rate, q_loc, q_scale)


def kl_gamma_gumbel(p_concentration: Tensor, p_rate: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Gamma from a Gumbel distribution."""
    p_concentration, p_rate, q_loc, q_scale = as_tensors(p_concentration, p_rate, q_loc, q_scale)
    log_mean_exp = -p_concentration * torch.log1p(1 / (p_rate * q_scale))
    surprise = gumbel_surprise(p_concentration / p_rate, log_mean_exp, q_loc, q_scale)
    return gamma_negentropy(p_concentration, p_rate) + surprise


def kl_gamma_normal(p_concentration: Tensor, p_rate: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Gamma distribution from a normal."""
    p_concentration, p_rate, q_loc, q_scale = as_tensors(p_concentration, p_rate, q_loc, q_scale)
    surprise = normal_surprise(p_concentration / p_rate, p_concentration / p_rate**2, q_loc, q_scale)
    return gamma_negentropy(p_concentration, p_rate) + surprise


def kl_gamma_log_normal(p_concentration: Tensor, p_rate: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Gamma distribution from a log-normal."""
    p_concentration, p_rate, q_loc, q_scale = as_tensors(p_concentration, p_rate, q_loc, q_scale)
    mean_log = torch.digamma(p_concentration) - torch.log(p_rate)
    surprise = mean_log + normal_surprise(mean_log, torch.polygamma(1, p_concentration), q_loc, q_scale)
    return gamma_negentropy(p_concentration, p_rate) + surprise


def kl_log_normal_gamma(p_loc: Tensor, p_scale: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a log-normal from a Gamma distribution."""
    p_loc, p_scale, q_concentration, q_rate = as_tensors(p_loc, p_scale, q_concentration, q_rate)
    mean = torch.exp(p_loc + 0.5 * p_scale**2)
    return normal_negentropy(p_scale) - p_loc + gamma_surprise(mean, p_loc, q_concentration, q_rate)


def kl_pareto_exponential(p_scale: Tensor, p_alpha: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a Pareto distribution from an exponential; infinite where p has no mean."""
    p_scale, p_alpha, q_rate = as_tensors(p_scale, p_alpha, q_rate)
    return kl_pareto_gamma(p_scale, p_alpha, torch.ones_like(q_rate), q_rate)


def kl_pareto_gamma(p_scale: Tensor, p_alpha: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a Pareto from a Gamma distribution; infinite where p has no mean."""
    p_scale, p_alpha, q_concentration, q_rate = as_tensors(p_scale, p_alpha, q_concentration, q_rate)
    finite = p_alpha > 1
    mean = p_scale * torch.where(finite, p_alpha / torch.where(finite, p_alpha - 1, 1.0), math.inf)
    surprise = gamma_surprise(mean, torch.log(p_scale) + 1 / p_alpha, q_concentration, q_rate)
    return pareto_negentropy(p_scale, p_alpha) + surprise


def kl_pareto_normal(p_scale: Tensor, p_alpha: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Pareto distribution from a normal; infinite where p has no variance."""
    p_scale, p_alpha, q_loc, q_scale = as_tensors(p_scale, p_alpha, q_loc, q_scale)
    finite = p_alpha > 2
    alpha = torch.where(finite, p_alpha, 3.0)
    variance = torch.where(finite, alpha / ((alpha - 1) ** 2 * (alpha - 2)), math.inf) * p_scale**2
    surprise = normal_surprise(p_scale * alpha / (alpha - 1), variance, q_loc, q_scale)
    return pareto_negentropy(p_scale, p_alpha) + surprise


# --- from a real variable ----------------------------------------------------------------------------


def kl_gumbel_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Gumbel distribution from a normal."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    mean, variance = p_loc + EULER_GAMMA * p_scale, (math.pi**2 / 6) * p_scale**2
    return normal_surprise(mean, variance, q_loc, q_scale) - torch.log(p_scale) - EULER_GAMMA - 1


def kl_laplace_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Laplace distribution from a normal."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return normal_surprise(p_loc, 2 * p_scale**2, q_loc, q_scale) - torch.log(2 * p_scale) - 1


def kl_normal_gumbel(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a normal from a Gumbel distribution."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    shift = (p_loc - q_loc) / q_scale
    mean_exp = torch.exp(0.5 * (p_scale / q_scale) ** 2 - shift)
    return normal_negentropy(p_scale) + torch.log(q_scale) + shift + mean_exp


def kl_normal_laplace(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a normal from a Laplace distribution."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    z = (p_loc - q_loc) / p_scale
    distance = z * torch.erf(z / math.sqrt(2)) + math.sqrt(2 / math.pi) * torch.exp(-0.5 * z**2)
    return normal_negentropy(p_scale) + torch.log(2 * q_scale) + distance * p_scale / q_scale


# --- from an interval --------------------------------------------------------------------------------


def kl_beta_continuous_bernoulli(p_concentration1: Tensor, p_concentration0: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of a Beta from a continuous Bernoulli distribution."""
    p_a, p_b, q_logits = as_tensors(p_concentration1, p_concentration0, q_logits)
    return beta_negentropy(p_a, p_b) + continuous_bernoulli_surprise(p_a / (p_a + p_b), q_logits)


def kl_beta_exponential(p_concentration1: Tensor, p_concentration0: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a Beta distribution from an exponential."""
    p_a, p_b, q_rate = as_tensors(p_concentration1, p_concentration0, q_rate)
    return beta_negentropy(p_a, p_b) + exponential_surprise(p_a / (p_a + p_b), q_rate)


def kl_beta_gamma(
    p_concentration1: Tensor, p_concentration0: Tensor, q_concentration: Tensor, q_rate: Tensor
) -> Tensor:
    """KL(p || q) of a Beta from a Gamma distribution."""
    p_a, p_b, q_concentration, q_rate = as_tensors(p_concentration1, p_concentration0, q_concentration, q_rate)
    surprise = gamma_surprise(p_a / (p_a + p_b), beta_mean_log(p_a, p_b), q_concentration, q_rate)
    return beta_negentropy(p_a, p_b) + surprise


def kl_beta_normal(p_concentration1: Tensor, p_concentration0: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a Beta distribution from a normal."""
    p_a, p_b, q_loc, q_scale = as_tensors(p_concentration1, p_concentration0, q_loc, q_scale)
    total = p_a + p_b
    surprise = normal_surprise(p_a / total, p_a / total * (p_b / total) / (total + 1), q_loc, q_scale)
    return beta_negentropy(p_a, p_b) + surprise


def kl_beta_uniform(p_concentration1: Tensor, p_concentration0: Tensor, q_low: Tensor, q_high: Tensor) -> Tensor:
    """KL(p || q) of a Beta distribution from a uniform; infinite unless q covers [0, 1]."""
    p_a, p_b, q_low, q_high = as_tensors(p_concentration1, p_concentration0, q_low, q_high)
    covered = (q_low <= 0) & (q_high >= 1)
    return torch.where(covered, beta_negentropy(p_a, p_b) + torch.log(q_high - q_low), math.inf)


def kl_continuous_bernoulli_exponential(p_logits: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a continuous Bernoulli distribution from an exponential."""
    p_logits, q_rate = as_tensors(p_logits, q_rate)
    mean = continuous_bernoulli_mean(p_logits)
    return exponential_surprise(mean, q_rate) - continuous_bernoulli_surprise(mean, p_logits)


def kl_continuous_bernoulli_normal(p_logits: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a continuous Bernoulli distribution from a normal.

    With h = logits / 2 and r = (coth h - 1 / h) / h, the variance is (1 - h^2 r^2 - 2 r) / 4.
    """
    p_logits, q_loc, q_scale = as_tensors(p_logits, q_loc, q_scale)
    square = (p_logits / 2) ** 2
    ratio = langevin_ratio(square)
    mean, variance = continuous_bernoulli_mean(p_logits), 0.25 * (1 - square * ratio**2 - 2 * ratio)
    return normal_surprise(mean, variance, q_loc, q_scale) - continuous_bernoulli_surprise(mean, p_logits)


def kl_continuous_bernoulli_uniform(p_logits: Tensor, q_low: Tensor, q_high: Tensor) -> Tensor:
    """KL(p || q) of a continuous Bernoulli distribution from a uniform; infinite unless q covers [0, 1]."""
    p_logits, q_low, q_high = as_tensors(p_logits, q_low, q_high)
    negentropy = -continuous_bernoulli_surprise(continuous_bernoulli_mean(p_logits), p_logits)
    return torch.where((q_low <= 0) & (q_high >= 1), negentropy + torch.log(q_high - q_low), math.inf)


def kl_uniform_beta(p_low: Tensor, p_high: Tensor, q_concentration1: Tensor, q_concentration0: Tensor) -> Tensor:
    """KL(p || q) of a uniform from a Beta distribution; infinite unless p lies in [0, 1]."""
    p_low, p_high, q_a, q_b = as_tensors(p_low, p_high, q_concentration1, q_concentration0)
    covered = (p_low >= 0) & (p_high <= 1)
    low, high = torch.where(covered, p_low, 0.25), torch.where(covered, p_high, 0.75)
    surprise = beta_surprise(uniform_mean_log(low, high), uniform_mean_log(1 - high, 1 - low), q_a, q_b)
    return torch.where(covered, surprise - torch.log(high - low), math.inf)


def kl_uniform_continuous_bernoulli(p_low: Tensor, p_high: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of a uniform from a continuous Bernoulli distribution; infinite unless p lies in [0, 1]."""
    p_low, p_high, q_logits = as_tensors(p_low, p_high, q_logits)
    surprise = continuous_bernoulli_surprise((p_low + p_high) / 2, q_logits)
    return torch.where((p_low >= 0) & (p_high <= 1), surprise - torch.log(p_high - p_low), math.inf)


def kl_uniform_exponential(p_low: Tensor, p_high: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a uniform from an exponential; infinite where p goes below 0."""
    p_low, p_high, q_rate = as_tensors(p_low, p_high, q_rate)
    surprise = exponential_surprise((p_low + p_high) / 2, q_rate)
    return torch.where(p_low >= 0, surprise - torch.log(p_high - p_low), math.inf)


def kl_uniform_gamma(p_low: Tensor, p_high: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a uniform from a Gamma distribution; infinite where p goes below 0."""
    p_low, p_high, q_concentration, q_rate = as_tensors(p_low, p_high, q_concentration, q_rate)
    covered = p_low >= 0
    low, high = torch.where(covered, p_low, 0.25), torch.where(covered, p_high, 0.75)
    surprise = gamma_surprise((low + high) / 2, uniform_mean_log(low, high), q_concentration, q_rate)
    return torch.where(covered, surprise - torch.log(high - low), math.inf)


def kl_uniform_gumbel(p_low: Tensor, p_high: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a uniform from a Gumbel distribution."""
    p_low, p_high, q_loc, q_scale = as_tensors(p_low, p_high, q_loc, q_scale)
    width = (p_high - p_low) / q_scale
    mean_exp = torch.exp((q_loc - p_low) / q_scale) * -torch.expm1(-width) / width
    shift = ((p_low + p_high) / 2 - q_loc) / q_scale
    return shift + mean_exp - torch.log(width)


def kl_uniform_normal(p_low: Tensor, p_high: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a uniform from a normal."""
    p_low, p_high, q_loc, q_scale = as_tensors(p_low, p_high, q_loc, q_scale)
    width = p_high - p_low
    return normal_surprise((p_low + p_high) / 2, width**2 / 12, q_loc, q_scale) - torch.log(width)


def kl_uniform_pareto(p_low: Tensor, p_high: Tensor, q_scale: Tensor, q_alpha: Tensor) -> Tensor:
    """KL(p || q) of a uniform from a Pareto distribution; infinite where p goes below q's scale."""
    p_low, p_high, q_scale, q_alpha = as_tensors(p_low, p_high, q_scale, q_alpha)
    covered = p_low >= q_scale
    low, high = torch.where(covered, p_low, 0.25), torch.where(covered, p_high, 0.75)
    surprise = (q_alpha + 1) * uniform_mean_log(low, high) - q_alpha * torch.log(q_scale) - torch.log(q_alpha)
    return torch.where(covered, surprise - torch.log(high - low), math.inf)
