"""Sizes are polynomials: what they print, and that their arithmetic is that of whole numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgmcompile.ir.size import Monomial, Size, add, multiply

NAMES = ["a", "b", "c"]
MONOMIALS = st.lists(st.sampled_from(NAMES), max_size=3).map(lambda names: tuple(sorted(names)))
SIZES = st.dictionaries(MONOMIALS, st.integers(-3, 3), max_size=4).map(Size.of)
VALUES = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


def evaluate(size: Size | int, values: dict[str, int]) -> int:
    return size if isinstance(size, int) else size.evaluate(values)


@given(SIZES, SIZES, VALUES)
def test_sums_and_products_are_those_of_the_values(left: Size | int, right: Size | int, values: dict[str, int]):
    assert evaluate(add(left, right), values) == evaluate(left, values) + evaluate(right, values)
    assert evaluate(multiply(left, right), values) == evaluate(left, values) * evaluate(right, values)


@given(SIZES, SIZES, VALUES)
def test_what_is_substituted_is_evaluated_first(size: Size | int, inner: Size | int, values: dict[str, int]):
    if isinstance(size, Size):
        expected = size.evaluate({**values, "a": evaluate(inner, values)})
        assert evaluate(size.substitute({"a": inner}), values) == expected


@given(SIZES, VALUES)
def test_the_text_is_python(size: Size | int, values: dict[str, int]):
    assert eval(str(size), {"__builtins__": {}}, dict(values)) == evaluate(size, values)


@given(SIZES, SIZES)
def test_equal_polynomials_are_equal_objects(left: Size | int, right: Size | int):
    assert add(left, right) == add(right, left)
    assert multiply(left, right) == multiply(right, left)
    assert add(add(left, right), multiply(-1, right)) == left


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ({("b",): 1}, "b"),
        ({("b",): 2, (): 1}, "2 * b + 1"),
        ({("b",): -2, (): -1}, "-2 * b - 1"),
        ({("b", "n"): 1, ("b",): 3, ("a",): 1}, "b * n + a + 3 * b"),
        ({("b",): 0, (): 4}, "4"),
        ({}, "0"),
    ],
)
def test_text(terms: dict[Monomial, int], text: str):
    assert str(Size.of(terms)) == text


def test_a_name_that_looks_like_arithmetic_is_only_shown():
    assert Size.of({("a + -b",): 1, (): -1}).format(repr) == "'a + -b' - 1"


def test_two_names_that_become_one_add_up_or_cancel():
    a, b = Size.symbol("a"), Size.symbol("b")
    difference = add(a, multiply(-1, b))
    assert isinstance(difference, Size) and difference.rename(lambda name: "n") == 0
    total = add(a, b)
    assert isinstance(total, Size) and total.rename(lambda name: "n") == multiply(2, Size.symbol("n"))
    assert total.symbols == ("a", "b")
