"""Prices: volatility, jumps, portfolios, defaults."""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values


def stochastic_volatility(returns: Tensor) -> None:
    """The textbook's: a random walk of log-volatility, whitened, and Student returns."""
    sigma = pyro.sample("sigma", dist.Exponential(50.0))
    nu = pyro.sample("nu", dist.Exponential(0.1))
    with pyro.plate("steps", len(returns)):
        step = pyro.sample("step", dist.Normal(0.0, 1.0))
    s = torch.cumsum(sigma * step, 0)
    with pyro.plate("days", len(returns)):
        pyro.sample("r", dist.StudentT(nu, 0.0, torch.exp(s)), obs=returns)


def leverage(returns: Tensor) -> None:
    """Volatility step by step, correlated with the returns before."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    phi = 2 * pyro.sample("phi_half", dist.Beta(20.0, 1.5)) - 1
    rho = pyro.sample("rho", dist.Uniform(-1.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(0.3))
    h = pyro.sample("h_0", dist.Normal(mu, sigma / (1 - phi**2 + 1e-3).sqrt()))
    for t, r in enumerate(returns):
        r = pyro.sample(f"r_{t}", dist.Normal(0.0, (h / 2).exp()), obs=r)
        mean = mu + phi * (h - mu) + rho * sigma * r * (-h / 2).exp()
        h = pyro.sample(f"h_{t + 1}", dist.Normal(mean, sigma * (1 - rho**2 + 1e-3).sqrt()))


def garch(returns: Tensor) -> None:
    """The variance is a recursion over what was observed: no latent but the coefficients."""
    omega = pyro.sample("omega", dist.HalfNormal(0.1))
    shares = pyro.sample("shares", dist.Dirichlet(torch.tensor([1.0, 8.0, 1.0])))
    variance = torch.tensor(1.0)
    for t in range(returns.shape[0]):
        r = pyro.sample(f"r_{t}", dist.Normal(0.0, variance.sqrt()), obs=returns[t])
        variance = omega + shares[0] * r**2 + shares[1] * variance


def jump_diffusion(log_price: Tensor, dt: float = 1 / 252) -> None:
    """Merton: on some days a number of jumps comes on top."""
    mu = pyro.sample("mu", dist.Normal(0.0, 0.1))
    vol = pyro.sample("vol", dist.LogNormal(-1.5, 0.5))
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.1))
    size = pyro.sample("size", dist.Normal(-0.05, 0.05))
    with pyro.plate("days", log_price.shape[0] - 1):
        jumps = pyro.sample("jumps", dist.Poisson(rate * dt))
        mean = (mu - 0.5 * vol**2) * dt + size * jumps
        scale = (vol**2 * dt + 0.01 * jumps).sqrt()
        pyro.sample("move", dist.Normal(mean, scale), obs=log_price[1:] - log_price[:-1])


def portfolio(returns: Tensor) -> None:
    """A covariance in two parts, as in Pyro's example of LKJ: scales and correlations."""
    d = returns.shape[1]
    theta = pyro.sample("theta", dist.HalfCauchy(torch.ones(d)).to_event(1))
    corr = pyro.sample("corr", dist.LKJ(d, torch.tensor(1.0)))
    scale = theta.sqrt().diag_embed()
    covariance = pyro.deterministic("covariance", scale @ corr @ scale)
    mu = pyro.sample("mu", dist.MultivariateNormal(torch.zeros(d), 0.1 * torch.eye(d)))
    df = pyro.sample("df", dist.Gamma(2.0, 0.1))
    tril = torch.linalg.cholesky(covariance + 1e-4 * torch.eye(d))
    with pyro.plate("days", len(returns)):
        pyro.sample("r", dist.MultivariateStudentT(df + 2.0, mu, tril), obs=returns)


def defaults(defaulted: Tensor, sector: Tensor) -> None:
    """A one-factor copula: the economy and the firm decide together."""
    with pyro.plate("sectors", 2):
        chance = pyro.sample("chance", dist.Kumaraswamy(torch.tensor(1.0), torch.tensor(20.0)))
    rho = pyro.sample("rho", dist.Beta(2.0, 8.0))
    quantile = math.sqrt(2.0) * torch.erfinv((2 * chance - 1).clamp(-0.999, 0.999))
    with pyro.plate("years", defaulted.shape[0], dim=-2):
        economy = pyro.sample("economy", dist.Normal(0.0, 1.0))
        with pyro.plate("firms", defaulted.shape[1], dim=-1):
            z = (quantile[sector] - rho.sqrt() * economy) / (1 - rho).sqrt()
            p = 0.5 * torch.erfc(-z / math.sqrt(2.0))
            pyro.sample("defaulted", dist.Bernoulli(p.clamp(1e-4, 1 - 1e-4)), obs=defaulted)


def claims(amount: Tensor, policy: Tensor) -> None:
    """Insurance: how often, and how much; large claims are of another law."""
    with pyro.plate("policies", 3):
        frequency = pyro.sample("frequency", dist.Gamma(2.0, 1.0))
        pyro.sample("count", dist.Poisson(frequency), obs=torch.tensor([1.0, 3.0, 1.0]))
    tail = pyro.sample("tail", dist.Exponential(1.0))
    share = pyro.sample("share", dist.Beta(1.0, 9.0))
    with pyro.plate("claims", len(amount)):
        large = pyro.sample("large", dist.Bernoulli(share)).bool()
        law = dist.MaskedMixture(large, dist.LogNormal(frequency[policy], 1.0), dist.Pareto(0.01, 1.0 + tail))
        pyro.sample("amount", law, obs=amount)


RETURNS = 0.1 * values(5)

ENTRIES = (
    Entry(stochastic_volatility, (RETURNS,), sites=(3, 1), note="the classic, whitened by hand"),
    Entry(leverage, (RETURNS[:4],), sites=(9, 4), other_size=False, note="targets feed the latents' chain"),
    Entry(garch, (RETURNS[:4],), sites=(2, 4), other_size=False, note="a recursion over targets"),
    Entry(jump_diffusion, (values(6).cumsum(0) * 0.1,), sites=(5, 1), note="differences of data; a size less one"),
    Entry(portfolio, (values(5, 3),), sites=(4, 1), note="LKJ, multivariate Student"),
    Entry(defaults, (bits(4, 5), torch.tensor([0, 1, 0, 1, 1])), sites=(3, 1), note="a copula; Kumaraswamy"),
    Entry(
        claims,
        (values(5).abs() + 1.0, torch.tensor([0, 1, 1, 1, 2])),
        sites=(4, 2),
        note="MaskedMixture by a latent; data in a closure",
    ),
)
