"""Torch functions by their public names, and what the recorder has to know of some of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from dgmcompile.ir.formulas import COPIED, FILL_DIAGONAL, SETITEM
from dgmcompile.ir.graph import Arg, Formula, leaves
from dgmcompile.ir.normalisation import moved_statistics

METADATA = frozenset(
    [
        "shape",
        "size",
        "dim",
        "ndim",
        "ndimension",
        "dtype",
        "device",
        "layout",
        "numel",
        "nelement",
        "stride",
        "storage_offset",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "is_sparse",
        "is_cuda",
        "is_leaf",
        "is_nested",
        "is_quantized",
        "is_mps",
        "is_meta",
        "is_cpu",
        "requires_grad",
        "retains_grad",
        "grad_fn",
        "names",
        "element_size",
        "itemsize",
        "nbytes",
        "get_device",
        "_version",
        "output_nr",
        "__len__",
        "__hash__",
        "is_signed",
        "is_conj",
        "is_neg",
        "is_inference",
        "has_names",
        "is_pinned",
        "is_same_size",
        "is_set_to",
        "type",
        "dense_dim",
        "sparse_dim",
        "_is_view",
        "_base",
        "is_shared",
        "__dir__",
        "result_type",
        "is_tensor",
        "is_storage",
        "can_cast",
        "promote_types",
        "broadcast_shapes",
        "__dlpack_device__",
        "is_xla",
        "grad",
        "_cdata",
        "_backward_hooks",
        "_post_accumulate_grad_hooks",
    ]
)
"""Functions whose result tells nothing of a tensor's values."""


_BY_FUNCTION: dict[Callable[..., Any], str] = {
    torch._weight_norm: "torch._weight_norm",  # type: ignore[reportPrivateImportUsage]
    torch._C._nn.pad_sequence: "torch.nn.utils.rnn.pad_sequence",  # type: ignore[attr-defined]
    torch.segment_reduce: "torch.segment_reduce",
}
"""Functions that torch's own list of names lacks."""

_NO_FUNCTIONS = frozenset(["torch.Tensor.set_", "torch.Tensor.resize_", "torch.Tensor.resize_as_"])
"""Methods that change where a tensor's memory is."""


@cache
def target_name(func: Callable[..., Any]) -> str | None:
    """``torch.exp``, ``torch.Tensor.view``, ``torch.Tensor.mT``; None for what has no public name."""
    name = _BY_FUNCTION.get(func) or resolve_name(func)
    if name is None or not name.startswith("torch.") or name in _NO_FUNCTIONS:
        return None
    return name.removesuffix(".__get__").replace("torch.functional.", "torch.")


def without_defaults(func: Callable[..., Any], kwargs: Mapping[str, Arg]) -> dict[str, Arg]:
    """The arguments that say something: torch's Python functions pass on all that they have."""
    defaults = _defaults(func) if kwargs and inspect.isfunction(func) else {}
    return {name: value for name, value in kwargs.items() if not _is_default(value, defaults.get(name, ...))}


@cache
def _defaults(func: Callable[..., Any]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(func).parameters.items()}


def _is_default(value: Arg, default: Any) -> bool:
    return type(value) is type(default) and isinstance(value, bool | int | float | str | None) and value == default


def short_name(target: str) -> str:
    """The last word of a function's name, without the underscores of in-place and operator methods.

    "" of a submodule, which its user may call as any function is called.
    """
    if target.startswith("self."):
        return ""
    word = target.split(".")[3] if target.startswith("torch.ops.") else target.rpartition(".")[2]
    return word.strip("_") or "value"


_NO_OPS = frozenset(["torch.Tensor.requires_grad_", "torch.Tensor.retain_grad", "torch.Tensor.share_memory_"])


def is_no_op(target: str | None) -> bool:
    """Does the call change no value? To set an attribute that tells nothing of the values does not."""
    if target is None or not target.endswith(".__set__"):
        return target in _NO_OPS
    return target.removesuffix(".__set__").rpartition(".")[2] in METADATA


_OPERATORS = {
    "__iadd__": "add",
    "__isub__": "sub",
    "__imul__": "mul",
    "__idiv__": "div",
    "__itruediv__": "div",
    "__ifloordiv__": "floor_divide",
    "__imod__": "remainder",
    "__ipow__": "pow",
    "__iand__": "__and__",
    "__ior__": "__or__",
    "__ixor__": "__xor__",
    "__ilshift__": "__lshift__",
    "__irshift__": "__rshift__",
}


def is_in_place(target: str) -> bool:
    """Does the function write into its first argument?"""
    last = target.rpartition(".")[2]
    ends = last.endswith("_") and not last.endswith("__")
    return ends or last in _OPERATORS or last == "__setitem__" or target.endswith(".__set__")


def functional(target: str, args: Arg) -> tuple[str | Formula, Arg]:
    """The out-of-place spelling of an in-place call."""
    head, _, last = target.rpartition(".")
    match last:
        case "__setitem__":
            return SETITEM, args
        case "__set__":
            return COPIED, args
        case "copy_":
            return COPIED, args[:2]
        case "zero_":
            return "torch.zeros_like", args
        case "fill_":  # full_like takes no value that carries a gradient
            number = len(args) > 1 and isinstance(args[1], bool | int | float | complex)
            return "torch.full_like" if number else "torch.fill", args
        case "fill_diagonal_":
            return FILL_DIAGONAL, args
        case "embedding_renorm_":
            return "torch.ops.aten.embedding_renorm", args
        case _:
            return f"{head}.{_OPERATORS.get(last, last[:-1])}", args


_BY_PYTHON = frozenset(["torch.Tensor.apply_", "torch.Tensor.map_", "torch.Tensor.map2_"])


