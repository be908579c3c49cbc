"""Teacher and student in one graph: the same noise, and the teacher's values for what other nodes read.

The methods differ in which of the student's reads are bound to the teacher's values, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.matching import (
    STUDENT,
    TEACHER,
    Match,
    Matching,
    Method,
    lone_noises,
    refuse_mismatches,
    with_shared_noise,
)
from dgmcompile.distill.statistics import without_statistics
from dgmcompile.distill.steps import in_step
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
    Ref,
    Sample,
    is_size,
    map_names,
)
from dgmcompile.ir.loops import UnknownLength, written_out
from dgmcompile.ir.names import unused
from dgmcompile.ir.size import Size

__all__ = ["STUDENT", "TEACHER", "Match", "Method", "Pair", "PairedSite", "pair_graphs"]


@dataclass(frozen=True, slots=True)
class PairedSite:
    """A variable that both models have, with its law in each; their references are to the pair's nodes."""

    name: str
    role: Literal["latent", "target"]
    teacher: Sample
    student: Sample


class Pair(Graph):
    """Two graphs in one.

    ``compared`` are the variables that both models have, in the teacher's order; ``laws`` those of all
    random variables, by their node in the pair; ``method`` says what is bound to what.
    """

    _FIELDS: ClassVar[tuple[str, ...]] = (*Graph._FIELDS, "compared", "laws", "method")

    def __init__(
        self,
        nodes: Iterable[Node],
        *,
        compared: tuple[PairedSite, ...] = (),
        laws: Mapping[str, Sample] | None = None,
        method: Method = "surrogate",
        **rest: Any,
    ) -> None:
        super().__init__(nodes, **rest)
        self.compared = compared
        self.laws = dict(laws or {})
        self.method: Method = method


def pair_graphs(teacher: Graph, student: Graph, match: Match | None = None, method: Method = "surrogate") -> Pair:
    """The joint graph of two traced programs (DESIGN, section 1).

    Arguments are the same where they have the same name, or else the same position. A size that one
    model's guard fixes is that number in both. Two models may share parameters; the teacher then
    changes as the student is trained.

    Args:
        teacher, student: graphs whose sites are still samples.
        match: teacher's site -> student's site where the names differ, or None to leave a site unmatched.
        method: ``surrogate`` gives the student its own latents, made from the teacher's noise;
            ``local`` gives it the teacher's latents; ``marginalised`` is built like ``surrogate`` here,
            its terms sum the latents out.
    Errors:
        `CompileError` ``pair-mismatch`` with a row for each site or argument that does not fit, and
        ``pair-form`` for graphs whose latents are rewritten already, or whose steps are to be summed over and are not
        known, ``unknown-method`` for another method.
    """
    if method not in get_args(Method):
        raise CompileError(_unknown_method(method))
    if method == "marginalised":  # sums over the latents of all steps together
        teacher, student = map(_in_steps, (teacher, student))
    teacher = without_statistics(teacher)
    matching = with_shared_noise(teacher, in_step(teacher, student), match or {}, method)
    refuse_mismatches(matching, method)
    joint = _Joint(matching, method)
    nodes = [*joint.teacher_nodes(), *joint.student_nodes()]
    return Pair(
        nodes,
        name=teacher.name,
        outputs={node.name: node.name for node in nodes if node.site is not None},
        arguments=_arguments(teacher.arguments, student.arguments, matching.arguments),
        guards=joint.guards(),
        binding=_binding(teacher.binding, student.binding),
        warnings=tuple(
            dict.fromkeys((*matching.teacher.graph.warnings, *matching.student.graph.warnings, *lone_noises(matching)))
        ),
        compared=tuple(joint.paired(a, b) for a, b in matching.sites.items()),
        laws={law.name: law for law in joint.laws()},
        method=method,
    )


def _in_steps(graph: Graph) -> Graph:
    try:
        return written_out(graph)
    except UnknownLength as error:
        raise CompileError(_no_steps(graph, str(error))) from None


def _no_steps(graph: Graph, why: str) -> Diagnostic:
    return Diagnostic(
        code="pair-form",
        message=f"{graph.name!r} has a loop over whose latents this method would sum, step by step: {why}",
        help="take the graph that dgm.trace returns, not its text, or another method",
    )


def _unknown_method(method: str) -> Diagnostic:
    return Diagnostic(
        code="unknown-method",
        message=f"there is no method {method!r}",
        notes=(f"methods: {', '.join(get_args(Method))}",),
        help="choose one of these",
    )


