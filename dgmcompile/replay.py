"""Is the compiled form the same program? Replay: the original, conditioned on what the compiled form drew.

Noise is drawn once; the compiled form turns it into values of all sites; the original program is run
with these values, and every site's parameters and log-probability are compared, and their gradients with respect
to the model's parameters and latents, at these values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from dgmcompile.ir.graph import Argument, Graph, Input, Node, Ref, Sample, leaves, map_arg
from dgmcompile.ir.size import Size
from dgmcompile.passes import compact, lower, semi_auxiliary

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative, by the dtype of what is compared; gradients, which are sums over sites, may differ by ten times that."""


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
    """``ok`` where every site of the program agrees; ``sizes`` are those it was replayed at.

    ``gradients``: parameter path or latent -> the largest relative error of the gradient of the log-probabilities;
    ``not_compared`` says why there are none, where autograd refuses the original program.
    """

    name: str
    sites: tuple[SiteCheck, ...]
    sizes: Mapping[str, int]
    gradients: Mapping[str, float] = field(default_factory=dict)
    gradient_tolerance: float = 1e-4
    not_compared: str = ""

    @property
    def ok(self) -> bool:
        return all(site.ok for site in self.sites) and not self.wrong_gradients

    @property
    def wrong_gradients(self) -> tuple[str, ...]:
        """The parameters and latents whose gradients differ."""
        return tuple(name for name, error in self.gradients.items() if not error <= self.gradient_tolerance)

    def __str__(self) -> str:
        width = max([4, *(len(site.name) for site in self.sites)])
        rows = [
            f"{site.name:{width}}  {site.family:24} {site.parameter_error:9.1e} {site.log_prob_error:9.1e}  "
            f"{'ok' if site.ok else 'DIFFERS ' + site.note}"
            for site in self.sites
        ]
        header = f"{'site':{width}}  {'family':24} {'parameter':>9} {'log-prob':>9}"
        if self.gradients:
            worst = max(self.gradients.values())
            wrong = "".join(f"\n  DIFFERS {name}" for name in self.wrong_gradients)
            rows.append(f"gradients of {len(self.gradients)} parameters and latents: {worst:.1e}{wrong}")
        if self.not_compared:
            rows.append(f"gradients not compared: {self.not_compared}")
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
        _initialise(model, arguments, state)
        graph = trace(model, tuple(arguments.args), arguments.kwargs, targets)
        sizes = _other_sizes(graph, arguments)
        args, kwargs, _ = arguments.varied(sizes, shuffle=True)
        compiled = _Compiled(graph, args, kwargs, seed)
        random = {sample.site.name for sample in graph.samples if sample.site}
        with torch.no_grad():
            replayed = _replayed(model, args, kwargs, random, compiled.values, state, seed)
            sites = tuple(_compared(sample, compiled, replayed) for sample in graph.samples)
            sites += tuple(_computed(node, compiled, replayed) for node in graph if _is_deterministic(node))
        values = _leaves_of(graph, compiled.values)
        overwritten = Arguments(model, tuple(args), kwargs)  # with the sites' values in place of the data
        args, kwargs, _ = overwritten.varied({})
        conditioned = _Conditioned(graph, args, kwargs, values, seed)
        args, kwargs, _ = overwritten.varied({})
        gradients, not_compared = _gradient_errors(
            graph, conditioned, lambda: _replayed(model, args, kwargs, random, values, state, seed)
        )
        double = any(site.log_prob.dtype == torch.float64 for site in replayed.values() if site.log_prob is not None)
    missing = [name for name in replayed if name not in {site.name for site in sites}]
    sites += tuple(SiteCheck(name, "", "", float("inf"), float("inf"), False, "(not in the graph)") for name in missing)
    tolerance = 10 * TOLERANCES[torch.float64 if double else torch.float32]
    return CheckReport(graph.name, sites, {_words(c): n for c, n in sizes.items()}, gradients, tolerance, not_compared)


def _initialise(model: Callable[..., Any], arguments: Arguments, state: UserState) -> None:
    """Run the program once, so that its parameters are the same ones from now on."""
    args, kwargs, _ = arguments.varied({})
    state.remember(ModulePaths(model).modules())
    seed_everything(0)
    with contextlib.suppress(Exception):  # `trace` runs it again, and says what is wrong
        model(*args, **kwargs)


