"""The steps of a loop, recorded one after the other, as one: a recurrence, of which the body stands once.

The program's loop leaves no trace in a recording but that the same calls come again. Where they do, step by step what
they read is compared: the same value of the step itself, what another call gave so many steps before (a `Carry`), the
same thing from outside, a number or an element that goes on by the same distance each time (``x[:, t]``, ``z_{t}``).
If everything is one of these, the steps are one body; if not, they stay as they are, and it is said why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dgmcompile.diagnostics import Location
from dgmcompile.frontends.naming import variable_name
from dgmcompile.frontends.repeats import FEWEST, Repeat, periods, repeats
from dgmcompile.frontends.source import loop_variable
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import (
    Call,
    Carry,
    Constant,
    Final,
    Graph,
    Input,
    Loop,
    Node,
    Noise,
    Parameter,
    Ref,
    Sample,
    Site,
    Stacked,
    name_of_parts,
)
from dgmcompile.ir.size import Size, add, multiply

_JOINING = ("stack", "cat", "concat")
_ARITHMETIC = frozenset(["add", "sub", "mul", "div", "pow", "rsub", "rtruediv", "rpow", "radd", "rmul", "truediv"])


@dataclass(frozen=True)
class NotRolled:
    """Steps that stay as they are, and why."""

    steps: int
    location: Location | None
    reason: str


@dataclass(frozen=True)
class Rolled:
    """The nodes, with loops where steps were, and hints for the names of new ones; ``kept`` is what is no loop."""

    nodes: list[Node]
    hints: dict[str, str]
    kept: list[NotRolled]


class Irregular(Exception):
    """Why steps are not one body."""


def rolled(
    nodes: Sequence[Node], hints: Mapping[str, str], is_pure: Callable[[Call], bool], by_lines: bool = True
) -> Rolled:
    """Loops in the place of repeated steps, inner ones first.

    Args:
        nodes: as they were recorded.
        hints: for their names.
        is_pure: does a call give the same values again, and change nothing?
        by_lines: do steps of one loop come from the same lines? Not in code that was written out by a tool.
    """
    work = _Rolling(_leaves_first(nodes), is_pure, by_lines)
    while work.sweep():
        pass
    return Rolled(work.nodes, _hints(work.nodes, hints), work.written_out())


def _hints(nodes: Sequence[Node], hints: Mapping[str, str]) -> dict[str, str]:
    """Names by which a reader knows what loops have brought."""
    named = {**hints, **{node.name: variable_name(node.site) for node in nodes if node.site is not None}}
    for node in nodes:
        match node:
            case Loop():
                inside = (other.location for other in nodes if node.name in other.inputs and other.location)
                named[node.name] = loop_variable(next(inside, None)) or "step"
            case Carry(next=Ref(following)):
                named[node.name] = f"last_{named.get(following) or 'value'}"
            case _:
                pass
    return named


def _leaves_first(nodes: Sequence[Node]) -> list[Node]:
    """What no step computes stands before all steps; equal constants are one."""
    known, same = dict[Hashable, str](), dict[str, str]()
    for node in nodes:
        if isinstance(node, Constant):
            same[node.name] = known.setdefault(repr((node.value, node.dtype, node.shape)), node.name)
    kept = [node for node in nodes if same.get(node.name, node.name) == node.name]
    one = [node.map_names(lambda name: same.get(name, name)) for node in kept]
    leaves = [node for node in one if isinstance(node, Input | Parameter | Constant)]
    return [*leaves, *(node for node in one if not isinstance(node, Input | Parameter | Constant))]


def _is_element(node: Node) -> bool:
    return isinstance(node, Call) and node.target == "getitem" and node.site is None and len(node.inputs) == 1


def _line(location: Location | None) -> tuple[str, int] | None:
    return location and (location.file, location.line)


class _Rolling:
    """The nodes, as far as they are rolled."""

    def __init__(self, nodes: list[Node], is_pure: Callable[[Call], bool], by_lines: bool) -> None:
        self.nodes = nodes
        self.kept: dict[tuple[str, int], NotRolled] = {}
        self._is_pure = is_pure
        self._by_lines = by_lines
        self._tokens: dict[str, Hashable] = {}

    def sweep(self) -> bool:
        """Roll what repeats with the shortest period that gives a loop; was there one?"""
        tokens = [self._token(node) for node in self.nodes]
        self._loops = Graph(self.nodes).loops
        for period in periods(tokens):
            stretches = (sorted(cuts, key=self._preference) for cuts in repeats(tokens, period))
            found = [loop for cuts in stretches if (loop := self._first_regular(cuts)) is not None]
            if found:
                for body in reversed(found):  # from behind, as each replaces its steps
                    self.nodes = body.in_place(self.nodes)
                return True
        return False

    def written_out(self) -> list[NotRolled]:
        """What was tried in vain and is in no loop now, of steps that draw; the longest stretch of each place."""
        graph = Graph(self.nodes)
        drawing = {_line(node.location) for node in self.nodes if isinstance(node, Sample)}
        found = dict[tuple[str, int], NotRolled]()
        for (first, _), kept in sorted(self.kept.items(), key=lambda item: item[1].steps):
            line = _line(kept.location)
            if first in graph and not graph.loops[first] and line is not None and line in drawing:
                found[line] = kept
        return list(found.values())

    def _preference(self, cut: Repeat) -> tuple[int, int, int]:
        """As many steps as there can be; then, a step begins where its lines do."""
        location = self.nodes[cut.start].location
        return -cut.steps, location.line if location is not None else 0, cut.start

    def _token(self, node: Node) -> Hashable:
        """Of two nodes the same, if they may be the same call in two steps."""
        if node.name not in self._tokens:
            self._tokens[node.name] = _skeleton(node), node.shape, node.location if self._by_lines else None
        return self._tokens[node.name]

    def _first_regular(self, cuts: list[Repeat]) -> _Body | None:
        for cut in cuts:
            first, step = self.nodes[cut.start].name, self.nodes[cut.start : cut.start + cut.period]
            if (first, cut.period) in self.kept or all(map(_is_element, step)) or self._is_torn(step):
                continue
            try:
                return self._body(cut)
            except Irregular as irregular:
                place = next((n.location for n in self.nodes[cut.start : cut.end] if n.location is not None), None)
                self.kept[first, cut.period] = NotRolled(cut.steps, place, str(irregular))
        return None

    def _is_torn(self, step: Sequence[Node]) -> bool:
        """Has it a part of a loop, and not all?"""
        return not frozenset[str]().union(*(self._loops[node.name] for node in step)) <= {node.name for node in step}

    def _body(self, cut: Repeat) -> _Body:
        """Of these steps, or, where the first one or two are not like the others, of those after them."""
        for _ in range(2):
            try:
                return _Body.of(self.nodes, cut, self._is_pure)
            except Irregular:
                if cut.steps <= FEWEST:
                    raise
                cut = cut.shifted()
        return _Body.of(self.nodes, cut, self._is_pure)


def _skeleton(node: Node) -> Hashable:
    """What of a node is the same in each step, as text."""
    site = node.site and (_NUMBER.sub("#", node.site.name), node.site.role, node.site.family, len(node.site.plates))
    bare = replace(node, name="", site=None, shape=None, location=None)
    return repr((site, bare.map_leaves(_kind)))


def _kind(leaf: Any) -> Any:
    match leaf:
        case bool():
            return leaf
        case Ref() | Size() | int() | float():
            return _Kind(type(leaf).__name__)
        case _:
            return leaf


@dataclass(frozen=True)
class _Kind:
    name: str

    @property
    def symbols(self) -> tuple[str, ...]:
        return ()


_NUMBER = re.compile(r"\d+")


@dataclass
class _Body:
    """One step that stands for all of a repeat.

    ``before`` are nodes that the loop needs from outside, ``carries`` what goes from step to step, ``nodes`` the rest.
    """

    cut: Repeat
    steps: list[list[Node]]
    outside: Mapping[str, Node]
    before: list[Node] = field(default_factory=list)
    carries: dict[tuple[str, Ref], Carry] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    @classmethod
    def of(cls, nodes: Sequence[Node], cut: Repeat, is_pure: Callable[[Call], bool]) -> _Body:
        """
        Errors:
            `Irregular`.
        """
        starts = range(cut.start, cut.end, cut.period)
        outside = {node.name: node for node in nodes[: cut.start]}
        body = cls(cut, [list(nodes[start : start + cut.period]) for start in starts], outside)
        body._fill(is_pure)
        return body

    def __post_init__(self) -> None:
        self._place = {node.name: (r, j) for r, step in enumerate(self.steps) for j, node in enumerate(step)}
        self._taken: dict[Ref, Ref] = {}
        self.loop = Loop(name=f"{self.steps[0][0].name}.step", length=self.cut.steps)
        self.number = Size.symbol(self.loop.name)

    def name(self, j: int) -> str:
        """Of the node that stands for the ``j``-th of each step."""
        return self.steps[0][j].name

    def _fill(self, is_pure: Callable[[Call], bool]) -> None:
        for column in zip(*self.steps, strict=True):
            node = self._one(column)
            if isinstance(node, Call) and not is_pure(node):
                node = replace(node, steps=(self.number, *node.steps))
            self.nodes.append(node)
        if not any(self.loop.name in node.inputs for node in (*self.nodes, *self.carries.values())):
            raise Irregular("its steps all do the same")

    def _one(self, column: Sequence[Node]) -> Node:
        """The node that stands for these."""
        if len({node.shape for node in column}) > 1:
            raise Irregular("the shape of a value is another one in each step")
        bare = [replace(node, site=None, shape=None) for node in column]
        leaves = [self._leaf(values, column[0]) for values in zip(*map(_leaves, bare), strict=True)]
        site, made = self._site([node.site for node in column]), iter(leaves)
        one = bare[0].map_leaves(lambda _: next(made))
        if isinstance(one, Noise) or (isinstance(one, Sample) and not (site and site.parts)):
            raise Irregular("it draws what has no name of its own in each step")
        if isinstance(one, Loop):
            one = replace(one, around=(*one.around, self.number))
        return self._of_tensor(replace(one, site=site, shape=column[0].shape))

    def _of_tensor(self, node: Node) -> Node:
        """An element of ``x.unbind(1)``, as ``x.select(1, t)``."""
        match node:
            case Call(target="getitem", args=(Ref(name), Size() as index)):
                match self.outside.get(name):
                    case Call(target="torch.Tensor.unbind" | "torch.unbind", args=(tensor, *rest), kwargs=named):
                        dim = rest[0] if rest else named.get("dim", 0)
                        return replace(node, target="torch.select", args=(tensor, dim, index))
        return node

    # -- what the steps have in one place -----------------------------------------------------------------------

    def _leaf(self, values: Sequence[Any], at: Node) -> Any:
        first = values[0]
        if isinstance(first, Ref):
            return self._reference(values)
        if isinstance(first, Size):
            return self._size(values)
        if all(type(value) is type(first) and value == first for value in values):
            return first
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            if (number := self._progression(values)) is not None:
                return number
            raise Irregular("a whole number does not go on by the same distance in each step")
        if all(isinstance(value, float) for value in values):
            return self._table(values, at)
        raise Irregular("a literal is another one in each step")

    def _progression(self, values: Sequence[int]) -> Size | int | None:
        distance = values[1] - values[0]
        if any(value != values[0] + r * distance for r, value in enumerate(values)):
            return None
        return add(multiply(distance, self.number), values[0])

    def _table(self, values: Sequence[float], at: Node) -> Ref:
        """A number for each step, looked up."""
        if isinstance(at, Call) and short_name(at.target_name).strip("_") not in _ARITHMETIC:
            raise Irregular("a number is another one in each step, and its place takes no tensor")
        dtype = at.dtype if at.dtype is not None and at.dtype.is_floating_point else torch.float64
        table = Constant(
            name=f"{at.name}.table{len(self.before)}", value=tuple(values), shape=(len(values),), dtype=dtype
        )
        return self._element(table, (), dtype)

    def _element(self, sequence: Node, shape: Any, dtype: torch.dtype | None) -> Ref:
        """The one of this step."""
        self.before.append(sequence)
        args = (Ref(sequence.name), self.number)
        element = Call(name=f"{sequence.name}.step", target="getitem", args=args, shape=shape, dtype=dtype)
        self.nodes.append(element)
        return Ref(element.name)

    def _size(self, values: Sequence[Size]) -> Size | int:
        """An inner loop's number is that of the inner loop in the body."""
        first = values[0]
        in_order = [dict(zip(value.symbols, first.symbols, strict=False)) for value in values]
        if any(value.rename(lambda name, to=to: to[name]) != first for value, to in zip(values, in_order, strict=True)):
            raise Irregular("a size is another one in each step")
        columns = zip(*(value.symbols for value in values), strict=True)
        found = {column[0]: self._reference([*map(Ref, column)]).name for column in columns}
        return first.rename(lambda name: found[name])

    def _reference(self, refs: Sequence[Ref]) -> Ref:
        places = [self._place.get(ref.name) for ref in refs]
        if all(place is None for place in places):
            return refs[0] if len(set(refs)) == 1 else self._family(refs)
        if places[-1] is None:
            raise Irregular("what a step reads was computed in an early step alone")
        lag, column = len(refs) - 1 - places[-1][0], places[-1][1]
        for r, place in enumerate(places):
            if place != ((r - lag, column) if r >= lag else None):
                raise Irregular("a step reads something else than the step before it")
        return self._carried(column, refs[:lag])

    def _carried(self, column: int, inits: Sequence[Ref]) -> Ref:
        """What the node of this column was so many steps ago; ``inits`` in the steps for which that was before all."""
        value, like = Ref(self.name(column)), self.steps[0][column]
        if any((n.shape, n.dtype) != (like.shape, like.dtype) for n in (self.outside[init.name] for init in inits)):
            raise Irregular("what the first step starts from has another shape than what later ones start from")
        for init in reversed(inits):
            key = (value.name, init)
            if key not in self.carries:
                name = f"{value.name}.before{len(self.carries)}"
                self.carries[key] = Carry(
                    name=name, step=self.number, init=init, next=value, shape=like.shape, dtype=like.dtype
                )
            value = Ref(self.carries[key].name)
        return value

    def _family(self, refs: Sequence[Ref]) -> Ref:
        """What each step reads from outside: an element of something that it can take out by itself, or so many."""
        nodes = [self.outside[ref.name] for ref in refs]
        if refs[0] in self._taken:
            return self._taken[refs[0]]
        if all(map(_is_element, nodes)) and len({_skeleton(node) for node in nodes}) == 1:
            one = replace(self._one(nodes), name=f"{refs[0].name}.each")
            self.nodes.append(one)
            self._taken[refs[0]] = Ref(one.name)
            return self._taken[refs[0]]
        first = nodes[0]
        are_leaves = all(isinstance(node, Input | Parameter | Constant) for node in nodes)
        if first.shape is None or not are_leaves or len({(node.shape, node.dtype) for node in nodes}) > 1:
            raise Irregular("each step reads something of its own from outside")
        name, shape = f"{self.loop.name}.each{len(self.before)}", (len(refs), *first.shape)
        stack = Call(name=name, target="torch.stack", args=([*refs],), shape=shape, dtype=first.dtype)
        self._taken[refs[0]] = self._element(stack, first.shape, first.dtype)
        return self._taken[refs[0]]

    def _site(self, sites: Sequence[Site | None]) -> Site | None:
        first = sites[0]
        if first is None:
            return None
        pieces = [list(_pieces(site)) for site in sites if site is not None]
        if len({len(one) for one in pieces}) > 1:
            raise Irregular("the names of its sites have nothing in common")
        parts = [self._piece(column) for column in zip(*pieces, strict=True)]
        plates = [self._plate(column) for column in zip(*(s.plates for s in sites if s), strict=True)]
        joined = tuple(_merged(parts))
        return replace(first, name=name_of_parts(joined), plates=tuple(plates), parts=joined)

    def _piece(self, column: Sequence[Any]) -> Any:
        if all(piece == column[0] for piece in column):
            return column[0]
        if isinstance(column[0], Size):
            return self._size(column)
        plain = all(isinstance(piece, str) and re.fullmatch("0|[1-9][0-9]*", piece) for piece in column)
        if plain and (number := self._progression([*map(int, column)])) is not None:
            return number
        raise Irregular("the numbers in its sites' names do not go on by the same distance")

    def _plate(self, column: Sequence[Any]) -> Any:
        first = column[0]
        if any((plate.name, plate.dim) != (first.name, first.dim) for plate in column):
            raise Irregular("a site is in another plate in each step")
        return replace(first, size=self._leaf([plate.size for plate in column], self.loop))

    # -- in the program -------------------------------------------------------------------------------------------

    def in_place(self, nodes: Sequence[Node]) -> list[Node]:
        """All nodes, with the loop in the place of its steps."""
        after = _After(self)
        rest = [after.reading(node) for node in nodes[self.cut.end :]]
        inside = [self.loop, *self.carries.values(), *self.nodes]
        return [*nodes[: self.cut.start], *self.before, *inside, *after.nodes, *rest]

    def column_of(self, name: str) -> tuple[int, int] | None:
        """(step, column) of what a name outside refers to."""
        return self._place.get(name)


