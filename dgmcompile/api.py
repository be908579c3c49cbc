"""The public functions, and `DGM`: the graph with its picture and its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import pyro
import torch
from pyro import poutine
from torch import fx, nn

from dgmcompile import passes, pipeline
from dgmcompile.codegen.module import is_pair
from dgmcompile.codegen.pyro_program import pyro_program
from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.losses import LossOptions, overview
from dgmcompile.distill.pair import Match, Method, Pair, pair_graphs
from dgmcompile.family_checks import FamilyCheck, FamilyReport, check_family
from dgmcompile.frontends import trace as recording
from dgmcompile.frontends.arguments import Arguments
from dgmcompile.frontends.marks import site, target
from dgmcompile.frontends.modules import ModulePaths, model_of
from dgmcompile.frontends.state import UserState
from dgmcompile.full_reparam import FullReparam
from dgmcompile.ir.graph import Graph, Guard, Node
from dgmcompile.ir.loops import UnknownLength, written_out
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import parse as parse_text
from dgmcompile.registration import Registered, known_formulas, register, register_composition, register_divergence
from dgmcompile.replay import CheckReport, check
from dgmcompile.report import Report
from dgmcompile.viz.render import draw, mimebundle_of

__all__ = [
    "DGM",
    "CheckReport",
    "Distillation",
    "FamilyCheck",
    "FamilyReport",
    "FullReparam",
    "PairDGM",
    "Registered",
    "auxiliary",
    "check",
    "check_family",
    "compact",
    "compile",
    "pair",
    "parse",
    "register",
    "register_composition",
    "register_divergence",
    "semi_auxiliary",
    "site",
    "target",
    "to_fx",
    "to_pyro",
    "trace",
]


class DGM(Graph):
    """A deep directed graphical model; see `Graph`. ``original`` is the graph that was traced."""

    _FIELDS: ClassVar[tuple[str, ...]] = (*Graph._FIELDS, "original")

    def __init__(self, nodes: Iterable[Node], *, original: Graph | None = None, **rest: Any) -> None:
        super().__init__(nodes, **rest)
        self.original = original if original is not None else self

    def draw(self, path: str | Path, **options: Any) -> None:
        """Write the picture; SVG, PNG or DOT by the path's ending. Of a pair, with the terms of its loss."""
        draw(self._shown(), Path(path), **options)

    def report(self) -> Report:
        """Every site: family, noise law, transform, gradient, and why it was kept; ``str`` gives a table."""
        return Report.of(self, self.original)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return mimebundle_of(self, self._shown())

    def _shown(self) -> Graph:
        """What a picture is drawn of."""
        return self


class PairDGM(DGM, Pair):
    """Teacher and student in one graph; see `Pair`."""

    _FIELDS: ClassVar[tuple[str, ...]] = (*Pair._FIELDS, "original")

    def _shown(self) -> Graph:
        return overview(self)


def trace(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    targets: Any = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
    share_dropout: bool = False,
    roll: bool = False,
) -> DGM:
    """The graph of a program, recorded on example arguments; see `dgmcompile.frontends.trace.trace`.

    A program is Pyro's, or plain PyTorch: a function, a module, a `torch.fx.GraphModule`, an exported program.

    ``options``: site -> choices for it (`dgmcompile.passes.with_options`), which go before the model's own. ``names``:
    other names for the variables of plain PyTorch, or for what submodules return. ``share_dropout`` makes
    the dropout of plain PyTorch noise of the model. ``roll`` puts the steps of a loop of a program of Pyro's together:
    they are one body with sites called ``z_{t}``, and there may be more or fewer steps later on.
    """
    chosen: dict[str, Any] = {"names": names, "share_dropout": share_dropout, "roll": roll}
    traced = recording.trace(model, model_args, model_kwargs, targets, **chosen)
    graph = passes.with_options(traced, options or {})
    return DGM(graph, **{key: getattr(graph, key) for key in Graph._FIELDS})


