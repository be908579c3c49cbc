"""Values that are draws from a law, element by element, and what a call makes of one.

A law whose name begins with ``-`` is that of the negative of a draw: it is on the way to another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dgmcompile.frontends.algebra import DISCRETE, Algebra
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.binding import Step
from dgmcompile.ir.graph import Arg, Call, Ref


@dataclass(frozen=True)
class Form:
    """A draw from ``family(**params)``. ``undo``: from the family's own noise to the noise that the program drew."""

    family: str
    params: Mapping[str, Arg]
    event_dim: int = 0
    undo: tuple[Step, ...] = ()

    def with_params(self, *undo: Step, **params: Arg) -> Form:
        return replace(self, params={**self.params, **params}, undo=(*undo, *self.undo))

    def becomes(self, family: str, *undo: Step, event_dim: int = 0, **params: Arg) -> Form:
        return Form(family, params, event_dim, (*undo, *self.undo))


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


_VALUES = {"Normal": moved, "Uniform": between, "Exponential": at_rate, "Gumbel": gumbel}
_PLACES = {"Normal": ("loc", "scale"), "Uniform": ("low", "high"), "Exponential": ("rate",), "Gumbel": ("loc", "scale")}
"""Of the families of which programs make others: the value of their noise, and the parameters that it takes."""


def by_rank(noise: Tensor) -> Tensor:
    """The uniform whose normal quantile is the noise."""
    return torch.special.ndtr(noise)


FLIPPED, NEGATED, EXP_MINUS, BY_RANK = ((step, ()) for step in (flipped, negated, exp_minus, by_rank))

NOISES = frozenset(["Normal", "Exponential", "Gumbel", "Cauchy", "Logistic", "Laplace"])
"""Families of noise, where they are around 0."""

_BY_SCALE = ("HalfNormal", "Weibull", "Pareto")
_SYMMETRIC = ("Normal", "Cauchy", "Logistic", "Laplace")


@dataclass(frozen=True)
class Operation:
    """A call of which one argument has a form; ``others`` are the rest, ``position`` is where it stands."""

    args: Sequence[Arg]
    kwargs: Mapping[str, Arg]
    position: int
    rank: int
    """How many dims the argument has."""
    last: Any = None
    """How long its last dim is."""
    source: torch.dtype | None = None
    dtype: torch.dtype | None = None
    """Of the argument and of the result."""

    @property
    def others(self) -> tuple[Arg, ...]:
        return (*self.args[: self.position], *self.args[self.position + 1 :])

    def given(self, index: int, name: str, default: Arg = None) -> Arg:
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Rule = Callable[[Form, Operation, Algebra], Form | None]


# multiples and sums


def scaled(form: Form, factor: Arg, algebra: Algebra) -> Form | None:
    """``factor`` times the value."""
    family, sign, given = form.family, algebra.sign(factor), form.params
    if factor == 1:
        return form
    if family == "-Column" or factor == 0:
        return None
    if sign is None and not (_is(form, family, loc=0, scale=1) and algebra.is_scale(factor)):
        return None  # it may be 0, as a mask is; of noise it is the scale
    if family in _SYMMETRIC:
        return _symmetric(form, factor, algebra)
    if sign is None:
        return None
    if family.startswith("-"):
        inner = replace(form, family=family[1:])
        opposite = scaled(inner, algebra.mul(sign, factor), algebra)
        return _negative(opposite) if sign > 0 else opposite
    if family == "Uniform":
        low, high = (algebra.mul(factor, given[name]) for name in ("low", "high"))
        return form.with_params(low=low, high=high) if sign > 0 else form.with_params(FLIPPED, low=high, high=low)
    if sign < 0:
        return _negative(scaled(form, algebra.mul(-1, factor), algebra))
    if family == "Gumbel":
        return form.with_params(loc=algebra.mul(factor, given["loc"]), scale=algebra.mul(factor, given["scale"]))
    if family == "Exponential":
        return form.with_params(rate=algebra.div(given["rate"], factor))
    if family in _BY_SCALE:
        return form.with_params(scale=algebra.mul(factor, given["scale"]))
    return None


