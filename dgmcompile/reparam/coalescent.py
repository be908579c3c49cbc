"""Times at which lineages coalesce: exponentials through a piecewise linear cumulative hazard, back in time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def coalescent_times_from_noise(noise: Tensor, leaf_times: Tensor, rate: Tensor | float = 1.0) -> Tensor:
    """Kingman's coalescent at a constant pairwise rate, in ascending order.

    After i coalescences the hazard at a time with j leaves after it is rate (j - i)(j - i - 1) / 2. The next one is
    found in the interval between two leaves where the hazard's integral, back from the last one, reaches its noise.
    """
    count = leaf_times.shape[-1]
    rate = torch.as_tensor(rate, dtype=leaf_times.dtype, device=leaf_times.device)
    wait = noise / rate.unsqueeze(-1)
    leaves = torch.sort(leaf_times, dim=-1, descending=True).values.expand((*noise.shape[:-1], count))
    number = torch.arange(1, count + 1, dtype=leaf_times.dtype, device=leaf_times.device)
    time = leaves[..., :1]
    times = [noise[..., :0]]
    for i in range(count - 1):
        lineages = (number - i).clamp(min=0)
        pairs = lineages * (lineages - 1) / 2
        start = torch.minimum(leaves, time)
        hazard = torch.cumsum((start[..., :-1] - start[..., 1:]) * pairs[:-1], -1)
        target = wait[..., i : i + 1]
        index = (hazard <= target).sum(-1, keepdim=True)
        before = F.pad(hazard, (1, 0)).gather(-1, index)
        time = start.gather(-1, index) - (target - before) / pairs[index]
        times.insert(0, time)
    return torch.cat(times, -1)


COALESCENT_TIMES = NoiseTransform(
    family="CoalescentTimes",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("leaf_times", "rate"),
    forward=Formula.of(coalescent_times_from_noise),
    event_dim=1,
    source="Kingman 1982, Stochastic Processes and their Applications 13(3); "
    "leaves at several times: Drummond et al. 2002, Genetics 161(3), equation 1",
)


def on_grid(values: Tensor, index: Tensor) -> Tensor:
    """Entries of the last dim of ``values``, whose batch dims broadcast with those of ``index``."""
    shape = torch.broadcast_shapes(values.shape[:-1], index.shape[:-1])
    return values.expand((*shape, -1)).gather(-1, index.expand((*shape, -1)))


def passed_until(times: Tensor, rate_grid: Tensor) -> Tensor:
    """The integral of the rate from 0 to each of ``times``, negative before 0."""
    passed = F.pad(torch.cumsum(rate_grid, -1), (1, 0))
    cell = torch.floor(times.detach().nan_to_num()).clamp(0, rate_grid.shape[-1] - 1).long()
    return on_grid(passed, cell) + on_grid(rate_grid, cell) * (times - cell)


def coalescent_times_with_rate_from_noise(noise: Tensor, leaf_times: Tensor, rate_grid: Tensor) -> Tensor:
    """Kingman's coalescent in the time that passes at the pairwise rate, and back.

    ``rate_grid`` holds the rates between whole numbers, from 0; the first holds before 0 too and the last for ever.
    """
    passed = F.pad(torch.cumsum(rate_grid, -1), (1, 0))
    times = coalescent_times_from_noise(noise, passed_until(leaf_times, rate_grid))
    cell = (times.detach().unsqueeze(-1) >= passed.detach()[..., 1:-1].unsqueeze(-2)).sum(-1)
    return cell + (times - on_grid(passed, cell)) / on_grid(rate_grid, cell)


COALESCENT_TIMES_WITH_RATE = NoiseTransform(
    family="CoalescentTimesWithRate",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("leaf_times", "rate_grid"),
    forward=Formula.of(coalescent_times_with_rate_from_noise),
    event_dim=1,
    source="time change; Griffiths & Tavare 1994, Phil. Trans. R. Soc. B 344, 403-410",
)
