"""Mixtures: with the component as a latent, summed out, weighted by a network, of a number that is only bounded."""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions import constraints
from pyro.infer import config_enumerate
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import bits, seeded, values

K = 3


@config_enumerate
def gaussian_mixture(data: Tensor) -> None:
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(K)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with pyro.plate("components", K):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(data)):
        assignment = pyro.sample("assignment", dist.Categorical(weights))
        pyro.sample("obs", dist.Normal(locs[assignment], scale), obs=data)


def gaussian_mixture_summed_out(data: Tensor) -> None:
    weights = pyro.param("weights", torch.ones(K) / K, constraint=constraints.simplex)
    locs = pyro.sample("locs", dist.Normal(0.0, 3.0).expand([K]).to_event(1))
    scales = pyro.sample("scales", dist.Gamma(2.0, 2.0).expand([K]).to_event(1))
    with pyro.plate("data", len(data)):
        components = dist.Normal(locs, scales)
        pyro.sample("obs", dist.MixtureSameFamily(dist.Categorical(weights), components), obs=data)


def full_covariances(points: Tensor) -> None:
    dim = points.shape[-1]
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(K)))
    with pyro.plate("components", K):
        locs = pyro.sample("locs", dist.Normal(torch.zeros(dim), 5.0).to_event(1))
        theta = pyro.sample("theta", dist.HalfCauchy(torch.ones(dim)).to_event(1))
        corr = pyro.sample("corr", dist.LKJCholesky(dim, torch.tensor(1.5)))
        scale_tril = theta.sqrt().unsqueeze(-1) * corr
    with pyro.plate("data", len(points)):
        z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "sequential"})
        pyro.sample("obs", dist.MultivariateNormal(locs[z], scale_tril=scale_tril[z]), obs=points)


def bernoulli_mixture(answers: Tensor) -> None:
    """Which of a few kinds of voter answers yes to which question."""
    n, questions = answers.shape
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(4)))
    with pyro.plate("kind", 4, dim=-2), pyro.plate("question", questions, dim=-1):
        chance = pyro.sample("chance", dist.Beta(0.5, 0.5))
    with pyro.plate("voter", n):
        kind = pyro.sample("kind_of", dist.Categorical(weights))
        pyro.sample("answer", dist.Bernoulli(chance[kind]).to_event(1), obs=answers)


def poisson_mixture(counts: Tensor | None = None, n: int = 6) -> None:
    if counts is not None:
        n = counts.shape[0]
    share = pyro.sample("share", dist.Beta(1.0, 1.0))
    with pyro.plate("group", 2):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor([1.0, 20.0]), 1.0))
    with pyro.plate("day", n):
        group = pyro.sample("busy", dist.Bernoulli(share)).long()
        pyro.sample("calls", dist.Poisson(rate[group]), obs=counts)


def stick_breaking(fractions: Tensor) -> Tensor:
    rest = (1 - fractions).cumprod(-1)
    return F.pad(fractions, (0, 1), value=1) * F.pad(rest, (1, 0), value=1)


def dirichlet_process(data: Tensor, truncation: int = 5) -> None:
    """The tutorial's mixture: the stick is broken a fixed number of times."""
    alpha = pyro.sample("alpha", dist.Gamma(1.0, 1.0))
    with pyro.plate("beta_plate", truncation - 1):
        beta = pyro.sample("beta", dist.Beta(1, alpha))
    with pyro.plate("mu_plate", truncation):
        mu = pyro.sample("mu", dist.MultivariateNormal(torch.zeros(2), 5 * torch.eye(2)))
    with pyro.plate("data", data.shape[0]):
        z = pyro.sample("z", dist.Categorical(stick_breaking(beta)))
        pyro.sample("obs", dist.MultivariateNormal(mu[z], torch.eye(2)), obs=data)


def sunspots(counts: Tensor, alpha: float = 1.1) -> None:
    """Dirichlet process mixture of Poissons, of which the weights are computed outside of the plate."""
    with pyro.plate("sticks", 3):
        beta = pyro.sample("beta", dist.Beta(1, alpha))
    with pyro.plate("atoms", 4):
        rate = pyro.sample("rate", dist.Gamma(3.0, 0.05))
    weights = stick_breaking(beta)
    with pyro.plate("years", len(counts)):
        z = pyro.sample("z", dist.Categorical(weights))
        pyro.sample("obs", dist.Poisson(rate[z]), obs=counts)


