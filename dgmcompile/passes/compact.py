"""Compaction: constants, identities, repeated work and dead code, in one walk and one sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from dgmcompile.ir.binding import Binding
from dgmcompile.ir.graph import (
    Arg,
    Argument,
    Call,
    Carry,
    Constant,
    Decision,
    Graph,
    Input,
    Node,
    Noise,
    Parameter,
    Ref,
    is_size,
    names_in,
    refs_in,
)
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import format_type, format_value
from dgmcompile.ir.torch_calls import ELEMENTWISE, FACTORIES, READS_STRIDES, is_opaque, is_pure, tensor_word
from dgmcompile.ir.verify import COMPACT, TRACED, Stage
from dgmcompile.passes.base import GraphPass
from dgmcompile.passes.folding import Folding
from dgmcompile.passes.rules import Same, Seen, simplified


@dataclass(frozen=True)
class Compact(GraphPass):
    """Simplify whatever gives the same values to the last bit, and the same gradients.

    A site's node keeps its name and its site: where its value is another node's, it is an
    ``identity`` of that node, which all its readers then read directly. So a site's value can be
    replaced before compaction, not after. Inputs stay, read or not; they are the signature.
    """

    name: ClassVar[str] = "compact"

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return COMPACT

    def rewrite(self, graph: Graph) -> tuple[Graph, list[Decision]]:
        walk = _Walk.through(graph)
        return without_dead_code(walk.result(), walk.decisions)


def compact(graph: Graph) -> Graph:
    """``graph`` with whatever simplifies simplified; see `Compact`."""
    return Compact()(graph)


def known_sizes(graph: Graph) -> dict[str, Size | int]:
    """Size nodes that are another size by the shape of the tensor that they measure.

    Only sizes made of nodes that come earlier in the program: so nothing becomes circular.
    """
    known: dict[str, Size | int] = {}
    earlier = set[str]()
    for node in graph:
        if is_size(node):
            value = _measured(node, graph)
            value = value.substitute(known) if isinstance(value, Size) else value
            if isinstance(value, int) or (isinstance(value, Size) and earlier.issuperset(value.symbols)):
                known[node.name] = value
            earlier.add(node.name)
    return known


def _measured(node: Node, graph: Graph) -> Size | int | None:
    match node:
        case Call(args=(Ref(name), int(dim))):
            shape = graph[name].shape or ()
            return shape[dim] if -len(shape) <= dim < len(shape) else None
        case _:
            return None


@dataclass
class _Walk:
    """One walk from inputs to outputs: every node is seen after those it reads have their final form.

    ``aliases``: name of a node that is gone, or is an identity now -> what its readers read.
    ``first``: what a value is made from -> the first node that has it.
    ``restrided``: nodes that may lie in memory otherwise than in the program that was recorded.
    ``layout_is_read``: nodes on which something depends that may look at how they lie.
    """

    graph: Graph
    sizes: Mapping[str, Size | int]
    seen: Seen = field(default_factory=Seen)
    folding: Folding = field(default_factory=Folding)
    first: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    restrided: set[str] = field(default_factory=set[str])
    contiguous: set[str] = field(default_factory=set[str])
    outputs: set[str] = field(default_factory=set[str])
    layout_is_read: set[str] = field(default_factory=set[str])
    decisions: list[Decision] = field(default_factory=list[Decision])

    @classmethod
    def through(cls, graph: Graph, restrided: frozenset[str] = frozenset()) -> _Walk:
        """Of the whole graph; ``restrided`` are carries of which a later node has shown that they are."""
        walk = cls(graph, known_sizes(graph), restrided=set(restrided))
        for node in graph:
            walk.visit(node)
        carries = {node.name: node for node in graph if isinstance(node, Carry)}
        late = {name for name, carry in carries.items() if carry.next.name in walk.restrided} - restrided
        return cls.through(graph, restrided | late) if late else walk

    def __post_init__(self) -> None:
        self.outputs = set(self.graph.outputs.values())
        self.layout_is_read = _layout_is_read(self.graph)

    def visit(self, original: Node) -> None:
        if original.name in self.sizes and original.name not in self.outputs and original.site is None:
            self._decide(original, f"is the size {self.sizes[original.name]}")
            return
        node = self._reshaped(self._substituted(original), original)
        if isinstance(node, Call) and (same := self._simplified(node)):
            self._alias(node, same)
        elif constant := self.folding.fold(node):
            self._decide(node, "computed from constants")
            self._keep(constant)
        else:
            self._keep(node)

    def result(self) -> Graph:
        outputs = {
            name: node if node in self.seen.nodes else self.aliases[node] for name, node in self.graph.outputs.items()
        }
        guards = tuple(replace(guard, expected=self._leaf(guard.expected)) for guard in self.graph.guards)
        nodes = (self._carried(node) if isinstance(node, Carry) else node for node in self.seen.nodes.values())
        return self.graph.evolve(nodes, outputs=outputs, guards=guards, binding=self._binding())

    def _carried(self, carry: Carry) -> Carry:
        """With what stands now for its next value, which was not yet known when the carry was visited."""
        return replace(carry, next=self._leaf(carry.next))

    def _binding(self) -> Binding:
        """What constrained parameters give, by the names that it has now."""
        binding = self.graph.binding
        constrained = {
            p: replace(c, value=self.aliases.get(c.value or "", c.value)) for p, c in binding.constrained.items()
        }
        return replace(binding, constrained=constrained)

    def _decide(self, node: Node, reason: str) -> None:
        self.decisions.append(Decision(Compact.name, node.name, "rewrite", reason))

    def _leaf(self, leaf: Any) -> Arg:
        if isinstance(leaf, Ref):
            if leaf.name in self.sizes:
                return self.sizes[leaf.name]
            return Ref(self.aliases[leaf.name]) if leaf.name in self.aliases else leaf
        return leaf.substitute(self.sizes) if isinstance(leaf, Size) else leaf

    def _substituted(self, node: Node) -> Node:
        plates = node.site.plates if node.site else ()
        names = (*node.inputs, *names_in((node.shape, [plate.size for plate in plates])))
        changes = any(name in self.aliases or name in self.sizes for name in names)
        return node.map_leaves(self._leaf) if changes else node

    def _reshaped(self, node: Node, original: Node) -> Node:
        """``view`` asks for strides that the program's tensor had: where they may differ, ``reshape``."""
        if self.restrided.isdisjoint(original.inputs):
            return node
        self.restrided.add(node.name)
        words = {"torch.Tensor.view": "torch.Tensor.reshape", "torch.Tensor.view_as": "torch.Tensor.reshape_as"}
        if isinstance(node, Call) and isinstance(node.target, str) and node.target in words:
            return replace(node, target=words[node.target])
        return node

    def _simplified(self, node: Call) -> Same | None:
        for same in simplified(node, self.seen):
            if not same.copies or same.name in self.contiguous or node.name not in self.layout_is_read:
                return same
        return None

    def _add(self, node: Node) -> None:
        self.seen.add(node)
        if self._is_contiguous(node):
            self.contiguous.add(node.name)

    def _is_contiguous(self, node: Node) -> bool:
        match node:
            case Noise() | Constant():
                return True
            case Parameter():
                tensor = self.graph.binding.tensors.get(node.path)
                return tensor is not None and tensor.is_contiguous()
            case Call():
                makes = tensor_word(node) in ELEMENTWISE or node.target == "identity"
                return node.target in FACTORIES or (makes and self.contiguous.issuperset(refs_in(node.arguments)))
            case _:
                return False

    def _alias(self, node: Call, same: Same) -> None:
        if same.copies and same.name not in self.contiguous:
            self.restrided.add(node.name)
        self.aliases[node.name] = same.name
        if node.site is None:
            self._decide(node, same.reason)
            return
        value = replace(node, target="identity", args=(Ref(same.name),), kwargs={})
        if value != node:
            self._decide(node, same.reason)
        self._add(value)

    def _keep(self, node: Node) -> None:
        """The node stays, unless it repeats an earlier one."""
        key = self._key(node)
        first = self.first.setdefault(key, node.name) if key else node.name
        if first == node.name:
            self._add(node)
        elif isinstance(node, Call):
            self._alias(node, Same(first, f"repeats {first!r}", copies=False))
        elif node.site is None:
            self.aliases[node.name] = first
            self._decide(node, f"repeats {first!r}")
        else:
            self._add(node)

    def _key(self, node: Node) -> tuple[str, ...] | None:
        """Equal for nodes of equal value; None for what is not to be merged."""
        match node:
            case Parameter():
                return ("parameter", node.path, str(node.trainable), format_type(node))
            case Constant() if node.name in self.folding.values:
                return ("constant", format_value(node.value), format_type(node))
            case Call() if is_pure(node, self.graph.binding) and not is_size(node):
                kwargs = {key: node.kwargs[key] for key in sorted(node.kwargs)}
                kind = "formula" if not isinstance(node.target, str) else "call"
                return (kind, node.target_name, format_value(node.args), format_value(kwargs), format_type(node))
            case _:
                return None