def _symmetric(form: Form, factor: Arg, algebra: Algebra) -> Form:
    """Around 0 it is the law of its negative, so a factor of either sign will do."""
    loc, scale, sign = algebra.mul(factor, form.params["loc"]), form.params["scale"], algebra.sign(factor)
    is_normal = form.family == "Normal"
    if sign is None:
        undo: Step = (signed if is_normal else flipped_where_negative, (factor,))
        return form.with_params(undo, loc=loc, scale=algebra.mul(algebra.abs(factor), scale))
    if sign < 0:
        factor = algebra.mul(-1, factor)
        return form.with_params(NEGATED if is_normal else FLIPPED, loc=loc, scale=algebra.mul(factor, scale))
    return form.with_params(loc=loc, scale=algebra.mul(factor, scale))


def _negative(form: Form | None) -> Form | None:
    if form is None or form.family not in ("Exponential", "Gumbel", "-Exponential", "-Gumbel"):
        return None
    return replace(form, family=form.family[1:] if form.family.startswith("-") else f"-{form.family}")


NOTHING = 1e-10
"""What is added to noise so that no logarithm is infinite: less than what lies between two numbers of a generator."""


def shifted(form: Form, shift: Arg, algebra: Algebra) -> Form | None:
    """The value plus ``shift``."""
    family, given = form.family, form.params
    if family.endswith("Exponential") and isinstance(shift, int | float) and abs(shift) <= NOTHING:
        return form
    if family in (*_SYMMETRIC, "Gumbel"):
        return form.with_params(loc=algebra.add(given["loc"], shift))
    if family == "-Gumbel":
        return form.with_params(loc=algebra.add(given["loc"], algebra.mul(-1, shift)))
    if family == "Uniform":
        return form.with_params(low=algebra.add(given["low"], shift), high=algebra.add(given["high"], shift))
    if family == "MultivariateNormal":
        is_number = given["loc"] is None and not isinstance(shift, Ref)
        loc = algebra.zeros(given["scale_tril"]) if is_number else given["loc"]
        return form.with_params(loc=shift if loc is None else algebra.add(loc, shift))
    return None