def mixture_of_regressions(x: Tensor, y: Tensor) -> None:
    weights = pyro.sample("weights", dist.Dirichlet(torch.full((2,), 2.0)))
    with pyro.plate("line", 2):
        slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
        level = pyro.sample("level", dist.Normal(0.0, 2.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("y", dist.Normal(slope[k] * x + level[k], sigma[k]), obs=y)


class MixtureOfExperts(nn.Module):
    """A gate chooses which linear expert answers."""

    def __init__(self, inputs: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, experts))
        self.experts = nn.ModuleList(nn.Linear(inputs, 1) for _ in range(experts))

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        pyro.module("experts", self)
        means = torch.cat([expert(x) for expert in self.experts], -1)
        sigma = pyro.param("sigma", torch.tensor(0.3), constraint=constraints.positive)
        with pyro.plate("data", x.shape[0]):
            chosen = pyro.sample("chosen", dist.Categorical(logits=self.gate(x)))
            mean = torch.gather(means, -1, chosen.unsqueeze(-1)).squeeze(-1)
            return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def outliers(x: Tensor, y: Tensor) -> None:
    """Robust regression: a point is good or bad, and the bad ones have a wide scale."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    share = pyro.sample("share", dist.Uniform(0.0, 0.5))
    wide = pyro.sample("wide", dist.InverseGamma(3.0, 10.0))
    with pyro.plate("points", len(x)):
        bad = pyro.sample("bad", dist.Bernoulli(share))
        pyro.sample("y", dist.Normal(slope * x, torch.where(bad.bool(), wide, torch.tensor(0.2))), obs=y)


def naive_bayes(words: Tensor, labels: Tensor, unlabelled: Tensor) -> None:
    """Semi-supervised: some documents come with their class."""
    size = words.shape[-1]
    prior = pyro.sample("prior", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("classes", 2):
        topic = pyro.sample("topic", dist.Dirichlet(torch.full((size,), 0.3)))
    with pyro.plate("labelled", len(words)):
        label = pyro.sample("label", dist.Categorical(prior), obs=labels)
        pyro.sample("words", dist.Multinomial(10, topic[label]), obs=words)
    with pyro.plate("unlabelled", len(unlabelled)):
        guess = pyro.sample("guess", dist.Categorical(prior), infer={"enumerate": "parallel"})
        pyro.sample("more_words", dist.Multinomial(10, topic[guess]), obs=unlabelled)


def spread_of_two(points: Tensor) -> None:
    """Pyro's own mixture of diagonal normals, with parameters of its own."""
    locs = pyro.param("locs", values(2, 3))
    scales = pyro.param("scales", torch.ones(2, 3), constraint=constraints.positive)
    logits = pyro.param("logits", torch.zeros(2))
    with pyro.plate("data", len(points)):
        z = pyro.sample("z", dist.MixtureOfDiagNormals(locs, scales, logits))
        pyro.sample("x", dist.StudentT(4.0, z, 0.5).to_event(1), obs=points)


ENTRIES = (
    Entry(gaussian_mixture, (values(6),), sites=(4, 1), note="the mixture of the tutorial, enumerated"),
    Entry(gaussian_mixture_summed_out, (values(6),), sites=(2, 1), note="MixtureSameFamily as likelihood"),
    Entry(full_covariances, (values(5, 2),), sites=(5, 1), note="LKJ prior inside a plate"),
    Entry(bernoulli_mixture, (bits(5, 3),), sites=(3, 1), note="a table of Betas under two plates"),
    Entry(poisson_mixture, (torch.tensor([1.0, 0.0, 12.0, 19.0]),), sites=(3, 1), note="obs=None by default"),
    Entry(poisson_mixture, (), {"n": 5}, sites=(3, 1), name="poisson_mixture without data", note="no data at all"),
    Entry(dirichlet_process, (values(6, 2),), sites=(4, 1), note="truncated stick-breaking"),
    Entry(sunspots, (torch.tensor([30.0, 80.0, 5.0]),), sites=(3, 1), note="tutorial of the Dirichlet process"),
    Entry(mixture_of_regressions, (values(5), values(5, seed=1)), sites=(5, 1), note="several tables, one index"),
    Entry(
        seeded(lambda: MixtureOfExperts(2, 3)).model,
        (values(5, 2), values(5, seed=1)),
        sites=(1, 1),
        name="MixtureOfExperts.model",
        note="a gating network; gather by a latent",
    ),
    Entry(outliers, (values(6), values(6, seed=1)), sites=(4, 1), note="where on a discrete latent"),
    Entry(
        naive_bayes,
        (torch.tensor([[5.0, 3.0, 2.0], [0.0, 4.0, 6.0]]), torch.tensor([0, 1]), torch.tensor([[9.0, 1.0, 0.0]] * 3)),
        sites=(3, 3),
        note="an observed class is a parent; one batch with labels, one without",
    ),
    Entry(spread_of_two, (values(5, 3),), sites=(1, 1), note="a mixture as a latent"),
)
