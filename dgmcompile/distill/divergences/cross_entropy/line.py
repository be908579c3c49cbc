"""Cross-entropies on the line and from 0 upwards."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import EULER_GAMMA, as_tensors
from dgmcompile.distill.divergences.kl.line import kl_asymmetric_laplace, kl_kumaraswamy
from dgmcompile.distill.divergences.kl.student_t import kl_student_t
from dgmcompile.distill.divergences.moments import (
    continuous_bernoulli_mean,
    continuous_bernoulli_surprise,
    kumaraswamy_negentropy,
    student_t_negentropy,
)


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


def cross_entropy_asymmetric_laplace(
    p_loc: Tensor, p_scale: Tensor, p_asymmetry: Tensor, q_loc: Tensor, q_scale: Tensor, q_asymmetry: Tensor
) -> Tensor:
    """Cross-entropy of asymmetric Laplace distributions."""
    p_loc, p_scale, p_asymmetry, q_loc, q_scale, q_asymmetry = as_tensors(
        p_loc, p_scale, p_asymmetry, q_loc, q_scale, q_asymmetry
    )
    kl = kl_asymmetric_laplace(p_loc, p_scale, p_asymmetry, q_loc, q_scale, q_asymmetry)
    return kl + torch.log(p_scale * (p_asymmetry + 1 / p_asymmetry)) + 1


def cross_entropy_cauchy(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of Cauchy distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return 2 * torch.log(torch.hypot(p_scale + q_scale, p_loc - q_loc)) + torch.log(math.pi / q_scale)


def cross_entropy_half_cauchy(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """Cross-entropy of half-Cauchy distributions."""
    p_scale, q_scale = as_tensors(p_scale, q_scale)
    return 2 * torch.log(p_scale + q_scale) + torch.log(math.pi / 2 / q_scale)


def cross_entropy_student_t(
    p_df: Tensor, p_loc: Tensor, p_scale: Tensor, q_df: Tensor, q_loc: Tensor, q_scale: Tensor
) -> Tensor:
    """Cross-entropy of Student's t."""
    p_df, p_loc, p_scale, q_df, q_loc, q_scale = as_tensors(p_df, p_loc, p_scale, q_df, q_loc, q_scale)
    return kl_student_t(p_df, p_loc, p_scale, q_df, q_loc, q_scale) - student_t_negentropy(p_df, p_scale)


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


def cross_entropy_kumaraswamy(
    p_concentration1: Tensor, p_concentration0: Tensor, q_concentration1: Tensor, q_concentration0: Tensor
) -> Tensor:
    """Cross-entropy of Kumaraswamy distributions."""
    p_a, p_b, q_a, q_b = as_tensors(p_concentration1, p_concentration0, q_concentration1, q_concentration0)
    return kl_kumaraswamy(p_a, p_b, q_a, q_b) - kumaraswamy_negentropy(p_a, p_b)


def cross_entropy_continuous_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Cross-entropy of continuous Bernoulli distributions."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return continuous_bernoulli_surprise(continuous_bernoulli_mean(p_logits), q_logits)
