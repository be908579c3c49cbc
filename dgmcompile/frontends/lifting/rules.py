"""The rule of each call by which a draw becomes another one, or is shown in another way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dgmcompile.frontends.lifting.algebra import DISCRETE, Algebra
from dgmcompile.frontends.lifting.curves import CURVES
from dgmcompile.frontends.lifting.forms import Form, Operation, Rule, rules
from dgmcompile.frontends.lifting.labels import LABELS, OF_EITHER, index_of_largest, of_either
from dgmcompile.frontends.lifting.multiples import MULTIPLES
from dgmcompile.frontends.lifting.vectors import VECTORS
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Call, Ref, refs_in


def _cast(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """A real number as a whole one is another number, as a label is as a byte."""
    if call.position != 0 or call.dtype is None:
        return None
    if form.family in DISCRETE:
        return form if form.family != "Categorical" or call.dtype.itemsize > 1 else None
    digits = min(call.source.itemsize, 4) if call.source is not None else 4
    return form if call.dtype.is_floating_point and call.dtype.itemsize >= digits else None


def _detach(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """What carries no gradient is another value where the law has parameters that do."""
    return replace(form, is_cut=form.is_cut or any(map(algebra.has_gradient, form.params.values())))


def _viewed(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """In another shape and the same order, where every element has the same law."""
    if call.position != 0 or call.dtype != call.source:  # ``x.view(torch.int32)`` reads the bits
        return None
    if form.is_column:
        return replace(form, is_column=False) if call.after == call.before[:-1] else None
    alike = form.event_dim == 0 and not any(isinstance(value, Ref) for value in form.params.values())
    return form if alike else None


def _getitem(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """Of a tuple, the first of a last dim of one element, and what only adds a dim."""
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if (label := index_of_largest(form, call)) is not None:
        return label
    whole = [part is None or part is ... or part == slice(None) for part in index]
    is_first = form.is_column and index[-1] in (0, -1) and all(whole[:-1]) and None not in index
    return _viewed(form, call, algebra) if is_first or all(whole) else None


def _select(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    is_first = form.is_column and call.is_last(call.given(1, "dim")) and call.given(2, "index") in (0, -1)
    return _viewed(form, call, algebra) if is_first else None


RULES: Mapping[str, Rule] = {
    **MULTIPLES,
    **CURVES,
    **LABELS,
    **VECTORS,
    **rules("getitem", _getitem),
    **rules("select", _select),
    **rules("float double half bfloat16 to type type_as bool int long clone contiguous identity", _cast),
    **rules("detach", _detach),
    **rules("view reshape view_as reshape_as flatten unflatten unsqueeze squeeze", _viewed),
}
"""By the last word of the call's public name, without underscores."""

_VIEWS = frozenset(word for word, rule in RULES.items() if rule is _viewed)
_OF_LABELS = ("argmax", "argmin", "max", "min", "topk", "one_hot", "scatter", "sum")
RESHAPING = _VIEWS | {*_OF_LABELS, "getitem", "select"}
"""Those of which the result has another shape than what it is made of."""

_COMPARISONS = ("lt", "le", "less", "less_equal", "gt", "ge", "greater", "greater_equal")
"""Those that look at the shape themselves."""

ARITHMETIC = frozenset(RULES) - RESHAPING - frozenset(VECTORS) - {"to", "type", "clone", "contiguous"}
"""Those by which noise becomes a variable: noise that they read, and that is not recovered, is none by itself."""


def reads_same(call: Call, name: str) -> bool:
    """Does it give the values of that node, in another shape or of another type, or some of them?"""
    word = short_name(call.target_name)
    return call.args[:1] == (Ref(name),) and RULES.get(word) in (_cast, _detach, _viewed, _getitem, _select)


def takes_part(call: Call) -> bool:
    """May it give some of the values only?"""
    return RULES.get(short_name(call.target_name)) in (_getitem, _select)


def maps_one_value(call: Call) -> bool:
    """Is it a function of one value and of numbers, as ``1 - b``?"""
    return short_name(call.target_name) in OF_EITHER and len(refs_in(call.arguments)) == 1


def shows_all(call: Call) -> bool:
    """Does it give all the same values, in another shape or cut off from their gradient?"""
    return short_name(call.target_name) in (*_VIEWS, "detach")


def made(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """What the call makes of a draw; None where no rule knows."""
    rule = of_either if form.family == "Bernoulli" and call.word in OF_EITHER else RULES.get(call.word)
    if form.transforms and rule not in (_cast, _detach, _viewed):
        return None
    may_reshape = rule is not of_either and call.word in (*RESHAPING, *_COMPARISONS)
    if rule is None or (call.after != call.before and not may_reshape):
        return None  # or one draw stands for several elements
    try:
        return rule(form, call, algebra)
    except (TypeError, ValueError, RuntimeError):  # arguments of another kind than the rule knows
        return None
