"""Helmholtz machine on the Old Faithful geyser: z4 -> z3 -> y2 -> z2 -> z1 -> y1, the latents binary.

Stochastic binary layers explain how long an eruption lasts (y2), and that, through two more layers, explains
how long the next one lets us wait (y1). Dayan et al. 1995, "The Helmholtz machine".
"""

import csv
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

UNITS = 8
"""Binary units of every latent layer."""


def network(n_inputs: int, hidden: int, n_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_inputs, hidden), nn.Tanh(), nn.Linear(hidden, n_outputs))


class HelmholtzMachine(PyroModule):
    """Networks with ``hidden`` units between the layers.

    ``name`` keeps its parameters apart from those of another in Pyro's parameter store.
    """

    def __init__(self, name: str, hidden: int) -> None:
        super().__init__(name)
        self.top_logits = nn.Parameter(torch.randn(UNITS))
        self.logits3 = network(UNITS, hidden, UNITS)
        self.duration = network(UNITS, hidden, 2)
        self.logits2 = network(1, hidden, UNITS)
        self.logits1 = network(UNITS, hidden, UNITS)
        self.wait = network(UNITS, hidden, 2)

    def forward(self, eruptions: Tensor, waiting: Tensor) -> Tensor:
        with pyro.plate("eruption", len(eruptions)):
            z4 = pyro.sample("z4", dist.Bernoulli(logits=self.top_logits).to_event(1))
            z3 = pyro.sample("z3", dist.Bernoulli(logits=self.logits3(z4)).to_event(1))
            y2 = pyro.sample("y2", normal(self.duration(z3)), obs=eruptions)
            z2 = pyro.sample("z2", dist.Bernoulli(logits=self.logits2(y2.unsqueeze(-1))).to_event(1))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=self.logits1(z2)).to_event(1))
            return pyro.sample("y1", normal(self.wait(z1)), obs=waiting)


def normal(output: Tensor) -> dist.Normal:
    """The normal law that a network's two outputs stand for."""
    loc, scale = output.unbind(-1)
    return dist.Normal(loc, F.softplus(scale) + 0.01)


def old_faithful() -> tuple[Tensor, Tensor]:
    """Durations and waiting times of 272 eruptions, each with mean 0 and standard deviation 1."""
    with (Path(__file__).parent / "data" / "old_faithful.csv").open(newline="") as file:
        rows = [(float(row["eruptions"]), float(row["waiting"])) for row in csv.DictReader(file)]
    data = torch.tensor(rows)
    eruptions, waiting = ((data - data.mean(0)) / data.std(0)).unbind(1)
    return eruptions, waiting


with torch.random.fork_rng():
    torch.manual_seed(0)
    model = HelmholtzMachine("large", hidden=32)
    student = HelmholtzMachine("small", hidden=4)

example_inputs = old_faithful
