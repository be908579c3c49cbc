"""A Pyro program and example arguments -> its graph: recorded several times, compared, named."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.arguments import Arguments, Path, SizeClass
from dgmcompile.frontends.distributions import ConstructorCalls
from dgmcompile.frontends.merge import Difference, Sizes, Unsolved, Variation, compare, live, renamed, solve
from dgmcompile.frontends.modules import ModulePaths, is_standard
from dgmcompile.frontends.naming import named
from dgmcompile.frontends.polynomials import grid
from dgmcompile.frontends.pyro import SiteRecorder, with_roles
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.recording import Recording
from dgmcompile.frontends.source import is_library
from dgmcompile.frontends.state import UserState, preserved, seed_everything
from dgmcompile.frontends.submodules import collapse
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Call, Graph, Guard, Input, Node, Parameter, Ref, map_names, names_in, refs_in
from dgmcompile.ir.size import Size

_DENSE = 2
"""So many sizes at once may enter a polynomial that is no simple one."""


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
        with _other_weights(base):
            again = self._record({}, seed=2, shuffle=True)
        _refuse_difference(_compared(base, again), base)
        nodes, sizes, guards = self._with_sizes(base)
        graph = self._built(base.recording, with_roles(nodes, targets), sizes, guards)
        observed = any(node.site is not None and node.site.role == "target" for node in nodes)
        chosen = [] if observed or targets is not None else [refusals.chosen_targets(graph.targets)]
        return graph.evolve(warnings=(*base.recording.warnings, *self._mode_warnings(base), *chosen))

    def _mode_warnings(self, base: _Run) -> list[Diagnostic]:
        """What the program would do with its modules in the other mode, if that is something else."""
        modules = self._paths.modules()
        if not modules:
            return []
        modes = [(module, module.training) for module in modules]
        try:
            for module, training in modes:
                module.training = not training
            other = self._record({}, seed=1)
        except CompileError:
            return []
        finally:
            for module, training in modes:
                module.training = training
        found = _compared(base, other)
        if isinstance(found, dict) and not found:
            return []
        node = base.nodes[min(index for index, _ in found)] if isinstance(found, dict) else found.node
        mode = "train" if modes[0][1] else "eval"
        return [refusals.frozen_mode(mode, node.location if node else None)]

    def _record(self, sizes: Mapping[SizeClass, int], seed: int, shuffle: bool = False) -> _Run:
        args, kwargs, leaves = self._arguments.varied(sizes, shuffle)
        self._paths.begin_recording()
        recorder = Recorder(self._paths, self._device, self._state.remember_tensor)
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
        except (Exception, SystemExit) as error:
            if recorder.recording.errors:  # what was refused before is why it raises now
                raise CompileError(*recorder.recording.errors) from error
            raise _program_raised(error) from error
        self._state.remember(self._paths.modules())
        return _Run(recorder.recording, live(recorder.recording))

    # -- sizes ------------------------------------------------------------------------------------------------

    def _with_sizes(self, base: _Run) -> tuple[list[Node], list[SizeClass], list[Guard]]:
        """Nodes with symbolic sizes, the classes that these are made of, and guards for the others."""
        dynamic: dict[SizeClass, Sizes] = {}
        guards = [Guard(path, None, value, "it is a plain Python value") for path, value in self._fixed().items()]
        for size_class in self._arguments.size_classes():
            found = self._varied(base, {size_class: size_class.size + 1})
            if isinstance(found, str):
                guards += [Guard(path, dim, size_class.size, found) for path, dim in size_class.members]
            elif found:
                dynamic[size_class] = found
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
        return {p: v for p, v in self._arguments.literals.items() if isinstance(v, bool | int | float | str | None)}

    def _varied(self, base: _Run, sizes: Mapping[SizeClass, int]) -> Sizes | str:
        """What differs at other sizes, or why the program cannot be followed there."""
        try:
            run = self._record(sizes, seed=1)
        except CompileError as error:
            return f"the program fails at another size: {error.diagnostics[0].message}"
        if run.recording.errors:
            return "the program is refused at another size"
        found = _compared(base, run)
        if isinstance(found, Difference):
            place = f" ({found.node.location})" if found.node and found.node.location else ""
            what = "a number in the program" if found.is_number else "the program's structure"
            return f"{what} depends on it{place}"
        return found

    def _solved(self, base: _Run, classes: list[SizeClass], dynamic: dict[SizeClass, Sizes]) -> list[Node] | str:
        sizes = tuple(c.size for c in classes)
        seen = [Variation(tuple(c.size + (c is varied) for c in classes), found) for varied, found in dynamic.items()]
        if isinstance(problem := self._extend(seen, base, classes, [tuple(2 * size + 3 for size in sizes)]), str):
            return problem
        names = [_size_name(c) for c in classes]
        solved = solve(base.nodes, sizes, seen, names)
        if isinstance(solved, Unsolved) and 0 < len(solved.classes) <= _DENSE:
            if isinstance(problem := self._extend(seen, base, classes, grid(sizes, solved.classes)), str):
                return problem
            solved = solve(base.nodes, sizes, seen, names, solved.classes)
        if isinstance(solved, Unsolved):
            return f"a number in the program depends on it in no simple way ({solved.node.location})"
        return solved

    def _extend(
        self, seen: list[Variation], base: _Run, classes: list[SizeClass], settings: list[tuple[int, ...]]
    ) -> str | None:
        for setting in settings:
            found = self._varied(base, dict(zip(classes, setting, strict=True)))
            if isinstance(found, str):
                return found
            seen.append(Variation(setting, found))
        return None

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
        guards = [*guards, *_equalities(classes, collapsed.nodes)]
        used = {n.target_name[5:] for n in collapsed.nodes if isinstance(n, Call) and n.target_name.startswith("self.")}
        guards = [replace(guard, expected=map_names(guard.expected, names.__getitem__)) for guard in guards]
        return Graph(
            _needed(renamed(collapsed.nodes, names.__getitem__)),
            arguments=self._arguments.arguments(classes),
            guards=tuple(guards),
            binding=Binding(tensors, {p: m for p, m in collapsed.modules.items() if p in used}),
        )


def _equalities(classes: Sequence[SizeClass], nodes: Sequence[Node]) -> list[Guard]:
    """What was of one length while recording, and is read, has to be so again."""
    sized = {name for node in nodes for name in names_in((node.arguments, node.shape or ()))}
    read = {name for node in nodes for name in refs_in(node.arguments)}
    inputs = {node.path for node in nodes if isinstance(node, Input) and (node.shape is None or node.name in read)}
    return [
        Guard(path, dim, Size.symbol(_size_name(size_class)), "they were of one length when it was recorded")
        for size_class in classes
        if _size_name(size_class) in sized
        for path, dim in size_class.members
        if (path, dim) != size_class.first and (path in inputs or dim is None)
    ]


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
    read = [n.path for n in run.nodes if isinstance(n, Parameter)]
    kept += [run.recording.state_writes[path] for path in read if path in run.recording.state_writes]
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


@contextmanager
def _other_weights(run: _Run) -> Iterator[None]:
    """Other values in every trainable parameter; autograd does not notice (see `Tensor.data`)."""
    read = [run.recording.tensors[n.path] for n in run.nodes if isinstance(n, Parameter) and n.trainable]
    held = [(tensor, tensor.detach().clone()) for tensor in read if tensor.is_floating_point()]
    try:
        for tensor, value in held:
            tensor.data.copy_(0.9 * value + 0.01)
        yield
    finally:
        for tensor, value in held:
            tensor.data.copy_(value)


def _compared(base: _Run, other: _Run) -> Sizes | Difference:
    """As `compare`; a tensor that the program does not own and that is another one counts as a difference."""
    found = compare(base.nodes, other.nodes)
    if isinstance(found, Difference):
        return found
    for node, again in zip(base.nodes, other.nodes, strict=True):
        if isinstance(node, Parameter) and isinstance(again, Parameter) and not node.trainable:
            one, two = base.recording.tensors[node.path], other.recording.tensors[again.path]
            if one is not two and not _equal(one, two):
                return Difference(node, "a tensor has other values")
    return found


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(((one == two) | ((one != one) & (two != two))).all())


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


def _program_raised(error: BaseException) -> CompileError:
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
