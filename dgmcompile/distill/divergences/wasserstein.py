"""Closed forms of the squared 2-Wasserstein distance, min over couplings of E |x_p - x_q|^2.

Squared, so that it is smooth at p = q, and a plain squared error for what is deterministic. On the
line the best coupling gives both the same quantile. Unlike KL it depends on the scale of the values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import EULER_GAMMA, as_tensors
from dgmcompile.distill.divergences.entry import Divergence
from dgmcompile.distill.divergences.linear import cholesky, expand_like, nearest_rotation
from dgmcompile.ir.graph import Formula


def wasserstein2_location_scale(loc_gap: Tensor, scale_gap: Tensor, mean: float, variance: float) -> Tensor:
    """E (loc_gap + scale_gap * x)^2 of a standard x: two laws of one shape differ by that at each quantile."""
    return (loc_gap + mean * scale_gap) ** 2 + variance * scale_gap**2


def wasserstein2_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of normals."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return wasserstein2_location_scale(p_loc - q_loc, p_scale - q_scale, mean=0, variance=1)


def wasserstein2_laplace(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of Laplace distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return wasserstein2_location_scale(p_loc - q_loc, p_scale - q_scale, mean=0, variance=2)


def wasserstein2_gumbel(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of Gumbel distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return wasserstein2_location_scale(p_loc - q_loc, p_scale - q_scale, mean=EULER_GAMMA, variance=math.pi**2 / 6)


def wasserstein2_logistic(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of logistic distributions."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return wasserstein2_location_scale(p_loc - q_loc, p_scale - q_scale, mean=0, variance=math.pi**2 / 3)


def wasserstein2_soft_laplace(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of hyperbolic secants."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    return wasserstein2_location_scale(p_loc - q_loc, p_scale - q_scale, mean=0, variance=math.pi**2 / 4)


def wasserstein2_uniform(p_low: Tensor, p_high: Tensor, q_low: Tensor, q_high: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of uniforms."""
    p_low, p_high, q_low, q_high = as_tensors(p_low, p_high, q_low, q_high)
    width_gap = (p_high - p_low) - (q_high - q_low)
    return wasserstein2_location_scale(p_low - q_low, width_gap, mean=1 / 2, variance=1 / 12)


