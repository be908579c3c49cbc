"""A Pyro program and example arguments -> its graph: recorded several times, compared, named."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.arguments import Arguments, Path, SizeClass
from dgmcompile.frontends.distributions import ConstructorCalls
from dgmcompile.frontends.draws import DrawRecorder
from dgmcompile.frontends.libraries import is_library
from dgmcompile.frontends.lifting import Lifted, lifted
from dgmcompile.frontends.lifting.algebra import Known
from dgmcompile.frontends.merge import Difference, Run, compared, live, renamed
from dgmcompile.frontends.module_calls import ModuleCalls
from dgmcompile.frontends.modules import ModulePaths, is_standard, may_return_zeros, model_of, name_of
from dgmcompile.frontends.naming import named
from dgmcompile.frontends.outputs import with_drawn_results
from dgmcompile.frontends.plain_notes import notes_on
from dgmcompile.frontends.pyro import SiteRecorder, hidden_draws, with_roles
from dgmcompile.frontends.random_calls import DROPOUT_MODULES
from dgmcompile.frontends.record import KeptValues, Recorder
from dgmcompile.frontends.recording import Recording
from dgmcompile.frontends.rolling import rolled
from dgmcompile.frontends.samplers import ending_samplers, seen_variables
from dgmcompile.frontends.sizes import SizeFinder, shorter, size_name
from dgmcompile.frontends.source import forget_changed_files
from dgmcompile.frontends.stability import (
    refuse,
    refuse_difference,
    refuse_fixed,
    refuse_fresh,
    refuse_generators,
    refuse_other_sites,
)
from dgmcompile.frontends.state import UserState, foreign_states, preserved, seed_everything
from dgmcompile.frontends.submodules import collapse
from dgmcompile.frontends.variables import with_latents, with_names
from dgmcompile.ir.binding import Binding, Drawn, Submodule
from dgmcompile.ir.graph import (
    Call,
    Constant,
    Graph,
    Guard,
    Input,
    Node,
    Parameter,
    Ref,
    leaves,
    map_names,
    names_in,
    refs_in,
)
from dgmcompile.ir.size import Size
from dgmcompile.ir.torch_calls import is_pure

_MORE = 6
"""Recordings more of a program that draws from generators other than torch's, which may decide a branch."""


def trace(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    targets: Any = None,
    name: str | None = None,
    eval_mode: bool = False,
    names: Mapping[str, str] | None = None,
    share_dropout: bool = False,
    roll: bool = False,
) -> Graph:
    """The graph of a program; its parameters and modules are bound, nothing of the user's is changed.

    Args:
        model: a Pyro callable or `PyroModule`; a function or module of plain PyTorch, `torch.fx.GraphModule` included,
            which draws by torch's functions and distributions; or an `torch.export.ExportedProgram`.
        model_args, model_kwargs: example arguments. Every tensor among them is an input; their sizes
            may differ later, unless the program's structure depends on them (then the graph is guarded).
        targets: names of the target sites, or "all"; by default the observed ones, else those without
            stochastic children. Of plain PyTorch: what is returned.
        name: of the program; by default the callable's.
        eval_mode: record it with its modules in eval mode, as a teacher is.
        names: of a program of plain PyTorch, the name that a variable has by itself, or the path of a submodule, whose
            output is then a variable -> the name that it shall have.
        share_dropout: of a program of plain PyTorch, dropout is noise like other noise: drawn by ``sample_noise``, and
            shared by teacher and student where both have it in one shape. Otherwise it draws by itself, at every call.
        roll: put the steps of a loop together (`dgmcompile.frontends.rolling`).
    Errors:
        `CompileError` with every problem that was found.
    """
    model = model_of(model)
    arguments = Arguments(model, model_args, model_kwargs or {})
    forget_changed_files()
    with preserved() as state:
        program = _Program(model, arguments, state, eval_mode, names or {}, share_dropout, roll)
        graph = program.graph(targets)
    return graph.evolve(name=name or name_of(model))


