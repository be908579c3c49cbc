"""A Pyro program and example arguments -> its graph: recorded several times, compared, named."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.arguments import Arguments, Path, SizeClass
from dgmcompile.frontends.distributions import ConstructorCalls
from dgmcompile.frontends.merge import Difference, Sizes, Variation, compare, live, renamed, solve
from dgmcompile.frontends.modules import ModulePaths, is_standard
from dgmcompile.frontends.naming import named
from dgmcompile.frontends.pyro import SiteRecorder, with_roles
from dgmcompile.frontends.record import Recorder, Recording
from dgmcompile.frontends.source import is_library
from dgmcompile.frontends.state import UserState, preserved, seed_everything
from dgmcompile.frontends.submodules import collapse
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Call, Graph, Guard, Input, Node, Ref, refs_in


def trace(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    targets: Any = None,
    name: str | None = None,
    eval_mode: bool = False,
) -> Graph:
    """The graph of a Pyro program; its parameters and modules are bound, nothing of the user's is changed.

    Args:
        model: a Pyro callable or `PyroModule`.
        model_args, model_kwargs: example arguments. Every tensor among them is an input; their sizes
            may differ later, unless the program's structure depends on them (then the graph is guarded).
        targets: names of the target sites, or "all"; by default the observed ones, else those without
            stochastic children.
        name: of the program; by default the callable's.
        eval_mode: record it with its modules in eval mode, as a teacher is.
    Errors:
        `CompileError` with every problem that was found.
    """
    arguments = Arguments(model, model_args, model_kwargs or {})
    with preserved() as state:
        program = _Program(model, arguments, state, eval_mode)
        graph = program.graph(targets)
    return graph.evolve(name=name or _name_of(model))


def _name_of(model: Any) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    owner = getattr(model, "__self__", None)
    return type(owner).__name__ if isinstance(owner, nn.Module) else getattr(model, "__name__", type(model).__name__)


@dataclass(frozen=True)
class _Run:
    """One recording, cut down to what is alive."""

    recording: Recording
    nodes: list[Node]


class _Program:
    """The user's program under recording."""

    def __init__(self, model: Callable[..., Any], arguments: Arguments, state: UserState, eval_mode: bool) -> None:
        self._model = model
        self._arguments = arguments
        self._state = state
        self._paths = ModulePaths(model)
        for leaf in arguments.leaves.values():
            if isinstance(leaf, nn.Module):
                self._paths.of_module(leaf)
        state.remember(self._paths.modules())
        if eval_mode:
            for module in self._paths.modules():
                module.eval()
        self._device = _device(arguments, self._paths)

    def graph(self, targets: Any) -> Graph:
        self._record({}, seed=0)  # parameters and lazy modules are initialised by the first run
        base = self._record({}, seed=1)
        _refuse(base)
        again = self._record({}, seed=2, shuffle=True)
        _refuse_difference(compare(base.nodes, again.nodes), base)
        nodes, sizes, guards = self._with_sizes(base)
        return self._built(base.recording, with_roles(nodes, targets), sizes, guards)

    def _record(self, sizes: Mapping[SizeClass, int], seed: int, shuffle: bool = False) -> _Run:
        args, kwargs, leaves = self._arguments.varied(sizes, shuffle)
        recorder = Recorder(self._paths, self._device)
        for path, leaf in leaves.items():
            if isinstance(leaf, Tensor):
                _add_input(recorder, path, leaf)
        calls = ConstructorCalls(recorder)
        seed_everything(seed)
        try:
            with calls.watched(), SiteRecorder(recorder, calls), recorder.recording_modules(), recorder:
                self._model(*args, **kwargs)
        except CompileError:
            raise
        except Exception as error:
            raise _program_raised(error) from error
        self._state.remember(self._paths.modules())
        return _Run(recorder.recording, live(recorder.recording))

    # -- sizes ------------------------------------------------------------------------------------------------

    def _with_sizes(self, base: _Run) -> tuple[list[Node], list[SizeClass], list[Guard]]:
        """Nodes with symbolic sizes, the classes that these are made of, and guards for the others."""
        dynamic: dict[SizeClass, Variation] = {}
        guards = [Guard(path, None, value, "it is a plain Python value") for path, value in self._fixed().items()]
        for size_class in self._arguments.size_classes():
            found = self._varied(base, {size_class: size_class.size + 1})
            if isinstance(found, str):
                guards += [Guard(path, dim, size_class.size, found) for path, dim in size_class.members]
            elif found:
                dynamic[size_class] = Variation((), found)
        while dynamic:
            classes = list(dynamic)
            solved = self._solved(base, classes, dynamic)
            if not isinstance(solved, str):
                return solved, classes, guards
            fixed = classes[-1]
            del dynamic[fixed]
            guards += [Guard(path, dim, fixed.size, solved) for path, dim in fixed.members]
        return base.nodes, [], guards

    def _fixed(self) -> dict[Path, Any]:
        return {p: v for p, v in self._arguments.literals.items() if isinstance(v, bool | float | str | None)}

    def _varied(self, base: _Run, sizes: Mapping[SizeClass, int]) -> Sizes | str:
        """What differs at other sizes, or why the program cannot be followed there."""
        try:
            run = self._record(sizes, seed=1)
        except CompileError as error:
            return f"the program fails at another size: {error.diagnostics[0].message}"
        if run.recording.errors:
            return "the program is refused at another size"
        found = compare(base.nodes, run.nodes)
        if isinstance(found, Difference):
            place = f" ({found.node.location})" if found.node and found.node.location else ""
            return f"the program's structure depends on it{place}"
        return found

    def _solved(self, base: _Run, classes: list[SizeClass], dynamic: dict[SizeClass, Variation]) -> list[Node] | str:
        sizes = tuple(c.size for c in classes)
        single = {
            k: Variation(tuple(c.size + (c is classes[k]) for c in classes), dynamic[classes[k]].found)
            for k in range(len(classes))
        }
        other = tuple(2 * size + 3 for size in sizes)
        joint = self._varied(base, dict(zip(classes, other, strict=True)))
        if isinstance(joint, str):
            return joint
        names = [_size_name(c) for c in classes]
        solved = solve(base.nodes, sizes, single, Variation(other, joint), names)
        if isinstance(solved, Node):
            return f"a number in the program depends on it in no simple way ({solved.location})"
        return solved

    # -- the graph --------------------------------------------------------------------------------------------

    def _built(self, recording: Recording, nodes: list[Node], classes: list[SizeClass], guards: list[Guard]) -> Graph:
        inputs = {node.path: node for node in nodes if isinstance(node, Input)}
        hints = dict(recording.hints)
        sizes = [_size_node(c, inputs, hints) for c in classes]
        rest = [node for node in nodes if not isinstance(node, Input)]
        tensors = dict(recording.tensors)
        for path, module in (*recording.modules.items(), *((s.path, s.module) for s in recording.spans)):
            tensors.update((f"{path}.{name}", t) for name, t in (*module.named_parameters(), *module.named_buffers()))
        standard = {path: Submodule(module) for path, module in recording.modules.items() if is_standard(module)}
        spans = _live_spans(recording, rest)
        collapsed = collapse([*inputs.values(), *sizes, *rest], spans, hints, Binding(tensors, standard))
        names = named(collapsed.nodes, collapsed.hints)
        used = {n.target[5:] for n in collapsed.nodes if isinstance(n, Call) and n.target_name.startswith("self.")}
        return Graph(
            _needed(renamed(collapsed.nodes, names.__getitem__)),
            arguments=self._arguments.arguments,
            guards=tuple(guards),
            binding=Binding(tensors, {p: m for p, m in collapsed.modules.items() if p in used}),
        )


