"""Log-densities written as nodes: of a family, pulled back through the steps, of distributions inside others."""

from __future__ import annotations

from dataclasses import dataclass

from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.divergences import LOG_PROBS
from dgmcompile.distill.nodes import Nodes
from dgmcompile.ir.graph import Arg, Formula, Graph, Law, Ref, Sample, Shape, TransformStep
from dgmcompile.ir.probes import applied
from dgmcompile.ir.size import broadcast_shapes
from dgmcompile.passes.draws import step_shapes
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, STEP_TRANSFORMS


def is_one_to_one(step: TransformStep) -> bool:
    """Are its inverse and its Jacobian known?"""
    if step.is_recorded:
        return "inverse" in step.params and "log_det" in step.params
    entry = STEP_TRANSFORMS[step.name]
    return entry.inverse is not None and entry.log_abs_det_jacobian is not None


def has_density(law: Law | Sample) -> bool:
    """Is its log-density at a given value known?"""
    if not all(map(is_one_to_one, law.transforms)):
        return False
    if law.family in LOG_PROBS:
        return True
    composed = COMPOSED_LOG_PROBS.get(law.family)
    parts = [part for part in law.params.values() if isinstance(part, Law)]
    return composed is not None and all(map(has_density, parts)) and composed.exists(law.params)


def _event_dims(step: TransformStep) -> tuple[int, int]:
    """Dims that it takes as one, and those that it gives."""
    if step.is_recorded:
        return step.params["domain_event_dim"], step.params["codomain_event_dim"]
    entry = STEP_TRANSFORMS[step.name]
    return entry.domain_event_dim, entry.codomain_event_dim


@dataclass
class Densities:
    """Adds log-densities to ``nodes``, of laws whose references are to ``graph``."""

    graph: Graph
    nodes: Nodes

    def base_shape(self, law: Law | Sample) -> Shape:
        """Shape of the value before the steps."""
        return step_shapes(law, law.shape or (), self.graph.__getitem__, STEP_TRANSFORMS)[0]

    def event_dim(self, law: Law | Sample) -> int:
        """Event dims that the family and the steps take as one."""
        event_dim = self._own_event_dim(law)
        for step in law.transforms:
            inner, outer = _event_dims(step)
            event_dim = max(event_dim, inner) - inner + outer
        return event_dim

    def _own_event_dim(self, law: Law | Sample) -> int:
        """Event dims of the family before steps and reinterpreted dims."""
        if (family := NOISE_TRANSFORMS.get(law.family)) is None:
            return COMPOSITIONS[law.family].event_dim(law.params)
        return family.event_dim_at({name: self.nodes.shape(value) for name, value in law.params.items()})

    def log_prob(self, law: Law | Sample, value: Ref, name: str, event_dim: int) -> Ref:
        """log-density at ``value``: of the base at the value pulled back, less the logarithms of the Jacobians.

        Its shape is the value's without the ``event_dim`` rightmost dims.
        """
        value, jacobians, base_event_dim = self.pulled_back(law, value, name, event_dim)
        total = self._base(law, value, name, base_event_dim)
        for jacobian in jacobians:
            total = self.nodes.call(name, "torch.Tensor.sub", (total, jacobian), self.nodes.shape(total))
        return total

    def pulled_back(self, law: Law | Sample, value: Ref, name: str, event_dim: int) -> tuple[Ref, list[Ref], int]:
        """The value before the steps, each step's log-Jacobian in the batch shape, and how many event dims there are.

        ``event_dim`` counts the rightmost dims of the value after the steps.
        """
        shapes = step_shapes(law, self.nodes.shape(value), self.graph.__getitem__, STEP_TRANSFORMS)
        jacobians = list[Ref]()
        for step, domain, codomain in reversed(list(zip(law.transforms, shapes[:-1], shapes[1:], strict=True))):
            inner, outer = _event_dims(step)
            jacobian_shape = codomain[: len(codomain) - outer]
            before, jacobian = self._undone(step, value, name, domain, jacobian_shape)
            full = self.nodes.expanded(jacobian, _with_more(self.nodes.shape(jacobian), jacobian_shape))
            jacobians.append(self.nodes.summed(full, event_dim - outer))
            value, event_dim = before, event_dim - outer + inner
        return value, jacobians, event_dim

    def _undone(self, step: TransformStep, value: Ref, name: str, domain: Shape, jacobian: Shape) -> tuple[Ref, Ref]:
        """The value before a step, and the logarithm of the step's Jacobian there."""
        if step.is_recorded:
            probe, results = step.params["y"].name, (step.params["inverse"], step.params["log_det"])
            value = self.nodes.expanded(value, broadcast_shapes(self.nodes.shape(value), self.graph[probe].shape or ()))
            copies, (before, log_det) = applied(self.graph, results, {probe: value}, self.nodes.unused)
            for node in copies:
                self.nodes.append(node)
            return before, log_det
        entry = STEP_TRANSFORMS[step.name]
        assert entry.inverse is not None and entry.log_abs_det_jacobian is not None
        args = tuple(step.params[param] for param in entry.params if param in step.params)
        before = self.nodes.call(f"{name}.base_value", entry.inverse, (value, *args), domain)
        return before, self.nodes.call(f"{name}.jacobian", entry.log_abs_det_jacobian, (before, value, *args), jacobian)

    def _base(self, law: Law | Sample, value: Ref, name: str, event_dim: int) -> Ref:
        """Of the family itself, in the value's shape without ``event_dim`` dims."""
        own = self._own_event_dim(law)
        shape = self.nodes.shape(value)
        shape = shape[: len(shape) - own]
        if (composed := COMPOSED_LOG_PROBS.get(law.family)) is not None:
            found = composed.write(law.params, value, _Named(self, name))
        else:
            params = [law.params[param] for param in NOISE_TRANSFORMS[law.family].params if param in law.params]
            found = self.nodes.call(name, LOG_PROBS[law.family], (value, *params), shape)
        return self.nodes.summed(
            self.nodes.expanded(found, _with_more(self.nodes.shape(found), shape)), event_dim - own
        )


def _with_more(found: Shape, wanted: Shape) -> Shape:
    """``wanted``, but where ``found`` is larger: parameters may have more values than are compared with them."""
    return broadcast_shapes(wanted, found)


@dataclass
class _Named:
    """What a composed density is written with; its nodes begin with ``name``."""

    densities: Densities
    name: str

    def log_prob(self, law: Law, value: Ref, label: str) -> Ref:
        """Of a part, in the value's shape without the part's event dims."""
        return self.densities.log_prob(law, value, f"{self.name}.{label}", law.event_dim)

    def call(self, label: str, formula: Formula, *args: Arg) -> Ref:
        """``formula(*args)``, a tensor whose shape is inferred."""
        return self.densities.nodes.call(f"{self.name}.{label}" if label else self.name, formula, args)