def auxiliary(graph: DGM) -> DGM:
    """Every random variable as noise and a deterministic node of its name."""
    return cast(DGM, passes.auxiliary(graph))


def semi_auxiliary(graph: DGM, keep: Iterable[str] = (), options: Mapping[str, Mapping[str, Any]] | None = None) -> DGM:
    """Every latent as noise and a deterministic node; targets, and the sites in ``keep``, stay random.

    ``options`` chooses how single sites are written, as ``{"z": {"gradient": "straight_through"}}``; see
    `dgmcompile.passes.with_options`. A pair of the result knows these choices as well.
    """
    chosen = {**{name: {"keep": True} for name in keep}, **(options or {})}
    original = passes.with_options(graph.original, chosen)
    return cast(DGM, passes.semi_auxiliary(graph, options=chosen)).evolve(original=original)


def compact(graph: DGM) -> DGM:
    """Deterministic nodes substituted away, and whatever simplifies simplified; the same values, bit for bit."""
    return cast(DGM, passes.compact(graph))


def to_pyro(graph: DGM) -> Callable[..., Any]:
    """A Pyro program of any form of a model, for ``SVI``, ``NUTS``, ``Predictive``, ``render_model``; see ``.source``.

    It has the sites and plates of the model: a site that the form keeps random is a ``pyro.sample``, one that is
    rewritten is a ``pyro.deterministic`` of its noise, which are samples from laws without parameters, under the
    mask and the scale of their site. It takes the model's arguments. A target observes the argument that the model
    observed there; the others take their data by ``observations={site: value}``, or by ``poutine.condition``.

    A function, or a `PyroModule` that holds the model's own parameters and submodules, where it has any.

    Errors:
        `CompileError` ``no-text-for-law``, ``no-pyro-program``, ``module-not-emittable``.
    """
    if isinstance(graph, Pair) or is_pair(graph):
        raise CompileError(_no_pyro_program(graph))
    try:
        return pyro_program(written_out(graph), written_out(graph.original))
    except UnknownLength as error:
        raise CompileError(_no_pyro_steps(graph, str(error))) from None


def to_fx(graph: DGM) -> fx.GraphModule:
    """The model's calls as a `torch.fx.GraphModule`, for fx passes, drawers, `torch.export` and quantisation.

    ``module(*args, noise=noise)`` returns what the compiled model returns, from the noise that its ``sample_noise``
    draws; of a model that has none, ``module(*args)``. Parameters, buffers and submodules are the user's own; what
    the graph takes as fixed is asserted.

    Errors:
        `CompileError` ``no-fx-module`` for a teacher-student pair; ``no-emitted-draw``.
    """
    if isinstance(graph, Pair) or is_pair(graph):
        raise CompileError(_no_fx_module(graph))
    try:
        return pipeline.as_fx(written_out(graph))
    except UnknownLength as error:
        raise CompileError(_no_fx_steps(graph, str(error))) from None


_NO_STEPS = "{!r} has a loop whose steps cannot be written out: {}"


def _no_fx_steps(graph: Graph, why: str) -> Diagnostic:
    return Diagnostic(
        code="no-fx-module",
        message=_NO_STEPS.format(graph.name, why),
        help="take the graph that dgm.trace returns, not its text",
    )


def _no_pyro_steps(graph: Graph, why: str) -> Diagnostic:
    return Diagnostic(
        code="no-pyro-program",
        message=_NO_STEPS.format(graph.name, why),
        help="take the graph that dgm.trace returns, not its text",
    )


def _no_fx_module(graph: Graph) -> Diagnostic:
    return Diagnostic(
        code="no-fx-module",
        message=f"{graph.name!r} is a teacher-student pair, and no program",
        help="make an fx module of each by itself: dgm.to_fx(dgm.trace(student, args))",
    )


def _no_pyro_program(graph: Graph) -> Diagnostic:
    return Diagnostic(
        code="no-pyro-program",
        message=f"{graph.name!r} is a teacher-student pair, and no program",
        help="write each by itself: dgm.to_pyro(dgm.trace(student, args))",
    )


