"""Names that nothing else has."""

from __future__ import annotations

from collections.abc import Container


def unused(name: str, taken: Container[str]) -> str:
    """The name, or with the first number that makes it another one: ``z``, ``z_1``, ``z_2``."""
    count, unique = 0, name
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    return unique