def _layout_is_read(graph: Graph) -> set[str]:
    """Nodes on which something depends that may look at how a tensor lies in memory, not only at its values."""
    found = set[str]()
    carries = [node for node in graph if isinstance(node, Carry)]
    while True:
        for node in reversed(list(graph)):
            if node.name in found or (isinstance(node, Call) and _reads_layout(node, graph)):
                found.update(node.inputs)
        if found.issuperset(late := {carry.next.name for carry in carries if carry.name in found}):
            return found
        found |= late


def _reads_layout(call: Call, graph: Graph) -> bool:
    word = tensor_word(call)
    as_other_dtype = word == "view" and any(isinstance(arg, torch.dtype) for arg in (*call.args, *call.kwargs.values()))
    return as_other_dtype or word in READS_STRIDES or is_opaque(call, graph.binding)


def without_dead_code(graph: Graph, decisions: list[Decision]) -> tuple[Graph, list[Decision]]:
    """Without the nodes that nothing needs; an argument that is not read any more is not required."""
    live = graph.live()
    dead = [Decision(Compact.name, node.name, "rewrite", "nothing reads it") for node in graph if node.name not in live]
    read = _arguments_read(graph)
    arguments = tuple(_required_if(argument, argument.name in read) for argument in graph.arguments)
    nodes = (node for node in graph if node.name in live)
    return graph.evolve(nodes, arguments=arguments), [*decisions, *dead]


def _required_if(argument: Argument, is_read: bool) -> Argument:
    return replace(argument, required=argument.required and is_read)


def _arguments_read(graph: Graph) -> set[str]:
    """Names of the arguments that an output or a guard needs; an input's own shape does not count.

    Nor does it that one has to be as long as another: that is asked where it is given.
    """
    needed = set[str]()
    todo = [*graph.outputs.values(), *names_in([guard.expected for guard in graph.guards])]
    while todo:
        if (name := todo.pop()) not in needed:
            needed.add(name)
            todo += _reads(graph[name])
    inputs = (graph[name] for name in graph.inputs if name in needed)
    paths = [
        *(node.path for node in inputs if isinstance(node, Input)),
        *(guard.path for guard in graph.guards if not isinstance(guard.expected, Size)),
    ]
    return {str(path[0]) for path in paths if path}


def _reads(node: Node) -> Iterator[str]:
    yield from node.needed
    if not isinstance(node, Input):
        yield from names_in(node.shape)
    if node.site:
        yield from names_in([plate.size for plate in node.site.plates])
