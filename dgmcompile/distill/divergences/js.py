"""Closed forms of the Jensen-Shannon divergence (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, in nats.

It is symmetric, at least 0 and at most log 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors, bernoulli_log_probs, ordered_log_probs, weigh
from dgmcompile.distill.divergences.entry import Divergence
from dgmcompile.distill.divergences.kl.line import kl_cauchy, kl_half_cauchy
from dgmcompile.ir.graph import Formula


def js_from_log_probs(p_log_probs: Tensor, q_log_probs: Tensor) -> Tensor:
    """Jensen-Shannon divergence over the last dim's classes; log-probabilities may be -inf."""
    p, q = p_log_probs.exp(), q_log_probs.exp()
    log_ratio = torch.where((p > 0) | (q > 0), p_log_probs - q_log_probs, 0.0)
    p_term = weigh(p, F.logsigmoid(log_ratio) - F.logsigmoid(torch.zeros_like(log_ratio)))
    q_term = weigh(q, F.logsigmoid(-log_ratio) - F.logsigmoid(torch.zeros_like(log_ratio)))
    return 0.5 * (p_term + q_term).sum(-1)


def js_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence of coins; logits may be infinite."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return js_from_log_probs(bernoulli_log_probs(p_logits), bernoulli_log_probs(q_logits))


def js_categorical(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence over the last dim's classes; a logit of -inf excludes its class."""
    return js_from_log_probs(F.log_softmax(p_logits, -1), F.log_softmax(q_logits, -1))


def js_ordered_logistic(p_predictor: Tensor, p_cutpoints: Tensor, q_predictor: Tensor, q_cutpoints: Tensor) -> Tensor:
    """Jensen-Shannon divergence over the intervals between cutpoints."""
    p_predictor, p_cutpoints, q_predictor, q_cutpoints = as_tensors(p_predictor, p_cutpoints, q_predictor, q_cutpoints)
    return js_from_log_probs(ordered_log_probs(p_predictor, p_cutpoints), ordered_log_probs(q_predictor, q_cutpoints))


def js_uniform(p_low: Tensor, p_high: Tensor, q_low: Tensor, q_high: Tensor) -> Tensor:
    """Jensen-Shannon divergence of uniforms: log 2 outside their overlap, a constant inside."""
    p_low, p_high, q_low, q_high = as_tensors(p_low, p_high, q_low, q_high)
    p_width, q_width = p_high - p_low, q_high - q_low
    overlap = (torch.minimum(p_high, q_high) - torch.maximum(p_low, q_low)).clamp(min=0)
    p_inside, q_inside = overlap / p_width, overlap / q_width
    p_term = p_inside * torch.log((p_width + q_width) / (2 * q_width))
    q_term = q_inside * torch.log((p_width + q_width) / (2 * p_width))
    return 0.5 * ((2 - p_inside - q_inside) * math.log(2) - p_term - q_term)


def js_cauchy(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """Jensen-Shannon divergence of Cauchy distributions: Nielsen & Okamura 2021, arXiv:2101.12459."""
    return -torch.log1p(torch.expm1(-0.5 * kl_cauchy(p_loc, p_scale, q_loc, q_scale)) / 2)


def js_half_cauchy(p_scale: Tensor, q_scale: Tensor) -> Tensor:
    """Jensen-Shannon divergence of half-Cauchy distributions: that of Cauchy distributions around 0."""
    return -torch.log1p(torch.expm1(-0.5 * kl_half_cauchy(p_scale, q_scale)) / 2)


_CAUCHY = "Nielsen & Okamura 2021, arXiv:2101.12459"

JS: dict[tuple[str, str], Divergence] = {
    ("Bernoulli", "Bernoulli"): Divergence(Formula.of(js_bernoulli), "the defining sum"),
    ("Categorical", "Categorical"): Divergence(Formula.of(js_categorical), "the defining sum"),
    ("OneHotCategorical", "OneHotCategorical"): Divergence(Formula.of(js_categorical), "the defining sum", event_dim=1),
    ("OrderedLogistic", "OrderedLogistic"): Divergence(Formula.of(js_ordered_logistic), "the defining sum"),
    ("Uniform", "Uniform"): Divergence(Formula.of(js_uniform), "the defining integral"),
    ("Cauchy", "Cauchy"): Divergence(Formula.of(js_cauchy), _CAUCHY),
    ("HalfCauchy", "HalfCauchy"): Divergence(Formula.of(js_half_cauchy), f"symmetry of Cauchy; {_CAUCHY}"),
}
