"""Torch functions by their public names, and what the recorder has to know of some of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torch.overrides import resolve_name

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


def is_in_place(target: str) -> bool:
    """Does the function write into its first argument?"""
    last = target.rpartition(".")[2]
    return last == "__setitem__" or (last.endswith("_") and not last.endswith("__")) or target.endswith(".__set__")
