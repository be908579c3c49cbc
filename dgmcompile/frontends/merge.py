"""Several recordings of one program compared: what differs only by sizes becomes symbolic, anything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, reduce
from types import FunctionType
from typing import Any

from torch import Tensor

from dgmcompile.frontends.polynomials import Quotient, explained, quotient, same_number
from dgmcompile.frontends.recording import Recording
from dgmcompile.ir.formulas import QUOTIENT
from dgmcompile.ir.graph import (
    Call,
    Constant,
    DeviceOf,
    Formula,
    Input,
    Node,
    Parameter,
    Ref,
    Sample,
    Site,
    refs_in,
)
from dgmcompile.ir.size import Monomial, Size, add, multiply


@dataclass(frozen=True)
class Run:
    """One recording, cut down to what is alive."""

    recording: Recording
    nodes: list[Node]
    flat: list[Node]
    """Before the steps of its loops were put together."""

    @cached_property
    def atoms(self) -> list[list[Any]]:
        """Those of each node."""
        position = {node.name: index for index, node in enumerate(self.nodes)}
        return [atoms(node, position) for node in self.nodes]


@dataclass(frozen=True)
class Difference:
    """Where two recordings part: a node of the first, and what is there in each."""

    node: Node | None
    found: str


def live(nodes: Sequence[Node], recording: Recording) -> list[Node]:
    """Of the recording's nodes, what inputs, sites and deterministic sites are made of, and what is passed to
    submodules on the way."""
    by_name = {node.name: node for node in nodes}
    passed: dict[str, list[str]] = {}
    for span in recording.spans:
        for name in refs_in(span.output):
            passed.setdefault(name, []).extend(ref for ref in refs_in((span.args, span.kwargs)) if ref in by_name)
    sites = [node.name for node in nodes if node.site is not None and node.name not in recording.hidden]
    todo = [*sites, *(node.name for node in nodes if isinstance(node, Input))]
    needed = set[str]()
    while todo:
        if (name := todo.pop()) not in needed:
            needed.add(name)
            todo += (*by_name[name].needed, *passed.get(name, ()))
    return [node for node in nodes if node.name in needed]


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
    elif isinstance(value, Size):
        terms = _terms(value, position)
        found.append(("size", *(tuple(map(position.__getitem__, names)) for names, _ in terms)))
        found += [coefficient for _, coefficient in terms]
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
        for name in _told(value):
            _flatten(getattr(value, name), found, position)
    else:
        found.append(value)


def _told(value: Any) -> list[str]:
    """The fields that differ where two such values do: a site's name in a loop is that of its parts."""
    names = [field.name for field in fields(value)]
    return names[1:] if isinstance(value, Site) and value.parts else names


def _terms(size: Size, order: Mapping[str, int]) -> list[tuple[Monomial, int]]:
    """Of a polynomial, the constant first, as it may be 0 at one size alone."""
    constant = dict(size.terms).get((), 0)
    return [((), constant), *sorted((t for t in size.terms if t[0]), key=lambda term: [order[n] for n in term[0]])]


Place = tuple[int, int]
"""(node, atom): where a number stands in a recording."""

Numbers = dict[Place, int | float]
"""The numbers of a recording that are not what they are in the first one."""


def compared(first: Run, second: Run) -> Numbers | Difference:
    """The numbers that differ, or the first difference that is none of a number.

    A tensor that the program does not own and that is another one counts as a difference.
    """
    found = _compared(first, second)
    if isinstance(found, Difference):
        return found
    for node, again in zip(first.nodes, second.nodes, strict=True):
        if isinstance(node, Parameter) and isinstance(again, Parameter) and not node.trainable:
            one, two = first.recording.tensors[node.path], second.recording.tensors[again.path]
            if one is not two and not _equal(one, two):
                return Difference(node, "a tensor has other values")
    return found


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(((one == two) | ((one != one) & (two != two))).all())


