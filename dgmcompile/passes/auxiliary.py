"""The auxiliary forms: random variables written as parameter-free noise and a deterministic transform."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.graph import Arg, Graph, Law, Node, Ref, Sample, Shape, leaves
from dgmcompile.ir.probes import without_probes
from dgmcompile.ir.site_options import OF_CALLERS, wrong_options
from dgmcompile.ir.verify import AUXILIARY, SEMI_AUXILIARY, TRACED, Stage
from dgmcompile.passes.base import Keep, NodePass, Reject, Rewrite
from dgmcompile.passes.draws import SiteWriter, Tables, defaults_of, given_as
from dgmcompile.reparam import REFUSED, Composition, NoiseTransform

NO_PART_OF_THE_LAW = frozenset(
    {"validate_args", "event_dim", "log_density", "duration", "is_sparse", "lims", "num_quad_points"}
)
"""Parameters of constructors that no draw depends on, or that `Sample` itself has (a duration is in its shape)."""


@dataclass(frozen=True)
class Reparameterize(NodePass):
    r"""Write each site as noise and a transform of it.

        loc  scale             loc  scale  z_noise ~ StandardNormal()
          \  /                   \    |    /
      z ~ Normal        =>      z = normal_from_noise(z_noise, loc, scale)

    Args:
        latents_only: targets stay random (semi-auxiliary form).
        tables: how each family, and each step of a transformed distribution, is written.
    Errors:
        ``no-noise-transform``, ``no-step-transform``, ``unknown-parameters``, ``unknown-option``: all
        sites at once.
    """

    name: ClassVar[str] = "reparameterize"
    latents_only: bool = True
    tables: Tables = field(default_factory=Tables, repr=False)

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
            return Keep("a target: its value is compared" if node.family == "Delta" else "a target: it stays random")
        if problem := next(_problems(node, shapes_in(graph), self.tables), None):
            return Reject(problem)
        site = SiteWriter(node, graph, fresh, self.tables)
        site.write()
        return Rewrite(tuple(site.nodes), f"{node.family} as {self._words(node)}")

    def _words(self, node: Sample) -> str:
        if (family := self.tables.families.get(node.family)) is None:
            parts = [law.family for law in leaves(dict(node.params)) if isinstance(law, Law)]
            return f"a composition of {', '.join(parts)}"
        laws = ", ".join(source.law.name for source in family.noises) or "no noise"
        return f"{family.forward.name} of {laws}"


def variants_of(family: str) -> tuple[str, ...]:
    """Names of the other constructions of a family."""
    return tuple(Tables().variants(family))


def can_be_drawn(node: Sample, graph: Graph) -> bool:
    """Can `Reparameterize` write it?"""
    return next(_problems(node, shapes_in(graph), Tables()), None) is None


def problems_of(node: Sample, shape_of: ShapeOf) -> tuple[Diagnostic, ...]:
    """Why `Reparameterize` cannot write it; ``shape_of`` tells the shape of a parameter."""
    return tuple(_problems(node, shape_of, Tables()))


ShapeOf = Callable[[Arg], Shape]


def shapes_in(graph: Graph) -> ShapeOf:
    """Shapes of a graph's values; what is no node has none."""
    return lambda arg: (graph[arg.name].shape or ()) if isinstance(arg, Ref) else ()


def _problems(node: Sample, shape_of: ShapeOf, tables: Tables) -> Iterator[Diagnostic]:
    yield from _problems_of_law(node.law, node, shape_of, tables)
    yield from _problems_of_options(node, tables)


def _problems_of_law(law: Law, node: Sample, shape_of: ShapeOf, tables: Tables) -> Iterator[Diagnostic]:
    composition, family = tables.compositions.get(law.family), tables.families.get(law.family)
    if composition is not None:
        if problem := _parameter_problem(node, law, composition):
            yield problem
        elif (reason := composition.refusal(law.params)) is not None:
            yield _refused(node, law, reason)
        for part in law.params.values():
            if isinstance(part, Law):
                yield from _problems_of_law(part, node, shape_of, tables)
    elif family is None:
        yield _no_noise_transform(node, law)
    elif problem := _parameter_problem(node, law, family):
        yield problem
    elif (reason := family.refusal(_shapes(law, family, shape_of))) is not None:
        yield _refused(node, law, reason)
    if unknown := [step.name for step in law.transforms if not step.is_recorded and step.name not in tables.steps]:
        yield _no_step_transform(node, unknown, tables)


def _no_noise_transform(node: Sample, law: Law) -> Diagnostic:
    reason = REFUSED.get(law.family)
    return Diagnostic(
        code="no-noise-transform",
        message=f"site {_site_name(node)!r} draws from {law.family}, which has no noise transform",
        location=node.location,
        notes=(reason,) if reason else (),
        help="draw it from another family"
        if reason
        else "say how the family is made of noise, by dgmcompile.register, or draw the site from another one",
    )


def _refused(node: Sample, law: Law, reason: str) -> Diagnostic:
    return Diagnostic(
        code="no-noise-transform",
        message=f"site {_site_name(node)!r} draws from {law.family}, which cannot be drawn here: {reason}",
        location=node.location,
        help=_way_out(node),
    )


def _no_step_transform(node: Sample, unknown: list[str], tables: Tables) -> Diagnostic:
    return Diagnostic(
        code="no-step-transform",
        message=f"site {_site_name(node)!r} is pushed through {', '.join(unknown)}, "
        "which cannot be written as a formula",
        location=node.location,
        notes=(f"transforms that can: {', '.join(sorted(tables.steps.names()))}",),
        help=_way_out(node),
    )


def _site_name(node: Sample) -> str:
    return node.site.name if node.site else node.name


