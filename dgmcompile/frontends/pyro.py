"""Pyro programs: every sample site is a `Sample`, whatever handlers stand around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from types import FunctionType
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine import runtime
from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.messenger import Messenger
from torch import Tensor

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.calls import is_expanded, is_literal
from dgmcompile.frontends.distributions import ConstructorCalls, Mask, event_dim_of, held_masks, unwrapped
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.samplers import nothing_kept
from dgmcompile.frontends.source import assigned_name, location_of, user_frame
from dgmcompile.ir.binding import Constrained
from dgmcompile.ir.formulas import SUBSAMPLING_SCALE
from dgmcompile.ir.graph import Arg, Call, Law, Plate, Ref, Sample, Site, leaves, value_parents
from dgmcompile.ir.site_options import wrong_options


class SiteRecorder(Messenger):
    """The outermost handler: draws every site's value itself and records it.

    An observed site is drawn as well: the data never becomes part of the graph, and where the program
    reads the observed tensor again, it reads the site.
    """

    def __init__(self, recorder: Recorder, calls: ConstructorCalls) -> None:
        super().__init__()
        self._recorder = recorder
        self._calls = calls
        self._plates: dict[str, bool] = {}
        """Is it a plate, of each name that was used? Its indices are a site in Pyro, even where they are all."""
        self._targets: set[str] = set()
        self.met = False
        """Did the program draw, or ask, anything by Pyro?"""

    def _pyro_sample(self, msg: Any) -> None:
        self.met = True
        location = location_of(user_frame())
        is_plate = type(msg["fn"]).__name__ == "_Subsample"
        self._refuse_repeated(msg["name"], is_plate, location)
        if not is_plate:
            self._site(msg, location)

    def hidden(self, msg: Any) -> None:
        """A draw that `hidden_draws` found: part of the program wherever something reads it, and else no site."""
        recording, location = self._recorder.recording, location_of(user_frame())
        before = len(recording.nodes)
        self._site(msg, location)
        recording.hidden.update(node.name for node in recording.nodes[before:] if node.site is not None)

    def _site(self, msg: Any, location: Location | None) -> None:
        broadcast_replayed(msg)
        if msg["infer"].get("_deterministic") or self._is_its_own_delta(msg, location):
            self._deterministic(msg, location)
        elif refusal := _no_random_variable(msg, location) or _other_batch(msg, location):
            self._recorder.recording.errors.append(refusal)
        else:
            self._sample(msg, location)

    def _pyro_post_param(self, msg: Any) -> None:
        if isinstance(msg["value"], Tensor):
            self._recorder.name_value(msg["value"], assigned_name(user_frame()) or msg["name"])
            self._constrained(msg)

    def _constrained(self, msg: Any) -> None:
        """Remember the constraint of a parameter, and which node is its constrained value."""
        recorder, unconstrained = self._recorder, getattr(msg["value"], "unconstrained", lambda: None)()
        constraint = pyro.get_param_store()._constraints.get(msg["name"], msg["kwargs"].get("constraint"))
        if not isinstance(unconstrained, Tensor) or constraint is None:
            return
        path, trainable = recorder.paths.of_tensor(unconstrained)
        value = recorder.values.find(msg["value"])
        if path is not None and trainable:
            recorder.recording.constrained[path] = Constrained(constraint, msg["name"], value and value.name)

    def _refuse_repeated(self, name: str, is_plate: bool, location: Location | None) -> None:
        if name in self._plates and (is_plate or self._plates[name]):
            raise CompileError(refusals.plate_name(name, location))
        if name in self._plates:
            raise CompileError(_repeated(name, location))
        self._plates[name] = is_plate

    def _is_its_own_delta(self, msg: Any, location: Location | None) -> bool:
        """An observed Delta at the observed value, as Pyro's reparameterisers leave behind: no random variable."""
        if not msg["is_observed"] or not isinstance(msg["value"], Tensor):
            return False
        if type(unwrapped(msg["fn"])).__name__ != "Delta":
            return False
        law = self._calls.unwrapped(msg["fn"], msg["name"], location).law
        return law.params.get("v") == self._recorder.ref(msg["value"])

    def _deterministic(self, msg: Any, location: Location | None) -> None:
        if msg["value"] is None:  # under poutine.uncondition, which draws it from its Delta
            msg["value"], msg["done"] = msg["fn"](*msg["args"], **msg["kwargs"]), True
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
        if observed is not None and isinstance(observed, Tensor):
            recorder.recording.observed[msg["name"]] = recorder.ref(observed).name
            self._refuse_computed(msg["name"], recorder.ref(observed), location)
        with recorder.paused(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's sampler, whose value does not matter
            with nothing_kept(msg["fn"]):
                value = _own_memory(_drawn(msg, observed))
        found = self._calls.unwrapped(msg["fn"], msg["name"], location, tuple(value.shape))
        recorder.recording.errors += _strange_parts(found.law, location)
        law, masks = found.law, [*map(self._as_bool, found.masks), Mask(msg["mask"])]
        mask, mask_event_dim = self._mask(masks)
        node = Sample(
            name=recorder.fresh_name(),
            family=law.family,
            params=law.params,
            transforms=law.transforms,
            event_dim=event_dim_of(msg["fn"]),
            mask=mask,
            mask_event_dim=mask_event_dim,
            scale=self._scale(msg, location),
            shape=tuple(value.shape),
            dtype=value.dtype,
            site=Site(msg["name"], "target" if msg["is_observed"] else "latent", law.family, _plates(msg)),
            location=location,
            infer=_asked_of_inference(msg["infer"]),
        )
        node = self._chosen(node, msg["infer"].get("dgm"))
        for held in (*held_masks(msg["fn"]), msg["mask"]):
            recorder.watch(held, "mask", msg["name"], location)
        recorder.watch(msg["scale"], "scale", msg["name"], location)
        ref = recorder.add(node, msg["name"], value)
        if msg["is_observed"]:
            self._targets.add(node.name)
        recorder.recording.origin[node.name] = f"site {msg['name']!r}"
        if isinstance(observed, Tensor):
            self._observe(observed, value, ref, location)
        msg["value"], msg["done"] = value, True

    def _chosen(self, node: Sample, options: Any) -> Sample:
        """The site with what the model itself asks for, by ``infer={"dgm": {...}}``."""
        if not options:
            return node
        assert node.site is not None
        if wrong := list(wrong_options(node.site.name, options, node.location)):
            self._recorder.recording.errors += wrong
            return node
        rest = {name: value for name, value in options.items() if name not in ("keep", "target")}
        site = replace(node.site, role="target") if options.get("target") else node.site
        return replace(node, site=site, kept=options.get("keep", False), options=rest)

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
                    help="use pyro.deterministic for a computed value; observe data only, and compute one from another "
                    "before a site observes the other",
                )
            )

    def _observe(self, observed: Tensor, value: Tensor, ref: Ref, location: Location | None) -> None:
        """The observed tensor *is* the site's value wherever the program reads it from now on."""
        if observed.shape != value.shape or is_expanded(observed):
            ref = self._recorder.call("identity", (ref,), {}, None, location)
            self._recorder.recording.poison[ref.name] = _other_shape(observed, value, location)
        elif observed.dtype != value.dtype:
            ref = self._recorder.call("torch.Tensor.to", (ref, observed.dtype), {}, None, location)
            self._recorder.retype(observed)
            self._targets.add(ref.name)
        self._recorder.written(observed, ref, by_user=False)

    def _mask(self, masks: list[Mask]) -> tuple[Arg, int]:
        """All of them as one, and how many event dims stand outside it."""
        masks = [mask for mask in masks if mask.value is not None and mask.value is not True]
        if any(mask.value is False for mask in masks):
            return False, 0
        event_dim = max([mask.event_dim for mask in masks], default=0)
        parts = [self._unsqueezed(self._recorder.arg(mask.value), event_dim - mask.event_dim) for mask in masks]
        while len(parts) > 1:
            first, second, *rest = parts
            parts = [self._of_masks("torch.logical_and", torch.logical_and, first, second), *rest]
        return (parts[0], event_dim) if parts else (None, 0)

    def _as_bool(self, mask: Mask) -> Mask:
        """The mask of a `MaskedDistribution`, which takes numbers for truth values."""
        given = self._recorder.arg(mask.value)
        if isinstance(given, Ref) and self._recorder.node(given).dtype != torch.bool:
            given = self._of_masks("torch.Tensor.bool", torch.Tensor.bool, given)
        return replace(mask, value=given)

    def _unsqueezed(self, mask: Arg, times: int) -> Arg:
        for _ in range(times):
            mask = self._of_masks("torch.unsqueeze", torch.unsqueeze, mask, -1)
        return mask

    def _of_masks(self, target: str, function: Callable[..., Tensor], *args: Any) -> Ref:
        """A call of our own, of the shape that its result has."""

        def stand_in(arg: Any) -> Any:
            if not isinstance(arg, Ref):
                return arg
            node = self._recorder.node(arg)
            return torch.empty([int(n) for n in node.shape or ()], dtype=node.dtype, device="meta")  # type: ignore[arg-type]

        with self._recorder.paused():
            result = function(*map(stand_in, args))
        return self._recorder.call(target, args, {}, result, None)


