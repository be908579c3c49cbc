"""The one graph between the frontends and the code generator, at the granularity of torch calls.

A node refers to its arguments by name (`Ref`, `Size`); the edges follow from these references and
from nothing else. Nodes and graphs are immutable: a pass returns a new graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self, cast

import networkx as nx
import torch

from dgmcompile.diagnostics import Diagnostic, InternalError, Location
from dgmcompile.ir.binding import Binding
from dgmcompile.ir.size import Size

Role = Literal["latent", "target", "deterministic"]
Dim = int | Size
Shape = tuple[Dim, ...]
Arg = Any
"""A literal (None, bool, number, str, dtype, slice, ...), a `Ref`, a `Size`, or a tuple, list, dict or
`Law` of these. `map_arg` and `leaves` are the places that walk it."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of the node ``name``."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceOf:
    """The device that the program runs on, wherever it is moved."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A plain torch function of ours; emitted code contains its text. Equal by name."""

    name: str
    function: Callable[..., Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Formula:
        return cls(function.__name__, function)


@dataclass(frozen=True, slots=True)
class Plate:
    """Conditional independence along batch dimension ``dim`` (counted from the right, negative)."""

    name: str
    dim: int
    size: Dim


@dataclass(frozen=True, slots=True)
class Site:
    """A named variable of the user's program; it stays on the node that holds the variable's value.

    ``plates`` are the vectorised ones around it, outermost first. In a loop each step has a site of its own:
    ``parts`` are then those of its name, ``("z_", t)``, and ``name`` is ``z_{t}``.
    """

    name: str
    role: Role
    family: str = ""
    plates: tuple[Plate, ...] = ()
    parts: tuple[str | Size, ...] = ()

    def prefixed(self, prefix: str) -> Site:
        """The same site, of a model of that name."""
        return replace(self, name=prefix + self.name, parts=self.parts and _without_gaps((prefix, *self.parts)))

    def map_sizes(self, leaf: Callable[[Any], Any]) -> Site:
        """The same site with ``leaf`` applied to the sizes in it."""
        plates = tuple(replace(plate, size=leaf(plate.size)) for plate in self.plates)
        if not self.parts:
            return replace(self, plates=plates)
        parts = tuple(part if isinstance(part, str) else leaf(part) for part in self.parts)
        return replace(self, name=name_of_parts(parts), plates=plates, parts=_joined(parts))


def name_of_parts(parts: Iterable[str | Dim]) -> str:
    """``z_{t}``, where a number of a step is symbolic; ``z_3`` where it is known."""
    return "".join(f"{{{part}}}" if isinstance(part, Size) else str(part) for part in parts)


def _without_gaps(parts: tuple[str | Size, ...]) -> tuple[str | Size, ...]:
    """Neighbouring texts as one."""
    first, second, *rest = parts
    return (first + second, *rest) if isinstance(first, str) and isinstance(second, str) else parts


def _joined(parts: tuple[str | Dim, ...]) -> tuple[str | Size, ...]:
    """None where no number is symbolic: it is the site of one step."""
    if not any(isinstance(part, Size) for part in parts):
        return ()
    return tuple(part if isinstance(part, Size) else str(part) for part in parts)


def _symbolic(steps: tuple[Size, ...], leaf: Callable[[Any], Any]) -> tuple[Size, ...]:
    """Of the numbers of steps those that are still to be done."""
    return tuple(step for step in map_arg(steps, leaf) if isinstance(step, Size))


class _Remembered:
    """A slot that is no field, for what is asked of each node in each graph that holds it."""

    __slots__ = ("_inputs",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(_Remembered):
    """A value. ``shape`` is None for what is no tensor; its dims may be `Size`."""

    name: str
    shape: Shape | None = None
    dtype: torch.dtype | None = None
    site: Site | None = None
    location: Location | None = field(default=None, compare=False)

    @property
    def arguments(self) -> Arg:
        """Everything by which it refers to other nodes."""
        return ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the nodes it reads, in order; one read twice stands twice."""
        if not hasattr(self, "_inputs"):
            parts = self.site.parts if self.site else ()
            object.__setattr__(self, "_inputs", tuple(names_in((self.arguments, parts))))
        return self._inputs

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of all nodes without which it has no value: those that it reads, and of a carry what goes on."""
        return self.inputs

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        """The same node with ``leaf`` applied (see `map_arg`) to arguments, shape and plate sizes."""
        return self._map_type(leaf)

    def _map_type(self, leaf: Callable[[Any], Any]) -> Self:
        shape = None if self.shape is None else map_arg(self.shape, leaf)
        return replace(self, shape=shape, site=self.site and self.site.map_sizes(leaf))

    def map_names(self, new_name: Callable[[str], str]) -> Self:
        """The same node where every reference (not its own name) is renamed."""
        return self.map_leaves(partial(_rename, new_name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Node):
    """A leaf of the program's arguments: ``path`` is the argument's name, then keys into it."""

    path: tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter(Node):
    """A parameter or buffer, by its path in the model's state dict."""

    path: str
    trainable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Node):
    """A literal tensor, as nested tuples of numbers."""

    value: Arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """A deterministic call.

    ``target`` is a torch function by its public name (``torch.exp``, ``torch.Tensor.view``), a
    submodule (``self.decoder``), a `Formula`, or one of ``size`` (one dimension of a tensor),
    ``getitem`` (an element of a tuple or tensor), ``identity`` and ``probe`` (see `TransformStep`). One that draws
    random numbers or keeps a state is made anew in each step of ``steps``, whatever its arguments.
    """

    target: str | Formula
    args: tuple[Arg, ...] = ()
    kwargs: Mapping[str, Arg] = field(default_factory=dict[str, Arg])
    steps: tuple[Size, ...] = ()

    @property
    def arguments(self) -> Arg:
        return (self.args, dict(self.kwargs), self.steps)

    @property
    def target_name(self) -> str:
        return self.target.name if isinstance(self.target, Formula) else self.target

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        args, kwargs = map_arg(self.args, leaf), map_arg(dict(self.kwargs), leaf)
        return replace(self._map_type(leaf), args=args, kwargs=kwargs, steps=_symbolic(self.steps, leaf))


@dataclass(frozen=True, slots=True)
class TransformStep:
    """One step of a transformed distribution, by class name; ``params`` are its constructor's.

    A step that no formula is known for (a flow with networks of its own, a user's class) was recorded on
    values that stand in for others, its probes. ``params`` are then ``x`` and ``y``, the probes of its
    domain and codomain, ``forward``, the node to which it maps ``x``, ``inverse`` of ``y`` and ``log_det``,
    the logarithm of the Jacobian there (where it has them), and the event dims of both sides;
    `dgmcompile.ir.probes.applied` puts values in the place of probes.
    """

    name: str
    params: Mapping[str, Arg] = field(default_factory=dict[str, Arg])

    @property
    def is_recorded(self) -> bool:
        return "forward" in self.params


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A distribution that is a parameter of another one, as a mixture's component is.

    Fields are those of `Sample`; ``shape`` is its own, batch shape then event shape.
    """

    family: str
    params: Mapping[str, Arg]
    event_dim: int = 0
    transforms: tuple[TransformStep, ...] = ()
    shape: Shape = ()

    @property
    def batch_shape(self) -> Shape:
        return self.shape[: len(self.shape) - self.event_dim]

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Law:
        """The same distribution with ``leaf`` applied (see `map_arg`) to everything in it."""
        return replace(
            self,
            params=map_arg(dict(self.params), leaf),
            transforms=_map_steps(self.transforms, leaf),
            shape=map_arg(self.shape, leaf),
        )


def _map_steps(steps: tuple[TransformStep, ...], leaf: Callable[[Any], Any]) -> tuple[TransformStep, ...]:
    return tuple(TransformStep(step.name, map_arg(dict(step.params), leaf)) for step in steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Node):
    """A random variable: a draw from ``family(**params)`` pushed through ``transforms``.

    ``params`` are the user's own arguments, by name; a distribution among them is a `Law`. ``shape`` is
    batch shape then event shape; ``event_dim`` counts the event dims, ``Independent`` and transforms
    included. ``mask`` and ``scale`` multiply the log-probability; ``mask_event_dim`` of the event dims, the
    leftmost, stand outside the mask, which is applied before they are summed. ``kept`` is the user's choice to leave
    it random, ``options`` are other choices for this site; ``infer`` is what the program asks of Pyro's inference.
    """

    family: str
    params: Mapping[str, Arg]
    event_dim: int = 0
    transforms: tuple[TransformStep, ...] = ()
    mask: Arg = None
    mask_event_dim: int = 0
    scale: Arg = None
    kept: bool = False
    options: Mapping[str, Arg] = field(default_factory=dict[str, Arg])
    infer: Mapping[str, Arg] = field(default_factory=dict[str, Arg])

    @property
    def arguments(self) -> Arg:
        return (dict(self.params), [dict(t.params) for t in self.transforms], self.mask, self.scale, self.shape)

    @property
    def law(self) -> Law:
        """The distribution alone, of the site's shape."""
        return Law(
            family=self.family,
            params=self.params,
            event_dim=self.event_dim,
            transforms=self.transforms,
            shape=self.shape or (),
        )

    @property
    def batch_shape(self) -> Shape:
        assert self.shape is not None
        return self.shape[: len(self.shape) - self.event_dim]

    @property
    def masked_shape(self) -> Shape:
        """Shape of what the mask is applied to: the batch, and the event dims that stand outside the mask."""
        assert self.shape is not None
        return self.shape[: len(self.shape) - self.event_dim + self.mask_event_dim]

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        return replace(
            self._map_type(leaf),
            params=map_arg(dict(self.params), leaf),
            transforms=_map_steps(self.transforms, leaf),
            mask=map_arg(self.mask, leaf),
            scale=map_arg(self.scale, leaf),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise(Node):
    """A draw of ``shape`` from a base law that has no parameters; in each step of ``steps``, another one."""

    law: str
    steps: tuple[Size, ...] = ()

    @property
    def arguments(self) -> Arg:
        return (self.shape, self.steps)

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        return replace(self._map_type(leaf), steps=_symbolic(self.steps, leaf))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Node):
    """Steps that are done one after the other, ``length`` of them; its value is the number of the step, from 0 on.

    A node that reads it, or that reads what reads it, has a value in each step: it is in the loop. `Stacked` and
    `Final` are outside again. It is done anew in each step of the loops ``around``.
    """

    length: Dim
    around: tuple[Size, ...] = ()

    @property
    def arguments(self) -> Arg:
        return (self.length, self.around)

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        return replace(self._map_type(leaf), length=leaf(self.length), around=_symbolic(self.around, leaf))


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry(Node):
    """What ``next`` was one step of the loop ``step`` before; ``init`` in the first one.

    ``next`` makes no edge: what it refers to may depend on the carry.
    """

    step: Size
    init: Arg
    next: Ref

    @property
    def arguments(self) -> Arg:
        return (self.step, self.init)

    @property
    def needed(self) -> tuple[str, ...]:
        return (*self.inputs, self.next.name)

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        step, init, following = leaf(self.step), map_arg(self.init, leaf), leaf(self.next)
        return replace(self._map_type(leaf), step=step, init=init, next=following)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked(Node):
    """The values of all steps of the loop ``step``, along a new first dimension."""

    step: Size
    value: Ref

    @property
    def arguments(self) -> Arg:
        return (self.step, self.value)

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        return replace(self._map_type(leaf), step=leaf(self.step), value=leaf(self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Final(Node):
    """What ``carry`` would be in one step more."""

    carry: Ref

    @property
    def arguments(self) -> Arg:
        return self.carry

    def map_leaves(self, leaf: Callable[[Any], Any]) -> Self:
        return replace(self._map_type(leaf), carry=leaf(self.carry))


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the program; ``required`` where some node reads it."""

    name: str
    required: bool = True
    keyword_only: bool = False


Part = int | Literal["len", "rank", "floating"]
"""What a guard reads of an argument: how long a dim is, how many a list or a dict holds, how many dims a tensor has,
whether its numbers are real ones."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What was taken as fixed: the compiled form refuses arguments for which it does not hold.

    ``path`` is as in `Input`; ``dim`` is a dimension of that tensor or another `Part`, or None for the value itself.
    Where a slice is expected, as ``slice(2, None)``, the size lies in that range, whose end is exclusive.
    """

    path: tuple[str | int, ...]
    dim: Part | None
    expected: Arg
    reason: str

    def read(self, value: str) -> str:
        """Expression of what is compared, where ``value`` is that of the argument."""
        match self.dim:
            case None:
                return value
            case "len":
                return f"len({value})"
            case "rank":
                return f"{value}.dim()"
            case "floating":
                return f"{value}.is_floating_point()"
            case dim:
                return f"{value}.shape[{dim}]"

    def allows(self, value: Arg) -> bool:
        """Does it hold of this size, or value? Of two lengths that have to agree, yes: one alone tells nothing."""
        expected = self.expected
        if isinstance(expected, Size):
            return True
        if isinstance(expected, slice):
            allowed = cast("slice[int | None, int | None, None]", expected)
            low, high = allowed.start, allowed.stop
            return isinstance(value, int) and (low is None or low <= value) and (high is None or value < high)
        return bool(value == expected)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a pass did with a node, and why: the rows of ``--explain`` and of the report."""

    stage: str
    node: str
    action: Literal["rewrite", "keep"]
    reason: str


class Graph:
    """Nodes, the values that the program is run for, and what holds of its arguments.

    Args:
        nodes: in any order; names are unique and every reference resolves.
        name: of the program, for titles and class names.
        outputs: name of a result -> node that holds it. Dead code is what no output reads.
        arguments: of the program, in its signature's order.
        guards: what was taken as fixed while recording.
        binding: the live tensors and submodules behind parameters and submodule calls; no part of
            the text form or of equality.
        history: what the passes did so far; no part of them either.
        warnings: what the user should know of the program; no part of them either.
    """

    _FIELDS: ClassVar[tuple[str, ...]] = ("name", "outputs", "arguments", "guards", "binding", "history", "warnings")

    def __init__(
        self,
        nodes: Iterable[Node],
        *,
        name: str = "model",
        outputs: Mapping[str, str] | None = None,
        arguments: tuple[Argument, ...] = (),
        guards: tuple[Guard, ...] = (),
        binding: Binding | None = None,
        history: tuple[Decision, ...] = (),
        warnings: tuple[Diagnostic, ...] = (),
    ) -> None:
        nodes = tuple(nodes)
        self.name = name
        self.arguments = arguments
        self.guards = guards
        self.binding = binding or Binding()
        self.history = history
        self.warnings = warnings
        self._nodes = {node.name: node for node in nodes}
        if len(self._nodes) != len(nodes):
            raise InternalError("two nodes of one name", "\n".join(node.name for node in nodes))
        self._graph = _digraph(self._nodes)
        self._order = _program_order(self._graph)
        self.outputs = dict(outputs) if outputs is not None else self.sites()
        if missing := [n for n in self.outputs.values() if n not in self._nodes]:
            raise InternalError(f"outputs {missing} name no node")

    def sites(self) -> dict[str, str]:
        """Site name -> the node that holds its value; the outputs, where no others are named."""
        return {node.site.name: node.name for node in self if node.site is not None}

    def __iter__(self) -> Iterator[Node]:
        """Nodes, inputs before their users, else in the order of the program."""
        return (self._nodes[name] for name in self._order)

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __str__(self) -> str:
        from dgmcompile.ir.text import format_graph  # the text form is written in terms of graphs

        return format_graph(self)

    def __eq__(self, other: object) -> bool:
        """Same text, so ``1`` is not ``1.0``, ``0.0`` is not ``-0.0``, and nan is nan."""
        from dgmcompile.ir.text import format_graph

        if not isinstance(other, Graph):
            return NotImplemented
        return format_graph(self, locations=False) == format_graph(other, locations=False)

    __hash__ = None  # type: ignore[assignment]

    @property
    def graph(self) -> nx.DiGraph[str]:
        """A copy as networkx: an edge from each node to those that read it; attribute ``node``."""
        return self._graph.copy()

    def users(self, name: str) -> tuple[str, ...]:
        """Names of the nodes that read ``name``."""
        return tuple(self._graph.successors(name))

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """``names`` and all that they depend on."""
        seen, todo = set[str](), list(names)
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += self._graph.predecessors(name)
        return seen

    def live(self) -> set[str]:
        """What the outputs, the program's arguments and the guards need, by value or as a size in a shape."""
        seen = set[str]()
        todo = [*self.outputs.values(), *self.inputs, *names_in([guard.expected for guard in self.guards])]
        while todo:
            name = todo.pop()
            if name not in seen and (node := self._nodes.get(name)):
                seen.add(name)
                plates = node.site.plates if node.site else ()
                todo += [*node.needed, *names_in((node.shape, [plate.size for plate in plates]))]
        return seen

    @cached_property
    def loops(self) -> Mapping[str, frozenset[str]]:
        """Node -> the loops that it is in."""
        found = {name: frozenset[str]() for name in self._order}
        if not any(isinstance(node, Loop) for node in self):
            return found
        before = None
        while found != before:
            before = dict(found)
            for node in self:
                found[node.name] |= self._loops_of(node, found)
        return found

    def steps_of(self, name: str) -> tuple[Size, ...]:
        """The numbers of the steps in which the node has a value of its own, that of the outermost loop first."""
        return tuple(map(Size.symbol, sorted(self.loops[name], key=lambda loop: len(self.loops[loop]))))

    def _loops_of(self, node: Node, found: Mapping[str, frozenset[str]]) -> frozenset[str]:
        around = frozenset[str]().union(*(found[name] for name in node.inputs))
        match node:
            case Loop():
                return around | {node.name}
            case Carry(next=following):
                return around | found[following.name]
            case Stacked(step=step):
                return around - {*step.symbols}
            case Final(carry=carry):
                return around - {*cast(Carry, self[carry.name]).step.symbols}
            case _:
                return around

    def _named(self, wanted: Callable[[Node], bool]) -> tuple[str, ...]:
        return tuple(node.name for node in self if wanted(node))

    @property
    def inputs(self) -> tuple[str, ...]:
        return self._named(lambda node: isinstance(node, Input))

    @property
    def noises(self) -> tuple[str, ...]:
        return self._named(lambda node: isinstance(node, Noise))

    @property
    def latents(self) -> tuple[str, ...]:
        return self._named(lambda node: node.site is not None and node.site.role == "latent")

    @property
    def targets(self) -> tuple[str, ...]:
        return self._named(lambda node: node.site is not None and node.site.role == "target")

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The nodes that are still random variables."""
        return tuple(node for node in self if isinstance(node, Sample))

    def evolve(self, nodes: Iterable[Node] | None = None, **changes: Any) -> Self:
        """The same program with other nodes (or outputs, guards, ...)."""
        kept = {key: getattr(self, key) for key in self._FIELDS}
        return type(self)(self if nodes is None else nodes, **{**kept, **changes})

    def replace(self, name: str, *new: Node) -> Self:
        """``name`` is replaced by nodes of which the last keeps its name, so no user of it changes."""
        if not new or new[-1].name != name:
            raise InternalError(f"the last node that replaces {name!r} must keep its name", self)
        return self.evolve(node for old in self for node in (new if old.name == name else (old,)))

    def variables(self) -> nx.DiGraph[str]:
        """The picture people know: inputs, noises, latents and targets only.

        An edge where one depends on the other through any number of calls; a dependence on a mere
        size is none. Node attributes: ``kind``, ``family``, ``shape``, ``plates``.
        """
        picture: nx.DiGraph[str] = nx.DiGraph()
        reach = self._reach()
        for node in self:
            if (kind := variable_kind(node)) is None:
                continue
            parents = frozenset[str]().union(*(reach[n] for n in value_parents(node)))
            site = node.site
            picture.add_node(
                node.name,
                kind=kind,
                family=node.law if isinstance(node, Noise) else site.family if site else "",
                shape=node.shape,
                plates=site.plates if site else (),
            )
            picture.add_edges_from((parent, node.name) for parent in sorted(parents))
        return picture

    def _reach(self) -> dict[str, frozenset[str]]:
        """Node -> the variables on which what reads it depends by it; through carries, those of steps before."""
        reach = {name: frozenset[str]() for name in self._order}
        has_loops = any(isinstance(node, Carry) for node in self)
        while True:
            before = dict(reach)
            for node in self:
                if variable_kind(node) is not None:
                    reach[node.name] = frozenset([node.name])
                elif not is_size(node):
                    carried = [node.next.name] if isinstance(node, Carry) else []
                    reach[node.name] = frozenset[str]().union(*(reach[n] for n in (*value_parents(node), *carried)))
            if reach == before or not has_loops:
                return reach


def variable_kind(node: Node) -> str | None:
    """``input``, ``noise``, ``latent``, ``target`` or ``deterministic``; None for what is no variable."""
    if isinstance(node, Noise):
        return "noise"
    if isinstance(node, Input):
        return None if is_size(node) else "input"
    return node.site.role if node.site else None


_SHAPED_LIKE = frozenset(
    ["new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like"]
)


def value_parents(node: Node) -> list[str]:
    """Names of the nodes on whose values its value depends: a tensor that is only shaped like another does not."""
    if isinstance(node, Call) and node.target_name.rpartition(".")[2] in _SHAPED_LIKE:
        return refs_in((node.args[1:], dict(node.kwargs)))
    return refs_in(node.arguments)


def is_size(node: Node) -> bool:
    """Is its value a whole number that sizes are made of?"""
    is_read = isinstance(node, Input) or (isinstance(node, Call) and node.target == "size")
    return isinstance(node, Loop) or (node.shape is None and is_read)


_CONTAINERS = (tuple, list, dict, slice, Law)


def map_arg(arg: Arg, leaf: Callable[[Any], Any]) -> Arg:
    """``arg`` with ``leaf`` applied to everything that is no tuple, list, dict, slice or `Law`."""
    if not isinstance(arg, _CONTAINERS):
        return leaf(arg)
    match arg:
        case tuple():
            return tuple([map_arg(a, leaf) for a in cast(tuple[Arg, ...], arg)])
        case list():
            return [map_arg(a, leaf) for a in cast(list[Arg], arg)]
        case dict():
            return {key: map_arg(a, leaf) for key, a in cast(dict[Arg, Arg], arg).items()}
        case slice():
            cut = cast("slice[Arg, Arg, Arg]", arg)
            return slice(map_arg(cut.start, leaf), map_arg(cut.stop, leaf), map_arg(cut.step, leaf))
        case Law():
            return arg.map_leaves(leaf)


def leaves(arg: Arg) -> list[Any]:
    """What `map_arg` would visit, in order."""
    found: list[Any] = []
    _add_leaves(arg, found)
    return found


def _add_leaves(arg: Arg, found: list[Any]) -> None:
    if not isinstance(arg, _CONTAINERS):
        found.append(arg)
        return
    for part in _parts(arg):
        if isinstance(part, _CONTAINERS):
            _add_leaves(part, found)
        else:
            found.append(part)


def _parts(container: Arg) -> Iterable[Arg]:
    """What `map_arg` goes into, in order."""
    if isinstance(container, (tuple, list)):
        return cast(Sequence[Arg], container)
    if isinstance(container, dict):
        return cast(dict[Arg, Arg], container).values()
    if isinstance(container, slice):
        cut = cast("slice[Arg, Arg, Arg]", container)
        return (cut.start, cut.stop, cut.step)
    law: Law = container
    return (law.params, [step.params for step in law.transforms], law.shape)


def refs_in(arg: Arg) -> list[str]:
    """Names referred to by value (not by size), in order."""
    return [leaf.name for leaf in leaves(arg) if isinstance(leaf, Ref)]


def names_in(arg: Arg) -> list[str]:
    """Names referred to, by value or by size, in order."""
    names: list[str] = []
    for leaf in leaves(arg):
        if isinstance(leaf, Ref):
            names.append(leaf.name)
        elif isinstance(leaf, Size):
            names.extend(leaf.symbols)
    return names


def map_names(arg: Arg, new_name: Callable[[str], str]) -> Arg:
    """``arg`` with every referred name replaced."""
    return map_arg(arg, partial(_rename, new_name))


def _rename(new_name: Callable[[str], str], leaf: Any) -> Any:
    if isinstance(leaf, Ref):
        return Ref(new_name(leaf.name))
    return leaf.rename(new_name) if isinstance(leaf, Size) else leaf


def _digraph(nodes: Mapping[str, Node]) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for position, node in enumerate(nodes.values()):
        graph.add_node(node.name, node=node, position=position)
    for node in nodes.values():
        for name in node.inputs:
            graph.add_edge(name, node.name)
        if missing := [name for name in node.needed if name not in nodes]:
            raise InternalError(f"{node.name!r} reads {missing[0]!r}, which no node defines", "\n".join(nodes))
    return graph


def _program_order(graph: nx.DiGraph[str]) -> list[str]:
    try:
        return in_order(graph, {name: graph.nodes[name]["position"] for name in graph})
    except nx.NetworkXUnfeasible as cycle:
        raise InternalError("the graph has a cycle", "\n".join(graph.nodes)) from cycle


def in_order(graph: nx.DiGraph[str], places: Mapping[str, int]) -> list[str]:
    """The names in an order that follows the edges and, where these leave a choice, the places."""
    if all(places[before] < places[after] for before, after in graph.edges):
        return sorted(graph, key=places.__getitem__)
    return list(nx.lexicographical_topological_sort(graph, key=places.__getitem__))


def digraph(names: Iterable[str], edges: Iterable[tuple[str, str]]) -> nx.DiGraph[str]:
    """With these edges."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(edges)
    return graph


def components(names: Iterable[str], edges: Iterable[tuple[str, str]]) -> Iterator[set[str]]:
    """The strongly connected components, in an order that follows the edges."""
    condensed = nx.condensation(digraph(names, edges))
    return (condensed.nodes[number]["members"] for number in nx.topological_sort(condensed))
