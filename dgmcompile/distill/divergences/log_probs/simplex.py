"""Log-densities of probabilities: of all but one coordinate, over the last dim."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.linear import in_one_shape
from dgmcompile.distill.divergences.log_probs.real_line import log_prob_normal
from dgmcompile.distill.divergences.special import log_power_of_zero, multinomial_term, surface_tolerance


def is_off_the_simplex(value: Tensor) -> Tensor:
    """Is a coordinate negative, or the sum not 1 but for rounding? NaN is on it."""
    return (value < 0).any(-1) | ((value.sum(-1) - 1).abs() > surface_tolerance(value))


def log_prob_dirichlet(value: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of a Dirichlet distribution; where a coordinate is 0, what the density tends to."""
    value, concentration = as_tensors(value, concentration)
    value, concentration = in_one_shape(value, concentration)
    probs = torch.where(value <= 0, 1.0, value)
    log_probs = torch.log(probs)
    total = concentration.sum(-1)
    term = multinomial_term(concentration, probs, log_probs) + total * (probs.sum(-1) - 1)
    log_density = term + torch.log(concentration).sum(-1) - torch.log(total) - log_probs.sum(-1)
    at_zero = torch.where(value == 0, log_power_of_zero(concentration - 1), 0.0)
    infinite = at_zero.sum(-1)
    log_density = torch.where(infinite == 0, log_density, infinite)
    return torch.where(is_off_the_simplex(value), -math.inf, log_density)


def log_prob_logistic_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of normals that break a stick, each its share of what is left.

    A coordinate that is 0 is one that was rounded: it counts as the smallest number above.
    """
    value, loc, scale = as_tensors(value, loc, scale)
    parts = value.clamp(min=torch.finfo(value.dtype).tiny)
    left_over = parts.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    log_part, log_left = torch.log(parts[..., :-1]), torch.log(left_over)
    count = log_part.shape[-1]
    pieces = count - torch.arange(count, dtype=value.dtype, device=value.device)
    log_density = log_prob_normal(log_part - log_left + torch.log(pieces), loc, scale)
    log_jacobian = log_part + log_left - torch.log(parts[..., :-1] + left_over)
    return torch.where(is_off_the_simplex(value), -math.inf, (log_density - log_jacobian).sum(-1))


def log_prob_relaxed_one_hot_categorical(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    """Log-density of a Gumbel-softmax variable: Maddison, Mnih & Teh 2017, arXiv:1611.00712, section 3.2.

    The temperature broadcasts against the logits, as in torch. A coordinate that is 0 is one that was
    rounded: it counts as the smallest number above.
    """
    value, temperature, logits = as_tensors(value, temperature, logits)
    log_value = torch.log(value.clamp(min=torch.finfo(value.dtype).tiny))
    score = logits - temperature * log_value
    count = score.shape[-1]
    score = torch.log_softmax(score, -1) - log_value + (1 - 1 / count) * torch.log(temperature)
    log_density = score.sum(-1) + math.lgamma(count)
    return torch.where(is_off_the_simplex(value), -math.inf, log_density)
