"""Which site, argument and size of the student stands for which of the teacher's, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import product
from typing import Any, Literal

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.ir.graph import Arg, Call, Graph, Guard, Input, Loop, Node, Noise, Part, Ref, Sample, is_size, map_arg
from dgmcompile.ir.size import Size
from dgmcompile.passes.auxiliary import auxiliary, variants_of, with_options
from dgmcompile.passes.canonicalize import canonicalize

Method = Literal["surrogate", "local", "marginalised"]
Match = Mapping[str, str | None]
Row = tuple[str, str, str]
Place = tuple[tuple[str | int, ...], Part | None]
"""A leaf of the arguments and its dim, as in `Guard`; None for a whole number."""

TEACHER, STUDENT = "teacher.", "student."

_COUNTED_BY_PARAMETER = frozenset({"Categorical", "OneHotCategorical"})
"""Families whose value does not show how many values there are."""


@dataclass(frozen=True)
class Side:
    """One model: its laws by site, in canonical parameters, and its graph with every site as noise and a call.

    ``raw`` is the noise that is none of a site's, by its name.
    """

    laws: Mapping[str, Sample]
    graph: Graph
    raw: Mapping[str, Noise]

    @classmethod
    def of(cls, graph: Graph) -> Side:
        """
        Errors:
            `CompileError` ``pair-form`` where a latent is no random variable any more; those of `auxiliary`.
        """
        if rewritten := [node for node in graph if _is_rewritten(node)]:
            raise CompileError(_no_traced_graph(graph, rewritten[0]))
        drawn = graph.evolve(replace(node, kept=False) if isinstance(node, Sample) else node for node in graph)
        canonical = canonicalize(drawn)
        laws = {sample.site.name: sample for sample in canonical.samples if sample.site}
        return cls(laws, auxiliary(canonical), {node.name: node for node in graph if isinstance(node, Noise)})

    def role(self, site: str) -> str:
        """``latent`` or ``target``."""
        found = self.laws[site].site
        assert found is not None
        return found.role

    def noises(self, site: str) -> tuple[Noise, ...]:
        """The noise that the site is made from, in the order that its formula takes it."""
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

    def targets_before(self, site: str) -> set[str]:
        """The targets on which the law of ``site`` depends, through any number of latents and calls."""
        names = {law.name: name for name, law in self.laws.items() if self.role(name) == "target"}
        return {names[name] for name in self.graph.ancestors(self.laws[site].inputs) if name in names}


def _is_rewritten(node: Node) -> bool:
    return node.site is not None and node.site.role != "deterministic" and not isinstance(node, Sample)


def _no_traced_graph(graph: Graph, node: Node) -> Diagnostic:
    return Diagnostic(
        code="pair-form",
        message=f"site {node.site.name if node.site else node.name!r} of {graph.name!r} is no random variable any more",
        location=node.location,
        notes=("a pair is made of traced graphs: it rewrites both models itself, on the same noise",),
        help="pass what dgm.trace returned, or the programs themselves",
    )


@dataclass(frozen=True)
class Matching:
    """The two models side by side.

    Args:
        sites: teacher's site -> student's site.
        arguments: student's argument -> teacher's.
        shared: student's input or size node -> the teacher's of the same meaning.
        fixed: size node (of the teacher, or the student's own) -> the number that a guard of either model holds it to.
    """

    teacher: Side
    student: Side
    sites: Mapping[str, str]
    arguments: Mapping[str, str]
    shared: Mapping[str, str]
    fixed: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, teacher: Side, student: Side, match: Match) -> Matching:
        """
        Errors:
            `CompileError` ``pair-mismatch`` for names in ``match`` that are none, or that stand there twice.
        """
        arguments = _arguments(teacher.graph, student.graph)
        found = cls(teacher, student, _sites(teacher, student, match), arguments, {})
        found = replace(found, shared=_shared(found))
        return replace(found, fixed=dict(_fixed(found)))

    def are_in_step(self, loop: Loop) -> bool:
        """Has the teacher a loop of this name and length?"""
        loops = (node for node in self.teacher.graph if isinstance(node, Loop) and node.name == loop.name)
        return [(ours.length, ours.around) for ours in loops] == [self.theirs((loop.length, loop.around))]

    def students_guards(self) -> tuple[Guard, ...]:
        """What the student takes as fixed, in the teacher's arguments; sizes are by the student's names."""
        return tuple(replace(g, path=self.on_teachers_arguments(g.path)) for g in self.student.graph.guards)

    def on_teachers_arguments(self, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The same leaf of the arguments, as the teacher calls it."""
        return (self.arguments.get(str(path[0]), path[0]), *path[1:]) if path else path

    def ours(self, arg: Arg) -> Arg:
        """An argument or shape of the teacher's, to be compared: fixed sizes are numbers."""
        return map_arg(arg, self.with_fixed_sizes)

    def theirs(self, arg: Arg) -> Arg:
        """An argument or shape of the student's, to be compared: by the teacher's names."""

        def leaf(value: Any) -> Any:
            return self.with_fixed_sizes(value.rename(self._size) if isinstance(value, Size) else value)

        return map_arg(arg, leaf)

    def with_fixed_sizes(self, leaf: Any) -> Any:
        """A leaf of an argument, its sizes by the pair's names, where guards know their numbers."""
        if isinstance(leaf, Ref):
            return self.fixed.get(leaf.name, leaf)
        return leaf.substitute(self.fixed) if isinstance(leaf, Size) else leaf

    def _size(self, name: str) -> str:
        return self.shared.get(name, STUDENT + name)

    def signature(self, site: str) -> list[Any]:
        """Law, shape and dtype of each noise that the teacher's site is made from."""
        return [(n.law, self.ours(n.shape), n.dtype) for n in self.teacher.noises(site)]

    @cached_property
    def shared_noises(self) -> Mapping[str, str]:
        """Student's noise -> the teacher's: of sites that both make from the same; raw noise of one name and type."""
        found = {
            theirs.name: ours.name
            for a, b in self.sites.items()
            if self.signature(a) == self.student_signature(b)
            for ours, theirs in zip(self.teacher.noises(a), self.student.noises(b), strict=True)
        }
        for name, theirs in self.student.raw.items():
            ours = self.teacher.raw.get(name)
            type_of_theirs = (theirs.law, self.theirs(theirs.shape), theirs.dtype)
            if ours is not None and (ours.law, self.ours(ours.shape), ours.dtype) == type_of_theirs:
                found[name] = name
        return found

    def student_signature(self, site: str) -> list[Any]:
        """The same of the student's site, by the teacher's sizes."""
        return [(n.law, self.theirs(n.shape), n.dtype) for n in self.student.noises(site)]


def lone_noises(matching: Matching) -> Iterator[Diagnostic]:
    """Of raw noise that one model reads and the other has not, or has in another shape."""
    shared = matching.shared_noises
    lone = [("teacher", noise) for name, noise in matching.teacher.raw.items() if name not in shared.values()]
    lone += [("student", noise) for name, noise in matching.student.raw.items() if name not in shared]
    for model, noise in lone:
        yield Diagnostic(
            severity="warning",
            code="lone-noise",
            message=f"the noise {noise.name!r} of the {model}, {noise.law} {_shape(noise.shape)}, is not shared: the "
            "other model has none of this name, law and shape",
            location=noise.location,
            help="call it alike in both, by a variable of its own, and give it one shape",
        )


def with_shared_noise(teacher: Graph, student: Graph, match: Match, method: Method) -> Matching:
    """The two models side by side; a latent whose noises do not agree by a variant of its family of which they do.

    Such a site is named in the warnings of both graphs (``other-variant``). A latent that the student takes over from
    the teacher, as by another method than ``surrogate``, has to have the same values in both.
    """
    matching = Matching.of(Side.of(teacher), Side.of(student), match)
    for a, b in matching.sites.items():
        p, q = matching.teacher.laws[a], matching.student.laws[b]
        own = method == "surrogate" and matching.teacher.role(a) == "latent"
        if not own or matching.signature(a) == matching.student_signature(b):
            continue
        for ours, theirs in _variants(p.family, q.family):
            chosen = (_by(teacher, a, ours), _by(student, b, theirs))
            trial = Matching.of(Side.of(chosen[0]), Side.of(chosen[1]), match)
            if trial.signature(a) == trial.student_signature(b):
                teacher, student, matching = *chosen, trial
                break
    return matching


def _variants(p_family: str, q_family: str) -> Iterator[tuple[str | None, str | None]]:
    """Of both families, in the order in which they are tried: one of the same name first; None is the usual one."""
    if p_family == q_family:
        yield from ((variant, variant) for variant in variants_of(p_family))
    else:
        yield from product((None, *variants_of(p_family)), (None, *variants_of(q_family)))


def _by(graph: Graph, site: str, variant: str | None) -> Graph:
    if variant is None:
        return graph
    chosen = with_options(graph, {site: {"variant": variant}})
    location = next((node.location for node in graph.samples if node.site and node.site.name == site), None)
    warning = Diagnostic(
        code="other-variant",
        message=f"site {site!r} is drawn by the variant {variant!r} of its family: "
        "the noise of the usual one has another shape in the other model",
        location=location,
        help="nothing need be done; to choose it yourself, trace both models with "
        f"options={{{site!r}: {{'variant': {variant!r}}}}}",
        severity="warning",
    )
    return chosen.evolve(warnings=(*graph.warnings, warning))


def _no_such_site(name: str, side: Side) -> str:
    near = get_close_matches(name, side.laws, n=1) or (list(side.laws) if len(side.laws) <= _FEW else [])
    return f"no such site; there is {', '.join(map(repr, near))}" if near else "no such site"


_FEW = 5
"""So many sites are told where none is called alike."""


def _sites(teacher: Side, student: Side, match: Match) -> dict[str, str]:
    named = [b for b in match.values() if b is not None]
    rows: list[Row] = [(repr(a), _no_such_site(a, teacher), "") for a in match if a not in teacher.laws]
    rows += [(repr(b), "", _no_such_site(b, student)) for b in dict.fromkeys(named) if b not in student.laws]
    rows += [(repr(b), "", "matched twice") for b in dict.fromkeys(named) if named.count(b) > 1]
    if rows:
        raise mismatch(rows, None)
    wanted = {a: b for a in teacher.laws if (b := match.get(a, a)) is not None}
    return {a: b for a, b in wanted.items() if b in student.laws and (a in match or b not in named)}


def _arguments(teacher: Graph, student: Graph) -> dict[str, str]:
    """By name where the student has no name of its own, else by position."""
    ours, theirs = ([a.name.lstrip("*") for a in graph.arguments] for graph in (teacher, student))
    if set(theirs) <= set(ours) or set(ours) <= set(theirs):
        return {name: name for name in theirs if name in ours}
    return dict(zip(theirs, ours, strict=False))


def _shared(found: Matching) -> dict[str, str]:
    left, right = found.teacher.graph, found.student.graph
    inputs = {node.path: node.name for node in left if isinstance(node, Input)}
    shared: dict[str, str] = {}
    for node in right:
        if isinstance(node, Input) and str(node.path[0]) in found.arguments:
            path = found.on_teachers_arguments(node.path)
            if path in inputs:
                shared[node.name] = inputs[path]
    sizes = {place: name for name, places in _sizes(left).items() for place in places}
    for name, places in _sizes(right).items():
        translated: list[Place] = [(found.on_teachers_arguments(path), dim) for path, dim in places]
        shared.update((name, sizes[place]) for place in reversed(translated) if place in sizes)
    found = replace(found, shared=shared)
    for node in right:
        if isinstance(node, Loop) and found.are_in_step(node):
            shared[node.name] = node.name
    return shared


def _sizes(graph: Graph) -> dict[str, list[Place]]:
    """Size node -> what it measures, and what guards hold to the same length."""
    found: dict[str, list[Place]] = {}
    for node in graph:
        if is_size(node) and (place := _measured(node, graph)) is not None:
            agreeing: list[Place] = [
                (guard.path, guard.dim) for guard in graph.guards if guard.expected == Size.symbol(node.name)
            ]
            found[node.name] = [place, *agreeing]
    return found


def _fixed(found: Matching) -> Iterator[tuple[str, int]]:
    guards = (*found.teacher.graph.guards, *found.students_guards())
    known = {(g.path, g.dim): g.expected for g in guards if type(g.expected) is int}
    for name, places in _sizes(found.teacher.graph).items():
        yield from ((name, known[place]) for place in places if place in known)
    for name, places in _sizes(found.student.graph).items():
        translated = [(found.on_teachers_arguments(path), dim) for path, dim in places]
        name = found.shared.get(name, STUDENT + name)
        yield from ((name, known[place]) for place in translated if place in known)


def _measured(node: Node, graph: Graph) -> Place | None:
    """The argument and its dim that a size node measures."""
    match node:
        case Input():
            return node.path, None
        case Call(args=(Ref(name), int(dim))) if isinstance(source := graph[name], Input):
            return source.path, dim
        case _:
            return None


# what does not fit


def refuse_mismatches(matching: Matching, method: Method) -> None:
    """
    Errors:
        `CompileError` ``pair-mismatch``, with a row for each site and argument that does not fit.
    """
    rows = [
        *_other_arguments(matching),
        *_lone_targets(matching),
        *_other_laws(matching, method),
        *_other_order(matching),
    ]
    if rows:
        first = next((law.location for law in matching.student.laws.values()), None)
        raise mismatch(rows, first)


def mismatch(rows: list[Row], location: Location | None) -> CompileError:
    """The refusal of a pair, as a table with a column for each model."""
    return CompileError(
        Diagnostic(
            code="pair-mismatch",
            message="teacher and student do not fit together",
            location=location,
            notes=tuple(_table([("site", "teacher", "student"), *rows])),
            help="give both the same targets and shapes; match={'z': 'h'} (--match z=h) pairs sites of other names, "
            "match={'z': None} (--match z=) leaves one unmatched",
        )
    )


def _table(rows: list[Row]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, ours, theirs in rows:
        yield f"{name:{widths[0]}} | {ours:{widths[1]}} | {theirs}".rstrip()


def _other_arguments(matching: Matching) -> Iterator[Row]:
    for node in matching.student.graph:
        if isinstance(node, Input) and node.name not in matching.shared:
            kind = "number" if is_size(node) else "tensor " + _shape(node.shape)
            yield f"argument {'.'.join(map(str, node.path))!r}", "none", kind


def _lone_targets(matching: Matching) -> Iterator[Row]:
    for a, law in matching.teacher.laws.items():
        if a not in matching.sites and matching.teacher.role(a) == "target":
            yield repr(a), _law(law, matching.ours), "none"
    for b, law in matching.student.laws.items():
        if b not in matching.sites.values() and matching.student.role(b) == "target":
            yield repr(b), "none", _law(law, matching.theirs)


def _other_laws(matching: Matching, method: Method) -> Iterator[Row]:
    for a, b in matching.sites.items():
        p, q = matching.teacher.laws[a], matching.student.laws[b]
        name = repr(a) if a == b else f"{a!r} = {b!r}"
        roles = matching.teacher.role(a), matching.student.role(b)
        ours, theirs = _law(p, matching.ours), _law(q, matching.theirs)
        if roles[0] != roles[1]:
            yield name, f"{roles[0]} {ours}", f"{roles[1]} {theirs}"
        elif ours.split(" ", 1)[1] != theirs.split(" ", 1)[1]:
            yield name, ours, theirs
        elif len({_trials(p), _trials(q)} - {None}) > 1:
            yield name, f"{ours}, {_trials(p)} trials", f"{theirs}, {_trials(q)} trials"
        elif _other_noise(matching, a, b, method):
            signatures = matching.signature(a), matching.student_signature(b)
            yield name, f"{ours} from {_noises(signatures[0])}", f"{theirs} from {_noises(signatures[1])}"


def _other_noise(matching: Matching, a: str, b: str, method: Method) -> bool:
    """Does the student need noise that is not the teacher's? A target and a bound latent need none."""
    p, q = matching.teacher.laws[a], matching.student.laws[b]
    differs = matching.signature(a) != matching.student_signature(b)
    if p.family == q.family and p.family in _COUNTED_BY_PARAMETER:
        return differs
    return differs and method == "surrogate" and matching.teacher.role(a) == "latent"


def _trials(law: Sample) -> float | None:
    """How many a Binomial counts, where that is a plain number."""
    count = law.params.get("total_count")
    return count if law.family == "Binomial" and isinstance(count, int | float) else None


def _other_order(matching: Matching) -> Iterator[Row]:
    """A chain rule is compared term by term: both models must be able to draw the targets in one order."""
    own = {b: a for a, b in matching.sites.items()}
    ours = {a: matching.teacher.targets_before(a) for a in matching.sites if matching.teacher.role(a) == "target"}
    theirs = {a: {own[b] for b in matching.student.targets_before(matching.sites[a]) if b in own} for a in ours}
    left = dict.fromkeys(ours)
    while free := [a for a in left if left.keys().isdisjoint(ours[a] | theirs[a])]:
        for a in free:
            del left[a]
    for a in left:
        yield f"{a!r} is drawn after", _listed(ours[a] & left.keys()), _listed(theirs[a] & left.keys())


def _listed(sites: set[str]) -> str:
    return ", ".join(map(repr, sorted(sites))) or "none"


def _law(law: Sample, named: Any) -> str:
    dtype = str(law.dtype).removeprefix("torch.") if law.dtype is not None else ""
    return f"{law.family} {_shape(named(law.shape))} {dtype}".rstrip()


def _noises(signature: list[Any]) -> str:
    return ", ".join(f"{law} {_shape(shape)}" for law, shape, _ in signature) or "no noise"


def _shape(shape: Any) -> str:
    return "[" + ", ".join(map(str, shape or ())) + "]"
