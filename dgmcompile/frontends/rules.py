"""The rule of each call by which a draw becomes another one, or is shown in another way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from dgmcompile.frontends.algebra import DISCRETE, Algebra
from dgmcompile.frontends.curves import CURVES
from dgmcompile.frontends.forms import Form, Operation, Rule, rules
from dgmcompile.frontends.labels import LABELS
from dgmcompile.frontends.multiples import MULTIPLES
from dgmcompile.frontends.targets import short_name
from dgmcompile.frontends.vectors import VECTORS
from dgmcompile.ir.graph import Call, Ref


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
    return replace(form, is_cut=form.is_cut or any(map(algebra.has_gradient, form.params.values())))


def _viewed(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """In another shape and the same order, where every element has the same law."""
    alike = form.event_dim == 0 and not any(isinstance(value, Ref) for value in form.params.values())
    is_reshaped = call.position == 0 and call.dtype == call.source  # ``x.view(torch.int32)`` reads the bits
    return form if is_reshaped and alike else None


def _squeeze(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if form.family == "-Column":
        return replace(form, family="MultivariateNormal") if call.given(1, "dim") in (-1, call.rank - 1) else None
    return _viewed(form, call, algebra)


RULES: Mapping[str, Rule] = {
    **MULTIPLES,
    **CURVES,
    **LABELS,
    **VECTORS,
    **rules("squeeze", _squeeze),
    **rules("float double half bfloat16 to type type_as bool int long clone contiguous identity", _cast),
    **rules("detach", _detach),
    **rules("view reshape view_as reshape_as flatten unflatten unsqueeze", _viewed),
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
