"""Log-densities of families that hold other distributions, written in the log-densities of these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.hidden_markov import HIDDEN_MARKOV_LOG_PROBS
from dgmcompile.distill.writing import BEFORE_COMPONENTS, ComposedLogProb, LogProbs, always, of_the_parts
from dgmcompile.ir.graph import Arg, Formula, Law, Ref
from dgmcompile.reparam import NOISE_TRANSFORMS
from dgmcompile.reparam.compositions import MEANS_ON_THE_TORUS, sine_skew
from dgmcompile.reparam.registry import tensor_or_number


def mixture_log_prob(component_log_probs: Tensor, logits: Tensor) -> Tensor:
    """log sum_k w_k p_k(value)."""
    return torch.logsumexp(component_log_probs + F.log_softmax(logits, -1), -1)


def _mixture(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    mixture, component = cast(Law, params["mixture_distribution"]), cast(Law, params["component_distribution"])
    value = write.call("value", BEFORE_COMPONENTS, value, component.event_dim)
    log_probs = write.log_prob(component, value, "components")
    return write.call("", MIXTURE_LOG_PROB, log_probs, mixture.params["logits"])


MIXTURE_LOG_PROB = Formula.of(mixture_log_prob)


def masked_mixture_log_prob(mask: Tensor, log_prob0: Tensor, log_prob1: Tensor) -> Tensor:
    """That of component1 where the mask is true."""
    return torch.where(mask, log_prob1, log_prob0)


def _masked_mixture(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    parts = [write.log_prob(cast(Law, params[name]), value, name) for name in ("component0", "component1")]
    return write.call("", MASKED_MIXTURE_LOG_PROB, params["mask"], *parts)


MASKED_MIXTURE_LOG_PROB = Formula.of(masked_mixture_log_prob)


def zero_inflated_log_prob(value: Tensor, base_log_prob: Tensor, gate_logits: Tensor | float) -> Tensor:
    """At 0 the gate adds its probability; elsewhere the base has the rest."""
    gate_logits = tensor_or_number(gate_logits)
    open_gate = F.logsigmoid(-gate_logits) + base_log_prob
    return torch.where(value == 0, torch.logaddexp(F.logsigmoid(gate_logits), open_gate), open_gate)


def zero_inflated_density(value: Tensor, base_log_prob: Tensor, gate_logits: Tensor | float) -> Tensor:
    """Of a base that has a density: 0 has the gate's probability, and this alone counts there."""
    gate_logits = tensor_or_number(gate_logits)
    return torch.where(value == 0, F.logsigmoid(gate_logits), F.logsigmoid(-gate_logits) + base_log_prob)


def _zero_inflated(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    law = cast(Law, params["base_dist"])
    formula = ZERO_INFLATED_LOG_PROB if _may_be_zero(law) else ZERO_INFLATED_DENSITY
    return write.call("", formula, value, write.log_prob(law, value, "base"), params["gate_logits"])


def _may_be_zero(law: Law) -> bool:
    """Has single values a probability?"""
    parts = [part for part in law.params.values() if isinstance(part, Law)]
    if law.family == "MixtureSameFamily":
        parts = [cast(Law, law.params["component_distribution"])]
    family = NOISE_TRANSFORMS.get(law.family)
    discrete = law.family in ("Delta", "Empirical", "ZeroInflatedDistribution") or (
        family is not None and family.discrete
    )
    return discrete or any(map(_may_be_zero, parts))


def _of_zero_inflated(parts: Mapping[str, str | None]) -> str | None:
    """0 has a probability, whatever reals have."""
    return {"points": "points", "volume": "volume and 0"}.get(parts["base_dist"] or "")


ZERO_INFLATED_LOG_PROB = Formula.of(zero_inflated_log_prob)
ZERO_INFLATED_DENSITY = Formula.of(zero_inflated_density)


def negated(value: Tensor) -> Tensor:
    return -value


def folded_log_prob(value: Tensor, log_prob: Tensor, mirrored_log_prob: Tensor) -> Tensor:
    """Both points that fold to the value."""
    return torch.where(value < 0, -math.inf, torch.logaddexp(log_prob, mirrored_log_prob))


def _folded(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    base = cast(Law, params["base_dist"])
    mirrored = write.log_prob(base, write.call("mirrored", NEGATED, value), "mirror_image")
    return write.call("", FOLDED_LOG_PROB, value, write.log_prob(base, value, "base"), mirrored)


def _of_folded(parts: Mapping[str, str | None]) -> str | None:
    return parts["base_dist"] if parts["base_dist"] in ("points", "volume") else None


NEGATED = Formula.of(negated)
FOLDED_LOG_PROB = Formula.of(folded_log_prob)


def sine_skewed_log_prob(value: Tensor, base_log_prob: Tensor, mean: Tensor, skewness: Tensor) -> Tensor:
    """The base's, and the logarithm of what skewness adds to it and takes from its mirror image."""
    return base_log_prob + torch.log1p(sine_skew(value, mean, skewness))


def _sine_skewed(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    base = cast(Law, params["base_dist"])
    formula, names = MEANS_ON_THE_TORUS[base.family]
    mean = write.call("mean", formula, *(base.params[name] for name in names))
    log_prob = write.log_prob(base, value, "base")
    return write.call("", SINE_SKEWED_LOG_PROB, value, log_prob, mean, params["skewness"])


def _is_on_the_torus(params: Mapping[str, Arg]) -> bool:
    return cast(Law, params["base_dist"]).family in MEANS_ON_THE_TORUS


SINE_SKEWED_LOG_PROB = Formula.of(sine_skewed_log_prob)


COMPOSED_LOG_PROBS: dict[str, ComposedLogProb] = {
    "FoldedDistribution": ComposedLogProb(_folded, measure=_of_folded),
    "MaskedMixture": ComposedLogProb(_masked_mixture, measure=of_the_parts("component0", "component1")),
    "MixtureSameFamily": ComposedLogProb(_mixture, measure=of_the_parts("component_distribution")),
    "SineSkewed": ComposedLogProb(_sine_skewed, exists=_is_on_the_torus, measure=always("angles")),
    "ZeroInflatedDistribution": ComposedLogProb(_zero_inflated, measure=_of_zero_inflated),
    **HIDDEN_MARKOV_LOG_PROBS,
}
"""By family; the parameters are canonical (see `canonicalize`)."""
