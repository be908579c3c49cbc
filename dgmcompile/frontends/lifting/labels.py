"""Thresholds that a draw is compared with, and labels: the place of the largest of several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dgmcompile.frontends.lifting.algebra import Algebra
from dgmcompile.frontends.lifting.forms import (
    ACROSS,
    FLIPPED,
    MINUS_LOG,
    QUANTILE,
    Form,
    Operation,
    Rule,
    is_near,
    rules,
)
from dgmcompile.frontends.lifting.multiples import scaled
from dgmcompile.ir.graph import Arg, Ref, refs_in

# thresholds


def _less(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.after != call.before:
        return _passed(form, call, algebra) if call.position == 1 else None
    return _threshold(form, call.others[0], call.position == 0, algebra)


def _greater(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.after != call.before:
        return _passed(form, call, algebra) if call.position == 0 else None
    return _threshold(form, call.others[0], call.position == 1, algebra)


def _heaviside(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _threshold(form, 0, False, algebra) if call.position == 0 else None


def _sign(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """It is never 0."""
    positive = _threshold(form, 0, False, algebra)
    return positive and replace(positive, either=(-1.0, 1.0))


def _threshold(form: Form, bound: Arg, below: bool, algebra: Algebra) -> Form | None:
    """1 where the value is below the bound, or above it."""
    undo = [FLIPPED] if below else []
    if form.family == "Uniform":
        probs = _share(form, bound, below, algebra)
        return None if probs is None else form.becomes("Bernoulli", *undo, probs=probs)
    if is_near(form, "-Exponential", rate=1):  # the logarithm of a uniform number
        probs = algebra.exp_up_to_1(bound)
        return form.becomes("Bernoulli", *undo, MINUS_LOG, probs=probs if below else algebra.sub(1.0, probs))
    if form.family not in ("Logistic", "Normal"):
        return None
    over = algebra.sub(form.params["loc"], bound)
    over = algebra.div(algebra.mul(-1, over) if below else over, form.params["scale"])
    if form.family == "Logistic":
        return form.becomes("Bernoulli", *undo, logits=over)
    return form.becomes("Bernoulli", *undo, QUANTILE, probs=algebra.ndtr(over))


def _share(form: Form, bound: Arg, below: bool, algebra: Algebra) -> Arg:
    """The probability that a Uniform is below the bound, or above; None where it is not as wide as 1."""
    low, high = form.params["low"], form.params["high"]
    if is_near(form, "Uniform", low=0, high=1):
        probs = algebra.probability(bound)
        return probs if below else algebra.sub(1.0, probs)
    if high != algebra.add(1.0, low) and low != algebra.add(-1.0, high):
        return None
    return algebra.probability(algebra.sub(bound, low) if below else algebra.sub(high, bound))


def _floor(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """Of a probability and a uniform: 1 where they reach it together."""
    low, high = form.params.get("low"), form.params.get("high")
    is_sum = form.family == "Uniform" and high == algebra.add(1.0, low) and algebra.is_probability(low)
    return form.becomes("Bernoulli", probs=low) if is_sum else None


def _ceil(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """Of a probability less a uniform: 1 where something is left."""
    low, high = form.params.get("low"), form.params.get("high")
    is_rest = form.family == "Uniform" and low == algebra.add(-1.0, high) and algebra.is_probability(high)
    return form.becomes("Bernoulli", probs=high) if is_rest else None


_CASTS = frozenset(["float", "double", "half", "bfloat16", "to", "type", "type_as", "bool", "int", "long"])
_FUNCTIONS = "where relu sign sgn abs absolute neg negative square pow clamp clip clamp_min clamp_max add sub subtract"
_FUNCTIONS += " rsub mul multiply div divide true_divide logical_not bitwise_not invert eq ne lt le gt ge less greater"
OF_EITHER = _CASTS | frozenset(_FUNCTIONS.split())
"""Functions of a Bernoulli, and of numbers, of which the value is one of two numbers again."""


def of_either(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """What one of them makes of 0, and of 1."""
    either = torch.tensor(form.either, dtype=call.source)
    others: list[Any] = [algebra.number(other) for other in call.others]
    if call.word in _CASTS:
        made = either.to(call.dtype)
    elif refs_in((others, dict(call.kwargs))):
        return None
    else:
        function = getattr(torch, "bitwise_not" if call.word == "invert" else call.word)
        made = function(*others[: call.position], either, *others[call.position :], **call.kwargs)
    off, on = made.tolist()
    if off == on or not math.isfinite(off - on) or (call.word in _CASTS and call.position != 0):
        return None
    return _other(form, algebra) if (off, on) == (1, 0) else replace(form, either=(float(off), float(on)))


def _other(form: Form, algebra: Algebra) -> Form:
    """1 where it is not."""
    if (logits := form.params.get("logits")) is not None:
        return form.becomes("Bernoulli", FLIPPED, logits=algebra.mul(-1, logits))
    return form.becomes("Bernoulli", FLIPPED, probs=algebra.sub(1.0, form.params["probs"]))


# labels


def _argmax(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    dim, keepdim = call.given(1, "dim", -1 if call.rank == 1 else None), call.given(2, "keepdim", False)
    label = _label(form, call, algebra) if call.is_last(dim) else None
    return label and replace(label, is_column=keepdim is True)


def _argmin(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    opposite = scaled(form, -1, algebra)
    return opposite and _argmax(opposite, call, algebra)


_PAIR = "(largest, Categorical)"


def _max(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    label = _argmax(form, call, algebra) if call.after is None else None
    return label and replace(label, family=_PAIR)


def _min(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    opposite = scaled(form, -1, algebra)
    return opposite and _max(opposite, call, algebra)


def _topk(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    is_first = call.given(1, "k") == 1 and call.given(3, "largest", True) is True
    label = _label(form, call, algebra) if is_first and call.is_last(call.given(2, "dim", -1)) else None
    return label and replace(label, family=_PAIR, is_column=True)


def index_of_largest(form: Form, call: Operation) -> Form | None:
    """The second of what `max` and `topk` return."""
    return replace(form, family="Categorical") if form.family == _PAIR and call.args[1] == 1 else None


def by_inverse_cdf(noise: Tensor, probs: Tensor) -> Tensor:
    """The uniform number that falls to the label whose exponential clock rings first.

    When that rings depends on no label, and tells where the number lies in its label's share.
    """
    first, label = (noise / probs).min(-1, keepdim=True)
    upper = probs.cumsum(-1).expand(noise.shape).gather(-1, label)
    share = probs.expand(noise.shape).gather(-1, label)
    return (upper - share * -torch.expm1(-first)).squeeze(-1)


def _by_inverse_cdf(form: Form, probs: Arg) -> Form | None:
    """How many sums of probabilities a uniform number has passed."""
    is_uniform = probs is not None and is_near(form, "Uniform", low=0, high=1)
    return form.becomes("Categorical", (by_inverse_cdf, (probs,)), probs=probs) if is_uniform else None


_PASSED = "(passed, Categorical)"


def _passed(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """Whether it has passed each of them, over a last dim of its own."""
    (bound,) = call.others
    label = _by_inverse_cdf(form, algebra.cumulated(bound)) if call.last == 1 else None
    fits = call.after == (*call.before[:-1], algebra.size(bound, -1))
    return label and replace(label, family=_PASSED) if fits else None


def _sum(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    dim, keepdim = call.given(1, "dim"), call.given(2, "keepdim", False)
    if form.family != _PASSED or not call.is_last(dim):
        return None
    return replace(form, family="Categorical", is_column=keepdim is True)


_SIDES = frozenset(["right", "side"])
"""On which a number counts that is equal to a sum, which none is."""


def _searchsorted(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position != 1 or not _SIDES.issuperset(call.kwargs) or call.after != call.before:
        return None
    label = _by_inverse_cdf(form, algebra.cumulated(call.args[0]))
    if algebra.rank(call.args[0]) == 1:
        return label
    return label and replace(label, is_column=True) if call.last == 1 else None


def _bucketize(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position != 0 or not _SIDES.issuperset(call.kwargs):
        return None
    return _by_inverse_cdf(form, algebra.cumulated(call.args[1]))


def keeps_labels(form: Form, low: Arg, high: Arg, algebra: Algebra) -> bool:
    """Are all labels between these numbers? Rounded sums of probabilities may end a little below 1."""
    count = _labels(form, algebra)
    return form.family == "Categorical" and low in (None, 0) and isinstance(count, int) and high in (None, count - 1)


def _label(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """That of the largest value over the last dim, which is that of the exponential clock that rings first."""
    if (logits := _logits(form, call, algebra)) is not None:
        return form.becomes("Categorical", logits=logits)
    if form.family in ("-Exponential", "1/Exponential") and _is_of_labels(form.params["rate"], call, algebra):
        return form.becomes("Categorical", probs=form.params["rate"])
    power = form.params.get("concentration1")
    if is_near(form, "Kumaraswamy", concentration0=1) and _is_of_labels(power, call, algebra):
        return form.becomes("Categorical", ACROSS, probs=power)
    return None


def _logits(form: Form, call: Operation, algebra: Algebra) -> Arg:
    """Of the label whose Gumbel value is the largest, over the last dim; None where that is no such label."""
    loc, scale = form.params.get("loc"), form.params.get("scale")
    if form.family != "Gumbel" or not _is_of_labels(loc, call, algebra):
        return None
    if isinstance(scale, Ref) and algebra.size(scale, -1) not in (None, 1):
        return None  # a label's own scale makes another law
    return algebra.div(loc, scale)


def _is_of_labels(param: Arg, call: Operation, algebra: Algebra) -> bool:
    """Is there one for each element of the last dim?"""
    return isinstance(param, Ref) and algebra.size(param, -1) == call.last


def _one_hot(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    count = call.given(1, "num_classes", -1)
    return _as_vector(form, algebra) if not form.is_column and count == _labels(form, algebra) else None


def _scatter(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """``zeros.scatter(-1, label, 1)``."""
    is_written = call.position == 2 and form.is_column and call.given(3, "value") == 1 and call.is_last(call.args[1])
    is_blank = is_written and algebra.number(call.args[0]) == 0
    fits = call.after == (*call.before[:-1], _labels(form, algebra))
    return _as_vector(form, algebra) if is_blank and fits else None


def _labels(form: Form, algebra: Algebra) -> Any:
    """How many there are."""
    (weights,) = form.params.values() if form.family == "Categorical" else (None,)
    return algebra.size(weights, -1)


def _as_vector(form: Form, algebra: Algebra) -> Form:
    return form.becomes("OneHotCategorical", event_dim=1, **form.params)


def _softmax(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if not call.is_last(call.given(1, "dim")) or (logits := _logits(form, call, algebra)) is None:
        return None
    temperature = algebra.div(1.0, form.params["scale"])
    return form.becomes("RelaxedOneHotCategorical", event_dim=1, temperature=temperature, logits=logits)


def _hardened(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """`straight_through.hardened`."""
    if form.family != "RelaxedOneHotCategorical" or form.is_column:
        return None
    return form.becomes("RelaxedOneHotCategoricalStraightThrough", event_dim=1, **form.params)


LABELS: Mapping[str, Rule] = {
    **rules("hardened", _hardened),
    **rules("lt le less less_equal", _less),
    **rules("gt ge greater greater_equal", _greater),
    **rules("heaviside", _heaviside),
    **rules("sign sgn", _sign),
    **rules("floor", _floor),
    **rules("ceil", _ceil),
    **rules("argmax", _argmax),
    **rules("argmin", _argmin),
    **rules("max", _max),
    **rules("min", _min),
    **rules("topk", _topk),
    **rules("one_hot", _one_hot),
    **rules("scatter", _scatter),
    **rules("softmax", _softmax),
    **rules("sum", _sum),
    **rules("searchsorted", _searchsorted),
    **rules("bucketize", _bucketize),
}
