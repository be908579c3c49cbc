"""The auxiliary forms: random variables written as parameter-free noise and a deterministic transform."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.graph import Arg, Call, Formula, Graph, Node, Noise, Ref, Sample, Shape, TransformStep
from dgmcompile.ir.verify import AUXILIARY, SEMI_AUXILIARY, TRACED, Stage
from dgmcompile.passes.base import Keep, NodePass, Reject, Rewrite
from dgmcompile.passes.inference import infer_type
from dgmcompile.reparam import NOISE_TRANSFORMS, STEP_TRANSFORMS, NoiseTransform, Registry, StepTransform

_NO_PART_OF_THE_LAW = frozenset({"validate_args", "event_dim", "log_density"})
"""Parameters of constructors that no draw depends on, beside those in `Sample` itself."""


@dataclass(frozen=True)
class Reparameterize(NodePass):
    r"""Write each site as noise and a transform of it.

        loc  scale             loc  scale  z_noise ~ StandardNormal()
          \  /                   \    |    /
      z ~ Normal        =>      z = normal_from_noise(z_noise, loc, scale)

    Args:
        latents_only: targets stay random (semi-auxiliary form).
        families, steps: how each family, and each step of a transformed distribution, is written.
    Errors:
        ``no-noise-transform``, ``no-step-transform``, ``unknown-parameters``: all sites at once.
    """

    name: ClassVar[str] = "reparameterize"
    latents_only: bool = True
    families: Registry[NoiseTransform] = field(default=NOISE_TRANSFORMS, repr=False)
    steps: Registry[StepTransform] = field(default=STEP_TRANSFORMS, repr=False)

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return SEMI_AUXILIARY if self.latents_only else AUXILIARY

    def visit(self, node: Node, graph: Graph, fresh: Callable[[str], str]) -> Rewrite | Keep | Reject:
        if not isinstance(node, Sample):
            return Keep("not a random variable")
        if node.kept:
            return Keep("kept by the user")
        if self.latents_only and node.site and node.site.role == "target":
            return Keep("a target: it stays random")
        if (family := self.families.get(node.family)) is None:
            return Reject(self._no_noise_transform(node))
        if unknown := [step for step in node.transforms if step.name not in self.steps]:
            return Reject(self._no_step_transform(node, unknown))
        if problem := _parameter_problem(node, family):
            return Reject(problem)
        site = SiteWriter(node, graph, fresh)
        site.write(family, [(self.steps[step.name], step) for step in node.transforms])
        laws = ", ".join(source.law.name for source in family.noises) or "no noise"
        return Rewrite(tuple(site.nodes), f"{node.family} as {family.forward.name} of {laws}")

    def _no_noise_transform(self, node: Sample) -> Diagnostic:
        return Diagnostic(
            code="no-noise-transform",
            message=f"site {_site_name(node)!r} draws from {node.family}, which has no noise transform",
            location=node.location,
            notes=(f"families that have one: {', '.join(sorted(self.families.names()))}",),
            help=_way_out(node),
        )

    def _no_step_transform(self, node: Sample, unknown: list[TransformStep]) -> Diagnostic:
        names = ", ".join(step.name for step in unknown)
        return Diagnostic(
            code="no-step-transform",
            message=f"site {_site_name(node)!r} is pushed through {names}, which cannot be written as a formula",
            location=node.location,
            notes=(f"transforms that can: {', '.join(sorted(self.steps.names()))}",),
            help=_way_out(node),
        )


def _site_name(node: Sample) -> str:
    return node.site.name if node.site else node.name


def _way_out(node: Sample) -> str:
    if node.site and node.site.role == "target":
        return "use the semi-auxiliary form, in which targets stay random"
    return f"to leave the site stochastic, pass --keep {shlex.quote(_site_name(node))}"


def _parameter_problem(node: Sample, family: NoiseTransform) -> Diagnostic | None:
    """Every parameter that was given is read; every one that is read was given, or has a default and stands last."""
    known = {*family.params, *(given for others in family.conversions.values() for given in others)}
    unread = [name for name in node.params if name not in known | _NO_PART_OF_THE_LAW]
    defaults = _defaults(family.forward)
    given = [_given_as(param, node, family) is not None for param in family.params]
    missing = [p for i, p in enumerate(family.params) if not given[i] and (p not in defaults or any(given[i:]))]
    if not unread and not missing:
        return None
    return Diagnostic(
        code="unknown-parameters",
        message=f"site {_site_name(node)!r} gives {node.family} the parameters ({', '.join(node.params)}); "
        f"its noise transform reads ({', '.join(family.params)})",
        location=node.location,
        help=_way_out(node),
    )


def _given_as(param: str, node: Sample, family: NoiseTransform) -> str | None:
    """The name under which the user gave the canonical parameter ``param``."""
    names = [param, *family.conversions.get(param, {})]
    return next((name for name in names if node.params.get(name) is not None), None)


def _defaults(formula: Formula) -> set[str]:
    parameters = inspect.signature(formula.function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is not parameter.empty}


@dataclass
class SiteWriter:
    """Writes one site; the last of ``nodes`` has its name and is its value."""

    site: Sample
    graph: Graph
    fresh: Callable[[str], str]
    nodes: list[Node] = field(default_factory=list[Node])
    types: dict[str, Node] = field(default_factory=dict[str, Node])

    def __post_init__(self) -> None:
        self.types = {name: self.graph[name] for name in self.site.inputs}

    def write(self, family: NoiseTransform, steps: list[tuple[StepTransform, TransformStep]]) -> None:
        shapes = [self._shape()]
        for step, _ in reversed(steps):
            shapes.insert(0, step.domain_shape(shapes[0]))
        params = self.parameters(family)
        noises = self._noises(family, shapes[0], params)
        self._value("base", family.forward, (*noises, *_positional(family, params)), shapes[0], not noises)
        for (step, given), shape in zip(steps, shapes[1:], strict=True):
            args = tuple(given.params[name] for name in step.params if name in given.params)
            label = step.name.removesuffix("Transform").lower()
            self._value(label, step.forward, (Ref(self.nodes[-1].name), *args), shape, False)
        if self.nodes[-1].dtype != self.site.dtype and self.site.dtype is not None:
            self._append("cast", "torch.Tensor.to", (Ref(self.nodes[-1].name), self.site.dtype), shapes[-1])
        last = self.nodes.pop()
        self.nodes.append(replace(last, name=self.site.name, site=self.site.site, dtype=self.site.dtype))

    def parameters(self, family: NoiseTransform) -> dict[str, Arg]:
        """The canonical parameters, converted where the user gave others; those left to their defaults are missing."""
        return {p: value for p in family.params if (value := self._parameter(p, family)) is not None}

    def _shape(self) -> Shape:
        assert self.site.shape is not None  # verified: samples have shapes
        return self.site.shape

    def _add(self, node: Node) -> Ref:
        self.nodes.append(node)
        self.types[node.name] = node
        return Ref(node.name)

    def _append(self, label: str, target: str | Formula, args: tuple[Arg, ...], shape: Shape) -> Ref:
        """A call of ``target``; its dtype is inferred where it is a formula, else the site's."""
        inferred = infer_type(target, args, self.types) if isinstance(target, Formula) else None
        return self._add(
            Call(
                name=self.fresh(f"{self.site.name}_{label}"),
                target=target,
                args=args,
                shape=shape,
                dtype=inferred[1] if inferred else self.site.dtype,
                location=self.site.location,
            )
        )

    def _value(self, label: str, formula: Formula, args: tuple[Arg, ...], shape: Shape, unsure: bool) -> None:
        """``formula(*args)``, expanded where it is smaller than ``shape``, or may be (``unsure``)."""
        inferred = infer_type(formula, args, self.types)
        found = inferred[0] if inferred else None if unsure else shape
        value = self._append(label, formula, args, shape if found is None else found)
        if found != shape:
            dtype = self.nodes[-1].dtype
            self._append("expanded", "torch.Tensor.expand", (value, shape), shape)
            self.nodes[-1] = replace(self.nodes[-1], dtype=dtype)

    def _parameter(self, param: str, family: NoiseTransform) -> Arg:
        """The canonical parameter, converted if the user gave another; None where a default serves."""
        given = _given_as(param, self.site, family)
        if given is None or given == param:
            return self.site.params.get(param)
        formula, value = family.conversions[param][given], self.site.params[given]
        inferred = infer_type(formula, (value,), self.types)
        source = self.types.get(value.name) if isinstance(value, Ref) else None
        usual = (source.shape or (), source.dtype) if source else ((), torch.get_default_dtype())
        shape, dtype = inferred or usual
        name = self.fresh(f"{self.site.name}_{param}")
        location = self.site.location
        return self._add(Call(name=name, target=formula, args=(value,), shape=shape, dtype=dtype, location=location))

    def _noises(self, family: NoiseTransform, value: Shape, params: Mapping[str, Arg]) -> list[Ref]:
        shapes = family.noise_shapes(value, {name: self._shape_of(param) for name, param in params.items()})
        return [
            self._add(
                Noise(
                    name=self.fresh(f"{self.site.name}_noise"),
                    law=source.law.name,
                    shape=shape,
                    dtype=source.dtype or self._float_dtype(params.values()),
                    location=self.site.location,
                )
            )
            for source, shape in zip(family.noises, shapes, strict=True)
        ]

    def _shape_of(self, param: Arg) -> Shape:
        return (self.types[param.name].shape or ()) if isinstance(param, Ref) else ()

    def _float_dtype(self, params: Iterable[Arg]) -> torch.dtype:
        """That of the site, or of its parameters where the site's values are whole numbers."""
        dtypes = [self.site.dtype, *(self.types[p.name].dtype for p in params if isinstance(p, Ref))]
        return next((d for d in dtypes if d and d.is_floating_point), torch.get_default_dtype())


