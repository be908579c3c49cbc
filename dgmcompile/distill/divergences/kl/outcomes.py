"""KL(p || q) of coins, classes and counts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import (
    are_one_number,
    as_tensors,
    bernoulli_log_probs,
    exp_gap,
    ordered_log_probs,
    relative_entropy,
    weigh,
)
from dgmcompile.distill.divergences.linear import expand_like, in_one_shape
from dgmcompile.reparam.matching import all_one_one_logits, all_one_two_logits


def kl_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of coins, as cross-entropy less entropy: few calls, of which q's gradient passes three.

    Logits may be infinite, where the cross-entropy is inf - inf; rounding may leave it just below 0.
    """
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    if p_logits.shape != q_logits.shape:
        p_logits, q_logits = expand_like(p_logits, q_logits), expand_like(q_logits, p_logits)
    p = torch.sigmoid(p_logits)
    entropy = F.binary_cross_entropy_with_logits(p_logits.clamp(-1e3, 1e3), p, reduction="none")
    gap = F.binary_cross_entropy_with_logits(q_logits, p, reduction="none") - entropy
    return torch.where(q_logits.isinf(), torch.where(p_logits == q_logits, 0.0, math.inf), gap)


def reverse_kl_bernoulli(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(q || p) of coins; the gradient of q passes its probabilities too."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    return relative_entropy(bernoulli_log_probs(q_logits), bernoulli_log_probs(p_logits))


def kl_categorical(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) over the last dim's classes; a logit of -inf excludes its class."""
    return relative_entropy(F.log_softmax(p_logits, -1), F.log_softmax(q_logits, -1))


def kl_one_one_matching(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) over all matchings of a few sources with as many destinations."""
    return kl_categorical(all_one_one_logits(p_logits), all_one_one_logits(q_logits))


def kl_one_two_matching(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) over all matchings of a few destinations with two sources each."""
    return kl_categorical(all_one_two_logits(p_logits), all_one_two_logits(q_logits))


def kl_ordered_logistic(p_predictor: Tensor, p_cutpoints: Tensor, q_predictor: Tensor, q_cutpoints: Tensor) -> Tensor:
    """KL(p || q) over the intervals between cutpoints."""
    p_predictor, p_cutpoints, q_predictor, q_cutpoints = as_tensors(p_predictor, p_cutpoints, q_predictor, q_cutpoints)
    p_log_probs = ordered_log_probs(p_predictor, p_cutpoints)
    return relative_entropy(p_log_probs, ordered_log_probs(q_predictor, q_cutpoints))


def kl_ordered_logistic_categorical(p_predictor: Tensor, p_cutpoints: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of ordered classes from any."""
    p_predictor, p_cutpoints, q_logits = as_tensors(p_predictor, p_cutpoints, q_logits)
    return relative_entropy(ordered_log_probs(p_predictor, p_cutpoints), F.log_softmax(q_logits, -1))


def kl_categorical_ordered_logistic(p_logits: Tensor, q_predictor: Tensor, q_cutpoints: Tensor) -> Tensor:
    """KL(p || q) of any classes from ordered ones."""
    p_logits, q_predictor, q_cutpoints = as_tensors(p_logits, q_predictor, q_cutpoints)
    return relative_entropy(F.log_softmax(p_logits, -1), ordered_log_probs(q_predictor, q_cutpoints))


def kl_geometric(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of the failures before a success: of one trial, times the expected number of trials."""
    p_logits, q_logits = as_tensors(p_logits, q_logits)
    success = F.logsigmoid(p_logits) - F.logsigmoid(q_logits)
    failure = F.logsigmoid(-p_logits) - F.logsigmoid(-q_logits)
    return success + weigh(torch.exp(-p_logits), failure)


def kl_poisson(p_rate: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of Poisson counts; a rate may be 0."""
    p_rate, q_rate = as_tensors(p_rate, q_rate)
    ratio = q_rate / torch.where(p_rate == 0, 1.0, p_rate)
    log_ratio = torch.log(torch.where(ratio == 0, 1.0, ratio))
    gap = torch.where(ratio == 0, math.inf, exp_gap(log_ratio))
    return torch.where(p_rate == 0, q_rate, p_rate * gap)


def kl_bernoulli_poisson(p_logits: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of a coin from a Poisson count."""
    p_logits, q_rate = as_tensors(p_logits, q_rate)
    p_log_probs = bernoulli_log_probs(p_logits)
    q_log_weights = torch.stack([torch.log(q_rate), torch.zeros_like(q_rate)], -1)
    return q_rate + relative_entropy(p_log_probs, q_log_weights)


def kl_binomial(
    p_total_count: Tensor | float, p_logits: Tensor, q_total_count: Tensor | float, q_logits: Tensor
) -> Tensor:
    """KL(p || q) of counts; infinite where q's total is smaller, an integral where it is larger."""
    same_total = are_one_number(p_total_count, q_total_count)
    p_logits, q_logits, p_total_count, q_total_count = as_tensors(p_logits, q_logits, p_total_count, q_total_count)
    one_trial = relative_entropy(bernoulli_log_probs(p_logits), bernoulli_log_probs(q_logits))
    if same_total:
        return weigh(p_total_count, one_trial)
    more = (q_total_count - p_total_count).clamp(min=0).to(p_logits.dtype)
    trials = weigh(p_total_count, one_trial) + weigh(more, -F.logsigmoid(-q_logits))
    ways = binomial_log_ways_gap(p_total_count.to(p_logits.dtype), p_logits, more)
    return torch.where(p_total_count > q_total_count, math.inf, trials + ways)


def binomial_log_ways_gap(total: Tensor, logits: Tensor, more: Tensor) -> Tensor:
    """E log C(n, k) / C(n + more, k) of a Binomial count k out of n, by the integral of log Gamma in DLMF 5.9.19.

    That of e^(-x t) is the generating function. In log t the integrand is smooth, and 256 nodes of the
    trapezoid rule give it to rounding.
    """
    total, logits, more = in_one_shape(total, logits, more)
    low = -37 - torch.log1p(total)
    nodes = torch.arange(257, dtype=logits.dtype, device=logits.device) / 256
    t = torch.exp(low.unsqueeze(-1) + (4 - low).unsqueeze(-1) * nodes)
    total, more, failure = total.unsqueeze(-1), more.unsqueeze(-1), torch.sigmoid(-logits).unsqueeze(-1)
    certain = torch.finfo(logits.dtype).eps / 2 - 1  # where failure and e^-t round to 1 and 0
    log_failures = total * torch.log1p((failure * torch.expm1(-t)).clamp(min=certain))
    decay = torch.exp(log_failures) * -torch.expm1(-total * t - log_failures)
    return (torch.expm1(-more * t) * decay / torch.expm1(t)).sum(-1) * (4 - low) / 256


def kl_negative_binomial(
    p_total_count: Tensor | float, p_logits: Tensor, q_total_count: Tensor | float, q_logits: Tensor
) -> Tensor:
    """KL(p || q) of the successes before so many failures; an integral where these differ in number."""
    same_total = are_one_number(p_total_count, q_total_count)
    p_logits, q_logits, p_total_count, q_total_count = as_tensors(p_logits, q_logits, p_total_count, q_total_count)
    p_total_count, q_total_count = p_total_count.to(p_logits.dtype), q_total_count.to(p_logits.dtype)
    trials = weigh(p_total_count, kl_geometric(-p_logits, -q_logits))
    if same_total:
        return trials
    fewer = (p_total_count - q_total_count) * F.logsigmoid(-q_logits)
    return trials + fewer + negative_binomial_log_ways_gap(p_total_count, p_logits, q_total_count)


def negative_binomial_log_ways_gap(failures: Tensor, logits: Tensor, others: Tensor) -> Tensor:
    """E log of C(k + r - 1, k) for r failures by that for ``others``, as in `binomial_log_ways_gap`."""
    failures, logits, others = in_one_shape(failures, logits, others)
    fixed, odds = torch.minimum(failures, others).detach().clamp(min=1e-6), torch.exp(logits)
    low, high = -37 - torch.log1p((failures * odds).detach()), torch.log(40 / fixed)
    nodes = torch.arange(257, dtype=logits.dtype, device=logits.device) / 256
    t = torch.exp(low.unsqueeze(-1) + (high - low).unsqueeze(-1) * nodes)
    failures, others = failures.unsqueeze(-1), others.unsqueeze(-1)
    rest = -torch.expm1(-failures * torch.log1p(odds.unsqueeze(-1) * -torch.expm1(-t)))
    gap = torch.exp(-others * t) - torch.exp(-failures * t)
    return (gap * rest / -torch.expm1(-t)).sum(-1) * (high - low) / 256


def kl_gamma_poisson(p_concentration: Tensor, p_rate: Tensor, q_concentration: Tensor, q_rate: Tensor) -> Tensor:
    """KL(p || q) of Poisson counts with Gamma-distributed rates: negative binomial ones."""
    p_concentration, p_rate, q_concentration, q_rate = as_tensors(p_concentration, p_rate, q_concentration, q_rate)
    return kl_negative_binomial(p_concentration, -torch.log(p_rate), q_concentration, -torch.log(q_rate))


def kl_multinomial(p_total_count: Tensor, p_logits: Tensor, q_total_count: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of counts of classes; infinite where the totals differ."""
    p_logits, q_logits, p_total_count, q_total_count = as_tensors(p_logits, q_logits, p_total_count, q_total_count)
    counts = weigh(p_total_count, kl_categorical(p_logits, q_logits))
    return torch.where(p_total_count == q_total_count, counts, math.inf)
