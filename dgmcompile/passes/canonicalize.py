"""Every random variable in its family's canonical parameters, so that two of one family can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from dgmcompile.ir.graph import Graph, Node, Sample
from dgmcompile.ir.verify import TRACED, Stage
from dgmcompile.passes.base import Keep, NodePass, Reject, Rewrite
from dgmcompile.passes.draws import SiteWriter


@dataclass(frozen=True)
class Canonicalize(NodePass):
    r"""Convert what the user gave to what the family's formulas read.

    probs                   probs -> z_logits
      |                                 |
    z ~ Bernoulli(probs)  =>  z ~ Bernoulli(logits)
    """

    name: ClassVar[str] = "canonicalize"

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return TRACED

    def visit(self, node: Node, graph: Graph, fresh: Callable[[str], str]) -> Rewrite | Keep | Reject:
        if not isinstance(node, Sample):
            return Keep("not a random variable")
        writer = SiteWriter(node, graph, fresh)
        law = writer.canonical(node.law)
        if not writer.nodes:
            return Keep("already in canonical parameters, or none are known")
        return Rewrite((*writer.nodes, replace(node, params=law.params)), f"{node.family} by {', '.join(law.params)}")


def canonicalize(graph: Graph) -> Graph:
    """Every sample of a known family in canonical parameters; see `Canonicalize`."""
    return Canonicalize()(graph)
