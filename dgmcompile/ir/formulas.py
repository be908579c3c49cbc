"""Functions for what torch has no functional spelling of: writes into a tensor, and the scale of a subsample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula


def setitem(x: Tensor, index: Any, value: Any) -> Tensor:
    """``x[index] = value``, as a new tensor."""
    x = x.clone()
    x[index] = value
    return x


def copied(x: Tensor, source: Tensor) -> Tensor:
    """``x.copy_(source)``, as a new tensor."""
    return source.to(x.dtype).expand_as(x)


def fill_diagonal(x: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """``x.fill_diagonal_(fill_value)``, as a new tensor."""
    return x.clone().fill_diagonal_(fill_value, wrap)


def write_view(x: Tensor, value: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """``x`` where the view of this geometry is overwritten (the gradient of as_strided_scatter is wrong)."""
    place = torch.arange(x.numel(), device=x.device).as_strided(size, stride, offset)
    return x.reshape(-1).scatter(0, place.reshape(-1), value.to(x.dtype).expand(size).reshape(-1)).reshape(x.shape)


def read_view(x: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """The view of this geometry."""
    return torch.as_strided(x.contiguous(), size, stride, offset)


def with_gradient_of(source: Tensor, value: Tensor) -> Tensor:
    """``value``, through which the gradient of ``source`` passes: after a write that autograd does not see."""
    return value.detach() + torch.nan_to_num(source - source.detach())


def subsampling_scale(full_size: int, size: int, factor: float = 1.0) -> float:
    """By how much each of ``size`` drawn out of ``full_size`` counts, times what else the site is scaled by."""
    return factor * full_size / size


def quotient(number: float, above: int, below: int) -> float:
    """``number * above / below``, where a number of the program follows a size."""
    return number * above / below


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next state of an LSTM cell, from the sum of its two products."""
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(of_input: Tensor, of_state: Tensor, h: Tensor) -> Tensor:
    """The next state of a GRU cell, from its two products."""
    r, z, n = of_input.chunk(3, -1)
    r_state, z_state, n_state = of_state.chunk(3, -1)
    n = torch.tanh(n + torch.sigmoid(r + r_state) * n_state)
    return n + torch.sigmoid(z + z_state) * (h - n)


SETITEM, COPIED, WRITE_VIEW, READ_VIEW = (Formula.of(f) for f in (setitem, copied, write_view, read_view))
WITH_GRADIENT_OF, SUBSAMPLING_SCALE, QUOTIENT = map(Formula.of, (with_gradient_of, subsampling_scale, quotient))
FILL_DIAGONAL, LSTM_STEP, GRU_STEP = map(Formula.of, (fill_diagonal, lstm_step, gru_step))
_ALL = (
    SETITEM,
    COPIED,
    WRITE_VIEW,
    READ_VIEW,
    WITH_GRADIENT_OF,
    SUBSAMPLING_SCALE,
    QUOTIENT,
    FILL_DIAGONAL,
    LSTM_STEP,
    GRU_STEP,
)
FORMULAS = {formula.name: formula for formula in _ALL}
