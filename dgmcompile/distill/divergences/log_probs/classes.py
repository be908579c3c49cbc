"""Log-probabilities of coins, classes and points."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors, ordered_log_probs, weigh
from dgmcompile.distill.divergences.linear import expand_like
from dgmcompile.distill.divergences.log_probs.interval import log_prob_relaxed_bernoulli
from dgmcompile.distill.divergences.log_probs.simplex import log_prob_relaxed_one_hot_categorical


def log_prob_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a coin's 0 or 1."""
    value, logits = as_tensors(value, logits)
    excluded = torch.where(value.isnan(), math.nan, -math.inf).to(logits.dtype)
    return torch.where(value == 1, F.logsigmoid(logits), torch.where(value == 0, F.logsigmoid(-logits), excluded))


def log_prob_of_class(value: Tensor, log_probs: Tensor) -> Tensor:
    """The entry of the last dim of ``log_probs`` that ``value`` is the index of."""
    index = value.long()
    inside = (index >= 0) & (index < log_probs.shape[-1]) & (index == value)
    index = torch.where(inside, index, 0).unsqueeze(-1)
    log_probs = expand_like(log_probs, index)
    log_prob = log_probs.gather(-1, expand_like(index, log_probs[..., :1])).squeeze(-1)
    excluded = torch.where(value.isnan(), math.nan, -math.inf).to(log_prob.dtype)
    return torch.where(inside, log_prob, excluded)


def log_prob_categorical(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a class by its index into the last dim of the logits."""
    return log_prob_of_class(value, F.log_softmax(logits, -1))


def log_prob_ordered_logistic(value: Tensor, predictor: Tensor, cutpoints: Tensor) -> Tensor:
    """Log-probability of a class by its index, where a noisy predictor falls between two cutpoints."""
    predictor, cutpoints = as_tensors(predictor, cutpoints)
    return log_prob_of_class(value, ordered_log_probs(predictor, cutpoints))


def log_prob_one_hot_categorical(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of a class by its one-hot vector."""
    one_hot = (((value == 0) | (value == 1)).all(-1)) & (value.sum(-1) == 1)
    excluded = torch.where(value.isnan().any(-1), math.nan, -math.inf).to(logits.dtype)
    return torch.where(one_hot, weigh(value, F.log_softmax(logits, -1)).sum(-1), excluded)


def log_prob_relaxed_bernoulli_straight_through(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of the 0 or 1 that is drawn; for a value between, the density before it is rounded."""
    value, temperature, logits = as_tensors(value, temperature, logits)
    hard = (value == 0) | (value == 1)
    soft = log_prob_relaxed_bernoulli(torch.where(hard, 0.5, value), temperature, logits)
    return torch.where(hard, log_prob_bernoulli(torch.where(hard, value, 0.0), logits), soft)


def log_prob_relaxed_one_hot_categorical_straight_through(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of the one-hot vector that is drawn; for one between, the density before it is rounded."""
    value, temperature, logits = as_tensors(value, temperature, logits)
    hard = (value.amax(-1) == 1) & (value.sum(-1) == 1)
    soft = log_prob_relaxed_one_hot_categorical(value, temperature, logits)
    return torch.where(hard, log_prob_one_hot_categorical(value, logits), soft)


def log_prob_empirical(value: Tensor, samples: Tensor, log_weights: Tensor) -> Tensor:
    """Log of the weight of all samples that equal the value; they lie along the last dim of the weights."""
    event_dim = samples.dim() - log_weights.dim()
    equal = samples == value.unsqueeze(-1 - event_dim)
    for _ in range(event_dim):
        equal = equal.all(-1)
    found = equal.any(-1)
    kept = equal | ~found.unsqueeze(-1)
    log_prob = torch.logsumexp(torch.where(kept, F.log_softmax(log_weights, -1), -math.inf), -1)
    return torch.where(found, log_prob, -math.inf)


def log_prob_delta(value: Tensor, v: Tensor) -> Tensor:
    """Log-probability of a point: 0 there."""
    value, v = as_tensors(value, v)
    return torch.where(value == v, torch.zeros_like(value), -math.inf)
