"""Calls whose arguments are all known: their values, worked out while compiling."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, Call, Constant, DeviceOf, Node, Ref, leaves, map_arg
from dgmcompile.ir.size import Size
from dgmcompile.ir.torch_calls import FACTORIES, folding_function, words

LARGEST_RESULT = 64
"""Elements of a result that is worked out: what a reader still takes in as a literal."""

LARGEST_OPERAND = 4096
"""Elements of a constant that takes part."""

_EXACT = frozenset(
    getattr(torch, name)
    for name in words("float16 bfloat16 float32 float64 complex64 complex128 int8 int16 int32 int64 uint8 bool")
)
"""Dtypes whose elements are Python numbers without loss."""


@dataclass
class Folding:
    """Values of the nodes that are known so far."""

    values: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def fold(self, node: Node) -> Constant | None:
        """``node`` as a constant, if it is a call of known values; a factory stays, as it reads better."""
        if isinstance(node, Constant):
            self._remember(node.name, _tensor(node))
        if not isinstance(node, Call) or (value := self._value(node)) is None:
            return None
        self._remember(node.name, value)
        if node.target in FACTORIES:
            return None
        return Constant(
            name=node.name,
            shape=node.shape,
            dtype=node.dtype,
            site=node.site,
            location=node.location,
            value=_nested(value),
        )

    def _remember(self, name: str, value: Tensor | None) -> None:
        if value is not None:
            self.values[name] = value

    def _value(self, call: Call) -> Tensor | None:
        if not isinstance(call.target, str) or not _is_small(call, LARGEST_RESULT):
            return None
        if not all(map(self._is_known, leaves((call.args, dict(call.kwargs))))):
            return None
        if (function := folding_function(call.target)) is None:
            return None
        result = _run(function, self._given(call.args), self._given(dict(call.kwargs)))
        if not isinstance(result, Tensor) or result.device.type != "cpu":
            return None
        return result if (tuple(result.shape), result.dtype) == (call.shape, call.dtype) else None

    def _is_known(self, leaf: Any) -> bool:
        if isinstance(leaf, Ref):
            return leaf.name in self.values
        return not isinstance(leaf, Size | torch.device)  # a device by name may be one that is not here

    def _given(self, arg: Arg) -> Any:
        def known(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return self.values[leaf.name]
            return torch.device("cpu") if isinstance(leaf, DeviceOf) else leaf

        return map_arg(arg, known)


def _is_small(node: Node, limit: int) -> bool:
    if node.shape is None or node.dtype not in _EXACT:
        return False
    dims = [dim for dim in node.shape if isinstance(dim, int)]
    return len(dims) == len(node.shape) and prod(dims) <= limit


def _tensor(node: Constant) -> Tensor | None:
    if not _is_small(node, LARGEST_OPERAND):
        return None
    value = torch.tensor(node.value, dtype=node.dtype, device="cpu")
    return value if tuple(value.shape) == node.shape else None


def _run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings(), torch.no_grad(), torch.device("cpu"):
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    except Exception:  # the call fails: it is the program's own to fail, where it runs
        return None


def _nested(value: Tensor) -> Arg:
    return value.item() if value.dim() == 0 else tuple(_nested(part) for part in value)
