"""The lines of a function's body: the nodes that its results need, each a statement or part of the one it serves."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from textwrap import TextWrapper
from typing import Literal, cast

import torch

from dgmcompile.codegen.expressions import Names, Text, expression, literal, shape_text
from dgmcompile.codegen.inlining import (
    bare_name,
    delayed,
    has_effect,
    is_anonymous,
    term_of,
    unpacked,
    without_number,
)
from dgmcompile.codegen.names import Namespace, is_plain, one_line
from dgmcompile.diagnostics import InternalError, Location
from dgmcompile.ir.graph import (
    Arg,
    Argument,
    Call,
    Constant,
    DeviceOf,
    Final,
    Formula,
    Graph,
    Guard,
    Input,
    Loop,
    Node,
    Noise,
    Parameter,
    Ref,
    Sample,
    Shape,
    Site,
    Stacked,
    is_size,
    leaves,
    names_in,
)
from dgmcompile.ir.loops import Block, blocks, is_step
from dgmcompile.ir.size import Size
from dgmcompile.reparam import NOISE_LAWS

_OWN = ("self", "noise", "generator", "return")
_LONGEST_STATEMENT = 104
_LONGEST_PART = 84
_LONGEST_SUM = 2000
_KINDS = ("rank", "floating")
_SUMS = ("surrogate", "latent", "total")
_WIDTH = 108
"""Of a line without its indentation; a sum of terms is laid out on several."""


@dataclass(frozen=True)
class Statement:
    """``names = text``, for the node that its comment is about."""

    names: str
    text: str
    node: Node

    @property
    def code(self) -> str:
        return f"{self.names} = {self.text}"


@dataclass(frozen=True)
class _Part:
    """The text of a node that is written where it is read; ``effects``: what it evaluates that keeps its place."""

    text: Text
    effects: tuple[str, ...]


@dataclass
class Draft:
    """Statements as far as they are written; ``evaluated``: the nodes whose order matters, in that order."""

    statements: list[Statement] = field(default_factory=list[Statement])
    parts: dict[str, _Part] = field(default_factory=dict[str, _Part])
    evaluated: list[str] = field(default_factory=list[str])
    read: list[str] = field(default_factory=list[str])


@dataclass
class Frame:
    """One function that is being written: which nodes it computes, and what they are called there.

    Args:
        graph: whose nodes they are.
        results: names of the nodes that it is for.
        parameter, module: path -> expression of the parameter or submodule.
        constants: name of a `Constant` -> expression of it.
        anchor: dtype -> expression of a parameter of that dtype (None: of any), or None where there is none.
        reserved: names of the file, which no local variable takes.
        formulas: filled with the formulas that the lines call.
        draws: is it the function that draws the noise, or one that is given it?
        titles: name of a node -> what the comment on its line says.
        returns: is the one result written into the ``return`` where it has no name of its own?
    """

    graph: Graph
    results: Sequence[str]
    parameter: Callable[[str], str]
    module: Callable[[str], str]
    constants: Mapping[str, str]
    anchor: Callable[[torch.dtype | None], str | None]
    reserved: Iterable[str]
    formulas: dict[str, Formula]
    draws: bool = False
    titles: Mapping[str, str] = field(default_factory=dict[str, str])
    returns: bool = False
    nodes: list[Node] = field(init=False)
    guards: tuple[Guard, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._local: dict[str, str] = {}
        self._namespace = Namespace([*self.reserved, "noise", "generator"])
        self.arguments = {a.name: self._argument(a) for a in self.graph.arguments}
        first = {(guard.path, guard.dim, repr(guard.expected)): guard for guard in reversed(self.graph.guards)}
        self.guards = () if self.draws else tuple(reversed(first.values()))
        results = [*self.results, *names_in([guard.expected for guard in self.guards])]
        self.nodes = self._needed(results)
        self.nodes = self._needed([*results, *self._followed()])
        self._reads = Counter(name for node in self.nodes for name in self._read_by(node))
        self._reads.update(name for name in self.results if not self.draws)
        draws = self.draws and any(isinstance(node, Noise) for node in self.nodes)
        self._uses_device = draws or self._reads_device()
        self._device = self._namespace.new("device") if self._uses_device else "device"
        self._dtypes: dict[torch.dtype | None, str] = {}
        self._last_place = ""
        self._kept = {*self.graph.outputs.values(), *self._sizes_of_guards()}
        self._draft, self._written = Draft(), set[str]()
        self._lists: dict[tuple[str, str], str] = {}
        self._late = self._elements_alone()
        self._numbers: dict[str, str] = {}
        self.names = Names(self.value, self.module, self._device, self.formulas)

    @cached_property
    def required(self) -> set[str]:
        """Names of the arguments that cannot be left out."""
        nodes = (node for node in self.graph if isinstance(node, Input) and _is_read(node, self.graph))
        read = {str(node.path[0]).lstrip("*") for node in nodes}
        return {a.name for a in self.graph.arguments if a.required or a.name.lstrip("*") in read}

    def _argument(self, argument: Argument) -> str:
        name = argument.name.lstrip("*")
        if is_plain(name) and not name.startswith("__") and name not in _OWN and name not in self.reserved:
            self._namespace.reserve(name)
            return name  # callers pass it by this name
        return self._namespace.new(name, "argument")

    def _read_by(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Noise):
            return tuple(names_in(self._drawn_shape(node) if self.draws else node.steps))
        return _without_fixed(node, self.graph).inputs if isinstance(node, Call) else node.needed

    def _drawn_shape(self, node: Noise) -> Shape:
        """That of the noise of all steps at once."""
        loops = (cast(Loop, self.graph[name]) for step in node.steps for name in step.symbols)
        return (*(loop.length for loop in loops), *(node.shape or ()))

    def _needed(self, results: Sequence[str]) -> list[Node]:
        wanted, todo = set[str](), [*results]
        while todo:
            if (name := todo.pop()) not in wanted:
                wanted.add(name)
                if isinstance(node := self.graph[name], Sample):
                    raise InternalError(f"{name!r} is still a sample", self.graph)
                todo += self._read_by(node)
        return [node for node in self.graph if node.name in wanted]

    def _followed(self) -> set[str]:
        """The inputs whose device or dtype is followed at run time, where no parameter's can be."""
        dtypes = {node.dtype or torch.float32 for node in self.nodes if isinstance(node, Noise) and self.draws}
        wanted = {None, *dtypes} if dtypes or self._reads_device() else set[torch.dtype | None]()
        found = {self._input_like(dtype) for dtype in wanted if self.anchor(dtype) is None}
        return {node.name for node in found if node is not None}

    def _reads_device(self) -> bool:
        return any(isinstance(leaf, DeviceOf) for node in self.nodes for leaf in leaves(node.arguments))

    def _input_like(self, dtype: torch.dtype | None) -> Input | None:
        inputs = (node for node in self.graph if isinstance(node, Input) and node.dtype is not None)
        return next((node for node in inputs if dtype in (None, node.dtype)), None)

    def value(self, name: str) -> str:
        """Expression of the value of the node ``name``."""
        if (part := self._draft.parts.pop(name, None)) is not None:
            self._draft.read += part.effects
            return part.text
        if name not in self._local:
            raise InternalError(f"{name!r} is read before it is there", self.graph)
        node = self.graph[name]
        steps = node.steps if isinstance(node, Noise) else ()
        return (
            f"{self._local[name]}[{', '.join(literal(step, self.names) for step in steps)}]"
            if steps
            else self._local[name]
        )

    # The parts of a body, in the order in which they are asked for.

    def head(self) -> list[str]:
        """Arguments unpacked, guards checked, the device and the dtypes of draws named, or the noise."""
        return [*self.checks(), *self.opening()]

    def checks(self) -> list[str]:
        """Arguments unpacked, guards checked."""
        lines = [line for guard in self.guards if guard.dim == "len" for line in self._guard(guard)]
        lines += [line for node in self.nodes if isinstance(node, Input) for line in self._input(node)]
        lines += [line for guard in self.guards if guard.dim in _KINDS for line in self._guard(guard)]
        early = self._sizes_of_guards()
        lines += self.body(lambda node: node.name in early)
        lines += [line for guard in self.guards if guard.dim not in ("len", *_KINDS) for line in self._guard(guard)]
        return lines

    def opening(self) -> list[str]:
        """The device and the dtypes of draws named, or the noise."""
        lines = [f"{self._device} = {self._like(None)}"] if self._uses_device else []
        if self.draws:
            lines += self._name_dtypes()
        else:
            lines += [line for node in self.nodes if isinstance(node, Noise) for line in self._noise(node)]
        return lines

    def body(self, wanted: Callable[[Node], bool] = lambda node: True) -> list[str]:
        """The statements for the nodes that are not computed yet and that are ``wanted``."""
        nodes = [node for node in self.nodes if not isinstance(node, Input | Noise) and node.name not in self._late]
        return self._sections([node for node in nodes if node.name not in self._written and wanted(node)], frozenset())

    def _sections(self, nodes: Sequence[Node], around: frozenset[str]) -> list[str]:
        """What is computed in a row, and the loops between.

        Args:
            around: the loops that all ``nodes`` are in.
        """
        lines, row = list[str](), list[Node]()
        for one in blocks(nodes, self.graph, around):
            if isinstance(one, Block):
                lines += [*self._row(row), *self._loop(one, around)]
                row = []
            else:
                row.append(one)
        return lines + self._row(row)

    def _loop(self, block: Block, around: frozenset[str]) -> list[str]:
        """The loop, before it what its first step starts from and lists of what is read of all its steps."""
        loop, carries = block.loop, block.carries
        inits = [literal(carry.init, self.names) for carry in carries]
        carried = [self._new(carry.name) for carry in carries]
        before = [f"{name} = {init}" for name, init in zip(carried, inits, strict=True)]
        lists = {value: self._name_of(self.graph[value], "_steps") for value in self._values_of_steps(loop)}
        self._lists.update({(value, loop.name): name for value, name in lists.items()})
        before += [f"{name}: {self._type_of_list(value, loop)} = []" for value, name in lists.items()]
        head = f"for {self._number(loop)} in range({literal(loop.length, self.names)}):"
        body = self._sections(block.inside, around | {loop.name})
        body += [f"{name}.append({self._value_of_step(value, loop)})" for value, name in lists.items()]
        body += _assigned(carried, [self.value(carry.next.name) for carry in carries])
        self._written.update(node.name for node in block.nodes)
        self._numbers[without_number(loop.name)] = self._local[loop.name]
        return [*before, head, *(f"    {line}" for line in body or ["pass"])]

    def _number(self, loop: Loop) -> str:
        """The variable that counts the steps: that of a loop before, if it is not in use."""
        known = self._numbers.pop(without_number(loop.name), None)
        self._local[loop.name] = known or self._namespace.new(loop.name)
        return self._local[loop.name]

    def _values_of_steps(self, loop: Loop) -> list[str]:
        """Of which all steps are read after the loop, or are results."""
        stacked = [n.value.name for n in self.nodes if isinstance(n, Stacked) and n.step == Size.symbol(loop.name)]
        results = [name for name in self.results if loop.name in self.graph.loops[name] and name not in self._late]
        return list(dict.fromkeys([*stacked, *results]))

    def _elements_alone(self) -> set[str]:
        """Results that are a step of what is computed outside, and that nothing reads, with loops of nothing else."""
        found = {name for name in self.results if is_step(self.graph[name]) and self._reads[name] == 1}
        for loop in (node.name for node in self.nodes if isinstance(node, Loop)):
            inside = {node.name for node in self.nodes if loop in self.graph.loops[node.name]}
            found |= {loop} if inside <= {*found, loop} else set()
        return found

    def _inner_loop(self, value: str, loop: Loop) -> str | None:
        """That one of the loops around a value which is next to ``loop``."""
        around = [step.symbols[0] for step in self.graph.steps_of(value)]
        inner = around[around.index(loop.name) + 1 :] if loop.name in around else []
        return inner[0] if inner else None

    def _value_of_step(self, value: str, loop: Loop) -> str:
        inner = self._inner_loop(value, loop)
        return self._lists[value, inner] if inner else self.value(value)

    def _type_of_list(self, value: str, loop: Loop) -> str:
        depth = len(self.graph.steps_of(value)) - len(self.graph.steps_of(loop.name)) + 1
        return "list[" * max(depth, 1) + "Tensor" + "]" * max(depth, 1)

    def entry(self, name: str, node: str, prefix: str = "") -> str:
        """The entry, or those of all steps, of a dict of results; by their names without the ``prefix``."""
        if not (steps := self.graph.steps_of(node)):
            return f"{name.removeprefix(prefix)!r}: {self.value(node)}"
        site = self.graph[node].site
        loops = [cast(Loop, self.graph[step.symbols[0]]) for step in steps]
        for loop in loops:
            self._local[loop.name] = self._local.get(loop.name) or self._number(loop)
        key = "".join(map(self._part_of_key, site.parts if site is not None else ())).removeprefix(prefix)
        value = self._in_one_step(node, loops)
        ranges = [f"for {self._local[loop.name]} in range({literal(loop.length, self.names)})" for loop in loops]
        return f"**{{f{key!r}: {value} {' '.join(ranges)}}}"

    def _in_one_step(self, node: str, loops: Sequence[Loop]) -> str:
        """Expression of the value in one step, of which the numbers are known."""
        call = self.graph[node]
        if node in self._late and isinstance(call, Call):
            return str(expression(call, self.names))
        return self._lists[node, loops[0].name] + "".join(f"[{self._local[loop.name]}]" for loop in loops)

    def _site_name(self, site: Site) -> str:
        return "".join(map(self._part_of_key, site.parts)) or site.name

    def _part_of_key(self, part: str | Size) -> str:
        if isinstance(part, Size):
            return f"{{{literal(part, self.names)}}}"
        return part.replace("{", "{{").replace("}", "}}")

    def _row(self, nodes: Sequence[Node]) -> list[str]:
        """A node that only one other reads, and that has no name of its own, is written into that one's statement,
        unless calls would change places that draw random numbers or change buffers.
        """
        alone, known = self._alone(nodes), (dict(self._local), self._namespace.copy())
        expected = [node.name for node in nodes if has_effect(node, self.graph)]
        while True:
            self._local, self._namespace = dict(known[0]), known[1].copy()
            self._draft = self._drafted(nodes, alone)
            late = delayed(self._draft.evaluated, expected)
            if not late & alone:
                self._written.update(node.name for node in nodes)
                return [line for statement in self._draft.statements for line in self._lines(statement)]
            alone -= late

    def draw_entries(self) -> list[str]:
        """The entries of the dict of all noises."""
        nodes = [node for node in self.nodes if isinstance(node, Noise)]
        return [line for node in nodes for line in self._commented(f"{node.name!r}: {self._draw(node)},", node)]

    def _alone(self, nodes: Sequence[Node]) -> set[str]:
        """The nodes that may be part of the statement of the one node that reads them."""
        within = {node.name for node in nodes}
        found = set[str]()
        for node in nodes:
            if self._reads[node.name] == 1 and is_anonymous(node, self.graph):
                users = [name for name in self.graph.users(node.name) if name in within]
                if (users and node.name not in self._kept) or (self.returns and node.name in self.results):
                    found.add(node.name)
        return found

    def _drafted(self, nodes: Sequence[Node], alone: set[str]) -> Draft:
        draft = self._draft = Draft()
        within = {node.name for node in nodes}
        for node in nodes:
            if node.name in self._local:
                continue  # an element of a tuple
            if isinstance(node, Parameter | Constant):
                self._state(node)
            elif isinstance(node, Stacked):
                self._stacked(node, draft)
            elif isinstance(node, Final):
                self._local[node.name] = self._local[node.carry.name]
            elif isinstance(node, Call):
                self._call(node, draft, alone, within)
            else:
                raise InternalError(f"{node.name!r} has no line", self.graph)
        for name in self.results if self.returns else ():
            draft.evaluated += draft.parts[name].effects if name in draft.parts else ()
        return draft

    def _stacked(self, node: Stacked, draft: Draft) -> None:
        """A tensor; where only one step at a time is read, the list that it would be made of."""
        values = self._lists[node.value.name, node.step.symbols[0]]
        readers = (self.graph[user] for user in self.graph.users(node.name))
        if node.name not in self.results and all(map(is_step, readers)):
            self._local[node.name] = values
        else:
            draft.statements.append(Statement(self._new_name(node), f"torch.stack({values})", node))

    def _state(self, node: Parameter | Constant) -> None:
        text = self.constants[node.name] if isinstance(node, Constant) else self.parameter(node.path)
        if self._reads[node.name] <= 1 or text.isidentifier():
            self._local[node.name] = text
        else:
            self._draft.statements.append(Statement(self._new(node.name), text, node))

    def _call(self, call: Call, draft: Draft, alone: set[str], within: set[str]) -> None:
        given = dict(draft.parts)
        text, effects = self._expression(call, draft)
        elements = unpacked(call, self.graph, within)
        names = [self._wanted(self.graph[name]) if name else "_" for name in elements or [call.name]]
        limit = self._longest(call, ", ".join(names), part=call.name in alone)
        while len(text) > limit and (inside := given.keys() - draft.parts.keys()):
            lengths = {name: len(given[name].text) for name in sorted(inside)}
            longest = max(lengths, key=lengths.__getitem__)
            draft.parts = {name: part for name, part in given.items() if name != longest}
            self._state_part(self.graph[longest], given.pop(longest), draft)
            text, effects = self._expression(call, draft)
        if call.name in alone and elements is None and len(text) <= limit:
            draft.parts[call.name] = _Part(text, effects)
            return
        draft.evaluated += effects
        names = self._new_name(call) if elements is None else self._new_elements(elements)
        draft.statements.append(Statement(names, text, call))

    def _expression(self, call: Call, draft: Draft) -> tuple[Text, tuple[str, ...]]:
        """The text of ``call``, and what it evaluates whose place matters, in that order."""
        draft.read.clear()
        text = expression(_without_fixed(call, self.graph), self.names)
        return text, (*draft.read, *([call.name] if has_effect(call, self.graph) else []))

    def _longest(self, call: Call, names: str, *, part: bool) -> int:
        """How long the text of ``call`` may get by what is written into it."""
        if call.target_name == "torch.Tensor.add" and call.name.partition(".")[0] in _SUMS:
            return _LONGEST_SUM
        longest = _LONGEST_STATEMENT - len(f"{names} = ")
        return min(longest, _LONGEST_PART) if part else longest

    def _state_part(self, node: Node, part: _Part, draft: Draft) -> None:
        """A statement after all for what was to be a part."""
        draft.evaluated += part.effects
        draft.statements.append(Statement(self._new_name(node), part.text, node))

    def _new_elements(self, elements: Sequence[str | None]) -> str:
        names = ["_" if name is None else self._new_name(self.graph[name]) for name in elements]
        return ", ".join(names)

    def _new_name(self, node: Node) -> str:
        self._local[node.name] = self._name_of(node)
        return self._local[node.name]

    def _name_of(self, node: Node, ending: str = "") -> str:
        """A new one; numbers of steps, as in ``z_{t}``, are no part of it."""
        return self._namespace.new(re.sub(r"_?\{[^}]*\}", "", self._wanted(node)) + ending)

    def _wanted(self, node: Node) -> str:
        """The node's name or, where it has none of its own, that of the parameter of a site that it is: ``z_scale``."""
        if node.name in self.titles:
            return next(name for name, held in self.graph.outputs.items() if held == node.name)
        if node.name in self._kept or not is_anonymous(node, self.graph):
            return node.name
        prefix = node.name.removesuffix(bare_name(node.name))
        roles = (self._role(node, self.graph[user]) for user in self.graph.users(node.name))
        return next((f"{prefix}{role}" for role in roles if role), node.name)

    def _role(self, node: Node, user: Node) -> str | None:
        if not isinstance(user, Call) or not isinstance(user.target, Formula):
            return None
        given = inspect.signature(user.target.function).bind(*user.args, **user.kwargs).arguments
        name = next((name for name, value in given.items() if value == Ref(node.name)), None)
        if name is None:
            return None
        if user.site is not None:
            return f"{bare_name(user.site.name)}_{name}"
        term = user.name if user.name in self.titles else term_of(user.name, self.graph)
        if term is None or term not in self.titles or name[:2] not in ("p_", "q_"):
            return None
        return f"{term.partition('.')[2]}_{name[2:]}"

    def _sizes_of_guards(self) -> set[str]:
        """What has to be computed before the guards are checked."""
        wanted = set(names_in([guard.expected for guard in self.guards]))
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(self._read_by(node))
        return {name for name in wanted if not isinstance(self.graph[name], Input)}

    def _new(self, name: str) -> str:
        self._local[name] = self._namespace.new(name)
        return self._local[name]

    def _input(self, node: Input) -> list[str]:
        text = self.place(node.path)
        if len(node.path) == 1 or self._reads[node.name] == 1:
            self._local[node.name] = text
            return []
        return [f"{self._new(node.name)} = {text}"]

    def place(self, path: tuple[str | int, ...]) -> str:
        """Expression of a part of the arguments; see `Input`."""
        argument, *keys = path
        name = str(argument).lstrip("*")
        if (
            local := self.arguments.get(name) or self.arguments.get(f"*{name}") or self.arguments.get(f"**{name}")
        ) is None:
            raise InternalError(f"{path} is part of no argument", self.graph)
        return local + "".join(f"[{key!r}]" for key in keys)

    def _guard(self, guard: Guard) -> list[str]:
        inputs = [node for node in self.nodes if isinstance(node, Input)]
        known = {node.path: self._local[node.name] for node in inputs if node.name in self._local}
        found = guard.read(known.get(guard.path) or self.place(guard.path))
        shown = guard.read(_path_text(guard.path))
        wrong, expected = self._wrong(guard, found)
        if isinstance(guard.expected, Size) and str(guard.path[0]) not in self.required:
            wrong = f"{self.place(guard.path[:1])} is not None and {wrong}"
        message = one_line(f"{shown} has to be {expected}: {guard.reason}")
        return [f"if {wrong}:", f"    raise ValueError({_on_lines(message)})"]

    def _wrong(self, guard: Guard, found: str) -> tuple[str, str]:
        """The condition that the guard refuses, and what it expects."""
        fixed = guard.expected
        if isinstance(fixed, slice):
            return _outside(cast("slice[int | None, int | None, None]", fixed), found)
        expected = literal(fixed, self.names)
        if guard.dim == "floating":
            return f"not {found}" if fixed else found, expected
        same = "is not" if fixed is None or isinstance(fixed, bool) else "!="
        return f"{found} {same} {expected}", expected

    def _noise(self, node: Noise) -> list[str]:
        text = f"noise[{node.name!r}]"
        if self._reads[node.name] <= 1:
            self._local[node.name] = text
            return []
        return [f"{self._new(node.name)} = {text}"]

    def _like(self, dtype: torch.dtype | None) -> str:
        """Expression of the device (where ``dtype`` is None) or of the dtype to follow at run time."""
        attribute = "device" if dtype is None else "dtype"
        if (anchor := self.anchor(dtype)) is not None:
            return f"{anchor}.{attribute}"
        if (node := self._input_like(dtype)) is not None:
            return f"{self._local[node.name]}.{attribute}"
        if dtype is None:
            return "torch.get_default_device()"
        return "torch.get_default_dtype()" if dtype == torch.float32 else str(dtype)

    def _name_dtypes(self) -> list[str]:
        """A variable for each dtype that follows the model's at run time."""
        lines = list[str]()
        for node in self.nodes:
            dtype = node.dtype or torch.float32
            if isinstance(node, Noise) and dtype not in self._dtypes:
                text = self._like(dtype)
                if text.endswith(".dtype"):
                    self._dtypes[dtype] = self._namespace.new("dtype")
                    lines.append(f"{self._dtypes[dtype]} = {text}")
                else:
                    self._dtypes[dtype] = text
        return lines

    def _draw(self, node: Noise) -> str:
        draw = self.names.formula(NOISE_LAWS[node.law].draw)
        shape = shape_text(self._drawn_shape(node), self.value)
        dtype = self._dtypes[node.dtype or torch.float32]
        return f"{draw}({shape}, dtype={dtype}, device={self._device}, generator=generator)"

    def _lines(self, statement: Statement) -> list[str]:
        return self._commented(statement.code, statement.node)

    def _commented(self, code: str, node: Node) -> list[str]:
        """The code and its comment, which stands above where there is no room for it."""
        comment = self._comment(node)
        if comment and len(code) + len(comment) > _WIDTH:
            return [comment.strip(), code]
        return [code + comment]

    def _comment(self, node: Node) -> str:
        """The site and the source line; a line that the one above names is not named again."""
        place = location_text(node.location)
        title = self.titles.get(node.name) or self._title(node)
        parts = [title, place] if title else [place] if place != self._last_place else []
        said = ", ".join(part for part in parts if part)
        self._last_place = place
        return f"  # {one_line(said)}" if said else ""

    def _title(self, node: Node) -> str:
        elements = [name for name in self.graph.users(node.name) if self._is_element(name, node)]
        sites = [node.site, *(self.graph[name].site for name in elements)]
        shown = [self._site_name(site) for site in sites if site]
        names = [bare_name(name) if bare_name(node.name) != node.name else name for name in shown]
        return f"site {', '.join(map(repr, names))}" if names else ""

    def _is_element(self, name: str, node: Node) -> bool:
        """Is ``name`` taken from ``node`` on the line of ``node``?"""
        user = self.graph[name]
        return isinstance(user, Call) and user.target == "getitem" and node.name not in self._local


