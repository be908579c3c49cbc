"""Log-densities of positive definite and correlation matrices, over the last two dims."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.linear import cholesky_if_any, solve_lower
from dgmcompile.distill.divergences.special import log_gamma_ratio, surface_tolerance


def cholesky_if_positive(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors, and where there are none as the matrix is not positive definite (the identity's there).

    NaN is taken for positive definite, and its factor is NaN.
    """
    unknown = matrix.isnan().any(-1).any(-1)
    asymmetry = (matrix - matrix.mT).abs().amax((-2, -1))
    _, failed = cholesky_if_any(matrix.detach())
    failed = failed | (asymmetry > surface_tolerance(matrix) * matrix.abs().amax((-2, -1)))
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    tril, _ = cholesky_if_any(torch.where((failed | unknown)[..., None, None], identity, matrix))
    return torch.where(unknown[..., None, None], math.nan, tril), failed & ~unknown


def log_prob_wishart(value: Tensor, df: Tensor, scale_tril: Tensor) -> Tensor:
    """Log-density of a Wishart distribution, over the distinct entries."""
    value, df, scale_tril = as_tensors(value, df, scale_tril)
    size = scale_tril.shape[-1]
    tril, failed = cholesky_if_positive(value)
    whitened = solve_lower(scale_tril, tril)
    log_det = whitened.diagonal(0, -2, -1).log().sum(-1)
    log_scales = scale_tril.diagonal(0, -2, -1).log().sum(-1)
    steps = torch.arange(size, dtype=df.dtype, device=df.device)
    log_gammas = torch.lgamma((df.unsqueeze(-1) - steps) / 2).sum(-1) + 0.25 * size * (size - 1) * math.log(math.pi)
    norm = 0.5 * size * df * math.log(2) + log_gammas + (size + 1) * log_scales
    log_density = (df - size - 1) * log_det - 0.5 * whitened.square().sum((-2, -1)) - norm
    return torch.where(failed, -math.inf, log_density)


def log_lkj_normaliser(concentration: Tensor, dim: int) -> Tensor:
    """log of the integral of det^(concentration - 1) over all correlation matrices."""
    steps = 0.5 * torch.arange(1, dim, dtype=concentration.dtype, device=concentration.device)
    base = concentration.unsqueeze(-1) + 0.5 * (dim - 1) - steps
    return 0.25 * dim * (dim - 1) * math.log(math.pi) - log_gamma_ratio(base, steps.expand(base.shape)).sum(-1)


def log_prob_lkj_cholesky(value: Tensor, dim: int, concentration: Tensor) -> Tensor:
    """Log-density of the Cholesky factor of an LKJ correlation matrix, over its entries below the diagonal."""
    value, concentration = as_tensors(value, concentration)
    diagonal = value.diagonal(0, -2, -1)
    tolerance = surface_tolerance(value)
    outside = (diagonal <= 0).any(-1) | (value.triu(1).abs() > tolerance).any(-1).any(-1)
    outside = outside | ((value.square().sum(-1) - 1).abs() > tolerance).any(-1)
    steps = torch.arange(dim, dtype=value.dtype, device=value.device)
    powers = 2 * concentration.unsqueeze(-1) + dim - 3 - steps
    log_diagonal = torch.log(torch.where(diagonal <= 0, 1.0, diagonal))
    log_density = (powers * log_diagonal)[..., 1:].sum(-1) - log_lkj_normaliser(concentration, dim)
    return torch.where(outside, -math.inf, log_density)


def log_prob_lkj_corr_cholesky(value: Tensor, d: int, eta: Tensor) -> Tensor:
    """Log-density of the Cholesky factor of an LKJ correlation matrix, over its entries below the diagonal."""
    return log_prob_lkj_cholesky(value, d, eta)


def log_prob_lkj(value: Tensor, dim: int, concentration: Tensor) -> Tensor:
    """Log-density of an LKJ correlation matrix, over its entries below the diagonal."""
    value, concentration = as_tensors(value, concentration)
    tril, failed = cholesky_if_positive(value)
    outside = failed | ((value.diagonal(0, -2, -1) - 1).abs() > surface_tolerance(value)).any(-1)
    log_det = 2 * tril.diagonal(0, -2, -1).log().sum(-1)
    log_density = (concentration - 1) * log_det - log_lkj_normaliser(concentration, dim)
    return torch.where(outside, -math.inf, log_density)
