"""Samplers of the libraries that go on for ever where a parameter is NaN, as a mean over no elements is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import von_mises


@contextmanager
def ending_samplers() -> Iterator[None]:
    """While inside, torch's rejection sampler of von Mises ends; what it draws where a parameter is NaN is NaN."""
    original = von_mises._rejection_sample

    def ending(loc: Tensor, concentration: Tensor, proposal_r: Tensor, x: Tensor) -> Tensor:
        lost = concentration.isnan() | proposal_r.isnan()
        known = torch.where(lost, 1.0, concentration), torch.where(lost, 2.0, proposal_r)
        return torch.where(lost, torch.nan, original(loc, *known, x))

    von_mises._rejection_sample = ending
    try:
        yield
    finally:
        von_mises._rejection_sample = original
