"""Times until something happens, some of which nobody waited for."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values


def censored_exponential(time: Tensor, censored: Tensor) -> None:
    """A label says whether the time was cut off: its probability is that of waiting longer."""
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    with pyro.plate("patients", len(time)):
        law = dist.Exponential(rate)
        with poutine.mask(mask=~censored):
            pyro.sample("time", law, obs=time)
        with poutine.mask(mask=censored):
            pyro.sample("label", dist.Bernoulli((1 - law.cdf(time)).clamp(1e-6, 1 - 1e-6)), obs=torch.ones(len(time)))


def accelerated_failure(x: Tensor, time: Tensor, seen: Tensor) -> None:
    """Weibull regression; the censored are latents that are known to be late only by a second site."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    shape = pyro.sample("shape", dist.LogNormal(0.0, 0.5))
    scale = torch.exp(x @ beta)
    with pyro.plate("machines", len(x)):
        full = pyro.sample("full", dist.Weibull(scale, shape), obs=time, obs_mask=seen)
        pyro.sample("late", dist.Bernoulli(logits=50.0 * (full - time)).mask(~seen), obs=torch.ones(len(time)))


def censored_by_factor(time: Tensor, censored: Tensor) -> None:
    """The log-survival of the censored as a factor, as Stan programs add to the target."""
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    with pyro.plate("patients", len(time)):
        with poutine.mask(mask=~censored):
            pyro.sample("time", dist.Exponential(rate), obs=time)
        pyro.factor("survival", torch.where(censored, -rate * time, torch.zeros(())))


def piecewise_hazard(events: Tensor, exposure: Tensor, treated: Tensor) -> None:
    """Cox's model as Poisson counts by person and interval; the baseline is a random walk."""
    persons, intervals = events.shape
    beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(0.5))
    walk = pyro.sample("walk", dist.Normal(torch.zeros(intervals), 1.0).to_event(1))
    hazard = torch.exp(sigma * walk.cumsum(-1) + beta * treated.unsqueeze(-1))
    with pyro.plate("persons", persons, dim=-2), pyro.plate("intervals", intervals, dim=-1):
        pyro.sample("events", dist.Poisson(exposure * hazard + 1e-6), obs=events)


def cure(time: Tensor, event: Tensor) -> None:
    """Some are cured and never relapse; a frailty for each clinic."""
    cured_share = pyro.param("cured", torch.tensor(0.3), constraint=constraints.unit_interval)
    with pyro.plate("clinics", 2):
        frailty = pyro.sample("frailty", dist.Gamma(4.0, 4.0))
    with pyro.plate("patients", len(time)):
        clinic = pyro.sample("clinic", dist.Categorical(torch.tensor([0.4, 0.6])))
        cured = pyro.sample("is_cured", dist.Bernoulli(cured_share), infer={"enumerate": "parallel"})
        wait = pyro.sample("wait", dist.Pareto(0.1, 1.0 + frailty[clinic]))
        relapses = (1 - cured) * torch.sigmoid((time - wait) / 0.1)
        pyro.sample("event", dist.Bernoulli(relapses), obs=event)


TIMES = values(5).abs() + 0.1
CUT = bits(5).bool()

ENTRIES = (
    Entry(censored_exponential, (TIMES, CUT), sites=(1, 2), note="a law that is drawn from and used for its cdf"),
    Entry(accelerated_failure, (values(5, 2), TIMES, ~CUT), sites=(3, 2), note="obs_mask for censored times"),
    Entry(censored_by_factor, (TIMES, CUT), expect="factor", note="a factor in a plate"),
    Entry(
        piecewise_hazard, (bits(4, 3), torch.ones(4, 3), bits(4)), sites=(3, 1), note="counting process in two plates"
    ),
    Entry(cure, (TIMES, CUT.float()), sites=(4, 1), note="discrete and continuous latents that meet"),
)
