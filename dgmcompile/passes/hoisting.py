"""Work that no step waits for, out of the loop and done for all steps at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from dgmcompile.ir.graph import Call, Decision, Graph, Loop, Node, Noise, Ref, Stacked, components, is_size
from dgmcompile.ir.loops import all_steps, drawn_at_once, innermost_first, is_step, step_of
from dgmcompile.ir.names import unused
from dgmcompile.ir.size import Size
from dgmcompile.ir.torch_calls import is_pure
from dgmcompile.passes.over_steps import OverSteps, Unknown


def _own_name(call: Call) -> str:
    return call.name


def hoisted(graph: Graph) -> Graph:
    r"""Loops of which each step computes what the next one waits for, and what could not be done otherwise.

    for t:                          xs = encoder(x)
        x_t = encoder(x[:, t])      for t:
        h = cell(x_t, h)       =>       h = cell(xs[t], h); to a list
        y_t = head(h)               ys = head(stack(list))
    """
    for name in innermost_first(graph):
        graph = Hoisting(graph, name).result()
    return graph


@dataclass
class Hoisting:
    """Of one loop: ``before`` is what is done for all steps before it, ``after`` what is done after it."""

    graph: Graph
    name: str
    before: set[str] = field(default_factory=set[str])
    after: set[str] = field(default_factory=set[str])
    why: dict[str, str] = field(default_factory=dict[str, str])
    """What keeps a node in the loop, where no later step waits for it."""
    nodes: list[Node] = field(default_factory=list[Node])

    def __post_init__(self) -> None:
        loop = self.graph[self.name]
        assert isinstance(loop, Loop)
        self.loop, self.number = loop, Size.symbol(self.name)
        self.inside = [node for node in self.graph if self.name in self.graph.loops[node.name] and node is not loop]
        self._within = {node.name for node in self.inside}
        self._taken = {*self.graph.graph}
        self._stacks = {n.value.name: n.name for n in self.graph if isinstance(n, Stacked) and n.step == self.number}
        self._split()
        read = {name for node in self.inside if node.name not in self.before | self.after for name in node.needed}
        self._elements = {
            name
            for name in self.before | self.after
            if name in read or name in self.graph.outputs.values() or self.graph[name].site is not None
        }

    # what is done when

    def _split(self) -> None:
        waiting = self._waiting()
        trial = OverSteps(self.graph, self.number, self.loop.length, {}, _own_name, str)
        trial.whole.update({node.name: node.name for node in self.inside if isinstance(node, Noise)})
        for node in self.inside:
            if node.name not in waiting and self._inputs(node) <= {*trial.whole} and self._can_write(trial, node):
                self.before.add(node.name)
        kept = [node for node in self.inside if node.name not in self.before and not isinstance(node, Noise)]
        trial.whole.update({node.name: node.name for node in kept if node.shape is not None})
        stuck = {n.name for n in kept if n.name in waiting or not self._can_write(trial, n)}
        self.why = {name: why for name, why in self.why.items() if name not in waiting}
        needed = self._needed_by(stuck)
        self.after = {node.name for node in kept if node.name not in needed}

    def _waiting(self) -> set[str]:
        """What is on a cycle from step to step."""
        edges = [(name, node.name) for node in self.inside for name in node.needed if name in self._within]
        loops = [part for part in components(self._within, edges) if len(part) > 1]
        return set[str]().union(*loops)

    def _inputs(self, node: Node) -> set[str]:
        return {name for name in node.inputs if name in self._within}

    def _can_write(self, writer: OverSteps, node: Node) -> bool:
        """Is it a call that can be made for all steps at once? It is then, by the ``writer``."""
        if (why := self._inseparable(node)) is None:
            try:
                writer.write(cast(Call, node))
                return True
            except Unknown as unknown:
                why = str(unknown)
        self.why[node.name] = why
        return False

    def _inseparable(self, node: Node) -> str | None:
        if self.graph.loops[node.name] != self.graph.loops[self.name]:
            return "it is in a loop of its own"
        if not isinstance(node, Call) or is_size(node):
            return "it is what the steps count, or hand on"
        return None if is_pure(node, self.graph.binding) else "it draws, or keeps a state, in each step anew"

    def _needed_by(self, names: set[str]) -> set[str]:
        """Of what is inside."""
        seen, todo = set[str](), [*names]
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += [other for other in self.graph[name].needed if other in self._within]
        return seen

    # the nodes in their new places

    def result(self) -> Graph:
        if not self.before and not self.after:
            return self.graph.evolve(history=(*self.graph.history, *self._decisions()))
        writer = OverSteps(self.graph, self.number, self.loop.length, {}, self._name_of, self._unused, self.nodes)
        noises = {node.name: node for node in self.inside if isinstance(node, Noise) and self.number in node.steps}
        writer.whole.update({name: name for name in noises})
        names = {name: self._unused(f"{name}_0") for name in noises}
        for node in self.graph:
            match node:
                case Noise() if node.name in noises:
                    whole = drawn_at_once(node, self.loop)
                    self.nodes += [whole, step_of(Ref(node.name), self.number, node, names[node.name])]
                case Call() if node.name in self.before | self.after:
                    for name in self._inputs(node) - {*writer.whole}:
                        writer.whole[name] = self._stacked(name)
                    writer.write(node)
                    if node.name in self._elements:
                        step = step_of(self._unbound(writer.whole[node.name], node), self.number, node, node.name)
                        self.nodes.append(replace(step, site=node.site))
                case Stacked() if node.step == self.number and node.value.name in self.before | self.after:
                    self.nodes.append(self._alias(node, writer.whole[node.value.name]))
                case _ if node.name in self._within:
                    self.nodes.append(node.map_names(lambda name: names.get(name, name)))
                case _:
                    self.nodes.append(node)
        return self.graph.evolve(self.nodes, history=(*self.graph.history, *self._decisions()))

    def _decisions(self) -> Iterator[Decision]:
        for call in (node for node in self.inside if isinstance(node, Call) and not is_step(node)):
            if call.name in self.before | self.after:
                yield Decision("hoist", call.name, "rewrite", f"done for all steps of {self.name} at once")
            else:
                yield Decision("hoist", call.name, "keep", self.why.get(call.name, "a later step waits for it"))

    def _name_of(self, call: Call) -> str:
        return self._unused(f"{call.name}_all") if call.name in self._elements else call.name

    def _unbound(self, whole: str, node: Node) -> Ref:
        """Its steps as a tuple: the gradient of an element taken by its number is as large as the whole."""
        name = self._unused(f"{node.name.removesuffix('_0')}_steps")
        self.nodes.append(Call(name=name, target="torch.unbind", args=(Ref(whole), 0), location=node.location))
        return Ref(name)

    def _alias(self, node: Stacked, whole: str) -> Call:
        typed: dict[str, Any] = {"shape": node.shape, "dtype": node.dtype, "location": node.location}
        return Call(name=node.name, target="identity", args=(Ref(whole),), **typed)

    def _stacked(self, name: str) -> str:
        """All steps of a value that the loop computes."""
        if name not in self._stacks:
            self._stacks[name] = self._unused(f"{name}_all")
            self.nodes.append(all_steps(self.graph[name], self.loop, self._stacks[name]))
        return self._stacks[name]

    def _unused(self, name: str) -> str:
        self._taken.add(fresh := unused(name, self._taken))
        return fresh