def unversioned_writes(target: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """What is written past autograd's version counters, as the running statistics of a normalisation are."""
    if target in _BY_PYTHON:
        return _tensors(args[0])
    found = (args[at] if isinstance(at, int) else kwargs[at] for at in moved_statistics(target or "", args, kwargs))
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def is_normalisation(target: str | None) -> bool:
    return short_name(target or "") in ("batch_norm", "instance_norm")


_VALUE_SHAPED = frozenset(["nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"])


def value_shaped(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Does the shape of the result depend on the values of the arguments?"""
    match target.rpartition(".")[2]:
        case "__getitem__" | "index":
            return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in leaves(args[1:]))
        case "repeat_interleave" | "split" | "tensor_split" | "interpolate":
            return bool(_tensors((args[1:], dict(kwargs))))
        case "one_hot":
            return (args[1] if len(args) > 1 else kwargs.get("num_classes", -1)) == -1
        case "where":
            return len(args) == 1 and not kwargs
        case last:
            return last in _VALUE_SHAPED


def slice_bounds(target: str, args: tuple[Any, ...]) -> list[Tensor]:
    """Tensors between the colons of ``x[a:b]``."""
    if target.rpartition(".")[2] not in ("__getitem__", "__setitem__"):
        return []
    parts = args[1] if isinstance(args[1], tuple) else (args[1],)
    return _tensors([part for part in parts if isinstance(part, slice)])


_RANGES = frozenset(["arange", "range"])


def whole_numbers(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Tensors given where the function takes whole numbers only: torch reads their values by itself."""
    last = target.rpartition(".")[2]
    if last in _RANGES:
        return _tensors((args, dict(kwargs)))
    word, own = last.strip("_"), int(target.startswith("torch.Tensor."))  # a method's first is no number anywhere
    found = [t for i, arg in enumerate(args) if i >= own and _is_whole(word, i) for t in _tensors(arg)]
    return found + [t for name, arg in kwargs.items() if _is_whole(word, name) for t in _tensors(arg)]


@cache
def _is_whole(word: str, place: int | str) -> bool:
    """In every overload that has the place; ``x.view(2, k)`` has more places than its schema."""
    found = [kind.get(place, kind[-1] if isinstance(place, int) else "") for kind in _kinds(word)]
    return bool(found) and all(kind in ("int", "int?", "int[]", "int[]?") for kind in found if kind) and any(found)


@cache
def _kinds(name: str) -> tuple[dict[int | str, str], ...]:
    """For each overload the types of its places: by position, by name, and at -1 of those beyond the last."""
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() else None
    found: list[dict[int | str, str]] = []
    for overload in packet.overloads() if packet is not None else ():
        arguments = getattr(packet, overload)._schema.arguments
        if any(argument.is_out for argument in arguments):
            continue
        placed = [a for a in arguments if not a.kwarg_only]
        types = {a.name: _kind(a) for a in arguments}
        last = _kind(placed[-1]) if placed else ""
        found.append({**types, **{i: types[a.name] for i, a in enumerate(placed)}, -1: last if "[]" in last else ""})
    return tuple(found)


def _kind(argument: Any) -> str:
    text = str(argument.type)
    inner = text.removeprefix("Optional[").removesuffix("]") if text.startswith("Optional[") else text
    return {"int": "int", "SymInt": "int", "List[int]": "int[]", "List[SymInt]": "int[]"}.get(inner, inner)


def _tensors(arg: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(arg) if isinstance(leaf, Tensor)]


SIZE_READS = frozenset(["shape", "size", "numel", "nelement", "len", "stride", "nbytes"])
"""Of a tensor that is as long as some values say, these are reads of the values; so is taking it apart."""

DTYPE_READS = frozenset(["dtype", "is_floating_point", "is_complex", "type", "element_size", "itemsize"])

ELEMENTWISE_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
_WITH_DROPOUT: dict[str, tuple[int, str, Any]] = {
    "feature_dropout": (2, "train", False),
    "native_dropout": (2, "train", False),
    "rrelu": (3, "training", False),
    "scaled_dot_product_attention": (4, "dropout_p", 0.0),
    "multi_head_attention_forward": (13, "training", False),
}
"""Place, name and value of the argument without which they draw nothing."""
_RECURRENT = ("gru", "lstm", "rnn_tanh", "rnn_relu")
"""They have dropout between their layers."""
DROPOUTS = frozenset([*ELEMENTWISE_DROPOUTS, *_WITH_DROPOUT, *_RECURRENT])
"""Functions that draw random numbers as a part of training, at every call anew."""


def without_dropout(
    target: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with which the function does the same and draws nothing."""
    if short_name(target) in _RECURRENT:
        place = next(place for place, arg in enumerate(args) if isinstance(arg, float))
        return (*args[:place], 0.0, *args[place + 1 :]), kwargs
    place, name, value = _WITH_DROPOUT.get(short_name(target), (0, "", None))
    if not name:
        return args, kwargs
    if len(args) > place:
        return (*args[:place], value, *args[place + 1 :]), kwargs
    return args, {**kwargs, name: value}


INDEXED = frozenset(
    [
        "getitem",
        "setitem",
        "index",
        "index_select",
        "index_add",
        "index_copy",
        "index_fill",
        "index_put",
        "index_reduce",
        "gather",
        "scatter",
        "scatter_add",
        "scatter_reduce",
        "take",
        "take_along_dim",
        "put",
        "embedding",
        "embedding_bag",
        "one_hot",
        "nll_loss",
        "cross_entropy",
    ]
)
"""Calls that may be given an index out of range, without the underscores of methods."""

TAKEN_APART = frozenset(["unbind", "split", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit"])
