"""The form that code is made of: nothing random is left but noise, and draws that no transform covers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dgmcompile.diagnostics import Diagnostic
from dgmcompile.ir.graph import Arg, Call, Formula, Graph, Law, Node, Ref, Sample
from dgmcompile.ir.probes import without_probes
from dgmcompile.ir.verify import TRACED, Stage
from dgmcompile.passes.auxiliary import auxiliary, can_be_drawn
from dgmcompile.passes.base import Keep, NodePass, Reject, Rewrite


def drawn(law: Any, shape: tuple[int, ...]) -> Tensor:
    """A draw of ``shape`` (batch dims, then event dims) by the library's own sampler."""
    law = law.expand(shape[: len(shape) - len(law.event_shape)])
    return law.rsample() if law.has_rsample else law.sample()


DRAWN = Formula.of(drawn)


@dataclass(frozen=True)
class DrawKept(NodePass):
    r"""A site that no transform covers is drawn where it stands.

    z ~ Gamma(a, b)   =>   z_law = torch.distributions.Gamma(a, b);  z = drawn(z_law, shape)
    """

    name: ClassVar[str] = "draw-kept"

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return TRACED

    def visit(self, node: Node, graph: Graph, fresh: Callable[[str], str]) -> Rewrite | Keep | Reject:
        if not isinstance(node, Sample):
            return Keep("not a random variable")
        if can_be_drawn(node, graph):
            return Keep("its noise transform draws it")
        if (problem := _undrawable(node)) is not None:
            return Reject(problem)
        return Rewrite(tuple(_draw(node, fresh)), f"{node.family} drawn by torch.distributions")


def _undrawable(node: Sample) -> Diagnostic | None:
    known: Any = getattr(torch.distributions, node.family, None)
    nested = any(isinstance(param, Law) for param in node.params.values())
    if known is not None and not node.transforms and not nested:
        return None
    return Diagnostic(
        code="no-emitted-draw",
        message=f"site {node.name!r} draws from {node.family}, which emitted code cannot draw from",
        location=node.location,
        notes=("emitted code imports torch and nothing else, and torch.distributions has no such class",),
        help="its graphs can be drawn and inspected; to emit code, write the site by families that have a transform",
    )


def _draw(node: Sample, fresh: Callable[[str], str]) -> Iterator[Node]:
    location = node.location
    law = fresh(f"{node.name}_law")
    known = inspect.signature(getattr(torch.distributions, node.family)).parameters
    kwargs: dict[str, Arg] = {name: value for name, value in node.params.items() if name in known}  # Pyro has more
    yield Call(name=law, target=f"torch.distributions.{node.family}", kwargs=kwargs, location=location)
    yield Call(
        name=node.name,
        target=DRAWN,
        args=(Ref(law), node.shape),
        shape=node.shape,
        dtype=node.dtype,
        site=node.site,
        location=location,
    )


def lower(graph: Graph) -> Graph:
    """Every site as noise and a transform; a kept one too where it has a transform, else drawn in place."""
    graph = DrawKept()(graph)
    unkept = graph.evolve(replace(node, kept=False) if isinstance(node, Sample) else node for node in graph)
    return without_probes(auxiliary(unkept))
