"""What a program of this folder is: a Pyro callable, the arguments it is recorded on, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dgmcompile.ir.graph import Graph, Guard
from tests import seeds

Edges = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Program:
    """A small Pyro program.

    Args:
        model: the program.
        args, kwargs: example arguments, in float32.
        targets: names of the target sites, where they are not the observed ones.
        edges: of `Graph.variables`, written by hand; None where no one did.
        float64: can it run in float64 as well?
        other_size: is there a size that may differ?
    """

    model: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    targets: Any = None
    edges: Edges | None = None
    float64: bool = True
    other_size: bool = True
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or getattr(self.model, "__qualname__", type(self.model).__name__)


def edges(*pairs: str) -> Edges:
    """``edges("x -> z", "z -> y")``."""
    split = (pair.split(" -> ") for pair in pairs)
    return frozenset((a, b) for a, b in split)


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard-normal numbers that depend on nothing but ``seed``."""
    return torch.randn(*shape, generator=seeds.generator(seed))


def bits(*shape: int, seed: int = 0) -> torch.Tensor:
    """Zeros and ones."""
    return (torch.rand(*shape, generator=seeds.generator(seed)) < 0.5).float()


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    """A module whose weights depend on nothing but ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def size_guards(graph: Graph) -> list[Guard]:
    """Those of sizes and values: that a tensor keeps its rank is guarded in every program."""
    return [guard for guard in graph.guards if guard.dim not in ("rank", "floating")]