def _compared(one: Run, other: Run) -> Numbers | Difference:
    differing: Numbers = {}
    first, second = one.nodes, other.nodes
    for index, (a, b) in enumerate(zip(one.atoms, other.atoms, strict=False)):
        if len(a) != len(b):
            return Difference(first[index], _described(second[index]))
        for atom, (x, y) in enumerate(zip(a, b, strict=True)):
            if _same(x, y):
                continue
            if isinstance(first[index], Parameter) and isinstance(second[index], Parameter):
                return Difference(first[index], "a tensor has other values")
            if not ((_is_int(x) and _is_int(y)) or (isinstance(x, float) and isinstance(y, float))):
                return Difference(first[index], _change(x, y, second[index]))
            differing[index, atom] = y
    if len(first) != len(second):
        longer = first if len(first) > len(second) else second
        return Difference(longer[min(len(first), len(second))], f"{len(first)} steps, then {len(second)}")
    return differing


def differing_places(one: Numbers, other: Numbers) -> list[Place]:
    """Where two recordings do not have the same numbers, in order."""
    places = sorted(one.keys() | other.keys())
    return [p for p in places if p not in one or p not in other or not _same(one[p], other[p])]


def changes(base: Run, found: Numbers) -> str:
    """The first number that differs, as it was and as it is."""
    (index, atom), value = min(found.items())
    return _change(base.atoms[index][atom], value, base.nodes[index])


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _same(x: Any, y: Any) -> bool:
    """Equal; a real number may be rounded otherwise, as ``scale * n / n`` is."""
    if isinstance(x, FunctionType) and isinstance(y, FunctionType):  # made anew by each run, as a lambda is
        return x.__code__ is y.__code__
    if isinstance(x, float) and isinstance(y, float):
        return same_number(x, y) or (x != x and y != y)
    return type(x) is type(y) and bool(x == y)


def _change(x: Any, y: Any, node: Node) -> str:
    plain = isinstance(x, bool | int | float) and isinstance(y, bool | int | float)
    return f"{x!r}, then {y!r}" if plain else _described(node)


def _described(node: Node) -> str:
    return node.target_name if isinstance(node, Call) else type(node).__name__


@dataclass(frozen=True)
class Variation:
    """A recording at other sizes: ``sizes[k]`` of class ``k``, and the numbers that differed."""

    sizes: tuple[int, ...]
    found: Numbers


@dataclass(frozen=True)
class Unsolved:
    """A node with a number that nothing simple explains, and the classes on which such numbers depend."""

    node: Node
    classes: tuple[int, ...]


Solved = dict[Place, Size | Quotient | int]
"""The numbers that depend on sizes, as what they are of these."""


def solve(
    base: Run,
    at: tuple[int, ...],
    seen: Sequence[Variation],
    names: Sequence[str],
    dense: tuple[int, ...] = (),
) -> Solved | Unsolved:
    """Whole numbers as polynomials over ``names``, others as quotients of such.

    Args:
        base: the first recording.
        at: its sizes, one a class.
        seen: recordings at other sizes; the first vary one class each, in order.
        names: of the classes' size nodes.
        dense: the classes of which ``seen`` has the whole `grid`.
    """
    solved: Solved = {}
    unsolved: list[tuple[int, set[int]]] = []
    for index, atom in sorted(set[Place]().union(*(variation.found for variation in seen))):
        value = base.atoms[index][atom]
        values = [value, *(v.found.get((index, atom), value) for v in seen)]
        sizes = [at, *(v.sizes for v in seen)]
        if isinstance(value, float):
            made = quotient(list(zip(sizes, values, strict=True)), names)
        else:
            made = explained([(size, int(v)) for size, v in zip(sizes, values, strict=True)], names, dense)
        if made is None:
            unsolved.append((index, {k for k in range(len(at)) if values[1 + k] != value}))
        else:
            solved[index, atom] = made
    if unsolved:
        return Unsolved(base.nodes[unsolved[0][0]], tuple(sorted(set[int]().union(*(c for _, c in unsolved)))))
    return solved


