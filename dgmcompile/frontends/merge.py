"""Several recordings of one program compared: what differs only by sizes becomes symbolic, anything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from math import prod
from typing import Any

from dgmcompile.frontends.record import Recording
from dgmcompile.ir.graph import Call, Formula, Input, Node, Ref, Sample, map_names
from dgmcompile.ir.size import Size


@dataclass(frozen=True)
class Difference:
    """Where two recordings part: a node of the first, and what is there in each."""

    node: Node | None
    found: str


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
            if not (_is_int(x) and _is_int(y)):
                return Difference(first[index], _described(second[index]))
            differing[index, atom] = y
    if len(first) != len(second):
        longer = first if len(first) > len(second) else second
        return Difference(longer[min(len(first), len(second))], f"{len(first)} steps, then {len(second)}")
    return differing


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _same(x: Any, y: Any) -> bool:
    return type(x) is type(y) and (x == y or (x != x and y != y))


def _described(node: Node) -> str:
    return node.target_name if isinstance(node, Call) else type(node).__name__


@dataclass(frozen=True)
class Variation:
    """A recording at other sizes: ``sizes[k]`` of class ``k``, and the numbers that differed."""

    sizes: tuple[int, ...]
    found: Sizes


def solve(
    nodes: Sequence[Node], base: tuple[int, ...], single: dict[int, Variation], joint: Variation, names: Sequence[str]
) -> list[Node] | Node:
    """The nodes with sizes as polynomials over ``names``; a node where no polynomial explains the numbers.

    Args:
        nodes: of the first recording.
        base: its sizes, one a class.
        single: class -> a recording where only that class was varied.
        joint: a recording where all were, which decides between candidates.
        names: of the classes' size nodes.
    """
    flat = _flat(nodes)
    keys = set(joint.found).union(*(variation.found for variation in single.values()))
    by_node: dict[int, dict[int, Size | int]] = {}
    for index, atom in sorted(keys):
        value = flat[index][atom]
        seen = {k: v.found.get((index, atom), value) for k, v in single.items()}
        size = _explained(value, seen, joint.found.get((index, atom), value), base, single, joint.sizes, names)
        if size is None:
            return nodes[index]
        by_node.setdefault(index, {})[atom] = size
    return [_with_atoms(node, by_node[i]) if i in by_node else node for i, node in enumerate(nodes)]


def _explained(
    value: int,
    seen: dict[int, int],
    joint_value: int,
    base: tuple[int, ...],
    single: dict[int, Variation],
    joint_sizes: tuple[int, ...],
    names: Sequence[str],
) -> Size | int | None:
    changed = [k for k, found in seen.items() if found != value]
    candidates: list[dict[tuple[str, ...], int]] = []
    whole = prod(base[k] for k in changed)
    if changed and value % whole == 0:
        candidates.append({tuple(sorted(names[k] for k in changed)): value // whole})
    slopes = {k: (seen[k] - value, single[k].sizes[k] - base[k]) for k in changed}
    if all(rise % run == 0 for rise, run in slopes.values()):
        slope = {k: rise // run for k, (rise, run) in slopes.items()}
        affine: dict[tuple[str, ...], int] = {(names[k],): m for k, m in slope.items()}
        candidates.append({**affine, (): value - sum(m * base[k] for k, m in slope.items())})
    for terms in candidates:
        size = Size.of(terms)
        settings = [(v.sizes, seen[k]) for k, v in single.items()] + [(joint_sizes, joint_value), (base, value)]
        if all(_evaluated(size, dict(zip(names, at, strict=True))) == found for at, found in settings):
            return size
    return None


def _evaluated(size: Size | int, values: dict[str, int]) -> int:
    return size if isinstance(size, int) else size.evaluate(values)


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
    return replace(node, **changes)


def renamed(nodes: Sequence[Node], new_name: Callable[[str], str]) -> list[Node]:
    """The nodes under other names, references included."""
    return [replace(node.map_names(new_name), name=new_name(node.name), **_plates(node, new_name)) for node in nodes]


def _plates(node: Node, new_name: Callable[[str], str]) -> dict[str, Any]:
    if node.site is None:
        return {}
    plates = tuple(replace(plate, size=map_names(plate.size, new_name)) for plate in node.site.plates)
    return {"site": replace(node.site, plates=plates)}


def is_sample(node: Node) -> bool:
    """Is it a random variable?"""
    return isinstance(node, Sample)
