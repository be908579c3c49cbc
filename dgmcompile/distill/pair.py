"""Teacher and student in one graph: the same noise, and the teacher's values for what other nodes read.

The methods differ in which of the student's reads are bound to the teacher's values, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.binding import Binding
from dgmcompile.ir.graph import (
    Argument,
    Call,
    Graph,
    Guard,
    Input,
    Node,
    Noise,
    Parameter,
    Plate,
    Sample,
    Shape,
    Site,
    is_size,
    map_names,
)
from dgmcompile.passes.auxiliary import auxiliary
from dgmcompile.passes.canonicalize import canonicalize

TEACHER, STUDENT = "teacher.", "student."
Method = Literal["surrogate", "local", "marginalised"]
Match = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class PairedSite:
    """A variable that both models have, with its law in each; their references are to the pair's nodes."""

    name: str
    role: Literal["latent", "target"]
    teacher: Sample
    student: Sample


class Pair(Graph):
    """Two graphs in one. ``sites`` are those that are compared; ``method`` says what is bound to what."""

    _FIELDS: ClassVar[tuple[str, ...]] = (*Graph._FIELDS, "sites", "method")

    def __init__(
        self, nodes: Iterable[Node], *, sites: tuple[PairedSite, ...] = (), method: Method = "surrogate", **rest: Any
    ) -> None:
        super().__init__(nodes, **rest)
        self.sites = sites
        self.method = method


def pair_graphs(teacher: Graph, student: Graph, match: Match | None = None, method: Method = "surrogate") -> Pair:
    """The joint graph of two traced programs (DESIGN, section 1).

    Args:
        teacher, student: graphs whose sites are still samples.
        match: teacher's site -> student's site where the names differ, or None to leave a site unmatched.
        method: ``surrogate`` gives the student its own latents, made from the teacher's noise;
            ``local`` gives it the teacher's latents; ``marginalised`` is built like ``surrogate`` here,
            its terms sum the latents out.
    Errors:
        `CompileError` ``pair-mismatch`` with a row for each site or argument that does not fit.
    """
    left, right = _Side.of(teacher, TEACHER), _Side.of(student, STUDENT)
    matched = _matched(left, right, match or {})
    shared = _shared_inputs(left, right)
    right = right.renamed_sizes(shared)
    _refuse_mismatches(left, right, matched, shared)
    names = _Names(left, right, matched, shared, method)
    nodes = [*names.teacher_nodes(), *names.student_nodes()]
    sites = tuple(_paired(left, right, names, a, b) for a, b in matched.items())
    return Pair(
        nodes,
        name=teacher.name,
        outputs={node.name: node.name for node in nodes if node.site is not None},
        arguments=_arguments(teacher.arguments, student.arguments),
        guards=tuple(dict.fromkeys((*teacher.guards, *_on_teachers_arguments(student, teacher)))),
        binding=_binding(teacher.binding, student.binding),
        sites=sites,
        method=method,
    )


@dataclass(frozen=True)
class _Side:
    """One model in canonical parameters (``laws``), and with every site as noise and a call (``graph``)."""

    prefix: str
    laws: Mapping[str, Sample]
    graph: Graph

    @classmethod
    def of(cls, graph: Graph, prefix: str) -> _Side:
        canonical = canonicalize(graph)
        laws = {sample.site.name: sample for sample in canonical.samples if sample.site}
        return cls(prefix, laws, auxiliary(canonical))

    def renamed_sizes(self, shared: Mapping[str, str]) -> _Side:
        """Sizes by the teacher's names, so that shapes can be compared."""

        def rename(name: str) -> str:
            return shared.get(name, name)

        laws = {name: replace(law, shape=map_names(law.shape, rename)) for name, law in self.laws.items()}
        return replace(self, laws=laws)

    def noises(self, site: str) -> tuple[Noise, ...]:
        """The noise that the site is made from."""
        made: list[Noise] = []
        todo = [self.laws[site].name]
        own = set(self.laws[site].inputs)
        while todo:
            for name in self.graph[todo.pop()].inputs:
                node = self.graph[name]
                if isinstance(node, Noise):
                    made.append(node)
                elif name not in own and isinstance(node, Call) and node.site is None and not is_size(node):
                    todo.append(name)
        return tuple(dict.fromkeys(made))


