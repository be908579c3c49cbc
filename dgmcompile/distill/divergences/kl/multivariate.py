"""KL(p || q) of normal vectors: one value an event."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors, exp_gap
from dgmcompile.distill.divergences.kl.line import kl_normal
from dgmcompile.distill.divergences.linear import (
    expand_like,
    low_rank_log_det,
    low_rank_second_moment,
    low_rank_whitened_square,
    solve_lower,
)


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


def kl_multivariate_normal_low_rank_multivariate_normal(
    p_loc: Tensor, p_scale_tril: Tensor, q_loc: Tensor, q_cov_factor: Tensor, q_cov_diag: Tensor
) -> Tensor:
    """KL(p || q) of a normal with a Cholesky factor from one with covariance W W' + D."""
    log_det = low_rank_log_det(q_cov_factor, q_cov_diag) - 2 * p_scale_tril.diagonal(0, -2, -1).log().sum(-1)
    shift = expand_like(p_loc - q_loc, q_cov_diag)
    square = low_rank_whitened_square(q_cov_factor, q_cov_diag, shift.unsqueeze(-1))
    spread = low_rank_whitened_square(q_cov_factor, q_cov_diag, p_scale_tril)
    return 0.5 * (log_det + square + spread - q_cov_diag.shape[-1])


def kl_low_rank_multivariate_normal_multivariate_normal(
    p_loc: Tensor, p_cov_factor: Tensor, p_cov_diag: Tensor, q_loc: Tensor, q_scale_tril: Tensor
) -> Tensor:
    """KL(p || q) of a normal with covariance W W' + D from one with a Cholesky factor."""
    log_det = 2 * q_scale_tril.diagonal(0, -2, -1).log().sum(-1) - low_rank_log_det(p_cov_factor, p_cov_diag)
    parts = ((p_loc - q_loc).unsqueeze(-1), p_cov_factor, p_cov_diag.sqrt().diag_embed())
    shift, factor, rest = (solve_lower(q_scale_tril, part).square().sum((-2, -1)) for part in parts)
    return 0.5 * (log_det + shift + factor + rest - p_cov_diag.shape[-1])


def kl_logistic_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of logistic normals: that of the normals."""
    return kl_normal(p_loc, p_scale, q_loc, q_scale).sum(-1)
