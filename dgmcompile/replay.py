"""Is the compiled form the same program? Replay: the original, conditioned on what the compiled form drew.

Noise is drawn once; the compiled form turns it into values of all sites; the original program is run
with these values, and every site's parameters and log-probability are compared, and their gradients with respect
to the model's parameters and latents, at these values.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from dgmcompile.codegen import compile_graph
from dgmcompile.distill.densities import Densities, has_density, is_one_to_one
from dgmcompile.distill.nodes import Nodes
from dgmcompile.frontends.arguments import Arguments, Path, SizeClass
from dgmcompile.frontends.calls import is_expanded
from dgmcompile.frontends.distributions import ConstructorCalls, unwrapped
from dgmcompile.frontends.modules import ModulePaths
from dgmcompile.frontends.pyro import broadcast_replayed, hidden_draws
from dgmcompile.frontends.state import UserState, preserved, seed_everything
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Argument, Graph, Input, Law, Node, Ref, Sample, map_arg, names_in
from dgmcompile.ir.size import Size
from dgmcompile.passes import compact, lower, semi_auxiliary
from dgmcompile.passes.canonicalize import canonicalize

_SOFT_LAWS_OF_HARD_VALUES = frozenset({"RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough"})
"""Families whose draws lie where their own log-density is infinite or NaN: their parameters say all."""

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
        given_kwargs = {name: arguments.by_name[name] for name in model_kwargs or {}}
        graph = trace(model, tuple(arguments.args)[: len(model_args)], given_kwargs, targets)
        sizes = _other_sizes(graph, arguments)
        args, kwargs, _ = arguments.varied(sizes, shuffle=True)
        compiled = _Compiled(graph, args, kwargs, seed)
        args, kwargs, _ = Arguments(model, tuple(args), kwargs).varied({})  # of which what is observed is overwritten
        random = {sample.site.name for sample in graph.samples if sample.site}
        with torch.no_grad():
            given = _Conditioned(graph, args, kwargs, compiled.values, seed)
            replayed = _replayed(model, args, kwargs, random, compiled.values, state, seed)
            sites = tuple(_compared(sample, compiled, given, replayed) for sample in graph.samples)
            sites += tuple(_computed(node, compiled, replayed) for node in graph if _is_deterministic(node))
        values = _leaves_of(graph, compiled.values)
        overwritten = Arguments(model, tuple(args), kwargs)  # with the sites' values in place of the data
        args, kwargs, _ = overwritten.varied({})
        again, kwargs_again, _ = overwritten.varied({})
        gradients, not_compared = _gradient_errors(
            graph,
            values,
            lambda: _Conditioned(graph, args, kwargs, values, seed),
            lambda: _replayed(model, again, kwargs_again, random, values, state, seed),
        )
        told = [site.value if site.log_prob is None else site.log_prob for site in replayed.values()]
        double = any(value.dtype == torch.float64 for value in told)
    missing = [name for name in replayed if name not in {site.name for site in sites}]
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
        drawn = lower(semi_auxiliary(graph.evolve(outputs={**wanted, **graph.outputs})))
        self._bases = {s.name: base for s in graph.samples if (base := _base_of(s, graph, drawn)) is not None}
        drawn = drawn.evolve(outputs={**drawn.outputs, **{base: base for base in self._bases.values()}})
        module = compile_graph(compact(drawn))
        plain = compile_graph(lower(compact(semi_auxiliary(graph))))
        seed_everything(seed)  # on every device
        noise = module.sample_noise(*args, **kwargs)  # type: ignore[operator]
        with torch.no_grad():
            seed_everything(seed)
            self._nodes = module(*args, **kwargs, noise=noise)
            seed_everything(seed)
            self.values: dict[str, Tensor] = plain(*args, **kwargs, noise=noise)

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, partial(_evaluated, self._nodes))

    def forward_error(self, sample: Sample, original: _Replayed) -> float:
        """Do the original's steps map the value before them to the site's value?"""
        steps = unwrapped(original.distribution).transforms
        if sample.name not in self._bases:
            return float("inf") if steps or sample.transforms else 0.0
        value = self._nodes[self._bases[sample.name]]
        for step in steps:
            value = step(value)
        return _error(original.value, value)


def _base_of(sample: Sample, graph: Graph, drawn: Graph) -> str | None:
    """The node of the value before the steps, where there are any and the site was rewritten."""
    if not sample.transforms:
        return None
    name = re.compile(rf"{re.escape(sample.name)}_(base|value)(_\d+)?")
    return next((node.name for node in drawn if name.fullmatch(node.name) and node.name not in graph), None)


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
        nodes = Nodes(made)
        densities = Densities(made, nodes)
        self._behind: dict[str, tuple[str, list[str], int]] = {}
        for sample in graph.samples:
            if any(step.is_recorded for step in sample.transforms) and all(map(is_one_to_one, sample.transforms)):
                name, event_dim = sample.name, _within_mask(sample)
                value, jacobians, event_dim = densities.pulled_back(sample, Ref(name), name, event_dim)
                self._behind[name] = (value.name, [jacobian.name for jacobian in jacobians], event_dim)
        self._densities = dict(_densities_of(graph, nodes))
        extra = {name: name for value, jacobians, _ in self._behind.values() for name in (value, *jacobians)}
        extra |= {name: name for name in self._densities.values()}
        made = made.evolve([*made, *nodes.added], outputs={**wanted, **extra})
        module = compile_graph(lower(compact(made)))
        seed_everything(seed)
        sites = [values[sample.site.name] for sample in order if sample.site]
        self._nodes = module(*args, **kwargs, **({_VALUES: sites} if sites else {}))

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, partial(_evaluated, self._nodes))

    def log_prob_behind_steps(self, sample: Sample, base: Any) -> Tensor:
        """That of ``base`` at the value pulled back through the recorded steps, and what these change."""
        value, jacobians, event_dim = self._behind[sample.name]
        log_prob = _at(base, self._nodes[value], event_dim)
        return log_prob - sum(self._nodes[jacobian] for jacobian in jacobians)

    def density(self, sample: Sample) -> Tensor | None:
        """The log-density in our own words, of a law that the library could not be asked for."""
        return self._nodes[self._densities[sample.name]] if sample.name in self._densities else None


def _densities_of(graph: Graph, nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Sites with recorded steps in the distributions inside theirs -> nodes of their log-densities."""
    wanted = [sample.name for sample in graph.samples if _has_recorded_parts(sample.params)]
    if not wanted:
        return
    canonical = canonicalize(graph)
    known = set(graph.graph)
    for node in canonical:
        if node.name not in known:
            nodes.append(node)
    densities = Densities(canonical, nodes)
    for sample in canonical.samples:
        if sample.name in wanted and has_density(sample):
            ref = densities.log_prob(sample, Ref(sample.name), f"{sample.name}.log_prob", _within_mask(sample))
            yield sample.name, nodes.expanded(ref, sample.masked_shape).name


