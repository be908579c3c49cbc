"""What the walks over NOISE_TRANSFORMS try of a family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Given = dict[str, Any]
"""What a user gives: numbers stay numbers, nested lists become tensors."""


@dataclass(frozen=True)
class Example:
    """``exact(**given)`` is the law in SciPy, or None where a test of its own knows it.

    ``walked`` is False for a family with a parameter that cannot be a tensor: all its tests are its own.
    """

    exact: Callable[..., Any] | None
    settings: tuple[Given, ...]
    walked: bool = True
