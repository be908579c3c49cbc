"""Gaussian vectors: a lower triangular matrix times Normal noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dgmcompile.frontends.lifting.algebra import Algebra
from dgmcompile.frontends.lifting.forms import Form, Operation, Rule, is_near, rules
from dgmcompile.frontends.lifting.multiples import shifted
from dgmcompile.ir.graph import Arg


def _matmul(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """``L @ e`` of a column or a vector, ``e @ L.T`` of rows."""
    (matrix,) = call.others
    if call.position == 0:
        return _gaussian(form, algebra.transposed(matrix) if algebra.rank(matrix) == 2 else None, algebra)
    if call.rank == 1:
        return _gaussian(form, matrix, algebra)
    if call.last == 1:
        vector = _gaussian(form, matrix, algebra)
        return vector and replace(vector, is_column=True)
    return None


def _gaussian(form: Form, matrix: Arg, algebra: Algebra) -> Form | None:
    if not is_near(form, "Normal", loc=0, scale=1) or not algebra.lower_triangular(matrix):
        return None
    return form.becomes("MultivariateNormal", event_dim=1, loc=None, scale_tril=matrix)


def _addmm(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position == 0 or call.kwargs:
        return None
    vector = _matmul(form, replace(call, args=call.args[1:], position=call.position - 1), algebra)
    return vector and shifted(vector, call.args[0], algebra)


def _linear(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    if call.position != 0:
        return None
    vector, bias = _gaussian(form, call.args[1], algebra), call.given(2, "bias")
    return vector if vector is None or bias is None else shifted(vector, bias, algebra)


def _einsum(form: Form, call: Operation, algebra: Algebra) -> Form | None:
    """``einsum("ij,bj->bi", L, e)``: the last dim of the noise is summed with the columns of a matrix.

    The batch of matrices, if there is one, is the last dims of the noise's own.
    """
    equation, *operands = call.args
    terms, _, result = str(equation).replace(" ", "").replace("...", "*").partition("->")
    if len(operands) != 2 or not result:
        return None
    noise, factor = terms.split(",")[:: 3 - 2 * call.position]
    batch, column, row = noise[:-1], noise[-1:], result[-1]
    is_product = result == batch + row and row not in noise and len({*noise}) == len(noise)
    if not is_product or not batch.endswith(factor[:-2]):
        return None
    matrix = operands[2 - call.position]
    if factor[-2:] == column + row:
        return _gaussian(form, algebra.transposed(matrix), algebra)
    return _gaussian(form, matrix, algebra) if factor[-2:] == row + column else None


VECTORS: Mapping[str, Rule] = {
    **rules("matmul mv bmm mm", _matmul),
    **rules("addmm addmv baddbmm", _addmm),
    **rules("linear", _linear),
    **rules("einsum", _einsum),
}