def _needed(nodes: list[Node]) -> list[Node]:
    """Without parameters and sizes that only calls inside whole submodules read."""
    live = Graph(nodes).live()
    return [node for node in nodes if node.name in live]


def _add_input(recorder: Recorder, path: Path, leaf: Tensor) -> None:
    node = Input(name=recorder.fresh_name(), path=path, shape=tuple(leaf.shape), dtype=leaf.dtype)
    recorder.add(node, "", leaf)
    recorder.recording.origin[node.name] = f"input {'.'.join(map(str, path))!r}"


def _size_name(size_class: SizeClass) -> str:
    path, dim = size_class.first
    return "size:" + ".".join(map(str, path)) + ("" if dim is None else f":{dim}")


def _size_node(size_class: SizeClass, inputs: Mapping[Path, Input], hints: dict[str, str]) -> Node:
    path, dim = size_class.first
    name = _size_name(size_class)
    if dim is None:
        return Input(name=name, path=path)
    hints[name] = "batch" if dim == 0 else f"{'_'.join(map(str, path))}_size_{dim}"
    return Call(name=name, target="size", args=(Ref(inputs[path].name), dim))


def _live_spans(recording: Recording, nodes: list[Node]) -> list[Any]:
    """Spans of which some output is alive."""
    alive = {node.name for node in nodes}
    return [span for span in recording.spans if not alive.isdisjoint(refs_in(span.output))]


def _device(arguments: Arguments, paths: ModulePaths) -> torch.device:
    for tensor in arguments.tensors.values():
        return tensor.device
    for module in paths.modules():
        for parameter in module.parameters():
            return parameter.device
    return torch.get_default_device()


def _refuse(run: _Run) -> None:
    kept = [run.recording.poison[n.name] for n in run.nodes if n.name in run.recording.poison]
    if problems := [*run.recording.errors, *kept]:
        raise CompileError(*dict.fromkeys(problems))
    if not any(node.site is not None for node in run.nodes):
        raise CompileError(
            Diagnostic(
                code="no-sites",
                message="the model has no sample site",
                help="draw its random variables by pyro.sample",
            )
        )


def _refuse_difference(found: Sizes | Difference, base: _Run) -> None:
    if isinstance(found, dict) and not found:
        return
    node = base.nodes[min(index for index, _ in found)] if isinstance(found, dict) else found.node
    detail = "" if isinstance(found, dict) else f": {found.found}"
    raise CompileError(
        Diagnostic(
            code="unstable-recording",
            message=f"run again with other random values and inputs, the program does something else here{detail}",
            location=node.location if node else None,
            notes=("a value left torch (NumPy, Python state, another generator) and came back as a constant",),
            help="keep random and input values in tensors, and the model free of state that changes from call to call",
        )
    )


def _program_raised(error: Exception) -> CompileError:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_library(f.filename)]
    location = None
    if frames:
        last = frames[-1]
        location = Location(last.filename, last.lineno or 1, (last.colno or 0) + 1, (last.end_colno or 0) + 1)
    return CompileError(
        Diagnostic(
            code="program-raised",
            message=f"the model raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            location=location,
            help="the model must run on its example inputs",
        )
    )
