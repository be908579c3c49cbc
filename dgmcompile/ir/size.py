"""Sizes that depend on the inputs: whole-number polynomials over the graph's size nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

Monomial = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A sum of ``coefficient * product of size nodes``, as ``2*batch + 1``.

    ``terms`` maps each monomial (sorted node names; ``()`` is the constant) to its coefficient.
    """

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def of(cls, terms: Mapping[Monomial, int]) -> Size | int:
        """The size with these terms, or a plain ``int`` where no size node is left."""
        kept = {names: c for names, c in terms.items() if c}
        if not any(kept):
            return kept.get((), 0)
        return cls(tuple(sorted(kept.items(), key=lambda term: (-len(term[0]), term[0]))))

    @classmethod
    def symbol(cls, name: str) -> Size:
        """The value of the size node ``name``."""
        return cls((((name,), 1),))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The size nodes it reads, each once, sorted."""
        return tuple(sorted({name for names, _ in self.terms for name in names}))

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Its value where each size node has the given one."""
        return sum(c * prod(values[name] for name in names) for names, c in self.terms)

    def rename(self, new_name: Callable[[str], str]) -> Size | int:
        """The same polynomial over renamed size nodes; two may get one name, and terms then cancel or add up."""
        return self.substitute({name: Size.symbol(new_name(name)) for name in self.symbols})

    def substitute(self, values: Mapping[str, Size | int]) -> Size | int:
        """The polynomial where each size node in ``values`` stands for the value given there."""
        total: Size | int = 0
        for names, coefficient in self.terms:
            term: Size | int = coefficient
            for name in names:
                term = multiply(term, values.get(name, Size.symbol(name)))
            total = add(total, term)
        return total

    def format(self, show: Callable[[str], str] = str) -> str:
        """Python text of it, each size node written as ``show(name)``."""
        first, *rest = self.terms
        text = _format_term(*first, show)
        for names, c in rest:
            text += f" {'-' if c < 0 else '+'} {_format_term(names, abs(c), show)}"
        return text

    def __str__(self) -> str:
        return self.format()


def add(left: Size | int, right: Size | int) -> Size | int:
    """The sum as a polynomial."""
    terms = _terms(left)
    for monomial, c in _terms(right).items():
        terms[monomial] = terms.get(monomial, 0) + c
    return Size.of(terms)


def multiply(left: Size | int, right: Size | int) -> Size | int:
    """The product as a polynomial."""
    terms: dict[Monomial, int] = {}
    for a, m in _terms(left).items():
        for b, n in _terms(right).items():
            monomial = tuple(sorted(a + b))
            terms[monomial] = terms.get(monomial, 0) + m * n
    return Size.of(terms)


def quotient(size: Size | int, by: Size | int) -> Size | int | None:
    """The whole-number polynomial that times ``by`` gives ``size``; None if there is none, or none is found.

    It is looked for where ``by`` has one term, as ``batch``, and where both are the same.
    """
    if size == by:
        return 1
    if len(_terms(by)) != 1:
        return None
    ((divisor, factor),) = _terms(by).items()
    terms = dict[Monomial, int]()
    for monomial, c in _terms(size).items():
        left = list(monomial)
        for name in divisor:
            if name not in left:
                return None
            left.remove(name)
        if c % factor:
            return None
        terms[tuple(left)] = c // factor
    return Size.of(terms)


def broadcast_shapes(left: tuple[Size | int, ...], right: tuple[Size | int, ...]) -> tuple[Size | int, ...]:
    """As torch broadcasts them; of two sizes that are not 1, the right one."""
    rank = max(len(left), len(right))
    left, right = ((*(1,) * (rank - len(shape)), *shape) for shape in (left, right))
    return tuple(b if a == 1 or b != 1 else a for a, b in zip(left, right, strict=True))


def _terms(value: Size | int) -> dict[Monomial, int]:
    return dict(value.terms) if isinstance(value, Size) else {(): value}


def _format_term(names: Monomial, coefficient: int, show: Callable[[str], str]) -> str:
    factors = [show(name) for name in names]
    if coefficient != 1 or not factors:
        factors.insert(0, str(coefficient))
    return " * ".join(factors)