def _positional(family: NoiseTransform, params: Mapping[str, Arg]) -> list[Arg]:
    """The parameters in order; those left to their defaults stand last."""
    return [params[name] for name in family.params if name in params]


def auxiliary(graph: Graph) -> Graph:
    """Every random variable becomes noise and a deterministic node of its name; see `Reparameterize`."""
    return Reparameterize(latents_only=False)(graph)


def semi_auxiliary(graph: Graph, keep: Iterable[str] = ()) -> Graph:
    """Every latent does; targets stay random, and so do the sites named in ``keep``.

    Errors:
        ``unknown-site``: a name in ``keep`` is no random variable's; and those of `Reparameterize`.
    """
    return Reparameterize(latents_only=True)(_mark_kept(graph, tuple(keep)))


def _mark_kept(graph: Graph, keep: tuple[str, ...]) -> Graph:
    sites = [_site_name(node) for node in graph.samples]
    if unknown := [name for name in keep if name not in sites]:
        raise CompileError(*(_unknown_site(name, sites) for name in unknown))
    if not keep:
        return graph
    return graph.evolve(
        replace(node, kept=True) if isinstance(node, Sample) and _site_name(node) in keep else node for node in graph
    )


def _unknown_site(name: str, sites: list[str]) -> Diagnostic:
    return Diagnostic(
        code="unknown-site",
        message=f"there is no random variable {name!r} to keep",
        notes=(f"random variables: {', '.join(map(repr, sites)) or 'none'}",),
        help="keep one of these",
    )
