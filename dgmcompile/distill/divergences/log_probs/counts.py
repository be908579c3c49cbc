"""Log-probabilities of counts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.compositions import zero_inflated_log_prob
from dgmcompile.distill.divergences.elementary import as_tensors, weigh
from dgmcompile.distill.divergences.linear import in_one_shape
from dgmcompile.distill.divergences.special import (
    binomial_term,
    factorial_correction,
    log_of_or_minus_infinity,
    multinomial_term,
    poisson_excess,
)


def is_no_count(value: Tensor) -> Tensor:
    """Is a value negative or broken? NaN is neither."""
    return (value < 0) | (value > value.floor())


def log_prob_geometric(value: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of so many failures before a success."""
    value, logits = as_tensors(value, logits)
    outside = is_no_count(value)
    failures = torch.where(outside, 0, value)
    return torch.where(outside, -math.inf, F.logsigmoid(logits) + weigh(failures, F.logsigmoid(-logits)))


def log_prob_poisson(value: Tensor, rate: Tensor) -> Tensor:
    """Log-probability of so many events."""
    rate, value = as_tensors(rate, value)
    outside = is_no_count(value)
    count = torch.where(outside, 0, value).to(rate.dtype)
    log_prob = -poisson_excess(count, rate, log_of_or_minus_infinity(rate)) - factorial_correction(count)
    return torch.where(outside, -math.inf, log_prob)


