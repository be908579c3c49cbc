"""Log-densities of the times at which lineages coalesce, in ascending order, over the last dim."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.linear import in_one_batch
from dgmcompile.reparam.coalescent import on_grid, passed_until


def log_prob_coalescent_times(value: Tensor, leaf_times: Tensor, rate: Tensor | float) -> Tensor:
    """Log-density of Kingman's coalescent at a constant pairwise rate: Drummond et al. 2002, Genetics 161(3)."""
    value, leaf_times, rate = as_tensors(value, leaf_times, rate)
    value, leaves = in_one_batch(value, leaf_times)
    lineages = lineages_at(value, leaves)
    outside = (lineages < 2).any(-1) | (value[..., :-1] > value[..., 1:]).any(-1)
    outside = outside & ~(value.isnan().any(-1) | leaves.isnan().any(-1))
    hazards = pairs_of(lineages.clamp(min=2).to(value.dtype))
    log_density = torch.log(rate) * value.shape[-1] + torch.log(hazards).sum(-1) - rate * pair_time(value, leaves)
    return torch.where(outside, -math.inf, log_density)


def pairs_of(lineages: Tensor) -> Tensor:
    """How many pairs so many lineages have."""
    return lineages * (lineages - 1) / 2


def lineages_at(times: Tensor, leaves: Tensor) -> Tensor:
    """How many there are, back in time, when each of the ascending ``times`` is reached."""
    born = (leaves.unsqueeze(-2) >= times.unsqueeze(-1)).sum(-1)
    return born - torch.arange(times.shape[-1] - 1, -1, -1, device=times.device)


def pair_time(times: Tensor, leaves: Tensor) -> Tensor:
    """The integral over time of the number of pairs of lineages."""
    events, index = torch.cat((leaves, times), -1).sort(-1, descending=True)
    step = torch.where(index < leaves.shape[-1], 1.0, -1.0).to(times.dtype)
    return (pairs_of(step.cumsum(-1)[..., :-1]) * (events[..., :-1] - events[..., 1:])).sum(-1)


def log_prob_coalescent_times_with_rate(value: Tensor, leaf_times: Tensor, rate_grid: Tensor) -> Tensor:
    """Log-density of Kingman's coalescent in the time that passes at the rate between whole numbers, and back."""
    value, leaf_times, rate_grid = as_tensors(value, leaf_times, rate_grid)
    passed = log_prob_coalescent_times(passed_until(value, rate_grid), passed_until(leaf_times, rate_grid), 1.0)
    cell = torch.floor(value.detach().nan_to_num()).clamp(0, rate_grid.shape[-1] - 1).long()
    return passed + torch.log(on_grid(rate_grid, cell)).sum(-1)
