"""The Binomial's inverse CDF, with a fixed amount of work at every total count.

``P(X < s)`` is a ratio of two integrals of a Beta density (DLMF 8.17.5), which quadrature gives to
about 1e-13 for any total count up to 1e9 (1e-10 at 1e12) without a log-gamma; a Cornish-Fisher guess
says at which ``s`` to start, and the next 32 probabilities follow from each other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.discrete import logits_from_probs
from dgmcompile.reparam.laws import STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform, tensor_or_number


def quadrature_on_unit_interval(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Fejer's first rule on (0, 1)."""
    angle = (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) * (math.pi / count)
    order = torch.arange(1, count // 2 + 1, dtype=like.dtype, device=like.device)
    terms = torch.cos(2 * angle.unsqueeze(-1) * order) / (4 * order**2 - 1)
    return torch.cos(angle / 2) ** 2, (1 - 2 * terms.sum(-1)) / count


def beta_integral(p: Tensor, q: Tensor, step: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Integral of t^a (1-t)^b between p and p + step, divided by p^a q^b, where q = 1 - p."""
    nodes, weights = quadrature_on_unit_interval(48, p)
    t = step.unsqueeze(-1) * nodes
    left, right = torch.log1p(t / p.unsqueeze(-1)), torch.log1p(-t / q.unsqueeze(-1))
    integrand = torch.exp(a.unsqueeze(-1) * left + b.unsqueeze(-1) * right)
    return torch.abs(step) * (weights * integrand).sum(-1)


def binomial_from_noise(noise: Tensor, total_count: Tensor | float, logits: Tensor | float) -> Tensor:
    """Inverse CDF: the smallest count whose CDF reaches the noise."""
    logits = tensor_or_number(logits)
    n = (total_count + torch.zeros_like(noise)).detach()
    log_odds = (logits + torch.zeros_like(noise)).detach().clamp(-100.0, 100.0)  # beyond, the count is 0 or n
    p, q = torch.sigmoid(log_odds), torch.sigmoid(-log_odds)

    # Cornish-Fisher: never off by 16, half of the window that is searched.
    z = torch.special.ndtri(noise)
    guess = n * p + torch.sqrt(n * p * q) * z + (q - p) * (z**2 - 1) / 6
    first = torch.minimum((torch.floor(guess) - 16).clamp(min=0), n)

    # P(X < s) = P(Beta(s, n - s + 1) > p); all but 1e-16 of the Beta lies within `reach` of its mean.
    s = first.clamp(min=1)
    mean = s / (n + 1)
    reach = 8.6 * torch.sqrt(mean * (1 - mean) / (n + 2)) + 37 / (n + 2)
    left = beta_integral(p, q, -torch.minimum(p, p - mean + reach).clamp(min=0), s - 1, n - s)
    right = beta_integral(p, q, torch.minimum(q, mean - p + reach).clamp(min=0), s - 1, n - s)
    below = torch.where(first > 0, right / (left + right), 0.0)
    log_first = torch.where(first > 0, torch.log(p / s / (left + right)), n * F.logsigmoid(-log_odds))

    # P(X = k + 1) / P(X = k) = (n - k) / (k + 1) * p / q
    k = first.unsqueeze(-1) + torch.arange(31, dtype=noise.dtype, device=noise.device)
    log_ratio = torch.log((n.unsqueeze(-1) - k).clamp(min=0) / (k + 1)) + log_odds.unsqueeze(-1)
    log_probs = log_first.unsqueeze(-1) + F.pad(log_ratio.cumsum(-1), (1, 0))
    cdf = below.unsqueeze(-1) + torch.exp(log_probs).cumsum(-1)
    return torch.minimum(first + (cdf < noise.unsqueeze(-1)).sum(-1), n).to(logits.dtype)


BINOMIAL = NoiseTransform(
    family="Binomial",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("total_count", "logits"),
    forward=Formula.of(binomial_from_noise),
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    source="inverse CDF through the incomplete beta function, DLMF 8.17.5; quadrature: Waldvogel 2006, BIT 46, 195-202",
)