def _words(size_class: SizeClass) -> str:
    """``x.shape[0]``, or the name of a whole-number argument."""
    path, dim = size_class.first
    return ".".join(map(str, path)) + ("" if dim is None else f".shape[{dim}]")


def _other_sizes(graph: Graph, arguments: Arguments) -> dict[SizeClass, int]:
    """Another size for each class that no guard fixes."""
    fixed = {(guard.path, guard.dim) for guard in graph.guards if not isinstance(guard.expected, Size)}
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
        module = compile_graph(lower(compact(semi)))
        plain = compile_graph(lower(compact(semi_auxiliary(graph))))
        noise = module.sample_noise(*args, **kwargs, generator=torch.Generator().manual_seed(seed))  # type: ignore[operator]
        with torch.no_grad():
            seed_everything(seed)
            self._nodes = module(*args, **kwargs, noise=noise)
            seed_everything(seed)
            self.values: dict[str, Tensor] = plain(*args, **kwargs, noise=noise)

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, lambda leaf: self._nodes[leaf.name] if isinstance(leaf, Ref) else leaf)


class _Conditioned:
    """The sites' parameters where every site has a given value: the traced graph, with its samples as arguments."""

    def __init__(
        self, graph: Graph, args: list[Any], kwargs: dict[str, Any], values: Mapping[str, Tensor], seed: int
    ) -> None:
        self.values = values
        order = [sample for sample in graph.samples if sample.site]
        given = {s.name: _as_input(s, index) for index, s in enumerate(order)}
        wanted = {n.name: n.name for s in graph.samples for n in _read_by(s, graph)}
        argument = Argument(_VALUES, keyword_only=True)
        made = graph.evolve(
            [given.get(node.name, node) for node in graph], outputs=wanted, arguments=(*graph.arguments, argument)
        )
        module = compile_graph(compact(made))
        seed_everything(seed)
        sites = [values[sample.site.name] for sample in order if sample.site]
        self._nodes = module(*args, **kwargs, **({_VALUES: sites} if sites else {}))

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, lambda leaf: self._nodes[leaf.name] if isinstance(leaf, Ref) else leaf)


_VALUES = "values_of_sites"


def _as_input(sample: Sample, index: int) -> Node:
    return Input(name=sample.name, path=(_VALUES, index), shape=sample.shape, dtype=sample.dtype)


def _read_by(sample: Sample, graph: Graph) -> Iterator[Node]:
    parts = (sample.params, [step.params for step in sample.transforms], sample.mask, sample.scale)
    for leaf in leaves([dict(p) if isinstance(p, Mapping) else p for p in parts]):
        if isinstance(leaf, Ref):
            yield graph[leaf.name]


@dataclass(frozen=True)
class _Replayed:
    """A site of the original program, at the compiled form's value; ``law`` is None where it is deterministic."""

    value: Tensor
    law: Law | None = None
    log_prob: Tensor | None = None


class _Given:
    """Stands in for the recorder: values stay values."""

    in_constructor = 0

    def arg(self, value: Any) -> Any:
        return value


class _Replay(Messenger):
    """Gives every site the compiled form's value; observed tensors are overwritten, so that later reads agree."""

    def __init__(
        self, random: set[str], values: Mapping[str, Tensor], calls: ConstructorCalls, state: UserState
    ) -> None:
        super().__init__()
        self._random, self._values, self._calls, self._state = random, values, calls, state
        self.sites: dict[str, _Replayed] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        if name not in self._random and (msg["infer"].get("_deterministic") or name in self._values):
            self.sites[name] = _Replayed(msg["value"])
            return
        value = self._values[name]
        if msg["is_observed"] and isinstance(msg["value"], Tensor) and msg["value"].shape == value.shape:
            self._state.remember_tensor(msg["value"])
            if not torch.equal(msg["value"], value):
                msg["value"].data.copy_(value.detach())
        msg["value"], msg["done"] = value, True
        log_prob = scale_and_mask(msg["fn"].log_prob(value), msg["scale"], msg["mask"])
        self.sites[name] = _Replayed(value, self._calls.law(msg["fn"], None), log_prob)


