"""Is the compiled form the same program? Replay: the original, conditioned on what the compiled form drew.

Noise is drawn once; the compiled form turns it into values of all sites; the original program is run
with these values, and every site's parameters and log-probability are compared (DESIGN, section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from dgmcompile.codegen import compile_graph
from dgmcompile.frontends.arguments import Arguments, Path, SizeClass
from dgmcompile.frontends.distributions import ConstructorCalls, Law
from dgmcompile.frontends.modules import ModulePaths
from dgmcompile.frontends.state import UserState, preserved, seed_everything
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Graph, Input, Node, Ref, Sample, leaves, map_arg
from dgmcompile.passes import auxiliary, compact, semi_auxiliary

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative, by the dtype of what is compared."""


@dataclass(frozen=True)
class SiteCheck:
    """Largest relative errors of one site, and whether they are within the tolerance."""

    name: str
    family: str
    role: str
    parameter_error: float
    log_prob_error: float
    ok: bool
    note: str = ""


@dataclass(frozen=True)
class CheckReport:
    """``ok`` where every site of the program agrees; ``sizes`` are those it was replayed at."""

    name: str
    sites: tuple[SiteCheck, ...]
    sizes: Mapping[str, int]

    @property
    def ok(self) -> bool:
        return all(site.ok for site in self.sites)

    def __str__(self) -> str:
        width = max([4, *(len(site.name) for site in self.sites)])
        rows = [
            f"{site.name:{width}}  {site.family:24} {site.parameter_error:9.1e} {site.log_prob_error:9.1e}  "
            f"{'ok' if site.ok else 'DIFFERS ' + site.note}"
            for site in self.sites
        ]
        header = f"{'site':{width}}  {'family':24} {'parameter':>9} {'log-prob':>9}"
        return "\n".join([header, *rows])


def check(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    targets: Any = None,
    *,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> CheckReport:
    """Replay ``model`` at other sizes than it was recorded at, where its sizes may differ.

    Args:
        model, model_args, model_kwargs, targets: as in `trace`.
        dtype: floating-point dtype to record and replay in; the program's own by default.
        seed: of the noise.
    Errors:
        `CompileError` as in `trace` and in the passes. Nothing of the user's is changed.
    """
    arguments = Arguments(model, model_args, model_kwargs or {})
    with preserved() as state, _in_dtype(model, arguments, dtype) as arguments:
        graph = trace(model, tuple(arguments.args), arguments.kwargs, targets)
        sizes = _other_sizes(graph, arguments)
        args, kwargs, _ = arguments.varied(sizes, shuffle=True)
        compiled = _Compiled(graph, args, kwargs, seed)
        replayed = _replayed(model, args, kwargs, compiled.values, state, seed)
        sites = tuple(_compared(sample, compiled, replayed) for sample in graph.samples)
    missing = [name for name in replayed if name not in {site.name for site in sites}]
    sites += tuple(SiteCheck(name, "", "", float("inf"), float("inf"), False, "(not in the graph)") for name in missing)
    return CheckReport(graph.name, sites, {str(c.first): size for c, size in sizes.items()})


def _other_sizes(graph: Graph, arguments: Arguments) -> dict[SizeClass, int]:
    """Another size for each class that no guard fixes."""
    fixed = {(guard.path, guard.dim) for guard in graph.guards}
    sized: set[Path] = {node.path for node in graph if isinstance(node, Input)}
    return {
        c: c.size + 3
        for c in arguments.size_classes()
        if not fixed.intersection(c.members) and any(path in sized for path, _ in c.members) and _moves(graph, c)
    }


def _moves(graph: Graph, size_class: SizeClass) -> bool:
    """Is it a size of the graph? One that nothing depends on may be left alone."""
    inputs = {node.path: node for node in graph if isinstance(node, Input)}
    for path, dim in size_class.members:
        node = inputs.get(path)
        if node is not None and (dim is None or not isinstance((node.shape or ())[dim], int)):
            return True
    return False


@contextmanager
def _in_dtype(model: Callable[..., Any], arguments: Arguments, dtype: torch.dtype | None) -> Iterator[Arguments]:
    """The program's parameters, buffers and arguments in ``dtype`` while inside."""
    if dtype is None:
        yield arguments
        return
    modules = ModulePaths(model).modules()
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
    tensors += list(_store_tensors())
    floating = [(t, t.data) for t in dict.fromkeys(tensors) if t.is_floating_point()]
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        for tensor, data in floating:
            tensor.data = data.to(dtype)
        yield arguments.to(dtype)
    finally:
        torch.set_default_dtype(default)
        for tensor, data in floating:
            tensor.data = data


def _store_tensors() -> Iterator[Tensor]:
    """The unconstrained values in Pyro's parameter store."""
    yield from pyro.get_param_store()._params.values()


class _Compiled:
    """One draw of noise through the compact form, and each site's parameters along the way."""

    def __init__(self, graph: Graph, args: list[Any], kwargs: dict[str, Any], seed: int) -> None:
        wanted = {n.name: n.name for s in graph.samples for n in _read_by(s, graph)}
        semi = semi_auxiliary(graph.evolve(outputs={**wanted, **graph.outputs}))
        module = compile_graph(auxiliary(compact(semi)))
        plain = compile_graph(auxiliary(compact(semi_auxiliary(graph))))
        noise = module.sample_noise(*args, **kwargs, generator=torch.Generator().manual_seed(seed))  # type: ignore[operator]
        with torch.no_grad():
            seed_everything(seed)
            self._nodes = module(*args, **kwargs, noise=noise)
            seed_everything(seed)
            self.values: dict[str, Tensor] = plain(*args, **kwargs, noise=noise)

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, lambda leaf: self._nodes[leaf.name] if isinstance(leaf, Ref) else leaf)


