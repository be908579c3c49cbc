"""What densities are per unit of: those of two laws are compared only where this is one thing."""

from __future__ import annotations

from functools import reduce

from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.divergences import MEASURES, SAME_LAW
from dgmcompile.ir.graph import Dim, Graph, Law, Ref, Sample, Shape, TransformStep
from dgmcompile.ir.size import multiply


def measure_of(law: Law | Sample, graph: Graph) -> str | None:
    """As in `MEASURES`; None where the density is not known to be comparable with another one."""
    measure = _of_the_family(law, graph)
    for step in law.transforms:
        measure = _after(step, measure, graph)
    return measure


def are_comparable(p: Law | Sample, q: Law | Sample, graph: Graph) -> bool:
    """Can densities at a value of ``p`` be divided? Angles are reals too, where q's density is not that of any turn."""
    measures = measure_of(p, graph), measure_of(q, graph)
    return None not in measures and (measures[0] == measures[1] or measures == ("angles", "volume"))


def _of_the_family(law: Law | Sample, graph: Graph) -> str | None:
    composed = COMPOSED_LOG_PROBS.get(law.family)
    if composed is None:
        return MEASURES.get(SAME_LAW.get(law.family, law.family), "volume")
    if composed.measure is None:
        return f"values of {law.family}"
    return composed.measure({name: measure_of(x, graph) for name, x in law.params.items() if isinstance(x, Law)})


def _after(step: TransformStep, measure: str | None, graph: Graph) -> str | None:
    """Of what a step makes of the values.

    Points keep their probabilities: no Jacobian belongs there. Angles, and 0 among reals, are not where they were.
    """
    if measure is None or measure in ("points", "angles", "volume and 0"):
        return None
    if step.name == "StickBreakingTransform" and measure == "volume":
        return "simplex"
    if step.name == "StickBreakingTransform.inv" and measure == "simplex":
        return "volume"
    return measure if measure == "volume" and _keeps_dims(step, graph) else f"{measure} through {step.name}"


def _keeps_dims(step: TransformStep, graph: Graph) -> bool:
    """Has an event as many numbers as before?"""
    if not step.is_recorded:
        return True
    probes = {side: _event(step.params[probe], step.params[f"{side}_event_dim"], graph) for side, probe in _PROBES}
    return reduce(multiply, probes["domain"], 1) == reduce(multiply, probes["codomain"], 1)


_PROBES = (("domain", "x"), ("codomain", "y"))


def _event(probe: Ref, event_dim: int, graph: Graph) -> tuple[Dim, ...]:
    shape: Shape = graph[probe.name].shape or ()
    return shape[len(shape) - event_dim :]