@contextmanager
def hidden_draws(seen: Callable[[Any], None]) -> Iterator[None]:
    """Pass the messages of draws that ``poutine.block`` hides from the handlers outside of it to ``seen``."""
    default = runtime.default_process_message

    def process(msg: Any) -> None:
        undrawn = msg["stop"] and not msg["done"] and not msg["is_observed"] and msg["value"] is None
        if undrawn and msg["type"] == "sample" and isinstance(msg["fn"], TorchDistributionMixin):
            seen(msg)
        default(msg)

    runtime.default_process_message = process
    try:
        yield
    finally:
        runtime.default_process_message = default


def broadcast_replayed(msg: Any) -> None:
    """``poutine.replay`` inside of a plate gives the site its value before the plate broadcasts its law: do so now."""
    if msg["done"] and not msg["is_observed"]:
        msg["done"] = False
        BroadcastMessenger._pyro_sample(msg)


def repeated_sites(nodes: list[Any]) -> list[Diagnostic]:
    """Of the sites that are left, those of one name: a hidden one may share it with one that is not."""
    seen: set[str] = set()
    found: list[Diagnostic] = []
    for node in nodes:
        if node.site is not None and node.site.name in seen:
            found.append(_repeated(node.site.name, node.location))
        seen.update([node.site.name] if node.site is not None else [])
    return found


