"""Log-probabilities of matchings, normalised by a sum over all of them: of few nodes only, as they are drawn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.reparam.matching import all_one_one_logits, all_one_two_logits


def log_prob_one_one_matching(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a matching in which each destination has one source."""
    return log_prob_of_matching(value, logits, torch.logsumexp(all_one_one_logits(logits), -1), 1)


def log_prob_one_two_matching(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a matching in which each destination has two sources."""
    return log_prob_of_matching(value, logits, torch.logsumexp(all_one_two_logits(logits), -1), 2)


def log_prob_of_matching(value: Tensor, logits: Tensor, log_norm: Tensor, sources: int) -> Tensor:
    """The logits of the edges, added; each destination has so many ``sources``."""
    labels = torch.arange(logits.shape[-1], device=logits.device)
    edges = value.unsqueeze(-1) == labels
    log_prob = torch.where(edges, logits, 0.0).sum((-2, -1)) - log_norm
    matched = (edges.sum(-2) == sources).all(-1)
    excluded = torch.where(value.isnan().any(-1), math.nan, -math.inf).to(log_prob.dtype)
    return torch.where(matched, log_prob, excluded)