class _Joint:
    """What each node of either model is called in the pair, and what its readers read."""

    def __init__(self, matching: Matching, method: Method) -> None:
        self._matching = matching
        self._left, self._right = matching.teacher, matching.student
        self._own = {name: _prefixed(self._left.graph[name], TEACHER) for name in self._left.graph.graph}
        noises = matching.shared_noises
        taken = set(self._own.values())
        self._students = {
            node.name: self._own[same]
            if (same := matching.shared.get(node.name) or noises.get(node.name))
            else _unused(_prefixed(node, STUDENT), taken)
            for node in self._right.graph
        }
        self._dropped = {*matching.shared, *noises}
        self._forced = {
            self._right.laws[b].name: self._own[self._left.laws[a].name]
            for a, b in matching.sites.items()
            if method == "local" or self._left.role(a) == "target"
        }
        self._fixed = self._fixed_sizes()

    def _fixed_sizes(self) -> dict[str, int]:
        """By the pair's names."""
        lone = {STUDENT + name: self._students[name] for name in self._right.graph.graph}
        return {lone.get(name, name): number for name, number in self._matching.fixed.items()}

    def _teacher(self, name: str) -> str:
        return self._own[name]

    def _student(self, name: str) -> str:
        """What a node of the student reads for ``name``: the teacher's value where it is bound to that."""
        return self._forced.get(name, self._students[name])

    def teacher_nodes(self) -> Iterator[Node]:
        for node in self._left.graph:
            yield self._renamed(node, self._teacher, self._own[node.name], TEACHER)

    def student_nodes(self) -> Iterator[Node]:
        for node in self._right.graph:
            if node.name not in self._dropped:
                yield self._renamed(node, self._student, self._students[node.name], STUDENT)

    def guards(self) -> tuple[Guard, ...]:
        """What either model takes as fixed."""
        theirs = (replace(g, expected=map_names(g.expected, self._student)) for g in self._matching.students_guards())
        found = list(self._left.graph.guards)
        found += [guard for guard in theirs if guard not in found]
        return tuple(found)

    def laws(self) -> Iterator[Sample]:
        """Every random variable, named as the node that holds its value."""
        for law in self._left.laws.values():
            yield self._law(law, self._teacher, TEACHER)
        for law in self._right.laws.values():
            yield self._law(law, self._student, STUDENT)

    def paired(self, a: str, b: str) -> PairedSite:
        """The teacher's site ``a`` and the student's site ``b``."""
        role: Literal["latent", "target"] = "target" if self._left.role(a) == "target" else "latent"
        ours = self._law(self._left.laws[a], self._teacher, TEACHER)
        return PairedSite(a, role, ours, self._law(self._right.laws[b], self._student, STUDENT))

    def _law(self, law: Sample, reads: Callable[[str], str], prefix: str) -> Sample:
        node = self._renamed(law, reads, prefix + law.name, prefix)
        assert isinstance(node, Sample)
        return node

    def _renamed(self, node: Node, reads: Callable[[str], str], name: str, prefix: str) -> Node:
        node = node.map_names(reads)
        node = replace(node if is_size(node) else node.map_leaves(self._with_fixed), name=name)
        if node.site is not None:
            node = replace(node, site=node.site.prefixed(prefix))
        if isinstance(node, Parameter):
            return replace(node, path=prefix + node.path)
        if isinstance(node, Call) and isinstance(node.target, str) and node.target.startswith("self."):
            return replace(node, target=f"self.{prefix}{node.target.removeprefix('self.')}")
        return node

    def _with_fixed(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return self._fixed.get(leaf.name, leaf)
        return leaf.substitute(self._fixed) if isinstance(leaf, Size) else leaf


def _prefixed(node: Node, prefix: str) -> str:
    """Inputs, sizes and noise belong to both models, everything else to one."""
    return node.name if isinstance(node, Input | Noise) or is_size(node) else prefix + node.name


def _unused(name: str, taken: set[str]) -> str:
    taken.add(unique := unused(name, taken))
    return unique


def _arguments(
    teacher: tuple[Argument, ...], student: tuple[Argument, ...], same: Mapping[str, str]
) -> tuple[Argument, ...]:
    """The teacher's, required where either model reads one."""
    needed = {same.get(argument.name.lstrip("*")) for argument in student if argument.required}
    return tuple(replace(a, required=a.required or a.name.lstrip("*") in needed) for a in teacher)


def _binding(teacher: Binding, student: Binding) -> Binding:
    sides = ((TEACHER, teacher), (STUDENT, student))
    return Binding(
        {prefix + path: tensor for prefix, side in sides for path, tensor in side.tensors.items()},
        {prefix + path: module for prefix, side in sides for path, module in side.modules.items()},
        draws=None if teacher.draws is None or student.draws is None else (),
    )
