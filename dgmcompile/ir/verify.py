"""What is true of a graph between two passes: a stage is a tuple of rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Call, Carry, Graph, Noise, Ref, is_size, names_in

Rule = Callable[[Graph], Iterator[str]]


@dataclass(frozen=True)
class Stage:
    """A name and the rules that hold there; each rule yields what is broken."""

    name: str
    rules: tuple[Rule, ...]


def verify(graph: Graph, stage: Stage) -> None:
    """Raise `InternalError` where a rule of ``stage`` is broken.

    That names are unique, references resolve and nothing is circular, `Graph` itself has checked.
    """
    broken = [problem for rule in stage.rules for problem in rule(graph)]
    if broken:
        raise InternalError(f"stage {stage.name!r}: {'; '.join(broken)}", graph)


def one_site_one_node(graph: Graph) -> Iterator[str]:
    counts = Counter(node.site.name for node in graph if node.site)
    yield from (f"site {name!r} stands on {count} nodes" for name, count in counts.items() if count > 1)


def samples_have_sites(graph: Graph) -> Iterator[str]:
    for node in graph.samples:
        if node.site is None or node.site.role == "deterministic":
            yield f"sample {node.name!r} is neither latent nor target"
        if node.shape is None or node.event_dim > len(node.shape):
            yield f"sample {node.name!r} has no shape that holds {node.event_dim} event dims"


def noise_depends_on_sizes_only(graph: Graph) -> Iterator[str]:
    for node in graph:
        if isinstance(node, Noise):
            yield from (f"noise {node.name!r} reads {n!r}" for n in node.inputs if not is_size(graph[n]))


def sizes_are_sizes(graph: Graph) -> Iterator[str]:
    """Every name in a symbolic dimension is a size node."""
    for node in graph:
        for dim in node.shape or ():
            if not isinstance(dim, int):
                yield from (
                    f"{node.name!r} has a dimension of {n!r}, which is no size"
                    for n in dim.symbols
                    if n not in graph or not is_size(graph[n])
                )


def carries_keep_their_type(graph: Graph) -> Iterator[str]:
    """What a step hands on is what the next one, and the first, is handed."""
    for node in graph:
        if isinstance(node, Carry):
            handed = [graph[ref.name] for ref in (node.init, node.next) if isinstance(ref, Ref)]
            if any((other.shape, other.dtype) != (node.shape, node.dtype) for other in handed):
                yield f"carry {node.name!r} is handed a value of another type"
            if not graph.loops[node.next.name].issuperset(node.step.symbols):
                yield f"carry {node.name!r} is handed what its loop does not compute"


def sites_in_loops_are_numbered(graph: Graph) -> Iterator[str]:
    """Each step has a site of its own."""
    for node in graph:
        if node.site is not None and node.site.role != "deterministic":
            numbers = names_in(node.site.parts)
            if not graph.loops[node.name] <= {*numbers}:
                yield f"site {node.site.name!r} is the same in each step of a loop"


def no_latent_sample(graph: Graph) -> Iterator[str]:
    for node in graph.samples:
        if node.site and node.site.role == "latent" and not node.kept:
            yield f"latent {node.name!r} is still a sample"


def no_sample(graph: Graph) -> Iterator[str]:
    yield from (f"{node.name!r} is still a sample" for node in graph.samples if not node.kept)


def nothing_dead(graph: Graph) -> Iterator[str]:
    live = graph.live()
    yield from (
        f"nothing reads {node.name!r}" for node in graph if isinstance(node, Call | Noise) and node.name not in live
    )


_ALWAYS = (
    one_site_one_node,
    samples_have_sites,
    noise_depends_on_sizes_only,
    sizes_are_sizes,
    carries_keep_their_type,
    sites_in_loops_are_numbered,
)

TRACED = Stage("traced", _ALWAYS)
AUXILIARY = Stage("auxiliary", (*_ALWAYS, no_sample))
SEMI_AUXILIARY = Stage("semi-auxiliary", (*_ALWAYS, no_latent_sample))
COMPACT = Stage("compact", (*_ALWAYS, nothing_dead))
