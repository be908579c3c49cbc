"""KL(p || q) of what is made of Gamma distributions: in Bregman divergences of log Gamma, each at least 0."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import are_one_number, as_tensors, exp_gap
from dgmcompile.distill.divergences.linear import in_one_shape, solve_lower
from dgmcompile.distill.divergences.special import log_bregman, log_gamma_bregman


def kl_gamma(p_concentration: Tensor, p_rate: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of Gamma distributions, and of their inverses: of the means, and of the shapes at one mean."""
    p_concentration, p_rate, q_concentration, q_rate = as_tensors(p_concentration, p_rate, q_concentration, q_rate)
    log_mean_ratio = torch.log(p_concentration / q_concentration) + torch.log(q_rate / p_rate)
    shapes = log_gamma_bregman(p_concentration, q_concentration)
    shapes = shapes - q_concentration * log_bregman(q_concentration, p_concentration)
    return q_concentration * exp_gap(log_mean_ratio) + shapes


def kl_chi2(p_df: Tensor, q_df: Tensor) -> Tensor:
    """KL(p || q) of chi-squared distributions."""
    p_df, q_df = as_tensors(p_df, q_df)
    return log_gamma_bregman(p_df / 2, q_df / 2)


def kl_gamma_exponential(p_concentration: Tensor, p_rate: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a Gamma distribution from an exponential."""
    p_concentration, p_rate, q_rate = as_tensors(p_concentration, p_rate, q_rate)
    return kl_gamma(p_concentration, p_rate, torch.ones_like(q_rate), q_rate)


def kl_exponential_gamma(p_rate: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of an exponential from a Gamma distribution."""
    p_rate, q_concentration, q_rate = as_tensors(p_rate, q_concentration, q_rate)
    return kl_gamma(torch.ones_like(p_rate), p_rate, q_concentration, q_rate)


def kl_gamma_chi2(p_concentration: Tensor, p_rate: Tensor, q_df: Tensor) -> Tensor:
    """KL(p || q) of a Gamma distribution from a chi-squared one."""
    p_concentration, p_rate, q_df = as_tensors(p_concentration, p_rate, q_df)
    return kl_gamma(p_concentration, p_rate, q_df / 2, torch.full_like(q_df, 0.5))


def kl_chi2_gamma(p_df: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a chi-squared distribution from a Gamma one."""
    p_df, q_concentration, q_rate = as_tensors(p_df, q_concentration, q_rate)
    return kl_gamma(p_df / 2, torch.full_like(p_df, 0.5), q_concentration, q_rate)


def kl_beta(
    p_concentration1: Tensor, p_concentration0: Tensor, q_concentration1: Tensor, q_concentration0: Tensor
) -> Tensor:
    """KL(p || q) of Beta distributions."""
    p_a, p_b, q_a, q_b = as_tensors(p_concentration1, p_concentration0, q_concentration1, q_concentration0)
    return log_gamma_bregman(p_a, q_a) + log_gamma_bregman(p_b, q_b) - log_gamma_bregman(p_a + p_b, q_a + q_b)


def kl_affine_beta(
    p_concentration1: Tensor,
    p_concentration0: Tensor,
    p_loc: Tensor | float,
    p_scale: Tensor | float,
    q_concentration1: Tensor,
    q_concentration0: Tensor,
    q_loc: Tensor | float,
    q_scale: Tensor | float,
) -> Tensor:
    """KL(p || q) of Beta distributions on [loc, loc + scale]; infinite unless q's interval covers that of p.

    Where q's is larger, two expectations of logarithms are taken by the trapezoid rule.
    """
    if are_one_number(p_loc, q_loc) and are_one_number(p_scale, q_scale):
        return kl_beta(p_concentration1, p_concentration0, q_concentration1, q_concentration0)
    p_a, p_b, p_loc, p_scale, q_a, q_b, q_loc, q_scale = as_tensors(
        p_concentration1, p_concentration0, p_loc, p_scale, q_concentration1, q_concentration0, q_loc, q_scale
    )
    below, above = (p_loc - q_loc) / p_scale, (q_loc + q_scale - p_loc - p_scale) / p_scale
    rounding = 4 * torch.finfo(p_a.dtype).eps * (q_loc.abs() + q_scale) / p_scale
    covered = (below >= -rounding) & (above >= -rounding)
    same = (p_loc == q_loc) & (p_scale == q_scale)
    below, above = torch.where(same, 0.0, below), torch.where(same, 0.0, above)
    moved = beta_log_shift(p_a, p_b, below.clamp(min=0)) * (1 - q_a)
    moved = moved + beta_log_shift(p_b, p_a, above.clamp(min=0)) * (1 - q_b)
    stretched = (q_a + q_b - 1) * torch.log(q_scale / p_scale)
    return torch.where(covered, kl_beta(p_a, p_b, q_a, q_b) + moved + stretched, math.inf)


def beta_log_shift(a: Tensor, b: Tensor, shift: Tensor) -> Tensor:
    """E log(1 + shift / x) of x ~ Beta(a, b), by the trapezoid rule in t, logit x = mode + width * sinh(t)."""
    a, b, shift = in_one_shape(a, b, shift)
    fixed_a, fixed_b = a.detach(), b.detach()
    width = torch.sqrt(1 / fixed_a + 1 / fixed_b)
    end = torch.asinh(9 + 40 / (torch.minimum(fixed_a, fixed_b) * width)).unsqueeze(-1)
    t = end * (torch.arange(257, dtype=a.dtype, device=a.device) / 128 - 1)
    logit = torch.log(fixed_a / fixed_b).unsqueeze(-1) + width.unsqueeze(-1) * torch.sinh(t)
    log_x, log_rest = F.logsigmoid(logit), F.logsigmoid(-logit)
    log_mass = a.unsqueeze(-1) * log_x + b.unsqueeze(-1) * log_rest + torch.log(torch.cosh(t))
    grows = shift.unsqueeze(-1) > 0
    log_ratio = torch.log(torch.where(grows, shift.unsqueeze(-1), 1.0)) - log_x
    gain = torch.where(grows, F.softplus(log_ratio), 0.0)
    return (torch.softmax(log_mass, -1) * gain).sum(-1)


def kl_dirichlet(p_concentration: Tensor, q_concentration: Tensor) -> Tensor:
    """KL(p || q) of Dirichlet distributions: one value an event."""
    p_concentration, q_concentration = as_tensors(p_concentration, q_concentration)
    totals = log_gamma_bregman(p_concentration.sum(-1), q_concentration.sum(-1))
    return log_gamma_bregman(p_concentration, q_concentration).sum(-1) - totals


def kl_wishart(p_df: Tensor, p_scale_tril: Tensor, q_df: Tensor, q_scale_tril: Tensor) -> Tensor:
    """KL(p || q) of Wishart distributions: one value a matrix."""
    p_df, p_scale_tril, q_df, q_scale_tril = as_tensors(p_df, p_scale_tril, q_df, q_scale_tril)
    whitened = solve_lower(q_scale_tril, p_scale_tril)
    log_scales = torch.log(p_scale_tril.diagonal(0, -2, -1) / q_scale_tril.diagonal(0, -2, -1))
    spread = exp_gap(2 * log_scales).sum(-1) + whitened.tril(-1).square().sum((-2, -1))
    steps = torch.arange(p_scale_tril.shape[-1], dtype=p_df.dtype, device=p_df.device)
    gammas = log_gamma_bregman((p_df.unsqueeze(-1) - steps) / 2, (q_df.unsqueeze(-1) - steps) / 2)
    return 0.5 * p_df * spread + (p_df - q_df) * log_scales.sum(-1) + gammas.sum(-1)


def kl_lkj(p_dim: int, p_concentration: Tensor, q_dim: int, q_concentration: Tensor) -> Tensor:
    """KL(p || q) of LKJ correlation matrices of one size, and of their Cholesky factors: one value a matrix."""
    p_concentration, q_concentration = as_tensors(p_concentration, q_concentration)
    p, q = p_concentration.unsqueeze(-1), q_concentration.unsqueeze(-1)
    steps = 0.5 * torch.arange(p_dim - 1, dtype=p.dtype, device=p.device)
    ends = log_gamma_bregman(p + 0.5 * (p_dim - 1), q + 0.5 * (p_dim - 1))
    return (log_gamma_bregman(p + steps, q + steps) - ends).sum(-1)


def kl_lkj_corr_cholesky(p_d: int, p_eta: Tensor, q_d: int, q_eta: Tensor) -> Tensor:
    """KL(p || q) of Cholesky factors of LKJ correlation matrices of one size: one value a matrix."""
    return kl_lkj(p_d, p_eta, q_d, q_eta)
