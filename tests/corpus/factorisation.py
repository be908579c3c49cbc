"""Factorisations: of matrices, of tensors, with counts, with factors that switch themselves off."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values


def ratings(user: Tensor, item: Tensor, rating: Tensor, users: int = 4, items: int = 3) -> None:
    """Probabilistic matrix factorisation from a list of (user, item, rating)."""
    rank = 2
    with pyro.plate("users", users):
        u = pyro.sample("u", dist.Normal(torch.zeros(rank), 1.0).to_event(1))
        bias_u = pyro.sample("bias_u", dist.Normal(0.0, 0.3))
    with pyro.plate("items", items):
        v = pyro.sample("v", dist.Normal(torch.zeros(rank), 1.0).to_event(1))
        bias_v = pyro.sample("bias_v", dist.Normal(0.0, 0.3))
    with pyro.plate("ratings", len(rating)):
        mean = 3.0 + bias_u[user] + bias_v[item] + (u[user] * v[item]).sum(-1)
        pyro.sample("rating", dist.Normal(mean, 0.5), obs=rating)


def probabilistic_pca(x: Tensor) -> None:
    w = pyro.param("w", values(x.shape[1], 2))
    mu = pyro.param("mu", torch.zeros(x.shape[1]))
    sigma = pyro.param("sigma", torch.tensor(0.5), constraint=constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        pyro.sample("x", dist.Normal(mu + z @ w.t(), sigma).to_event(1), obs=x)


def relevant_components(x: Tensor) -> None:
    """Bayesian principal components, of which the precisions decide how many there are."""
    n, d = x.shape
    with pyro.plate("component", 3, dim=-1):
        alpha = pyro.sample("alpha", dist.InverseGamma(1.0, 1.0))
        with pyro.plate("dimension", d, dim=-2):
            w = pyro.sample("w", dist.Normal(0.0, alpha.sqrt()))
    tau = pyro.sample("tau", dist.Gamma(1.0, 1.0))
    z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([n, 3]).to_event(2))
    pyro.sample("x", dist.Normal(z @ w.t(), tau.rsqrt()).to_event(2), obs=x)


def poisson_factorisation(counts: Tensor) -> None:
    """Non-negative: gammas, of which the rates are gammas, and Poisson counts."""
    n, d = counts.shape
    activity = pyro.sample("activity", dist.Gamma(0.3, 1.0).expand([n, 1]).to_event(2))
    theta = pyro.sample("theta", dist.Gamma(0.3, activity.expand(n, 2)).to_event(2))
    beta = pyro.sample("beta", dist.Gamma(0.3, 0.3 * torch.ones(2, d)).to_event(2))
    with pyro.plate("rows", n, dim=-2), pyro.plate("columns", d, dim=-1):
        pyro.sample("counts", dist.Poisson(theta @ beta), obs=counts)


def tensor_factorisation(y: Tensor, seen: Tensor) -> None:
    """CP decomposition of a three-way table with holes."""
    factors = []
    for name, size in zip("abc", y.shape, strict=True):
        factors.append(pyro.sample(name, dist.Normal(0.0, 1.0).expand([size, 2]).to_event(2)))
    mean = torch.einsum("ir,jr,kr->ijk", *factors)
    with pyro.plate_stack("table", y.shape), pyro.poutine.mask(mask=seen):
        pyro.sample("y", dist.Normal(mean, 0.2), obs=y)


def factor_analysis_of_two_views(x: Tensor, y: Tensor) -> None:
    """Bayesian canonical correlations: a shared latent, and one of each view's own."""
    shared_x = pyro.sample("shared_x", dist.Normal(torch.zeros(2, x.shape[1]), 1.0).to_event(2))
    shared_y = pyro.sample("shared_y", dist.Normal(torch.zeros(2, y.shape[1]), 1.0).to_event(2))
    psi_x = pyro.sample("psi_x", dist.Wishart(torch.tensor(5.0), 0.2 * torch.eye(x.shape[1])))
    psi_y = pyro.sample("psi_y", dist.HalfNormal(torch.ones(y.shape[1])).to_event(1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.MultivariateNormal(z @ shared_x, precision_matrix=psi_x), obs=x)
        pyro.sample("y", dist.Normal(z @ shared_y, psi_y).to_event(1), obs=y)


def stochastic_block_model(adjacency: Tensor) -> None:
    """Who belongs to which community explains who knows whom; pairs of latents are indices."""
    n = len(adjacency)
    share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
    link = pyro.sample("link", dist.Beta(torch.tensor([[4.0, 1.0], [1.0, 4.0]]), 2.0).to_event(2))
    block = pyro.sample("block", dist.Categorical(share).expand([n]).to_event(1))
    chance = link[block.unsqueeze(-1), block.unsqueeze(-2)]
    with pyro.plate("from", n, dim=-2), pyro.plate("to", n, dim=-1):
        pyro.sample("adjacency", dist.Bernoulli(chance), obs=adjacency)


ENTRIES = (
    Entry(
        ratings,
        (torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0, 1, 2, 0, 2]), values(5)),
        sites=(4, 1),
        note="two lists of indices as inputs",
    ),
    Entry(probabilistic_pca, (values(5, 3),), sites=(1, 1), note="parameters of which the shape is an input's"),
    Entry(relevant_components, (values(5, 4),), sites=(4, 1), note="automatic relevance determination"),
    Entry(
        poisson_factorisation,
        (torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 0.0]]),),
        sites=(3, 1),
        note="a hierarchy of gammas",
    ),
    Entry(
        tensor_factorisation, (values(2, 3, 4), bits(2, 3, 4).bool()), sites=(3, 1), note="einsum, plate_stack, a mask"
    ),
    Entry(factor_analysis_of_two_views, (values(4, 3), values(4, 2)), sites=(5, 2), note="a Wishart prior"),
    Entry(stochastic_block_model, (bits(4, 4),), sites=(3, 1), note="pairs of discrete latents as indices"),
)
