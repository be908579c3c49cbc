"""The loss of a pair as Pyro's handlers and torch's divergences give it, for any program: no graph is made.

Every latent comes from its noise through `dgm.FullReparam`, which works on the running program. Divergences are
torch's where it has one that is right, else the closed form of the registry at the parameters of the constructor call,
else the difference of the library's log-probabilities at the teacher's value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as torch_dist
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import kl_divergence

import dgmcompile as dgm
from dgmcompile.distill.divergences import LOG_PROBS, divergence
from dgmcompile.frontends.distributions import ConstructorCalls
from dgmcompile.full_reparam import _NOISE, _positional, _Tensors
from dgmcompile.ir.graph import Law
from dgmcompile.reparam import NOISE_TRANSFORMS

UNCOMPARED = frozenset(
    {
        "CoalescentTimes",
        "CoalescentTimesWithRate",
        "Delta",
        "GroupedNormalNormal",
        "LinearHMM",
        "OneOneMatching",
        "OneTwoMatching",
        "Stable",
        "StableWithLogProb",
    }
)
"""Families without a density that could be compared: a pair has no term of them."""

WRONG_IN_THE_LIBRARY = frozenset(
    {
        "FoldedDistribution",
        "RelaxedBernoulliStraightThrough",
        "RelaxedOneHotCategoricalStraightThrough",
        "Wishart",
    }
)
"""Families whose registered KL is that of another law, or, of Wishart, wrong in a batch: torch adds up its traces."""

WITHOUT_LOG_PROB = frozenset({"GeneralizedPareto", "LogNormalNegativeBinomial", "ZeroInflatedDistribution"})
"""The library's fails in float64, has few digits, or adds a density to a probability."""

FEW_DIGITS = frozenset({"SineSkewed"})
"""Families whose log-probability in the library has about eight digits, as that of von Mises has."""


@dataclass
class Site:
    """A random variable as the program met it."""

    fn: Any
    law: Law
    mask: Any
    scale: Any
    frames: tuple[Any, ...]
    value: Any = None


class Seen(Messenger):
    """Notes every random variable; those in ``given`` take their values, the others of ``targets`` are drawn."""

    def __init__(
        self, given: Mapping[str, Tensor], targets: Collection[str], calls: Callable[[], ConstructorCalls]
    ) -> None:
        super().__init__()
        self.given, self.targets, self.calls = given, targets, calls
        self.sites = dict[str, Site]()

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if type(msg["fn"]).__name__ == "_Subsample" or _is_no_variable(msg["infer"]):
            return
        if name in self.given:
            msg["value"], msg["is_observed"] = self.given[name], True
        elif name in self.targets:
            msg["value"], msg["is_observed"] = None, False
        law = self.calls().unwrapped(msg["fn"], name, None).law
        self.sites[name] = Site(msg["fn"], law, msg["mask"], msg["scale"], msg["cond_indep_stack"])

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.sites:
            self.sites[msg["name"]].value = msg["value"]


def _is_no_variable(infer: Mapping[str, Any]) -> bool:
    """Is it a deterministic site, or the noise of another?"""
    return bool(infer.get("_deterministic") or infer.get(_NOISE))


def run(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    noise: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    targets: Collection[str],
) -> dict[str, Site]:
    """Every random variable of one run, made from ``noise`` unless its value is ``given``."""
    strategy = dgm.FullReparam()
    seen = Seen(given, targets, lambda: strategy.calls)
    poutine.condition(strategy(seen(model)), data=dict(noise))(*args, **kwargs)
    return seen.sites


