"""Is the compiled form the same program? Replay: the original, conditioned on what the compiled form drew.

Noise is drawn once; the compiled form turns it into values of all sites; the original program is run
with these values, and every site's parameters and log-probability are compared, and their gradients with respect
to the model's parameters and latents, at these values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from dgmcompile.frontends.arguments import Arguments, Path, SizeClass
from dgmcompile.frontends.modules import ModulePaths, model_of
from dgmcompile.frontends.state import UserState, preserved, seed_everything
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Graph, Input, Loop, Node, names_in
from dgmcompile.ir.loops import unrolled
from dgmcompile.replay.comparison import compared, computed, gradient_errors
from dgmcompile.replay.compiled import Compiled, Conditioned
from dgmcompile.replay.original import run_with
from dgmcompile.replay.plain import replay_plain
from dgmcompile.replay.report import TOLERANCES, CheckReport, SiteCheck

__all__ = ["TOLERANCES", "CheckReport", "SiteCheck", "check"]


def check(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    targets: Any = None,
    *,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    names: Mapping[str, str] | None = None,
    share_dropout: bool = False,
    roll: bool = False,
) -> CheckReport:
    """Replay ``model`` at other sizes than it was recorded at, where its sizes may differ.

    Args:
        model, model_args, model_kwargs, targets, names, share_dropout, roll: as in `trace`. Loops are replayed
            step by step, each with its own number.
        dtype: floating-point dtype to record and replay in; the program's own by default.
        seed: of the noise.
    Errors:
        `CompileError` as in `trace` and in the passes. Nothing of the user's is changed.
    """
    model = model_of(model)
    arguments = Arguments(model, model_args, model_kwargs or {})
    with preserved() as state, _full_precision(), _in_dtype(model, arguments, dtype) as arguments:
        _initialise(model, arguments, state)
        by_name = {name: arguments.by_name[name] for name in model_kwargs or {}}
        options: dict[str, Any] = {"names": names, "share_dropout": share_dropout, "roll": roll}
        graph = trace(model, tuple(arguments.args)[: len(model_args)], by_name, targets, **options)
        sizes = _other_sizes(graph, arguments)
        args, kwargs, _ = arguments.varied(sizes, shuffle=True)
        graph = _in_steps(graph, Arguments(model, tuple(args), kwargs))
        if graph.binding.draws is not None:
            found = replay_plain(model, args, kwargs, graph, seed)
            varied = {_words(c): n for c, n in sizes.items()}
            return CheckReport(
                graph.name, found.sites, varied, found.gradients, found.gradient_tolerance, found.not_compared
            )
        compiled = Compiled(graph, args, kwargs, seed)
        args, kwargs, _ = Arguments(model, tuple(args), kwargs).varied({})  # of which what is observed is overwritten
        random = {sample.site.name for sample in graph.samples if sample.site}
        with torch.no_grad():
            given = Conditioned(graph, args, kwargs, compiled.values, seed)
            original = run_with(model, args, kwargs, random, compiled.values, state, seed)
            sites = tuple(compared(sample, compiled, given, original) for sample in graph.samples)
            sites += tuple(computed(node, compiled, original) for node in graph if _is_deterministic(node))
        values = _leaves_of(graph, compiled.values)
        overwritten = Arguments(model, tuple(args), kwargs)  # with the sites' values in place of the data
        args, kwargs, _ = overwritten.varied({})
        again, kwargs_again, _ = overwritten.varied({})
        gradients, not_compared = gradient_errors(
            graph,
            values,
            lambda: Conditioned(graph, args, kwargs, values, seed),
            lambda: run_with(model, again, kwargs_again, random, values, state, seed),
        )
        told = [site.value if site.log_prob is None else site.log_prob for site in original.values()]
        double = any(value.dtype == torch.float64 for value in told)
    missing = [name for name in original if name not in {site.name for site in sites}]
    sites += tuple(SiteCheck(name, "", "", float("inf"), float("inf"), False, "(not in the graph)") for name in missing)
    tolerance = 10 * TOLERANCES[torch.float64 if double else torch.float32]
    return CheckReport(graph.name, sites, {_words(c): n for c, n in sizes.items()}, gradients, tolerance, not_compared)


def _initialise(model: Callable[..., Any], arguments: Arguments, state: UserState) -> None:
    """Run the program once, so that its parameters are the same ones from now on."""
    args, kwargs, _ = arguments.varied({})
    state.remember(ModulePaths(model).modules())
    seed_everything(0)
    with contextlib.suppress(Exception), poutine.block():  # `trace` runs it again, and says what is wrong
        model(*args, **kwargs)


def _in_steps(graph: Graph, arguments: Arguments) -> Graph:
    """Each step of its loops written out, as many as there are with these arguments."""
    lengths = [names_in(node.length) for node in graph if isinstance(node, Loop)]
    sizes = arguments.sizes_in(graph) if lengths else {}
    return unrolled(graph, {name: sizes[name] for names in lengths for name in names if name in sizes})


def _words(size_class: SizeClass) -> str:
    """``x.shape[0]``, or the name of a whole-number argument."""
    path, dim = size_class.first
    return ".".join(map(str, path)) + ("" if dim is None else f".shape[{dim}]")


def _other_sizes(graph: Graph, arguments: Arguments) -> dict[SizeClass, int]:
    """Another size for each class, where its guards allow one."""
    sized: set[Path] = {node.path for node in graph if isinstance(node, Input)}
    found: dict[SizeClass, int] = {}
    for c in arguments.size_classes():
        guards = [guard for guard in graph.guards if (guard.path, guard.dim) in c.members]
        others = (n for n in (c.size + 3, c.size + 1, c.size - 1) if n > 0 and all(g.allows(n) for g in guards))
        if any(path in sized for path, _ in c.members) and _moves(graph, c) and (other := next(others, None)):
            found[c] = other
    return found


def _moves(graph: Graph, size_class: SizeClass) -> bool:
    """Is it a size of the graph? One that nothing depends on may be left alone."""
    inputs = {node.path: node for node in graph if isinstance(node, Input)}
    for path, dim in size_class.members:
        node = inputs.get(path)
        if node is not None and (dim is None or not isinstance((node.shape or ())[dim], int)):
            return True
    return False


def _full_precision() -> AbstractContextManager[Any]:
    """Convolutions on a GPU round their factors to ten bits unless told otherwise."""
    if not torch.cuda.is_initialized():
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False)


@contextmanager
def _in_dtype(model: Callable[..., Any], arguments: Arguments, dtype: torch.dtype | None) -> Iterator[Arguments]:
    """The program's parameters, buffers, arguments and the tensors that it closes over in ``dtype`` while inside."""
    if dtype is None:
        yield arguments
        return
    paths = ModulePaths(model)
    modules = paths.modules()
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
    tensors += [*_store_tensors(), *paths.tensors()]
    floating = [(t, t.data) for t in dict.fromkeys(tensors) if t.is_floating_point()]
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        for tensor, data in floating:
            tensor.data = data.to(dtype)
        for module in modules:
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # which cuDNN wants in one piece
        yield arguments.to(dtype)
    finally:
        torch.set_default_dtype(default)
        for tensor, data in floating:
            tensor.data = data


def _store_tensors() -> Iterator[Tensor]:
    """The unconstrained values in Pyro's parameter store."""
    yield from pyro.get_param_store()._params.values()


def _leaves_of(graph: Graph, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values, of which the latents' carry gradients."""
    latents = {s.site.name for s in graph.samples if s.site and s.site.role == "latent"}
    return {
        name: value.detach().requires_grad_(name in latents and value.is_floating_point())
        for name, value in values.items()
    }


def _is_deterministic(node: Node) -> bool:
    return node.site is not None and node.site.role == "deterministic"
