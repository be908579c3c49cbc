"""Closed forms of the cross-entropy -E_p log q, in nats; p is the teacher's distribution, q the student's.

It is KL(p || q) and the teacher's entropy, which the student cannot change: at p = q it is not 0. For
classes a ``temperature`` softens both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import EULER_GAMMA, as_tensors, bernoulli_log_probs, weigh
from dgmcompile.distill.divergences.entry import Divergence
from dgmcompile.distill.divergences.linear import expand_like, low_rank_log_det, low_rank_second_moment, solve_lower
from dgmcompile.ir.graph import Formula


def cross_entropy_bernoulli(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of coins with logits / T, times T^2 (Hinton, Vinyals & Dean 2015, section 2)."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    p_log_probs = bernoulli_log_probs(p_logits / temperature)
    q_log_probs = bernoulli_log_probs(q_logits / temperature)
    return temperature**2 * weigh(p_log_probs.exp(), -q_log_probs).sum(-1)


def cross_entropy_categorical(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy over the last dim's classes with logits / T, times T^2 (Hinton, Vinyals & Dean 2015, section 2)."""
    p_probs = torch.softmax(p_logits / temperature, -1)
    q_log_probs = F.log_softmax(q_logits / temperature, -1)
    return temperature**2 * weigh(p_probs, -q_log_probs).sum(-1)


