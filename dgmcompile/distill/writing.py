"""What the log-density of a family that holds other distributions is written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dgmcompile.ir.graph import Arg, Formula, Law, Ref


class LogProbs(Protocol):
    """Adds nodes; their names begin with the name of the density that is written."""

    def log_prob(self, law: Law, value: Ref, label: str) -> Ref:
        """Of a part at ``value``, in its shape without the part's event dims; both broadcast."""
        ...

    def call(self, label: str, formula: Formula, *args: Arg) -> Ref:
        """``formula(*args)``."""
        ...


def _always(params: Mapping[str, Arg]) -> bool:
    return True


@dataclass(frozen=True)
class ComposedLogProb:
    """How a family's log-density is written in those of its parts.

    Args:
        write: (canonical parameters, value, what to write with) -> log-density.
        exists: parameters -> is there one, where each part has one?
    """

    write: Callable[[Mapping[str, Arg], Ref, LogProbs], Ref]
    exists: Callable[[Mapping[str, Arg]], bool] = _always


def before_components(value: Tensor, event_dim: int) -> Tensor:
    """A dim of 1 for the components, left of the event dims."""
    return value.unsqueeze(-1 - event_dim)


BEFORE_COMPONENTS = Formula.of(before_components)
