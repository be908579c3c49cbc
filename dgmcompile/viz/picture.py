"""What a drawing of a graph shows: boxes with a role, the plates around them, and the arrows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from dgmcompile.diagnostics import Location
from dgmcompile.ir.graph import (
    Call,
    Carry,
    Constant,
    Dim,
    Formula,
    Graph,
    Input,
    Loop,
    Node,
    Noise,
    Parameter,
    Plate,
    Ref,
    Sample,
    is_size,
    names_in,
    refs_in,
    value_parents,
    variable_kind,
)
from dgmcompile.ir.size import Size
from dgmcompile.viz.plates import outermost_first, plate_of_size, plates_by_node, plates_in

Detail = Literal["random", "variables", "calls"]
BoxRole = Literal[
    "input",
    "noise",
    "latent",
    "deterministic",
    "target",
    "parameter",
    "call",
    "module",
    "constant",
    "size",
    "result",
    "loss",
]
Side = Literal["", "teacher", "student"]
SIDES: tuple[Side, Side] = ("teacher", "student")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One node as it is drawn.

    Args:
        name: of the graph's node; unique.
        role: decides the outline.
        heading: what a reader calls it: the site, the function, the argument.
        caption: family and shape, as ``Normal [batch, 16]``.
        computed: is a site's value a call of others, rather than drawn?
        plates: outermost first.
        side: the model of a teacher-student pair that it belongs to; "" for what they share.
        location: the user's source line.
    """

    name: str
    role: BoxRole
    heading: str
    caption: str = ""
    computed: bool = False
    plates: tuple[Plate, ...] = ()
    side: Side = ""
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """``head`` reads the value of ``tail`` (or, where ``is_size``, is only as large as it says).

    ``is_later``: in a later step of a loop, the value of a step before.
    """

    tail: str
    head: str
    is_size: bool = False
    is_later: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes in the order of the program; ``plate_labels`` has the text of every plate.

    A loop is drawn once, in a frame as that of a plate; arrows that are ``is_later`` lead from step to step. Of more
    than `MOST_ARROWS` those are left out that a longer path implies; ``implied`` counts them.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    plate_labels: dict[Plate, str]
    implied: int = 0

    @property
    def roles(self) -> Counter[BoxRole]:
        """How many boxes each role has."""
        return Counter(box.role for box in self.boxes)


MOST_ARROWS = 600
"""A recurrence in which each step reads all the earlier ones has thousands: no picture, and no layout in time."""


def picture_of(graph: Graph, *, detail: Detail = "variables", parameters: bool = False) -> Picture:
    """What to draw of ``graph``.

    ``variables`` shows the nodes and edges of `Graph.variables`, with the loss terms of a pair;
    ``random`` leaves out those whose value is a call, so that of a compact graph each target stands
    as p(y_j | y_<j, e, x); ``calls`` shows every node. ``parameters`` adds the parameters to the first two.
    """
    if detail not in get_args(Detail):
        raise ValueError(f"detail is one of {', '.join(get_args(Detail))}, not {detail!r}")
    results = _results(graph)

    def shown(node: Node) -> bool:
        if detail == "calls" or node.name in results:
            return True
        if detail == "random" and isinstance(node, Call):
            return False
        return variable_kind(node) is not None or (parameters and isinstance(node, Parameter))

    describe = _Describe(graph, results, detail)
    loops = _frames(graph)
    plates = plates_by_node(graph)
    plates |= {
        name: plates[name] | {loops[n] for n in graph.loops[name]} for name in graph.graph if name not in results
    }
    nodes = [node for node in graph if shown(node)]
    nested = outermost_first(plates[node.name] for node in nodes)
    arrows = tuple(_arrows(graph, shown))
    drawn = arrows if len(arrows) <= MOST_ARROWS else _without_implied(arrows)
    return Picture(
        tuple(describe.box(node, nested(plates[node.name])) for node in nodes),
        drawn,
        {plate: describe.plate(plate) for plate in (*describe.plates, *loops.values())},
        len(arrows) - len(drawn),
    )


def _frames(graph: Graph) -> dict[str, Plate]:
    """What is drawn around the steps of each loop; of plates that have the same members it is the inner one."""
    return {node.name: Plate(node.name, -sys.maxsize, node.length) for node in graph if isinstance(node, Loop)}


def _without_implied(arrows: tuple[Arrow, ...]) -> tuple[Arrow, ...]:
    """Without those from a box to one that a longer path leads to; arrows come in the order of their heads."""
    later = tuple(arrow for arrow in arrows if arrow.is_later)
    arrows = tuple(arrow for arrow in arrows if not arrow.is_later)
    above: dict[str, set[str]] = {}
    drawn: list[Arrow] = []
    for head, group in groupby(arrows, lambda arrow: arrow.head):
        into = list(group)
        implied = set[str]().union(*(above.get(arrow.tail, set()) for arrow in into))
        above[head] = implied.union(arrow.tail for arrow in into)
        drawn += [arrow for arrow in into if arrow.tail not in implied]
    return (*drawn, *later)


def _results(graph: Graph) -> set[str]:
    """What the program is run for besides its sites: in a pair, the terms of the loss."""
    outputs = set(graph.outputs.values())
    return {node.name for node in graph if node.name in outputs and isinstance(node, Call) and node.site is None}


