"""Loops among nodes: what is computed before, in and after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from dgmcompile.ir.graph import (
    Arg,
    Call,
    Carry,
    Final,
    Graph,
    Guard,
    Input,
    Loop,
    Node,
    Noise,
    Ref,
    Stacked,
    digraph,
    in_order,
    map_arg,
    names_in,
)
from dgmcompile.ir.names import unused
from dgmcompile.ir.size import Size


@dataclass(frozen=True)
class Block:
    """A loop and what is in it, inner loops included, in an order in which it can be computed."""

    loop: Loop
    nodes: tuple[Node, ...]

    @property
    def carries(self) -> list[Carry]:
        return [n for n in self.nodes if isinstance(n, Carry) and n.step == Size.symbol(self.loop.name)]

    @property
    def inside(self) -> list[Node]:
        """What each step computes."""
        carries = {carry.name for carry in self.carries}
        return [node for node in self.nodes if node.name not in carries and node.name != self.loop.name]


def innermost_first(graph: Graph) -> list[str]:
    """The names of its loops, each before those that are around it."""
    names = (node.name for node in graph if isinstance(node, Loop))
    return sorted(names, key=lambda name: -len(graph.loops[name]))


def is_step(node: Node) -> bool:
    """Is it taken, by the number of a step, from what is computed for all steps?"""
    return isinstance(node, Call) and node.target == "getitem" and isinstance(node.args[1], Size)


def step_of(whole: Ref, number: Size, like: Node, name: str) -> Call:
    """What of ``whole`` belongs to the step; of the type of ``like``."""
    typed: dict[str, Any] = {"shape": like.shape, "dtype": like.dtype, "location": like.location}
    return Call(name=name, target="getitem", args=(whole, number), **typed)


def all_steps(node: Node, loop: Loop, name: str) -> Stacked:
    """The values that a node has in the loop, as one."""
    shape = (loop.length, *(node.shape or ()))
    return Stacked(name=name, step=Size.symbol(loop.name), value=Ref(node.name), shape=shape, dtype=node.dtype)


def drawn_at_once(noise: Noise, loop: Loop) -> Noise:
    """The noise of all steps of the loop."""
    steps = tuple(step for step in noise.steps if step != Size.symbol(loop.name))
    return replace(noise, shape=(loop.length, *(noise.shape or ())), steps=steps)


def blocks(nodes: Sequence[Node], graph: Graph, around: frozenset[str] = frozenset()) -> Iterator[Node | Block]:
    """Nodes in an order in which they can be computed, the outermost loops as one each.

    Args:
        nodes: of ``graph``, all in the loops ``around``.
    """
    own = {node.name: _outermost(node, graph, around) for node in nodes}
    if not any(own.values()):
        yield from nodes
        return
    unit = {name: loop or name for name, loop in own.items()}
    places = {unit[node.name]: place for place, node in reversed([*enumerate(nodes)])}
    edges = ((unit[name], unit[node.name]) for node in nodes for name in node.inputs if name in unit)
    units = digraph(places, (edge for edge in edges if edge[0] != edge[1]))
    by_name = {node.name: node for node in nodes}
    for name in in_order(units, places):
        node = by_name[name]
        if own[name] is None:
            yield node
        else:
            assert isinstance(node, Loop)
            yield Block(node, tuple(node for node in nodes if own[node.name] == name))


def _outermost(node: Node, graph: Graph, around: frozenset[str]) -> str | None:
    """Of the loops that it is in, ``around`` apart, the one that is in no other."""
    inner = graph.loops[node.name] - around
    return min(inner, key=lambda name: (len(graph.loops[name] | around), name), default=None)


class UnknownLength(ValueError):
    """Why the steps of a loop cannot be written out."""


def written_out(graph: Graph) -> Graph:
    """As many steps as there were when the program was recorded, each written out; guards say so.

    Errors:
        `UnknownLength`: it is not known how many there were.
    """
    loops = [node for node in graph if isinstance(node, Loop)]
    read = {name for loop in loops for name in names_in(loop.length) if not isinstance(graph[name], Loop)}
    if missing := read - graph.binding.sizes.keys():
        raise UnknownLength(f"how many there are depends on {', '.join(sorted(missing))}")
    sizes = {name: graph.binding.sizes[name] for name in sorted(read)}
    fixed = tuple(_fixed(graph[name], number, graph) for name, number in sizes.items())
    return unrolled(graph, sizes).evolve(guards=(*graph.guards, *fixed)) if loops else graph


def _fixed(size: Node, number: int, graph: Graph) -> Guard:
    match size:
        case Call(args=(Ref(read), int(dim))):
            path, place = cast(Input, graph[read]).path, dim
        case _:
            path, place = cast(Input, size).path, None
    return Guard(path, place, number, "its steps are written out")


def unrolled(graph: Graph, sizes: Mapping[str, int] | None = None) -> Graph:
    """Each step of each loop written out.

    Args:
        sizes: size node -> its value, of those on which the length of a loop depends; it stands for them everywhere.
    Errors:
        `UnknownLength`: the length of a loop depends on another size.
    """
    return _Unrolling(graph, sizes or {}).result()


class _Unrolling:
    def __init__(self, graph: Graph, sizes: Mapping[str, int]) -> None:
        self._graph, self._sizes = graph, sizes
        self._taken = {node.name for node in graph if not graph.loops[node.name]}
        self._nodes: list[Node] = []
        self._stacks: dict[str, list[Arg]] = {}

    def result(self) -> Graph:
        values = dict[str, Arg]()
        steps = dict[str, list[dict[str, Arg]]]()
        self._write(list(self._graph), frozenset(), values, steps)
        outputs = dict(self._outputs())
        guards = tuple(replace(guard, expected=self._leaf(values)(guard.expected)) for guard in self._graph.guards)
        return self._graph.evolve(self._nodes, outputs=outputs, guards=guards)

    def _outputs(self) -> Iterator[tuple[str, str]]:
        by_site = {node.site.name: node.name for node in self._nodes if node.site is not None}
        for name, node in self._graph.outputs.items():
            if not self._graph.loops[node]:
                yield name, node
        known = {*self._graph.outputs}
        yield from ((name, node) for name, node in by_site.items() if name not in known)

    def _write(
        self,
        nodes: Sequence[Node],
        around: frozenset[str],
        values: dict[str, Arg],
        steps: dict[str, list[dict[str, Arg]]],
    ) -> None:
        """
        Args:
            values: node or loop -> what stands for it in this step.
            steps: loop -> the values of each of its steps.
        """
        for one in blocks(nodes, self._graph, around):
            match one:
                case Block():
                    steps[one.loop.name] = list(self._steps(one, around, values))
                case Final(carry=Ref(carried)):
                    carry = self._graph[carried]
                    assert isinstance(carry, Carry)
                    done = steps[carry.step.symbols[0]]
                    values[one.name] = done[-1][carry.next.name] if done else self._leaf(values)(carry.init)
                case Stacked(step=step, value=Ref(value)):
                    each = self._stacks[one.name] = [inside[value] for inside in steps[step.symbols[0]]]
                    stack = Call(
                        name=one.name,
                        target="torch.stack",
                        args=(each,),
                        shape=map_arg(one.shape, self._leaf(values)),
                        dtype=one.dtype,
                        location=one.location,
                    )
                    self._add(stack, one.name, values)
                case _:
                    self._once(one.map_leaves(self._leaf(values)), one.name, values)

    def _steps(self, block: Block, around: frozenset[str], values: dict[str, Arg]) -> Iterator[dict[str, Arg]]:
        length = self._leaf(values)(block.loop.length)
        if not isinstance(length, int):
            raise UnknownLength(f"loop {block.loop.name!r} has {length} steps")
        carried = {carry.name: map_arg(carry.init, self._leaf(values)) for carry in block.carries}
        for step in range(length):
            inside = {**values, block.loop.name: step, **carried}
            self._write(block.inside, around | {block.loop.name}, inside, {})
            carried = {carry.name: inside[carry.next.name] for carry in block.carries}
            yield inside

    def _leaf(self, values: Mapping[str, Arg]) -> Callable[[Any], Any]:
        numbers = {**self._sizes, **{name: value for name, value in values.items() if isinstance(value, int)}}

        def stands_for(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return values.get(leaf.name, leaf)
            return leaf.substitute(numbers) if isinstance(leaf, Size) else leaf

        return stands_for

    def _once(self, node: Node, name: str, values: dict[str, Arg]) -> None:
        """In this step; an element of what is stacked is the value that was."""
        match node:
            case Call(target="getitem", args=(Ref(stacked), int(index))) if stacked in self._stacks:
                values[name] = self._stacks[stacked][index]
            case _:
                self._add(node, name, values)

    def _name_in_step(self, node: Node, name: str, values: Mapping[str, Arg]) -> str:
        """That of its site, or of the site that noise is for, or else its own with the numbers of its steps."""
        if node.site is not None:
            return node.site.name
        moved = name.removesuffix("_noise")
        if isinstance(node, Noise) and moved in self._graph and (site := self._graph[moved].site) is not None:
            return f"{site.map_sizes(self._leaf(values)).name}_noise"
        numbers = self._leaf(values)
        return ".".join([name, *(str(numbers(step)) for step in self._graph.steps_of(name))])

    def _add(self, node: Node, name: str, values: dict[str, Arg]) -> None:
        """Of a node in a loop, a copy."""
        if self._graph.steps_of(name):
            self._taken.add(fresh := unused(self._name_in_step(node, name, values), self._taken))
            node = replace(node, name=fresh)
        values[name] = Ref(node.name)
        self._nodes.append(node)
