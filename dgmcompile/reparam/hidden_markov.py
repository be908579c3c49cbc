"""Families that run along time: hidden states that follow one another, and what is observed of each.

Time is the last dim but those of one observation. What a step needs may be given once for all steps: its
time dim is then of length 1, or missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, Dim, Formula, Law, Shape
from dgmcompile.reparam.compositions import COMPONENT_AT
from dgmcompile.reparam.registry import Composition, Draws


def at_each_step(x: Tensor, steps: int, event_dim: int) -> Tensor:
    """``x`` with a time dim of this length left of its event dims."""
    x = x.unsqueeze(0) if x.dim() == event_dim else x
    time = x.dim() - event_dim - 1
    return x.expand(*x.shape[:time], steps, *x.shape[time + 1 :])


# -- linear states ---------------------------------------------------------------------------------------------------


def linear_hmm(
    initial: Tensor,
    transition_matrix: Tensor,
    transition: Tensor,
    observation_matrix: Tensor,
    observation: Tensor,
    steps: int,
) -> Tensor:
    """What is observed of states z[t] = z[t-1] @ transition_matrix[t] + transition[t], with its own noise added."""
    transition_matrix = at_each_step(transition_matrix, steps, 2)
    transition = at_each_step(transition, steps, 1)
    state, states = initial, []
    for t in range(steps):
        state = (state.unsqueeze(-2) @ transition_matrix[..., t, :, :]).squeeze(-2) + transition[..., t, :]
        states.append(state)
    observed = torch.stack(states, -2).unsqueeze(-2) @ observation_matrix
    return observed.squeeze(-2) + observation


LINEAR_HMM_OF = Formula.of(linear_hmm)


def _parts_of_steps(params: Mapping[str, Arg], shape: Shape) -> dict[str, tuple[Law, Shape]]:
    """The three distributions of a linear model, and the shapes that they are drawn in."""
    laws = {name: cast(Law, params[f"{name}_dist"]) for name in ("initial", "transition", "observation")}
    hidden: Dim = laws["initial"].shape[-1]
    shapes = {"initial": (*shape[:-2], hidden), "transition": (*shape[:-1], hidden), "observation": shape}
    return {name: (law, shapes[name]) for name, law in laws.items()}


def _along_time(params: Mapping[str, Arg], parts: Mapping[str, Arg], steps: Dim, label: str, draws: Draws) -> Arg:
    matrices = params["transition_matrix"], params["observation_matrix"]
    args = parts["initial"], matrices[0], parts["transition"], matrices[1], parts["observation"], steps
    return draws.call(label, LINEAR_HMM_OF, *args)


def _linear_hmm(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    parts = _parts_of_steps(params, shape)
    drawn = {name: draws.draw(law, of_part, name) for name, (law, of_part) in parts.items()}
    return _along_time(params, drawn, shape[-2], "value", draws)


def _matrix_event(params: Mapping[str, Arg]) -> int:
    return 2


_LINEAR_PARAMS = ("initial_dist", "transition_matrix", "transition_dist", "observation_matrix", "observation_dist")

LINEAR_HMM = Composition(
    family="LinearHMM",
    params=_LINEAR_PARAMS,
    write=_linear_hmm,
    formulas=(LINEAR_HMM_OF,),
    event_dim=_matrix_event,
    source="the generative model in pyro.distributions.LinearHMM; its transforms are steps of the law",
)

GAUSSIAN_HMM = replace(
    LINEAR_HMM, family="GaussianHMM", source="the generative model in pyro.distributions.GaussianHMM; Kalman 1960"
)


def spread(mean: Tensor, deviation: Tensor, precision: Tensor) -> Tensor:
    """The mean, and deviations that are divided by the root of one precision for all of a series."""
    return mean + deviation * torch.rsqrt(precision).unsqueeze(-1).unsqueeze(-1)


SPREAD = Formula.of(spread)


def _gamma_gaussian_hmm(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    """Linear in the noise: the series without noise, and the one of the noise alone, which is spread."""
    precision = draws.draw(cast(Law, params["scale_dist"]), shape[:-2], "precision")
    parts = _parts_of_steps(params, shape)
    means = {name: law.params["loc"] for name, (law, _) in parts.items()}
    centred = {name: replace(law, params={**law.params, "loc": 0.0}) for name, (law, _) in parts.items()}
    deviations = {name: draws.draw(centred[name], of_part, name) for name, (_, of_part) in parts.items()}
    mean = _along_time(params, means, shape[-2], "mean", draws)
    deviation = _along_time(params, deviations, shape[-2], "deviation", draws)
    return draws.call("value", SPREAD, mean, deviation, precision)


GAMMA_GAUSSIAN_HMM = Composition(
    family="GammaGaussianHMM",
    params=("scale_dist", *_LINEAR_PARAMS),
    write=_gamma_gaussian_hmm,
    formulas=(LINEAR_HMM_OF, SPREAD),
    event_dim=_matrix_event,
    source="the generative model in pyro.distributions.GammaGaussianHMM; Giron & Rojano 1994, Biometrika 81(2)",
)


# -- states that can be counted --------------------------------------------------------------------------------------


def markov_chain(initial: Tensor, successors: Tensor) -> Tensor:
    """The states along time, the initial one left out; ``successors[..., t, s]`` is what follows ``s`` at ``t``."""
    state, states = initial.unsqueeze(-1), []
    for t in range(successors.shape[-2]):
        state = torch.take_along_dim(successors[..., t, :], state, -1)
        states.append(state)
    return torch.cat(states, -1)


MARKOV_CHAIN = Formula.of(markov_chain)


def _discrete_hmm(params: Mapping[str, Arg], shape: Shape, draws: Draws, variant: str = "") -> Arg:
    """Every state has a successor and an observation drawn, from noise that all states share."""
    observation = cast(Law, params["observation_dist"])
    times = shape[: len(shape) - observation.event_dim]
    initial = Law(family="Categorical", params={"logits": params["initial_logits"]})
    successor = Law(family="Categorical", params={"logits": params["transition_logits"]})
    state = draws.draw(initial, times[:-1], "initial_state", variant)
    states = draws.call("states", MARKOV_CHAIN, state, draws.draw(successor, (*times, 1), "successors", variant))
    values = draws.draw(observation, (*times, 1, *shape[len(times) :]), "observations")
    return draws.call("value", COMPONENT_AT, values, states, observation.event_dim)


def _time_and_observation(params: Mapping[str, Arg]) -> int:
    return 1 + cast(Law, params["observation_dist"]).event_dim


_DISCRETE_HMM = Composition(
    family="DiscreteHMM",
    params=("initial_logits", "transition_logits", "observation_dist"),
    write=_discrete_hmm,
    formulas=(MARKOV_CHAIN, COMPONENT_AT),
    also=("Categorical",),
    differentiable=False,
    event_dim=_time_and_observation,
    source="composition; Rabiner 1989, Proceedings of the IEEE 77(2), section II",
)

DISCRETE_HMM = replace(
    _DISCRETE_HMM, variants={"inverse_cdf": replace(_DISCRETE_HMM, write=partial(_discrete_hmm, variant="inverse_cdf"))}
)
"""By ``inverse_cdf`` each state comes from one uniform, however many states there are."""


# -- many series -----------------------------------------------------------------------------------------------------


def side_by_side(series: Tensor) -> Tensor:
    """Series of one coordinate each, (*batch, series, time, 1), as the coordinates of one series."""
    return series.squeeze(-1).mT


SIDE_BY_SIDE = Formula.of(side_by_side)


def _independent_hmm(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    series = draws.draw(cast(Law, params["base_dist"]), (*shape[:-2], shape[-1], shape[-2], 1), "series")
    return draws.call("value", SIDE_BY_SIDE, series)


INDEPENDENT_HMM = Composition(
    family="IndependentHMM",
    params=("base_dist",),
    write=_independent_hmm,
    formulas=(SIDE_BY_SIDE,),
    event_dim=_matrix_event,
    source="independent series of one coordinate each",
)
