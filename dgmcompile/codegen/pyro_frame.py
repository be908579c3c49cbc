"""The body of a Pyro program: sites in their plates, and the calls between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from dgmcompile.codegen.expressions import Names, literal, shape_text
from dgmcompile.codegen.modules import indented
from dgmcompile.codegen.pyro_laws import LawTexts, is_wide
from dgmcompile.codegen.statements import Draft, Frame, Statement
from dgmcompile.ir.graph import (
    Arg,
    Argument,
    Call,
    Constant,
    Dim,
    Graph,
    Input,
    Node,
    Parameter,
    Plate,
    Ref,
    Sample,
    Shape,
    TransformStep,
    names_in,
)
from dgmcompile.ir.size import Size

_LONGEST = 112
Context = Plate | str
"""A plate, or the text of another context manager."""


@dataclass(frozen=True)
class _SiteStatement(Statement):
    """A ``pyro.sample`` or ``pyro.deterministic``; ``names`` is empty where nothing reads the value.

    ``before`` are the lines that define what it calls.
    """

    contexts: tuple[Context, ...] = ()
    before: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return f"{self.names} = {self.text}" if self.names else self.text


@dataclass
class ProgramFrame(Frame):
    """One Pyro program that is being written; see `Frame`.

    Args:
        event_dims: of deterministic sites; see `pyro_sites.Variables`.
        observed: site -> expression of the data that it observes.
        weighed: sites that observe their own value; see `pyro_sites.Variables`.
        returned: names of the sites whose values the program returns.
        imports: filled with the modules of families that are not Pyro's.
    """

    event_dims: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    observed: Mapping[str, str] = field(default_factory=dict[str, str])
    weighed: Set[str] = frozenset()
    returned: Sequence[str] = ()
    imports: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._known_reads: dict[str, tuple[str, ...]] = {}
        self._plate_names: dict[Plate, str] = {}
        super().__post_init__()

    # what is read

    def _read_by(self, node: Node) -> tuple[str, ...]:
        if node.name not in self._known_reads:
            plates = node.site.plates if node.site is not None else ()
            own = self._reads_of_sample(node) if isinstance(node, Sample) else node.inputs
            self._known_reads[node.name] = (*own, *names_in([plate.size for plate in plates]))
        return self._known_reads[node.name]

    def _reads_of_sample(self, sample: Sample) -> tuple[str, ...]:
        """What its statement reads, each as often as it does."""
        found = list[str]()

        def value(name: str) -> str:
            found.append(name)
            return "x"

        def step(step: TransformStep) -> str:
            found.extend(self._captured(step))
            return "step"

        names = Names(value, self.module)
        LawTexts(self.graph, names, step).of_site(sample)
        literal(sample.scale, names)
        if is_wide(sample, self.graph):
            literal(sample.mask, names)
        if self._is_weighed(sample):
            literal(sample.params["v"], names)
        return tuple(found)

    def _is_weighed(self, sample: Sample) -> bool:
        return sample.site is not None and sample.site.name in self.weighed

    def _needed(self, results: Sequence[str]) -> list[Node]:
        wanted = set(results)
        for node in reversed(list(self.graph)):
            if node.name in wanted:
                wanted.update(self._read_by(node))
        return [node for node in self.graph if node.name in wanted]

    def _sizes_of_guards(self) -> set[str]:
        """The sizes of plates as well: plates are made at the head."""
        plates = [plate for node in self.nodes if node.site is not None for plate in node.site.plates]
        wanted = set(names_in([plate.size for plate in plates]))
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(self._read_by(node))
        return super()._sizes_of_guards() | {name for name in wanted if not isinstance(self.graph[name], Input)}

    # statements

    def _alone(self, nodes: Sequence[Node]) -> set[str]:
        """Not what the functions of recorded steps read: that has to be a variable."""
        samples = [node for node in self.nodes if isinstance(node, Sample)]
        steps = [step for sample in samples for step in sample.transforms if step.is_recorded]
        return super()._alone(nodes) - {name for step in steps for name in self._captured(step)}

    def _drafted(self, nodes: Sequence[Node], alone: set[str]) -> Draft:
        draft = self._draft = Draft()
        within = {node.name for node in nodes}
        for node in nodes:
            if node.name in self._local:
                continue  # an element of a tuple
            if isinstance(node, Parameter | Constant):
                self._state(node)
            elif isinstance(node, Sample):
                self._site(node, draft, lambda sample=node: self._sample_text(sample))
            elif isinstance(node, Call) and node.site is not None:
                self._site(node, draft, lambda call=node: (self._deterministic_text(call), ()))
            elif isinstance(node, Call):
                self._call(node, draft, alone, within)
        return draft

    def _site(self, node: Node, draft: Draft, write: Callable[[], tuple[str, tuple[str, ...]]]) -> None:
        """The statement of a site; what makes it too long becomes a statement of its own."""
        given, namespace = dict(draft.parts), self._namespace.copy()
        draft.read.clear()
        text, before = write()
        while len(text) > _LONGEST and (inside := given.keys() - draft.parts.keys()):
            lengths = {name: len(given[name].text) for name in sorted(inside)}
            longest = max(lengths, key=lengths.__getitem__)
            draft.parts = {name: part for name, part in given.items() if name != longest}
            self._namespace = namespace
            self._state_part(self.graph[longest], given.pop(longest), draft)
            namespace = self._namespace.copy()
            draft.read.clear()
            text, before = write()
        contexts = self._contexts(node)
        draft.evaluated += draft.read
        is_read = self._reads[node.name] > 1 or node.name in self.returned  # once it is a result
        names = self._new_name(node) if is_read else ""
        draft.statements.append(_SiteStatement(names, text, node, contexts, before))

    def _sample_text(self, sample: Sample) -> tuple[str, tuple[str, ...]]:
        assert sample.site is not None
        before = list[str]()
        laws = LawTexts(self.graph, self.names, lambda step: self._step(sample, step, before), self.imports)
        law = laws.of_site(sample)
        observed = self.observed.get(sample.site.name)
        observed = literal(sample.params["v"], self.names) if self._is_weighed(sample) else observed
        given = f", obs={observed}" if observed else ""
        given += f", infer={literal(dict(sample.infer), self.names)}" if sample.infer else ""
        return f"pyro.sample({sample.site.name!r}, {law}{given})", tuple(before)

    def _deterministic_text(self, call: Call) -> str:
        assert call.site is not None
        event_dim = self.event_dims.get(call.site.name)
        inside = call.site.plates and event_dim is not None
        value = literal(call.args[0], self.names)
        return f"pyro.deterministic({call.site.name!r}, {value}{f', event_dim={event_dim}' if inside else ''})"

    def _contexts(self, node: Node) -> tuple[Context, ...]:
        assert node.site is not None
        contexts: tuple[Context, ...] = node.site.plates
        if isinstance(node, Sample) and node.scale is not None:
            contexts += (f"poutine.scale(scale={literal(node.scale, self.names)})",)
        if isinstance(node, Sample) and is_wide(node, self.graph):
            contexts += (f"poutine.mask(mask={literal(node.mask, self.names)})",)
        return contexts

    def _role(self, node: Node, user: Node) -> str | None:
        if not isinstance(user, Sample) or user.site is None:
            return super()._role(node, user)
        name = next((name for name, value in user.params.items() if value == Ref(node.name)), None)
        return name and f"{user.site.name}_{name}"

    def _comment(self, node: Node) -> str:
        return ""

    def _new_name(self, node: Node) -> str:
        """``y = pyro.sample("y", ..., obs=y)``, where nothing else reads the data."""
        path = self.graph.binding.data.get(node.site.name) if node.site is not None else None
        name = self.arguments.get(str(path[0])) if path is not None and len(path) == 1 else None
        if name is None or node.site is None or name != node.site.name or self._data_are_read(name):
            return super()._new_name(node)
        self._local[node.name] = name
        return name

    def _data_are_read(self, argument: str) -> bool:
        inputs = {node.name for node in self.graph if isinstance(node, Input) and node.path[0] == argument}
        readers = (node for node in self.nodes if not inputs.isdisjoint(self._read_by(node)))
        return any(not isinstance(node, Call) or node.target != "size" for node in readers)

    # layout

    def program(self) -> list[str]:
        """The lines of the whole body but for what is returned."""
        head = self.head()
        self.body()
        statements = self._draft.statements
        uses = Counter[Plate]()
        self._grouped(statements, 0, lambda plate: self._counted(plate, uses))
        lines = list[str]()
        for plate, count in uses.items():
            if count > 1:
                self._plate_names[plate] = self._namespace.new(plate.name, "plate")
                lines.append(f"{self._plate_names[plate]} = {self._plate_text(plate)}")
        return [*head, *lines, *self._grouped(statements, 0, self._plate)]

    def _counted(self, plate: Plate, uses: Counter[Plate]) -> str:
        uses[plate] += 1
        return ""

    def _plate(self, plate: Plate) -> str:
        return self._plate_names.get(plate) or self._plate_text(plate)

    def _plate_text(self, plate: Plate) -> str:
        size = "" if plate.size == -1 else f", {self._size(plate.size)}"
        return f"pyro.plate({plate.name!r}{size}, dim={plate.dim})"

    def _size(self, size: Dim) -> str:
        return size.format(self.value) if isinstance(size, Size) else str(size)

    def _grouped(self, statements: Sequence[Statement], depth: int, plate: Callable[[Plate], str]) -> list[str]:
        """The statements, those in one context under one ``with``; ``depth`` contexts are around them already."""
        lines, start = list[str](), 0
        while start < len(statements):
            inside = self._inside(statements, start, depth)
            if inside == 0:
                lines += self._lines(statements[start])
                start += 1
                continue
            group = statements[start : start + inside]
            shared = _shared([_contexts_of(s) for s in group if isinstance(s, _SiteStatement)])[depth:]
            texts = [plate(context) if isinstance(context, Plate) else context for context in shared]
            lines += [f"with {', '.join(texts)}:", *indented(self._grouped(group, depth + len(shared), plate))]
            start += inside
        return lines

    def _inside(self, statements: Sequence[Statement], start: int, depth: int) -> int:
        """How many statements from ``start`` on stand in the context in which the first does."""
        contexts = _contexts_of(statements[start])
        if len(contexts) <= depth:
            return 0
        last = start
        for index, statement in enumerate(statements[start:], start):
            if isinstance(statement, _SiteStatement):
                if _contexts_of(statement)[depth : depth + 1] != contexts[depth : depth + 1]:
                    break
                last = index
        return last + 1 - start

    def _lines(self, statement: Statement) -> list[str]:
        before = statement.before if isinstance(statement, _SiteStatement) else ()
        return [*before, *super()._lines(statement)]

    # recorded steps

    def _captured(self, step: TransformStep) -> list[str]:
        """What the functions of the step read of the program around them, each once."""
        read = [name for part in self._parts(step) for name in part.captured]
        return list(dict.fromkeys([*read, *names_in(self._event_shapes(step))]))

    def _event_shapes(self, step: TransformStep) -> tuple[Shape, Shape]:
        """Before and after."""
        before, after = ((self.graph[step.params[probe].name].shape or ()) for probe in "xy")
        domain, codomain = step.params["domain_event_dim"], step.params["codomain_event_dim"]
        return before[len(before) - domain :], after[len(after) - codomain :]

    def _parts(self, step: TransformStep) -> list[_Part]:
        params = step.params
        parts = [_Part.of(self.graph, params["x"].name, (params["forward"],))]
        if "inverse" in params and "log_det" in params:
            parts.append(_Part.of(self.graph, params["y"].name, (params["inverse"], params["log_det"])))
        return parts

    def _step(self, sample: Sample, step: TransformStep, before: list[str]) -> str:
        names = list[str]()
        word = step.name.rpartition(".")[2] if not step.name.endswith(".inv") else "inverse"
        for part, role, argument in zip(self._parts(step), ("", "_undone"), "xy", strict=False):
            names.append(self._namespace.new(f"{sample.name}_{word.lower()}{role}"))
            before.extend(["", *self._function(names[-1], self._namespace.new(argument), part), ""])
        shapes = [shape_text(shape, self.value) for shape in self._event_shapes(step)]
        return f"RecordedTransform({', '.join([*names, *(['None'] if len(names) == 1 else []), *shapes])})"

    def _function(self, name: str, argument: str, part: _Part) -> list[str]:
        local = {captured: self._local[captured] for captured in part.captured}
        given = {n: text for n, text in local.items() if text.isidentifier()}
        graph = part.graph(self.graph, argument, given)
        frame = Frame(
            graph=graph,
            results=tuple(graph.outputs.values()),
            parameter=self.parameter,
            module=self.module,
            constants=self.constants,
            anchor=self.anchor,
            reserved=self.reserved,
            formulas=self.formulas,
            returns=True,
        )
        lines = [*frame.head(), *frame.body()]
        values = [frame.value(result) for result in frame.results]
        return [f"def {name}({argument}: Tensor) -> Any:", *indented([*lines, f"return {', '.join(values)}"])]


@dataclass(frozen=True)
class _Part:
    """The nodes by which ``results`` depend on a probe."""

    probe: str
    nodes: tuple[Node, ...]
    captured: tuple[str, ...]
    results: tuple[Arg, ...]

    @classmethod
    def of(cls, graph: Graph, probe: str, results: tuple[Arg, ...]) -> _Part:
        above = graph.ancestors(names_in(results))
        made = {probe}
        for node in graph:
            if node.name in above and not made.isdisjoint(node.inputs):
                made.add(node.name)
        nodes = tuple(node for node in graph if node.name in made and node.name != probe)
        read = [name for node in nodes for name in node.inputs] + names_in(results)
        return cls(probe, nodes, tuple(name for name in dict.fromkeys(read) if name not in made), results)

    def graph(self, graph: Graph, argument: str, given: Mapping[str, str]) -> Graph:
        """These nodes as a program of the probe, and of the variables around it."""
        arguments = {argument: self.probe, **{text: name for name, text in given.items()}}
        inputs = [
            Input(name=name, path=(text,), shape=graph[name].shape, dtype=graph[name].dtype)
            for text, name in arguments.items()
        ]
        state = [graph[name] for name in self.captured if name not in given]
        whole = [str(node.path[0]) for node in state if isinstance(node, Input)]
        return Graph(
            [*inputs, *state, *(replace(node, site=None) for node in self.nodes)],
            outputs={str(index): result.name for index, result in enumerate(self.results)},
            arguments=tuple(Argument(text) for text in dict.fromkeys([*arguments, *whole])),
            binding=graph.binding,
        )


def _contexts_of(statement: Statement) -> tuple[Context, ...]:
    return statement.contexts if isinstance(statement, _SiteStatement) else ()


def _shared(contexts: Sequence[tuple[Context, ...]]) -> tuple[Context, ...]:
    """The longest beginning that all of them have."""
    shared = contexts[0]
    for other in contexts[1:]:
        length = next((i for i, (a, b) in enumerate(zip(shared, other, strict=False)) if a != b), None)
        shared = shared[: min(len(shared), len(other)) if length is None else length]
    return shared
