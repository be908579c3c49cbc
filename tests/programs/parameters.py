"""Parameters in every way that Pyro has them."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam, PyroSample, pyro_method
from torch import Tensor, nn

from tests.programs.program import Program, seeded, values


def constrained(x: Tensor) -> None:
    weights = pyro.param("weights", torch.tensor([0.2, 0.8]), constraint=constraints.simplex)
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    chance = pyro.param("chance", lambda: torch.tensor(0.3), constraint=constraints.unit_interval)
    factor = pyro.param("factor", lambda: torch.eye(2), constraint=constraints.lower_cholesky)
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(weights))
        on = pyro.sample("on", dist.Bernoulli(chance))
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), scale_tril=factor))
        pyro.sample("x", dist.Normal(k + on * z[..., 0], scale), obs=x)


def interval(x: Tensor) -> None:
    low = pyro.param("low", torch.tensor(0.1), constraint=constraints.interval(-1.0, 1.0))
    high = pyro.param("high", torch.tensor(2.0), constraint=constraints.greater_than(1.5))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(low, high), obs=x)


def random_start(x: Tensor) -> None:
    """The initialiser draws random numbers: once, when the parameter is made."""
    weight = pyro.param("weight", lambda: torch.randn(3))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(weight, 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def drawn_every_time(x: Tensor) -> None:
    """The start value is drawn again on each call, and used on the first only."""
    weight = pyro.param("weight", torch.randn(3))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(weight.mean(), 1.0), obs=x)


class Scaler(PyroModule):
    """Constrained parameters as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = PyroParam(torch.tensor(2.0), constraint=constraints.positive)
        self.shift = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("offset", torch.tensor([1.0, 2.0]))

    @PyroParam(constraint=constraints.unit_interval)
    def share(self) -> Tensor:
        return torch.tensor(0.25)

    def forward(self, x: Tensor) -> Tensor:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.shift + self.offset, self.scale).to_event(1))
            return pyro.sample("x", dist.Normal(self.share * z, 1.0).to_event(1), obs=x)


class BayesianRegression(PyroModule):
    """`PyroSample`: a layer whose weights are random."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("obs", dist.Normal(mean, 0.5), obs=y)


class PriorOfPrior(PyroModule):
    """A `PyroSample` that depends on another attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = PyroSample(dist.HalfNormal(1.0))
        self.weight = PyroSample(lambda self: dist.Normal(0.0, self.scale).expand([2]).to_event(1))

    @pyro_method
    def predict(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum(-1)

    def forward(self, x: Tensor) -> None:
        mean = self.predict(x)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, 1.0))


class Registered:
    """No module, but one that is registered by name on each call."""

    def __init__(self) -> None:
        self.net = seeded(lambda: nn.Linear(2, 1))

    def model(self, x: Tensor) -> None:
        net = pyro.module("net", self.net)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z).squeeze(-1), 1.0), obs=x)


class RandomModule(nn.Module):
    """A plain module lifted to random weights by ``pyro.random_module``'s successor, `PyroModule` in place."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
        pyro.nn.module.to_pyro_module_(self.net)
        for layer in (self.net[0], self.net[2]):
            layer.bias = PyroSample(dist.Normal(torch.zeros_like(layer.bias), 1.0).to_event(1))

    def forward(self, x: Tensor) -> None:
        mean = self.net(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, 1.0))


PROGRAMS = (
    Program(constrained, (values(4),)),
    Program(interval, (values(4),)),
    Program(random_start, (values(4),)),
    Program(drawn_every_time, (values(4),)),
    Program(Scaler(), (values(4, 2),)),
    Program(BayesianRegression(), (values(4, 3), values(4, seed=1)), float64=False),
    Program(PriorOfPrior(), (values(4, 2),)),
    Program(Registered().model, (values(4),)),
    Program(RandomModule(), (values(4, 2),), float64=False),
)
