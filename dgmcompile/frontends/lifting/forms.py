"""Values that are draws from a law, element by element, and what a call makes of one.

A law whose name begins with ``-`` is that of the negative of a draw, one with ``1/`` that of its inverse, one in
brackets that of what is in a tuple: they are on the way to another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmcompile.frontends.lifting.algebra import DISCRETE, Algebra
from dgmcompile.ir.binding import Step
from dgmcompile.ir.graph import Arg, Dim, Shape, TransformStep

NOTHING = 2.0**-24


def nothing(dtype: torch.dtype | None) -> float:
    """How much may be added to noise, so that no logarithm is infinite, and leaves it noise of the same law.

    A generator's uniform numbers of float32 are multiples of ``2**-24``. What is no more than that moves none past the
    next (of ``u + 1e-8`` all above a quarter are rounded to ``u``), and the law by as much in total variation, which
    is how far from uniform the generator's numbers are. Those of double lie closer, and are compared more closely: of
    them, ``1e-10`` is nothing.
    """
    return 1e-10 if dtype == torch.float64 else NOTHING


@dataclass(frozen=True)
class Form:
    """A draw from ``family(**params)``.

    ``undo``: from the family's own noise to the noise that the program drew; ``is_cut``: is the value cut off from a
    gradient that its parameters carry? What has none itself, as a label, can be made of it all the same; ``either``:
    what the value is where a Bernoulli is 0, and where it is 1; ``is_column``: has it a last dim of one element more
    than the family's? ``transforms``: what the draw is pushed through; ``nothing``: as of the function of that name, of
    the program's noise.
    """

    family: str
    params: Mapping[str, Arg]
    event_dim: int = 0
    undo: tuple[Step, ...] = ()
    is_cut: bool = False
    either: tuple[float, float] = (0.0, 1.0)
    is_column: bool = False
    transforms: tuple[TransformStep, ...] = ()
    nothing: float = NOTHING

    @property
    def is_law(self) -> bool:
        """Is it a draw from the family as it stands, and not on the way to one?"""
        return self.family.isalpha() and not self.is_cut

    def with_params(self, *undo: Step, **params: Arg) -> Form:
        return replace(self, params={**self.params, **params}, undo=(*undo, *self.undo))

    def becomes(self, family: str, *undo: Step, event_dim: int = 0, **params: Arg) -> Form:
        is_cut = self.is_cut and family not in DISCRETE
        return Form(family, params, event_dim, (*undo, *self.undo), is_cut, nothing=self.nothing)


START: Mapping[str, Form] = {
    "StandardNormal": Form("Normal", {"loc": 0.0, "scale": 1.0}),
    "StandardUniform": Form("Uniform", {"low": 0.0, "high": 1.0}),
    "StandardExponential": Form("Exponential", {"rate": 1.0}),
}


def drawn(family: str, params: Mapping[str, Arg]) -> Form | None:
    """That of a draw from a law of fixed numbers, which is noise to be made something of; None of other laws."""
    if family not in _VALUES or not all(isinstance(value, int | float) for value in params.values()):
        return None
    return Form(family, params, undo=((_VALUES[family], tuple(params[name] for name in _PLACES[family])),))


# from the family's noise to the program's


def flipped(noise: Tensor) -> Tensor:
    return 1 - noise


def negated(noise: Tensor) -> Tensor:
    return -noise


def exp_minus(noise: Tensor) -> Tensor:
    """The uniform whose -log is the noise."""
    return torch.exp(-noise)


def signed(noise: Tensor, factor: Tensor) -> Tensor:
    return noise * torch.sign(factor)


def flipped_where_negative(noise: Tensor, factor: Tensor) -> Tensor:
    return torch.where(factor < 0, 1 - noise, noise)


def moved(noise: Tensor, loc: float, scale: float) -> Tensor:
    return loc + scale * noise


def between(noise: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * noise


def at_rate(noise: Tensor, rate: float) -> Tensor:
    return noise / rate


def gumbel(noise: Tensor, loc: float, scale: float) -> Tensor:
    return loc - scale * torch.log(noise)


def laplace(noise: Tensor, loc: float, scale: float) -> Tensor:
    centred = noise - 0.5
    return loc - scale * torch.sign(centred) * torch.log1p(-2 * torch.abs(centred))


def cauchy(noise: Tensor, loc: float, scale: float) -> Tensor:
    centred = noise - 0.5
    return loc + scale * torch.sign(centred) / torch.tan(math.pi * (0.5 - torch.abs(centred)))


def logistic(noise: Tensor, loc: float, scale: float) -> Tensor:
    return loc + scale * torch.logit(noise)


_VALUES = {"Normal": moved, "Uniform": between, "Exponential": at_rate, "Gumbel": gumbel}
_VALUES |= {"Laplace": laplace, "Cauchy": cauchy, "Logistic": logistic}
_PLACES = {**dict.fromkeys(_VALUES, ("loc", "scale")), "Uniform": ("low", "high"), "Exponential": ("rate",)}
"""Of the families of which programs make others: the value of their noise, and the parameters that it takes."""


def by_rank(noise: Tensor) -> Tensor:
    """The uniform whose normal quantile is the noise."""
    return torch.special.ndtr(noise)


def quantile(noise: Tensor) -> Tensor:
    """The normal whose rank is the noise."""
    return torch.special.ndtri(noise)


def minus_expm1(noise: Tensor) -> Tensor:
    """The uniform that 1 lacks of that whose -log is the noise."""
    return -torch.expm1(-noise)


def minus_log(noise: Tensor) -> Tensor:
    """The exponential of the uniform."""
    return -torch.log(noise)


def across(noise: Tensor) -> Tensor:
    """The exponential of the uniform that 1 lacks."""
    return -torch.log(-torch.expm1(-noise))


FLIPPED, NEGATED, EXP_MINUS, BY_RANK = ((step, ()) for step in (flipped, negated, exp_minus, by_rank))
QUANTILE, MINUS_EXPM1, ACROSS, MINUS_LOG = ((step, ()) for step in (quantile, minus_expm1, across, minus_log))

NOISES = frozenset(["Normal", "Exponential", "Gumbel", "Cauchy", "Logistic", "Laplace"])
"""Families of noise, where they are around 0."""


def is_near(form: Form, family: str, **params: float) -> bool:
    """Of numbers up to rounding."""
    given = [(form.params.get(name), value) for name, value in params.items()]
    return form.family == family and all(
        isinstance(found, int | float) and math.isclose(found, value, rel_tol=1e-6, abs_tol=form.nothing)
        for found, value in given
    )


@dataclass(frozen=True)
class Operation:
    """A call of which one argument has a form; ``others`` are the rest, ``position`` is where it stands.

    ``before`` and ``after`` are the shapes of the argument and of the result, ``source`` and ``dtype`` their types.
    """

    word: str
    args: Sequence[Arg]
    kwargs: Mapping[str, Arg]
    position: int
    before: Shape
    after: Shape | None
    source: torch.dtype | None
    dtype: torch.dtype | None

    @property
    def rank(self) -> int:
        return len(self.before)

    @property
    def last(self) -> Dim | None:
        """How long the argument's last dim is."""
        return self.before[-1] if self.before else None

    def is_last(self, dim: Arg) -> bool:
        """Is it the argument's last dim, alone?"""
        return dim in (-1, self.rank - 1, [-1], [self.rank - 1], (-1,), (self.rank - 1,))

    @property
    def others(self) -> tuple[Arg, ...]:
        return (*self.args[: self.position], *self.args[self.position + 1 :])

    def given(self, index: int, name: str, default: Arg = None) -> Arg:
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Rule = Callable[[Form, Operation, Algebra], Form | None]


def rules(names: str, rule: Rule) -> dict[str, Rule]:
    """One rule by several words."""
    return dict.fromkeys(names.split(), rule)
