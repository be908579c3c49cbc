"""One random variable written as noise and calls, through its family, the distributions inside it and its steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch

from dgmcompile.ir.graph import Arg, Call, Formula, Graph, Law, Node, Noise, Ref, Sample, Shape, TransformStep
from dgmcompile.ir.probes import applied
from dgmcompile.ir.size import broadcast_shapes
from dgmcompile.passes.inference import infer_type
from dgmcompile.reparam import (
    COMPOSITIONS,
    NOISE_TRANSFORMS,
    STEP_TRANSFORMS,
    Composition,
    NoiseTransform,
    Registry,
    StepTransform,
)
from dgmcompile.reparam.registry import converted_with


@dataclass(frozen=True)
class Tables:
    """How families, those that hold others, and steps of transformed distributions are written."""

    families: Registry[NoiseTransform] = field(default=NOISE_TRANSFORMS)
    compositions: Registry[Composition] = field(default=COMPOSITIONS)
    steps: Registry[StepTransform] = field(default=STEP_TRANSFORMS)

    def variants(self, family: str) -> Mapping[str, NoiseTransform | Composition]:
        """Other constructions of a family, by name."""
        entry = self.families.get(family) or self.compositions.get(family)
        return entry.variants if entry is not None else {}


def given_as(param: str, params: Mapping[str, Arg], family: NoiseTransform | Composition) -> str | None:
    """The name under which the user gave the canonical parameter ``param``."""
    names = [param, *family.conversions.get(param, {})]
    return next((name for name in names if params.get(name) is not None), None)


def defaults_of(formula: Formula) -> set[str]:
    """Parameters of the formula that may be left out."""
    parameters = inspect.signature(formula.function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is not parameter.empty}


NodeOf = Callable[[str], Node]


def step_shapes(law: Law | Sample, shape: Shape, node_of: NodeOf, steps: Registry[StepTransform]) -> list[Shape]:
    """Shapes of the value before the first step, between the steps, and at the end, which is ``shape``."""
    shapes = [shape]
    for step in reversed(law.transforms):
        shapes.insert(0, _domain_shape(step, shapes[0], node_of, steps))
    return shapes


def _domain_shape(step: TransformStep, shape: Shape, node_of: NodeOf, steps: Registry[StepTransform]) -> Shape:
    if not step.is_recorded:
        return steps[step.name].domain_shape(shape)
    probe = node_of(step.params["x"].name).shape or ()
    batch = shape[: len(shape) - step.params["codomain_event_dim"]]
    return (*batch, *probe[len(probe) - step.params["domain_event_dim"] :])


@dataclass
class SiteWriter:
    """Writes one site; the last of ``nodes`` has its name and is its value. It is a `Draws` of compositions."""

    site: Sample
    graph: Graph
    fresh: Callable[[str], str]
    tables: Tables = field(default_factory=Tables)
    nodes: list[Node] = field(default_factory=list[Node])

    def __post_init__(self) -> None:
        self.types: dict[str, Node] = {name: self.graph[name] for name in self.site.inputs}
        self._prefix = self.site.name

    def write(self) -> None:
        """The whole site."""
        law = self.site.law
        value = self._pushed(law, law.shape, self._base_of_site)
        if value != Ref(self.nodes[-1].name if self.nodes else ""):
            value = self._append("value", "identity", (value,), law.shape)
        if self.nodes[-1].dtype != self.site.dtype and self.site.dtype is not None:
            self._append("cast", "torch.Tensor.to", (value, self.site.dtype), law.shape)
        last = self.nodes.pop()
        self.nodes.append(replace(last, name=self.site.name, site=self.site.site, dtype=self.site.dtype))

    # draws

    def draw(self, law: Law, shape: Shape, label: str, variant: str = "") -> Ref:
        """See `Draws`."""
        outer, self._prefix = self._prefix, f"{self._prefix}_{label}"
        try:
            options = {"variant": variant} if variant else {}
            return self._pushed(law, shape, partial(self._base, options=options))
        finally:
            self._prefix = outer

    def call(self, label: str, formula: Formula, *args: Arg) -> Ref:
        """See `Draws`."""
        inferred = infer_type(formula, args, self.types)
        shape = inferred[0] if inferred else self.site.shape or ()
        return self._append(label, formula, args, shape)

    def _pushed(self, law: Law, shape: Shape, base: Callable[[Law, Shape], Ref]) -> Ref:
        """A draw from the base, through the steps."""
        shapes, own = (
            step_shapes(law, size, self.graph.__getitem__, self.tables.steps) for size in (shape, law.shape or shape)
        )
        value = base(replace(law, shape=own[0]), shapes[0])
        for step, codomain in zip(law.transforms, shapes[1:], strict=True):
            value = self._step(step, value, codomain)
        return value

    def _step(self, step: TransformStep, value: Ref, shape: Shape) -> Ref:
        if step.is_recorded:
            probe = step.params["x"].name
            value = self._expanded(value, self.graph[probe].shape or ())
            copies, (result,) = applied(self.graph, (step.params["forward"],), {probe: value}, self.fresh)
            for node in copies:
                self._add(node)
            return result
        entry = self.tables.steps[step.name]
        args = tuple(step.params[name] for name in entry.params if name in step.params)
        label = step.name.removesuffix("Transform").lower()
        return self._value(label, entry.forward, (value, *args), shape)

    def _base_of_site(self, law: Law, shape: Shape) -> Ref:
        """In exactly this ``shape``: a parameter's shape may be smaller."""
        return self._expanded(self._base(law, shape, self.site.options), shape)

    def _expanded(self, value: Ref, shape: Shape) -> Ref:
        found = self.types[value.name]
        if found.shape == shape:
            return value
        value = self._append("expanded", "torch.Tensor.expand", (value, shape), shape)
        self.nodes[-1] = replace(self.nodes[-1], dtype=found.dtype)
        return value

    def _base(self, law: Law, shape: Shape, options: Mapping[str, Arg] | None = None) -> Ref:
        if (composition := self.tables.compositions.get(law.family)) is not None:
            value = _variant(composition, options or {}).write(self.canonical(law).params, shape, self)
            assert isinstance(value, Ref)
            return value
        family = _variant(self.tables.families[law.family], options or {})
        params = self.parameters(family, law.params)
        noises = self._noises(family, shape, params)
        forward, extra = _forward(family, options or {})
        usual = broadcast_shapes(shape, law.shape) if noises else ()
        label = "base" if self._prefix == self.site.name else ""
        return self._value(label, forward, (*noises, *_positional(family, params)), usual, extra)

    # parameters

    def canonical(self, law: Law) -> Law:
        """In canonical parameters, and so all distributions inside it; of an unknown family as it is."""
        family = self.tables.compositions.get(law.family) or self.tables.families.get(law.family)
        params = self.parameters(family, law.params) if family is not None else law.params
        parts = {name: self._canonical_part(name, part) for name, part in params.items()}
        return replace(law, params=parts)

    def _canonical_part(self, name: str, part: Arg) -> Arg:
        """A distribution inside another one; nodes that are made for it have its name in theirs."""
        if not isinstance(part, Law):
            return part
        outer, self._prefix = self._prefix, f"{self._prefix}_{name.removesuffix('_distribution').removesuffix('_dist')}"
        try:
            return self.canonical(part)
        finally:
            self._prefix = outer

    def parameters(self, family: NoiseTransform | Composition, params: Mapping[str, Arg]) -> dict[str, Arg]:
        """The canonical parameters, converted where the user gave others; those left to their defaults are missing."""
        found = {p: self._parameter(p, family, params) for p in family.params}
        return {p: value for p, value in found.items() if value is not None}

    def _parameter(self, param: str, family: NoiseTransform | Composition, params: Mapping[str, Arg]) -> Arg:
        """The canonical parameter, converted if the user gave another; None where a default serves."""
        given = given_as(param, params, family)
        if given is None or given == param:
            return params.get(param)
        formula, value = family.conversions[param][given], params[given]
        args = (value, *(self._parameter(other, family, params) for other in converted_with(formula)))
        inferred = infer_type(formula, args, self.types)
        source = self.types.get(value.name) if isinstance(value, Ref) else None
        usual = (source.shape or (), source.dtype) if source else ((), torch.get_default_dtype())
        shape, dtype = inferred or usual
        name = self.fresh(f"{self._prefix}_{param}")
        location = self.site.location
        return self._add(Call(name=name, target=formula, args=args, shape=shape, dtype=dtype, location=location))

    # nodes

    def _noises(self, family: NoiseTransform, value: Shape, params: Mapping[str, Arg]) -> list[Ref]:
        shapes = family.noise_shapes(value, {name: self._shape_of(param) for name, param in params.items()})
        return [
            self._add(
                Noise(
                    name=self.fresh(f"{self._prefix}_noise"),
                    law=source.law.name,
                    shape=shape,
                    steps=self.graph.steps_of(self.site.name),
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

    def _add(self, node: Node) -> Ref:
        self.nodes.append(node)
        self.types[node.name] = node
        return Ref(node.name)

    def _append(
        self,
        label: str,
        target: str | Formula,
        args: tuple[Arg, ...],
        shape: Shape,
        kwargs: Mapping[str, Arg] | None = None,
    ) -> Ref:
        """A call of ``target``; its dtype is inferred where it is a formula, else the site's."""
        inferred = infer_type(target, args, self.types) if isinstance(target, Formula) else None
        return self._add(
            Call(
                name=self.fresh("_".join(filter(None, (self._prefix, label)))),
                target=target,
                args=args,
                kwargs=kwargs or {},
                shape=shape,
                dtype=inferred[1] if inferred else self.site.dtype,
                location=self.site.location,
            )
        )

    def _value(
        self,
        label: str,
        formula: Formula,
        args: tuple[Arg, ...],
        shape: Shape,
        kwargs: Mapping[str, Arg] | None = None,
    ) -> Ref:
        """``formula(*args)``; where its shape cannot be told it is ``shape``."""
        inferred = infer_type(formula, args, self.types)
        return self._append(label, formula, args, inferred[0] if inferred else shape, kwargs)


def _positional(family: NoiseTransform, params: Mapping[str, Arg]) -> list[Arg]:
    """The parameters in order; those left to their defaults stand last."""
    return [params[name] for name in family.params if name in params]


Entry = TypeVar("Entry", NoiseTransform, Composition)


def _variant(family: Entry, options: Mapping[str, Arg]) -> Entry:
    return family.variants[options["variant"]] if "variant" in options else family


def _forward(family: NoiseTransform, options: Mapping[str, Any]) -> tuple[Formula, dict[str, Arg]]:
    """The transform, and its keyword arguments."""
    if "gradient" not in options:
        return family.forward, {}
    formula = family.gradients[options["gradient"]]
    return formula, {name: options[name] for name in ("temperature",) if name in options}