@dataclass(frozen=True)
class LossByHandlers:
    """Terms by site.

    Args:
        teacher, student: (model, what it runs in).
        targets: names.
        method: ``surrogate`` or ``local``.
        means: sites of which the event is averaged.
        sampled: sites of which the divergence is estimated: their transforms may be equal, but only by chance.
    """

    teacher: tuple[Callable[..., Any], Callable[[], AbstractContextManager[Any]]]
    student: tuple[Callable[..., Any], Callable[[], AbstractContextManager[Any]]]
    targets: Collection[str]
    method: str = "surrogate"
    means: Collection[str] = ()
    sampled: Collection[str] = ()

    def terms(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reduced divergence of each site that has one."""
        model, inside = self.teacher
        with inside(), torch.no_grad():
            ours = run(model, args, kwargs, noise, {}, self.targets)
        given = {name: s.value for name, s in ours.items() if self.method == "local" or name in self.targets}
        model, inside = self.student
        with inside():
            theirs = run(model, args, kwargs, noise, given, self.targets)
        batch = self._batch(ours)
        length = _leading(args, kwargs)
        return {
            name: self._term(name, site, theirs[name], batch, length)
            for name, site in ours.items()
            if site.law.family not in UNCOMPARED
        }

    def _batch(self, sites: Mapping[str, Site]) -> Any:
        """The outermost vectorised plate of the first target that has one, or else of the first latent."""
        for targets in (True, False):
            for name, site in sites.items():
                frames = [frame for frame in site.frames if frame.vectorized]
                if (name in self.targets) is targets and frames:
                    return frames[0]
        return None

    def _term(self, name: str, p: Site, q: Site, batch: Any, length: int | None) -> Tensor:
        shape = torch.Size(torch.broadcast_shapes(p.fn.batch_shape, p.value.shape[: p.value.dim() - p.fn.event_dim]))
        found = elementwise(p, q, name in self.sampled).broadcast_to(shape)
        if name in self.means:
            found = found / prod(p.fn.event_shape)
        mask = True if p.mask is None else p.mask
        found = torch.where(torch.as_tensor(mask), found, torch.zeros(())) * p.scale
        if batch is None:
            averaged = (
                bool(shape) and bool(length) and shape[0] % length == 0
            )  # a dim of twice the batch is summed twice
            return found.sum() / (length if averaged else 1)
        inside = any(frame.name == batch.name for frame in p.frames)
        return found.broadcast_to(torch.broadcast_shapes(found.shape, shape)).sum() / (batch.size if inside else 1)


def _leading(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    flat = [leaf for arg in (*args, *kwargs.values()) for leaf in _leaves(arg)]
    tensors = [leaf.shape[0] for leaf in flat if isinstance(leaf, Tensor) and leaf.dim()]
    numbers = [leaf for leaf in flat if isinstance(leaf, int) and not isinstance(leaf, bool)]
    return next(iter([*tensors, *numbers]), None)


def _leaves(arg: Any) -> list[Any]:
    if isinstance(arg, dict):
        return [leaf for value in arg.values() for leaf in _leaves(value)]
    if isinstance(arg, tuple | list):
        return [leaf for value in arg for leaf in _leaves(value)]
    return [arg]


# divergences


def elementwise(p: Site, q: Site, sampled: bool = False) -> Tensor:
    """KL of the two laws over the batch, without the handlers' mask and scale; or its estimate at the value."""
    return p.fn.log_prob(p.value) - q.fn.log_prob(p.value) if sampled else _kl(p.fn, q.fn, p.value, (p.law, q.law))


def _kl(p: Any, q: Any, value: Tensor, laws: tuple[Law, Law]) -> Tensor:
    if isinstance(p, torch_dist.Independent):
        inner = _kl(p.base_dist, q.base_dist, value, laws).broadcast_to(p.base_dist.batch_shape)
        return inner.sum(tuple(range(-p.reinterpreted_batch_ndims, 0))) if p.reinterpreted_batch_ndims else inner
    if isinstance(p, dist.MaskedDistribution):
        inner = _kl(p.base_dist, q.base_dist, value, laws)
        return torch.where(torch.as_tensor(p._mask), inner, torch.zeros(()))
    if type(p).__name__ == "ExpandedDistribution":
        return _kl(p.base_dist, q.base_dist, value, laws).broadcast_to(p.batch_shape)
    if type(p) in (dist.TransformedDistribution, torch_dist.TransformedDistribution):
        if p.transforms == q.transforms and all(t.bijective for t in p.transforms):
            inner = _kl(p.base_dist, q.base_dist, _undone(p, value), laws)
            inner = inner.broadcast_to(p.base_dist.batch_shape)
            extra = len(p.event_shape) - len(p.base_dist.event_shape)
            return inner.sum(tuple(range(-extra, 0))) if extra > 0 else inner
        return p.log_prob(value) - q.log_prob(value)
    return _of_family(p, q, value, laws)


def _undone(p: Any, value: Tensor) -> Tensor:
    for step in reversed(p.transforms):
        value = step.inv(value)
    return value


def _of_family(p: Any, q: Any, value: Tensor, laws: tuple[Law, Law]) -> Tensor:
    family = type(p).__name__
    if family not in WRONG_IN_THE_LIBRARY:
        try:
            return kl_divergence(p, q)
        except NotImplementedError:
            pass
    if (closed := divergence("kl", family, family)) is not None:
        sides = [_Tensors("", law)._parameters(NOISE_TRANSFORMS[law.family], law.params) for law in laws]
        return closed.formula.function(*closed.arguments(sides[0], sides[1]))
    if family in WITHOUT_LOG_PROB:
        return _log_prob(p, value, laws[0]) - _log_prob(q, value, laws[1])
    return p.log_prob(value) - q.log_prob(value)


def _log_prob(p: Any, value: Tensor, law: Law) -> Tensor:
    if law.family == "ZeroInflatedDistribution":
        return _zero_inflated(p, value)
    params = _Tensors("", law)._parameters(NOISE_TRANSFORMS[law.family], law.params)
    return LOG_PROBS[law.family].function(value, *_positional(NOISE_TRANSFORMS[law.family], params))


def _zero_inflated(p: Any, value: Tensor) -> Tensor:
    """Of a base with a density, 0 has the gate's probability alone."""
    if p.base_dist.support.is_discrete:
        return p.log_prob(value)
    return torch.where(value == 0, p.gate.log(), torch.log1p(-p.gate) + p.base_dist.log_prob(value))
