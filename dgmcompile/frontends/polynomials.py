"""Which polynomial in the sizes, or quotient of such, is a number that was seen at several of them?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from math import prod

from dgmcompile.ir.size import Size, add, multiply

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


@dataclass(frozen=True)
class Quotient:
    """``number * above / below``: a real number that follows sizes."""

    number: float
    above: Size | int
    below: Size | int

    @property
    def arguments(self) -> tuple[float, Size | int, Size | int]:
        """As the formula `quotient` takes them."""
        return self.number, self.above, self.below

    def evaluate(self, values: Mapping[str, int]) -> float:
        """Its value where each size node has the given one, as the formula computes it."""
        above, below = (s if isinstance(s, int) else s.evaluate(values) for s in (self.above, self.below))
        return self.number * above / below if below else math.inf


def quotient(points: Sequence[tuple[tuple[int, ...], float]], names: Sequence[str]) -> Quotient | None:
    """A number times a size, or divided by one, that gives every point: ``1000 / n``, ``0.1 * n``.

    A size here is one of ``names`` or the product of two, or one less or more than that.
    """
    found = [(dict(zip(names, sizes, strict=True)), value) for sizes, value in points]
    tries = (made for size in _simple(names) for made in _quotients(size, *found[0]))
    fitting = (made for made in tries if all(same_number(made.evaluate(sizes), value) for sizes, value in found))
    return next(fitting, None)


def same_number(x: float, y: float) -> bool:
    """But for the last bits, which depend on the order in which it was computed."""
    return math.isclose(x, y, rel_tol=1e-15)


def _quotients(size: Size, sizes: Mapping[str, int], value: float) -> Iterator[Quotient]:
    """Those that give ``value`` where the size nodes have these values, but for rounding."""
    at = size.evaluate(sizes)
    if not at or not value or not math.isfinite(value):
        return
    yield from (Quotient(number, 1, size) for number in _rounded(value * at))
    yield from (Quotient(number, size, 1) for number in _rounded(value / at))
    if abs(at / value) < 1e15:
        yield Quotient(1.0, size, round(at / value))


def _rounded(number: float) -> tuple[float, ...]:
    """It, and what a person may have written."""
    return number, float(f"{number:.15g}"), float(f"{number:.12g}")


def _simple(names: Sequence[str]) -> Iterator[Size]:
    products: list[Size | int] = [Size.symbol(name) for name in names]
    products += [multiply(Size.symbol(a), Size.symbol(b)) for i, a in enumerate(names) for b in names[i:]]
    made = (add(product, offset) for offset in (0, -1, 1) for product in products)
    yield from (size for size in made if isinstance(size, Size))


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
