"""A strategy of ``poutine.reparam`` after which every latent of a program is noise without parameters.

It works on the running program, with tensors: no graph is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.distribution import DistributionMeta
from pyro.infer.reparam.reparam import Reparam
from pyro.infer.reparam.strategies import Strategy
from pyro.poutine.reparam_messenger import ReparamHandler, ReparamMessenger
from torch import Tensor

from dgmcompile.codegen.pyro_sites import STANDARD_LAWS
from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.distributions import ConstructorCalls, Unwrapped, given_to, unwrapped
from dgmcompile.frontends.source import location_of, user_frame
from dgmcompile.ir.graph import Arg, Law, Sample, Shape, Site, TransformStep, leaves
from dgmcompile.ir.site_options import wrong_options
from dgmcompile.passes.auxiliary import problems_of
from dgmcompile.passes.draws import given_as
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, Composition, NoiseTransform
from dgmcompile.reparam.registry import converted_with

_NOISE = "_dgm_noise"
"""Entry in ``infer`` of the sites that the strategy adds."""


class FullReparam(Strategy):
    """Every latent site ``z`` becomes noise ``z_noise``, whose law has no parameters, and a deterministic ``z``.

    As `AutoReparam`, it is a decorator of models and a ``config`` of ``poutine.reparam``; unlike there, a site that
    it cannot write is refused and not skipped. Observed sites stay as they are, and those that a handler inside of
    the model enumerates: they are summed over, and not drawn. A value that a site is to start from
    (``init_to_value``, say) is pushed back to its noise, where the family's transform has an inverse.

    As a decorator it reads parameters as the program gives them; as a ``config``, from the distributions, which for
    a few families is not possible: those are refused.

    Args:
        keep: names of latents to leave random; so does ``infer={"dgm": {"keep": True}}`` at the site.
    Errors:
        `CompileError` ``no-noise-transform``, ``unknown-parameters``, ``unknown-option``, ``unseen-distribution``,
        ``rewritten-site``, while the model runs.
    """

    def __init__(self, keep: Iterable[str] = ()) -> None:
        super().__init__()
        self.keep = frozenset([keep] if isinstance(keep, str) else keep)
        self._calls: list[ConstructorCalls] = []

    def __call__(self, msg_or_fn: Any) -> Any:
        if not isinstance(msg_or_fn, dict):
            return _Handler(ReparamMessenger(self), msg_or_fn, self)
        msg, infer = msg_or_fn, msg_or_fn["infer"]
        if msg["is_observed"] or infer.get(_NOISE) or infer.get("_enumerate_dim") is not None:
            return None
        reparam = self.config[msg["name"]] = self.configure(msg)
        if reparam is not None:
            _prepare(msg)
        return reparam

    def configure(self, msg: Any) -> Reparam | None:
        """Of the site as it is now: another model, or another run, may choose otherwise for one of its name."""
        given = msg["infer"].get("dgm") or {}
        if wrong := list(wrong_options(msg["name"], given, location_of(user_frame()))):
            raise CompileError(*wrong)
        options = dict(given)
        if options.pop("keep", False) or msg["name"] in self.keep:
            return None
        known = self.config.get(msg["name"])
        reparam = known if isinstance(known, _FullReparam) and known.options == options else None
        reparam = reparam or _FullReparam(self, options)
        reparam.has_value = msg["value"] is not None
        return reparam

    @property
    def calls(self) -> ConstructorCalls:
        """What has been seen of constructors in this run of the model; nothing, where it is not a decorator."""
        return self._calls[-1] if self._calls else _Calls()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Constructor calls are seen while inside."""
        self._calls.append(_Calls())
        try:
            with self._calls[-1].watched():
                yield
        finally:
            self._calls.pop()


def _prepare(msg: Any) -> None:
    """What `Reparam.apply` is not shown: a shape that the program draws in, and that nothing may initialise the site.

    Initialisation of discrete sites fails, and they are not to be initialised: their noise is.
    """
    shape, *_ = (*msg["args"], *msg["kwargs"].values(), ())
    if shape:
        msg["fn"] = msg["fn"].expand(torch.Size(shape) + msg["fn"].batch_shape)
        msg["args"], msg["kwargs"] = (), {}
    if msg["value"] is None and not _can_start(msg["fn"]):
        msg["value"] = _Unset()


