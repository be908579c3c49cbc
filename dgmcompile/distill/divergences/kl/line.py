"""KL(p || q) of laws on the line and of positive numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import (
    EULER_GAMMA,
    as_tensors,
    bernoulli_log_probs,
    exp_gap,
    relative_entropy,
)
from dgmcompile.distill.divergences.linear import in_one_shape
from dgmcompile.distill.divergences.special import langevin_ratio, log_sinhc


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


def kl_asymmetric_laplace(
    p_loc: Tensor, p_scale: Tensor, p_asymmetry: Tensor, q_loc: Tensor, q_scale: Tensor, q_asymmetry: Tensor
) -> Tensor:
    """KL(p || q) of asymmetric Laplace distributions: of the sides, of the exponentials there, and of the shift."""
    p_loc, p_scale, p_asymmetry, q_loc, q_scale, q_asymmetry = as_tensors(
        p_loc, p_scale, p_asymmetry, q_loc, q_scale, q_asymmetry
    )
    log_left, log_right = torch.log(q_asymmetry / p_asymmetry), torch.log(p_asymmetry / q_asymmetry)
    sides = relative_entropy(sides_of_laplace(p_asymmetry), sides_of_laplace(q_asymmetry))
    p_left = torch.sigmoid(2 * torch.log(p_asymmetry))
    p_right = torch.sigmoid(-2 * torch.log(p_asymmetry))
    log_scale = torch.log(p_scale / q_scale)
    inner = sides + p_left * exp_gap(log_scale - log_left) + p_right * exp_gap(log_scale - log_right)

    # q's mode lies `shift` to the right of p's, or the mirror image of that.
    shift, right = (q_loc - p_loc).abs() / p_scale, q_loc >= p_loc
    near, p_near = torch.where(right, 1 / p_asymmetry, p_asymmetry), torch.where(right, p_right, p_left)
    q_ratio = p_scale / q_scale
    q_near = q_ratio * torch.where(right, q_asymmetry, 1 / q_asymmetry)
    q_far = q_ratio * torch.where(right, 1 / q_asymmetry, q_asymmetry)
    return inner + p_near * near * torch.expm1(-shift / near) * (q_near + q_far) + shift * q_far


def sides_of_laplace(asymmetry: Tensor) -> Tensor:
    """log P of the left and the right of the mode, in a last dim."""
    return bernoulli_log_probs(2 * torch.log(asymmetry))


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


def kl_kumaraswamy(
    p_concentration1: Tensor, p_concentration0: Tensor, q_concentration1: Tensor, q_concentration0: Tensor
) -> Tensor:
    """KL(p || q) of Kumaraswamy distributions; E log(1 - x^a) by the trapezoid rule."""
    p_a, p_b, q_a, q_b = as_tensors(p_concentration1, p_concentration0, q_concentration1, q_concentration0)
    power = q_a / p_a
    harmonic = torch.digamma(p_b + 1) + EULER_GAMMA
    log_rest = kumaraswamy_log_rest(p_b, power) + torch.log(power)
    constants = (power - 1) * harmonic - torch.log(power) - torch.log(q_b / p_b)
    return constants + (q_b - p_b) / p_b - (q_b - 1) * log_rest


def kumaraswamy_log_rest(b: Tensor, power: Tensor) -> Tensor:
    """E log((1 - y^power) / (1 - y) / power) of y with density b (1 - y)^(b - 1).

    In logit y the integrand is smooth (no singularity nearer than pi / 2) and falls off at both ends.
    """
    b, power = in_one_shape(b, power)
    fixed = b.detach()
    low, high = -37 - torch.log1p(fixed), torch.log(torch.expm1(40 / (1 + fixed)))
    nodes = torch.arange(257, dtype=b.dtype, device=b.device) / 256
    logit = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * nodes
    log_y, log_rest = F.logsigmoid(logit), F.logsigmoid(-logit)
    b, power = b.unsqueeze(-1), power.unsqueeze(-1)
    gap = torch.log(-torch.expm1(power * log_y)) - torch.log(-torch.expm1(log_y)) - torch.log(power)
    return (torch.exp(b * log_rest + log_y) * b * gap).sum(-1) * (high - low) / 256


def kl_continuous_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of continuous Bernoulli distributions: the Bregman divergence of the log-normaliser."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    p_half, q_half = p_logits / 2, q_logits / 2
    slope = p_half * langevin_ratio(p_half**2)
    return log_sinhc(q_half**2) - log_sinhc(p_half**2) - (q_half - p_half) * slope