class _Program:
    """The user's program under recording."""

    def __init__(
        self,
        model: Callable[..., Any],
        arguments: Arguments,
        state: UserState,
        eval_mode: bool,
        names: Mapping[str, str],
        share_dropout: bool,
        roll: bool,
    ) -> None:
        self._roll = roll
        self._names = names
        self._share_dropout = share_dropout
        self._called: set[str] = set()
        self._is_pyros = False
        """Has it a site of Pyro's? Then what it draws otherwise is no variable."""
        self._model = model
        self._arguments = arguments
        self._state = state
        self._paths = ModulePaths(model)
        for leaf in arguments.leaves.values():
            if isinstance(leaf, nn.Module):
                self._paths.of_module(leaf)
        state.remember(self._paths.modules())
        self._generators = self._paths.generators()
        state.remember_generators(self._generators.values())
        if eval_mode:
            for module in self._paths.modules():
                with contextlib.suppress(NotImplementedError):  # an exported program stays in the mode of its export
                    module.eval()
        self._device = _device(arguments, self._paths)
        self._kept: KeptValues = {}

    def graph(self, targets: Any) -> Graph:
        first = self._record({}, seed=0, first=True)  # parameters and lazy modules are initialised by the first run
        if sizes := shorter(first, self._arguments.size_classes()):
            again = self._record({}, seed=1)
            refuse(again, lambda code: code != "kept-value")
            refuse_other_sites(first, again)
            own, self._arguments = self._arguments, self._arguments.at(sizes)
            with contextlib.suppress(CompileError):
                if (graph := self._graph(self._record({}, seed=2, first=True), targets, (own, again))) is not None:
                    return graph
            self._arguments = own
        graph = self._graph(first, targets)
        assert graph is not None
        return graph

    def _graph(self, first: Run, targets: Any, longer: tuple[Arguments, Run] | None = None) -> Graph | None:
        """
        Args:
            first: a recording, made before all others.
            longer: other arguments, and what was recorded of them. None is returned if the graph is another one there.
        """
        base = self._record({}, seed=1, base=True)
        refuse(base, lambda code: code != "kept-value")
        refuse_other_sites(first, base)
        refuse(base)
        refuse(first, lambda code: code == "unrecorded-tensor")
        for seed in range(2, 3 + (_MORE if base.recording.generators else 0)):
            with _other_weights(base):
                again = self._record({}, seed, shuffle=True)
            refuse(again)  # what happens by chance, as a draw that only some values need
            refuse_fixed(base, again)
            refuse_fresh(base, again)
            refuse_difference(compared(base, again), base, again)
        refuse_generators(base)
        finder = SizeFinder(base, self._arguments.size_classes(), lambda sizes: self._record(sizes, seed=1))
        sized = finder.found()
        if longer is not None:
            arguments, run = longer
            sizes = arguments.sizes_of(self._arguments.size_classes())
            if sizes is None or not finder.foretells(run, sizes):
                return None
        recovered = self._lifted(sized.nodes, base.recording) if base.recording.is_plain else None
        base.recording.around.update(recovered.around(base.recording.around) if recovered else {})
        nodes = (
            with_latents(with_drawn_results(recovered.nodes, base.recording), base.recording)
            if recovered
            else sized.nodes
        )
        names = {name: new for name, new in self._names.items() if name not in self._called}
        nodes = with_names(nodes, names)
        guards = [Guard(path, None, value, "it is a plain Python value") for path, value in self._fixed().items()]
        guards += self._lengths(base)
        draws = recovered.draws(base.recording.draws) if recovered else None
        graph = self._built(base.recording, nodes, sized.classes, guards + sized.guards, draws)
        graph = graph.evolve(with_roles(list(graph), targets))
        observed = any(node.site is not None and node.site.role == "target" for node in nodes)
        chosen = [] if observed or targets is not None else [refusals.chosen_targets(graph.targets)]
        told = [*notes_on(graph, recovered, base)] if recovered else []
        told += [refusals.written_out(kept.steps, kept.reason, kept.location) for kept in base.recording.written_out]
        return graph.evolve(warnings=(*base.recording.warnings, *self._mode_warnings(base), *chosen, *told))

    def _lifted(self, nodes: Sequence[Node], recording: Recording) -> Lifted:
        def has_zeros(node: Node) -> bool:
            if node.name in recording.zeros:
                return True
            match node:
                case Parameter(path=path):
                    return bool((recording.tensors[path].detach() == 0).any())
                case Input(path=path) if path in self._arguments.tensors:
                    return bool((self._arguments.tensors[path].detach() == 0).any())
                case Constant(value=value):
                    return 0 in leaves(value)
                case Call():
                    module = recording.modules.get(node.target_name.removeprefix("self."))
                    return module is not None and may_return_zeros(module)
                case _:
                    return False

        def fixed(node: Node) -> Tensor | None:
            if not isinstance(node, Parameter) or node.trainable:
                return None
            return recording.tensors[node.path].detach()

        return lifted(nodes, recording.variables, recording.weak_names, recording.around, Known(has_zeros, fixed))

    def _mode_warnings(self, base: Run) -> list[Diagnostic]:
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
        longer, shorter = sorted((base, other), key=lambda run: -len(run.nodes))
        found = compared(longer, shorter)
        if isinstance(found, dict) and not found:
            return []
        node = longer.nodes[min(index for index, _ in found)] if isinstance(found, dict) else found.node
        mode = "train" if modes[0][1] else "eval"
        return [refusals.frozen_mode(mode, node.location if node else None)]

    def _lengths(self, base: Run) -> list[Guard]:
        """Lists and dicts among the arguments, of which the program would do something with one element more."""
        return [
            Guard(path, "len", length, "the program depends on how many there are")
            for path, length in self._arguments.lengths.items()
            if self._reads_more(base, path)
        ]

    def _reads_more(self, base: Run, longer: Path) -> bool:
        try:
            found = compared(base, self._record({}, seed=1, longer=longer))
        except CompileError:
            return True
        return isinstance(found, Difference) or bool(found)

    def _record(
        self,
        sizes: Mapping[SizeClass, int],
        seed: int,
        shuffle: bool = False,
        first: bool = False,
        base: bool = False,
        longer: Path | None = None,
    ) -> Run:
        args, kwargs, leaves = self._arguments.varied(sizes, shuffle, longer)
        self._paths.begin_recording()
        recorder = Recorder(self._paths, self._device, self._state.remember_tensor, self._kept)
        for path, leaf in leaves.items():
            if isinstance(leaf, Tensor):
                _add_input(recorder, path, leaf)
        calls = ConstructorCalls(recorder)
        seed_everything(seed)
        generators = foreign_states(self._generators)
        try:
            modules = ModuleCalls(recorder, DROPOUT_MODULES if self._share_dropout else (), self._names)
            sites = SiteRecorder(recorder, calls)
            draws = DrawRecorder(recorder, modules, calls, self._names, self._share_dropout)
            unseen = recorder.unseen_calls() if first else nullcontext()
            drawing = nullcontext() if self._is_pyros else draws.watching()
            libraries = (torch.enable_grad(), ending_samplers(), seen_variables())
            pyros = (calls.watched(), sites, hidden_draws(sites.hidden))
            with contextlib.ExitStack() as watched:
                for context in (*libraries, *pyros, drawing, modules.watched(), unseen, recorder):
                    watched.enter_context(context)
                result = self._model(*args, **kwargs)
                if not sites.met:
                    draws.finish(result)
            self._finish(recorder, sites, draws)
            if base and recorder.recording.is_plain:
                recorder.recording.zeros = recorder.zeros()
        except CompileError:
            raise
        except (Exception, SystemExit) as error:
            if recorder.recording.errors:  # what was refused before is why it raises now
                raise CompileError(*recorder.recording.errors) from error
            raise _program_raised(error) from error
        recorder.judge_watched()
        if first:
            self._kept = recorder.random_values()
        self._state.remember(self._paths.modules())
        after = foreign_states(self._generators)
        recorder.recording.generators = tuple(name for name in after if after[name] != generators[name])
        return self._run(recorder.recording)

    def _run(self, recording: Recording) -> Run:
        flat = live(recording.nodes, recording)
        if not self._roll or recording.is_plain:
            return Run(recording, flat, flat)
        called = Binding(modules={path: Submodule(module) for path, module in recording.modules.items()})
        loops = rolled(recording.nodes, recording.hints, partial(is_pure, binding=called))
        recording.hints = loops.hints
        recording.written_out = loops.kept
        return Run(recording, live(loops.nodes, recording), flat)

    def _finish(self, recorder: Recorder, sites: SiteRecorder, draws: DrawRecorder) -> None:
        """A program that asks Pyro for nothing is one of plain PyTorch: its targets are what it marks, or returns."""
        if sites.met:
            self._is_pyros = True
            recorder.recording.poison.update(recorder.recording.strays)
        else:
            recorder.recording.is_plain = True
            self._called |= draws.named
            recorder.recording.warnings += recorder.recording.warnings_if_plain

    def _fixed(self) -> dict[Path, Any]:
        return {p: v for p, v in self._arguments.literals.items() if isinstance(v, bool | int | float | str | None)}

    # -- the graph --------------------------------------------------------------------------------------------

    def _built(
        self,
        recording: Recording,
        nodes: list[Node],
        classes: list[SizeClass],
        guards: list[Guard],
        draws: list[Drawn | None] | None,
    ) -> Graph:
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
        needed = _needed(renamed(collapsed.nodes, names.__getitem__))
        return Graph(
            needed,
            arguments=self._arguments.arguments(classes),
            guards=(*guards, *_kinds(needed, recording.asks_dtype)),
            binding=Binding(
                tensors,
                {p: m for p, m in collapsed.modules.items() if p in used},
                {p: replace(c, value=names.get(c.value or "")) for p, c in recording.constrained.items()},
                _data(recording, inputs),
                None if draws is None else tuple(one and one.renamed(names.__getitem__) for one in draws),
                tuple(self._names.get(name, name) for name in recording.results),
                self._share_dropout,
                {names[size_name(c)]: c.size for c in classes if size_name(c) in names},
            ),
        )


