"""In which plates each node of a graph stands: its sites say so, the nodes between them do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dgmcompile.ir.graph import Call, Graph, Input, Node, Noise, Plate, is_size, refs_in
from dgmcompile.ir.size import Size

Plates = frozenset[Plate]


def plates_in(graph: Graph) -> tuple[Plate, ...]:
    """Each plate of the graph once: at several dims it is the same plate to a reader."""
    sites = [node.site for node in graph if node.site is not None]
    return tuple({_key(plate): plate for site in sites for plate in site.plates}.values())


def plate_of_size(plates: Iterable[Plate]) -> dict[Size, Plate]:
    """A size that depends on the inputs -> the plate that has it, where only one does."""
    found: dict[Size, list[Plate]] = {}
    for plate in plates:
        if isinstance(plate.size, Size):
            found.setdefault(plate.size, []).append(plate)
    return {size: those[0] for size, those in found.items() if len(those) == 1}


def plates_by_node(graph: Graph) -> dict[str, Plates]:
    """The plates around each node.

    A site says its own. Parameters, constants and sizes have none. For the rest the shape must hold
    the plate's size (a call of several values has no shape to ask), and one of these must hold:

    - the size is a symbol that only this plate has;
    - all readers stand in the plate: noise stands beside the site that it moves;
    - it is a call that reads something inside the plate.

    A call of several values stands in a plate only between nodes that do.
    """
    plates = plates_in(graph)
    by_key = {_key(plate): plate for plate in plates}
    certain = frozenset(plate_of_size(plates).values())
    read = {node.name: tuple(dict.fromkeys(refs_in(node.arguments))) for node in graph}
    inside: dict[str, Plates] = {}
    shared: dict[str, Plates] = {}
    for node in reversed(tuple(graph)):
        fits = _fitting(node, plates)
        if node.site is not None:
            inside[node.name] = frozenset(by_key[_key(plate)] for plate in node.site.plates)
        elif node.shape is None:
            inside[node.name] = fits & shared.get(node.name, Plates())
        else:
            inside[node.name] = fits & (certain | shared.get(node.name, Plates()))
        for name in read[node.name]:
            shared[name] = shared.get(name, inside[node.name]) & inside[node.name]
    for node in graph:
        if isinstance(node, Call) and node.site is None:
            around = Plates().union(*(inside[name] for name in read[node.name]))
            if node.shape is None:
                inside[node.name] &= around
            else:
                inside[node.name] |= around & _fitting(node, plates)
    return inside


def outermost_first(groups: Iterable[Plates]) -> Callable[[Plates], tuple[Plate, ...]]:
    """The order in which to nest plates that stand together in some of ``groups``.

    A plate around another has at least its members. Plates that overlap have no such order: the
    smaller one is then nested, and drawn once more for what it has outside the larger one.
    """
    groups = tuple(groups)

    def rank(plate: Plate) -> tuple[int, int, str, str]:
        return (-sum(plate in group for group in groups), -plate.dim, plate.name, str(plate.size))

    ranks = {plate: rank(plate) for group in groups for plate in group}
    return lambda plates: tuple(sorted(plates, key=ranks.__getitem__))


def _key(plate: Plate) -> tuple[str, object]:
    return (plate.name, plate.size)


def _fitting(node: Node, plates: Iterable[Plate]) -> Plates:
    """The plates whose size is among the node's dimensions; all of them where it has no shape."""
    if not isinstance(node, Noise | Input | Call) or is_size(node):
        return Plates()
    return frozenset(plate for plate in plates if node.shape is None or plate.size in node.shape)
