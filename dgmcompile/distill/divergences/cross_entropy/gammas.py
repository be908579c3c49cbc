"""Cross-entropies of what is made of Gamma distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.kl.gammas import kl_affine_beta
from dgmcompile.distill.divergences.linear import solve_lower
from dgmcompile.distill.divergences.moments import beta_mean_log, beta_negentropy, beta_surprise, gamma_surprise


def cross_entropy_gamma(p_concentration: Tensor, p_rate: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """Cross-entropy of Gamma distributions."""
    p_concentration, p_rate, q_concentration, q_rate = as_tensors(p_concentration, p_rate, q_concentration, q_rate)
    mean_log = torch.digamma(p_concentration) - torch.log(p_rate)
    return gamma_surprise(p_concentration / p_rate, mean_log, q_concentration, q_rate)


def cross_entropy_inverse_gamma(
    p_concentration: Tensor, p_rate: Tensor, q_concentration: Tensor, q_rate: Tensor
) -> Tensor:
    """Cross-entropy of inverse Gamma distributions: that of the inverses, and twice the mean log-value."""
    p_concentration, p_rate, q_concentration, q_rate = as_tensors(p_concentration, p_rate, q_concentration, q_rate)
    of_inverses = cross_entropy_gamma(p_concentration, p_rate, q_concentration, q_rate)
    return of_inverses + 2 * (torch.log(p_rate) - torch.digamma(p_concentration))


def cross_entropy_chi2(p_df: Tensor, q_df: Tensor) -> Tensor:
    """Cross-entropy of chi-squared distributions."""
    p_df, q_df = as_tensors(p_df, q_df)
    return cross_entropy_gamma(p_df / 2, torch.full_like(p_df, 0.5), q_df / 2, torch.full_like(q_df, 0.5))


def cross_entropy_beta(
    p_concentration1: Tensor, p_concentration0: Tensor, q_concentration1: Tensor, q_concentration0: Tensor
) -> Tensor:
    """Cross-entropy of Beta distributions."""
    p_a, p_b, q_a, q_b = as_tensors(p_concentration1, p_concentration0, q_concentration1, q_concentration0)
    return beta_surprise(beta_mean_log(p_a, p_b), beta_mean_log(p_b, p_a), q_a, q_b)


def cross_entropy_affine_beta(
    p_concentration1: Tensor,
    p_concentration0: Tensor,
    p_loc: Tensor,
    p_scale: Tensor,
    q_concentration1: Tensor,
    q_concentration0: Tensor,
    q_loc: Tensor,
    q_scale: Tensor,
) -> Tensor:
    """Cross-entropy of Beta distributions on [loc, loc + scale]; infinite unless q's interval covers that of p."""
    p_a, p_b, p_loc, p_scale, q_a, q_b, q_loc, q_scale = as_tensors(
        p_concentration1, p_concentration0, p_loc, p_scale, q_concentration1, q_concentration0, q_loc, q_scale
    )
    kl = kl_affine_beta(p_a, p_b, p_loc, p_scale, q_a, q_b, q_loc, q_scale)
    return kl - beta_negentropy(p_a, p_b) + torch.log(p_scale)


def cross_entropy_dirichlet(p_concentration: Tensor, q_concentration: Tensor) -> Tensor:
    """Cross-entropy of Dirichlet distributions: one value an event."""
    p_concentration, q_concentration = as_tensors(p_concentration, q_concentration)
    mean_log = torch.digamma(p_concentration) - torch.digamma(p_concentration.sum(-1, keepdim=True))
    log_norm = torch.lgamma(q_concentration).sum(-1) - torch.lgamma(q_concentration.sum(-1))
    return log_norm - ((q_concentration - 1) * mean_log).sum(-1)


def cross_entropy_wishart(p_df: Tensor, p_scale_tril: Tensor, q_df: Tensor, q_scale_tril: Tensor) -> Tensor:
    """Cross-entropy of Wishart distributions: one value a matrix."""
    p_df, p_scale_tril, q_df, q_scale_tril = as_tensors(p_df, p_scale_tril, q_df, q_scale_tril)
    size = p_scale_tril.shape[-1]
    whitened = solve_lower(q_scale_tril, p_scale_tril)
    steps = torch.arange(size, dtype=p_df.dtype, device=p_df.device)
    p_log_det = 2 * p_scale_tril.diagonal(0, -2, -1).log().sum(-1) + size * math.log(2)
    mean_log_det = p_log_det + torch.digamma((p_df.unsqueeze(-1) - steps) / 2).sum(-1)
    q_log_det = 2 * q_scale_tril.diagonal(0, -2, -1).log().sum(-1) + size * math.log(2)
    log_gammas = torch.lgamma((q_df.unsqueeze(-1) - steps) / 2).sum(-1) + 0.25 * size * (size - 1) * math.log(math.pi)
    norm = 0.5 * q_df * q_log_det + log_gammas
    return norm - 0.5 * (q_df - size - 1) * mean_log_det + 0.5 * p_df * whitened.square().sum((-2, -1))