def _read_by(sample: Sample, graph: Graph) -> Iterator[Node]:
    parts = (sample.params, [step.params for step in sample.transforms], sample.mask, sample.scale)
    for leaf in leaves([dict(p) if isinstance(p, Mapping) else p for p in parts]):
        if isinstance(leaf, Ref):
            yield graph[leaf.name]


@dataclass(frozen=True)
class _Replayed:
    """A site of the original program, at the compiled form's value."""

    law: Law
    log_prob: Tensor


class _Given:
    """Stands in for the recorder: values stay values."""

    in_constructor = 0

    def arg(self, value: Any) -> Any:
        return value


class _Replay(Messenger):
    """Gives every site the compiled form's value; observed tensors are overwritten, so that later reads agree."""

    def __init__(self, values: Mapping[str, Tensor], calls: ConstructorCalls, state: UserState) -> None:
        super().__init__()
        self._values, self._calls, self._state = values, calls, state
        self.sites: dict[str, _Replayed] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if type(msg["fn"]).__name__ == "_Subsample" or msg["infer"].get("_deterministic"):
            return
        if name not in self._values:
            raise KeyError(name)
        value = self._values[name]
        if msg["is_observed"] and isinstance(msg["value"], Tensor) and msg["value"].shape == value.shape:
            self._state.remember_tensor(msg["value"])
            with torch.no_grad():
                msg["value"].copy_(value)
        msg["value"], msg["done"] = value, True
        log_prob = scale_and_mask(msg["fn"].log_prob(value), msg["scale"], msg["mask"])
        self.sites[name] = _Replayed(self._calls.law(msg["fn"], None), log_prob)


def _replayed(
    model: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    values: Mapping[str, Tensor],
    state: UserState,
    seed: int,
) -> dict[str, _Replayed]:
    calls = ConstructorCalls(_Given())  # type: ignore[arg-type]
    paths = ModulePaths(model)
    state.remember(paths.modules())
    handler = _Replay(values, calls, state)
    seed_everything(seed)
    with torch.no_grad(), calls.watched(), handler:
        model(*args, **kwargs)
    return handler.sites


def _compared(sample: Sample, compiled: _Compiled, replayed: Mapping[str, _Replayed]) -> SiteCheck:
    assert sample.site is not None
    name, role = sample.site.name, sample.site.role
    if name not in replayed:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(not in the program)")
    original = replayed[name]
    ours = {key: compiled.value(value) for key, value in sample.params.items()}
    parameter_error = max([0.0, *(_error(ours[key], original.law.params.get(key)) for key in ours)])
    log_prob = _log_prob(sample, ours, compiled)
    log_prob_error = _error(log_prob, original.log_prob)
    tolerance = TOLERANCES.get(original.log_prob.dtype, 1e-5)
    ok = parameter_error <= tolerance and log_prob_error <= tolerance
    return SiteCheck(name, sample.family, role, parameter_error, log_prob_error, ok)


def _log_prob(sample: Sample, params: Mapping[str, Any], compiled: _Compiled) -> Tensor:
    """From the compiled parameters alone, with the site's wrappers put on again."""
    assert sample.site is not None
    value = compiled.values[sample.site.name]
    law: Any = getattr(dist, sample.family)(**params)
    steps = [
        _transform(step.name, {k: compiled.value(v) for k, v in step.params.items()}) for step in sample.transforms
    ]
    batch = value.shape[: value.dim() - sample.event_dim]
    if steps:
        law = dist.TransformedDistribution(law, steps)
    if (missing := sample.event_dim - law.event_dim) > 0:
        law = law.expand(value.shape[: value.dim() - law.event_dim]).to_event(missing)
    mask = compiled.value(sample.mask)
    return scale_and_mask(law.expand(batch).log_prob(value), compiled.value(sample.scale) or 1.0, mask)


def _transform(name: str, params: dict[str, Any]) -> Any:
    made = getattr(dist.transforms, name.removesuffix(".inv"))(**params)
    return made.inv if name.endswith(".inv") else made


def _error(ours: Any, theirs: Any) -> float:
    """Largest difference, relative to the largest value."""
    if theirs is None:
        return float("inf")
    if not isinstance(ours, Tensor) and not isinstance(theirs, Tensor):
        return 0.0 if ours == theirs else float("inf")
    a, b = torch.as_tensor(ours, dtype=torch.float64), torch.as_tensor(theirs, dtype=torch.float64)
    try:
        a, b = torch.broadcast_tensors(a, b)
    except RuntimeError:
        return float("inf")
    different = ~((a == b) | (a.isnan() & b.isnan()))
    if not different.any():
        return 0.0
    scale = b[b.isfinite()].abs().max().clamp(min=1.0) if b.isfinite().any() else torch.tensor(1.0)
    return float((a - b)[different].abs().max() / scale) if (a - b)[different].isfinite().all() else float("inf")