_VALUES = "values_of_sites"


def _as_input(sample: Sample, index: int) -> Node:
    return Input(name=sample.name, path=(_VALUES, index), shape=sample.shape, dtype=sample.dtype)


def _read_by(sample: Sample, graph: Graph) -> Iterator[Node]:
    law = _without_recorded(sample.law)
    steps = [dict(step.params) for step in law.transforms]
    for name in names_in((dict(law.params), steps, sample.mask, sample.scale)):
        yield graph[name]


def _without_recorded(law: Law) -> Law:
    """Without the steps that were recorded, in the distributions inside it too: they stand for calls on probes."""
    steps = tuple(step for step in law.transforms if not step.is_recorded)
    params = {name: _without_recorded(part) if isinstance(part, Law) else part for name, part in law.params.items()}
    return replace(law, params=params, transforms=steps)


def _has_recorded_parts(params: Mapping[str, Any]) -> bool:
    parts = [part for part in params.values() if isinstance(part, Law)]
    return any(any(s.is_recorded for s in part.transforms) or _has_recorded_parts(part.params) for part in parts)


def _evaluated(values: Mapping[str, Any], leaf: Any) -> Any:
    """A leaf of an argument as a value."""
    if isinstance(leaf, Ref):
        return values[leaf.name]
    return leaf.evaluate(values) if isinstance(leaf, Size) else leaf


