"""What the libraries do otherwise while a program is recorded: where their own way has no end, or is out of sight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.distributions import Distribution, von_mises
from torch.distributions.utils import lazy_property


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


@contextmanager
def seen_variables() -> Iterator[None]:
    """While inside, ``torch.autograd.Variable``, of which old programs make every tensor, is a call that is seen."""
    meta = type(Variable)

    def detached(cls: type, data: Tensor, requires_grad: bool = False) -> Tensor:
        return data.detach()

    meta.__call__ = detached  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del meta.__call__


@contextmanager
def nothing_kept(distribution: Any) -> Iterator[None]:
    """What a sampler computes and keeps in the distribution (``probs`` of ``logits``) is computed when it is read."""
    parts = list(_parts(distribution))
    before = [set(vars(part)) for part in parts]
    try:
        yield
    finally:
        for part, kept in zip(parts, before, strict=True):
            for name in vars(part).keys() - kept:
                if isinstance(getattr(type(part), name, None), lazy_property):
                    delattr(part, name)


def _parts(distribution: Any) -> Iterator[Any]:
    """The distribution and those that it wraps."""
    while isinstance(distribution, Distribution):
        yield distribution
        distribution = getattr(distribution, "base_dist", None)
