"""The distillation loss as a Pyro user writes it with handlers: the same noise, the same terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import kl_divergence


class SharedNoise(Messenger):
    """Makes every site from its noise; an observed one takes the value given in ``targets``, if there is one."""

    def __init__(self, noise: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._noise, self._targets = noise, targets

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if f"{name}_noise" not in self._noise and name not in self._targets:
            return
        if msg["is_observed"] and name in self._targets:
            msg["value"] = self._targets[name]
        else:
            msg["value"] = _from_noise(msg["fn"], self._noise[f"{name}_noise"])
        msg["done"] = True


def _from_noise(law: Any, noise: Tensor) -> Tensor:
    while isinstance(law, dist.Independent):
        law = law.base_dist
    if isinstance(law, dist.Bernoulli):
        return (torch.logit(noise) > -law.logits).to(law.logits.dtype)
    return law.loc + law.scale * noise


def loss_by_handlers(
    teacher: Callable[..., Any],
    student: Callable[..., Any],
    args: tuple[Any, ...],
    noise: Mapping[str, Tensor],
    latent_weight: float,
) -> Tensor:
    """L_sd + latent_weight * sum of the latents' terms, averaged over the batch."""
    with torch.no_grad():
        ours: Any = poutine.trace(SharedNoise(noise, {})(teacher)).get_trace(*args)
    targets = {name: site["value"] for name, site in ours.nodes.items() if _is_target(site)}
    theirs: Any = poutine.trace(SharedNoise(noise, targets)(student)).get_trace(*args)
    total = torch.zeros(())
    for name in ours.stochastic_nodes + ours.observation_nodes:
        site, copy = ours.nodes[name], theirs.nodes[name]
        if type(site["fn"]).__name__ == "_Subsample":
            continue
        weight = 1.0 if _is_target(site) else latent_weight
        total = total + weight * kl_divergence(site["fn"], copy["fn"]).sum()
    return total / args[0].shape[0]


def _is_target(site: Any) -> bool:
    return site["type"] == "sample" and site["is_observed"]


def without_validation() -> Any:
    return pyro.validation_enabled(False)
