"""Loops taken apart: what need not be computed in one loop is computed in one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from dgmcompile.ir.graph import (
    Call,
    Carry,
    Dim,
    Final,
    Graph,
    Loop,
    Node,
    Noise,
    Ref,
    Stacked,
    components,
    map_arg,
)
from dgmcompile.ir.loops import all_steps, drawn_at_once, innermost_first, step_of
from dgmcompile.ir.names import unused
from dgmcompile.ir.size import Size, add


def distributed(graph: Graph, prefixes: Sequence[str]) -> Graph:
    r"""Loops of which no step computes values of two models, as they are told by the prefixes of their nodes' names.

        for t:                      for t:
            teacher.z_t                 teacher.z_t, to a list
            student.z_t      =>     for t_1:
            kl_t                        student.z_t, to a list
                                    for t_2:
                                        kl_t, of elements of both lists

    Nodes of a later prefix may depend on those of an earlier one, not the other way round; those without a prefix come
    last. Noise of a loop that is taken apart is drawn for all of its steps at once, before them.
    """
    for name in innermost_first(graph):
        graph = _Distribution(graph, name, tuple(prefixes)).result()
    return graph


@dataclass
class _Distribution:
    """Of one loop; ``loops`` are those in its place, by the number of their part."""

    graph: Graph
    name: str
    prefixes: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list[Node])

    def __post_init__(self) -> None:
        loop = self.graph[self.name]
        assert isinstance(loop, Loop)
        self.loop, self.length = loop, loop.length
        self.inside = [node for node in self.graph if self.name in self.graph.loops[node.name] and node is not loop]
        self.part = self._parts()
        self._taken = {*self.graph.graph}
        self._made = dict[tuple[str, int], Ref]()
        kept = sorted({self.part[node.name] for node in self.inside if not isinstance(node, Noise)})
        self.loops = {part: self.name if part == kept[0] else self._unused(self.name) for part in kept}

    def result(self) -> Graph:
        if len(self.loops) < 2:
            return self.graph
        for node in self.graph:
            if node is self.loop:
                self.nodes += [replace(self.loop, name=name) for name in self.loops.values()]
            else:
                self._add(node)
        return self.graph.evolve(self.nodes)

    # which part a node is of

    def _parts(self) -> dict[str, int]:
        """That of a node is not before that of what it needs."""
        part = dict[str, int]()
        names = [node.name for node in self.inside]
        for component in components(names, self._edges()):
            needed = [part[name] for member in component for name in self._needs(member) if name in part]
            own = [self._own_part(self.graph[member]) for member in component]
            part |= dict.fromkeys(component, max([*needed, *own]))
        return part

    def _own_part(self, node: Node) -> int:
        found = (number for number, prefix in enumerate(self.prefixes) if node.name.startswith(prefix))
        shared = isinstance(node, Noise) or node.shape is None
        return next(found, 0 if shared else len(self.prefixes))

    def _needs(self, name: str) -> tuple[str, ...]:
        """In this or an earlier step of the loop."""
        return self.graph[name].needed

    def _edges(self) -> Iterator[tuple[str, str]]:
        """What has to be computed no later than what; of what no list can be made, no sooner either."""
        inside = {node.name for node in self.inside}
        inner = dict[str, str]()
        for node in self.inside:
            for name in node.needed:
                if name in inside:
                    yield name, node.name
                    if self.graph[name].shape is None:
                        yield node.name, name
            for loop in self.graph.loops[node.name] - self.graph.loops[self.name]:  # an inner loop stays whole
                first = inner.setdefault(loop, node.name)
                yield first, node.name
                yield node.name, first

    # the nodes in their new places

    def _add(self, node: Node) -> None:
        number = Size.symbol(self.name)
        match node:
            case Noise() if number in node.steps:
                self.nodes.append(drawn_at_once(node, self.loop))
            case Carry() if self._is_shifted(node):
                self._element(node.name, self.part[node.name], self._shifted(node), node)
            case Stacked() if node.step == number:
                part = self.part.get(node.value.name, min(self.loops))
                self.nodes.append(replace(node, step=Size.symbol(self.loops[part])))
            case Final(carry=Ref(name)) if self._is_shifted(carry := cast(Carry, self.graph[name])):
                args = (self._shifted(carry), self.length)
                self.nodes.append(Call(name=node.name, target="getitem", args=args, shape=node.shape, dtype=node.dtype))
            case _ if node.name in self.part:
                self.nodes.append(node.map_leaves(self._leaf(self.part[node.name])))
            case _:
                self.nodes.append(node)

    def _is_shifted(self, carry: Carry) -> bool:
        """Is it a value of an earlier part, one step later?"""
        own = self.part.get(carry.name, 0)
        return carry.step == Size.symbol(self.name) and self.part.get(carry.next.name, own) < own

    def _leaf(self, part: int) -> Callable[[Any], Any]:
        """In a node of that part."""

        def leaf(value: Any) -> Any:
            if isinstance(value, Size):
                return value.substitute({self.name: Size.symbol(self.loops[part])})
            return self._read(value.name, part) if isinstance(value, Ref) and value.name in self.part else value

        return leaf

    def _read(self, name: str, part: int) -> Ref:
        """The value in this step, of the same part or taken from what an earlier one has made."""
        node = self.graph[name]
        is_noise = isinstance(node, Noise) and Size.symbol(self.name) in node.steps
        if not is_noise and self.part[name] == part:
            return Ref(name)
        if (name, part) not in self._made:
            whole = Ref(name) if is_noise else self._stacked(name)
            bare = whole.name.removeprefix(next((p for p in self.prefixes if whole.name.startswith(p)), ""))
            element = self._unused(f"{self._prefix(part)}{bare}_0")
            self._made[name, part] = self._element(element, part, whole, node)
        return self._made[name, part]

    def _element(self, name: str, part: int, whole: Ref, like: Node) -> Ref:
        self.nodes.append(step_of(whole, Size.symbol(self.loops[part]), like, name))
        return Ref(name)

    def _stacked(self, name: str) -> Ref:
        """All steps of a value."""
        key = (name, -1)
        if key not in self._made:
            loop = replace(self.loop, name=self.loops[self.part[name]])
            stacked = all_steps(self.graph[name], loop, self._unused(f"{name}_all"))
            self.nodes.append(stacked)
            self._made[key] = Ref(stacked.name)
        return self._made[key]

    def _shifted(self, carry: Carry) -> Ref:
        """What a carry is in each step, and would be in one more, where none of it waits for the carry."""
        key = (carry.name, -1)
        if key not in self._made:
            typed: Mapping[str, Any] = {"dtype": carry.dtype, "location": carry.location}
            first = Call(
                name=self._unused(f"{carry.name}_first"),
                target="torch.unsqueeze",
                args=(map_arg(carry.init, self._leaf(self.part[carry.name])), 0),
                shape=(1, *(carry.shape or ())),
                **typed,
            )
            longer: tuple[Dim, ...] = (add(self.length, 1), *(carry.shape or ()))
            args = ([Ref(first.name), self._stacked(carry.next.name)],)
            name = self._unused(f"{carry.name}_all")
            self.nodes += [first, Call(name=name, target="torch.cat", args=args, shape=longer, **typed)]
            self._made[key] = Ref(name)
        return self._made[key]

    def _prefix(self, part: int) -> str:
        return self.prefixes[part] if part < len(self.prefixes) else ""

    def _unused(self, name: str) -> str:
        self._taken.add(fresh := unused(name, self._taken))
        return fresh
