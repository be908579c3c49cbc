"""Random matchings: Gumbel-max over all of them, so few nodes only."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.discrete import categorical_from_noise
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def one_one_matchings(count: int, device: torch.device) -> Tensor:
    """All permutations of ``count`` labels, one a row."""
    found = torch.zeros((1, 0), dtype=torch.long, device=device)
    for label in range(count):
        new = torch.full((found.shape[0], 1), label, dtype=torch.long, device=device)
        places = [torch.cat((found[:, :i], new, found[:, i:]), -1) for i in range(label + 1)]
        found = torch.cat(places)
    return found


def one_two_matchings(count: int, device: torch.device) -> Tensor:
    """All ways to write each of ``count`` labels twice, one a row."""
    found = torch.zeros((1, 0), dtype=torch.long, device=device)
    for label in range(count):
        new = torch.full((found.shape[0], 1), label, dtype=torch.long, device=device)
        places = [
            torch.cat((found[:, :i], new, found[:, i:j], new, found[:, j:]), -1)
            for i in range(2 * label + 1)
            for j in range(i, 2 * label + 1)
        ]
        found = torch.cat(places)
    return found


def logits_of_matchings(logits: Tensor, matchings: Tensor) -> Tensor:
    """A matching's logit is the sum of those of its edges; in a last dim."""
    return logits[..., torch.arange(matchings.shape[-1], device=logits.device), matchings].sum(-1)


def all_one_one_logits(logits: Tensor) -> Tensor:
    """Of all matchings in which each destination has one source."""
    if logits.shape[-1] > 8:
        raise ValueError(f"there are too many matchings of {logits.shape[-1]} nodes to list them: more than 8! = 40320")
    return logits_of_matchings(logits, one_one_matchings(logits.shape[-1], logits.device))


def all_one_two_logits(logits: Tensor) -> Tensor:
    """Of all matchings in which each destination has two sources."""
    if logits.shape[-1] > 4:
        raise ValueError(
            f"there are too many matchings to {logits.shape[-1]} nodes to list them: more than 8! / 2^4 = 2520"
        )
    return logits_of_matchings(logits, one_two_matchings(logits.shape[-1], logits.device))


def one_one_matching_from_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """The destination of each source, by Gumbel-max."""
    label = categorical_from_noise(noise, all_one_one_logits(logits))
    return one_one_matchings(logits.shape[-1], logits.device)[label]


def one_two_matching_from_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """The destination of each source, by Gumbel-max; each has two sources."""
    label = categorical_from_noise(noise, all_one_two_logits(logits))
    return one_two_matchings(logits.shape[-1], logits.device)[label]


def _too_large(limit: int, listed: str, params: Mapping[str, Shape]) -> str | None:
    count = params["logits"][-1]
    if isinstance(count, int) and count <= limit:
        return None
    return f"matchings are listed, so that there may be {limit} destinations ({listed}) and not {count}"


def _one_one_refusal(params: Mapping[str, Shape]) -> str | None:
    return _too_large(8, "8! = 40320 matchings", params)


def _one_two_refusal(params: Mapping[str, Shape]) -> str | None:
    return _too_large(4, "8! / 2^4 = 2520 matchings", params)


def _one_noise_a_permutation(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    count = params["logits"][-1]
    assert isinstance(count, int)  # else `refusal` says why not
    return ((*value[:-1], math.factorial(count)),)


def _one_noise_a_pairing(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    count = params["logits"][-1]
    assert isinstance(count, int)  # else `refusal` says why not
    return ((*value[:-1], math.factorial(2 * count) // 2**count),)


_SOURCE = "Gumbel-max over the support; Maddison, Tarlow & Minka 2014, A* Sampling, arXiv:1411.0030, section 2"

ONE_ONE_MATCHING = NoiseTransform(
    family="OneOneMatching",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("logits",),
    forward=Formula.of(one_one_matching_from_noise),
    noise_shapes=_one_noise_a_permutation,
    differentiable=False,
    event_dim=1,
    discrete=True,
    refusal=_one_one_refusal,
    source=_SOURCE,
)
ONE_TWO_MATCHING = NoiseTransform(
    family="OneTwoMatching",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("logits",),
    forward=Formula.of(one_two_matching_from_noise),
    noise_shapes=_one_noise_a_pairing,
    differentiable=False,
    event_dim=1,
    discrete=True,
    refusal=_one_two_refusal,
    source=_SOURCE,
)
