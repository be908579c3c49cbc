"""Pyro programs: every sample site is a `Sample`, whatever handlers stand around it."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.distributions import ConstructorCalls, Law, unwrapped
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.source import assigned_name, location_of, user_frame
from dgmcompile.ir.formulas import SUBSAMPLING_SCALE
from dgmcompile.ir.graph import Arg, Call, Plate, Ref, Sample, Site, value_parents


class SiteRecorder(Messenger):
    """The outermost handler: draws every site's value itself and records it.

    An observed site is drawn as well: the data never becomes part of the graph, and where the program
    reads the observed tensor again, it reads the site.
    """

    def __init__(self, recorder: Recorder, calls: ConstructorCalls) -> None:
        super().__init__()
        self._recorder = recorder
        self._calls = calls
        self._sites: dict[str, Location | None] = {}
        self._targets: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        location = location_of(user_frame())
        self._refuse_repeated(msg["name"], location)
        if msg["infer"].get("_deterministic") or self._is_its_own_delta(msg, location):
            self._deterministic(msg, location)
        elif refusal := _no_random_variable(msg, location):
            self._recorder.recording.errors.append(refusal)
        else:
            self._sample(msg, location)

    def _pyro_post_param(self, msg: Any) -> None:
        if isinstance(msg["value"], Tensor):
            self._recorder.name_value(msg["value"], assigned_name(user_frame()) or msg["name"])

    def _refuse_repeated(self, name: str, location: Location | None) -> None:
        if name in self._sites:
            raise CompileError(
                Diagnostic(
                    code="repeated-site",
                    message=f"site {name!r} is sampled twice",
                    location=location,
                    help="give each site a name of its own, as f'z_{t}' in a loop",
                )
            )
        self._sites[name] = location

    def _is_its_own_delta(self, msg: Any, location: Location | None) -> bool:
        """An observed Delta at the observed value, as Pyro's reparameterisers leave behind: no random variable."""
        if not msg["is_observed"] or not isinstance(msg["value"], Tensor):
            return False
        if type(unwrapped(msg["fn"])).__name__ != "Delta":
            return False
        return self._calls.law(msg["fn"], location).params.get("v") == self._recorder.ref(msg["value"])

    def _deterministic(self, msg: Any, location: Location | None) -> None:
        value = msg["value"]
        site = Site(msg["name"], "deterministic", "Delta", _plates(msg))
        node = Call(
            name=self._recorder.fresh_name(),
            target="identity",
            args=(self._recorder.ref(value),),
            shape=tuple(value.shape),
            dtype=value.dtype,
            site=site,
            location=location,
        )
        self._recorder.add(node, msg["name"], value)

    def _sample(self, msg: Any, location: Location | None) -> None:
        recorder, observed = self._recorder, msg["value"] if msg["is_observed"] else None
        law = self._calls.law(msg["fn"], location)
        if observed is not None and isinstance(observed, Tensor):
            self._refuse_computed(msg["name"], recorder.ref(observed), location)
        with recorder.paused():
            value = _own_memory(msg["fn"](*msg["args"], **msg["kwargs"]))
        node = Sample(
            name=recorder.fresh_name(),
            family=law.family,
            params=law.params,
            transforms=law.steps,
            event_dim=msg["fn"].event_dim,
            mask=self._mask(law, msg["mask"]),
            scale=self._scale(msg, location),
            shape=tuple(value.shape),
            dtype=value.dtype,
            site=Site(msg["name"], "target" if msg["is_observed"] else "latent", law.family, _plates(msg)),
            location=location,
        )
        ref = recorder.add(node, msg["name"], value)
        if msg["is_observed"]:
            self._targets.add(node.name)
        recorder.recording.origin[node.name] = f"site {msg['name']!r}"
        if isinstance(observed, Tensor):
            self._observe(observed, value, ref, location)
        msg["value"], msg["done"] = value, True

    def _scale(self, msg: Any, location: Location | None) -> Arg:
        """Plates that subsample scale by a quotient of sizes, which stays one at other sizes."""
        scale = msg["scale"]
        if not isinstance(scale, int | float):
            return self._recorder.arg(scale)
        drawn = [f for f in msg["cond_indep_stack"] if f.full_size not in (None, -1, f.size)]
        if not drawn:
            return None if scale == 1 else scale
        full_size, size = prod(int(f.full_size) for f in drawn), prod(int(f.size) for f in drawn)
        factor = float(f"{scale * size / full_size:.12g}")  # rounded: it is the same at every size
        args = (full_size, size) if factor == 1 else (full_size, size, factor)
        return self._recorder.call(SUBSAMPLING_SCALE, args, {}, scale, location, "scale")

    def _refuse_computed(self, name: str, ref: Ref, location: Location | None) -> None:
        origin = self._recorder.origin_of(ref)
        if origin is not None and origin.startswith("site") and ref.name not in self._targets:
            self._recorder.recording.errors.append(
                Diagnostic(
                    code="observed-latent",
                    message=f"site {name!r} observes a value that depends on {origin}",
                    location=location,
                    notes=("such a site is a factor: it weighs the model and draws nothing",),
                    help="use pyro.deterministic for a computed value; observe data only",
                )
            )

    def _observe(self, observed: Tensor, value: Tensor, ref: Ref, location: Location | None) -> None:
        """The observed tensor *is* the site's value wherever the program reads it from now on."""
        if observed.shape != value.shape:
            ref = self._recorder.call("identity", (ref,), {}, None, location)
            self._recorder.recording.poison[ref.name] = _other_shape(observed, value, location)
        elif observed.dtype != value.dtype:
            ref = self._recorder.call("torch.Tensor.to", (ref, observed.dtype), {}, None, location)
            self._recorder.retype(observed)
        self._recorder.written(observed, ref, by_user=False)

    def _mask(self, law: Law, mask: Any) -> Arg:
        masks = [self._recorder.arg(m) for m in (*law.masks, mask) if m is not None and m is not True]
        if any(m is False for m in masks):
            return False
        while len(masks) > 1:
            first, second, *rest = masks
            masks = [self._recorder.call("torch.logical_and", (first, second), {}, None, None), *rest]
        return masks[0] if masks else None