def _add(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    (other,), alpha = call.others, call.kwargs.get("alpha", 1)
    if call.position == 0:
        return shifted(form, algebra.mul(alpha, other), algebra)
    multiple = scaled(form, alpha, algebra)
    return multiple and shifted(multiple, other, algebra)


def _sub(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    (other,), alpha = call.others, call.kwargs.get("alpha", 1)
    if call.position == 0:
        return shifted(form, algebra.mul(-alpha, other), algebra)
    multiple = scaled(form, -alpha, algebra)
    return multiple and shifted(multiple, other, algebra)


def _rsub(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    turned = replace(call, args=(call.args[1], call.args[0]), position=1 - call.position)
    return _sub(form, turned, algebra)


def _mul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    (other,) = call.others
    return scaled(form, other, algebra)


def _div(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position != 0 or call.kwargs:
        return None
    return scaled(form, algebra.div(1.0, call.args[1]), algebra)


def _neg(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return scaled(form, -1, algebra)


def _addcmul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position == 0:
        return None
    mean, one, other = call.args
    multiple = scaled(form, algebra.mul(call.kwargs.get("value", 1), other if call.position == 1 else one), algebra)
    return multiple and shifted(multiple, mean, algebra)


# functions of one value


def _is(form: Form, family: str, **params: float) -> bool:
    """Of numbers up to rounding."""
    given = [(form.params.get(name), value) for name, value in params.items()]
    return form.family == family and all(
        isinstance(found, int | float) and math.isclose(found, value, rel_tol=1e-6, abs_tol=NOTHING)
        for found, value in given
    )


def _exp(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if form.family == "Normal":
        return form.becomes("LogNormal", **form.params)
    if form.family == "Exponential":
        return form.becomes("Pareto", scale=1.0, alpha=form.params["rate"])
    return None


def _log(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if _is(form, "Uniform", low=0, high=1):
        return form.becomes("-Exponential", EXP_MINUS, rate=1.0)
    if _is(form, "Exponential", rate=1):
        return form.becomes("-Gumbel", loc=0.0, scale=1.0)
    return None


def _log1p(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    above = shifted(form, 1, algebra)
    return above and _log(above, call, algebra)


def _logit(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.given(1, "eps") is not None:
        return None
    if _is(form, "Uniform", low=0, high=1):
        return form.becomes("Logistic", loc=0.0, scale=1.0)
    return None


def _sigmoid(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if form.family != "Logistic":
        return None
    loc, scale = form.params["loc"], form.params["scale"]
    return form.becomes("RelaxedBernoulli", temperature=algebra.div(1.0, scale), logits=algebra.div(loc, scale))


def _tan(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if _is(form, "Uniform", low=-math.pi / 2, high=math.pi / 2):
        return form.becomes("Cauchy", loc=0.0, scale=1.0)
    return None


def _abs(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return form.becomes("HalfNormal", scale=form.params["scale"]) if _is(form, "Normal", loc=0) else None


def _pow(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position == 0 and _is(form, "Exponential", rate=1) and algebra.sign(call.args[1]) == 1:
        return form.becomes("Weibull", scale=1.0, concentration=algebra.div(1.0, call.args[1]))
    return None


def _sqrt(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return form.becomes("Weibull", scale=1.0, concentration=2.0) if _is(form, "Exponential", rate=1) else None


def _clamp(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """Where it keeps all but the first and the last number of a generator, it does nothing."""
    low, high, step = call.given(1, "min"), call.given(2, "max"), torch.finfo(torch.float32).eps
    if not (low is None or isinstance(low, int | float)) or not (high is None or isinstance(high, int | float)):
        return None
    if _is(form, "Uniform", low=0, high=1):
        return form if (low or 0) <= step and (1 if high is None else high) >= 1 - step else None
    return form if form.family == "Exponential" and (low or 0) <= NOTHING and high is None else None


def _erfinv(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if _is(form, "Uniform", low=-1, high=1):
        return form.becomes("Normal", BY_RANK, loc=0.0, scale=math.sqrt(0.5))
    return None


def _ndtri(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return form.becomes("Normal", BY_RANK, loc=0.0, scale=1.0) if _is(form, "Uniform", low=0, high=1) else None


# thresholds


def _less(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _threshold(form, call.others[0], call.position == 0, algebra)


def _greater(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _threshold(form, call.others[0], call.position == 1, algebra)


def _threshold(form: Form, bound: Arg, below: bool, algebra: Algebra) -> Form | None:
    """1 where the value is below the bound, or above it."""
    if _is(form, "Uniform", low=0, high=1):
        probs = algebra.probability(bound)
        if below:
            return form.becomes("Bernoulli", FLIPPED, probs=probs)
        return form.becomes("Bernoulli", probs=algebra.add(1.0, algebra.mul(-1, probs)))
    if form.family == "Logistic":
        over = algebra.add(form.params["loc"], algebra.mul(-1, bound))
        logits = algebra.div(algebra.mul(-1, over) if below else over, form.params["scale"])
        return form.becomes("Bernoulli", *([FLIPPED] if below else []), logits=logits)
    return None


def _where(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    chosen = [algebra.number(value) for value in call.args[1:]]
    return form if form.family == "Bernoulli" and call.position == 0 and chosen == [1, 0] else None


# labels


def _argmax(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    dim, keepdim = call.given(1, "dim"), call.given(2, "keepdim", False)
    if dim not in (-1, call.rank - 1) or keepdim or (logits := _logits(form, call, algebra)) is None:
        return None
    return form.becomes("Categorical", logits=logits)


def _logits(form: Form, call: Operation, algebra: Algebra) -> Arg:
    """Of the label whose Gumbel value is the largest, over the last dim; None where that is no such label."""
    loc, scale = form.params.get("loc"), form.params.get("scale")
    if form.family != "Gumbel" or not isinstance(loc, Ref) or algebra.size(loc, -1) != call.last:
        return None
    if isinstance(scale, Ref) and algebra.size(scale, -1) not in (None, 1):
        return None  # a label's own scale makes another law
    return algebra.div(loc, scale)


def _one_hot(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    count = call.given(1, "num_classes", -1)
    if form.family != "Categorical" or count != algebra.size(form.params["logits"], -1):
        return None
    return form.becomes("OneHotCategorical", event_dim=1, **form.params)


def _softmax(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.given(1, "dim") not in (-1, call.rank - 1) or (logits := _logits(form, call, algebra)) is None:
        return None
    temperature = algebra.div(1.0, form.params["scale"])
    return form.becomes("RelaxedOneHotCategorical", event_dim=1, temperature=temperature, logits=logits)


# vectors


def _matmul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """``L @ e`` of a column or a vector, ``e @ L.T`` of rows."""
    if not _is(form, "Normal", loc=0, scale=1):
        return None
    (matrix,) = call.others
    if call.position == 0:
        found = None if algebra.rank(matrix) != 2 else algebra.transposed(matrix)
        return None if found is None else _gaussian(form, found, algebra)
    if call.rank == 1:
        return _gaussian(form, matrix, algebra)
    if algebra.size(call.args[1], -1) == 1:
        vector = _gaussian(form, matrix, algebra)
        return vector and replace(vector, family="-Column")
    return None


def _gaussian(form: Form, matrix: Arg, algebra: Algebra) -> Form | None:
    if not algebra.lower_triangular(matrix):
        return None
    return form.becomes("MultivariateNormal", event_dim=1, loc=None, scale_tril=matrix)


def _linear(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position != 0 or not _is(form, "Normal", loc=0, scale=1):
        return None
    vector, bias = _gaussian(form, call.args[1], algebra), call.given(2, "bias")
    return vector if vector is None or bias is None else shifted(vector, bias, algebra)


def _squeeze(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if form.family == "-Column":
        return replace(form, family="MultivariateNormal") if call.given(1, "dim") in (-1, call.rank - 1) else None
    return _viewed(form, call, algebra)


# the same value


def _cast(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """A real number as a whole one is another number."""
    if call.position != 0 or call.dtype is None:
        return None
    if form.family in DISCRETE:
        return form if form.family == "Bernoulli" or call.dtype != torch.bool else None
    digits = min(call.source.itemsize, 4) if call.source is not None else 4
    return form if call.dtype.is_floating_point and call.dtype.itemsize >= digits else None


def _detach(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """What carries no gradient is another value where the law has parameters that do."""
    return None if any(isinstance(value, Ref) for value in form.params.values()) else _cast(form, call, algebra)


def _viewed(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """In another shape and the same order, where every element has the same law."""
    alike = form.event_dim == 0 and not any(isinstance(value, Ref) for value in form.params.values())
    is_reshaped = call.position == 0 and call.dtype == call.source  # ``x.view(torch.int32)`` reads the bits
    return form if is_reshaped and alike else None


def _rules(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_rules("add", _add),
    **_rules("sub subtract", _sub),
    **_rules("rsub", _rsub),
    **_rules("mul multiply", _mul),
    **_rules("div divide true_divide", _div),
    **_rules("neg negative", _neg),
    **_rules("addcmul", _addcmul),
    **_rules("exp", _exp),
    **_rules("log", _log),
    **_rules("log1p", _log1p),
    **_rules("logit", _logit),
    **_rules("sigmoid expit", _sigmoid),
    **_rules("tan", _tan),
    **_rules("erfinv", _erfinv),
    **_rules("ndtri", _ndtri),
    **_rules("abs absolute", _abs),
    **_rules("pow", _pow),
    **_rules("sqrt", _sqrt),
    **_rules("clamp clip clamp_min", _clamp),
    **_rules("lt le less less_equal", _less),
    **_rules("gt ge greater greater_equal", _greater),
    **_rules("where", _where),
    **_rules("argmax", _argmax),
    **_rules("one_hot", _one_hot),
    **_rules("softmax", _softmax),
    **_rules("matmul mv bmm", _matmul),
    **_rules("linear", _linear),
    **_rules("squeeze", _squeeze),
    **_rules("float double half bfloat16 to type type_as bool int long clone contiguous identity", _cast),
    **_rules("detach", _detach),
    **_rules("view reshape view_as reshape_as flatten unflatten unsqueeze", _viewed),
}
"""By the last word of the call's public name, without underscores."""

RESHAPING = frozenset(
    ["argmax", "one_hot", "squeeze", "view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "unsqueeze"]
)
"""Those of which the result has another shape than what it is made of."""

ARITHMETIC = frozenset(RULES) - RESHAPING - {"matmul", "mv", "bmm", "linear", "to", "type", "clone", "contiguous"}
"""Those by which noise becomes a variable: noise that they read, and that is not recovered, is none by itself."""


def reads_same(call: Call) -> bool:
    """Does it give the same values, in another shape or of another type, or some of them?"""
    word = short_name(call.target_name)
    return word in ("getitem", "select") or RULES.get(word) in (_cast, _detach, _viewed, _squeeze)
