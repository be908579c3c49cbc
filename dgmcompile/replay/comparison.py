"""Site by site: the compiled form's parameters, log-probability and gradients against the original's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from dgmcompile.ir.graph import Graph, Law, Node, Sample
from dgmcompile.replay.compiled import Compiled, Conditioned, without_recorded
from dgmcompile.replay.laws import distribution_of, log_prob_at, transform_of, within_mask
from dgmcompile.replay.original import Replayed
from dgmcompile.replay.report import TOLERANCES, SiteCheck, relative_error

_SOFT_LAWS_OF_HARD_VALUES = frozenset({"RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough"})
"""Families whose draws lie where their own log-density is infinite or NaN: their parameters say all."""


def computed(node: Node, compiled: Compiled, replayed: Mapping[str, Replayed]) -> SiteCheck:
    """A deterministic site: its value is compared."""
    assert node.site is not None
    name = node.site.name
    if name not in replayed:
        return SiteCheck(name, "Delta", "deterministic", float("inf"), float("inf"), False, "(not in the program)")
    theirs = replayed[name].value
    error = relative_error(compiled.values[name], theirs)
    return SiteCheck(name, "Delta", "deterministic", error, 0.0, error <= TOLERANCES.get(theirs.dtype, 1e-5))


def compared(sample: Sample, compiled: Compiled, given: Conditioned, replayed: Mapping[str, Replayed]) -> SiteCheck:
    assert sample.site is not None
    name, role = sample.site.name, sample.site.role
    if name not in replayed:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(not in the program)")
    original = replayed[name]
    if original.law is None:
        return SiteCheck(name, sample.family, role, float("inf"), float("inf"), False, "(no random variable)")
    ours = compiled.value(_comparable(sample))
    parameter_error = error_of_parameters(ours, original.law)
    if sample.family in _SOFT_LAWS_OF_HARD_VALUES:
        ok = parameter_error <= TOLERANCES.get(original.value.dtype, 1e-5)
        return SiteCheck(name, sample.family, role, parameter_error, 0.0, ok, "(no density at a hard value)")
    if original.failed:
        note = f"(the program's own log-probability fails: {original.failed})"
        return SiteCheck(name, sample.family, role, parameter_error, float("inf"), False, note)
    if original.log_prob is None:
        error = compiled.forward_error(sample, original)
        ok = max(parameter_error, error) <= TOLERANCES.get(original.value.dtype, 1e-5)
        return SiteCheck(
            name, sample.family, role, parameter_error, error, ok, "(the program cannot tell its log-probability)"
        )
    weights = compiled.value((sample.scale, sample.mask))
    log_prob = _log_prob(sample, ours, original, weights, given)
    if ((original.log_prob == float("-inf")) | original.log_prob.isnan()).any():
        return SiteCheck(name, sample.family, role, parameter_error, float("inf"), False, "(an impossible value)")
    log_prob_error = relative_error(log_prob, original.log_prob)
    tolerance = TOLERANCES.get(original.log_prob.dtype, 1e-5)
    ok = parameter_error <= tolerance and log_prob_error <= tolerance
    return SiteCheck(name, sample.family, role, parameter_error, log_prob_error, ok)


def _comparable(sample: Sample) -> Law:
    """Its law, without steps where one is recorded: these are compared by what they do."""
    recorded = any(step.is_recorded for step in sample.transforms)
    law = without_recorded(sample.law)
    return replace(law, shape=(), transforms=() if recorded else law.transforms)


def error_of_parameters(ours: Law, theirs: Law) -> float:
    """Of all parameters, those of distributions inside included."""
    if ours.family != theirs.family:
        return float("inf")
    errors = [0.0]
    for name, value in ours.params.items():
        other = theirs.params.get(name)
        if isinstance(value, Law) and isinstance(other, Law):
            errors.append(error_of_parameters(value, other))
        else:
            errors.append(relative_error(value, other))
    return max(errors)


def _log_prob(sample: Sample, law: Law, original: Replayed, weights: tuple[Any, Any], compiled: Conditioned) -> Tensor:
    """From the compiled parameters alone, with the site's wrappers put on again."""
    assert sample.site is not None and original.law is not None
    if (log_prob := compiled.density(sample)) is None:
        log_prob = _log_prob_of_library(sample, law, original, compiled)
    scale, mask = weights
    masked = scale_and_mask(log_prob, 1.0, mask)
    for _ in range(sample.mask_event_dim):
        masked = masked.sum(-1)
    return scale_and_mask(masked, 1.0 if scale is None else scale)


def _log_prob_of_library(sample: Sample, law: Law, original: Replayed, compiled: Conditioned) -> Tensor:
    """By a distribution with these parameters."""
    assert sample.site is not None and original.law is not None
    made = distribution_of(law, original.law, original.classes)
    if any(step.is_recorded for step in sample.transforms):
        return compiled.log_prob_behind_steps(sample, made)
    if law.transforms:
        made = dist.TransformedDistribution(made, [transform_of(step.name, step.params) for step in law.transforms])
    return log_prob_at(made, compiled.values[sample.site.name], within_mask(sample))


def gradient_errors(
    graph: Graph,
    values: Mapping[str, Tensor],
    condition: Callable[[], Conditioned],
    replay: Callable[[], Mapping[str, Replayed]],
) -> tuple[dict[str, float], str]:
    """Of the sites' log-probabilities, weighted, with respect to latents and parameters.

    Where autograd refuses the program itself, as it does for some writes in place: none, and the reason.
    """
    tensors = {name: value for name, value in values.items() if value.requires_grad}
    tensors |= {path: t for path, t in graph.binding.tensors.items() if t.requires_grad and t.is_leaf}
    names = [sample.site.name for sample in graph.samples if sample.site]
    with torch.enable_grad():
        try:
            with _written_into_later():
                replayed = replay()
            names = [name for name in names if replayed[name].log_prob is not None]
            theirs = gradients([replayed[name].log_prob for name in names], list(tensors.values()))
        except (RuntimeError, TypeError, BufferError) as error:
            return {}, f"autograd refuses the original program ({str(error).splitlines()[0]})"
        except KeyError as missing:
            return {}, f"site {missing} is not in the program"
        compiled, samples = condition(), [s for s in graph.samples if s.site and s.site.name in names]
        with _written_into_later():
            ours = [
                _log_prob(
                    s,
                    compiled.value(_comparable(s)),
                    replayed[s.site.name],
                    compiled.value((s.scale, s.mask)),
                    compiled,
                )
                for s in samples
                if s.site
            ]
        found = gradients(ours, list(tensors.values()))
    return {name: relative_error(a, b) for name, a, b in zip(tensors, found, theirs, strict=True)}, ""


def _written_into_later() -> AbstractContextManager[Any]:
    """Backward finds the values as they were: replay writes into the data, and densities of Pyro's into their own."""
    return saved_tensors_hooks(lambda tensor: tensor.detach().clone(), lambda tensor: tensor)


def gradients(values: list[Any], tensors: list[Tensor]) -> list[Tensor]:
    """Of the sum of all values, each element of which has a weight of its own, so that no two errors cancel."""
    weighted = [v * torch.arange(1, v.numel() + 1, device=v.device).reshape(v.shape).cos() for v in values]
    total = sum(p.sum() / (1 + i) for i, p in enumerate(weighted))
    if not isinstance(total, Tensor) or not total.requires_grad:
        return [torch.zeros_like(tensor) for tensor in tensors]
    found = torch.autograd.grad(total, tensors, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
