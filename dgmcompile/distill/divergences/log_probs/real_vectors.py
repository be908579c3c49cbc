"""Log-densities of real vectors, over the last dim: normals, and mixtures of them by scale or by place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.linear import (
    cholesky_if_any,
    expand_like,
    in_one_shape,
    low_rank_log_det,
    low_rank_whitened_square,
    solve_lower,
)
from dgmcompile.distill.divergences.special import log_gamma_ratio


def whitened_square(value: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    """|scale_tril^-1 (value - loc)|^2."""
    shift = expand_like(value - loc, scale_tril[..., 0])
    return solve_lower(scale_tril, shift.unsqueeze(-1)).square().sum((-2, -1))


def log_prob_multivariate_normal(value: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    """Log-density of a normal with a Cholesky factor: one value an event."""
    log_scales = scale_tril.diagonal(0, -2, -1).log()
    constant = 0.5 * log_scales.shape[-1] * math.log(2 * math.pi)
    return -0.5 * whitened_square(value, loc, scale_tril) - log_scales.sum(-1) - constant


def log_prob_avf_multivariate_normal(value: Tensor, loc: Tensor, scale_tril: Tensor, control_var: Tensor) -> Tensor:
    """Log-density of a normal with a Cholesky factor; the control variate concerns gradients of draws only."""
    return log_prob_multivariate_normal(value, loc, scale_tril)


def log_prob_nan_masked_multivariate_normal(value: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    """Log-density of what is not missing of a normal (NaN or infinite is); 0 where all is.

    Coordinates that are missing are exchanged for independent standard ones at 0.
    """
    seen = value.isfinite()
    covariance = scale_tril @ scale_tril.mT
    both = seen.unsqueeze(-1) & seen.unsqueeze(-2)
    tril = torch.where(both, covariance, 0.0) + (~seen).to(covariance.dtype).diag_embed()
    tril, _ = cholesky_if_any(tril)  # NaN where parameters are
    shift = torch.where(seen, torch.where(seen, value, 0.0) - loc, 0.0)
    square = solve_lower(tril, shift.unsqueeze(-1)).square().sum((-2, -1))
    log_det = tril.diagonal(0, -2, -1).log().sum(-1)
    return -0.5 * (square + seen.to(square.dtype).sum(-1) * math.log(2 * math.pi)) - log_det


def log_prob_low_rank_multivariate_normal(value: Tensor, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor) -> Tensor:
    """Log-density of a normal with covariance W W' + D, linear in the event's size: one value an event."""
    shift = expand_like(value - loc, cov_diag)
    square = low_rank_whitened_square(cov_factor, cov_diag, shift.unsqueeze(-1))
    log_det = low_rank_log_det(cov_factor, cov_diag)
    return -0.5 * (square + log_det + cov_diag.shape[-1] * math.log(2 * math.pi))


def log_prob_multivariate_student_t(value: Tensor, df: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    """Log-density of Student's t with a Cholesky factor: one value an event."""
    value, df, loc, scale_tril = as_tensors(value, df, loc, scale_tril)
    half = 0.5 * scale_tril.shape[-1]
    log_scales = scale_tril.diagonal(0, -2, -1).log().sum(-1)
    norm = log_scales + half * torch.log(math.pi * df) - log_gamma_ratio(df / 2, torch.full_like(df, half))
    return -(0.5 * df + half) * torch.log1p(whitened_square(value, loc, scale_tril) / df) - norm


def log_prob_mixture_of_diag_normals(
    value: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    """Log-density of a mixture of independent normals; components lie along the last dim but one."""
    squares = ((value.unsqueeze(-2) - locs) / coord_scale).square().sum(-1)
    log_densities = -0.5 * squares - torch.log(coord_scale).sum(-1)
    mixed = torch.logsumexp(F.log_softmax(component_logits, -1) + log_densities, -1)
    return mixed - 0.5 * locs.shape[-1] * math.log(2 * math.pi)


def log_prob_mixture_of_diag_normals_shared_covariance(
    value: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    """Log-density of a mixture of independent normals with one scale for all components."""
    return log_prob_mixture_of_diag_normals(value, locs, coord_scale.unsqueeze(-2), component_logits)


def log_prob_gaussian_scale_mixture(
    value: Tensor, coord_scale: Tensor, component_logits: Tensor, component_scale: Tensor
) -> Tensor:
    """Log-density of a mixture of normals around 0 that differ by a factor."""
    scales = component_scale.unsqueeze(-1) * coord_scale.unsqueeze(-2)
    return log_prob_mixture_of_diag_normals(value, torch.zeros_like(scales), scales, component_logits)


def log_prob_grouped_normal_normal(
    value: Tensor, prior_loc: Tensor, prior_scale: Tensor, obs_scale: Tensor, group_idx: Tensor
) -> Tensor:
    """Log-density of noisy values around the unknown means of their groups, these integrated out.

    Within a group: the values around their weighted mean, and this mean around the prior's.
    """
    prior_loc, prior_scale = in_one_shape(prior_loc, prior_scale)
    obs_scale, group_idx = expand_like(obs_scale, value), group_idx.expand(value.shape[-1])
    shift = value - prior_loc[..., group_idx]
    weights = obs_scale**-2
    groups = prior_loc.shape[-1]
    total = sums_of_groups(weights, group_idx, groups)
    mean = sums_of_groups(shift * weights, group_idx, groups) / torch.where(total == 0, 1.0, total)
    within = ((shift - mean[..., group_idx]) / obs_scale).square().sum(-1)
    inflation = 1 + prior_scale**2 * total
    between = (mean**2 * total / inflation + torch.log(inflation)).sum(-1)
    constant = torch.log(obs_scale).sum(-1) + 0.5 * value.shape[-1] * math.log(2 * math.pi)
    return -0.5 * (within + between) - constant


def sums_of_groups(x: Tensor, group_idx: Tensor, groups: int) -> Tensor:
    """Sums over the last dim, for each group."""
    return torch.zeros_like(x[..., :1]).expand(*x.shape[:-1], groups).index_add(-1, group_idx, x)
