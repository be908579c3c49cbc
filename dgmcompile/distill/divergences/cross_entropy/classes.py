"""Cross-entropies of coins, classes and trials; for classes a ``temperature`` softens both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors, bernoulli_log_probs, ordered_log_probs, weigh


def cross_entropy_bernoulli(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of coins with logits / T, times T^2 (Hinton, Vinyals & Dean 2015, section 2)."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    p_log_probs = bernoulli_log_probs(p_logits / temperature)
    q_log_probs = bernoulli_log_probs(q_logits / temperature)
    return -(temperature**2) * weigh(p_log_probs.exp(), q_log_probs).sum(-1)


def cross_entropy_categorical(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy over the last dim's classes with logits / T, times T^2 (Hinton, Vinyals & Dean 2015, section 2)."""
    p_probs = torch.softmax(p_logits / temperature, -1)
    q_log_probs = F.log_softmax(q_logits / temperature, -1)
    return -(temperature**2) * weigh(p_probs, q_log_probs).sum(-1)


def cross_entropy_ordered_logistic(
    p_predictor: Tensor, p_cutpoints: Tensor, q_predictor: Tensor, q_cutpoints: Tensor
) -> Tensor:
    """Cross-entropy over the intervals between cutpoints."""
    p_predictor, p_cutpoints, q_predictor, q_cutpoints = as_tensors(p_predictor, p_cutpoints, q_predictor, q_cutpoints)
    p_probs = ordered_log_probs(p_predictor, p_cutpoints).exp()
    return -weigh(p_probs, ordered_log_probs(q_predictor, q_cutpoints)).sum(-1)


def cross_entropy_geometric(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Cross-entropy of the failures before a success: one success, and as many failures as p expects."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return weigh(torch.exp(-p_logits), -F.logsigmoid(-q_logits)) - F.logsigmoid(q_logits)