@dataclass(frozen=True)
class _Replayed:
    """A site of the original program, at the compiled form's value.

    ``law`` is None where it is deterministic, ``log_prob`` where the program itself cannot tell it.
    """

    value: Tensor
    law: Law | None = None
    log_prob: Tensor | None = None
    distribution: Any = None
    classes: Mapping[str, type] = field(default_factory=dict[str, type])


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
        self._grad = torch.is_grad_enabled()  # a program may run under no_grad; its densities are asked for outside
        self.sites: dict[str, _Replayed] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        broadcast_replayed(msg)
        if name not in self._random and (msg["infer"].get("_deterministic") or name in self._values):
            if msg["value"] is None:
                msg["value"], msg["done"] = msg["fn"](), True
            self.sites[name] = _Replayed(msg["value"])
            return
        value = self._values[name]
        observed = msg["value"] if msg["is_observed"] else None
        with torch.set_grad_enabled(self._grad):
            msg["value"], msg["done"] = value.clone(), True  # into which the program may write
        try:
            with torch.set_grad_enabled(self._grad):
                log_prob = scale_and_mask(msg["fn"].log_prob(value), msg["scale"], msg["mask"])
        except (KeyError, NotImplementedError):  # a step without an inverse
            log_prob = None
        law = self._calls.unwrapped(msg["fn"], name, None).law
        law = law.map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)  # as they are now
        self.sites[name] = _Replayed(value, law, log_prob, msg["fn"], self._calls.classes)
        if isinstance(observed, Tensor) and observed.shape == value.shape and not is_expanded(observed):
            self._state.remember_tensor(observed)
            if not torch.equal(observed, value):
                observed.data.copy_(value.detach())

    def hidden(self, msg: Any) -> None:
        """A draw that `hidden_draws` found; nothing reads those that the graph does not have."""
        if msg["name"] in self._values:
            self._pyro_sample(msg)


def _replayed(
    model: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    random: set[str],
    values: Mapping[str, Tensor],
    state: UserState,
    seed: int,
) -> dict[str, _Replayed]:
    calls = ConstructorCalls(_Given(), lambda *_: ())  # type: ignore[arg-type]
    paths = ModulePaths(model)
    state.remember(paths.modules())
    handler = _Replay(random, values, calls, state)
    seed_everything(seed)
    with calls.watched(), handler, hidden_draws(handler.hidden):
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
    graph: Graph,
    values: Mapping[str, Tensor],
    condition: Callable[[], _Conditioned],
    replay: Callable[[], Mapping[str, _Replayed]],
) -> tuple[dict[str, float], str]:
    """Of the sites' log-probabilities, weighted, with respect to latents and parameters.

    Where autograd refuses the program itself, as it does for some writes in place: none, and the reason.
    """
    tensors = {name: value for name, value in values.items() if value.requires_grad}
    tensors |= {path: t for path, t in graph.binding.tensors.items() if t.requires_grad and t.is_leaf}
    names = [sample.site.name for sample in graph.samples if sample.site]
    with torch.enable_grad():
        try:
            replayed = replay()
            names = [name for name in names if replayed[name].log_prob is not None]
            theirs = _gradients([replayed[name].log_prob for name in names], list(tensors.values()))
        except (RuntimeError, TypeError, BufferError) as error:
            return {}, f"autograd refuses the original program ({str(error).splitlines()[0]})"
        except KeyError as missing:
            return {}, f"site {missing} is not in the program"
        compiled, samples = condition(), [s for s in graph.samples if s.site and s.site.name in names]
        ours = [
            _log_prob(
                s, compiled.value(_comparable(s)), replayed[s.site.name], compiled.value((s.scale, s.mask)), compiled
            )
            for s in samples
            if s.site
        ]
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


def _compared(sample: Sample, compiled: _Compiled, given: _Conditioned, replayed: Mapping[str, _Replayed]) -> SiteCheck:
    assert sample.site is not None
    name, role = sample.site.name, sample.site.role
    if name not in replayed:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(not in the program)")
    original = replayed[name]
    if original.law is None:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(no random variable)")
    ours = compiled.value(_comparable(sample))
    parameter_error = _parameter_error(ours, original.law)
    if sample.family in _SOFT_LAWS_OF_HARD_VALUES:
        ok = parameter_error <= TOLERANCES.get(original.value.dtype, 1e-5)
        return SiteCheck(name, sample.family, role, parameter_error, 0.0, ok, "(no density at a hard value)")
    if original.log_prob is None:
        error = compiled.forward_error(sample, original)
        ok = max(parameter_error, error) <= TOLERANCES.get(original.value.dtype, 1e-5)
        return SiteCheck(
            name, sample.family, role, parameter_error, error, ok, "(the program cannot tell its log-probability)"
        )
    weights = compiled.value((sample.scale, sample.mask))
    log_prob = _log_prob(sample, ours, original, weights, given)
    if ((original.log_prob == float("-inf")) | original.log_prob.isnan()).any():
        return SiteCheck(name, sample.family, role, parameter_error, float("inf"), False, "(an impossible value)")
    log_prob_error = _error(log_prob, original.log_prob)
    tolerance = TOLERANCES.get(original.log_prob.dtype, 1e-5)
    ok = parameter_error <= tolerance and log_prob_error <= tolerance
    return SiteCheck(name, sample.family, role, parameter_error, log_prob_error, ok)


