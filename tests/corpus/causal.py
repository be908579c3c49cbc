"""Causes: confounded, instrumented, intervened on, counterfactual."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.autoname import scope
from pyro.distributions import constraints
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values


def confounded(x: Tensor, t: Tensor, y: Tensor) -> None:
    """A hidden cause of the treatment and of the outcome, and proxies of it."""
    effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
    with pyro.plate("units", len(t)):
        z = pyro.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(-1, x.shape[1]), 1.0).to_event(1), obs=x)
        t = pyro.sample("t", dist.Bernoulli(0.75 * z + 0.25 * (1 - z)), obs=t)
        pyro.sample("y", dist.Normal(z + effect * t, 0.5), obs=y)


def instrument(z: Tensor, x: Tensor, y: Tensor) -> None:
    """Mendelian randomisation: the errors of both equations are correlated."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    tril = pyro.sample("tril", dist.LKJCholesky(2, 1.0))
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
    with pyro.plate("units", len(z)):
        mean_x = a * z
        mean = torch.stack([mean_x, b * mean_x], -1)
        law = dist.MultivariateNormal(mean, scale_tril=scale.unsqueeze(-1) * tril)
        pyro.sample("xy", law, obs=torch.stack([x, y], -1))


def smoking(n: int) -> None:
    stress = pyro.param("stress", torch.tensor(0.4), constraint=constraints.unit_interval)
    with pyro.plate("people", n):
        stressed = pyro.sample("stressed", dist.Bernoulli(stress))
        smokes = pyro.sample("smokes", dist.Bernoulli(0.2 + 0.6 * stressed))
        tar = pyro.sample("tar", dist.Normal(2.0 * smokes, 0.5))
        pyro.sample("cancer", dist.Bernoulli(logits=tar - 2.0 + stressed))


INTERVENED = pyro.do(smoking, data={"smokes": torch.tensor(1.0)})


def counterfactual(x: Tensor, y: Tensor) -> None:
    """Twin networks: the same noise, once as it was and once as it would have been."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("units", len(x)):
        noise = pyro.sample("noise", dist.Logistic(0.0, 1.0))
        fact = pyro.deterministic("fact", slope * x + noise)
        pyro.deterministic("counterfact", slope * (1 - x) + noise)
        pyro.sample("y", dist.Bernoulli(logits=fact), obs=y)


def synthetic_control(treated: Tensor, others: Tensor, before: int = 3) -> None:
    """What would have been is a mixture of what was elsewhere; ``others`` is (time, unit)."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(others.shape[1])))
    sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))
    expected = others @ weights
    with pyro.plate("before", before):
        pyro.sample("y", dist.Normal(expected[:before], sigma), obs=treated[:before])
    pyro.deterministic("effect", treated[before:] - expected[before:])


def mediated(t: Tensor, m: Tensor, y: Tensor) -> None:
    """Two models in one program, each in a scope of its own; the second part is a copy with the path cut."""
    coefficient = pyro.sample("coefficient", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    def outcome(t: Tensor) -> Tensor:
        mediator = pyro.sample("m", dist.Normal(coefficient[0] * t, 1.0))
        return pyro.sample("y", dist.Normal(coefficient[1] * mediator + coefficient[2] * t, 1.0))

    with pyro.plate("units", len(t)):
        poutine.condition(outcome, data={"m": m, "y": y})(t)
        with scope(prefix="cut"):
            poutine.do(outcome, data={"m": torch.zeros(())})(t)


ENTRIES = (
    Entry(confounded, (values(5, 2), bits(5), values(5)), sites=(2, 3), note="an observed treatment is a parent"),
    Entry(instrument, (bits(5), values(5), values(5, seed=1)), sites=(4, 1), note="data are stacked before observed"),
    Entry(smoking, (4,), sites=(3, 1), note="a size is the only argument; nothing is observed"),
    Entry(
        INTERVENED,
        (4,),
        sites=(2, 2),
        name="smoking, intervened on",
        note="pyro.do from outside: the site is still drawn, and nothing depends on it",
    ),
    Entry(counterfactual, (bits(5), bits(5, seed=1)), sites=(2, 1), note="noise shared by two deterministic sites"),
    Entry(
        synthetic_control,
        (values(5), values(5, 3)),
        sites=(2, 1),
        note="slices by an argument's number; a Dirichlet weighs columns of data",
    ),
    Entry(
        mediated,
        (bits(5), values(5), values(5, seed=1)),
        sites=(3, 2),
        name="mediated",
        note="condition, do and scope around an inner function that reads a latent of the outer",
    ),
)
