"""Replay of plain PyTorch: the program, with its random calls replaced by what the compiled form drew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

from dgmcompile.codegen import compile_graph
from dgmcompile.frontends.arguments import Arguments
from dgmcompile.frontends.distributions import ConstructorCalls, methods_of_distributions
from dgmcompile.frontends.marks import marked_by
from dgmcompile.frontends.operators import public_call
from dgmcompile.frontends.outputs import results_of
from dgmcompile.frontends.random_calls import (
    COMPOSED_CALLS,
    DROPOUT_CALLS,
    NOISE,
    RANDOM_CALLS,
    RandomLaw,
    law_of,
    written_by,
)
from dgmcompile.frontends.state import eager, seed_everything
from dgmcompile.frontends.targets import ELEMENTWISE_DROPOUTS, short_name, without_dropout
from dgmcompile.ir.binding import Drawn
from dgmcompile.ir.graph import Graph, Law, Node, Noise, Ref, map_arg, names_in
from dgmcompile.passes import auxiliary, compact, lower
from dgmcompile.replay.comparison import error_of_parameters, gradients
from dgmcompile.replay.compiled import evaluated
from dgmcompile.replay.original import Given
from dgmcompile.replay.report import TOLERANCES, SiteCheck, relative_error


class Auxiliary:
    """The auxiliary form, drawn from once."""

    def __init__(self, graph: Graph, args: list[Any], kwargs: Mapping[str, Any], seed: int) -> None:
        drawn = auxiliary(graph)
        self.shares_dropout = graph.binding.shares_dropout
        self._noise_of = {sample.name: _noise_of(sample.name, drawn, graph) for sample in graph.samples}
        asked = [args for one in graph.binding.draws or () if one for args in _asked(one)]
        read = [name for name in names_in([*(s.arguments for s in graph.samples), asked]) if name in drawn]
        outputs = {name: name for name in (*read, *drawn.noises, *graph.sites().values())}
        module: Any = compile_graph(lower(compact(drawn.evolve(outputs=outputs))), readable=False)
        seed_everything(seed)
        self._values: dict[str, Any] = module(*args, **kwargs, noise=module.sample_noise(*args, **kwargs))

    def value(self, arg: Any) -> Any:
        return map_arg(arg, partial(evaluated, self._values))

    def drawn(self, draw: Drawn) -> Tensor:
        """What the program is given in the place of its own draw."""
        if draw.is_value:
            return self._values[draw.node]
        value = self._values[self._noise_of.get(draw.node) or draw.node]
        for function, args in draw.undo:
            value = function(value, *self.value(args))
        return value


def _noise_of(sample: str, drawn: Graph, graph: Graph) -> str | None:
    """The first that the site is made of, through the steps that it is pushed through."""
    made = [sample]
    for name in made:
        noises = [other for other in drawn[name].inputs if isinstance(drawn[other], Noise)]
        if noises:
            return noises[0]
        made += [other for other in drawn[name].inputs if other not in graph]
    return None


def _asked(draw: Drawn) -> Iterator[Any]:
    """What its steps read."""
    yield from (args for _, args in draw.undo)
    for (_, args), part in draw.parts:
        yield args
        yield from _asked(part)


@dataclass(frozen=True)
class _Law:
    """What the program drew from at one of its draws."""

    node: str
    law: Law


class WithoutDropout(TorchFunctionMode):
    """Dropout passes its argument on: what it draws is no part of the model, and drawn in another order.

    ``shared``: but for that which is noise of the model.
    """

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self._shared = shared

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = public_call(func, args, kwargs).target or ""
        if self._shared and target in DROPOUT_CALLS:
            return func(*args, **kwargs)
        if short_name(target) in ELEMENTWISE_DROPOUTS and args:
            return args[0]
        args, kwargs = without_dropout(target, args, kwargs)
        return func(*args, **kwargs)


class _Replaced(TorchFunctionMode):
    """Gives the program's draws, in their order, what stands for them; if ``rounded``, what is next to it."""

    def __init__(
        self, draws: Iterator[Drawn | None], form: Auxiliary, calls: ConstructorCalls, rounded: bool = False
    ) -> None:
        super().__init__()
        self._rounded = rounded
        self._draws, self._form, self._calls = draws, form, calls
        self._inside = False
        self._composed = {**COMPOSED_CALLS, **(DROPOUT_CALLS if form.shares_dropout else {})}
        self.laws: list[_Law] = []
        self.drawn_in: set[torch.dtype] = set()
        """In which real numbers are drawn: what is given to the program is rounded to them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = "" if self._inside else public_call(func, args, kwargs).target or ""
        if target in self._composed:
            return self._composed[target](self._part, *args, **kwargs)
        value = func(*args, **kwargs)
        if target not in RANDOM_CALLS:
            return value
        given = self._drawn(law_of(target, args, kwargs), value)
        if written_by(target, args, kwargs) is not None:
            with torch.no_grad():
                return value.copy_(given)
        return given

    def _part(self, law: RandomLaw, draw: Callable[[], Tensor]) -> Tensor:
        return self._drawn(law, draw())

    def _drawn(self, law: RandomLaw, value: Tensor) -> Tensor:
        return self._next(value, None if law.family in NOISE else Law(family=law.family, params=dict(law.params)))

    def _next(self, value: Tensor, law: Law | None) -> Tensor:
        """The next draw's, in the shape and the type in which the program draws."""
        draw = next(self._draws)
        if draw is None:
            return value
        if law is not None and draw.is_value:
            self.laws.append(_Law(draw.node, law))
        return self._put(draw, value)

    def _put(self, draw: Drawn, value: Tensor) -> Tensor:
        if value.is_floating_point():
            self.drawn_in.add(value.dtype)
        if not draw.parts:
            given = self._form.drawn(draw).to(value.dtype).reshape(value.shape).clone()  # it may be written
            return _rounded(given) if self._rounded and given.is_floating_point() else given
        whole = value.clone()
        for (view, args), part in draw.parts:
            asked = self._form.value(args)
            view(whole, *asked).copy_(self._put(part, view(value, *asked)))
        return whole

    def sample(
        self, original: Callable[..., Tensor], distribution: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        if self._inside:
            return original(distribution, *args, **kwargs)
        self._inside = True
        try:
            value = original(distribution, *args, **kwargs)
            law = self._calls.unwrapped(distribution, type(distribution).__name__, None, tuple(value.shape)).law
        finally:
            self._inside = False
        return self._next(value, law)


def _rounded(value: Tensor) -> Tensor:
    """Nearer to 0 by what is lost where a number of its size, or of that of 1, is added; never beyond it."""
    step = torch.finfo(value.dtype).eps * value.abs().clamp(min=1.0)
    return value - value.sign() * torch.minimum(step, 0.5 * value.abs())


@dataclass(frozen=True)
class _Pair:
    """A draw's parameters, or a value, of the compiled form and of the program, up to ``tolerance``."""

    node: Node
    ours: Law | Tensor
    theirs: Law | Tensor
    tolerance: float

    def checked(self) -> SiteCheck:
        site = self.node.site
        assert site is not None
        error = _error(self.ours, self.theirs)
        return SiteCheck(site.name, site.family, site.role, error, 0.0, error <= self.tolerance)

    def allowing(self, other: Law | Tensor) -> _Pair:
        """Without elements that differ in the program itself where its noise is rounded, as near to a pole of ``tan``.

        They have to be few.
        """
        return replace(self, ours=_without_unsettled(self.ours, self.theirs, other, self.tolerance))

    def tensors(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What gradients may pass through: both sides of each number."""
        for one, other in _numbers(self.ours, self.theirs):
            if any(isinstance(value, Tensor) and value.requires_grad for value in (one, other)):
                yield torch.broadcast_tensors(torch.as_tensor(one), torch.as_tensor(other))


_FEW = 0.1
"""The share of elements that may be left out of a comparison."""


def _without_unsettled(ours: Any, theirs: Any, other: Any, tolerance: float) -> Any:
    """``ours``, as ``theirs`` where these differ from the ``other`` by about as much as is tolerated."""
    if isinstance(ours, Law):
        params = {
            name: _without_unsettled(value, theirs.params[name], other.params[name], tolerance)
            for name, value in ours.params.items()
        }
        return replace(ours, params=params)
    if not all(isinstance(value, Tensor) and value.is_floating_point() for value in (ours, theirs, other)):
        return ours
    unsettled = 4 * (other - theirs).abs() > tolerance * theirs.abs().max().clamp(min=1.0)
    return torch.where(unsettled, theirs, ours) if unsettled.float().mean() <= _FEW else ours


def _error(ours: Law | Tensor, theirs: Law | Tensor) -> float:
    if isinstance(ours, Law) and isinstance(theirs, Law):
        return error_of_parameters(ours, theirs)
    return relative_error(ours, theirs)


def _numbers(ours: Any, theirs: Any) -> Iterator[tuple[Any, Any]]:
    """Parameter by parameter, those of laws inside included."""
    if isinstance(ours, Law) and isinstance(theirs, Law):
        for name, value in ours.params.items():
            yield from _numbers(value, theirs.params[name])
    else:
        yield ours, theirs


class PlainReplay(NamedTuple):
    """What was found, or why gradients were not compared, and by how much these may differ."""

    sites: tuple[SiteCheck, ...]
    gradients: Mapping[str, float]
    not_compared: str
    gradient_tolerance: float


def replay_plain(
    model: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], graph: Graph, seed: int
) -> PlainReplay:
    """Each draw's parameters and each result, of the program and of the compiled form; their gradients."""
    again, kwargs_again, _ = Arguments(model, tuple(args), kwargs).varied({})
    with WithoutDropout(graph.binding.shares_dropout):
        with torch.no_grad():
            pairs = list(_pairs(model, args, kwargs, graph, seed))
            if not all(pair.checked().ok for pair in pairs):
                anew, kwargs_anew, _ = Arguments(model, tuple(again), kwargs_again).varied({})
                others = list(_pairs(model, anew, kwargs_anew, graph, seed, rounded=True))
                pairs = [pair.allowing(other.theirs) for pair, other in zip(pairs, others, strict=True)]
        sites = tuple(pair.checked() for pair in pairs)
        agree = all(site.ok for site in sites)
        sites += tuple(_by_what_is_made_of_it(graph, sites))
        found = _gradient_errors(model, again, kwargs_again, graph, seed) if agree else ({}, "")
    return PlainReplay(sites, *found, 10 * max((pair.tolerance for pair in pairs), default=0.0))


def _by_what_is_made_of_it(graph: Graph, found: tuple[SiteCheck, ...]) -> Iterator[SiteCheck]:
    """The variables that the program makes of noise by itself: its results would differ if they did."""
    compared = {site.name for site in found}
    worst, ok = max((site.parameter_error for site in found), default=0.0), all(site.ok for site in found)
    for name, node in graph.sites().items():
        if name not in compared and (site := graph[node].site) is not None:
            yield SiteCheck(name, site.family, site.role, worst, 0.0, ok, "(by what is made of it)")


def _gradient_errors(
    model: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], graph: Graph, seed: int
) -> tuple[dict[str, float], str]:
    tensors = {path: t for path, t in graph.binding.tensors.items() if t.requires_grad and t.is_leaf}
    with torch.enable_grad():
        try:
            values = [both for pair in _pairs(model, args, kwargs, graph, seed) for both in pair.tensors()]
            theirs = gradients([value for _, value in values], list(tensors.values()))
        except RuntimeError as error:
            return {}, f"autograd refuses the original program ({str(error).splitlines()[0]})"
        ours = gradients([value for value, _ in values], list(tensors.values()))
    return {name: relative_error(a, b) for name, a, b in zip(tensors, ours, theirs, strict=True)}, ""


def _pairs(
    model: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], graph: Graph, seed: int, rounded: bool = False
) -> Iterator[_Pair]:
    form = Auxiliary(graph, args, kwargs, seed)
    calls = ConstructorCalls(Given(), lambda *_: ())  # type: ignore[arg-type]
    replaced = _Replaced(iter(graph.binding.draws or ()), form, calls, rounded)
    marked = dict[str, Tensor]()

    def mark(name: str, value: Tensor) -> Tensor:
        marked[name] = value.clone()
        return value

    methods = {"__init__": calls.initialise, "sample": replaced.sample, "rsample": replaced.sample}
    seed_everything(seed)
    marks = marked_by(mark, lambda _, law: law.sample())
    with eager(), calls.watched(), methods_of_distributions(methods), marks, replaced:
        result = model(*args, **kwargs)
        returned = [law if isinstance(law, Tensor) else law.sample() for _, law in _targets_of(result, graph)]
    samples = {sample.name: sample for sample in graph.samples}

    def pair(node: Node, ours: Any, theirs: Law | Tensor) -> _Pair:
        tolerance = max(TOLERANCES.get(dtype, 1e-5) for dtype in (node.dtype or torch.float32, *replaced.drawn_in))
        return _Pair(node, ours, theirs, tolerance)

    for found in replaced.laws:
        sample = samples[found.node]
        yield pair(sample, form.value(Law(family=sample.family, params=sample.params)), found.law)
    values = {**marked, **dict(zip(graph.binding.results, returned, strict=True))}
    compared = {found.node for found in replaced.laws}
    for name, node in graph.sites().items():
        if name in values and node not in compared:
            yield pair(graph[node], form.value(Ref(node)), values[name])


def _targets_of(result: Any, graph: Graph) -> Iterator[tuple[str, Tensor | Distribution]]:
    """What the program returns, unless it marks its targets."""
    return results_of(result) if graph.binding.results else iter(())
