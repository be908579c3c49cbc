"""A distribution as the expression that a person would write for it in Pyro."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, cast

import pyro.distributions as dist

from dgmcompile.codegen.expressions import Names, literal, shape_text
from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.graph import Arg, Dim, Graph, Law, Ref, Sample, Shape, TransformStep
from dgmcompile.ir.size import broadcast_shapes
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, STEP_TRANSFORMS

_ALWAYS_NAMED = frozenset({"probs", "logits"})
"""Parameters that a reader wants to be told apart."""


_NEVER_EXPANDED = frozenset(
    {
        "AVFMultivariateNormal",
        "GroupedNormalNormal",
        "LKJ",
        "LKJCorrCholesky",
        "OMTMultivariateNormal",
        "SoftAsymmetricLaplace",
    }
)
"""Families whose ``expand`` raises: where one was drawn from, its parameters gave the batch shape."""


def is_wide(sample: Sample, graph: Graph) -> bool:
    """Is its mask larger than its batch? A distribution that it masks would be as large, and so would be the value."""
    if not isinstance(sample.mask, Ref) or sample.mask_event_dim:
        return False
    return broadcast_shapes(graph[sample.mask.name].shape or (), sample.batch_shape) != sample.batch_shape


@dataclass
class LawTexts:
    """Writes the distributions of ``graph``.

    Args:
        names: how what a distribution refers to is written.
        step: expression of a transform that was recorded.
        imports: filled with the modules of families that are not Pyro's.
    """

    graph: Graph
    names: Names
    step: Callable[[TransformStep], str]
    imports: set[str] = field(default_factory=set[str])

    def of_site(self, sample: Sample) -> str:
        """The distribution that ``pyro.sample`` takes inside of the site's plates, and under a mask that `is_wide`.

        Errors:
            `CompileError` ``no-text-for-law``.
        """
        plates = sample.site.plates if sample.site is not None else ()
        covered = frozenset(plate.dim for plate in plates if plate.size != -1)
        if sample.mask is None or is_wide(sample, self.graph):
            return self._text(sample.law, sample, covered)
        inner = replace(sample.law, event_dim=sample.event_dim - sample.mask_event_dim)
        text = f"{self._text(inner, sample, covered, sample.mask_event_dim)}.mask({literal(sample.mask, self.names)})"
        return f"{text}.to_event({sample.mask_event_dim})" if sample.mask_event_dim else text

    def _text(self, law: Law, sample: Sample, covered: frozenset[int] = frozenset(), outside: int = 0) -> str:
        """``outside``: so many of the batch dims are event dims of the site."""
        shapes = self._shapes(law)
        text = self._constructed(law, sample)
        text += self._expanded(law, shapes[0], len(law.batch_shape) - outside, covered)
        if law.transforms:
            steps = ", ".join(self._step(step) for step in law.transforms)
            text = f"dist.TransformedDistribution({text}, [{steps}])"
        more = law.event_dim - event_dim_after(self._own_event_dim(law), law.transforms)
        return f"{text}.to_event({more})" if more > 0 else text

    def _constructed(self, law: Law, sample: Sample) -> str:
        cls, text = self._class(law.family, sample)
        parameters = inspect.signature(cls).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        given = {n: v for n, v in law.params.items() if n not in defaults or not _is_default(v, defaults[n])}
        arguments, positional = list[str](), True
        for name in [*(n for n in parameters if n in given), *(n for n in given if n not in parameters)]:
            positional = positional and _is_next(name, parameters, len(arguments))
            value = given[name]
            shown = self._text(value, sample) if isinstance(value, Law) else literal(value, self.names)
            arguments.append(shown if positional else f"{name}={shown}")
        return f"{text}({', '.join(arguments)})"

    def _class(self, family: str, sample: Sample) -> tuple[type, str]:
        module, _, name = family.rpartition(".")
        if not module and hasattr(dist, family):
            return getattr(dist, family), f"dist.{family}"
        found: Any = None
        if module and name.isidentifier():
            found = getattr(sys.modules.get(module), name, None)
        if found is None:
            raise CompileError(_no_text(sample, family))
        self.imports.add(module)
        return cast(type, found), family

    def _step(self, step: TransformStep) -> str:
        if step.is_recorded:
            return self.step(step)
        entry = STEP_TRANSFORMS[step.name]
        known = inspect.signature(getattr(dist.transforms, step.name.removesuffix(".inv"))).parameters
        positional = [literal(step.params[name], self.names) for name in entry.params if name in step.params]
        others = [n for n in known if n in step.params and n not in entry.params]
        others = [n for n in others if not _is_default(step.params[n], known[n].default)]
        arguments = [*positional, *(f"{name}={literal(step.params[name], self.names)}" for name in others)]
        inverse = ".inv" if step.name.endswith(".inv") else ""
        return f"dist.transforms.{step.name.removesuffix('.inv')}({', '.join(arguments)}){inverse}"

    # shapes

    def _shapes(self, law: Law) -> list[Shape]:
        """Of the value before the first step, between the steps, and at the end."""
        shapes = [law.shape]
        for step in reversed(law.transforms):
            if step.is_recorded:
                shapes.insert(0, self.graph[step.params["x"].name].shape or ())
            else:
                shapes.insert(0, STEP_TRANSFORMS[step.name].domain_shape(shapes[0]))
        return shapes

    def _expanded(self, law: Law, shape: Shape, batch: int, covered: frozenset[int]) -> str:
        """``.expand(...)``, where neither the parameters nor the plates give the distribution its batch shape."""
        if law.family in _NEVER_EXPANDED:
            return ""
        wanted = shape[: len(shape) - self._own_event_dim(law)]
        extra = len(wanted) - batch  # batch dims of the family that are event dims of the site
        found = self._batch_shape(law)
        if found is not None and all(
            _fits(found[-1 - position] if position < len(found) else None, size, extra - 1 - position, covered)
            for position, size in enumerate(reversed(wanted))
        ):
            return ""
        by_plates = covered.issuperset(range(-batch, 0)) and (found is None or len(found) <= extra)
        return f".expand({self._list(wanted[batch:] if by_plates and found is not None else wanted)})"

    def _list(self, shape: Shape) -> str:
        return f"[{shape_text(shape, self.names.value)[1:-1].removesuffix(',')}]"

    def _batch_shape(self, law: Law) -> Shape | None:
        """The batch shape that the constructor gives it; None where that cannot be told."""
        if law.family == "MixtureSameFamily":
            return law.params["mixture_distribution"].batch_shape
        if law.family == "Delta":
            shape, event_dim = self._shape_of(law.params["v"]), law.params.get("event_dim", 0)
            return shape[: len(shape) - event_dim]
        if law.family == "Empirical":
            return self._shape_of(law.params["log_weights"])[:-1]
        declared = getattr(getattr(dist, law.family, None), "arg_constraints", None)
        constraints = cast(dict[str, Any], declared) if isinstance(declared, dict) else None
        usual = 0 if self._own_event_dim(law) == 0 else None
        found = [self._batch_of(value, _event_dim_of(constraints, name, usual)) for name, value in law.params.items()]
        return (
            reduce(broadcast_shapes, (shape for shape in found if shape is not None), ()) if None not in found else None
        )

    def _batch_of(self, value: Arg, event_dim: int | None) -> Shape | None:
        if isinstance(value, Law):
            return value.batch_shape
        if not isinstance(value, Ref):
            return ()
        shape = self._shape_of(value)
        if event_dim is None:
            return None if shape else ()
        return shape[: len(shape) - event_dim]

    def _shape_of(self, value: Arg) -> Shape:
        return (self.graph[value.name].shape or ()) if isinstance(value, Ref) else ()

    def _own_event_dim(self, law: Law) -> int:
        """Event dims of the family itself."""
        if law.family == "Delta":
            return int(law.params.get("event_dim", 0))
        if (family := NOISE_TRANSFORMS.get(law.family)) is not None:
            return family.event_dim_at({name: self._shape_of(value) for name, value in law.params.items()})
        if (composition := COMPOSITIONS.get(law.family)) is not None:
            return composition.event_dim(law.params)
        try:
            return getattr(dist, law.family).support.event_dim
        except (AttributeError, NotImplementedError, TypeError):
            return law.event_dim


def event_dim_after(event_dim: int, steps: Iterable[TransformStep]) -> int:
    """Event dims of what a distribution of so many becomes by the steps, as torch counts them."""
    dims = [_dims_of(step) for step in steps]
    if not dims:
        return event_dim
    needed, given = dims[-1][1], dims[0][0]
    for domain, codomain in reversed(dims):
        needed = max(needed + domain - codomain, domain)
    for domain, codomain in dims:
        given = max(given + codomain - domain, codomain)
    return given + max(event_dim - needed, 0)


def _dims_of(step: TransformStep) -> tuple[int, int]:
    if step.is_recorded:
        return step.params["domain_event_dim"], step.params["codomain_event_dim"]
    entry, more = STEP_TRANSFORMS[step.name], step.params.get("event_dim", 0)
    return max(entry.domain_event_dim, more), max(entry.codomain_event_dim, more)


def _is_next(name: str, parameters: Mapping[str, inspect.Parameter], given: int) -> bool:
    """May ``name`` be given by position, after so many that were?"""
    keyword = name in _ALWAYS_NAMED or name not in parameters or parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    return not keyword and list(parameters)[given] == name


def _event_dim_of(constraints: Mapping[str, Any] | None, name: str, usual: int | None) -> int | None:
    """Of a parameter; ``usual`` where its constraint depends on others, as the ends of a Uniform do."""
    if constraints is None:
        return usual
    try:
        return int(constraints[name].event_dim)
    except NotImplementedError:
        return usual
    except (KeyError, AttributeError, TypeError):
        return None


def _fits(found: Dim | None, wanted: Dim, dim: int, covered: frozenset[int]) -> bool:
    """Has dimension ``dim`` its size already (None: it is not there), or will plates give it?"""
    if found is None and wanted == 1 and any(plate < dim for plate in covered):
        return True
    return found == wanted or (dim in covered and found in (None, 1))


def _is_default(value: Arg, default: object) -> bool:
    return type(value) is type(default) and isinstance(value, bool | int | float | str | None) and value == default


def _no_text(sample: Sample, family: str) -> Diagnostic:
    name = sample.site.name if sample.site is not None else sample.name
    return Diagnostic(
        code="no-text-for-law",
        message=f"site {name!r} draws from {family}, which no import gives",
        location=sample.location,
        help="define the distribution's class at the top level of a module",
    )