def _repeated(name: str, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="repeated-site",
        message=f"site {name!r} is sampled twice",
        location=location,
        help="give each site a name of its own, as f'z_{t}' in a loop",
    )


def _strange_parts(law: Law, location: Location | None) -> list[Diagnostic]:
    """What a distribution is given that no graph can hold, as an object of a class of the program's own."""
    given = leaves(dict(law.params))
    strange = [leaf for leaf in given if not (is_literal(leaf) or isinstance(leaf, FunctionType))]
    return [refusals.unknown_literal(law.family, type(leaf).__name__, location) for leaf in strange[:1]]


def _other_batch(msg: Any, location: Location | None) -> Diagnostic | None:
    """A mask or a scale that does not fit: Pyro says so when it computes the log-probability, and not before."""
    for kind in ("mask", "scale"):
        if isinstance(msg[kind], Tensor):
            batch, shape = tuple(msg["fn"].batch_shape), tuple(msg[kind].shape)
            try:
                torch.broadcast_shapes(batch, shape)
            except RuntimeError:
                return Diagnostic(
                    code="batch-shape",
                    message=f"site {msg['name']!r} of batch shape {batch} has a {kind} of shape {shape}",
                    location=location,
                    help=f"give the {kind} the shape of the site's batch",
                )
    return None


def _other_shape(observed: Tensor, value: Tensor, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="observed-shape",
        message=f"data of shape {tuple(observed.shape)} are observed at a site of shape {tuple(value.shape)}, "
        "and then read again: they hold fewer numbers than the site draws",
        location=location,
        help="give the data the site's shape before, in memory of their own: x.expand(n).clone()",
    )


def _no_random_variable(msg: Any, location: Location | None) -> Diagnostic | None:
    family, name = type(msg["fn"]).__name__, msg["name"]
    if not isinstance(msg["fn"], TorchDistributionMixin) or not hasattr(msg["fn"], "_batch_shape"):
        return Diagnostic(
            code="no-law",
            message=f"site {name!r} draws from a {family}, which is no distribution of Pyro's, or has no shape",
            location=location,
            help="draw from one of pyro.distributions, and compute what follows by plain calls",
        )
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


def _drawn(msg: Any, observed: Any) -> Tensor:
    """A draw; of a law that has no sampler, or no length but that of the data, a value of the right shape."""
    law = unwrapped(msg["fn"])
    shape = tuple(msg["fn"].shape())
    if type(law).__name__ == "GroupedNormalNormal":  # it says that it has no event dim
        shape = tuple(law.group_idx.shape)
    elif getattr(law, "duration", 0) is None and isinstance(observed, Tensor):
        time = len(shape) - law.event_dim
        shape = (*shape[:time], observed.shape[-law.event_dim], *shape[time + 1 :])
        return _stand_in(law, shape, observed)
    try:
        return msg["fn"](*msg["args"], **msg["kwargs"])
    except NotImplementedError:
        return _stand_in(law, shape, observed)


def _stand_in(law: Any, shape: tuple[int, ...], observed: Any) -> Tensor:
    """A value of this shape: the data, or a point that the law has."""
    if isinstance(observed, Tensor) and tuple(observed.shape) == shape:
        return observed
    value = torch.zeros(shape) if not isinstance(observed, Tensor) else observed.new_zeros(shape)
    if type(law).__name__ == "VonMises3D":
        value[..., 0] = 1.0
    return value


def _own_memory(value: Tensor) -> Tensor:
    """A sampler may return its parameter, or a view of it (Delta does)."""
    return value.clone()


def _asked_of_inference(infer: Mapping[str, Any]) -> dict[str, Arg]:
    """Of ``infer=``, as by ``config_enumerate``, what is Pyro's: it decides how a site is summed out, not its law."""
    theirs = {key: value for key, value in infer.items() if key.isidentifier() and not key.startswith("_")}
    return {key: value for key, value in theirs.items() if isinstance(value, bool | int | float | str) and key != "dgm"}


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
