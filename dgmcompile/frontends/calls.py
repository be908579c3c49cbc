"""What the recorder reads off a call: what it wrote, whether it drew random numbers, what its arguments are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, DeviceOf, Ref, leaves

_LITERALS = (
    bool,
    int,
    float,
    complex,
    str,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    type(...),
    type(None),
)


class Before:
    """What a call may change by the way: its arguments, and the random-number generator."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor) and not leaf.is_inference()]
        self._versions = [(tensor, tensor._version, tensor.data_ptr()) for tensor in tensors]
        self._rng = _rng_states()

    def written(self) -> list[Tensor]:
        """The arguments that were written."""
        return [t for t, version, address in self._versions if t._version != version or t.data_ptr() != address]

    def drew(self) -> bool:
        """Did it draw random numbers?"""
        with torch._C.DisableTorchFunction():  # these comparisons are no part of a recording
            return not all(map(torch.equal, self._rng, _rng_states()))


def _rng_states() -> list[Tensor]:
    states = [torch.default_generator.get_state()]
    return [*states, *torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else states


def is_among(value: Any, tensors: Iterable[Tensor]) -> bool:
    """Is it one of these very tensors?"""
    return any(value is tensor for tensor in tensors)


def in_autocast() -> bool:
    """Does ``torch.autocast`` choose dtypes?"""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def first_origin(origins: Iterable[str]) -> str | None:
    """A random variable says more than an input, and that more than a parameter."""
    order = ("site", "draw", "library", "input", "parameter")
    return min(origins, key=lambda origin: order.index(origin.partition(" ")[0]), default=None)


def may_return_tensor(func: Callable[..., Any]) -> bool:
    """Of the functions without a public name, some only set a mode."""
    return getattr(func, "__name__", "") not in ("_set_grad_enabled", "_assert", "_has_compatible_shallow_copy_type")


def type_of(value: Any) -> tuple[tuple[int, ...] | None, torch.dtype | None]:
    """Shape and dtype, of a tensor."""
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else (None, None)


def module_hint(path: str) -> str:
    """A name for what the submodule returns: ``encoder`` for ``net.encoder``, ``blocks_0`` for ``blocks.0``."""
    *above, last = path.removesuffix("._orig_mod").split(".")  # as `torch.compile` calls what it wraps
    return f"{above[-1]}_{last}" if above and last.isdigit() else last


def plain(result: Any) -> Any:
    """Named tuples and torch's return types as tuples."""
    return tuple(result) if isinstance(result, tuple) and not isinstance(result, torch.Size) else result


def as_literal(tensor: Tensor) -> Arg:
    """Its numbers, in nested tuples."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    return frozen(tensor.detach().cpu().tolist())


def is_literal(leaf: Any) -> bool:
    """Can a graph hold it?"""
    return isinstance(leaf, (Ref, DeviceOf, *_LITERALS))


def is_expanded(tensor: Tensor) -> bool:
    """Does one place of its memory stand for several elements?"""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def same_device(a: torch.device, b: torch.device) -> bool:
    """``cuda`` is ``cuda:0``."""
    return a.type == b.type and (a.index or 0) == (b.index or 0)