def _assigned(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """At once, where one of the values is called as one of the names."""
    if not set(names).isdisjoint(values):
        return [f"{', '.join(names)} = {', '.join(values)}"]
    return [f"{name} = {value}" for name, value in zip(names, values, strict=True)]


def _without_fixed(call: Call, graph: Graph) -> Call:
    """A call of a submodule without the arguments that its recorded body has no use for: literals are part of it."""
    path = call.target.removeprefix("self.") if isinstance(call.target, str) else ""
    submodule = graph.binding.modules.get(path) if call.target_name.startswith("self.") else None
    if submodule is None or submodule.body is None:
        return call
    taken = {argument.name.lstrip("*") for argument in submodule.body.arguments}
    signature = inspect.signature(submodule.module.forward)
    given = signature.bind(*call.args, **call.kwargs).arguments
    kept = {name: value for name, value in given.items() if name in taken}
    if len(kept) == len(given):
        return call
    kinds = {signature.parameters[name].kind: name for name in kept}
    rest = kept.pop(kinds.get(inspect.Parameter.VAR_KEYWORD, ""), {})
    if (several := kinds.get(inspect.Parameter.VAR_POSITIONAL)) is not None:
        before = list(kept)[: list(kept).index(several)]
        args = (*(kept.pop(name) for name in before), *map(_if_read, kept.pop(several)))
    else:
        positional = len(call.args) if list(given)[: len(kept)] == list(kept) else 0
        args = tuple(kept.pop(name) for name in list(kept)[:positional])
    return replace(call, args=args, kwargs={**kept, **{name: value for name, value in rest.items() if names_in(value)}})


def _if_read(value: Arg) -> Arg:
    """What a body reads of an argument: a tensor; a literal is part of the body, and only keeps the others' places."""
    return value if names_in(value) else None


def _on_lines(text: str) -> str:
    """A literal of ``text``, in pieces that fit a line each."""
    wrapper = TextWrapper(80, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False)
    return " ".join(map(repr, wrapper.wrap(text)))


def location_text(location: Location | None) -> str:
    return one_line(str(location)) if location is not None else ""


def _path_text(path: tuple[str | int, ...]) -> str:
    return str(path[0]) + "".join(f"[{key!r}]" for key in path[1:])


def signature(frame: Frame) -> tuple[list[str], list[str]]:
    """(parameters as a ``def`` has them, positional ones first; the same passed on in a call)."""
    arguments = frame.graph.arguments
    positional = [a for a in arguments if not a.keyword_only and not a.name.startswith("**")]
    keywords = [a for a in arguments if a.keyword_only]
    rest = [a for a in arguments if a.name.startswith("**")]
    last_required = max((i for i, a in enumerate(positional) if a.name in frame.required), default=-1)
    parameters = [_parameter(frame, a, default=i > last_required) for i, a in enumerate(positional)]
    if keywords and not any(a.name.startswith("*") for a in positional):
        parameters.append("*")
    parameters += [_parameter(frame, a, default=a.name not in frame.required) for a in keywords]
    parameters += [_parameter(frame, a, default=False) for a in rest]
    passed = [_stars(a) + frame.arguments[a.name] for a in positional]
    passed += [f"{frame.arguments[a.name]}={frame.arguments[a.name]}" for a in keywords]
    return parameters, passed + [_stars(a) + frame.arguments[a.name] for a in rest]


def _is_read(node: Input, graph: Graph) -> bool:
    return bool(graph.users(node.name)) or node.name in graph.outputs.values()


def _stars(argument: Argument) -> Literal["", "*", "**"]:
    name = argument.name
    return "**" if name.startswith("**") else "*" if name.startswith("*") else ""


def _outside(allowed: slice[int | None, int | None, None], found: str) -> tuple[str, str]:
    """The condition under which a size is outside of the range, and words for the range."""
    low, high = allowed.start, allowed.stop
    if high is None:
        return f"{found} < {low}", f"at least {low}"
    if low is None:
        return f"{found} >= {high}", f"at most {high - 1}"
    return f"not {low} <= {found} < {high}", f"from {low} to {high - 1}"


def _parameter(frame: Frame, argument: Argument, *, default: bool) -> str:
    name, kind = frame.arguments[argument.name], _annotation(frame.graph, argument)
    if stars := _stars(argument):
        return f"{stars}{name}: {kind}"
    if not default:
        return f"{name}: {kind}"
    fixed = (g for g in frame.graph.guards if g.dim is None and not isinstance(g.expected, slice))
    expected = next((guard.expected for guard in fixed if guard.path == (argument.name,)), None)
    optional = kind if expected is not None or kind == "Any" else f"{kind} | None"
    return f"{name}: {optional} = {literal(expected, frame.names)}"


def _annotation(graph: Graph, argument: Argument) -> str:
    name = argument.name.lstrip("*")
    inputs = [node for node in graph if isinstance(node, Input) and str(node.path[0]).lstrip("*") == name]
    tensors = all(node.shape is not None or node.dtype is not None for node in inputs)
    if not inputs:
        return "Any"
    if any(len(node.path) > 2 for node in inputs) or (not tensors and any(len(node.path) > 1 for node in inputs)):
        return "Any"
    if len(inputs[0].path) == 1:
        return "Tensor" if tensors else "int" if is_size(inputs[0]) else "Any"
    if argument.name.startswith("*"):
        return "Tensor"
    if all(isinstance(node.path[1], str) for node in inputs):
        return "dict[str, Tensor]"
    return "tuple[Tensor, ...]" if all(isinstance(node.path[1], int) for node in inputs) else "Any"
