"""Recording and compiling against Pyro's own inspection, and how recording grows with the number of sites."""

from __future__ import annotations

import contextlib
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.inspect import get_model_relations

import dgmcompile as dgm
from benchmarks.steps import example
from benchmarks.timing import medians, milliseconds

NAMES = ("vae", "hvae", "helmholtz", "vrnn", "eight_schools", "gmm")


def chain(length: int) -> torch.Tensor:
    """A random walk."""
    z = torch.zeros(())
    for t in range(length):
        z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0))
    return pyro.sample("x", dist.Normal(z, 1.0))


def run() -> None:
    """Print both tables."""
    print(f"{'program':16}{'trace':>12}{'compile':>12}{'relations':>12}{'trace /':>9}")
    for name in NAMES:
        module: Any = example(name)
        args: Any = module.example_inputs() if callable(module.example_inputs) else module.example_inputs
        _row(name, module.model, args)
    print(f"\n{'sites':16}{'trace':>12}{'a site':>12}{'relations':>12}")
    for length in (10, 100, 1000):
        sides: dict[str, Any] = {"trace": lambda n=length: dgm.trace(chain, (n,))}
        if length < 1000:
            sides["relations"] = lambda n=length: get_model_relations(chain, (n,))
        found = medians(sides, seconds=3, at_least=3)
        relations = milliseconds(found["relations"]) if "relations" in found else "-"
        print(f"{length:<16}{milliseconds(found['trace'])}{milliseconds(found['trace'] / length)}{relations:>12}")


def _row(name: str, model: Any, args: tuple[Any, ...]) -> None:
    graph = dgm.trace(model, args)
    sides: dict[str, Any] = {
        "trace": lambda: dgm.trace(model, args),
        "compile": lambda: dgm.compile(dgm.compact(dgm.semi_auxiliary(graph))),
    }
    with contextlib.suppress(Exception):  # it cannot inspect every program
        get_model_relations(model, args)
        sides["relations"] = lambda: get_model_relations(model, args)
    found = medians(sides, seconds=3, at_least=3)
    relations = found.get("relations")
    shown = f"{milliseconds(relations)}{found['trace'] / relations:9.2f}" if relations else f"{'-':>12}{'-':>9}"
    print(f"{name:16}{milliseconds(found['trace'])}{milliseconds(found['compile'])}{shown}", flush=True)
