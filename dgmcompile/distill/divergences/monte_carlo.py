"""Estimates that need the teacher's sample only, where a divergence has no closed form.

With r = q(y) / p(y) at a sample y of p, a divergence E_p f(r) is estimated by f(r). For reverse KL and
Jensen-Shannon f is chosen with f(1) = f'(1) = 0, which makes each single estimate at least 0. They
are unbiased where q gives no mass to what p excludes; such mass is never sampled, so a sample cannot
show that reverse KL is then infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import exp_gap
from dgmcompile.distill.divergences.entry import Estimator
from dgmcompile.ir.graph import Formula


def log_density_ratio(p_log_prob: Tensor, q_log_prob: Tensor) -> Tensor:
    """log q(y) / p(y) at a sample y of p; 0 where only rounding can have led y out of p's support."""
    return torch.where(p_log_prob == -math.inf, 0.0, q_log_prob - p_log_prob)


def bounded_log_density_ratio(p_log_prob: Tensor, q_log_prob: Tensor) -> Tensor:
    """log q(y) / p(y), held where its exponential is finite: p meets a ratio above r with probability below 1 / r."""
    bound = 0.75 * math.log(torch.finfo(q_log_prob.dtype).max)
    return log_density_ratio(p_log_prob, q_log_prob).clamp(-bound, bound)


def monte_carlo_kl(p_log_prob: Tensor, q_log_prob: Tensor) -> Tensor:
    """Estimate -log r of KL(p || q), at a sample of p; at least 0 in expectation only."""
    return -log_density_ratio(p_log_prob, q_log_prob)


def monte_carlo_reverse_kl(p_log_prob: Tensor, q_log_prob: Tensor) -> Tensor:
    """Estimate r log r - r + 1 of KL(q || p), at a sample of p."""
    log_ratio = bounded_log_density_ratio(p_log_prob, q_log_prob)
    return log_ratio * torch.expm1(log_ratio) - exp_gap(log_ratio)


def monte_carlo_js(p_log_prob: Tensor, q_log_prob: Tensor) -> Tensor:
    """Estimate (log(2 / (1 + r)) + r log(2 r / (1 + r))) / 2 of the Jensen-Shannon divergence, at a sample of p."""
    log_ratio = bounded_log_density_ratio(p_log_prob, q_log_prob)
    log_half = F.logsigmoid(torch.zeros_like(log_ratio))
    p_term = F.logsigmoid(-log_ratio) - log_half
    return 0.5 * (p_term + log_ratio.exp() * (F.logsigmoid(log_ratio) - log_half))


def monte_carlo_cross_entropy(q_log_prob: Tensor) -> Tensor:
    """Estimate -log q(y) of the cross-entropy, at a sample y of p."""
    return -q_log_prob


def coupled_wasserstein2(p_value: Tensor, q_value: Tensor) -> Tensor:
    """Estimate (x_p - x_q)^2 of the squared 2-Wasserstein distance, both values made from the same noise."""
    return (p_value - q_value) ** 2


_SAMPLE = "the defining expectation"
_F_DIVERGENCE = "Csiszar's f-divergence with f'(1) = 0; Schulman 2020, Approximating KL divergence"

ESTIMATORS: Mapping[str, Estimator] = {
    "kl": Estimator(Formula.of(monte_carlo_kl), _SAMPLE),
    "reverse_kl": Estimator(Formula.of(monte_carlo_reverse_kl), _F_DIVERGENCE),
    "js": Estimator(Formula.of(monte_carlo_js), _F_DIVERGENCE),
    "wasserstein2": Estimator(
        Formula.of(coupled_wasserstein2), "any coupling; the best where COMONOTONE_FAMILIES says so"
    ),
    "cross_entropy": Estimator(Formula.of(monte_carlo_cross_entropy), _SAMPLE),
}
