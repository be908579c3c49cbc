"""Operators of aten, as exported programs call them, by names that emitted code can call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from dgmcompile.frontends.targets import target_name


class PublicCall(NamedTuple):
    """A call by the name that a graph has for it, or None; one in place has the underscore of such."""

    target: str | None
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def public_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> PublicCall:
    """The same call as a graph can name it."""
    if isinstance(func, OpOverloadPacket):
        func = getattr(func, _overload(func, args, kwargs))
    if not isinstance(func, OpOverload):
        return PublicCall(target_name(func), func, args, kwargs)
    spelling = _SPELLINGS.get(func._schema.name)
    if spelling is not None and (spelled := spelling(*_by_place(func, args, kwargs))) is not None:
        function, args = spelled
        return PublicCall(target_name(function), function, args, {})
    return PublicCall(_name(func, args, kwargs), func, args, kwargs)


def _by_place(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by place as far as the operator takes them so."""
    placed, named = list(args), dict(kwargs)
    for argument in operator._schema.arguments[len(args) :]:
        if argument.kwarg_only or not named:
            break
        placed.append(named.pop(argument.name, argument.default_value))
    return tuple(placed), named


# -- by the operator's name --------------------------------------------------------------------------------------------


def _name(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if operator.namespace != "aten" or _word(operator) in _MOVE_MEMORY:
        return None
    return _public_name(operator) or _own_name(operator, args, kwargs)


_MOVE_MEMORY = ("set_", "resize_", "resize_as_")


@cache
def _public_name(operator: Any) -> str | None:
    """Of a function that takes the operator's own arguments: not of losses, which have other defaults."""
    word, arguments = _word(operator), operator._schema.arguments
    if any(argument.name == "reduction" for argument in arguments):
        return None
    if word in _ONLY_CHECK:
        return "torch.Tensor.requires_grad_"
    if (functional := word.removesuffix("_")) in _FUNCTIONALS:
        return f"torch.nn.functional.{_FUNCTIONALS[functional]}{word.removeprefix(functional)}"
    if _takes_the_same(torch, word):
        return f"torch.{word}"
    namespace, _, inner = word.partition("_")
    if namespace in _NAMESPACES and _takes_the_same(getattr(torch, namespace), inner):
        return f"torch.{namespace}.{inner}"
    takes_tensor = bool(arguments) and arguments[0].name in ("self", "input") and str(arguments[0].type) == "Tensor"
    return f"torch.Tensor.{word}" if takes_tensor and _takes_the_same(Tensor, word) else None


def _word(operator: Any) -> str:
    return str(operator._overloadpacket.__name__)


def _takes_the_same(owner: Any, word: str) -> bool:
    """Has it a function of this name, and not one of Python's, which may take other arguments?"""
    found = getattr(owner, word, None)
    others = found is None or inspect.ismodule(found) or inspect.isfunction(found)
    return not others and word not in _TAKE_LESS


_FUNCTIONALS = {name: name for name in ("linear", "one_hot", "pad", "glu", "adaptive_avg_pool2d", "avg_pool2d")}
_FUNCTIONALS |= {name: name for name in ("softplus", "gelu", "silu", "mish", "leaky_relu", "hardtanh", "relu6")}
_FUNCTIONALS |= {name: name for name in ("hardswish", "hardsigmoid", "scaled_dot_product_attention")}
_FUNCTIONALS |= {"log_sigmoid": "logsigmoid"}
"""Operators without a public function elsewhere, and the one that takes the same arguments."""

_TAKE_LESS = ("to", "index_put", "index_put_", "_unsafe_index", "_unsafe_index_put")
"""Functions that take less than their operators, as an index for each dim where these may have None."""

_NAMESPACES = ("special", "linalg", "fft")
"""Modules whose functions have operators of their names, and before these that of the module."""

_ONLY_CHECK = (
    "_assert_tensor_metadata",
    "_assert_async",
    "_assert_scalar",
    "_linalg_check_errors",
    "sym_constrain_range_for_size",
)
"""Operators that compute nothing."""


def _own_name(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """With the overload, unless torch finds it for these arguments; of what writes, if there is what does not."""
    word, overload = _word(operator), operator._overloadname
    if operator._schema.is_mutable:
        return f"torch.ops.aten.{word}" if word.endswith("_") and hasattr(torch.ops.aten, word[:-1]) else None
    found = _overload(operator._overloadpacket, args, kwargs)
    return f"torch.ops.aten.{word}" if found == overload else f"torch.ops.aten.{word}.{overload}"


def _overload(packet: OpOverloadPacket, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The one that torch chooses for these arguments."""
    found = torch._C._jit_resolve_packet(packet._qualified_op_name, *args, **kwargs)  # type: ignore[attr-defined]
    return str(found) or "default"


# -- in other words ----------------------------------------------------------------------------------------------------

Spelled = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function, and what it is given."""


def _by(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Spelled]:
    """It takes the same by place; what is given by name changes no result."""
    return lambda args, _: (function, args)


def _slice(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spelled:
    tensor: Tensor = args[0]
    dim, start, end, step = cast("tuple[int, Any, Any, int]", (*args[1:], *(0, None, None, 1)[len(args) - 1 :]))
    end = None if isinstance(end, int) and end >= 2**62 else end
    index = (*(slice(None) for _ in range(dim % tensor.dim())), slice(start, end, None if step == 1 else step))
    return Tensor.__getitem__, (tensor, index)


def _select(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spelled:
    tensor, dim, index = cast("tuple[Tensor, int, Any]", args)
    return Tensor.__getitem__, (tensor, (*(slice(None) for _ in range(dim % tensor.dim())), index))


def _index(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spelled | None:
    """Not by an index of no dims, which is a number between brackets: the dims may be left in another order."""
    tensor, indices = cast("tuple[Tensor, Sequence[Tensor | None]]", args)
    if any(index is not None and index.dim() == 0 for index in indices):
        return None
    return Tensor.__getitem__, (tensor, tuple(slice(None) if index is None else index for index in indices))


def _to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spelled | None:
    """A cast or a move, where it is asked for nothing else."""
    tensor, *asked = (value for value in (*args, *kwargs.values()) if not _says_nothing(value))
    if not asked or not all(isinstance(value, Tensor | torch.dtype | torch.device) for value in asked):
        return None
    return Tensor.to, (tensor, *sorted(asked, key=lambda value: isinstance(value, torch.dtype)))


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or value is torch.strided


def _to_copy(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spelled | None:
    """Not where nothing is cast, as the function does not copy then."""
    return None if kwargs.get("dtype") in (None, args[0].dtype) else _to(args, kwargs)


_SPELLINGS: Mapping[str, Callable[[tuple[Any, ...], dict[str, Any]], Spelled | None]] = {
    "aten::sym_size": _by(Tensor.size),
    "aten::sym_numel": _by(Tensor.numel),
    "aten::sym_stride": _by(Tensor.stride),
    "aten::lift_fresh_copy": _by(Tensor.clone),
    "aten::split": _by(torch.split),
    "aten::split_with_sizes": _by(torch.split),
    "aten::numpy_T": _by(Tensor.T.__get__),  # type: ignore[attr-defined]
    "aten::select": _select,
    "aten::einsum": lambda args, _: (torch.einsum, (args[0], *args[1])),
    "aten::slice": _slice,
    "aten::index": _index,
    "aten::to": _to,
    "aten::_to_copy": _to_copy,
}
"""By the operator's name; None where the call has no other words."""
