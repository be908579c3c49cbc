"""Multiples of a draw, and sums with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dgmcompile.frontends.lifting.algebra import Algebra
from dgmcompile.frontends.lifting.forms import (
    ACROSS,
    EXP_MINUS,
    FLIPPED,
    NEGATED,
    Form,
    Operation,
    Rule,
    flipped_where_negative,
    is_near,
    rules,
    signed,
)
from dgmcompile.ir.binding import Step
from dgmcompile.ir.graph import Arg, Ref

_BY_SCALE = ("HalfNormal", "Weibull", "Pareto")
_SYMMETRIC = ("Normal", "Cauchy", "Logistic", "Laplace")


def scaled(form: Form, factor: Arg, algebra: Algebra) -> Form | None:
    """``factor`` times the value."""
    family, sign, given = form.family, algebra.sign(factor), form.params
    if factor == 1:
        return form
    if family == "1/Exponential" and algebra.is_probability(factor):  # a label of probability 0 is never the largest
        return form.with_params(rate=algebra.mul(factor, given["rate"]))
    if factor == 0 or (sign is None and not _is_scale(form, factor, algebra)):
        return None
    if family in _SYMMETRIC:
        return _symmetric(form, factor, algebra)
    if sign is None:
        return _of_either_sign(form, factor, algebra) if family == "Uniform" else None
    if family.startswith("-"):
        inner = replace(form, family=family[1:])
        opposite = scaled(inner, algebra.mul(sign, factor), algebra)
        return _negative(opposite) if sign > 0 else opposite
    if family == "Uniform":
        low, high = (algebra.mul(factor, given[name]) for name in ("low", "high"))
        return form.with_params(low=low, high=high) if sign > 0 else form.with_params(FLIPPED, low=high, high=low)
    if family == "MultivariateNormal":
        return _gaussian_vector(form, factor, sign, algebra)
    if sign < 0:
        return _negative(scaled(form, algebra.mul(-1, factor), algebra))
    if family == "Gumbel":
        return form.with_params(loc=algebra.mul(factor, given["loc"]), scale=algebra.mul(factor, given["scale"]))
    if family == "Exponential":
        return form.with_params(rate=algebra.div(given["rate"], factor))
    if family == "1/Exponential":
        return form.with_params(rate=algebra.mul(factor, given["rate"]))
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


def _gaussian_vector(form: Form, factor: Arg, sign: int, algebra: Algebra) -> Form | None:
    """Its rows are scaled. It is the law of its negative around 0 as well, of another factor of its covariance."""
    loc, matrix = form.params["loc"], form.params["scale_tril"]
    if algebra.rank(factor) and (form.is_column or algebra.size(factor, -1) != algebra.size(matrix, -1)):
        return None
    moved = {"loc": None if loc is None else algebra.mul(factor, loc)}
    rows = factor if sign > 0 else algebra.mul(-1, factor)
    rows = algebra.unsqueezed(rows) if algebra.rank(rows) else rows
    return form.with_params(*([] if sign > 0 else [NEGATED]), **moved, scale_tril=algebra.mul(rows, matrix))


def _is_scale(form: Form, factor: Arg, algebra: Algebra) -> bool:
    """Is it one though its sign is not known? It may be 0, as a mask is; of noise, or as a parameter, it is."""
    is_noise = is_near(form, form.family, loc=0, scale=1) or is_near(form, "Uniform", low=0, high=1)
    return algebra.is_scale(factor) and (
        is_noise or (is_near(form, form.family, loc=0) and algebra.is_parameter(factor))
    )


def _of_either_sign(form: Form, factor: Arg, algebra: Algebra) -> Form:
    """Uniform between 0 and the factor."""
    low, high = algebra.clamped(factor, high=0), algebra.clamped(factor, low=0)
    return form.with_params((flipped_where_negative, (factor,)), low=low, high=high)


def _negative(form: Form | None) -> Form | None:
    if form is None or form.family.removeprefix("-") not in ("Exponential", "Gumbel", "Kumaraswamy"):
        return None
    return replace(form, family=form.family[1:] if form.family.startswith("-") else f"-{form.family}")


def shifted(form: Form, shift: Arg, algebra: Algebra) -> Form | None:
    """The value plus ``shift``."""
    family, given = form.family, form.params
    if family in ("Exponential", "-Exponential") and isinstance(shift, int | float) and abs(shift) <= form.nothing:
        return form
    if family == "-Kumaraswamy" and shift == 1:
        return _complement(form)
    if family in (*_SYMMETRIC, "Gumbel"):
        return form.with_params(loc=algebra.add(given["loc"], shift))
    if family == "-Gumbel":
        return form.with_params(loc=algebra.add(given["loc"], algebra.mul(-1, shift)))
    if family == "Uniform":
        return form.with_params(low=algebra.add(given["low"], shift), high=algebra.add(given["high"], shift))
    if family == "MultivariateNormal":
        is_number = given["loc"] is None and not isinstance(shift, Ref)
        loc = algebra.zeros(given["scale_tril"]) if is_number else given["loc"]
        shift = algebra.squeezed(shift) if form.is_column else shift
        return form.with_params(loc=shift if loc is None else algebra.add(loc, shift))
    return None


def _complement(form: Form) -> Form | None:
    """1 minus a value whose distribution function is a power is one of which 1 minus it is, and the other way round."""
    first, second = form.params["concentration1"], form.params["concentration0"]
    if 1 not in (first, second):
        return None
    return form.becomes("Kumaraswamy", ACROSS, concentration1=second, concentration0=first)


def reciprocal(form: Form) -> Form | None:
    """1 over the value."""
    if form.family == "Exponential":
        return form.becomes("1/Exponential", **form.params)
    if is_near(form, "Uniform", low=0, high=1):
        return form.becomes("Pareto", EXP_MINUS, scale=1.0, alpha=1.0)
    if is_near(form, "Kumaraswamy", concentration0=1):
        return form.becomes("Pareto", ACROSS, scale=1.0, alpha=form.params["concentration1"])
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
    return _sub(form, _turned(call), algebra)


def _turned(call: Operation) -> Operation:
    return replace(call, args=(call.args[1], call.args[0]), position=1 - call.position)


def _mul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    (other,) = call.others
    return scaled(form, other, algebra)


def _div(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.kwargs:
        return None
    if call.position == 0:
        return scaled(form, algebra.div(1.0, call.args[1]), algebra)
    inverse = reciprocal(form)
    return inverse and scaled(inverse, call.args[0], algebra)


def _rdiv(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _div(form, _turned(call), algebra)


def _reciprocal(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return reciprocal(form)


def _neg(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return scaled(form, -1, algebra)


def _addcmul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position == 0:
        return None
    mean, one, other = call.args
    multiple = scaled(form, algebra.mul(call.kwargs.get("value", 1), other if call.position == 1 else one), algebra)
    return multiple and shifted(multiple, mean, algebra)


def _addcdiv(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position != 1:
        return None
    multiple = scaled(form, algebra.div(call.kwargs.get("value", 1.0), call.args[2]), algebra)
    return multiple and shifted(multiple, call.args[0], algebra)


def _lerp(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """``start + weight * (end - start)``."""
    start, end, weight = call.args
    if call.position == 2:
        factor, more = algebra.sub(end, start), start
    elif call.position == 1:
        factor, more = weight, algebra.mul(algebra.sub(1.0, weight), start)
    else:
        factor, more = algebra.sub(1.0, weight), algebra.mul(weight, end)
    multiple = scaled(form, factor, algebra)
    return multiple and shifted(multiple, more, algebra)


MULTIPLES: Mapping[str, Rule] = {
    **rules("add", _add),
    **rules("sub subtract", _sub),
    **rules("rsub", _rsub),
    **rules("mul multiply", _mul),
    **rules("div divide true_divide", _div),
    **rules("neg negative", _neg),
    **rules("rtruediv rdiv", _rdiv),
    **rules("reciprocal", _reciprocal),
    **rules("addcmul", _addcmul),
    **rules("addcdiv", _addcdiv),
    **rules("lerp", _lerp),
}