def wasserstein2_exponential(p_rate: Tensor, q_rate: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of exponentials."""
    p_rate, q_rate = as_tensors(p_rate, q_rate)
    return 2 * (1 / p_rate - 1 / q_rate) ** 2


def wasserstein2_half_normal(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of half-normals."""
    p_scale, q_scale = as_tensors(p_scale, q_scale)
    return (p_scale - q_scale) ** 2


def wasserstein2_log_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of log-normals: gap of the means, then variances less twice the covariance."""
    p_loc, p_scale, q_loc, q_scale = as_tensors(p_loc, p_scale, q_loc, q_scale)
    p_mean = torch.exp(p_loc + p_scale * p_scale / 2)
    q_mean = torch.exp(q_loc + q_scale * q_scale / 2)
    variances = p_mean * p_mean * torch.expm1(p_scale * p_scale) + q_mean * q_mean * torch.expm1(q_scale * q_scale)
    return (p_mean - q_mean) ** 2 + variances - 2 * (p_mean * q_mean * torch.expm1(p_scale * q_scale))


def wasserstein2_pareto(p_scale: Tensor, p_alpha: Tensor, q_scale: Tensor, q_alpha: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of Pareto distributions; infinite where one of two has alpha <= 2."""
    p_scale, p_alpha, q_scale, q_alpha = as_tensors(p_scale, p_alpha, q_scale, q_alpha)
    finite = (p_alpha > 2) & (q_alpha > 2)
    p_tail, q_tail = torch.where(finite, 1 / p_alpha, 0.0), torch.where(finite, 1 / q_alpha, 0.0)
    squares = p_scale * p_scale / (1 - p_tail - p_tail) + q_scale * q_scale / (1 - q_tail - q_tail)
    value = squares - 2 * (p_scale * q_scale / (1 - p_tail - q_tail))
    otherwise = torch.where((p_scale == q_scale) & (p_alpha == q_alpha), 0.0, math.inf)
    return torch.where(finite, value, otherwise.to(value.dtype))


def wasserstein2_generalized_pareto(
    p_loc: Tensor, p_scale: Tensor, p_concentration: Tensor, q_loc: Tensor, q_scale: Tensor, q_concentration: Tensor
) -> Tensor:
    """Squared 2-Wasserstein distance of generalized Pareto distributions.

    Infinite where one of two has a concentration of 1 / 2 or more. Quantiles are loc + scale * (e^(c x) - 1) / c
    of an exponential x, whose covariance with that of d is 1 / ((1 - c) (1 - d) (1 - c - d)).
    """
    p_loc, p_scale, p_concentration, q_loc, q_scale, q_concentration = as_tensors(
        p_loc, p_scale, p_concentration, q_loc, q_scale, q_concentration
    )
    finite = (p_concentration < 0.5) & (q_concentration < 0.5)
    c, d = torch.where(finite, p_concentration, 0.0), torch.where(finite, q_concentration, 0.0)
    p_mean, q_mean = p_scale / (1 - c), q_scale / (1 - d)
    variances = p_mean * p_mean / (1 - c - c) + q_mean * q_mean / (1 - d - d)
    value = (p_loc + p_mean - q_loc - q_mean) ** 2 + variances - 2 * (p_mean * q_mean / (1 - c - d))
    same = (p_loc == q_loc) & (p_scale == q_scale) & (p_concentration == q_concentration)
    return torch.where(finite, value, torch.where(same, 0.0, math.inf).to(value.dtype))


def wasserstein2_weibull(p_scale: Tensor, p_concentration: Tensor, q_scale: Tensor, q_concentration: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of Weibull distributions, whose quantiles are scale * x^(1 / concentration)."""
    p_scale, p_concentration, q_scale, q_concentration = as_tensors(p_scale, p_concentration, q_scale, q_concentration)
    p_power, q_power = 1 / p_concentration, 1 / q_concentration
    p_square = p_scale * p_scale * torch.lgamma(1 + (p_power + p_power)).exp()
    q_square = q_scale * q_scale * torch.lgamma(1 + (q_power + q_power)).exp()
    return p_square + q_square - 2 * (p_scale * q_scale * torch.lgamma(1 + (p_power + q_power)).exp())


def wasserstein2_multivariate_normal(
    p_loc: Tensor, p_scale_tril: Tensor, q_loc: Tensor, q_scale_tril: Tensor
) -> Tensor:
    """Squared 2-Wasserstein distance of normals: |loc gap|^2 + min over rotations of |A_p - A_q rotation|^2.

    The best rotation is the polar factor of A_q' A_p. As it is a minimum, the gradient is exact with
    the rotation held fixed (which leaves second derivatives out).
    """
    rotation = nearest_rotation((q_scale_tril.mT @ p_scale_tril).detach())
    gap = p_scale_tril - q_scale_tril @ rotation
    shift = expand_like(p_loc - q_loc, gap[..., 0])
    return shift.square().sum(-1) + gap.square().sum((-2, -1))


def wasserstein2_low_rank_multivariate_normal(
    p_loc: Tensor,
    p_cov_factor: Tensor,
    p_cov_diag: Tensor,
    q_loc: Tensor,
    q_cov_factor: Tensor,
    q_cov_diag: Tensor,
) -> Tensor:
    """Squared 2-Wasserstein distance of normals with covariances W W' + D, cubic in the event's size."""
    p_scale_tril = cholesky(p_cov_factor @ p_cov_factor.mT + p_cov_diag.diag_embed())
    q_scale_tril = cholesky(q_cov_factor @ q_cov_factor.mT + q_cov_diag.diag_embed())
    return wasserstein2_multivariate_normal(p_loc, p_scale_tril, q_loc, q_scale_tril)


def wasserstein2_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of coins: how often 0 and 1 must differ."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return (torch.sigmoid(p_logits) - torch.sigmoid(q_logits)).abs()


def wasserstein2_one_hot_categorical(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of one-hot vectors: two that differ are 2 apart."""
    return (torch.softmax(p_logits, -1) - torch.softmax(q_logits, -1)).abs().sum(-1)


def wasserstein2_delta(p_v: Tensor, q_v: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of points: the squared error, also of whole numbers and truth values."""
    p_v, q_v = as_tensors(p_v, q_v)
    if p_v.is_complex() or q_v.is_complex():
        return (p_v - q_v).abs() ** 2
    if not p_v.is_floating_point():
        p_v, q_v = p_v.float(), q_v.float()
    return (p_v - q_v) ** 2


_QUANTILES = "the integral of the squared difference of quantiles"
_BURES = "Bhatia, Jain & Lim 2019, On the Bures-Wasserstein distance, arXiv:1712.01504, theorem 1"

WASSERSTEIN2: dict[tuple[str, str], Divergence] = {
    ("Normal", "Normal"): Divergence(Formula.of(wasserstein2_normal), _QUANTILES),
    ("LogNormal", "LogNormal"): Divergence(Formula.of(wasserstein2_log_normal), _QUANTILES),
    ("HalfNormal", "HalfNormal"): Divergence(Formula.of(wasserstein2_half_normal), _QUANTILES),
    ("Laplace", "Laplace"): Divergence(Formula.of(wasserstein2_laplace), _QUANTILES),
    ("Gumbel", "Gumbel"): Divergence(Formula.of(wasserstein2_gumbel), _QUANTILES),
    ("Logistic", "Logistic"): Divergence(Formula.of(wasserstein2_logistic), _QUANTILES),
    ("SoftLaplace", "SoftLaplace"): Divergence(Formula.of(wasserstein2_soft_laplace), _QUANTILES),
    ("GeneralizedPareto", "GeneralizedPareto"): Divergence(Formula.of(wasserstein2_generalized_pareto), _QUANTILES),
    ("Weibull", "Weibull"): Divergence(Formula.of(wasserstein2_weibull), _QUANTILES),
    ("Uniform", "Uniform"): Divergence(Formula.of(wasserstein2_uniform), _QUANTILES),
    ("Exponential", "Exponential"): Divergence(Formula.of(wasserstein2_exponential), _QUANTILES),
    ("Pareto", "Pareto"): Divergence(Formula.of(wasserstein2_pareto), _QUANTILES),
    ("MultivariateNormal", "MultivariateNormal"): Divergence(
        Formula.of(wasserstein2_multivariate_normal), _BURES, event_dim=1
    ),
    ("LowRankMultivariateNormal", "LowRankMultivariateNormal"): Divergence(
        Formula.of(wasserstein2_low_rank_multivariate_normal), _BURES, event_dim=1
    ),
    ("Bernoulli", "Bernoulli"): Divergence(Formula.of(wasserstein2_bernoulli), _QUANTILES),
    ("OneHotCategorical", "OneHotCategorical"): Divergence(
        Formula.of(wasserstein2_one_hot_categorical), "twice the total variation", event_dim=1
    ),
    ("Delta", "Delta"): Divergence(Formula.of(wasserstein2_delta), "the only coupling"),
}
