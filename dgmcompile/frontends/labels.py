"""Thresholds that a draw is compared with, and labels: the place of the largest of several."""

from __future__ import annotations

from collections.abc import Mapping

from dgmcompile.frontends.algebra import Algebra
from dgmcompile.frontends.forms import FLIPPED, Form, Operation, Rule, is_near, rules
from dgmcompile.ir.graph import Arg, Ref


def _less(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _threshold(form, call.others[0], call.position == 0, algebra)


def _greater(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    return _threshold(form, call.others[0], call.position == 1, algebra)


def _threshold(form: Form, bound: Arg, below: bool, algebra: Algebra) -> Form | None:
    """1 where the value is below the bound, or above it."""
    if is_near(form, "Uniform", low=0, high=1):
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


LABELS: Mapping[str, Rule] = {
    **rules("lt le less less_equal", _less),
    **rules("gt ge greater greater_equal", _greater),
    **rules("where", _where),
    **rules("argmax", _argmax),
    **rules("one_hot", _one_hot),
    **rules("softmax", _softmax),
}