def _leaves(node: Node) -> list[Any]:
    found: list[Any] = []
    node.map_leaves(lambda leaf: (found.append(leaf), leaf)[1])
    return found


def _pieces(site: Site) -> Iterator[str | Size]:
    """Of its name: text, numbers, and the numbers of inner loops."""
    for part in site.parts or (site.name,):
        if isinstance(part, Size):
            yield part
        else:
            yield from re.split(r"(\d+)", part)


def _merged(parts: Iterable[Any]) -> Iterator[Any]:
    """Neighbouring texts as one, none of them empty."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
        text = ""
        yield part
    if text:
        yield text


class _After:
    """What reads the values of a loop's steps after it."""

    def __init__(self, body: _Body) -> None:
        self._body = body
        self.nodes: list[Node] = []
        self._made: dict[Any, str] = {}

    def reading(self, node: Node) -> Node:
        """The node, as it reads them from outside."""
        if not any(self._body.column_of(name) for name in node.inputs):
            return node
        return self._joined(node) or node.map_leaves(self._leaf)

    def _leaf(self, leaf: Any) -> Any:
        place = self._body.column_of(leaf.name) if isinstance(leaf, Ref) else None
        return leaf if place is None else self._value(*place)

    def _value(self, step: int, column: int) -> Ref:
        """Of one step."""
        body, like = self._body, self._body.steps[0][column]
        carry = next((c for (name, _), c in body.carries.items() if name == like.name), None)
        if step == body.cut.steps - 1 and carry is not None:
            return self._add(
                ("final", carry.name), Final(name="", carry=Ref(carry.name), shape=like.shape, dtype=like.dtype)
            )
        args = (self._stacked(column), step)
        return self._add((step, column), Call(name="", target="getitem", args=args, shape=like.shape, dtype=like.dtype))

    def _stacked(self, column: int) -> Ref:
        body, like = self._body, self._body.steps[0][column]
        if like.shape is None:
            raise Irregular("what is read of each step after the loop is no tensor")
        shape = (body.cut.steps, *like.shape)
        node = Stacked(name="", step=body.number, value=Ref(like.name), shape=shape, dtype=like.dtype)
        return self._add(("stacked", column), node)

    def _add(self, key: Any, node: Node) -> Ref:
        if key not in self._made:
            self._made[key] = f"{self._body.loop.name}.after{len(self._made)}"
            self.nodes.append(replace(node, name=self._made[key]))
        return Ref(self._made[key])

    def _joined(self, node: Node) -> Node | None:
        """``torch.stack`` and ``torch.cat`` of one value of each step."""
        if not isinstance(node, Call) or short_name(node.target_name) not in _JOINING or not node.args:
            return None
        places = [self._body.column_of(ref.name) if isinstance(ref, Ref) else None for ref in node.args[0]]
        column = places[0][1] if places and places[0] else 0
        if places != [(step, column) for step in range(self._body.cut.steps)]:
            return None
        rank = len(node.shape or ())
        dim = (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % rank
        stacked = self._stacked(column)
        moved = replace(node, target="torch.movedim", args=(stacked, 0, dim), kwargs={})
        if short_name(node.target_name) == "stack":
            return moved
        whole = replace(moved, name=f"{node.name}.steps", shape=None, site=None)
        self.nodes.append(whole)
        return replace(node, target="torch.flatten", args=(Ref(whole.name), dim, dim + 1), kwargs={})