def _replayed(
    model: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    random: set[str],
    values: Mapping[str, Tensor],
    state: UserState,
    seed: int,
) -> dict[str, _Replayed]:
    calls = ConstructorCalls(_Given())  # type: ignore[arg-type]
    paths = ModulePaths(model)
    state.remember(paths.modules())
    handler = _Replay(random, values, calls, state)
    seed_everything(seed)
    with calls.watched(), handler:
        model(*args, **kwargs)
    return handler.sites


def _leaves_of(graph: Graph, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values, of which the latents' carry gradients."""
    latents = {s.site.name for s in graph.samples if s.site and s.site.role == "latent"}
    return {
        name: value.detach().requires_grad_(name in latents and value.is_floating_point())
        for name, value in values.items()
    }


def _gradient_errors(
    graph: Graph, compiled: _Conditioned, replay: Callable[[], Mapping[str, _Replayed]]
) -> tuple[dict[str, float], str]:
    """Of the sites' log-probabilities, weighted, with respect to latents and parameters.

    Where autograd refuses the program itself, as it does for some writes in place: none, and the reason.
    """
    tensors = {name: value for name, value in compiled.values.items() if value.requires_grad}
    tensors |= {path: t for path, t in graph.binding.tensors.items() if t.requires_grad and t.is_leaf}
    names = [sample.site.name for sample in graph.samples if sample.site]
    with torch.enable_grad():
        ours = [_log_prob(s, {k: compiled.value(v) for k, v in s.params.items()}, compiled) for s in graph.samples]
        try:
            replayed = replay()
            theirs = _gradients([replayed[name].log_prob for name in names], list(tensors.values()))
        except RuntimeError as error:
            return {}, f"autograd refuses the original program ({str(error).splitlines()[0]})"
        except KeyError as missing:
            return {}, f"site {missing} is not in the program"
        found = _gradients(ours, list(tensors.values()))
    return {name: _error(a, b) for name, a, b in zip(tensors, found, theirs, strict=True)}, ""


def _gradients(log_probs: list[Any], tensors: list[Tensor]) -> list[Tensor]:
    """Each element of a log-probability has a weight of its own, so that no two errors cancel."""
    weighted = [p * torch.arange(1, p.numel() + 1).reshape(p.shape).cos() for p in log_probs]
    total = sum(p.sum() / (1 + i) for i, p in enumerate(weighted))
    if not isinstance(total, Tensor) or not total.requires_grad:
        return [torch.zeros_like(tensor) for tensor in tensors]
    found = torch.autograd.grad(total, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def _is_deterministic(node: Node) -> bool:
    return node.site is not None and node.site.role == "deterministic"


def _computed(node: Node, compiled: _Compiled, replayed: Mapping[str, _Replayed]) -> SiteCheck:
    """A deterministic site: its value is compared."""
    assert node.site is not None
    name = node.site.name
    if name not in replayed:
        return SiteCheck(name, "Delta", "deterministic", float("inf"), float("inf"), False, "(not in the program)")
    theirs = replayed[name].value
    error = _error(compiled.values[name], theirs)
    return SiteCheck(name, "Delta", "deterministic", error, 0.0, error <= TOLERANCES.get(theirs.dtype, 1e-5))


def _compared(sample: Sample, compiled: _Compiled, replayed: Mapping[str, _Replayed]) -> SiteCheck:
    assert sample.site is not None
    name, role = sample.site.name, sample.site.role
    if name not in replayed:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(not in the program)")
    original = replayed[name]
    if original.law is None or original.log_prob is None:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(no random variable)")
    ours = {key: compiled.value(value) for key, value in sample.params.items()}
    parameter_error = max([0.0, *(_error(ours[key], original.law.params.get(key)) for key in ours)])
    log_prob = _log_prob(sample, ours, compiled)
    if ((original.log_prob == float("-inf")) | original.log_prob.isnan()).any():
        return SiteCheck(name, sample.family, role, parameter_error, float("inf"), False, "(an impossible value)")
    log_prob_error = _error(log_prob, original.log_prob)
    tolerance = TOLERANCES.get(original.log_prob.dtype, 1e-5)
    ok = parameter_error <= tolerance and log_prob_error <= tolerance
    return SiteCheck(name, sample.family, role, parameter_error, log_prob_error, ok)


def _log_prob(sample: Sample, params: Mapping[str, Any], compiled: _Compiled | _Conditioned) -> Tensor:
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
