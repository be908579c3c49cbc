"""Distances, and how large they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

FALSE_ALARM = 1e-6
"""How often draws of the right law fail a check."""


Found = tuple[float, float, str]
"""Statistic, limit and note."""


def kolmogorov_smirnov(value: Tensor, cdf: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Found:
    """The largest distance of the distribution functions, of values that stand for all that round to them."""
    value = value.sort().values
    rounding = 4 * torch.finfo(dtype).eps * value.abs() + torch.finfo(dtype).tiny
    steps = torch.arange(len(value) + 1, dtype=torch.float64) / len(value)
    above, below = steps[1:] - cdf(value + rounding), cdf(value - rounding) - steps[:-1]
    return (
        largest(torch.stack([above, below]).clamp(min=0)),
        math.sqrt(-0.5 * math.log(FALSE_ALARM / 2) / len(value)),
        "",
    )


def chi_square(value: Tensor, cdf: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Found:
    """Of the second half of the draws, in cells that the first half chooses."""
    first, second = value.chunk(2)
    middle = torch.linspace(0, 1, 32, dtype=torch.float64)[1:-1]
    cuts = first.sort().values[(middle * len(first)).long()].unique()
    ends = torch.cat([torch.zeros(1), cdf(cuts), torch.ones(1)])
    observed = torch.bincount(torch.searchsorted(cuts, second), minlength=len(cuts) + 1)
    return chi_square_of(observed.tolist(), (len(second) * ends.diff()).tolist())


def chi_square_of(observed: Iterable[float], expected: Iterable[float]) -> Found:
    cells = list(_merged(observed, expected))
    if len(cells) < 2:
        return 0.0, 1.0, "nothing to compare: one value has nearly all of the probability, or none has much"
    return sum((o - e) ** 2 / e for o, e in cells), chi_square_limit(len(cells) - 1), ""


def _merged(observed: Iterable[float], expected: Iterable[float]) -> Iterator[tuple[float, float]]:
    """Neighbours together until five are expected; the last takes what is left."""
    cells = [[0.0, 0.0]]
    for o, e in zip(observed, expected, strict=True):
        if cells[-1][1] >= 5:
            cells.append([0.0, 0.0])
        cells[-1][0] += o
        cells[-1][1] += e
    if len(cells) > 1 and cells[-1][1] < 5:
        o, e = cells.pop()
        cells[-1][0] += o
        cells[-1][1] += e
    yield from ((o, e) for o, e in cells)


def chi_square_limit(freedom: int) -> float:
    """Exceeded with probability `FALSE_ALARM`."""
    low, high = torch.tensor(0.0, dtype=torch.float64), torch.tensor(freedom + 1000.0, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        tail = torch.special.gammaincc(torch.tensor(freedom / 2, dtype=torch.float64), middle / 2)
        low, high = (middle, high) if tail > FALSE_ALARM else (low, middle)
    return float(high)


def difference_error(f: Callable[[Tensor], Tensor], at: Tensor, gradient: Tensor, size: float) -> float:
    """The largest error of ``gradient`` against central differences of ``f``, whose terms are of ``size`` in all."""
    errors, sizes = [0.0], at.abs()[at != 0]
    least = float(sizes.min()) if sizes.numel() else 1e-2
    for index in range(min(at.numel(), 20)):
        scale = abs(float(at.reshape(-1)[index])) or least
        step = torch.zeros_like(at)
        step.view(-1)[index] = 3e-5 * scale
        with torch.no_grad():
            found = float(f(at + step) - f(at - step)) / (2 * 3e-5 * scale)
        ours = float(gradient.reshape(-1)[index])
        errors.append(abs(ours - found) / (max(abs(ours), abs(found)) + 1e-2 * size / scale or 1.0))
    return math.inf if any(math.isnan(error) for error in errors) else max(errors)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to each value."""
    if ours.shape != theirs.shape:
        return math.inf
    a, b = ours.detach().double(), theirs.detach().double()
    finite = b[b.isfinite()].abs()
    floor = 1e-6 * float(finite.max()) if finite.numel() else 1.0
    return largest(torch.where(a == b, 0.0, (a - b) / (b.abs() + floor))) if a.numel() else 0.0


def largest(x: Tensor) -> float:
    """In absolute value; NaN is infinite."""
    return float(torch.nan_to_num(x.abs(), nan=math.inf, posinf=math.inf).max()) if x.numel() else 0.0
