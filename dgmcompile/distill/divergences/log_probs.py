"""Log-densities: what Monte-Carlo estimates read, as plain torch functions of (value, *parameters).

They are elementwise over batch dims, sum over the family's own event dims, agree with torch and Pyro on
the support, and are -inf outside it. There the value is exchanged for one inside before anything is
computed, so that no gradient is NaN. A value that is NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors, weigh
from dgmcompile.distill.divergences.linear import expand_like, low_rank_log_det, low_rank_whitened_square, solve_lower
from dgmcompile.ir.graph import Formula


def log_prob_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a normal."""
    value, loc, scale = as_tensors(value, loc, scale)
    return -0.5 * ((value - loc) / scale) ** 2 - torch.log(scale) - 0.5 * math.log(2 * math.pi)


def log_prob_log_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a log-normal."""
    log_value = torch.log(torch.where(value <= 0, 1.0, value))
    return torch.where(value <= 0, -math.inf, log_prob_normal(log_value, loc, scale) - log_value)


def log_prob_half_normal(value: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a half-normal."""
    return torch.where(value < 0, -math.inf, math.log(2) + log_prob_normal(value, torch.zeros_like(value), scale))


def log_prob_laplace(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a Laplace distribution."""
    value, loc, scale = as_tensors(value, loc, scale)
    return -(value - loc).abs() / scale - torch.log(2 * scale)


def log_prob_cauchy(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a Cauchy distribution."""
    value, loc, scale = as_tensors(value, loc, scale)
    return -torch.log1p(((value - loc) / scale) ** 2) - torch.log(math.pi * scale)


def log_prob_half_cauchy(value: Tensor, scale: Tensor) -> Tensor:
    """Log-density of a half-Cauchy distribution."""
    return torch.where(value < 0, -math.inf, math.log(2) + log_prob_cauchy(value, torch.zeros_like(value), scale))


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


def log_prob_uniform(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log-density of a uniform on [low, high)."""
    value, low, high = as_tensors(value, low, high)
    return torch.where((value < low) | (value >= high), -math.inf, -torch.log(high - low))


def log_prob_exponential(value: Tensor, rate: Tensor) -> Tensor:
    """Log-density of an exponential."""
    value, rate = as_tensors(value, rate)
    return torch.where(value < 0, -math.inf, torch.log(rate) - rate * value)


def log_prob_pareto(value: Tensor, scale: Tensor, alpha: Tensor) -> Tensor:
    """Log-density of a Pareto distribution, from scale upwards."""
    value, scale, alpha = as_tensors(value, scale, alpha)
    log_ratio = torch.log(torch.where(value < scale, scale, value) / scale)
    return torch.where(value < scale, -math.inf, torch.log(alpha / scale) - (alpha + 1) * log_ratio)


def log_prob_weibull(value: Tensor, scale: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of a Weibull distribution."""
    value, scale, concentration = as_tensors(value, scale, concentration)
    log_ratio = torch.log(torch.where(value <= 0, scale, value) / scale)
    log_density = torch.log(concentration / scale) + (concentration - 1) * log_ratio
    return torch.where(value <= 0, -math.inf, log_density - torch.exp(concentration * log_ratio))


def log_prob_multivariate_normal(value: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    """Log-density of a normal with a Cholesky factor: one value an event."""
    shift = expand_like(value - loc, scale_tril[..., 0])
    whitened = solve_lower(scale_tril, shift.unsqueeze(-1))
    log_scales = scale_tril.diagonal(0, -2, -1).log()
    constant = 0.5 * log_scales.shape[-1] * math.log(2 * math.pi)
    return -0.5 * whitened.square().sum((-2, -1)) - log_scales.sum(-1) - constant


def log_prob_low_rank_multivariate_normal(value: Tensor, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor) -> Tensor:
    """Log-density of a normal with covariance W W' + D, linear in the event's size: one value an event."""
    shift = expand_like(value - loc, cov_diag)
    square = low_rank_whitened_square(cov_factor, cov_diag, shift.unsqueeze(-1))
    log_det = low_rank_log_det(cov_factor, cov_diag)
    return -0.5 * (square + log_det + cov_diag.shape[-1] * math.log(2 * math.pi))


def log_prob_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a coin's 0 or 1."""
    value, logits = as_tensors(value, logits)
    return torch.where(value == 1, F.logsigmoid(logits), torch.where(value == 0, F.logsigmoid(-logits), -math.inf))


def log_prob_geometric(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of so many failures before a success."""
    value, logits = as_tensors(value, logits)
    inside = (value >= 0) & (value == value.floor())
    failures = torch.where(inside, value, 0)
    return torch.where(inside, F.logsigmoid(logits) + weigh(failures, F.logsigmoid(-logits)), -math.inf)


def log_prob_binomial(value: Tensor, total_count: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of so many successes out of ``total_count``."""
    logits, value, total_count = as_tensors(logits, value, total_count)
    value, total_count = value.to(logits.dtype), total_count.to(logits.dtype)
    inside = (value >= 0) & (value <= total_count) & (value == value.floor())
    successes = torch.where(inside, value, 0)
    failures = total_count - successes
    ways = torch.lgamma(total_count + 1) - torch.lgamma(successes + 1) - torch.lgamma(failures + 1)
    log_prob = ways + weigh(successes, F.logsigmoid(logits)) + weigh(failures, F.logsigmoid(-logits))
    return torch.where(inside, log_prob, -math.inf)


def log_prob_categorical(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a class by its index into the last dim of the logits."""
    index = value.long()
    inside = (index >= 0) & (index < logits.shape[-1]) & (index == value)
    index = torch.where(inside, index, 0).unsqueeze(-1)
    log_probs = expand_like(F.log_softmax(logits, -1), index)
    log_prob = log_probs.gather(-1, expand_like(index, log_probs[..., :1])).squeeze(-1)
    return torch.where(inside, log_prob, -math.inf)


def log_prob_one_hot_categorical(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a class by its one-hot vector."""
    one_hot = (((value == 0) | (value == 1)).all(-1)) & (value.sum(-1) == 1)
    return torch.where(one_hot, weigh(value, F.log_softmax(logits, -1)).sum(-1), -math.inf)


def log_prob_delta(value: Tensor, v: Tensor) -> Tensor:
    """Log-probability of a point: 0 there."""
    value, v = as_tensors(value, v)
    return torch.where(value == v, torch.zeros_like(value), -math.inf)


LOG_PROBS: Mapping[str, Formula] = {
    "Normal": Formula.of(log_prob_normal),
    "LogNormal": Formula.of(log_prob_log_normal),
    "HalfNormal": Formula.of(log_prob_half_normal),
    "Laplace": Formula.of(log_prob_laplace),
    "Cauchy": Formula.of(log_prob_cauchy),
    "HalfCauchy": Formula.of(log_prob_half_cauchy),
    "Gumbel": Formula.of(log_prob_gumbel),
    "Logistic": Formula.of(log_prob_logistic),
    "Uniform": Formula.of(log_prob_uniform),
    "Exponential": Formula.of(log_prob_exponential),
    "Pareto": Formula.of(log_prob_pareto),
    "Weibull": Formula.of(log_prob_weibull),
    "MultivariateNormal": Formula.of(log_prob_multivariate_normal),
    "LowRankMultivariateNormal": Formula.of(log_prob_low_rank_multivariate_normal),
    "Bernoulli": Formula.of(log_prob_bernoulli),
    "Geometric": Formula.of(log_prob_geometric),
    "Binomial": Formula.of(log_prob_binomial),
    "Categorical": Formula.of(log_prob_categorical),
    "OneHotCategorical": Formula.of(log_prob_one_hot_categorical),
    "Delta": Formula.of(log_prob_delta),
}
