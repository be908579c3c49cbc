"""Closed forms of KL(p || q), in nats: p is the teacher's distribution, q the student's.

Written as sums of terms that are at least 0 and vanish at p = q, so that equal parameters give 0 and
rounding does not turn the result negative (coins alone may fall below 0 by a rounding error).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import (
    EULER_GAMMA,
    as_tensors,
    bernoulli_log_probs,
    exp_gap,
    relative_entropy,
    weigh,
)
from dgmcompile.distill.divergences.entry import Divergence
from dgmcompile.distill.divergences.linear import (
    expand_like,
    low_rank_log_det,
    low_rank_second_moment,
    solve_lower,
)
from dgmcompile.ir.graph import Formula


def kl_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of normals; of log-normals too, as exp keeps it."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    shift = (p_loc - q_loc) / q_scale
    return 0.5 * (exp_gap(2 * torch.log(p_scale / q_scale)) + shift * shift)


def kl_half_normal(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of half-normals: that of normals around 0."""
    p_scale, q_scale = as_tensors(p_scale, q_scale)
    return 0.5 * exp_gap(2 * torch.log(p_scale / q_scale))


def kl_laplace(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of Laplace distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    ratio = p_scale / q_scale
    shift = (p_loc - q_loc).abs() / p_scale
    return exp_gap(torch.log(ratio)) + ratio * exp_gap(-shift)


def kl_cauchy(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of Cauchy distributions, which is symmetric: Chyzak & Nielsen 2019, arXiv:1905.10965."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    shift, stretch = p_loc - q_loc, p_scale - q_scale
    return torch.log1p((shift / p_scale * (shift / q_scale) + stretch / p_scale * (stretch / q_scale)) / 4)


def kl_half_cauchy(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of half-Cauchy distributions: that of Cauchy distributions around 0."""
    p_scale, q_scale = as_tensors(p_scale, q_scale)
    stretch = p_scale - q_scale
    return torch.log1p(stretch / p_scale * (stretch / q_scale) / 4)


def kl_gumbel(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of Gumbel distributions: Bauckhage 2013, arXiv:1310.3713 (there of Weibull distributions)."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    ratio = p_scale / q_scale
    shift = (p_loc - q_loc) / q_scale
    return exp_gap(torch.lgamma(1 + ratio) - shift) + torch.lgamma(ratio) + EULER_GAMMA * (ratio - 1)


def kl_weibull(p_scale: Tensor, p_concentration: Tensor, q_scale: Tensor, q_concentration: Tensor) -> Tensor:
    """KL(p || q) of Weibull distributions: -log of one is Gumbel(-log scale, 1 / concentration)."""
    p_scale, p_concentration, q_scale, q_concentration = as_tensors(p_scale, p_concentration, q_scale, q_concentration)
    ratio = q_concentration / p_concentration
    return kl_gumbel(
        torch.log(q_scale / p_scale) * q_concentration, ratio, torch.zeros_like(ratio), torch.ones_like(ratio)
    )


def kl_uniform(p_low: Tensor, p_high: Tensor, q_low: Tensor, q_high: Tensor) -> Tensor:
    """KL(p || q) of uniforms: the log-ratio of their widths; infinite unless q covers p."""
    p_low, p_high, q_low, q_high = as_tensors(p_low, p_high, q_low, q_high)
    covered = (q_low <= p_low) & (p_high <= q_high)
    return torch.where(covered, torch.log((q_high - q_low) / (p_high - p_low)), math.inf)


def kl_exponential(p_rate: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of exponentials."""
    p_rate, q_rate = as_tensors(p_rate, q_rate)
    return exp_gap(torch.log(q_rate / p_rate))


def kl_pareto(p_scale: Tensor, p_alpha: Tensor, q_scale: Tensor, q_alpha: Tensor) -> Tensor:
    """KL(p || q) of Pareto distributions; infinite where q starts above p."""
    p_scale, p_alpha, q_scale, q_alpha = as_tensors(p_scale, p_alpha, q_scale, q_alpha)
    start = torch.where(p_scale >= q_scale, q_alpha * torch.log(p_scale / q_scale), math.inf)
    return start + exp_gap(torch.log(q_alpha / p_alpha))


def kl_multivariate_normal(p_loc: Tensor, p_scale_tril: Tensor, q_loc: Tensor, q_scale_tril: Tensor) -> Tensor:
    """KL(p || q) of normals with Cholesky factors, seen from where q is standard: one value an event."""
    whitened = solve_lower(q_scale_tril, p_scale_tril)
    shift = expand_like(p_loc - q_loc, q_scale_tril[..., 0])
    shift = solve_lower(q_scale_tril, shift.unsqueeze(-1))
    log_scales = torch.log(p_scale_tril.diagonal(0, -2, -1) / q_scale_tril.diagonal(0, -2, -1))
    squares = shift.square().sum((-2, -1)) + whitened.tril(-1).square().sum((-2, -1))
    return 0.5 * (exp_gap(2 * log_scales).sum(-1) + squares)


def kl_multivariate_normal_normal(p_loc: Tensor, p_scale_tril: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of a multivariate normal from independent normals: one value an event."""
    p_loc, p_scale_tril, q_loc, q_scale = as_tensors(p_loc, p_scale_tril, q_loc, q_scale)
    scale = expand_like(q_scale, p_scale_tril[..., 0])
    return kl_multivariate_normal(p_loc, p_scale_tril, q_loc, scale.diag_embed())


def kl_normal_multivariate_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale_tril: Tensor) -> Tensor:
    """KL(p || q) of independent normals from a multivariate normal: one value an event."""
    p_loc, p_scale, q_loc, q_scale_tril = as_tensors(p_loc, p_scale, q_loc, q_scale_tril)
    scale = expand_like(p_scale, q_scale_tril[..., 0])
    return kl_multivariate_normal(p_loc, scale.diag_embed(), q_loc, q_scale_tril)


def kl_low_rank_multivariate_normal(
    p_loc: Tensor,
    p_cov_factor: Tensor,
    p_cov_diag: Tensor,
    q_loc: Tensor,
    q_cov_factor: Tensor,
    q_cov_diag: Tensor,
) -> Tensor:
    """KL(p || q) of normals with covariances W W' + D, linear in the event's size: one value an event."""
    log_dets = low_rank_log_det(q_cov_factor, q_cov_diag) - low_rank_log_det(p_cov_factor, p_cov_diag)
    moment = low_rank_second_moment(p_loc, p_cov_factor, p_cov_diag, q_loc, q_cov_factor, q_cov_diag)
    return 0.5 * (log_dets + moment - q_cov_diag.shape[-1])


def kl_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of coins, as cross-entropy less entropy: few calls, of which q's gradient passes three.

    Logits may be infinite, where the cross-entropy is inf - inf; rounding may leave it just below 0.
    """
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    if p_logits.shape != q_logits.shape:
        p_logits, q_logits = expand_like(p_logits, q_logits), expand_like(q_logits, p_logits)
    p = torch.sigmoid(p_logits)
    entropy = F.binary_cross_entropy_with_logits(p_logits.clamp(-1e3, 1e3), p, reduction="none")
    gap = F.binary_cross_entropy_with_logits(q_logits, p, reduction="none") - entropy
    return torch.where(q_logits.isinf(), torch.where(p_logits == q_logits, 0.0, math.inf), gap)


def reverse_kl_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(q || p) of coins; the gradient of q passes its probabilities too."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return relative_entropy(bernoulli_log_probs(q_logits), bernoulli_log_probs(p_logits))


def kl_geometric(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of the failures before a success: of one trial, times the expected number of trials."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    success = F.logsigmoid(p_logits) - F.logsigmoid(q_logits)
    failure = F.logsigmoid(-p_logits) - F.logsigmoid(-q_logits)
    return success + weigh(torch.exp(-p_logits), failure)


def kl_binomial(p_total_count: Tensor, p_logits: Tensor, q_total_count: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of counts out of the same total.

    Infinite where q's total is smaller, and NaN where it is larger, for which there is no closed form.
    """
    p_logits, q_logits, p_total_count, q_total_count = as_tensors(p_logits, q_logits, p_total_count, q_total_count)
    otherwise = torch.where(p_total_count > q_total_count, math.inf, math.nan)
    one_trial = relative_entropy(bernoulli_log_probs(p_logits), bernoulli_log_probs(q_logits))
    same_total = weigh(p_total_count, one_trial)
    return torch.where(p_total_count == q_total_count, same_total, otherwise)


def kl_categorical(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) over the last dim's classes; a logit of -inf excludes its class."""
    return relative_entropy(F.log_softmax(p_logits, -1), F.log_softmax(q_logits, -1))


_INTEGRAL = "the defining integral, in elementary functions"
_MULTIVARIATE = "Duchi 2007, Derivations for Linear Algebra and Optimization, section 9"

KL: Mapping[tuple[str, str], Divergence] = {
    ("Normal", "Normal"): Divergence(Formula.of(kl_normal), _INTEGRAL),
    ("LogNormal", "LogNormal"): Divergence(Formula.of(kl_normal), "invariance under exp"),
    ("HalfNormal", "HalfNormal"): Divergence(Formula.of(kl_half_normal), "symmetry of Normal"),
    ("Laplace", "Laplace"): Divergence(Formula.of(kl_laplace), _INTEGRAL),
    ("Cauchy", "Cauchy"): Divergence(Formula.of(kl_cauchy), "Chyzak & Nielsen 2019, arXiv:1905.10965"),
    ("HalfCauchy", "HalfCauchy"): Divergence(Formula.of(kl_half_cauchy), "symmetry of Cauchy"),
    ("Gumbel", "Gumbel"): Divergence(Formula.of(kl_gumbel), "Bauckhage 2013, arXiv:1310.3713"),
    ("Weibull", "Weibull"): Divergence(Formula.of(kl_weibull), "Bauckhage 2013, arXiv:1310.3713"),
    ("Uniform", "Uniform"): Divergence(Formula.of(kl_uniform), _INTEGRAL),
    ("Exponential", "Exponential"): Divergence(Formula.of(kl_exponential), _INTEGRAL),
    ("Pareto", "Pareto"): Divergence(Formula.of(kl_pareto), _INTEGRAL),
    ("MultivariateNormal", "MultivariateNormal"): Divergence(
        Formula.of(kl_multivariate_normal), _MULTIVARIATE, event_dim=1
    ),
    ("MultivariateNormal", "Normal"): Divergence(Formula.of(kl_multivariate_normal_normal), _MULTIVARIATE, event_dim=1),
    ("Normal", "MultivariateNormal"): Divergence(Formula.of(kl_normal_multivariate_normal), _MULTIVARIATE, event_dim=1),
    ("LowRankMultivariateNormal", "LowRankMultivariateNormal"): Divergence(
        Formula.of(kl_low_rank_multivariate_normal), "the same, by Woodbury's identity", event_dim=1
    ),
    ("Bernoulli", "Bernoulli"): Divergence(Formula.of(kl_bernoulli), "the defining sum"),
    ("Geometric", "Geometric"): Divergence(Formula.of(kl_geometric), "chain rule over the trials"),
    ("Binomial", "Binomial"): Divergence(Formula.of(kl_binomial), "chain rule over the trials"),
    ("Categorical", "Categorical"): Divergence(Formula.of(kl_categorical), "the defining sum"),
    ("OneHotCategorical", "OneHotCategorical"): Divergence(Formula.of(kl_categorical), "the defining sum", event_dim=1),
}

REVERSE_KL: Mapping[tuple[str, str], Divergence] = {
    **{(teacher, student): replace(entry, exchanged=True) for (student, teacher), entry in KL.items()},
    ("Bernoulli", "Bernoulli"): Divergence(Formula.of(reverse_kl_bernoulli), "the defining sum"),
}