def log_prob_binomial(value: Tensor, total_count: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of so many successes out of ``total_count``."""
    logits, value, total_count = as_tensors(logits, value, total_count)
    value, total_count = value.to(logits.dtype), total_count.to(logits.dtype)
    outside = is_no_count(value) | (value > total_count)
    successes = torch.where(outside, 0.0, value)
    failures = torch.where(outside, 0.0, total_count - value)
    p, q, log_p, log_q = success_and_failure(logits)
    return torch.where(outside, -math.inf, binomial_term(successes, failures, p, q, log_p, log_q))


def success_and_failure(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """P(1), P(0) and their logarithms."""
    return torch.sigmoid(logits), torch.sigmoid(-logits), F.logsigmoid(logits), F.logsigmoid(-logits)


def log_prob_negative_binomial(value: Tensor, total_count: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of so many successes before ``total_count`` failures, of which there may be any real number."""
    logits, value, total_count = as_tensors(logits, value, total_count)
    outside = is_no_count(value)
    count, failures = torch.where(outside, 0, value).to(logits.dtype), total_count.to(logits.dtype)
    p, q, log_p, log_q = success_and_failure(logits)
    trials = torch.where(failures + count == 0, 1.0, failures + count)
    last_fails = log_of_or_minus_infinity(failures) - torch.log(trials)
    log_prob = binomial_term(count, failures, p, q, log_p, log_q) + torch.where(count == 0, 0.0, last_fails)
    return torch.where(outside, -math.inf, log_prob)


def log_prob_gamma_poisson(value: Tensor, concentration: Tensor, rate: Tensor) -> Tensor:
    """Log-probability of a Poisson count with a Gamma-distributed rate."""
    concentration, rate, value = as_tensors(concentration, rate, value)
    return log_prob_negative_binomial(value, concentration, -torch.log(rate))


def log_prob_beta_binomial(
    value: Tensor, concentration1: Tensor, concentration0: Tensor, total_count: Tensor
) -> Tensor:
    """Log-probability of a Binomial count with a Beta-distributed probability.

    By Bayes' theorem P(k) = P(k | x) p(x) / p(x | k) for any x; this one is the mean of p(x | k).
    """
    a, b, value, total_count = as_tensors(concentration1, concentration0, value, total_count)
    value, total_count = value.to(a.dtype), total_count.to(a.dtype)
    outside = is_no_count(value) | (value > total_count)
    successes = torch.where(outside, 0.0, value)
    failures = torch.where(outside, 0.0, total_count - value)
    posterior_a, posterior_b = a + successes, b + failures
    total = posterior_a + posterior_b
    p, q = posterior_a / total, posterior_b / total
    log_p, log_q = torch.log(p), torch.log(q)
    prior = binomial_term(a, b, p, q, log_p, log_q) + torch.log(a) + torch.log(b) - torch.log(a + b)
    posterior = factorial_correction(total) - factorial_correction(posterior_a) - factorial_correction(posterior_b)
    posterior = posterior + torch.log(posterior_a) + torch.log(q)
    log_prob = binomial_term(successes, failures, p, q, log_p, log_q) + prior - posterior
    return torch.where(outside, -math.inf, log_prob)


def log_prob_multinomial(value: Tensor, total_count: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of so many of each class, given their sum (as in torch, ``total_count`` is not compared)."""
    logits, value = as_tensors(logits, value)
    outside = is_no_count(value)
    counts = torch.where(outside, 0, value).to(logits.dtype)
    log_prob = multinomial_term(counts, torch.softmax(logits, -1), F.log_softmax(logits, -1))
    return torch.where(outside.any(-1), -math.inf, log_prob)


def log_prob_dirichlet_multinomial(value: Tensor, concentration: Tensor, total_count: Tensor) -> Tensor:
    """Log-probability of multinomial counts with Dirichlet-distributed probabilities, given their sum.

    By Bayes' theorem as in `log_prob_beta_binomial`; none where the sum is another one, of which Pyro does not ask.
    """
    concentration, value, total_count = as_tensors(concentration, value, total_count)
    total = value.sum(-1)
    outside = is_no_count(value) | ((total < total_count) | (total > total_count)).unsqueeze(-1)
    counts = torch.where(outside, 0, value).to(concentration.dtype)
    posterior = concentration + counts
    total = posterior.sum(-1, keepdim=True)
    probs = posterior / total
    log_probs = torch.log(probs)
    prior = multinomial_term(concentration, probs, log_probs)
    prior = prior + torch.log(concentration).sum(-1) - torch.log(concentration.sum(-1))
    spread = factorial_correction(total.squeeze(-1)) - factorial_correction(posterior).sum(-1)
    spread = spread + torch.log(posterior).sum(-1) - torch.log(total.squeeze(-1))
    log_prob = multinomial_term(counts, probs, log_probs) + prior - spread
    return torch.where(outside.any(-1), -math.inf, log_prob)


def log_prob_zero_inflated_poisson(value: Tensor, rate: Tensor, gate_logits: Tensor) -> Tensor:
    """Log-probability of a Poisson count that a gate may turn into 0."""
    rate, gate_logits, value = as_tensors(rate, gate_logits, value)
    return zero_inflated_log_prob(value, log_prob_poisson(value, rate), gate_logits)


def log_prob_zero_inflated_negative_binomial(
    value: Tensor, total_count: Tensor, logits: Tensor, gate_logits: Tensor
) -> Tensor:
    """Log-probability of a negative binomial count that a gate may turn into 0."""
    logits, total_count, gate_logits, value = as_tensors(logits, total_count, gate_logits, value)
    return zero_inflated_log_prob(value, log_prob_negative_binomial(value, total_count, logits), gate_logits)


def log_prob_log_normal_negative_binomial(
    value: Tensor, total_count: Tensor, logits: Tensor, multiplicative_noise_scale: Tensor
) -> Tensor:
    """Log-probability of a negative binomial count with normal noise on its logits, by the trapezoid rule.

    The integrand is log-concave, and smooth: 128 nodes where it exceeds 1e-17 of its peak give it to
    rounding for a noise scale up to 3, and to 1e-6 at 10.
    """
    logits, scale, value, total_count = as_tensors(logits, multiplicative_noise_scale, value, total_count)
    outside = is_no_count(value)
    count, failures = torch.where(outside, 0, value).to(logits.dtype), total_count.to(logits.dtype)
    count, failures, logits, scale = in_one_shape(count, failures, logits, scale)
    low, high = noisy_logits_range(count.detach(), failures.detach(), logits.detach(), scale.detach())
    nodes = torch.arange(129, dtype=logits.dtype, device=logits.device) / 128
    step = (high - low) / 128
    noise = (low.unsqueeze(-1) + (high - low).unsqueeze(-1) * nodes) / scale.detach().unsqueeze(-1)
    shifted = logits.unsqueeze(-1) + scale.unsqueeze(-1) * noise
    log_mass = log_prob_negative_binomial(count.unsqueeze(-1), failures.unsqueeze(-1), shifted) - 0.5 * noise**2
    log_prob = torch.logsumexp(log_mass, -1) + torch.log(step / scale.detach()) - 0.5 * math.log(2 * math.pi)
    return torch.where(outside, -math.inf, log_prob)


def noisy_logits_range(count: Tensor, failures: Tensor, logits: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Between which noises a negative binomial with noisy logits has all but 1e-17 of its mass: by bisection."""
    total = count + failures
    # There noise / scale^2 = count sigmoid(-logits - noise) - failures sigmoid(logits + noise).
    low = -F.softplus(torch.log(failures) + 2 * torch.log(scale) + logits)
    high = F.softplus(torch.log(count) + 2 * torch.log(scale) - logits)
    for _ in range(24):
        middle = (low + high) / 2
        rises = count - total * torch.sigmoid(logits + middle) > middle / scale**2
        low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
    mode = (low + high) / 2

    # Their logarithm falls from the mode at least as fast as the normal's.
    near, reach = torch.stack([mode, mode]), torch.stack([-9 * scale, 9 * scale])
    peak = noisy_log_mass(mode, count, total, logits, scale)
    inner, outer = torch.zeros_like(near), torch.ones_like(near)
    for _ in range(14):
        middle = (inner + outer) / 2
        falls = noisy_log_mass(near + middle * reach, count, total, logits, scale) < peak - 40
        inner, outer = torch.where(falls, inner, middle), torch.where(falls, middle, outer)
    low, high = near + outer * reach
    return low, high


def noisy_log_mass(noise: Tensor, count: Tensor, total: Tensor, logits: Tensor, scale: Tensor) -> Tensor:
    """Log of success^count failure^(total - count) and the noise's density, but for constants."""
    return count * (logits + noise) - total * F.softplus(logits + noise) - 0.5 * (noise / scale) ** 2