def _comparable(sample: Sample) -> Law:
    """Its law, without steps where one is recorded: these are compared by what they do."""
    recorded = any(step.is_recorded for step in sample.transforms)
    law = _without_recorded(sample.law)
    return replace(law, shape=(), transforms=() if recorded else law.transforms)


def _parameter_error(ours: Law, theirs: Law) -> float:
    """Of all parameters, those of distributions inside included."""
    if ours.family != theirs.family:
        return float("inf")
    errors = [0.0]
    for name, value in ours.params.items():
        other = theirs.params.get(name)
        if isinstance(value, Law) and isinstance(other, Law):
            errors.append(_parameter_error(value, other))
        else:
            errors.append(_error(value, other))
    return max(errors)


def _log_prob(
    sample: Sample, law: Law, original: _Replayed, weights: tuple[Any, Any], compiled: _Conditioned
) -> Tensor:
    """From the compiled parameters alone, with the site's wrappers put on again."""
    assert sample.site is not None and original.law is not None
    if (log_prob := compiled.density(sample)) is None:
        log_prob = _log_prob_of_library(sample, law, original, compiled)
    scale, mask = weights
    masked = scale_and_mask(log_prob, 1.0, mask)
    for _ in range(sample.mask_event_dim):
        masked = masked.sum(-1)
    return scale_and_mask(masked, 1.0 if scale is None else scale)


def _log_prob_of_library(sample: Sample, law: Law, original: _Replayed, compiled: _Conditioned) -> Tensor:
    """By a distribution with these parameters."""
    assert sample.site is not None and original.law is not None
    made = _distribution(law, original.law, original.classes)
    if any(step.is_recorded for step in sample.transforms):
        return compiled.log_prob_behind_steps(sample, made)
    if law.transforms:
        made = dist.TransformedDistribution(made, [_transform(step.name, step.params) for step in law.transforms])
    return _at(made, compiled.values[sample.site.name], _within_mask(sample))


def _within_mask(sample: Sample) -> int:
    """Event dims that are summed before the mask is applied."""
    return sample.event_dim - sample.mask_event_dim


def _at(law: Any, value: Tensor, event_dim: int) -> Tensor:
    """Log-density of ``value``, of which so many dims are one event."""
    if isinstance(law, dist.GroupedNormalNormal):  # it has the dim of its data, and says that it has none
        return law.log_prob(value)
    if (missing := event_dim - law.event_dim) > 0:
        law = law.expand(value.shape[: value.dim() - law.event_dim]).to_event(missing)
    batch = value.shape[: value.dim() - event_dim]
    return (law if law.batch_shape == batch else law.expand(batch)).log_prob(value)


def _distribution(law: Law, original: Law, classes: Mapping[str, type]) -> Any:
    """A distribution with these parameters; those inside it have the batch shape of the original's."""
    params = {}
    for name, part in law.params.items():
        other = original.params.get(name)
        params[name] = _part(part, other, classes) if isinstance(part, Law) and isinstance(other, Law) else part
    cls: Any = getattr(dist, law.family, None) or classes[law.family]  # a user's own is not Pyro's
    return cls(**params)


def _part(law: Law, original: Law, classes: Mapping[str, type]) -> Any:
    made = _distribution(law, original, classes)
    if law.transforms:
        made = dist.TransformedDistribution(made, [_transform(step.name, step.params) for step in law.transforms])
    made = made.expand(torch.Size(original.shape[: len(original.shape) - made.event_dim]))  # type: ignore[arg-type]
    missing = law.event_dim - made.event_dim
    return made.to_event(missing) if missing else made


def _transform(name: str, params: Mapping[str, Any]) -> Any:
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