def _matched(left: _Side, right: _Side, match: Match) -> dict[str, str]:
    """Teacher's site -> student's site."""
    rows = [f"{a!r} is no site of the teacher" for a in match if a not in left.laws]
    rows += [f"{b!r} is no site of the student" for b in match.values() if b is not None and b not in right.laws]
    if rows:
        raise _mismatch(rows, None)
    wanted = {name: match.get(name, name) for name in left.laws}
    return {
        a: b
        for a, b in wanted.items()
        if b is not None and b in right.laws and (a in match or b not in _renamed(match, a))
    }


def _renamed(match: Match, site: str) -> set[str | None]:
    """Student sites that another site of the teacher claims."""
    return {b for a, b in match.items() if a != site}


def _shared_inputs(left: _Side, right: _Side) -> dict[str, str]:
    """Student's input or size node -> the teacher's of the same meaning."""
    positions = {b.name: a.name for a, b in zip(left.graph.arguments, right.graph.arguments, strict=False)}
    same_names = {a.name for a in left.graph.arguments} == {a.name for a in right.graph.arguments}
    inputs = {node.path: node.name for node in left.graph if isinstance(node, Input)}
    shared: dict[str, str] = {}
    for node in right.graph:
        if isinstance(node, Input):
            path = node.path if same_names else (positions.get(str(node.path[0]), node.path[0]), *node.path[1:])
            if path in inputs:
                shared[node.name] = inputs[path]
    sizes = {node.args: node.name for node in left.graph if isinstance(node, Call) and node.target == "size"}
    for node in right.graph:
        if isinstance(node, Call) and node.target == "size":
            args = map_names(node.args, lambda name: shared.get(name, name))
            if args in sizes:
                shared[node.name] = sizes[args]
    return shared


# what does not fit


def _refuse_mismatches(left: _Side, right: _Side, matched: Mapping[str, str], shared: Mapping[str, str]) -> None:
    rows = list(_mismatches(left, right, matched, shared))
    if rows:
        first = next((right.laws[b].location for b in matched.values()), None)
        raise _mismatch(rows, first)


def _mismatch(rows: list[str], location: Any) -> CompileError:
    return CompileError(
        Diagnostic(
            code="pair-mismatch",
            message="teacher and student do not fit together",
            location=location,
            notes=tuple(rows),
            help="give both the same targets and shapes; match={'z': 'h'} (--match z=h) pairs sites of other names, "
            "match={'z': None} (--match z=) leaves one unmatched",
        )
    )


def _mismatches(left: _Side, right: _Side, matched: Mapping[str, str], shared: Mapping[str, str]) -> Iterator[str]:
    for node in right.graph:
        if isinstance(node, Input) and node.name not in shared:
            yield f"argument {'.'.join(map(str, node.path))!r}: teacher none, student {_type(node.shape)}"
    for a, law in left.laws.items():
        if a not in matched and _role(law) == "target":
            yield f"target {a!r}: teacher {_law(law)}, student none"
    for b, law in right.laws.items():
        if b not in matched.values() and _role(law) == "target":
            yield f"target {b!r}: teacher none, student {_law(law)}"
    for a, b in matched.items():
        p, q = left.laws[a], right.laws[b]
        if _role(p) != _role(q):
            yield f"site {a!r}: teacher {_role(p)}, student {_role(q)}"
        elif p.shape != q.shape:
            yield f"site {a!r}: teacher {_law(p)}, student {_law(q)}"
        elif _role(p) == "latent" and _signature(left, a) != _signature(right, b, shared):
            yield f"site {a!r}: teacher's noise {_noises(left, a)}, student's {_noises(right, b)}"


def _signature(side: _Side, site: str, shared: Mapping[str, str] | None = None) -> list[Any]:
    names = shared or {}
    return [
        (noise.law, map_names(noise.shape, lambda name: names.get(name, name)), noise.dtype)
        for noise in side.noises(site)
    ]


def _noises(side: _Side, site: str) -> str:
    return ", ".join(f"{noise.law} {_type(noise.shape)}" for noise in side.noises(site)) or "none"


def _law(law: Sample) -> str:
    return f"{law.family} {_type(law.shape)}"


def _type(shape: Shape | None) -> str:
    return "[" + ", ".join(map(str, shape or ())) + "]"


def _role(law: Sample) -> str:
    assert law.site is not None
    return law.site.role


# the joint graph


