"""Guides, as programs in their own right: written by hand, made by Pyro, amortised."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.contrib.easyguide import EasyGuide, easy_guide
from pyro.distributions import constraints
from pyro.infer import autoguide as auto
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import seeded, values


def schools(sigma: Tensor, y: Tensor | None = None) -> None:
    """The model of which the automatic guides are made."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def made(guide: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """An automatic guide of ``schools`` that has run once, as it has after the first step of SVI."""

    return seeded(lambda: prepared(guide(schools, *args, **options)))


def prepared(guide: Any) -> Any:
    guide(SIGMA, EFFECTS)
    pyro.clear_param_store()
    return guide


def both_kinds() -> Any:
    """A list of guides: some sites by one, the others by another."""
    guides = auto.AutoGuideList(schools)
    guides.append(auto.AutoDiagonalNormal(poutine.block(schools, expose=["mu", "tau"])))
    guides.append(auto.AutoNormal(poutine.block(schools, expose=["theta"])))
    return prepared(guides)


def coin(data: Tensor) -> None:
    """The first guide of the introduction."""
    alpha = pyro.param("alpha_q", torch.tensor(15.0), constraint=constraints.positive)
    beta = pyro.param("beta_q", lambda: torch.tensor(15.0), constraint=constraints.positive)
    pyro.sample("latent_fairness", dist.Beta(alpha, beta))


def mixture_posterior(data: Tensor, components: int = 3) -> None:
    """Mean field of a Dirichlet process: sticks, atoms, and a table of responsibilities."""
    kappa = pyro.param("kappa", lambda: dist.Uniform(0, 2).sample([components - 1]), constraint=constraints.positive)
    tau = pyro.param("tau", lambda: dist.MultivariateNormal(torch.zeros(2), 3 * torch.eye(2)).sample([components]))
    phi = pyro.param(
        "phi", lambda: dist.Dirichlet(torch.ones(components)).sample([len(data)]), constraint=constraints.simplex
    )
    with pyro.plate("beta_plate", components - 1):
        pyro.sample("beta", dist.Beta(torch.ones(components - 1), kappa))
    with pyro.plate("mu_plate", components):
        pyro.sample("mu", dist.MultivariateNormal(tau, torch.eye(2)))
    with pyro.plate("data", len(data)):
        pyro.sample("z", dist.Categorical(phi))


def normal_by_cholesky(x: Tensor, y: Tensor) -> None:
    """A joint posterior: a lower-Cholesky parameter, from which the sites are cut."""
    loc = pyro.param("loc", torch.zeros(3))
    tril = pyro.param("tril", torch.eye(3), constraint=constraints.lower_cholesky)
    joint = pyro.sample("joint", dist.MultivariateNormal(loc, scale_tril=tril), infer={"is_auxiliary": True})
    pyro.sample("slope", dist.Delta(joint[:2], event_dim=1))
    jacobian = joint[2]
    pyro.sample("scale", dist.Delta(joint[2].exp(), log_density=-jacobian))


def structured_chain(y: Tensor) -> None:
    """A chain backwards in time, of which the weights are one parameter indexed in a loop."""
    weights = pyro.param("weights", torch.full((3,), 0.5))
    scales = pyro.param("scales", torch.ones(3), constraint=constraints.softplus_positive)
    x = torch.tensor(0.0)
    for t in reversed(range(3)):
        x = pyro.sample(f"x_{t}", dist.Normal(weights[t] * x + 0.1 * y[t], scales[t]))


class AmortisedFlow(PyroModule):
    """An encoder, and a flow whose parameters do not depend on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4))
        self.flow = T.Householder(2, count_transforms=2)
        self.shift = PyroParam(torch.tensor(0.1), constraint=constraints.interval(-1.0, 1.0))

    def forward(self, x: Tensor) -> None:
        loc, raw = self.encoder(x).chunk(2, -1)
        base = dist.Normal(loc + self.shift, F.softplus(raw)).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


@easy_guide(schools)
def easy(self: EasyGuide, sigma: Tensor, y: Tensor | None = None) -> None:
    """Two sites as a group with a joint law, and a point for the third."""
    loc = pyro.param("group_loc", torch.zeros(2))
    self.group(match="mu|tau").sample("group", dist.Normal(loc, 0.1).to_event(1))
    with self.plate("schools", len(sigma)):
        self.map_estimate("theta")


SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0])
EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0])
SCHOOLS = (SIGMA, EFFECTS)
SITES = ("mu", "tau", "theta")

ENTRIES = (
    Entry(coin, (values(5),), targets="all", sites=(0, 1), note="the introduction's guide"),
    Entry(
        mixture_posterior,
        (values(5, 2),),
        targets="all",
        sites=(0, 3),
        note="parameters that start at draws; a row of a parameter for each point",
    ),
    Entry(
        normal_by_cholesky,
        (values(5), values(5)),
        targets="all",
        sites=(0, 3),
        note="an auxiliary site and Deltas with a log-density",
    ),
    Entry(structured_chain, (values(3),), targets="all", sites=(0, 3), note="backwards, a parameter by index"),
    Entry(
        seeded(AmortisedFlow),
        (values(5, 4),),
        targets="all",
        sites=(0, 1),
        name="AmortisedFlow",
        note="Householder flow",
    ),
    Entry(made(auto.AutoDelta), SCHOOLS, sites=(0, 3), targets="all", name="AutoDelta", note="point estimates"),
    Entry(
        made(auto.AutoNormal), SCHOOLS, sites=(0, 6), targets="all", name="AutoNormal", note="mean field, unconstrained"
    ),
    Entry(
        auto.AutoNormal(schools),
        SCHOOLS,
        sites=(0, 6),
        name="AutoNormal that never ran",
        note="it looks at its model when it is first called",
        targets="all",
    ),
    Entry(
        made(auto.AutoDiagonalNormal),
        SCHOOLS,
        sites=(0, 4),
        targets="all",
        name="AutoDiagonalNormal",
        note="one vector, cut up",
    ),
    Entry(
        made(auto.AutoMultivariateNormal),
        SCHOOLS,
        sites=(0, 4),
        name="AutoMultivariateNormal",
        note="a full covariance",
        targets="all",
    ),
    Entry(
        made(auto.AutoLowRankMultivariateNormal, rank=2),
        SCHOOLS,
        sites=(0, 4),
        name="AutoLowRankMultivariateNormal",
        note="a low-rank covariance",
        targets="all",
    ),
    Entry(
        made(auto.AutoIAFNormal, hidden_dim=[7]),
        SCHOOLS,
        sites=(0, 4),
        targets="all",
        name="AutoIAFNormal",
        note="a flow",
    ),
    Entry(
        made(
            auto.AutoStructured, conditionals=dict.fromkeys(SITES, "normal"), dependencies={"theta": {"mu": "linear"}}
        ),
        SCHOOLS,
        sites=(0, 6),
        name="AutoStructured",
        note="sites that depend on each other linearly",
        targets="all",
    ),
    Entry(seeded(both_kinds), SCHOOLS, sites=(0, 5), targets="all", name="AutoGuideList", note="two guides in one"),
    Entry(
        prepared(easy),
        SCHOOLS,
        sites=(0, 4),
        targets="all",
        other_size=False,
        name="easy_guide",
        note="a group of sites, a point estimate",
    ),
)