def parse(text: str) -> DGM:
    """The graph that ``str(graph)`` wrote; it has no weights."""
    graph = parse_text(text, known_formulas())
    return DGM(graph, **{key: getattr(graph, key) for key in Graph._FIELDS})


def pair(
    teacher: Callable[..., Any] | DGM,
    student: Callable[..., Any] | DGM,
    match: Match | None = None,
    method: Method = "surrogate",
    *,
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    targets: Any = None,
    share_dropout: bool = False,
    roll: bool = False,
) -> PairDGM:
    """Teacher and student on shared noise; see `pair_graphs`.

    Args:
        teacher, student: graphs, of which the traced form is taken, or programs, which are then traced on
            ``model_args``. The teacher is recorded in eval mode.
        share_dropout, roll: of programs; see `trace`. If dropout is shared, the teacher is recorded in the mode that it
            is in.
    """
    in_eval = not share_dropout  # in which there is no dropout that could be shared
    how = {"share_dropout": share_dropout, "roll": roll}
    left = _traced(teacher, model_args, model_kwargs, targets, eval_mode=in_eval, **how)
    right = _traced(student, model_args, model_kwargs, targets, **how)
    joint = pair_graphs(left, right, match, method)
    return PairDGM(joint, **{key: getattr(joint, key) for key in Pair._FIELDS})


def _traced(
    program: Callable[..., Any] | DGM,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    targets: Any,
    **options: Any,
) -> Graph:
    if isinstance(program, Graph):
        return program.original if isinstance(program, DGM) else program
    return recording.trace(program, args, kwargs, targets, **options)


def compile(graph: DGM, *, memory_format: torch.memory_format | None = None, **options: Any) -> nn.Module:
    """The module that runs the emitted code, whose text is its ``source``.

    Of a model: ``module(*args, noise=None)`` is a dict of every latent's and target's value, and
    ``module.sample_noise(*args, generator=None)`` a draw of its noise. Of a pair: the loss, whose
    ``forward`` returns ``total`` and the terms ``surrogate`` and ``latent`` by site; ``options`` are
    those of `LossOptions`. The module's parameters are the user's own; ``memory_format`` lays them out,
    as ``module.to(memory_format=...)`` does: ``torch.channels_last`` makes convolutions of images faster.
    A ``pyro.param`` is shared once the program has run and the store holds it; a program that never ran
    has none to share. A submodule that draws by itself (dropout in training mode) draws at every call.
    """
    if options and not isinstance(graph, Pair):
        raise TypeError(f"{', '.join(options)}: only a pair's loss has options")
    return pipeline.compiled(graph, LossOptions(**options) if isinstance(graph, Pair) else None, memory_format)


class Distillation:
    """The distillation loss in Pyro's idiom, as ``Trace_ELBO()(model, guide)``.

    ``Distillation(latent_weight=0.1)(teacher, student)`` is a module; it compiles at the first call, and
    again where a guard fails, as for a sequence of another length.

    Args:
        match, method: see `pair_graphs`.
        share_dropout, roll: see `trace`.
        options: see `LossOptions`.
    """

    def __init__(
        self,
        match: Match | None = None,
        method: Method = "surrogate",
        share_dropout: bool = False,
        roll: bool = False,
        **options: Any,
    ) -> None:
        self._match = match
        self._method: Method = method
        self._how = {"share_dropout": share_dropout, "roll": roll}
        self._options = LossOptions(**options)

    def __call__(self, teacher: Callable[..., Any], student: Callable[..., Any]) -> DistillationLoss:
        return DistillationLoss(self, teacher, student)

    def compiled(
        self, teacher: Callable[..., Any], student: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Guard, ...], nn.Module]:
        """The loss, recorded on these arguments, and for which others it holds."""
        joint = pair(
            teacher,
            student,
            self._match,
            self._method,
            model_args=args,
            model_kwargs=kwargs,
            **self._how,
        )
        return joint.guards, pipeline.compiled(joint, self._options)