def cross_entropy_geometric(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Cross-entropy of the failures before a success: one success, and as many failures as p expects."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return weigh(torch.exp(-p_logits), -F.logsigmoid(-q_logits)) - F.logsigmoid(q_logits)


def cross_entropy_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of normals."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    squares = ((p_loc - q_loc) / q_scale) ** 2 + (p_scale / q_scale) ** 2
    return torch.log(q_scale) + 0.5 * (squares + math.log(2 * math.pi))


def cross_entropy_log_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of log-normals: that of the normals, and the mean log-value."""
    return p_loc + cross_entropy_normal(p_loc, p_scale, q_loc, q_scale)


def cross_entropy_half_normal(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of half-normals."""
    p_scale, q_scale = as_tensors(p_scale, q_scale)
    return torch.log(q_scale) + 0.5 * ((p_scale / q_scale) ** 2 + math.log(math.pi / 2))


def cross_entropy_laplace(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of Laplace distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    shift = (p_loc - q_loc).abs()
    return torch.log(2 * q_scale) + (shift + p_scale * torch.exp(-shift / p_scale)) / q_scale


def cross_entropy_cauchy(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of Cauchy distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return 2 * torch.log(torch.hypot(p_scale + q_scale, p_loc - q_loc)) + torch.log(math.pi / q_scale)


def cross_entropy_half_cauchy(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of half-Cauchy distributions."""
    p_scale, q_scale = as_tensors(p_scale, q_scale)
    return 2 * torch.log(p_scale + q_scale) + torch.log(math.pi / 2 / q_scale)


def cross_entropy_gumbel(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of Gumbel distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    ratio = p_scale / q_scale
    shift = (p_loc - q_loc) / q_scale
    return torch.log(q_scale) + shift + EULER_GAMMA * ratio + torch.exp(torch.lgamma(1 + ratio) - shift)


def cross_entropy_weibull(p_scale: Tensor, p_concentration: Tensor, q_scale: Tensor, q_concentration: Tensor) -> Tensor:
    """Cross-entropy of Weibull distributions: that of the Gumbel-distributed -log, and the mean log-value."""
    p_scale, p_concentration, q_scale, q_concentration = as_tensors(p_scale, p_concentration, q_scale, q_concentration)
    of_logs = cross_entropy_gumbel(-torch.log(p_scale), 1 / p_concentration, -torch.log(q_scale), 1 / q_concentration)
    return of_logs + torch.log(p_scale) - EULER_GAMMA / p_concentration


def cross_entropy_uniform(p_low: Tensor, p_high: Tensor, q_low: Tensor, q_high: Tensor) -> Tensor:
    """Cross-entropy of uniforms; infinite unless q covers p."""
    p_low, p_high, q_low, q_high = as_tensors(p_low, p_high, q_low, q_high)
    covered = (q_low <= p_low) & (p_high <= q_high)
    return torch.where(covered, torch.log(q_high - q_low), math.inf)


def cross_entropy_exponential(p_rate: Tensor, q_rate: Tensor) -> Tensor:
    """Cross-entropy of exponentials."""
    p_rate, q_rate = as_tensors(p_rate, q_rate)
    return q_rate / p_rate - torch.log(q_rate)


def cross_entropy_pareto(p_scale: Tensor, p_alpha: Tensor, q_scale: Tensor, q_alpha: Tensor) -> Tensor:
    """Cross-entropy of Pareto distributions; infinite where q starts above p."""
    p_scale, p_alpha, q_scale, q_alpha = as_tensors(p_scale, p_alpha, q_scale, q_alpha)
    above = torch.where(p_scale >= q_scale, torch.log(p_scale / q_scale), math.inf)
    return q_alpha * above + (q_alpha + 1) / p_alpha + torch.log(p_scale) - torch.log(q_alpha)


def cross_entropy_multivariate_normal(
    p_loc: Tensor, p_scale_tril: Tensor, q_loc: Tensor, q_scale_tril: Tensor
) -> Tensor:
    """Cross-entropy of normals with Cholesky factors: one value an event."""
    whitened = solve_lower(q_scale_tril, p_scale_tril)
    shift = expand_like(p_loc - q_loc, q_scale_tril[..., 0])
    shift = solve_lower(q_scale_tril, shift.unsqueeze(-1))
    squares = whitened.square().sum((-2, -1)) + shift.square().sum((-2, -1))
    log_scales = q_scale_tril.diagonal(0, -2, -1).log()
    return log_scales.sum(-1) + 0.5 * (squares + log_scales.shape[-1] * math.log(2 * math.pi))


def cross_entropy_low_rank_multivariate_normal(
    p_loc: Tensor,
    p_cov_factor: Tensor,
    p_cov_diag: Tensor,
    q_loc: Tensor,
    q_cov_factor: Tensor,
    q_cov_diag: Tensor,
) -> Tensor:
    """Cross-entropy of normals with covariances W W' + D, linear in the event's size: one value an event."""
    moment = low_rank_second_moment(p_loc, p_cov_factor, p_cov_diag, q_loc, q_cov_factor, q_cov_diag)
    return 0.5 * (low_rank_log_det(q_cov_factor, q_cov_diag) + moment + q_cov_diag.shape[-1] * math.log(2 * math.pi))


_HINTON = "Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2"
_INTEGRAL = "the defining integral, in elementary functions"

CROSS_ENTROPY: Mapping[tuple[str, str], Divergence] = {
    ("Bernoulli", "Bernoulli"): Divergence(Formula.of(cross_entropy_bernoulli), _HINTON),
    ("Categorical", "Categorical"): Divergence(Formula.of(cross_entropy_categorical), _HINTON),
    ("OneHotCategorical", "OneHotCategorical"): Divergence(Formula.of(cross_entropy_categorical), _HINTON, event_dim=1),
    ("Geometric", "Geometric"): Divergence(Formula.of(cross_entropy_geometric), "the defining sum"),
    ("Normal", "Normal"): Divergence(Formula.of(cross_entropy_normal), _INTEGRAL),
    ("LogNormal", "LogNormal"): Divergence(Formula.of(cross_entropy_log_normal), _INTEGRAL),
    ("HalfNormal", "HalfNormal"): Divergence(Formula.of(cross_entropy_half_normal), _INTEGRAL),
    ("Laplace", "Laplace"): Divergence(Formula.of(cross_entropy_laplace), _INTEGRAL),
    ("Cauchy", "Cauchy"): Divergence(Formula.of(cross_entropy_cauchy), "Chyzak & Nielsen 2019, arXiv:1905.10965"),
    ("HalfCauchy", "HalfCauchy"): Divergence(Formula.of(cross_entropy_half_cauchy), "symmetry of Cauchy"),
    ("Gumbel", "Gumbel"): Divergence(Formula.of(cross_entropy_gumbel), _INTEGRAL),
    ("Weibull", "Weibull"): Divergence(Formula.of(cross_entropy_weibull), "change of variables of Gumbel"),
    ("Uniform", "Uniform"): Divergence(Formula.of(cross_entropy_uniform), _INTEGRAL),
    ("Exponential", "Exponential"): Divergence(Formula.of(cross_entropy_exponential), _INTEGRAL),
    ("Pareto", "Pareto"): Divergence(Formula.of(cross_entropy_pareto), _INTEGRAL),
    ("MultivariateNormal", "MultivariateNormal"): Divergence(
        Formula.of(cross_entropy_multivariate_normal), _INTEGRAL, event_dim=1
    ),
    ("LowRankMultivariateNormal", "LowRankMultivariateNormal"): Divergence(
        Formula.of(cross_entropy_low_rank_multivariate_normal), _INTEGRAL, event_dim=1
    ),
}
