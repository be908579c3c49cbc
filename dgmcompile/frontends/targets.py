"""Torch functions by their public names, and what the recorder has to know of some of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from dgmcompile.ir.formulas import COPIED, SETITEM
from dgmcompile.ir.graph import Arg, Formula, leaves

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
        "data_ptr",
        "untyped_storage",
        "storage",
        "_version",
        "output_nr",
        "__len__",
        "__hash__",
        "__repr__",
        "__str__",
        "__format__",
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
        "__reduce_ex__",
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


@cache
def target_name(func: Callable[..., Any]) -> str | None:
    """``torch.exp``, ``torch.Tensor.view``, ``torch.Tensor.mT``; None for what has no public name."""
    name = resolve_name(func)
    if name is None:
        return None
    return name.removesuffix(".__get__").replace("torch.functional.", "torch.")


def short_name(target: str) -> str:
    """The last word of a target, without the underscores of in-place and operator methods."""
    return target.rpartition(".")[2].strip("_") or "value"


NO_OPS = frozenset(["torch.Tensor.requires_grad_", "torch.Tensor.retain_grad", "torch.Tensor.share_memory_"])
"""Calls that change no value."""

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
        case "fill_":
            return "torch.full_like", args
        case _:
            return f"{head}.{_OPERATORS.get(last, last[:-1])}", args


def unversioned_writes(target: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The running statistics that a normalisation updates past autograd's version counters."""
    if target not in ("torch.nn.functional.batch_norm", "torch.nn.functional.instance_norm"):
        return []
    if not kwargs.get("training", kwargs.get("use_input_stats", False)):
        return []
    found = (*args[1:3], kwargs.get("running_mean"), kwargs.get("running_var"))
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


_VALUE_SHAPED = frozenset(
    ["nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "repeat_interleave"]
)


def value_shaped(target: str, args: tuple[Any, ...]) -> bool:
    """Does the shape of the result depend on the values of the arguments?"""
    last = target.rpartition(".")[2]
    if last == "__getitem__":
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in leaves(args[1:]))
    if last == "repeat_interleave":
        return any(isinstance(argument, Tensor) for argument in args[1:])
    if last == "one_hot":
        return len(args) < 2 or args[1] == -1
    return last in _VALUE_SHAPED or (last == "where" and len(args) == 1)
