"""Several recordings of one program compared: what differs only by sizes becomes symbolic, anything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from dgmcompile.frontends.polynomials import explained
from dgmcompile.frontends.recording import Recording
from dgmcompile.ir.graph import Call, Constant, DeviceOf, Formula, Input, Node, Parameter, Ref, map_names
from dgmcompile.ir.size import Size


@dataclass(frozen=True)
class Difference:
    """Where two recordings part: a node of the first, and what is there in each.

    ``is_number``: is it a real number that differs, and the same program else?
    """

    node: Node | None
    found: str
    is_number: bool = False


def live(recording: Recording) -> list[Node]:
    """What inputs, sites and deterministic sites are made of, renamed ``%0, %1, ...``; ties to the order recorded."""
    by_name = {node.name: node for node in recording.nodes}
    todo = [node.name for node in recording.nodes if node.site is not None or isinstance(node, Input)]
    needed = set[str]()
    while todo:
        if (name := todo.pop()) not in needed:
            needed.add(name)
            todo += by_name[name].inputs
    return [node for node in recording.nodes if node.name in needed]


def atoms(node: Node, position: dict[str, int]) -> list[Any]:
    """Everything in a node but its name and location, flat; references by position."""
    found: list[Any] = [type(node).__name__]
    for field in fields(node):
        if field.name not in ("name", "location"):
            _flatten(getattr(node, field.name), found, position)
    return found


def _flatten(value: Any, found: list[Any], position: dict[str, int]) -> None:
    if isinstance(value, Ref):
        found.append(("ref", position[value.name]))
    elif isinstance(value, Formula):
        found.append(value.name)
    elif isinstance(value, tuple | list):
        found.append((type(value).__name__, len(value)))
        for item in value:
            _flatten(item, found, position)
    elif isinstance(value, dict):
        found.append(("dict", tuple(value)))
        for item in value.values():
            _flatten(item, found, position)
    elif isinstance(value, slice):
        found.append("slice")
        for item in (value.start, value.stop, value.step):
            _flatten(item, found, position)
    elif is_dataclass(value) and not isinstance(value, type):
        found.append(type(value).__name__)
        for field in fields(value):
            _flatten(getattr(value, field.name), found, position)
    else:
        found.append(value)


def _flat(nodes: Sequence[Node]) -> list[list[Any]]:
    position = {node.name: index for index, node in enumerate(nodes)}
    return [atoms(node, position) for node in nodes]


Sizes = dict[tuple[int, int], int]
"""(node, atom) -> the whole number found there, where it differs from the first recording's."""


def compare(first: Sequence[Node], second: Sequence[Node]) -> Sizes | Difference:
    """The whole numbers that differ, or the first difference that is none of a whole number."""
    differing: Sizes = {}
    for index, (a, b) in enumerate(zip(_flat(first), _flat(second), strict=False)):
        if len(a) != len(b):
            return Difference(first[index], _described(second[index]))
        for atom, (x, y) in enumerate(zip(a, b, strict=True)):
            if _same(x, y):
                continue
            if not (_is_int(x) and _is_int(y)) or isinstance(first[index], Parameter):
                return Difference(first[index], _change(x, y, second[index]), isinstance(x, float))
            differing[index, atom] = y
    if len(first) != len(second):
        longer = first if len(first) > len(second) else second
        return Difference(longer[min(len(first), len(second))], f"{len(first)} steps, then {len(second)}")
    return differing


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _same(x: Any, y: Any) -> bool:
    return type(x) is type(y) and (x == y or (x != x and y != y))


def _change(x: Any, y: Any, node: Node) -> str:
    plain = isinstance(x, bool | int | float) and isinstance(y, bool | int | float)
    return f"{x!r}, then {y!r}" if plain else _described(node)


def _described(node: Node) -> str:
    return node.target_name if isinstance(node, Call) else type(node).__name__


@dataclass(frozen=True)
class Variation:
    """A recording at other sizes: ``sizes[k]`` of class ``k``, and the numbers that differed."""

    sizes: tuple[int, ...]
    found: Sizes


@dataclass(frozen=True)
class Unsolved:
    """A node with a number that no simple polynomial explains, and the classes on which such numbers depend."""

    node: Node
    classes: tuple[int, ...]


def solve(
    nodes: Sequence[Node],
    base: tuple[int, ...],
    seen: Sequence[Variation],
    names: Sequence[str],
    dense: tuple[int, ...] = (),
) -> list[Node] | Unsolved:
    """The nodes with sizes as polynomials over ``names``.

    Args:
        nodes: of the first recording.
        base: its sizes, one a class.
        seen: recordings at other sizes; the first vary one class each, in order.
        names: of the classes' size nodes.
        dense: the classes of which ``seen`` has the whole `grid`.
    """
    flat = _flat(nodes)
    by_node: dict[int, dict[int, Size | int]] = {}
    unsolved: list[tuple[int, set[int]]] = []
    for index, atom in sorted(set[tuple[int, int]]().union(*(variation.found for variation in seen))):
        value = flat[index][atom]
        values = [value, *(v.found.get((index, atom), value) for v in seen)]
        points = list(zip([base, *(v.sizes for v in seen)], values, strict=True))
        size = explained(points, names, dense)
        if size is None:
            unsolved.append((index, {k for k in range(len(base)) if values[1 + k] != value}))
        else:
            by_node.setdefault(index, {})[atom] = size
    if unsolved:
        return Unsolved(nodes[unsolved[0][0]], tuple(sorted(set[int]().union(*(c for _, c in unsolved)))))
    return [_with_atoms(node, by_node[i]) if i in by_node else node for i, node in enumerate(nodes)]


def _with_atoms(node: Node, new: dict[int, Size | int]) -> Node:
    """The node with some of its `atoms` replaced, by their index."""
    counter = [0]

    def step() -> int:
        counter[0] += 1
        return counter[0]

    def rebuild(value: Any) -> Any:
        if isinstance(value, tuple):
            step()
            return tuple(rebuild(item) for item in value)
        if isinstance(value, list):
            step()
            return [rebuild(item) for item in value]
        if isinstance(value, dict):
            step()
            return {key: rebuild(item) for key, item in value.items()}
        if isinstance(value, slice):
            step()
            return slice(rebuild(value.start), rebuild(value.stop), rebuild(value.step))
        if is_dataclass(value) and not isinstance(value, type | Ref | Formula):
            step()
            return replace(value, **{field.name: rebuild(getattr(value, field.name)) for field in fields(value)})
        return new.get(step(), value)

    changes = {f.name: rebuild(getattr(node, f.name)) for f in fields(node) if f.name not in ("name", "location")}
    if isinstance(node, Constant) and "value" in changes and changes["value"] != node.value:
        made = {"dtype": node.dtype, "device": DeviceOf()}
        typed = {key: value for key, value in changes.items() if key != "value"}
        values = _as_lists(changes["value"])
        return Call(name=node.name, target="torch.tensor", args=(values,), kwargs=made, location=node.location, **typed)
    return replace(node, **changes)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def renamed(nodes: Sequence[Node], new_name: Callable[[str], str]) -> list[Node]:
    """The nodes under other names, references included."""
    return [replace(node.map_names(new_name), name=new_name(node.name), **_plates(node, new_name)) for node in nodes]


def _plates(node: Node, new_name: Callable[[str], str]) -> dict[str, Any]:
    if node.site is None:
        return {}
    plates = tuple(replace(plate, size=map_names(plate.size, new_name)) for plate in node.site.plates)
    return {"site": replace(node.site, plates=plates)}