class DistillationLoss(nn.Module):
    """``loss_fn(*args)`` is the scalar loss; ``loss_fn.terms(*args)`` has its parts.

    Its parameters are those of the student's module. A student that is a function keeps its own in Pyro's
    store, where they are from the first call on.
    """

    def __init__(self, options: Distillation, teacher: Callable[..., Any], student: Callable[..., Any]) -> None:
        super().__init__()
        self._distillation = options
        self._programs = model_of(teacher), model_of(student)  # in a tuple: they are no submodules of the loss
        self._losses: list[_Compiled] = []
        self.student = _module_of(self._programs[1])

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        total: torch.Tensor = self.terms(*args, **kwargs).total
        return total

    def terms(self, *args: Any, **kwargs: Any) -> Any:
        """``total``, ``surrogate`` and ``latent``; see `compile`."""
        arguments = Arguments(self._programs[0], args, kwargs)
        for compiled in self._losses:
            if compiled.holds(arguments):
                return compiled.run(*args, **kwargs)
        self._losses = [compiled for compiled in self._losses if _is_current(compiled.stored)]
        self._compile(args, kwargs)
        return self._losses[-1].run(*args, **kwargs)

    def _compile(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for program in self._programs:
            _initialise(program, args, kwargs)
        guards, loss = self._distillation.compiled(*self._programs, args, kwargs)
        own = dict(self.student.named_modules()) if self.student is not None else {}
        made = loss.get_submodule("student").named_modules()
        modes = [(module, own[path]) for path, module in made if path and path in own]
        self._losses.append(_Compiled(guards, loss, modes, _stored(loss)))


@dataclass(frozen=True)
class _Compiled:
    """A loss, for the arguments that ``guards`` allow.

    ``modes``: module of the loss, and the student's own, whose mode it takes. ``stored``: what it reads of Pyro's
    store.
    """

    guards: tuple[Guard, ...]
    loss: nn.Module
    modes: list[tuple[nn.Module, nn.Module]]
    stored: Mapping[str, torch.Tensor]

    def holds(self, arguments: Arguments) -> bool:
        return all(_holds(guard, arguments) for guard in self.guards) and _is_current(self.stored)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        for made, own in self.modes:
            made.training = own.training
        return self.loss(*args, **kwargs)


def _stored(loss: nn.Module) -> dict[str, torch.Tensor]:
    held = {tensor.data_ptr() for tensor in (*loss.parameters(), *loss.buffers())}
    return {name: value for name, value in pyro.get_param_store().named_parameters() if value.data_ptr() in held}


def _is_current(stored: Mapping[str, torch.Tensor]) -> bool:
    """Has nobody cleared or loaded the store since?"""
    now = dict(pyro.get_param_store().named_parameters())
    return all(now.get(name) is value for name, value in stored.items())


def _module_of(program: Callable[..., Any]) -> nn.Module | None:
    """The module that a program is, or whose method it is."""
    owner = getattr(program, "__self__", program)
    return owner if isinstance(owner, nn.Module) else None


def _initialise(program: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Run the program once, or each recording would make parameters of its own that the store never sees."""
    state = UserState()
    state.remember(ModulePaths(program).modules())
    with torch.random.fork_rng(), torch.no_grad(), poutine.block():
        program(*args, **kwargs)
    state.restore()


def _holds(guard: Guard, arguments: Arguments) -> bool:
    """Where two lengths have to agree, no other recording would help: the compiled form says so."""
    if guard.dim == "len":
        return guard.allows(arguments.lengths.get(guard.path))
    found = arguments.leaves.get(guard.path)
    if guard.dim is None or isinstance(guard.expected, Size):
        return guard.allows(found)
    if not isinstance(found, torch.Tensor):
        return False
    if guard.dim == "floating":
        return guard.allows(found.is_floating_point())
    if guard.dim == "rank":
        return guard.allows(found.dim())
    return guard.dim < found.dim() and guard.allows(found.shape[guard.dim])
