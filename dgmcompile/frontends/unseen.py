"""Operations that torch does not dispatch to Python functions: those of scripted code, of C++ extensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dgmcompile.ir.graph import leaves


class UnseenCalls(TorchDispatchMode):
    """Tells ``found`` of each operation that runs while ``is_seen()`` is false.

    Args:
        is_seen: does the operation belong to a call that is recorded?
        found: takes the tensors that it reads and those that it returns, or writes into.
    """

    supports_higher_order_operators = True  # as torch.cond, which is an operation like any other here

    def __init__(self, is_seen: Callable[[], bool], found: Callable[[list[Tensor], list[Tensor]], None]) -> None:
        super().__init__()
        self._is_seen = is_seen
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._is_seen():
            self._found(_tensors((args, kwargs or {})), _tensors(result))
        return result


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
