"""Series: state spaces written out and as one distribution, forecasts, volatility, changes."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.forecast import ForecastingModel
from pyro.infer.reparam import DiscreteCosineReparam, LocScaleReparam, SymmetricStableReparam
from pyro.nn import PyroModule
from pyro.ops.tensor_utils import periodic_repeat
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import values


def kalman(y: Tensor) -> None:
    """A constant-velocity track in the plane, step by step."""
    dt = 0.5
    transition = torch.eye(4) + dt * torch.diag(torch.ones(2), 2)
    process = pyro.sample("process", dist.HalfNormal(0.5))
    noise = pyro.sample("noise", dist.HalfNormal(torch.ones(2)).to_event(1))
    x = torch.zeros(4)
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.MultivariateNormal(transition @ x, scale_tril=process * torch.eye(4)))
        pyro.sample(f"y_{t}", dist.Normal(x[:2], noise).to_event(1), obs=y[t])


def gaussian_hmm(y: Tensor) -> None:
    """The same as one distribution, of which the states are summed out."""
    scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.5))
    drift = pyro.sample("drift", dist.Uniform(0.5, 1.0))
    hidden, observed = 2, y.shape[-1]
    law = dist.GaussianHMM(
        dist.Normal(0.0, 1.0).expand([hidden]).to_event(1),
        drift * torch.eye(hidden),
        dist.Normal(torch.zeros(hidden), scale).to_event(1),
        torch.ones(hidden, observed),
        dist.Normal(0.0, 0.3).expand([observed]).to_event(1),
        duration=y.shape[-2],
    )
    with pyro.plate("series", len(y)):
        pyro.sample("y", law, obs=y)


def local_level_with_season(y: Tensor, covariate: Tensor) -> None:
    """A random walk, a week's pattern that repeats, and a covariate."""
    days = len(y)
    sigma = pyro.sample("sigma", dist.LogNormal(-2.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("weekdays", 7):
        season = pyro.sample("season", dist.Normal(0.0, 0.5))
    with pyro.plate("days", days):
        step = pyro.sample("step", dist.Normal(0.0, 1.0))
    level = pyro.deterministic("level", (sigma * step).cumsum(-1))
    day = torch.arange(days) % 7
    with pyro.plate("observed", days):
        pyro.sample("y", dist.StudentT(5.0, level + season[day] + slope * covariate, 0.3), obs=y)


class BikeRentals(ForecastingModel):
    """A user's forecasting model: `predict` observes what is left of the data after the prediction."""

    def model(self, zero_data: Tensor, covariates: Tensor) -> None:
        data_dim, features = zero_data.size(-1), covariates.size(-1)
        drift_scale = pyro.sample("drift_scale", dist.LogNormal(-20.0, 5.0).expand([data_dim]).to_event(1))
        weight = pyro.sample("weight", dist.Normal(0.0, 0.1).expand([features]).to_event(1))
        with self.time_plate, poutine.reparam(config={"drift": LocScaleReparam()}):
            drift = pyro.sample("drift", dist.Normal(zero_data, drift_scale).to_event(1))
        prediction = drift.cumsum(-2) + (weight * covariates).sum(-1, keepdim=True)
        pyro_scale = pyro.sample("noise_scale", dist.LogNormal(-5.0, 5.0).expand([data_dim]).to_event(1))
        self.predict(dist.Normal(0.0, pyro_scale.unsqueeze(-2)), prediction)


def hourly_arrivals(counts: Tensor) -> None:
    """Counts by the hour between stations: a season of every pair, drift by a cosine transform."""
    hours, origins, destinations = counts.shape
    with pyro.plate("origin", origins, dim=-2), pyro.plate("destination", destinations, dim=-1):
        with pyro.plate("day", 3, dim=-3):
            season = pyro.sample("season", dist.Normal(0.0, 1.0))
        level = pyro.sample("level", dist.Normal(0.0, 2.0))
        rate = level + periodic_repeat(season, hours, dim=-3)
        gate = pyro.sample("gate", dist.Beta(1.0, 9.0))
        with pyro.plate("hour", hours, dim=-3):
            pyro.sample("counts", dist.ZeroInflatedPoisson(rate.exp(), gate=gate), obs=counts)


def cosine_drift(y: Tensor) -> None:
    with poutine.reparam(config={"drift": DiscreteCosineReparam()}):
        drift = pyro.sample("drift", dist.Normal(0.0, 1.0).expand([len(y)]).to_event(1))
    pyro.sample("y", dist.Normal(drift.cumsum(-1), 0.5).to_event(1), obs=y)


def autoregression(y: Tensor) -> None:
    """AR(2): the mean of a step is made of two that were observed."""
    phi = pyro.sample("phi", dist.Normal(torch.zeros(2), 0.5).to_event(1))
    constant = pyro.sample("constant", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    for t in range(2, len(y)):
        mean = constant + phi[0] * y[t - 1] + phi[1] * y[t - 2]
        pyro.sample(f"y_{t}", dist.Normal(mean, sigma), obs=y[t])


def moving_average(y: Tensor) -> None:
    """ARMA(1, 1): the errors are computed from what was observed."""
    phi = pyro.sample("phi", dist.Uniform(-1.0, 1.0))
    theta = pyro.sample("theta", dist.Uniform(-1.0, 1.0))
    previous, error = torch.tensor(0.0), torch.tensor(0.0)
    for t, seen in enumerate(y):
        mean = phi * previous + theta * error
        previous = pyro.sample(f"y_{t}", dist.Normal(mean, 1.0), obs=seen)
        error = previous - mean


@poutine.reparam(config={"r": SymmetricStableReparam()})
def stable_returns(returns: Tensor) -> None:
    """Heavy-tailed log-returns, of which the stability is a latent; Pyro's own reparameterisation of the target."""
    stability = pyro.sample("stability", dist.Uniform(1.0, 2.0))
    scale = pyro.sample("scale", dist.LogNormal(-3.0, 1.0))
    with pyro.plate("days", len(returns)):
        pyro.sample("r", dist.Stable(stability, 0.0, scale, 0.0), obs=returns)


def change_point(counts: Tensor) -> None:
    """Coal-mining disasters: two rates, and a year at which the one becomes the other."""
    years = torch.arange(len(counts))
    early = pyro.sample("early", dist.Exponential(1.0))
    late = pyro.sample("late", dist.Exponential(1.0))
    change = pyro.sample("change", dist.Categorical(torch.ones(len(counts))))
    rate = torch.where(years < change, early, late)
    with pyro.plate("years", len(counts)):
        pyro.sample("disasters", dist.Poisson(rate), obs=counts)


class Harmonics(PyroModule):
    """Particle filters want a model of steps: the state is a dict that the steps write."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.a = torch.tensor([[math.cos(0.3), math.sin(0.3)], [-math.sin(0.3), math.cos(0.3)]])
        self.b = torch.tensor([0.1, 0.1])

    def init(self, state: dict[str, Any], initial: Tensor) -> None:
        self.t = 0
        state["z"] = pyro.sample("z_init", dist.Delta(initial, event_dim=1))

    def step(self, state: dict[str, Any], y: Tensor | None = None) -> Tensor:
        self.t += 1
        state["z"] = pyro.sample(f"z_{self.t}", dist.Normal(state["z"].matmul(self.a), self.b).to_event(1))
        return pyro.sample(f"y_{self.t}", dist.Normal(state["z"][..., 0], 0.2), obs=y)

    def forward(self, initial: Tensor, ys: Tensor) -> None:
        state: dict[str, Any] = {}
        self.init(state, initial)
        for y in ys[: self.steps]:
            self.step(state, y)


SERIES = values(5)

ENTRIES = (
    Entry(kalman, (values(4, 2),), sites=(6, 4), note="a loop over the data"),
    Entry(gaussian_hmm, (values(3, 4, 1),), sites=(2, 1), note="GaussianHMM as likelihood, in a plate"),
    Entry(local_level_with_season, (SERIES, values(5, seed=1)), sites=(4, 1), note="arange modulo seven as an index"),
    Entry(
        BikeRentals(),
        (values(5, 1), values(5, 2)),
        expect="observed-latent",
        name="BikeRentals",
        note="pyro.contrib.forecast observes data minus prediction",
    ),
    Entry(
        hourly_arrivals,
        (torch.ones(5, 2, 3),),
        sites=(3, 1),
        note="three plates, periodic_repeat of a size, ZeroInflatedPoisson",
    ),
    Entry(cosine_drift, (SERIES,), sites=(1, 1), other_size=False, note="Pyro's cosine transform of a latent"),
    Entry(autoregression, (values(5),), sites=(3, 3), other_size=False, note="a chain of targets by slices"),
    Entry(moving_average, (values(4),), sites=(2, 4), other_size=False, note="errors of targets"),
    Entry(
        stable_returns,
        (values(5),),
        sites=(4, 1),
        name="stable_returns",
        note="SymmetricStableReparam drops NaNs by a write into .data, which autograd does not see",
    ),
    Entry(change_point, (torch.tensor([4.0, 5.0, 3.0, 1.0, 0.0]),), sites=(3, 1), note="a discrete uniform, compared"),
    Entry(Harmonics(3), (torch.tensor([1.0, 0.0]), values(3)), sites=(4, 3), name="Harmonics", note="state in a dict"),
)
