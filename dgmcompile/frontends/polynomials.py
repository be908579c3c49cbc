"""Which polynomial in the sizes is a number that was seen at several of them?"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import product
from math import prod

from dgmcompile.ir.size import Size

Point = tuple[tuple[int, ...], int]
"""Sizes, one a class, and the number seen there."""

_DEGREE = 3


def explained(points: Sequence[Point], names: Sequence[str], dense: tuple[int, ...] = ()) -> Size | int | None:
    """The polynomial over ``names`` that every point fits: a monomial, an affine form, or any in few classes.

    Args:
        points: more than an affine form has coefficients.
        names: of the classes' size nodes.
        dense: classes on whose `grid` the points lie; only there any polynomial of degree 3 is tried.
    """
    count = len(names)
    tries = [[e] for e in _exponents(count, _DEGREE)] + [_exponents(count, 1)]
    if dense:
        tries += [[e for e in _exponents(count, d) if _only(e, dense)] for d in range(2, _DEGREE + 1)]
    for monomials in tries:
        rows = [[Fraction(_power(sizes, m)) for m in monomials] + [Fraction(value)] for sizes, value in points]
        found = _solution(rows) if len(rows) > len(monomials) else None
        if found is not None and all(c.denominator == 1 for c in found):
            return Size.of({_spelled(m, names): int(c) for m, c in zip(monomials, found, strict=True)})
    return None


def grid(base: tuple[int, ...], dense: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sizes that tell polynomials in the classes ``dense`` apart, and some to check them."""
    steps = [e for e in _exponents(len(base), _DEGREE) if _only(e, dense) and sum(e) > 1]
    checks = [tuple(_DEGREE + 1 + 2 * k if k in dense else 0 for k in range(len(base)))]
    return [tuple(b + s for b, s in zip(base, step, strict=True)) for step in steps + checks]


@cache
def _exponents(count: int, degree: int) -> list[tuple[int, ...]]:
    """Of all monomials in ``count`` variables up to ``degree``, by degree."""
    every = product(range(degree + 1), repeat=count)
    return sorted((e for e in every if sum(e) <= degree), key=lambda e: (sum(e), [-x for x in e]))


def _only(exponents: tuple[int, ...], classes: tuple[int, ...]) -> bool:
    return all(e == 0 or k in classes for k, e in enumerate(exponents))


def _spelled(exponents: tuple[int, ...], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name, e in zip(names, exponents, strict=True) for _ in range(e)))


def _power(sizes: tuple[int, ...], exponents: tuple[int, ...]) -> int:
    return prod(size**e for size, e in zip(sizes, exponents, strict=True))


def _solution(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """The one solution of an overdetermined linear system, right side last; None if there is none."""
    unknowns = len(rows[0]) - 1
    for column in range(unknowns):
        pivot = next((i for i in range(column, len(rows)) if rows[i][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [x / rows[column][column] for x in rows[column]]
        for i, row in enumerate(rows):
            if i != column and row[column]:
                rows[i] = [x - row[column] * y for x, y in zip(row, rows[column], strict=True)]
    return None if any(row[-1] for row in rows[unknowns:]) else [row[-1] for row in rows[:unknowns]]
