"""Functions of one value that make a draw from one law a draw from another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from dgmcompile.frontends.lifting.algebra import Algebra
from dgmcompile.frontends.lifting.forms import (
    BY_RANK,
    EXP_MINUS,
    FLIPPED,
    MINUS_EXPM1,
    Form,
    Operation,
    Rule,
    is_near,
    rules,
)
from dgmcompile.frontends.lifting.labels import keeps_labels
from dgmcompile.frontends.lifting.multiples import shifted
from dgmcompile.ir.graph import Arg, Ref, TransformStep


def _exp(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if form.family == "Normal":
        return form.becomes("LogNormal", **form.params)
    if form.family == "Exponential":
        return form.becomes("Pareto", scale=1.0, alpha=form.params["rate"])
    return None


def _log(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if is_near(form, "Uniform", low=0, high=1):
        return form.becomes("-Exponential", EXP_MINUS, rate=1.0)
    if form.family in ("Exponential", "1/Exponential"):
        family = "-Gumbel" if form.family == "Exponential" else "Gumbel"
        return form.becomes(family, loc=algebra.log(form.params["rate"]), scale=1.0)
    return None


def _log1p(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    above = shifted(form, 1, algebra)
    return above and _log(above, call, algebra)


def _logit(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.given(1, "eps") is not None:
        return None
    if is_near(form, "Uniform", low=0, high=1):
        return form.becomes("Logistic", loc=0.0, scale=1.0)
    return None


def _sigmoid(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if form.family != "Logistic":
        return _pushed(form, "SigmoidTransform")
    loc, scale = form.params["loc"], form.params["scale"]
    return form.becomes("RelaxedBernoulli", temperature=algebra.div(1.0, scale), logits=algebra.div(loc, scale))


def _tanh(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _pushed(form, "TanhTransform")


def _pushed(form: Form, transform: str) -> Form | None:
    """A Normal that is squashed, as an action of a policy is; one of fixed numbers is noise that is bent."""
    is_computed = any(isinstance(value, Ref) for value in form.params.values())
    is_action = form.family == "Normal" and is_computed
    return replace(form, transforms=(TransformStep(transform),)) if is_action else None


def _folded_log(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """`idioms.folded_log`."""
    if is_near(form, "Uniform", low=-0.5, high=0.5):
        return form.becomes("Laplace", FLIPPED, loc=0.0, scale=1.0)
    return None


def _doubly_folded_log(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """`idioms.doubly_folded_log`."""
    if is_near(form, "Uniform", low=-1, high=1):
        return form.becomes("Laplace", FLIPPED, loc=0.0, scale=1.0)
    return None


def _tan(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if is_near(form, "Uniform", low=-math.pi / 2, high=math.pi / 2):
        return form.becomes("Cauchy", loc=0.0, scale=1.0)
    return None


def _abs(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return form.becomes("HalfNormal", scale=form.params["scale"]) if is_near(form, "Normal", loc=0) else None


def _pow(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _power(form, call.args[1], algebra) if call.position == 0 else None


def _power(form: Form, exponent: Arg, algebra: Algebra) -> Form | None:
    sign, inverse = algebra.sign(exponent), algebra.div(1.0, exponent)
    if is_near(form, "Uniform", low=0, high=1) and sign == 1:
        return form.becomes("Kumaraswamy", MINUS_EXPM1, concentration1=inverse, concentration0=1.0)
    if is_near(form, "Uniform", low=0, high=1) and sign == -1:
        return form.becomes("Pareto", EXP_MINUS, scale=1.0, alpha=algebra.mul(-1, inverse))
    if form.family == "Kumaraswamy" and sign == 1:
        return form.with_params(concentration1=algebra.div(form.params["concentration1"], exponent))
    if form.family == "Exponential" and sign == 1:
        scale = algebra.pow(algebra.div(1.0, form.params["rate"]), exponent)
        return form.becomes("Weibull", scale=scale, concentration=inverse)
    return None


def _sqrt(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _power(form, 0.5, algebra)


def _rsqrt(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _power(form, -0.5, algebra)


def _clamp(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """Where it keeps all but the first and the last number of a generator, or all labels, it does nothing."""
    places = {"clamp_min": (1, None), "clamp_max": (None, 1)}
    low, high = (
        at and call.given(at, name) for at, name in zip(places.get(call.word, (1, 2)), ("min", "max"), strict=True)
    )
    step = torch.finfo(torch.float32).eps
    if form.family == "Categorical":
        return form if keeps_labels(form, low, high, algebra) else None
    if not (low is None or isinstance(low, int | float)) or not (high is None or isinstance(high, int | float)):
        return None
    if is_near(form, "Uniform", low=0, high=1):
        return form if (low or 0) <= step and (1 if high is None else high) >= 1 - step else None
    return form if form.family == "Exponential" and (low or 0) <= form.nothing and high is None else None


def _erfinv(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if is_near(form, "Uniform", low=-1, high=1):
        return form.becomes("Normal", BY_RANK, loc=0.0, scale=math.sqrt(0.5))
    return None


def _ndtri(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return form.becomes("Normal", BY_RANK, loc=0.0, scale=1.0) if is_near(form, "Uniform", low=0, high=1) else None


CURVES: Mapping[str, Rule] = {
    **rules("exp", _exp),
    **rules("log", _log),
    **rules("log1p", _log1p),
    **rules("logit", _logit),
    **rules("sigmoid expit", _sigmoid),
    **rules("tanh", _tanh),
    **rules("folded_log", _folded_log),
    **rules("doubly_folded_log", _doubly_folded_log),
    **rules("tan", _tan),
    **rules("erfinv", _erfinv),
    **rules("ndtri", _ndtri),
    **rules("abs absolute", _abs),
    **rules("pow", _pow),
    **rules("sqrt", _sqrt),
    **rules("rsqrt", _rsqrt),
    **rules("clamp clip clamp_min clamp_max", _clamp),
}
