"""Gaussian vectors: a lower triangular matrix times Normal noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dgmcompile.frontends.algebra import Algebra
from dgmcompile.frontends.forms import Form, Operation, Rule, is_near, rules
from dgmcompile.frontends.multiples import shifted
from dgmcompile.ir.graph import Arg


def _matmul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """``L @ e`` of a column or a vector, ``e @ L.T`` of rows."""
    if not is_near(form, "Normal", loc=0, scale=1):
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
    if call.position != 0 or not is_near(form, "Normal", loc=0, scale=1):
        return None
    vector, bias = _gaussian(form, call.args[1], algebra), call.given(2, "bias")
    return vector if vector is None or bias is None else shifted(vector, bias, algebra)


VECTORS: Mapping[str, Rule] = {
    **rules("matmul mv bmm", _matmul),
    **rules("linear", _linear),
}
