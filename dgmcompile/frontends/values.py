"""Which node holds a tensor's value: tensors are tied to nodes by identity, views by their memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from dgmcompile.diagnostics import CompileError
from dgmcompile.frontends import refusals
from dgmcompile.frontends.source import location_of, user_frame

P = ParamSpec("P")
R = TypeVar("R")

Geometry = tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype, bool]
"""Offset, shape, strides, dtype, and whether gradients pass."""


def geometry(tensor: Tensor) -> Geometry:
    """The part of its storage that a tensor shows, and whether gradients pass through it."""
    shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    return int(tensor.storage_offset()), shape, stride, tensor.dtype, carries_gradient(tensor)


def carries_gradient(tensor: Tensor) -> bool:
    """Do gradients pass through it? A view that was taken under ``no_grad`` only says so."""
    if not tensor._is_view():
        return tensor.requires_grad
    try:
        return tensor.requires_grad and tensor.grad_fn is not None
    except RuntimeError:  # it was written under no_grad as well
        return False


def memory_key(tensor: Tensor) -> int:
    """The same for all tensors on one piece of memory, NumPy's arrays in between included.

    Errors:
        `CompileError` ``functional-transform`` for a stand-in, as torch.vmap makes it, which has none of its own.
    """
    if is_functorch_wrapped_tensor(tensor):
        raise CompileError(refusals.functional_transform(location_of(user_frame())))
    storage = tensor.untyped_storage()
    return storage.data_ptr() or storage._cdata


def shows_twice(tensor: Tensor) -> bool:
    """Are two of its elements one place in memory?"""
    with torch._C.DisableTorchFunction():
        dims = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
        places, reach, apart = torch.zeros(1, dtype=torch.long), 0, True
        for stride, size in dims:
            apart, reach = apart and stride > reach, reach + stride * (size - 1)
        if apart or tensor.numel() == 0:
            return False
        for stride, size in dims:
            places = (places[:, None] + stride * torch.arange(size)).flatten().unique()
        return len(places) < tensor.numel()


@dataclass
class Alias:
    """A tensor (kept alive, so that its identity stays its own), the node of its value, and those it had before."""

    tensor: Tensor
    name: str
    stamp: int
    versions: tuple[tuple[int, str], ...]
    memory: int


class _Storage:
    """All tensors seen on one storage, and for each element when it was last written."""

    def __init__(self, tensor: Tensor) -> None:
        self.stamp = 0
        self.aliases: dict[Geometry, Alias] = {}
        self.root: Alias | None = None
        self._written: Tensor | None = None
        self._item = max(1, tensor.element_size())
        self._elements = tensor.untyped_storage().nbytes() // self._item

    def add(self, alias: Alias) -> None:
        self.aliases[geometry(alias.tensor)] = alias
        tensor = alias.tensor
        whole = tensor.numel() == self._elements and tensor.storage_offset() == 0 and tensor.is_contiguous()
        if whole and self.root is None:
            self.root = alias

    def mark_written(self, tensor: Tensor) -> None:
        self.stamp += 1
        self._elements = max(self._elements, tensor.untyped_storage().nbytes() // self._item)  # out= may enlarge it
        if self._written is None or len(self._written) < self._elements:
            before, self._written = self._written, torch.zeros(self._elements, dtype=torch.long)
            self._written[: 0 if before is None else len(before)] = 0 if before is None else before
        self._region(self._written, tensor).fill_(self.stamp)

    def is_current(self, alias: Alias) -> bool:
        return self.last_write(alias.tensor) <= alias.stamp

    def last_write(self, tensor: Tensor) -> int:
        if self._written is None or tensor.numel() == 0:
            return 0
        return int(self._region(self._written, tensor).max())

    def _region(self, written: Tensor, tensor: Tensor) -> Tensor:
        if tensor.element_size() != self._item:
            return written  # bytes seen as another type: the whole storage counts
        return written.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _unseen(method: Callable[Concatenate[Values, P], R]) -> Callable[Concatenate[Values, P], R]:
    """What it asks a tensor is no call of the program's."""

    @functools.wraps(method)
    def asked(self: Values, *args: P.args, **kwargs: P.kwargs) -> R:
        with torch._C.DisableTorchFunction():
            return method(self, *args, **kwargs)

    return asked


class Values:
    """The nodes of all tensors met so far, through views and writes."""

    def __init__(self) -> None:
        self._by_id: dict[int, Alias] = {}
        self._storages: dict[int, _Storage] = {}

    def _storage(self, tensor: Tensor) -> _Storage:
        key = memory_key(tensor)
        if key not in self._storages:
            self._storages[key] = _Storage(tensor)
        return self._storages[key]

    @_unseen
    def bind(self, tensor: Tensor, name: str) -> None:
        """``tensor`` is the value of node ``name`` from now on."""
        storage = self._storage(tensor)
        before = self._by_id.get(id(tensor))
        earlier = (version for version in (before.versions if before else ()) if version[0] != storage.stamp)
        versions = (*earlier, (storage.stamp, name))
        alias = Alias(tensor, name, storage.stamp, versions, memory_key(tensor))
        self._by_id[id(tensor)] = alias
        storage.add(alias)
        if storage.root is not None and storage.root.tensor is tensor:
            storage.root = alias

    @_unseen
    def find(self, tensor: Tensor) -> Alias | None:
        """The alias of this very tensor, unless it was given other memory, or of another one that shows the same."""
        alias = self._by_id.get(id(tensor))
        if alias is not None and alias.memory == memory_key(tensor):
            return alias
        return self.same_memory(tensor)

    def by_name(self, name: str) -> Alias | None:
        """The tensor whose value is that of node ``name``, if there is one."""
        return next((alias for alias in self._by_id.values() if alias.name == name), None)

    def aliases(self) -> list[Alias]:
        """Every tensor met so far, with the node of its value."""
        return list(self._by_id.values())

    @_unseen
    def holds(self, tensor: Tensor) -> bool:
        """Is the value of this very tensor known?"""
        alias = self._by_id.get(id(tensor))
        return alias is not None and self.is_current(alias)

    @_unseen
    def same_memory(self, tensor: Tensor) -> Alias | None:
        """A current alias of exactly the same memory."""
        storage = self._storages.get(memory_key(tensor))
        if storage is None or (alias := storage.aliases.get(geometry(tensor))) is None:
            return None
        return alias if storage.is_current(alias) else None

    @_unseen
    def is_current(self, alias: Alias) -> bool:
        """Has no write through another view changed it since it was bound?"""
        return self._storage(alias.tensor).is_current(alias)

    @_unseen
    def source_of_view(self, whole: Tensor, view: Tensor) -> str | None:
        """The earliest value of ``whole`` that already holds all that ``view`` shows of it."""
        alias = self._by_id.get(id(whole))
        if alias is None or memory_key(whole) != memory_key(view):
            return None
        written = self._storage(view).last_write(view)
        return next((name for stamp, name in alias.versions if stamp >= written), None)

    @_unseen
    def root(self, tensor: Tensor) -> Alias | None:
        """The tensor that shows the whole storage in order; writes through views are collected on it."""
        return self._storage(tensor).root

    @_unseen
    def write(self, tensor: Tensor, name: str, root_name: str | None) -> None:
        """``tensor`` was overwritten by the value of ``name``; its root's value is now ``root_name``."""
        storage = self._storage(tensor)
        storage.mark_written(tensor)
        root = storage.root
        self.bind(tensor, name)
        if root is not None and root.tensor is not tensor and root_name is not None:
            self.bind(root.tensor, root_name)
