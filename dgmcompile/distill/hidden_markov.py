"""Log-densities of families that run along time, by filters that go through it once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.writing import BEFORE_COMPONENTS, ComposedLogProb, LogProbs, always, of_the_parts
from dgmcompile.ir.graph import Arg, Formula, Law, Ref
from dgmcompile.reparam.hidden_markov import at_each_step
from dgmcompile.reparam.markov_field import filtered_states, information, solve_tril, tril_solved
from dgmcompile.reparam.multivariate import scale_tril_from_covariance
from dgmcompile.reparam.registry import tensor_or_number

# -- states that can be counted --------------------------------------------------------------------------------------


def discrete_hmm_log_prob(log_probs: Tensor, initial_logits: Tensor, transition_logits: Tensor) -> Tensor:
    """The forward algorithm; ``log_probs`` (*batch, time, states) are those of the observations."""
    steps = log_probs.shape[-2]
    transition = at_each_step(F.log_softmax(transition_logits, -1), steps, 2)
    weights = F.log_softmax(initial_logits, -1)
    for t in range(steps):
        weights = torch.logsumexp(weights.unsqueeze(-1) + transition[..., t, :, :], -2) + log_probs[..., t, :]
    return torch.logsumexp(weights, -1)


DISCRETE_HMM_LOG_PROB = Formula.of(discrete_hmm_log_prob)


def _discrete_hmm(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    observation = cast(Law, params["observation_dist"])
    value = write.call("value", BEFORE_COMPONENTS, value, observation.event_dim)
    log_probs = write.log_prob(observation, value, "observations")
    return write.call("", DISCRETE_HMM_LOG_PROB, log_probs, params["initial_logits"], params["transition_logits"])


# -- linear Gaussian states ------------------------------------------------------------------------------------------


def vector_like(x: Tensor | float, size: int, like: Tensor) -> Tensor:
    """``x`` as vectors of this size."""
    return x + torch.zeros(size, dtype=like.dtype, device=like.device)


def diagonal_like(x: Tensor | float, size: int, like: Tensor) -> Tensor:
    """``x`` on the diagonal of matrices of this size."""
    return torch.diag_embed(vector_like(x, size, like))


VECTOR_LIKE, DIAGONAL_LIKE = Formula.of(vector_like), Formula.of(diagonal_like)

_BY_SCALE_TRIL = ("MultivariateNormal", "OMTMultivariateNormal", "AVFMultivariateNormal")
_NOISES = ("initial_dist", "transition_dist", "observation_dist")


def _all_gaussian(params: Mapping[str, Arg]) -> bool:
    parts = [cast(Law, params[name]) for name in _NOISES]
    return all(part.family in ("Normal", *_BY_SCALE_TRIL) and not part.transforms for part in parts)


def _kalman_args(params: Mapping[str, Arg], write: LogProbs) -> list[Arg]:
    """What `kalman_filter` reads beside the value."""
    like = params["transition_matrix"]
    initial, transition, observation = (_gaussian(name, cast(Law, params[name]), like, write) for name in _NOISES)
    return [*initial, params["transition_matrix"], *transition, params["observation_matrix"], *observation]


def _gaussian(name: str, law: Law, like: Arg, write: LogProbs) -> tuple[Arg, Arg]:
    """loc and scale_tril."""
    if law.family in _BY_SCALE_TRIL:
        return law.params["loc"], law.params["scale_tril"]
    size, label = law.shape[-1], name.removesuffix("_dist")
    loc = write.call(f"{label}_loc", VECTOR_LIKE, law.params["loc"], size, like)
    return loc, write.call(f"{label}_scale_tril", DIAGONAL_LIKE, law.params["scale"], size, like)


def kalman_filter(
    value: Tensor,
    initial_loc: Tensor,
    initial_scale_tril: Tensor,
    transition_matrix: Tensor,
    transition_loc: Tensor,
    transition_scale_tril: Tensor,
    observation_matrix: Tensor,
    observation_loc: Tensor,
    observation_scale_tril: Tensor,
) -> tuple[Tensor, Tensor]:
    """What each observation adds to those before it, whitened: the sum of its squares, and the log of its scale."""
    steps = value.shape[-2]
    transition_matrix, observation_matrix = (at_each_step(m, steps, 2) for m in (transition_matrix, observation_matrix))
    transition_loc, observation_loc = (at_each_step(loc, steps, 1) for loc in (transition_loc, observation_loc))
    transition_noise = at_each_step(transition_scale_tril @ transition_scale_tril.mT, steps, 2)
    observation_noise = at_each_step(observation_scale_tril @ observation_scale_tril.mT, steps, 2)
    loc, covariance = initial_loc, initial_scale_tril @ initial_scale_tril.mT
    square, log_scale = torch.zeros_like(value[..., 0, 0]), torch.zeros_like(value[..., 0, 0])
    for t in range(steps):
        step, seen = transition_matrix[..., t, :, :], observation_matrix[..., t, :, :]
        loc = (loc.unsqueeze(-2) @ step).squeeze(-2) + transition_loc[..., t, :]
        covariance = step.mT @ covariance @ step + transition_noise[..., t, :, :]
        expected = (loc.unsqueeze(-2) @ seen).squeeze(-2) + observation_loc[..., t, :]
        tril = scale_tril_from_covariance(seen.mT @ covariance @ seen + observation_noise[..., t, :, :])
        surprise = solve_tril(tril, value[..., t, :] - expected)
        gain = tril_solved(tril, seen.mT @ covariance)
        loc = loc + (surprise.unsqueeze(-2) @ gain).squeeze(-2)
        covariance = covariance - gain.mT @ gain
        square = square + surprise.square().sum(-1)
        log_scale = log_scale + tril.diagonal(0, -2, -1).log().sum(-1)
    return square, log_scale


def gaussian_hmm_log_prob(
    value: Tensor,
    initial_loc: Tensor,
    initial_scale_tril: Tensor,
    transition_matrix: Tensor,
    transition_loc: Tensor,
    transition_scale_tril: Tensor,
    observation_matrix: Tensor,
    observation_loc: Tensor,
    observation_scale_tril: Tensor,
) -> Tensor:
    """Normal, by the Kalman filter."""
    square, log_scale = kalman_filter(
        value,
        initial_loc,
        initial_scale_tril,
        transition_matrix,
        transition_loc,
        transition_scale_tril,
        observation_matrix,
        observation_loc,
        observation_scale_tril,
    )
    return -0.5 * (square + value.shape[-1] * value.shape[-2] * math.log(2 * math.pi)) - log_scale


GAUSSIAN_HMM_LOG_PROB = Formula.of(gaussian_hmm_log_prob)


def _gaussian_hmm(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    return write.call("", GAUSSIAN_HMM_LOG_PROB, value, *_kalman_args(params, write))


def gamma_gaussian_hmm_log_prob(
    value: Tensor,
    concentration: Tensor | float,
    rate: Tensor | float,
    initial_loc: Tensor,
    initial_scale_tril: Tensor,
    transition_matrix: Tensor,
    transition_loc: Tensor,
    transition_scale_tril: Tensor,
    observation_matrix: Tensor,
    observation_loc: Tensor,
    observation_scale_tril: Tensor,
) -> Tensor:
    """Student's t, by the Kalman filter: the precision that all noise shares is integrated out."""
    concentration, rate = tensor_or_number(concentration), tensor_or_number(rate)
    square, log_scale = kalman_filter(
        value,
        initial_loc,
        initial_scale_tril,
        transition_matrix,
        transition_loc,
        transition_scale_tril,
        observation_matrix,
        observation_loc,
        observation_scale_tril,
    )
    half = 0.5 * value.shape[-1] * value.shape[-2]
    norm = torch.lgamma(concentration + half) - torch.lgamma(concentration) - half * torch.log(2 * math.pi * rate)
    return norm - log_scale - (concentration + half) * torch.log1p(0.5 * square / rate)


