"""What a graph's parameters and submodule calls stand for: live tensors and modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from dgmcompile.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Submodule:
    """A module that the program calls whole.

    ``body`` is the graph of its ``forward``, whose parameter and submodule paths are relative to
    the module; None for torch's own modules, which emitted code constructs by name.
    """

    module: nn.Module
    body: Graph | None = None


@dataclass(frozen=True, slots=True)
class Constrained:
    """How the program reads a parameter of Pyro's: pushed into the support of ``constraint`` (of torch's kind).

    ``name`` is its name in the parameter store; ``value`` is the node of the traced graph that this gives, or None.
    """

    constraint: Any
    name: str
    value: str | None = None


Step = tuple[Callable[..., Tensor], tuple[Any, ...]]
"""A function of a tensor, and its further arguments."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a draw of a plain program is in the graph.

    ``node``: the noise that it is, or the sample; of the latter ``is_value`` says that the draw is the sample's value,
    else it follows from its noise by ``undo``, functions of what the one before gave and of further arguments. A draw
    that the program takes apart is no node, but has ``parts``, each with the function that finds it in the whole.
    """

    node: str
    is_value: bool = False
    undo: tuple[Step, ...] = ()
    parts: tuple[tuple[Step, Drawn], ...] = ()

    def renamed(self, new_name: Callable[[str], str]) -> Drawn:
        from dgmcompile.ir.graph import map_names

        undo = tuple((function, map_names(args, new_name)) for function, args in self.undo)
        parts = tuple(((view, map_names(args, new_name)), part.renamed(new_name)) for (view, args), part in self.parts)
        return Drawn(self.node and new_name(self.node), self.is_value, undo, parts)


@dataclass(frozen=True, slots=True)
class Binding:
    """``tensors``: parameter or buffer path -> the user's tensor; ``modules``: path -> submodule.

    ``constrained``: parameter path -> its constraint, where ``pyro.param`` read it; ``data``: site -> path (as in
    `Input`) of the argument that the program observes there; ``draws`` are those of a plain program, in order, None
    where nothing reads one; None of a program of Pyro's. ``results`` are the targets that it returns, in order;
    ``shares_dropout``: is dropout among its draws? ``sizes``: size node -> how large it was when recorded.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    modules: Mapping[str, Submodule] = field(default_factory=dict[str, Submodule])
    constrained: Mapping[str, Constrained] = field(default_factory=dict[str, Constrained])
    data: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict[str, tuple[str | int, ...]])
    draws: tuple[Drawn | None, ...] | None = None
    results: tuple[str, ...] = ()
    shares_dropout: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