class _Names:
    """What each node of either side is called in the pair, and what its readers read."""

    def __init__(
        self, left: _Side, right: _Side, matched: Mapping[str, str], shared: Mapping[str, str], method: Method
    ) -> None:
        self._left, self._right = left, right
        self._own = {name: self._teacher_name(name) for name in left.graph.graph}
        taken = set(self._own.values())
        noises = self._shared_noises(matched, shared)
        self._students = {
            node.name: shared[node.name]
            if node.name in shared
            else self._own[noises[node.name]]
            if node.name in noises
            else _unused(_student_name(node), taken)
            for node in right.graph
        }
        self._dropped = set(shared) | set(noises)
        self._forced = {
            right.laws[b].name: self._own[left.laws[a].name]
            for a, b in matched.items()
            if method == "local" or _role(left.laws[a]) == "target"
        }

    def _teacher_name(self, name: str) -> str:
        return name if _is_shared(self._left.graph[name]) else TEACHER + name

    def _shared_noises(self, matched: Mapping[str, str], shared: Mapping[str, str]) -> dict[str, str]:
        return {
            theirs.name: ours.name
            for a, b in matched.items()
            if _signature(self._left, a) == _signature(self._right, b, shared)
            for ours, theirs in zip(self._left.noises(a), self._right.noises(b), strict=True)
        }

    def teacher(self, name: str) -> str:
        """The name in the pair of the teacher's node."""
        return self._own[name]

    def student(self, name: str) -> str:
        """What a node of the student reads for ``name``: the teacher's value where it is bound to that."""
        return self._forced.get(name, self._students[name])

    def teacher_nodes(self) -> Iterator[Node]:
        for node in self._left.graph:
            yield _renamed_node(node, self.teacher, self._own[node.name], TEACHER)

    def student_nodes(self) -> Iterator[Node]:
        for node in self._right.graph:
            if node.name not in self._dropped:
                yield _renamed_node(node, self.student, self._students[node.name], STUDENT)


def _is_shared(node: Node) -> bool:
    return isinstance(node, Input | Noise) or is_size(node)


def _student_name(node: Node) -> str:
    return node.name if _is_shared(node) else STUDENT + node.name


def _unused(name: str, taken: set[str]) -> str:
    unique = name
    count = 0
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique


def _renamed_node(node: Node, reads: Any, name: str, prefix: str) -> Node:
    node = replace(node.map_names(reads), name=name)
    if node.site is not None:
        plates = tuple(Plate(p.name, p.dim, map_names(p.size, reads)) for p in node.site.plates)
        node = replace(node, site=Site(prefix + node.site.name, node.site.role, node.site.family, plates))
    if isinstance(node, Parameter):
        return replace(node, path=prefix + node.path)
    if isinstance(node, Call) and isinstance(node.target, str) and node.target.startswith("self."):
        return replace(node, target=f"self.{prefix}{node.target.removeprefix('self.')}")
    return node


def _paired(left: _Side, right: _Side, names: _Names, a: str, b: str) -> PairedSite:
    p, q = left.laws[a], right.laws[b]
    role: Literal["latent", "target"] = "target" if _role(p) == "target" else "latent"
    return PairedSite(
        a,
        role,
        _renamed_law(p, names.teacher, TEACHER),
        _renamed_law(q, names.student, STUDENT),
    )


def _renamed_law(law: Sample, reads: Any, prefix: str) -> Sample:
    node = _renamed_node(law, reads, prefix + law.name, prefix)
    assert isinstance(node, Sample)
    return node


def _arguments(teacher: tuple[Argument, ...], student: tuple[Argument, ...]) -> tuple[Argument, ...]:
    """The teacher's, required where either model reads one."""
    needed = {a.name for a, b in zip(teacher, student, strict=False) if b.required}
    return tuple(replace(a, required=a.required or a.name in needed) for a in teacher)


def _on_teachers_arguments(student: Graph, teacher: Graph) -> Iterator[Guard]:
    names = {b.name: a.name for a, b in zip(teacher.arguments, student.arguments, strict=False)}
    for guard in student.guards:
        yield replace(guard, path=(names.get(str(guard.path[0]), guard.path[0]), *guard.path[1:]))


def _binding(teacher: Binding, student: Binding) -> Binding:
    sides = ((TEACHER, teacher), (STUDENT, student))
    return Binding(
        {prefix + path: tensor for prefix, side in sides for path, tensor in side.tensors.items()},
        {prefix + path: module for prefix, side in sides for path, module in side.modules.items()},
    )