def _data(recording: Recording, inputs: Mapping[Path, Input]) -> dict[str, Path]:
    """Which argument each site observes, where it is an argument as it was given."""
    paths = {node.name: path for path, node in inputs.items()}
    return {site: paths[name] for site, name in recording.observed.items() if name in paths}


def _kinds(nodes: Sequence[Node], asks_dtype: bool) -> Iterator[Guard]:
    """How many dims a tensor has that is read, and whether its numbers are real where the program asks for a dtype."""
    read = {name for node in nodes for name in node.inputs}
    for node in nodes:
        if isinstance(node, Input) and node.name in read and node.shape is not None and node.dtype is not None:
            yield Guard(node.path, "rank", len(node.shape), "it was recorded so")
            if asks_dtype:
                yield Guard(node.path, "floating", node.dtype.is_floating_point, "the program asks for its dtype")


def _equalities(classes: Sequence[SizeClass], nodes: Sequence[Node]) -> list[Guard]:
    """What was of one length while recording has to be so again: the program may have compared them."""
    sized = {name for node in nodes for name in names_in((node.arguments, node.shape or ()))}
    return [
        Guard(path, dim, Size.symbol(size_name(size_class)), "they were of one length when it was recorded")
        for size_class in classes
        if size_name(size_class) in sized
        for path, dim in size_class.members
        if (path, dim) != size_class.first
    ]


def _needed(nodes: list[Node]) -> list[Node]:
    """Without parameters and sizes that only calls inside whole submodules read."""
    live = Graph(nodes).live()
    return [node for node in nodes if node.name in live]


def _add_input(recorder: Recorder, path: Path, leaf: Tensor) -> None:
    if leaf.layout != torch.strided:
        raise CompileError(refusals.layout(f"argument {path[0]!r} is", None))
    node = Input(name=recorder.fresh_name(), path=path, shape=tuple(leaf.shape), dtype=leaf.dtype)
    recorder.add(node, "", leaf)
    recorder.recording.origin[node.name] = f"input {'.'.join(map(str, path))!r}"


def _size_node(size_class: SizeClass, inputs: Mapping[Path, Input], hints: dict[str, str]) -> Node:
    path, dim = size_class.first
    name = size_name(size_class)
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


@contextmanager
def _other_weights(run: Run) -> Iterator[None]:
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