def predicted(base: Run, solved: Solved, sizes: Mapping[str, int]) -> Numbers:
    """The numbers that differ where the size nodes have these values, if ``solved`` is right."""
    made = {p: number if isinstance(number, int) else number.evaluate(sizes) for p, number in solved.items()}
    return {place: number for place, number in made.items() if not _same(number, base.atoms[place[0]][place[1]])}


def with_sizes(nodes: Sequence[Node], solved: Solved) -> list[Node]:
    """The nodes with their sizes symbolic; a real number that depends on sizes becomes a node of its own."""
    by_node: dict[int, dict[int, Any]] = {}
    for (index, atom), number in solved.items():
        by_node.setdefault(index, {})[atom] = number
    position = {node.name: index for index, node in enumerate(nodes)}
    return [new for i, node in enumerate(nodes) for new in _symbolic(node, by_node.get(i, {}), position)]


def _symbolic(node: Node, numbers: dict[int, Any], position: Mapping[str, int]) -> Iterator[Node]:
    """What ``node`` needs, and the node itself."""
    new, made = dict(numbers), dict[Ref, Call]()
    for atom, number in numbers.items():
        if isinstance(number, Quotient):
            name = f"{node.name}.{len(made)}"
            new[atom] = Ref(name)
            made[Ref(name)] = Call(name=name, target=QUOTIENT, args=number.arguments, location=node.location)
    yield from made.values()
    node = _with_atoms(node, new, position) if new else node
    if isinstance(node, Sample):
        numbers_of = {key: value for key, value in node.params.items() if isinstance(value, Ref) and value in made}
        tensors = {key: _as_tensor(value, node) for key, value in numbers_of.items()}
        yield from tensors.values()
        node = replace(node, params={**node.params, **{key: Ref(call.name) for key, call in tensors.items()}})
    yield node


def _as_tensor(number: Ref, like: Node) -> Call:
    """A number as a law takes it: in the draw's own precision."""
    return Call(
        name=f"{number.name}.tensor",
        target="torch.tensor",
        args=(number,),
        kwargs={"dtype": like.dtype, "device": DeviceOf()},
        shape=(),
        dtype=like.dtype,
        location=like.location,
    )


def _with_atoms(node: Node, new: dict[int, Any], position: Mapping[str, int]) -> Node:
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
        if isinstance(value, Size):
            step()
            made = [(names, new.get(step(), coefficient)) for names, coefficient in _terms(value, position)]
            return reduce(add, (_product(names, coefficient) for names, coefficient in made))
        if is_dataclass(value) and not isinstance(value, type | Ref | Formula):
            step()
            made = replace(value, **{name: rebuild(getattr(value, name)) for name in _told(value)})
            return made.map_sizes(lambda size: size) if isinstance(made, Site) else made
        return new.get(step(), value)

    changes = {f.name: rebuild(getattr(node, f.name)) for f in fields(node) if f.name not in ("name", "location")}
    if isinstance(node, Constant) and "value" in changes and changes["value"] != node.value:
        made = {"dtype": node.dtype, "device": DeviceOf()}
        typed = {key: value for key, value in changes.items() if key != "value"}
        values = _as_lists(changes["value"])
        return Call(name=node.name, target="torch.tensor", args=(values,), kwargs=made, location=node.location, **typed)
    return replace(node, **changes)


def _product(names: Monomial, coefficient: Size | int) -> Size | int:
    return reduce(multiply, map(Size.symbol, names), coefficient)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def renamed(nodes: Sequence[Node], new_name: Callable[[str], str]) -> list[Node]:
    """The nodes under other names, references included."""
    return [replace(node.map_names(new_name), name=new_name(node.name)) for node in nodes]
