"""In which memory format weights lie: convolutions of images are faster where channels come last."""

from __future__ import annotations

import torch
from torch import nn

from dgmcompile.codegen.tables import tensors_of


def format_of_convolutions(root: nn.Module) -> torch.memory_format | None:
    """``torch.channels_last`` for what holds 2-d convolutions, and no tensor of five dimensions, which has no such."""
    convolves = any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in root.modules())
    fits = all(tensor.dim() != 5 for _, tensor in tensors_of(root))
    return torch.channels_last if convolves and fits else None


def lay_out(root: nn.Module, memory_format: torch.memory_format) -> None:
    """As ``root.to(memory_format=...)``, but in place for buffers too: whoever holds a tensor keeps it.

    Errors:
        RuntimeError, of torch, for a tensor of another number of dimensions than the format is for.
    """
    for _, tensor in tensors_of(root):
        for held in (tensor, tensor.grad):
            if held is not None and held.dim() in (4, 5):
                held.data = held.data.to(memory_format=memory_format)
