"""The shape of an entry: one divergence between a teacher's family and a student's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dgmcompile.ir.graph import Formula

_OTHER_SIDE = {"p": "q", "q": "p"}


@dataclass(frozen=True)
class Term:
    """A formula that compares teacher ``p`` and student ``q``; its parameters are named ``p_...`` and ``q_...``.

    Args:
        formula: plain torch function; its text stands in emitted code. Arguments may be plain
            numbers; they broadcast over batch dims, and the result is a tensor.
        source: where the formula comes from.
        exchanged: is the formula's ``p`` the student, and its ``q`` the teacher?
    """

    formula: Formula
    source: str
    exchanged: bool = False

    @cached_property
    def _parameters(self) -> tuple[inspect.Parameter, ...]:
        return tuple(inspect.signature(self.formula.function).parameters.values())

    @cached_property
    def _slots(self) -> tuple[tuple[str, str], ...]:
        """(side, name) of each positional argument, as ``("p", "loc")``; ``p`` is the teacher."""
        required = [p.name.split("_", 1) for p in self._parameters if p.default is p.empty]
        return tuple((_OTHER_SIDE[side] if self.exchanged else side, name) for side, name in required)

    @property
    def p_params(self) -> tuple[str, ...]:
        """What it reads of the teacher, as ``("loc", "scale")``."""
        return tuple(name for side, name in self._slots if side == "p")

    @property
    def q_params(self) -> tuple[str, ...]:
        """What it reads of the student."""
        return tuple(name for side, name in self._slots if side == "q")

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that the user may set, with their defaults."""
        return {p.name: p.default for p in self._parameters if p.default is not p.empty}

    def arguments(self, p: Mapping[str, Any], q: Mapping[str, Any]) -> tuple[Any, ...]:
        """The formula's positional arguments, taken by name from the teacher's and the student's."""
        sides = {"p": p, "q": q}
        return tuple(sides[side][name] for side, name in self._slots)


@dataclass(frozen=True)
class Divergence(Term):
    """A closed form for two families.

    The result is elementwise over batch dims and sums over the ``event_dim`` rightmost dims of the
    value, which are the family's own: 0 for Normal, 1 for MultivariateNormal.
    """

    event_dim: int = 0


@dataclass(frozen=True)
class Estimator(Term):
    """A Monte-Carlo stand-in, elementwise, where there is no closed form.

    It reads ``log_prob`` (log-density of each model at the teacher's sample) or ``value`` (what each
    model makes of the same noise) in the place of parameters.
    """
