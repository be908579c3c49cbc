"""What a program of plain PyTorch says of its variables: `site` and `target`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.fx import Proxy

Mark = Callable[[str, Any], Tensor]
_recording: ContextVar[tuple[Mark, Mark] | None] = ContextVar("recording", default=None)


def site(name: str, value: Tensor) -> Tensor:
    """``value``, which is the variable ``name`` of the model: what is drawn there, or a deterministic feature.

    It returns the value as it is. While a graph is made of the program, the variable is called ``name``; one that is
    computed and not drawn is a deterministic latent, compared by its distance.
    """
    if not isinstance(value, Tensor | Proxy):
        raise TypeError(f"dgm.site takes a tensor, not a {type(value).__name__}")
    marks = _marks()
    return value if marks is None else marks[0](name, value)


def target(name: str, distribution: Distribution) -> Tensor:
    """A draw from ``distribution``, which is the law of the model's target ``name``.

    A program that marks targets has no others: what it returns is its own affair.
    """
    if not isinstance(distribution, Distribution):
        given = type(distribution).__name__
        raise TypeError(f"dgm.target takes a distribution, not a {given}: a value is a target where it is returned")
    marks = _marks()
    return distribution.sample() if marks is None else marks[1](name, distribution)


def _marks() -> tuple[Mark, Mark] | None:
    return None if torch.compiler.is_compiling() else _recording.get()


@contextmanager
def marked_by(site_mark: Mark, target_mark: Mark) -> Iterator[None]:
    """While inside, marks are told to these."""
    token = _recording.set((site_mark, target_mark))
    try:
        yield
    finally:
        _recording.reset(token)