GAMMA_GAUSSIAN_HMM_LOG_PROB = Formula.of(gamma_gaussian_hmm_log_prob)


def _gamma_gaussian_hmm(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    scale = cast(Law, params["scale_dist"]).params
    args = scale["concentration"], scale["rate"], *_kalman_args(params, write)
    return write.call("", GAMMA_GAUSSIAN_HMM_LOG_PROB, value, *args)


# -- a chain of Gaussian factors -------------------------------------------------------------------------------------


def log_mass(states: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Of what `filtered_states` tells, up to the factors' own constants."""
    parts = [0.5 * mean.square().sum(-1) - tril.diagonal(0, -2, -1).log().sum(-1) for tril, mean, _ in states]
    return sum(parts[1:], parts[0])


def gaussian_mrf_log_prob(
    value: Tensor,
    initial_loc: Tensor,
    initial_scale_tril: Tensor,
    transition_loc: Tensor,
    transition_scale_tril: Tensor,
    observation_loc: Tensor,
    observation_scale_tril: Tensor,
) -> Tensor:
    """The mass of all factors at these observations, over that of the factors of the states alone."""
    steps, hidden = value.shape[-2], initial_loc.shape[-1]
    tril = observation_scale_tril
    state_tril, cross, tril = tril[..., :hidden, :hidden], tril[..., hidden:, :hidden], tril[..., hidden:, hidden:]
    precision, info = information(observation_loc[..., :hidden], state_tril)

    # an observation's mean is linear in the state: whitened, it is seen @ state + expected
    eye = torch.eye(hidden, dtype=tril.dtype, device=tril.device)
    seen = tril_solved(tril, cross) @ tril_solved(state_tril, eye)
    expected = solve_tril(tril, observation_loc[..., hidden:])
    expected = expected - (seen @ observation_loc[..., :hidden].unsqueeze(-1)).squeeze(-1)
    shift = solve_tril(tril, value) - expected
    observed_precision = at_each_step(precision + seen.mT @ seen, steps, 2)
    observed_info = info + (shift.unsqueeze(-2) @ seen).squeeze(-2)
    constant = shift.square().sum((-2, -1)) + value.shape[-1] * steps * math.log(2 * math.pi)
    log_scale = at_each_step(tril.diagonal(0, -2, -1).log().sum(-1, keepdim=True), steps, 1).sum((-2, -1))

    factors = (initial_loc, initial_scale_tril, transition_loc, transition_scale_tril)
    with_observations = filtered_states(*factors, observed_precision, observed_info)
    alone = filtered_states(*factors, at_each_step(precision, steps, 2), at_each_step(info, steps, 1))
    return log_mass(with_observations) - log_mass(alone) - 0.5 * constant - log_scale


GAUSSIAN_MRF_LOG_PROB = Formula.of(gaussian_mrf_log_prob)


def _gaussian_mrf(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    parts = [cast(Law, params[name]).params for name in _NOISES]
    gaussians = [part[name] for part in parts for name in ("loc", "scale_tril")]
    return write.call("", GAUSSIAN_MRF_LOG_PROB, value, *gaussians)


# -- many series -----------------------------------------------------------------------------------------------------


def one_by_one(value: Tensor) -> Tensor:
    """The coordinates of a series as series of one coordinate each."""
    return value.mT.unsqueeze(-1)


def sum_of_series(log_prob: Tensor) -> Tensor:
    """Of independent series, the last dim."""
    return log_prob.sum(-1)


ONE_BY_ONE, SUM_OF_SERIES = Formula.of(one_by_one), Formula.of(sum_of_series)


def _independent_hmm(params: Mapping[str, Arg], value: Ref, write: LogProbs) -> Ref:
    series = write.log_prob(cast(Law, params["base_dist"]), write.call("value", ONE_BY_ONE, value), "series")
    return write.call("", SUM_OF_SERIES, series)


HIDDEN_MARKOV_LOG_PROBS: Mapping[str, ComposedLogProb] = {
    "DiscreteHMM": ComposedLogProb(_discrete_hmm, measure=of_the_parts("observation_dist")),
    "GammaGaussianHMM": ComposedLogProb(_gamma_gaussian_hmm, measure=always("volume")),
    "GaussianHMM": ComposedLogProb(_gaussian_hmm, measure=always("volume")),
    "GaussianMRF": ComposedLogProb(_gaussian_mrf, measure=always("volume")),
    "IndependentHMM": ComposedLogProb(_independent_hmm, measure=always("volume")),
    "LinearHMM": ComposedLogProb(_gaussian_hmm, exists=_all_gaussian, measure=always("volume")),
}
