"""Functions whose plain form is 0 / 0 at 0. Values and derivatives keep their digits near it."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_expm1(x: Tensor) -> Tensor:
    """(e^x - 1) / x, which is 1 at 0."""
    near = torch.abs(x) < 0.1
    small, large = torch.where(near, x, 0.0), torch.where(near, 1.0, x)
    series = torch.ones_like(x)
    for k in range(10, 1, -1):
        series = 1 + small / k * series
    return torch.where(near, series, torch.expm1(large) / large)


def relative_log1p(x: Tensor) -> Tensor:
    """log(1 + x) / x, which is 1 at 0."""
    near = torch.abs(x) < 0.05
    small, large = torch.where(near, x, 0.0), torch.where(near, 1.0, x)
    series = torch.zeros_like(x)
    for k in range(12, 0, -1):
        series = 1 / k - small * series
    return torch.where(near, series, torch.log1p(large) / large)


def relative_sin(x: Tensor) -> Tensor:
    """sin(x) / x, which is 1 at 0."""
    near = torch.abs(x) < 0.1
    small, large = torch.where(near, x, 0.0), torch.where(near, 1.0, x)
    series = torch.ones_like(x)
    for k in range(10, 0, -2):
        series = 1 - small**2 / (k * (k + 1)) * series
    return torch.where(near, series, torch.sin(large) / large)
