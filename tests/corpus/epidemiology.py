"""Epidemics as chains of counts, as differential equations, in regions."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.epidemiology import binomial_dist, infection_dist
from pyro.contrib.epidemiology.models import SimpleSIRModel
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import values

POPULATION = 100


def sir_chain(data: Tensor) -> None:
    """Susceptible, infected, recovered in thirty days of binomials; a part of the new cases is reported."""
    r0 = pyro.sample("R0", dist.LogNormal(0.0, 1.0))
    rho = pyro.sample("rho", dist.Beta(2.0, 2.0))
    recovery = 1 / 7.0
    s, i = torch.tensor(POPULATION - 1.0), torch.tensor(1.0)
    for t, reported in enumerate(data):
        rate = 1 - (-r0 * recovery * i / POPULATION).exp()
        s2i = pyro.sample(f"S2I_{t}", dist.Binomial(s, rate))
        i2r = pyro.sample(f"I2R_{t}", dist.Binomial(i, torch.tensor(recovery)))
        s, i = pyro.deterministic(f"S_{t}", s - s2i), pyro.deterministic(f"I_{t}", i + s2i - i2r)
        pyro.sample(f"obs_{t}", dist.ExtendedBinomial(s2i, rho), obs=reported)


def overdispersed_chain(data: Tensor) -> None:
    """With the distributions of pyro.contrib.epidemiology: superspreading and overdispersion."""
    r0 = pyro.sample("R0", dist.LogNormal(0.0, 1.0))
    k = pyro.sample("k", dist.Exponential(1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    s, i = torch.tensor(POPULATION - 1.0), torch.tensor(1.0)
    for t in range(len(data)):
        law = infection_dist(
            individual_rate=r0 / 7.0, num_infectious=i, num_susceptible=s, population=POPULATION, concentration=k
        )
        s2i = pyro.sample(f"S2I_{t}", law)
        i2r = pyro.sample(f"I2R_{t}", binomial_dist(i, 1 / 7.0))
        s, i = s - s2i, i + s2i - i2r
        pyro.sample(f"obs_{t}", binomial_dist(s2i, rho, overdispersion=0.2), obs=data[t])


def seir_equations(cases: Tensor, population: float = 1000.0) -> None:
    """Euler steps of differential equations, and negative binomial reports."""
    beta = pyro.sample("beta", dist.LogNormal(-0.5, 0.3))
    gamma = pyro.sample("gamma", dist.Gamma(20.0, 100.0))
    sigma = pyro.sample("sigma", dist.Gamma(20.0, 60.0))
    phi = pyro.sample("phi", dist.Exponential(0.2))
    state = torch.tensor([population - 1.0, 0.0, 1.0, 0.0])
    incidence = []
    for _ in range(len(cases)):
        s, e, i, _ = state.unbind()
        infected, ill, well = beta * s * i / population, sigma * e, gamma * i
        state = state + torch.stack([-infected, infected - ill, ill - well, well])
        incidence.append(ill)
    mean = torch.stack(incidence).clamp(min=1e-6)
    with pyro.plate("days", len(cases)):
        pyro.sample("cases", dist.NegativeBinomial(phi, probs=mean / (mean + phi)), obs=cases)


def regions(cases: Tensor, coupling: Tensor) -> None:
    """Regions that infect each other: relaxed counts in a plate, week after week; ``cases`` is (week, region)."""
    n = cases.shape[1]
    with pyro.plate("region", n):
        rate = pyro.sample("rate", dist.LogNormal(0.0, 0.3))
        infected = pyro.sample("start", dist.Exponential(0.1))
    travel = pyro.sample("travel", dist.Beta(1.0, 9.0))
    mixing = travel * coupling / coupling.sum(-1, keepdim=True) + (1 - travel) * torch.eye(n)
    for t, reported in enumerate(cases):
        mean = rate * (mixing @ infected)
        with pyro.plate(f"regions_{t}", n):
            infected = pyro.sample(f"infected_{t}", dist.Gamma(mean, 1.0))
            pyro.sample(f"cases_{t}", dist.Poisson(0.3 * infected + 1e-3), obs=reported)


def renewal(cases: Tensor) -> None:
    """The renewal equation with a random walk of the reproduction number; an interval is convolved with the past."""
    days = len(cases)
    interval = torch.tensor([0.2, 0.5, 0.2, 0.1])
    sigma = pyro.sample("sigma", dist.HalfNormal(0.1))
    with poutine.scale(scale=1.0):
        step = pyro.sample("step", dist.Normal(torch.zeros(days), 1.0).to_event(1))
    log_r = (sigma * step).cumsum(0)
    padded = torch.nn.functional.pad(cases, (4, 0), value=1.0)
    pressure = padded.unfold(0, 4, 1)[:days] @ interval.flip(0)
    with pyro.plate("days", days):
        pyro.sample("cases", dist.Poisson(log_r.exp() * pressure), obs=cases)


def waning_titres(time: Tensor, titre: Tensor, person: Tensor) -> None:
    """Antibodies that decay at a rate of each person's own; values below what can be measured are cut off."""
    half_life = pyro.sample("half_life", dist.LogNormal(4.0, 0.3))
    with pyro.plate("people", 3):
        peak = pyro.sample("peak", dist.Normal(6.0, 1.0))
        speed = pyro.sample("speed", dist.LogNormal(0.0, 0.2))
    mean = peak[person] - speed[person] * time / half_life
    with pyro.plate("tests", len(time)):
        noise = dist.Normal(0.0, 0.5)
        below = pyro.sample("below", dist.Bernoulli(noise.cdf(1.0 - mean)), obs=(titre < 1.0).float())
        with poutine.mask(mask=below < 0.5):
            pyro.sample("titre", dist.Normal(mean, 0.5), obs=titre)


THIRTY = torch.tensor([1.0, 0.0, 2.0] * 10)

ENTRIES = (
    Entry(sir_chain, (THIRTY,), sites=(62, 30), other_size=False, note="a chain of thirty steps of counts"),
    Entry(
        overdispersed_chain,
        (THIRTY[:5],),
        sites=(13, 5),
        other_size=False,
        note="laws that functions of pyro.contrib.epidemiology return",
    ),
    Entry(
        SimpleSIRModel(POPULATION, recovery_time=7.0, data=THIRTY[:4]).generate,
        ({"R0": torch.tensor(2.0), "rho": torch.tensor(0.5)},),
        sites=(8, 6),
        other_size=False,
        name="SimpleSIRModel.generate",
        note="pyro.contrib.epidemiology's own model, with two parameters fixed",
    ),
    Entry(seir_equations, (THIRTY[:6],), sites=(4, 1), other_size=False, note="differential equations by Euler"),
    Entry(
        regions,
        (torch.ones(3, 4), torch.rand(4, 4)),
        sites=(6, 3),
        other_size=False,
        note="a matrix of inputs and latents mixes regions",
    ),
    Entry(renewal, (THIRTY[:6],), sites=(2, 1), note="the data are observed, and were read before: unfold"),
    Entry(
        waning_titres,
        (values(5).abs(), values(5) + 2.0, torch.tensor([0, 0, 1, 2, 2])),
        sites=(3, 2),
        note="censored data; an observed value computed from an input, and its mask",
    ),
)
