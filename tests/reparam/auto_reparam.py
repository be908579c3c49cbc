"""What Pyro's `AutoReparam` makes of each family, as a latent and as an observed site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam import AutoReparam
from torch import Tensor

from dgmcompile.reparam import COMPOSITIONS
from tests.reparam.checking import composed_law, settings


def auto_reparam(family: str) -> dict[str, Any]:
    """``latent`` and ``observed``: class names of what it chooses ("" for nothing), or what it says.

    ``free``: is every random variable that is left of the latent site one without parameters? Two runs with different
    parameters tell. Locations are decentred completely; by default `AutoReparam` learns how far.
    """
    before, after = laws(family)
    with pyro.validation_enabled(False):
        try:
            latent, left = _latent(before)
        except NotImplementedError:
            return {"latent": "Pyro cannot draw it", "free": False, "observed": ""}
        try:
            observed = _names(_run(before, before().sample())[0])
        except NotImplementedError as error:
            observed = f"refused: {str(error).splitlines()[0]}"
        return {"latent": latent, "free": _is_free(left, _latent(after)[1]), "observed": observed}


def laws(family: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The family with some parameters, and with others."""
    if family in COMPOSITIONS:
        cls = composed_law(family)
        return cls(0).law, cls(1).law
    given = next(settings(family))
    given = {name: torch.tensor(v) if isinstance(v, float | list) else v for name, v in given.items()}
    return lambda: getattr(dist, family)(**given), lambda: getattr(dist, family)(
        **{n: _other(v) for n, v in given.items()}
    )


def _other(value: Any) -> Any:
    """Another admissible parameter: probabilities stay probabilities, a covariance stays one."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if value.dim() == 1:
        value = value * torch.linspace(0.95, 0.9, len(value))
    return torch.where(value == 0, 0.01, 0.9 * value) if value.dim() < 2 else 0.9 * value


def _run(law: Callable[[], Any], obs: Any) -> tuple[AutoReparam, Any]:
    strategy = AutoReparam(centered=0.0)
    pyro.clear_param_store()
    torch.manual_seed(0)
    model = poutine.reparam(lambda: pyro.sample("x", law(), obs=obs), config=strategy)
    return strategy, poutine.trace(model).get_trace()


def _names(strategy: AutoReparam) -> str:
    """What is chosen for the site, and for those that it leaves, in the order of their making."""
    return ", ".join(dict.fromkeys(type(made).__name__ for made in strategy.config.values() if made is not None))


def _latent(law: Callable[[], Any]) -> tuple[str, dict[str, Any]]:
    """What is chosen, and the random variables that are left."""
    strategy, trace = _run(law, None)
    left = {
        name: node
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not node["is_observed"] and not isinstance(node["fn"], dist.Delta)
    }
    return _names(strategy), left


def _is_free(left: dict[str, Any], others: dict[str, Any]) -> bool:
    """Have all the same density, whatever the parameters?"""
    if left.keys() != others.keys():
        return False
    return all(_is_same(site["fn"], others[name]["fn"], site["value"]) for name, site in left.items())


def _is_same(one: Any, other: Any, value: Tensor) -> bool:
    """By the density at a value; where there is none, by a draw from one seed."""
    try:
        return torch.equal(one.log_prob(value), other.log_prob(value))
    except NotImplementedError:
        draws = []
        for law in (one, other):
            torch.manual_seed(0)
            draws.append(law.sample())
        return torch.equal(*draws)
