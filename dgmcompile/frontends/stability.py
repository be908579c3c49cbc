"""What is refused of a recording, and of two recordings of one program that are not the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.merge import Difference, Numbers, Run, changes
from dgmcompile.frontends.naming import strange_names
from dgmcompile.frontends.plain_notes import is_drawn
from dgmcompile.frontends.pyro import repeated_sites
from dgmcompile.ir.graph import Call, Graph, Input, Node, Noise, Parameter


def refuse(run: Run, counts: Callable[[str], bool] = lambda code: True) -> None:
    """What is wrong with the run, of the codes that count."""
    kept = [run.recording.poison[n.name] for n in run.flat if n.name in run.recording.poison]
    read = [path for node in run.flat for path, _ in _tensors_read(node, run)]
    kept += [run.recording.state_writes[path] for path in read if path in run.recording.state_writes]
    problems = _first_autocast([*run.recording.errors, *kept, *strange_names(run.flat), *repeated_sites(run.flat)])
    if problems := [problem for problem in problems if counts(problem.code)]:
        raise CompileError(*dict.fromkeys(problems))
    if not any(node.site is not None for node in run.nodes) or (run.recording.is_plain and _is_constant(run.nodes)):
        raise CompileError(
            Diagnostic(
                code="no-sites",
                message="the model has no sample site, and returns no tensor that depends on a draw or an argument",
                help="draw its random variables, by torch or by pyro.sample, and return what is made of them",
            )
        )


def _first_autocast(problems: list[Diagnostic]) -> list[Diagnostic]:
    """Of what runs under autocast the first call tells."""
    first = next((problem for problem in problems if problem.code == "autocast"), None)
    return [problem for problem in problems if problem.code != "autocast" or problem is first]


def _is_constant(nodes: Sequence[Node]) -> bool:
    """Does nothing that is returned depend on a draw, or on a tensor among the arguments?"""
    graph = Graph(nodes)
    made = graph.ancestors(graph.targets)
    return not any(isinstance(node, Input | Noise) or is_drawn(node) for node in nodes if node.name in made)


def refuse_other_sites(first: Run, second: Run) -> None:
    """Another call of the program has to draw the same sites."""
    before, after = (
        {n.site.name: n for n in run.flat if n.site is not None and n.name not in run.recording.hidden}
        for run in (first, second)
    )
    if before.keys() == after.keys():
        return
    name = next(name for name in (*after, *before) if (name in before) != (name in after))
    node = after.get(name) or before[name]
    raise CompileError(
        Diagnostic(
            code="unstable-sites",
            message=f"run again with other random values, the program {'has' if name in after else 'lacks'} "
            f"site {name!r}",
            location=node.location,
            notes=_generators_drawn(second),
            help="draw the same sites at every call: as many as may be needed, and a mask for those that count",
        )
    )


def refuse_fixed(base: Run, again: Run) -> None:
    """With another seed outside, every draw of a plain program has to be another one."""
    states = base.recording.generator_states
    if same := states.keys() & again.recording.generator_states.keys():
        raise CompileError(refusals.fixed_random(*states[same.pop()]))


def refuse_fresh(base: Run, again: Run) -> None:
    """Every call has to read the same parameters."""
    for one, two in zip(base.nodes, again.nodes, strict=False):
        ours, theirs = _parameters_read(one, base), _parameters_read(two, again)
        if len(ours) == len(theirs):
            for (path, parameter), (_, other) in zip(ours, theirs, strict=True):
                if parameter is not other:
                    readers = (node for node in base.nodes if one.name in node.inputs)
                    places = (node.location for node in (one, *readers) if node.location is not None)
                    raise CompileError(refusals.fresh_parameter(path, next(places, None)))


def _parameters_read(node: Node, run: Run) -> list[tuple[str, Tensor]]:
    """The trainable ones that a node is, or whose submodule it calls."""
    found = _tensors_read(node, run)
    if isinstance(node, Parameter):
        return found if node.trainable else []
    return [(path, tensor) for path, tensor in found if isinstance(tensor, nn.Parameter)]


def _tensors_read(node: Node, run: Run) -> list[tuple[str, Tensor]]:
    """The parameters and buffers that a node is, or those of the submodule that it calls."""
    if isinstance(node, Parameter):
        return [(node.path, run.recording.tensors[node.path])]
    path = node.target_name.removeprefix("self.") if isinstance(node, Call) else ""
    return [(f"{path}.{name}", tensor) for name, tensor in run.recording.held.get(path, {}).items()]


def refuse_difference(found: Numbers | Difference, base: Run, again: Run) -> None:
    if isinstance(found, dict) and not found:
        return
    refuse_other_sites(base, again)
    node = base.nodes[min(index for index, _ in found)] if isinstance(found, dict) else found.node
    detail = changes(base, found) if isinstance(found, dict) else found.found
    location = _place(node, base)
    if base.recording.generators:
        raise CompileError(refusals.foreign_random(base.recording.generators, detail, location))
    raise CompileError(refusals.unstable(detail, location))


def refuse_generators(base: Run) -> None:
    """What Python's or NumPy's random numbers decide now and then, no number of recordings shows for certain."""
    if base.recording.generators:
        raise CompileError(refusals.foreign_draws(base.recording.generators))


def _place(node: Node | None, run: Run) -> Location | None:
    """Where a node was made; of a constant, which is made nowhere, where it is first read."""
    if node is None or node.location is not None:
        return node and node.location
    return next((user.location for user in run.nodes if node.name in user.inputs), None)


def _generators_drawn(run: Run) -> tuple[str, ...]:
    return tuple(f"random numbers of {name} were drawn" for name in run.recording.generators)
