"""What a registration changes, and how it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.divergences import CLOSED_FORMS, ESTIMATORS, LOG_PROBS, MEASURES
from dgmcompile.ir.formulas import FORMULAS
from dgmcompile.ir.graph import Formula
from dgmcompile.passes.lower import DRAWN
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, reparam_formulas

ABSENT: Any = object()
"""Stands for no entry."""


def known_formulas() -> dict[str, Formula]:
    """Every formula that a graph may call, by name."""
    closed = (entry.formula for table in CLOSED_FORMS.values() for entry in table.values())
    estimators = (entry.formula for entry in ESTIMATORS.values())
    found = [*FORMULAS.values(), *reparam_formulas(), *closed, *estimators, *LOG_PROBS.values(), DRAWN]
    return {formula.name: formula for formula in found}


def _tables() -> list[dict[Any, Any]]:
    return [
        NOISE_TRANSFORMS.table,
        COMPOSITIONS.table,
        LOG_PROBS,
        COMPOSED_LOG_PROBS,
        MEASURES,
        *CLOSED_FORMS.values(),
    ]


@contextmanager
def preserved() -> Iterator[None]:
    """What is registered while inside is forgotten in the end."""
    before = [(table, dict(table)) for table in _tables()]
    try:
        yield
    finally:
        for table, content in before:
            table.clear()
            table.update(content)


@dataclass
class Registered:
    """What `register` returns: ``remove()`` takes back what was registered, and so does the end of a ``with`` block.

    Where one registration replaced another, the later one is removed first.
    """

    family: str
    _changes: list[tuple[dict[Any, Any], Any, Any, Any]] = field(default_factory=list, repr=False)

    def remove(self) -> None:
        """What stood there before stands there again. A second call does nothing."""
        for table, key, before, after in reversed(self._changes):
            if table.get(key, ABSENT) is after:
                _put(table, key, before)
        self._changes.clear()

    def __enter__(self) -> Registered:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def put(self, table: dict[Any, Any], key: Any, entry: Any) -> None:
        before = table.get(key, ABSENT)
        _put(table, key, entry)
        self._changes.append((table, key, before, entry))


def _put(table: dict[Any, Any], key: Any, entry: Any) -> None:
    if entry is ABSENT:
        table.pop(key, None)
    else:
        table[key] = entry