class _Unset:
    """Stands for a value that is not there yet: nothing initialises it, and whatever replaces it has its shape."""

    _pyro_custom_init = False

    @property
    def shape(self) -> _Unset:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _can_start(fn: Any) -> bool:
    try:
        return not fn.support.is_discrete
    except (AttributeError, NotImplementedError):
        return False


class _Handler(ReparamHandler[..., Any]):
    """The model under the strategy."""

    def __init__(self, messenger: ReparamMessenger, fn: Callable[..., Any], strategy: FullReparam) -> None:
        super().__init__(messenger, fn)
        self._strategy = strategy
        functools.update_wrapper(self, fn, updated=())  # its name and signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._strategy.watching():
            return super().__call__(*args, **kwargs)


class _Given:
    """Stands in for the recorder: values stay values."""

    in_constructor = 0

    def arg(self, value: Any) -> Any:
        return value


class _Calls(ConstructorCalls):
    """As there, but arguments are bound to names only where a site asks for them: most are not of sites."""

    def __init__(self) -> None:
        super().__init__(_Given(), _live_steps)  # type: ignore[arg-type]
        self._seen: dict[int, tuple[Any, type, tuple[Any, ...], dict[str, Any]]] = {}

    def _construct(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        instance = super(DistributionMeta, cls).__call__(*args, **kwargs)  # type: ignore[misc]
        self._seen[id(instance)] = (instance, cls, args, kwargs)
        return instance

    def parameters(self, distribution: Any, location: Location | None) -> dict[str, Any]:
        if id(distribution) not in self._seen:
            return super().parameters(distribution, location)
        _, cls, args, kwargs = self._seen[id(distribution)]
        return given_to(cls, args, kwargs, lambda value: value)


def _live_steps(parts: Iterable[Any], *_: Any) -> tuple[TransformStep, ...]:
    """The transforms themselves, which can be called."""
    return tuple(TransformStep(type(part).__name__, {"forward": part}) for part in parts)


class _FullReparam(Reparam):
    """Of one site; ``has_value``: a handler inside of the strategy gives it its value, as a replay does."""

    def __init__(self, strategy: FullReparam, options: Mapping[str, Any]) -> None:
        self._strategy = strategy
        self.options = options
        self.has_value = False
        self._checked: object = None

    def apply(self, msg: Any) -> Any:
        name, fn, value = msg["name"], msg["fn"], msg["value"]
        if msg["is_observed"]:
            return msg
        if isinstance(value, _Unset):
            value = None
        if isinstance(base := unwrapped(fn), dist.Delta):  # it has a density of its own, and nothing random
            return {"fn": fn, "value": value if self.has_value else base.v, "is_observed": True}
        writer = self._writer(name, fn)
        known = None if value is None else writer.noise_of(value)
        if self.has_value and known is None:
            raise CompileError(_no_noise_of(name, writer.law.family))
        drawn = writer.value(known)
        value = drawn if value is None or known is None else value
        return {"fn": Delta.of_site(name, value, fn.event_dim), "value": value, "is_observed": True}

    def _writer(self, name: str, fn: Any) -> _Tensors:
        found = self._read(name, fn)
        law = replace(found.law, event_dim=fn.event_dim)
        self._check(name, law)
        masks = tuple((mask.value, mask.event_dim) for mask in found.masks if mask.value is not True)
        return _Tensors(name, law, masks, self.options)

    def _read(self, name: str, fn: Any) -> Unwrapped:
        """The family, its parameters and the masks."""
        try:
            return self._strategy.calls.unwrapped(fn, name, None)
        except CompileError as error:
            raise CompileError(*(_of_site(problem, name) for problem in error.diagnostics)) from None

    def _check(self, name: str, law: Law) -> None:
        """Refuse what has no transform; the same law is not looked at twice."""
        seen = _signature(law)
        if seen == self._checked:
            return
        site = Sample(
            name=name,
            family=law.family,
            params=law.params,
            event_dim=law.event_dim,
            transforms=law.transforms,
            shape=law.shape,
            options=self.options,
            site=Site(name, "latent", law.family),
            location=location_of(user_frame()),
        )
        if problems := problems_of(site, lambda arg: tuple(arg.shape) if isinstance(arg, Tensor) else ()):
            raise CompileError(*(_with_our_help(problem, name) for problem in problems))
        self._checked = seen


class Delta(dist.Delta):
    """The law of a rewritten site; at another value than its own it has no density, and says why.

    By its name it is known to Pyro, and when it is traced, as what a reparameteriser leaves behind.
    """

    site = ""

    @classmethod
    def of_site(cls, site: str, value: Tensor, event_dim: int) -> Delta:
        law = cls(value, event_dim=event_dim, validate_args=False)
        law.site = site
        return law

    def expand(self, batch_shape: Any, _instance: Any = None) -> Delta:
        new: Delta = super().expand(batch_shape, _instance)
        new.site = self.site
        return new

    def log_prob(self, x: Tensor) -> Tensor:
        if x is not self.v and not torch.isclose(x, self.v, equal_nan=True).all():
            raise CompileError(_given_outside(self.site))
        shape = torch.broadcast_shapes(self.batch_shape, x.shape[: x.dim() - self.event_dim])
        return torch.zeros((), device=x.device).expand(shape)


def _signature(law: Law) -> object:
    return law.family, tuple((name, _signature_of(value)) for name, value in law.params.items())


def _signature_of(value: Any) -> object:
    return _signature(value) if isinstance(value, Law) else getattr(value, "shape", value is None)


def _given_outside(name: str) -> Diagnostic:
    return Diagnostic(
        code="rewritten-site",
        message=f"site {name!r} is computed from its noise, and a handler around FullReparam gives it another value",
        notes=("which would have no density: nothing would be observed",),
        help="put the handler inside, FullReparam()(poutine.condition(model, data)); "
        "to intervene and not to observe, use poutine.do",
    )


def _no_noise_of(name: str, family: str) -> Diagnostic:
    return Diagnostic(
        code="rewritten-site",
        message=f"site {name!r} is given a value inside of FullReparam, and its noise cannot be told: "
        f"the transform of {family} has no inverse",
        location=location_of(user_frame()),
        help=f"to leave the site random: FullReparam(keep=({name!r},))",
    )


def _of_site(problem: Diagnostic, name: str) -> Diagnostic:
    """A distribution that hides its parameters."""
    if problem.code == "unseen-distribution":
        words = problem.message.replace("was made before the model ran", "was made out of sight")
        problem = replace(
            problem,
            message=f"site {name!r}: {words}",
            help="use the strategy as a decorator, FullReparam()(model), and make the distribution inside the model",
        )
    return replace(problem, location=location_of(user_frame()))


def _with_our_help(problem: Diagnostic, name: str) -> Diagnostic:
    return replace(problem, help=f"to leave the site random: FullReparam(keep=({name!r},))")


@dataclass
class _Tensors:
    """Draws of one site as tensors: a `Draws` of compositions.

    Args:
        masks: of the site's own distribution, for its noise as well, and the event dims outside of each.
        options: what is chosen for the site.
    """

    name: str
    law: Law
    masks: tuple[tuple[Any, int], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prefix, self._names = self.name, set[str]()
        self._known: Tensor | None = None
        tensors = [leaf for leaf in leaves(dict(self.law.params)) if isinstance(leaf, Tensor)]
        floating = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        self._dtype = next(floating, torch.get_default_dtype())
        self._device = tensors[0].device if tensors else torch.get_default_device()

    def value(self, known: Tensor | None = None) -> Tensor:
        """A draw of the site, which adds its noise to the trace; from ``known`` noise where it is given."""
        self._known = known
        value = self.draw(self.law, self.law.shape, "")
        shape: Any = self.law.shape
        return value if value.shape == shape else value.expand(torch.broadcast_shapes(value.shape, shape))

    def noise_of(self, value: Tensor) -> Tensor | None:
        """The noise that gives ``value``; None where it cannot be told."""
        family = NOISE_TRANSFORMS.get(self.law.family)
        if family is None or family.inverse is None or self.options.keys() & {"variant", "gradient"}:
            return None
        try:
            for step in reversed(self.law.transforms):
                value = step.params["forward"].inv(value)
        except (KeyError, NotImplementedError):
            return None
        return family.inverse.function(value, *_positional(family, self._parameters(family, self.law.params)))

    # `Draws`

    def draw(self, law: Law, shape: Shape, label: str, variant: str = "") -> Tensor:
        """See `Draws`."""
        outer, self._prefix = self._prefix, "_".join(filter(None, (self._prefix, label)))
        try:
            for step in reversed(law.transforms):
                shape = tuple(step.params["forward"].inverse_shape(torch.Size(shape)))  # type: ignore[arg-type]
            value = self._base(law, shape, self.options if law is self.law else {"variant": variant} if variant else {})
            for step in law.transforms:
                value = step.params["forward"](value)
            return value
        finally:
            self._prefix = outer

    def call(self, label: str, formula: Any, *args: Arg) -> Any:
        """See `Draws`."""
        return formula.function(*args)

    def _base(self, law: Law, shape: Shape, options: Mapping[str, Any]) -> Any:
        if (composition := COMPOSITIONS.get(law.family)) is not None:
            composition = composition.variants[options["variant"]] if "variant" in options else composition
            return composition.write(self._parameters(composition, law.params), shape, self)
        family = NOISE_TRANSFORMS[law.family]
        family = family.variants[options["variant"]] if "variant" in options else family
        params = self._parameters(family, law.params)
        forward, extra = family.forward, {}
        if "gradient" in options:
            forward = family.gradients[options["gradient"]]
            extra = {name: options[name] for name in ("temperature",) if name in options}
        given = {name: tuple(value.shape) if isinstance(value, Tensor) else () for name, value in params.items()}
        shapes = family.noise_shapes(shape, given)
        noises = [
            self._noise(source.law.name, noise, source.dtype or self._dtype)
            for source, noise in zip(family.noises, shapes, strict=True)
        ]
        return forward.function(*noises, *_positional(family, params), **extra)

    def _parameters(self, family: NoiseTransform | Composition, params: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical parameters; those left to their defaults are missing."""
        found = dict[str, Any]()
        for param in family.params:
            given = given_as(param, params, family)
            if given is not None:
                value = params[given] if given == param else _converted(param, given, family, params)
                found[param] = self._canonical(value) if isinstance(value, Law) else value
        return found

    def _canonical(self, part: Law) -> Law:
        """A distribution inside another one, in canonical parameters; of an unknown family as it is."""
        family = COMPOSITIONS.get(part.family) or NOISE_TRANSFORMS.get(part.family)
        return part if family is None else replace(part, params=self._parameters(family, part.params))

    def _noise(self, law: str, shape: Shape, dtype: torch.dtype) -> Tensor:
        """A site of the trace; the plates around the variable are around it too."""
        batch = len(self.law.batch_shape) if shape[: len(self.law.batch_shape)] == self.law.batch_shape else 0
        family, params = STANDARD_LAWS[law]
        size: Any = shape
        given = params(lambda value: torch.full(size, value, dtype=dtype, device=self._device), dtype)
        made = self._masked(getattr(dist, family)(**given, validate_args=False), len(shape) - batch)
        infer: Any = {"is_observed": False, _NOISE: True}
        return pyro.sample(self._fresh(f"{self._prefix}_noise"), made, obs=self._known, infer=infer)

    def _masked(self, made: Any, event_dim: int) -> Any:
        """With so many event dims, each mask inside of those that stand outside of it."""
        inside = 0
        for mask, outside in self.masks:
            made = made.to_event(event_dim - outside - inside).mask(mask)
            inside = event_dim - outside
        return made.to_event(event_dim - inside)

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name


def _converted(param: str, given: str, family: NoiseTransform | Composition, params: Mapping[str, Any]) -> Any:
    formula = family.conversions[param][given]
    return formula.function(params[given], *(params[other] for other in converted_with(formula)))


def _positional(family: NoiseTransform, params: Mapping[str, Any]) -> list[Any]:
    """In the order that the formulas take them; those left to their defaults stand last."""
    return [params[name] for name in family.params if name in params]
