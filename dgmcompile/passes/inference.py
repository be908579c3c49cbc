"""Shape and dtype of a formula's result, found by running it on tensors without storage."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, Dim, Formula, Node, Ref, Shape, leaves, map_arg, names_in
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import format_value

_STAND_INS = (101, 211)
"""Where the values of the size nodes start: no dimension that a person writes down."""


def infer_type(formula: Formula, args: tuple[Arg, ...], nodes: Mapping[str, Node]) -> tuple[Shape, torch.dtype] | None:
    """Type of ``formula(*args)``, sizes kept symbolic; None where it cannot be told without values.

    The formula is run with two assignments of the sizes: a dimension that differs between them is
    the size among the arguments' that has these values.
    """
    types = {name: nodes[name] for name in names_in(args) if name in nodes}
    dims = [dim for arg in leaves(args) for dim in _dims(arg, types)]
    symbols = sorted({name for dim in dims if isinstance(dim, Size) for name in dim.symbols})
    runs: list[tuple[tuple[int, ...], torch.dtype]] = []
    known: dict[tuple[int, ...], Dim] = {}
    values = [{name: start + 2 * i for i, name in enumerate(symbols)} for start in _STAND_INS]
    for assignment in values:
        result = _run(formula.function, _Given.of(args, types, assignment))
        if result is None:
            return None
        runs.append(result)
    for dim in dims:
        known[tuple(_evaluate(dim, assignment) for assignment in values)] = dim
    (first, dtype), (second, _) = runs
    if len(first) != len(second):
        return None
    shape = [a if a == b else known.get((a, b)) for a, b in zip(first, second, strict=True)]
    return (tuple(dim for dim in shape if dim is not None), dtype) if None not in shape else None


def _dims(arg: Any, types: Mapping[str, Node]) -> tuple[Dim, ...]:
    if isinstance(arg, Ref) and arg.name in types:
        return types[arg.name].shape or ()
    return (arg,) if isinstance(arg, Size) else ()


def _evaluate(dim: Dim, assignment: Mapping[str, int]) -> int:
    return dim if isinstance(dim, int) else dim.evaluate(assignment)


@dataclass(frozen=True, slots=True)
class _Meta:
    """A tensor without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Given:
    """Arguments to run with; equal by their text, as they may hold lists."""

    text: str
    args: Arg = field(compare=False)

    @classmethod
    def of(cls, args: Arg, types: Mapping[str, Node], assignment: Mapping[str, int]) -> _Given:
        def stand_in(leaf: Any) -> Any:
            if isinstance(leaf, Ref) and leaf.name in types:
                node = types[leaf.name]
                shape = tuple(_evaluate(dim, assignment) for dim in node.shape or ())
                return _Meta(shape, node.dtype or torch.get_default_dtype())
            return leaf.evaluate(assignment) if isinstance(leaf, Size) else leaf

        found = map_arg(args, stand_in)
        return cls(format_value(found), found)


@lru_cache(maxsize=4096)
def _run(function: Callable[..., Any], given: _Given) -> tuple[tuple[int, ...], torch.dtype] | None:
    def tensor(leaf: Any) -> Any:
        return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta") if isinstance(leaf, _Meta) else leaf

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            result = function(*map_arg(given.args, tensor))
    except Exception:  # whatever a formula raises that looks at values, or mixes devices
        return None
    return (tuple(result.shape), result.dtype) if isinstance(result, Tensor) else None


def is_elementwise(formula: Formula, args: tuple[Arg, ...], kwargs: Mapping[str, Arg]) -> bool:
    """Is each element of ``formula(*args, **kwargs)`` made of the elements at its own place, and of numbers?

    The formula is run on tensors of numbers between 0 and 1, and on each place of them alone.
    """
    shown = map_arg((args, dict(kwargs)), lambda leaf: _Place() if isinstance(leaf, Ref) else leaf)
    return _is_elementwise(formula.function, _Given(format_value(shown), shown))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor stands among the arguments."""

    @property
    def symbols(self) -> tuple[str, ...]:
        return ()


@lru_cache(maxsize=4096)
def _is_elementwise(function: Callable[..., Any], given: _Given) -> bool:
    places = sum(isinstance(leaf, _Place) for leaf in leaves(given.args))
    numbers = torch.linspace(0.15, 0.85, 6 * max(places, 1), dtype=torch.float64, device="cpu")
    tensors = numbers.view(6, -1).T.reshape(-1, 2, 3)

    def run(index: tuple[slice, slice]) -> Any:
        found = iter(tensors)
        args, kwargs = map_arg(given.args, lambda leaf: next(found)[index] if isinstance(leaf, _Place) else leaf)
        return function(*args, **kwargs)

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            whole = run((slice(None), slice(None)))
            if not isinstance(whole, Tensor) or whole.shape != (2, 3) or not bool(whole.isfinite().all()):
                return False
            parts = [[run((slice(i, i + 1), slice(j, j + 1))) for j in range(3)] for i in range(2)]
            return torch.allclose(whole, torch.cat([torch.cat(row, 1) for row in parts]), rtol=1e-12, atol=0)
    except Exception:  # whatever a formula raises that is given other numbers than it takes
        return False
