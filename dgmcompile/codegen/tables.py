# pyright: reportPrivateUsage=false
"""What a module holds itself, by name: torch has no public way to read or to change it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def modules_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The table of its children; a change of it is a change of the module."""
    return module._modules


def parameters_of(module: nn.Module) -> dict[str, Tensor | None]:
    """The table of its parameters; Pyro's are plain tensors, and stay so."""
    return module._parameters  # type: ignore[return-value]


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """The table of its buffers."""
    return module._buffers


def children_of(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children that are there; one of two names stands under both."""
    yield from ((name, child) for name, child in module._modules.items() if child is not None)


def own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then buffers."""
    for table in (parameters_of(module), buffers_of(module)):
        yield from ((name, tensor) for name, tensor in table.items() if tensor is not None)


def is_constant(module: nn.Module, name: str) -> bool:
    """Is ``name`` a buffer that the state dict leaves out?"""
    return name in module._non_persistent_buffers_set


def has_hooks(module: nn.Module) -> bool:
    """Does something run around its ``forward``?"""
    return any(vars(module)[table] for table in ("_forward_hooks", "_forward_pre_hooks"))


def all_modules(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """``root`` ("") and all below it; one of two paths stands under both."""
    yield from root.named_modules(remove_duplicate=False)


def tensors_of(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by path; one of two paths stands under both."""
    for prefix, module in all_modules(root):
        for name, tensor in own_tensors(module):
            yield (f"{prefix}.{name}" if prefix else name), tensor