def _arrows(graph: Graph, shown: Callable[[Node], bool]) -> Iterable[Arrow]:
    """From each shown node to those that depend on it through nodes that are not shown.

    What a node reads for its shape alone is no arrow: the captions tell shapes.
    """
    reach = _reach(graph, shown)
    for node in graph:
        if not shown(node):
            continue
        values = _read(node, refs_in(node.arguments), graph, reach)
        yield from (Arrow(tail, node.name, is_size(graph[tail]), later) for tail, later in values)
        if isinstance(node, Call):
            read = {tail for tail, _ in values}
            sizes = dict.fromkeys(name for name in names_in(node.arguments) if name not in read)
            yield from (Arrow(tail, node.name, True) for tail in sizes if shown(graph[tail]))


Tails = dict[tuple[str, bool], None]
"""Nodes that a value depends on, and whether on what they were a step before; in order."""


def _reach(graph: Graph, shown: Callable[[Node], bool]) -> dict[str, Tails]:
    """Node -> what its readers depend on by it: itself, or the shown nodes that it depends on."""
    reach: dict[str, Tails] = {node.name: {} for node in graph}
    has_loops = any(isinstance(node, Loop) for node in graph)
    while True:
        before = dict(reach)
        for node in graph:
            if shown(node):
                reach[node.name] = {(node.name, False): None}
            elif not is_size(node):
                reach[node.name] = _read(node, value_parents(node), graph, reach)
        if reach == before or not has_loops:
            return reach


def _read(node: Node, names: Iterable[str], graph: Graph, reach: Mapping[str, Tails]) -> Tails:
    found: Tails = {}
    for name in names:
        found |= reach[name]
    if isinstance(node, Carry):
        for tail, _ in reach[node.next.name]:
            found[tail, not graph.loops[tail].isdisjoint(node.step.symbols)] = None
    return found


class _Describe:
    """Words for the nodes of one graph."""

    def __init__(self, graph: Graph, results: set[str], detail: Detail) -> None:
        self.graph = graph
        self.results = results
        self.detail = detail
        self.plates = plates_in(graph)
        self.is_pair = all(any(node.name.startswith(f"{side}.") for node in graph) for side in SIDES)
        self.plate_of_size = plate_of_size(self.plates)

    def box(self, node: Node, plates: tuple[Plate, ...]) -> Box:
        side = self.side(node.name)
        return Box(
            name=node.name,
            role=self.role(node),
            heading=self.heading(node, side),
            caption=" ".join(part for part in (self.origin(node), self.shape(node)) if part),
            computed=node.site is not None and not isinstance(node, Sample),
            plates=plates,
            side=side,
            location=node.location,
        )

    def side(self, name: str) -> Side:
        if self.is_pair:
            for side in SIDES:
                if name.startswith(f"{side}."):
                    return side
        return ""

    def role(self, node: Node) -> BoxRole:
        if node.name in self.results:
            return "loss" if self.is_pair else "result"
        match node:
            case Noise():
                return "noise"
            case Parameter():
                return "parameter"
            case Constant():
                return "constant"
            case _ if is_size(node):
                return "size"
            case Input():
                return "input"
            case _ if node.site is not None and node.site.role == "target":
                return "target"
            case Sample():
                return "latent"
            case _ if node.site is not None:
                return "deterministic"
            case Call() if node.target_name.startswith("self."):
                return "module"
            case _:
                return "call"

    def heading(self, node: Node, side: Side) -> str:
        match node:
            case Parameter():
                text = node.path
            case Constant():
                text = str(node.value)
            case Call() if is_size(node):
                return self.symbol(node.name)
            case Call() if node.site is None and node.name not in self.results:
                text = _function(node).removeprefix("self.")
            case _:
                text = node.site.name if node.site else node.name
        return text.removeprefix(f"{side}.") if side else text

    def origin(self, node: Node) -> str:
        """Where the value comes from: the law that it is drawn from, or the call."""
        match node:
            case Noise():
                return node.law
            case Sample():
                return node.family
            case Call() if node.site is not None and (self.detail == "calls" or not node.site.family):
                return "" if node.target == "identity" else _function(node)
            case _:
                return node.site.family if node.site else ""

    def shape(self, node: Node) -> str:
        return f"[{', '.join(map(self.dim, node.shape))}]" if node.shape else ""

    def dim(self, dim: Dim) -> str:
        if isinstance(dim, int):
            return str(dim)
        plate = self.plate_of_size.get(dim)
        return plate.name if plate else self.size(dim)

    def size(self, size: Dim) -> str:
        return size.format(self.symbol) if isinstance(size, Size) else str(size)

    def symbol(self, name: str) -> str:
        """A size node, as the user would write it."""
        node = self.graph[name]
        if isinstance(node, Call) and node.target == "size" and len(node.args) == 2 and isinstance(node.args[0], Ref):
            return f"{node.args[0].name}.shape[{node.args[1]}]"
        return name

    def plate(self, plate: Plate) -> str:
        size = self.size(plate.size)
        return plate.name if size == plate.name else f"{plate.name}  {size}"


def _function(node: Call) -> str:
    """The last word of a function's public name; the whole path of a submodule."""
    if isinstance(node.target, Formula) or node.target.startswith("self."):
        return node.target_name
    if node.target == "getitem" and len(node.args) == 2 and not isinstance(node.args[1], Ref):
        return f"[{node.args[1]}]"
    return node.target.rpartition(".")[2].strip("_")  # `__getitem__` to a reader is getitem