def _other_shape(observed: Tensor, value: Tensor, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="observed-shape",
        message=f"data of shape {tuple(observed.shape)} are observed at a site of shape {tuple(value.shape)}, "
        "and then read again",
        location=location,
        help="expand the data to the site's shape before",
    )


def _no_random_variable(msg: Any, location: Location | None) -> Diagnostic | None:
    family, name = type(msg["fn"]).__name__, msg["name"]
    if family == "Unit" or (family == "MaskedDistribution" and type(msg["fn"].base_dist).__name__ == "Unit"):
        return Diagnostic(
            code="factor",
            message=f"site {name!r} is a pyro.factor: a weight, and no random variable",
            location=location,
            help="write the weight as the log-probability of an observed site",
        )
    if family == "ImproperUniform":
        return Diagnostic(
            code="improper-prior",
            message=f"site {name!r} has an improper prior: there is no law to draw it from",
            location=location,
            help="give it a proper prior",
        )
    return None


def _plates(msg: Any) -> tuple[Plate, ...]:
    """The vectorised plates around a site, outermost first."""
    return tuple(Plate(f.name, f.dim, int(f.size)) for f in msg["cond_indep_stack"] if f.vectorized)


def _own_memory(value: Tensor) -> Tensor:
    """A sampler may return its parameter, or a view of it (Delta does)."""
    return value.clone()


def with_roles(nodes: list[Any], targets: Any) -> list[Any]:
    """The sites' roles: observed sites are targets, else those that no other site depends on; or as told.

    Args:
        targets: None, "all", or names of the target sites.
    """
    samples = [node for node in nodes if isinstance(node, Sample)]
    names = {node.site.name for node in samples if node.site}
    if targets == "all":
        chosen = names
    elif targets is not None:
        chosen = {targets} if isinstance(targets, str) else set(targets)
        if unknown := chosen - names:
            raise CompileError(
                Diagnostic(
                    code="unknown-site",
                    message=f"no site is called {', '.join(map(repr, sorted(unknown)))}",
                    notes=(f"the sites are {', '.join(map(repr, sorted(names)))}",),
                    help="name sites of the model as targets",
                )
            )
    elif any(node.site and node.site.role == "target" for node in samples):
        return nodes
    else:
        chosen = _childless(nodes)
    return [_with_role(node, chosen) if isinstance(node, Sample) else node for node in nodes]


def _with_role(node: Sample, chosen: set[str]) -> Sample:
    assert node.site is not None
    return replace(node, site=replace(node.site, role="target" if node.site.name in chosen else "latent"))


def _childless(nodes: list[Any]) -> set[str]:
    parents: set[str] = set()
    reach: dict[str, frozenset[str]] = {}
    for node in nodes:
        above = frozenset[str]().union(*(reach[name] for name in value_parents(node)))
        if isinstance(node, Sample) and node.site:
            parents |= above
            above = frozenset([node.site.name])
        reach[node.name] = above
    return {node.site.name for node in nodes if isinstance(node, Sample) and node.site} - parents
