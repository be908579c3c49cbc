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


Measure = Callable[[Mapping[str, str | None]], str | None]
"""(what the densities of the parts are per unit of) -> what the whole density is per unit of; see `measures`."""


def of_the_parts(*names: str) -> Measure:
    """That of these parts, where it is one thing."""

    def measure(parts: Mapping[str, str | None]) -> str | None:
        found = {parts[name] for name in names}
        return found.pop() if len(found) == 1 else None

    return measure


def always(measure: str) -> Measure:
    """Whatever the parts are."""
    return lambda _: measure


@dataclass(frozen=True)
class ComposedLogProb:
    """How a family's log-density is written in those of its parts.

    Args:
        write: (canonical parameters, value, what to write with) -> log-density.
        exists: parameters -> is there one, where each part has one?
        measure: what it is per unit of; None where only two of the family are known to be comparable.
    """

    write: Callable[[Mapping[str, Arg], Ref, LogProbs], Ref]
    exists: Callable[[Mapping[str, Arg]], bool] = _always
    measure: Measure | None = None


def before_components(value: Tensor, event_dim: int) -> Tensor:
    """A dim of 1 for the components, left of the event dims."""
    return value.unsqueeze(-1 - event_dim)


BEFORE_COMPONENTS = Formula.of(before_components)
