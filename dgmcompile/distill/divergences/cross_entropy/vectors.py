"""Cross-entropies of normal vectors and of directions: one value an event."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.linear import expand_like, low_rank_log_det, low_rank_second_moment, solve_lower
from dgmcompile.distill.divergences.special import langevin_ratio, log_sinhc, scaled_bessel_0, scaled_bessel_1


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


def cross_entropy_von_mises(p_loc: Tensor, p_concentration: Tensor, q_loc: Tensor, q_concentration: Tensor) -> Tensor:
    """Cross-entropy of angles."""
    p_loc, p_concentration, q_loc, q_concentration = as_tensors(p_loc, p_concentration, q_loc, q_concentration)
    length = scaled_bessel_1(p_concentration) / scaled_bessel_0(p_concentration)
    fall = 1 - length + 2 * length * torch.sin((p_loc - q_loc) / 2) ** 2
    return torch.log(2 * math.pi * scaled_bessel_0(q_concentration)) + q_concentration * fall


def cross_entropy_von_mises_3d(p_concentration: Tensor, q_concentration: Tensor) -> Tensor:
    """Cross-entropy of directions in space."""
    p_concentration, q_concentration = as_tensors(p_concentration, q_concentration)
    along = (p_concentration * q_concentration).sum(-1) * langevin_ratio(p_concentration.square().sum(-1))
    return log_sinhc(q_concentration.square().sum(-1)) + math.log(4 * math.pi) - along
