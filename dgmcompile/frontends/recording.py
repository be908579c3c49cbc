"""What one run of a program did."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from dgmcompile.diagnostics import Diagnostic, Location
from dgmcompile.frontends.rolling import NotRolled
from dgmcompile.ir.binding import Constrained
from dgmcompile.ir.graph import Arg, Node


@dataclass(frozen=True)
class ModuleSpan:
    """The nodes ``start:end`` were recorded inside a call of the submodule ``path``."""

    path: str
    module: nn.Module
    start: int
    end: int
    args: Arg
    kwargs: Arg
    output: Arg
    location: Location | None
    hints: tuple[str, ...]


@dataclass
class Recording:
    """What one run did.

    ``hints`` are names for nodes, ``origin`` is the random variable, input or parameter that a node depends on,
    in words; ``poison`` is what is wrong with a node, should it be kept, and ``state_writes`` with a parameter's
    path; ``held`` are the tensors of each of ``modules`` when it was called; ``buffers`` are the paths of nodes that
    hold a module's buffer; ``shaped`` says of a node on whose values its shape depends; ``generators`` are those, not
    torch's, that the program drew from; ``hidden`` are
    sites that only what reads them keeps; ``observed`` are the nodes that sites observe; ``constrained`` are parameters
    that ``pyro.param`` read, by path; ``asks_dtype`` says that the program itself, no library, asked for a dtype;
    ``draws`` are the nodes of what the program drew by torch itself, in order, and ``strays`` what is wrong with each
    in a program that has sites of Pyro's; ``variables`` are the program's own names for values,
    ``results`` those of the targets that it returns, in order; ``around`` are those that receive what a draw is part
    of; ``generator_states`` are those before each draw;
    ``is_plain`` says that the program has no site of Pyro's; ``zeros`` are then, in the recording that is lifted,
    the nodes of which some element is 0; ``written_out`` are steps that were to be put together, and are no loop.
    """

    nodes: list[Node] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    poison: dict[str, Diagnostic] = field(default_factory=dict)
    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    state_writes: dict[str, Diagnostic] = field(default_factory=dict)
    held: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    buffers: dict[str, str] = field(default_factory=dict)
    shaped: dict[str, Diagnostic] = field(default_factory=dict)
    generators: tuple[str, ...] = ()
    hidden: set[str] = field(default_factory=set)
    spans: list[ModuleSpan] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    observed: dict[str, str] = field(default_factory=dict)
    constrained: dict[str, Constrained] = field(default_factory=dict)
    asks_dtype: bool = False
    draws: list[str] = field(default_factory=list)
    strays: dict[str, Diagnostic] = field(default_factory=dict)
    warnings_if_plain: list[Diagnostic] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    generator_states: dict[int, tuple[str, Location | None]] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)
    dropouts: set[str] = field(default_factory=set[str])
    graph_names: dict[str, str] = field(default_factory=dict[str, str])
    around: dict[str, str] = field(default_factory=dict[str, str])
    knows_lines: bool = False
    is_plain: bool = False
    zeros: frozenset[str] = frozenset()
    written_out: list[NotRolled] = field(default_factory=list[NotRolled])

    @property
    def weak_names(self) -> dict[str, str]:
        """What a graph of fx calls its nodes, where nothing better is known."""
        return {} if self.knows_lines else self.graph_names