def _way_out(node: Sample) -> str:
    if node.site and node.site.role == "target":
        return "use the semi-auxiliary form, in which targets stay random"
    return f"to leave the site stochastic, pass --keep {shlex.quote(_site_name(node))}"


def _parameter_problem(node: Sample, law: Law, family: NoiseTransform | Composition) -> Diagnostic | None:
    """Every parameter that was given is read; every one that is read was given, or has a default and stands last."""
    known = {*family.params, *(given for others in family.conversions.values() for given in others)}
    unread = [name for name in law.params if name not in known | NO_PART_OF_THE_LAW]
    defaults = defaults_of(family.forward) if isinstance(family, NoiseTransform) else set[str]()
    given = [given_as(param, law.params, family) is not None for param in family.params]
    missing = [p for i, p in enumerate(family.params) if not given[i] and (p not in defaults or any(given[i:]))]
    return _unknown_parameters(node, law, [*unread, *missing], family.params) if unread or missing else None


def _shapes(law: Law, family: NoiseTransform, shape_of: ShapeOf) -> dict[str, Shape]:
    """Of the canonical parameters."""
    given = {param: given_as(param, law.params, family) for param in family.params}
    return {param: shape_of(law.params[name]) if name else () for param, name in given.items()}


def _unknown_parameters(node: Sample, law: Law, names: list[str], read: tuple[str, ...]) -> Diagnostic:
    return Diagnostic(
        code="unknown-parameters",
        message=f"site {_site_name(node)!r} gives {law.family} the parameters ({', '.join(law.params)}); "
        f"its noise transform reads ({', '.join(read)})",
        location=node.location,
        notes=(f"no use, or no value, is known for {', '.join(names)}",),
        help=_way_out(node),
    )


def _problems_of_options(node: Sample, tables: Tables) -> Iterator[Diagnostic]:
    if wrong := list(wrong_options(_site_name(node), node.options, node.location)):
        yield from wrong
        return
    family = tables.families.get(node.family)
    if (variant := node.options.get("variant")) is not None:
        variants = tables.variants(node.family)
        if variant not in variants:
            yield _unknown_option(node, "variant", variant, list(variants))
        chosen = variants.get(str(variant))
        family = chosen if isinstance(chosen, NoiseTransform) else None
    if (gradient := node.options.get("gradient")) is not None:
        gradients = list(family.gradients) if family else []
        if gradient not in gradients:
            yield _unknown_option(node, "gradient", gradient, gradients)
    if "temperature" in node.options and not _takes_temperature(family, gradient):
        yield _unknown_option(node, "temperature", node.options["temperature"], [])


def _takes_temperature(family: NoiseTransform | None, gradient: Arg) -> bool:
    """Has it a gradient of this name with a temperature? True where there is no such gradient, which is said."""
    if family is None or gradient is None:
        return gradient is not None
    formula = family.gradients.get(str(gradient))
    return formula is None or "temperature" in defaults_of(formula)


def _unknown_option(node: Sample, option: str, value: Arg, known: list[str]) -> Diagnostic:
    return Diagnostic(
        code="unknown-option",
        message=f"site {_site_name(node)!r} asks for the {option} {value!r}, which {node.family} has not",
        location=node.location,
        notes=(f"it has: {', '.join(known) or 'none'}",),
        help="choose one of these, or leave the option out",
    )


def auxiliary(graph: Graph) -> Graph:
    """Every random variable becomes noise and a deterministic node of its name; see `Reparameterize`."""
    return Reparameterize(latents_only=False)(graph)


def semi_auxiliary(
    graph: Graph, keep: Iterable[str] = (), options: Mapping[str, Mapping[str, Arg]] | None = None
) -> Graph:
    """Every latent does; targets stay random, and so do the sites named in ``keep``.

    Args:
        options: site -> what is chosen for it; see `with_options`.
    Errors:
        ``unknown-site``: a name in ``keep`` or ``options`` is no random variable's; those of `Reparameterize`.
    """
    chosen = with_options(graph, {**{name: {"keep": True} for name in keep}, **(options or {})})
    return without_probes(Reparameterize(latents_only=True)(chosen))


def with_options(graph: Graph, options: Mapping[str, Mapping[str, Arg]]) -> Graph:
    """The same graph with choices for some sites, beside those that the model makes by ``infer={"dgm": {...}}``.

    ``keep``         leave the site random
    ``variant``      another construction of the family, as ``inverse_cdf``
    ``gradient``     a biased gradient in the place of a zero one: ``straight_through``, ``relaxed``
    ``temperature``  of the relaxed gradient
    ``weight``, ``divergence``, ``reduction``  of the site's term in a loss

    Errors:
        ``unknown-site``, ``unknown-option``. What a family has not is refused where it is used.
    """
    if not options:
        return graph
    sites = [_site_name(node) for node in graph.samples]
    problems = [_unknown_site(name, sites) for name in options if name not in sites]
    for name, chosen in options.items():
        problems.extend(wrong_options(name, chosen, known=OF_CALLERS))
    if problems:
        raise CompileError(*problems)
    return graph.evolve(
        _with_options(node, options.get(_site_name(node), {})) if isinstance(node, Sample) else node for node in graph
    )


def _with_options(node: Sample, options: Mapping[str, Arg]) -> Sample:
    rest = {name: value for name, value in options.items() if name != "keep"}
    kept = bool(options.get("keep", node.kept))
    return replace(node, kept=kept, options={**node.options, **rest})


def _unknown_site(name: str, sites: list[str]) -> Diagnostic:
    return Diagnostic(
        code="unknown-site",
        message=f"there is no random variable {name!r}",
        notes=(f"random variables: {', '.join(map(repr, sites)) or 'none'}",),
        help="name one of these",
    )
