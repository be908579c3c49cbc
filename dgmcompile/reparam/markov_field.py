"""A chain of Gaussian factors: the hidden states are drawn backwards from what a filter knows of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, Formula, Law, Shape
from dgmcompile.reparam.hidden_markov import at_each_step
from dgmcompile.reparam.registry import Composition, Draws


def tril_solved(tril: Tensor, matrix: Tensor) -> Tensor:
    """tril^-1 matrix; both broadcast."""
    return torch.linalg.solve_triangular(tril, matrix, upper=False)


def solve_tril(tril: Tensor, rhs: Tensor) -> Tensor:
    """tril^-1 rhs, of vectors; both broadcast."""
    return tril_solved(tril, rhs.unsqueeze(-1)).squeeze(-1)


def information(loc: Tensor, scale_tril: Tensor) -> tuple[Tensor, Tensor]:
    """Precision, and precision times ``loc``."""
    precision = torch.cholesky_inverse(scale_tril)
    return precision, (precision @ loc.unsqueeze(-1)).squeeze(-1)


def filtered_states(
    initial_loc: Tensor,
    initial_scale_tril: Tensor,
    transition_loc: Tensor,
    transition_scale_tril: Tensor,
    state_precision: Tensor,
    state_information: Tensor,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What is known of each state, the initial one first, from the factors up to the next state.

    With e a standard normal vector, state[t] = tril^-T (mean - link @ state[t + 1] + e), where (tril, mean,
    link) is the t-th element; after the last state nothing comes, and its link is 0. The factors of the states
    have (*batch, time, states) as ``state_information``, and so many precisions.
    """
    steps, hidden = state_information.shape[-2], state_information.shape[-1]
    precision, info = information(initial_loc, initial_scale_tril)
    pair_precision, pair_info = information(transition_loc, transition_scale_tril)
    pair_precision, pair_info = at_each_step(pair_precision, steps, 2), at_each_step(pair_info, steps, 1)
    found = []
    for t in range(steps):
        both, both_info = pair_precision[..., t, :, :], pair_info[..., t, :]
        tril = torch.linalg.cholesky(precision + both[..., :hidden, :hidden])
        mean = solve_tril(tril, info + both_info[..., :hidden])
        link = tril_solved(tril, both[..., :hidden, hidden:])
        found.append((tril, mean, link))
        precision = both[..., hidden:, hidden:] - link.mT @ link + state_precision[..., t, :, :]
        info = both_info[..., hidden:] - (link.mT @ mean.unsqueeze(-1)).squeeze(-1) + state_information[..., t, :]
    tril = torch.linalg.cholesky(precision)
    found.append((tril, solve_tril(tril, info), torch.zeros_like(tril)))
    return found


def gaussian_mrf_from_noise(
    state_noise: Tensor,
    observation_noise: Tensor,
    initial_loc: Tensor,
    initial_scale_tril: Tensor,
    transition_loc: Tensor,
    transition_scale_tril: Tensor,
    observation_loc: Tensor,
    observation_scale_tril: Tensor,
) -> Tensor:
    """The states from the last to the first, given those after them; then an observation of each."""
    steps, hidden = state_noise.shape[-2], state_noise.shape[-1]
    loc, tril = observation_loc, observation_scale_tril
    precision, info = information(loc[..., :hidden], tril[..., :hidden, :hidden])
    precision, info = at_each_step(precision, steps, 2), at_each_step(info, steps, 1)
    known = filtered_states(initial_loc, initial_scale_tril, transition_loc, transition_scale_tril, precision, info)
    state = torch.zeros_like(state_noise[..., 0, :])
    states = []
    for t in range(steps - 1, -1, -1):
        state_tril, mean, link = known[t + 1]
        ahead = mean - (link @ state.unsqueeze(-1)).squeeze(-1) + state_noise[..., t, :]
        state = torch.linalg.solve_triangular(state_tril.mT, ahead.unsqueeze(-1), upper=True).squeeze(-1)
        states.append(state)
    whitened = solve_tril(tril[..., :hidden, :hidden], torch.stack(states[::-1], -2) - loc[..., :hidden])
    both = torch.cat((whitened, observation_noise), -1)
    return loc[..., hidden:] + (tril[..., hidden:, :] @ both.unsqueeze(-1)).squeeze(-1)


GAUSSIAN_MRF_FROM_NOISE = Formula.of(gaussian_mrf_from_noise)


def _gaussian_mrf(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    parts = [cast(Law, params[f"{name}_dist"]) for name in ("initial", "transition", "observation")]
    standard = Law(family="Normal", params={"loc": 0.0, "scale": 1.0})
    states = draws.draw(standard, (*shape[:-1], parts[0].shape[-1]), "states")
    observations = draws.draw(standard, shape, "observations")
    gaussians = [part.params[name] for part in parts for name in ("loc", "scale_tril")]
    return draws.call("value", GAUSSIAN_MRF_FROM_NOISE, states, observations, *gaussians)


def _matrix_event(params: Mapping[str, Arg]) -> int:
    return 2


GAUSSIAN_MRF = Composition(
    family="GaussianMRF",
    params=("initial_dist", "transition_dist", "observation_dist"),
    write=_gaussian_mrf,
    formulas=(GAUSSIAN_MRF_FROM_NOISE,),
    also=("Normal",),
    event_dim=_matrix_event,
    source="pyro.distributions.GaussianMRF; drawn by forward filtering and backward sampling, "
    "Fruhwirth-Schnatter 1994, Journal of Time Series Analysis 15(2)",
)
