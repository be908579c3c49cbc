"""What a pass is: graph -> graph, a reason for each decision, invariants checked before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.graph import Decision, Graph, Node
from dgmcompile.ir.names import unused
from dgmcompile.ir.verify import Stage, verify


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The node is replaced by ``nodes``, of which the last keeps its name."""

    nodes: tuple[Node, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The node stays as it is, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The user's program cannot go on; the pass looks for further problems first."""

    diagnostic: Diagnostic


class FreshNames:
    """Names that no node has: ``fresh("z_noise")`` is that, or ``z_noise_1``, ``z_noise_2``, ..."""

    def __init__(self, graph: Graph) -> None:
        self._taken = set(graph.graph)

    def __call__(self, wanted: str) -> str:
        self._taken.add(name := unused(wanted, self._taken))
        return name


class Pass(ABC):
    """``pass_(graph)`` is the new graph. ``requires`` is verified before, ``ensures`` after, on every run."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def requires(self) -> Stage: ...

    @property
    @abstractmethod
    def ensures(self) -> Stage: ...

    @abstractmethod
    def run(self, graph: Graph) -> Graph:
        """The new graph, its decisions at the end of ``history``."""

    def __call__(self, graph: Graph) -> Graph:
        verify(graph, self.requires)
        result = self.run(graph)
        verify(result, self.ensures)
        return result


class NodePass(Pass):
    """Decides for each node by itself."""

    @abstractmethod
    def visit(self, node: Node, graph: Graph, fresh: Callable[[str], str]) -> Rewrite | Keep | Reject:
        """What becomes of ``node``; names of further nodes come from ``fresh``."""

    def run(self, graph: Graph) -> Graph:
        fresh = FreshNames(graph)
        verdicts = [(node, self.visit(node, graph, fresh)) for node in graph]
        if problems := [verdict.diagnostic for _, verdict in verdicts if isinstance(verdict, Reject)]:
            raise CompileError(*problems)
        nodes = [new for node, verdict in verdicts for new in _nodes(node, verdict)]
        return graph.evolve(nodes, history=(*graph.history, *self._decisions(verdicts)))

    def _decisions(self, verdicts: list[tuple[Node, Rewrite | Keep | Reject]]) -> Iterator[Decision]:
        for node, verdict in verdicts:
            if isinstance(verdict, Rewrite):
                yield Decision(self.name, node.name, "rewrite", verdict.reason)
            elif isinstance(verdict, Keep):
                yield Decision(self.name, node.name, "keep", verdict.reason)


def _nodes(node: Node, verdict: Rewrite | Keep | Reject) -> tuple[Node, ...]:
    return verdict.nodes if isinstance(verdict, Rewrite) else (node,)


class GraphPass(Pass):
    """Needs the whole graph at once: a few lines around a plain function, which says what it did."""

    @abstractmethod
    def rewrite(self, graph: Graph) -> tuple[Graph, list[Decision]]:
        """The new graph, and the decisions that led there."""

    def run(self, graph: Graph) -> Graph:
        result, decisions = self.rewrite(graph)
        return result.evolve(history=(*graph.history, *decisions))
