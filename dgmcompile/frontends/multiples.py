"""Multiples of a draw, and sums with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dgmcompile.frontends.algebra import Algebra
from dgmcompile.frontends.forms import (
    FLIPPED,
    NEGATED,
    NOTHING,
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
    if family == "-Column" or factor == 0:
        return None
    if sign is None and not (is_near(form, family, loc=0, scale=1) and algebra.is_scale(factor)):
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


MULTIPLES: Mapping[str, Rule] = {
    **rules("add", _add),
    **rules("sub subtract", _sub),
    **rules("rsub", _rsub),
    **rules("mul multiply", _mul),
    **rules("div divide true_divide", _div),
    **rules("neg negative", _neg),
    **rules("addcmul", _addcmul),
}
