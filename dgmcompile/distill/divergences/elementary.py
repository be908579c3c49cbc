"""Small formulas that the divergences and log-densities are written in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EULER_GAMMA = 0.5772156649015329


def as_tensors(*values: Tensor | float) -> tuple[Tensor, ...]:
    """Plain numbers as tensors, of the dtype and on the device of the first floating tensor beside them."""
    like = next((v for v in values if isinstance(v, Tensor) and v.is_floating_point()), None)
    if like is None:
        like = torch.empty(())
    return tuple(v if isinstance(v, Tensor) else like.new_tensor(v) for v in values)


def are_one_number(p: Tensor | float, q: Tensor | float) -> bool:
    """Are both plain numbers, and equal? Then what only serves two that differ need not be computed."""
    return not isinstance(p, Tensor) and not isinstance(q, Tensor) and p == q


def exp_gap(x: Tensor) -> Tensor:
    """e^x - 1 - x: how far exp lies above its tangent at 0; at least 0, and 0 at 0."""
    return torch.expm1(x) - x


def weigh(weight: Tensor, value: Tensor) -> Tensor:
    """weight * value, and 0 where the weight is 0, even if the value is infinite."""
    return weight * torch.where(weight > 0, value, 0.0)


def bernoulli_log_probs(logits: Tensor) -> Tensor:
    """log P(1) and log P(0), stacked in a last dim."""
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], -1)


def ordered_log_probs(predictor: Tensor, cutpoints: Tensor) -> Tensor:
    """log P of the intervals between cutpoints for a logistic variable around the predictor, in a last dim.

    sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), of which nothing cancels.
    """
    below = cutpoints - predictor.unsqueeze(-1)
    gaps = torch.log(-torch.expm1(below[..., :-1] - below[..., 1:]))
    return F.pad(F.logsigmoid(below), (0, 1)) + F.pad(F.logsigmoid(-below), (1, 0)) + F.pad(gaps, (1, 1))


def relative_entropy(p_log_probs: Tensor, q_log_probs: Tensor) -> Tensor:
    """sum_k p_k log(p_k / q_k) over the last dim; classes that p excludes count 0."""
    return weigh(p_log_probs.exp(), p_log_probs - q_log_probs).sum(-1)
