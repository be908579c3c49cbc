"""Effective samples per second of NUTS: as the model is written, under Pyro's `AutoReparam`, under `FullReparam`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.reparam import AutoReparam
from pyro.ops.stats import effective_sample_size
from torch import Tensor

import dgmcompile as dgm
from benchmarks.steps import example

SEEDS = (0, 1, 2)
WARMUP, SAMPLES = 200, 400


def funnel(dimensions: int = 9) -> None:
    """Neal 2003, "Slice sampling", section 8: nine variables whose spread is set by a tenth."""
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("coordinates", dimensions):
        pyro.sample("x", dist.Normal(0.0, torch.exp(v / 2)))


STRATEGIES: Mapping[str, Callable[[Any], Any]] = {
    "as written": lambda model: model,
    "AutoReparam": lambda model: AutoReparam(centered=0.0)(model),  # what its documentation says for MCMC
    "FullReparam": lambda model: dgm.FullReparam()(model),
}


@dataclass(frozen=True)
class Chain:
    """``ess``: of the worst coordinate of the model's own variables."""

    ess: float
    seconds: float
    divergences: int

    @property
    def rate(self) -> float:
        return self.ess / self.seconds


def chain(model: Callable[..., Any], args: tuple[Any, ...], variables: tuple[str, ...], seed: int) -> Chain:
    """One run of NUTS, warm-up counted in its time."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    sampler = MCMC(NUTS(model), num_samples=SAMPLES, warmup_steps=WARMUP, disable_progbar=True)
    started = time.perf_counter()
    sampler.run(*args)
    seconds = time.perf_counter() - started
    divergences = len(sampler.diagnostics()["divergences"]["chain 0"])
    return Chain(_smallest_ess(model, args, variables, sampler.get_samples()), seconds, divergences)


def _smallest_ess(
    model: Callable[..., Any], args: tuple[Any, ...], variables: tuple[str, ...], samples: dict[str, Tensor]
) -> float:
    """Of the variables as the model is written, whatever was sampled in their place."""
    values = Predictive(poutine.uncondition(model), samples, return_sites=variables)(*args) if samples else {}
    found = {name: samples.get(name, values.get(name)) for name in variables}
    each = [effective_sample_size(value.reshape(1, SAMPLES, -1), 0, 1) for value in found.values() if value is not None]
    return float(torch.cat([ess.reshape(-1) for ess in each]).min())


def run() -> None:
    """Print medians over the seeds; the sides take turns."""
    schools: Any = example("eight_schools")
    models: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[str, ...]]] = {
        "eight schools": (schools.model, schools.example_inputs, ("mu", "tau", "theta")),
        "Neal's funnel": (funnel, (), ("v", "x")),
    }
    print(f"{'NUTS':16}{'':14}{'ESS / s':>9}{'ESS':>8}{'seconds':>9}{'diverged':>10}{'FullReparam /':>15}")
    for name, (model, args, variables) in models.items():
        chains: dict[str, list[Chain]] = {strategy: [] for strategy in STRATEGIES}
        for seed in SEEDS:
            for strategy, around in STRATEGIES.items():
                chains[strategy].append(chain(around(model), args, variables, seed))
        ours = statistics.median(c.rate for c in chains["FullReparam"])
        for strategy, found in chains.items():
            rate = statistics.median(c.rate for c in found)
            ess, seconds = statistics.median(c.ess for c in found), statistics.median(c.seconds for c in found)
            diverged = statistics.median(c.divergences for c in found)
            row = f"{rate:9.1f}{ess:8.0f}{seconds:9.1f}{diverged:10.0f}{ours / rate:15.1f}"
            print(f"{name:16}{strategy:14}{row}", flush=True)
