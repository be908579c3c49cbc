"""Regressions: linear and generalised, sparse, robust, hierarchical, of ordered and of counted things."""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import OrderedTransform
from pyro.infer.reparam import AutoReparam, LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import bits, seeded, values


class BayesianRegression(PyroModule):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](features, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, features]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("obs", dist.Normal(mean, sigma), obs=y)
        return mean


def terrain(is_cont_africa: Tensor, ruggedness: Tensor, log_gdp: Tensor | None = None) -> Tensor:
    """The introduction's: a bad terrain is good for the economy, in Africa."""
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    b_a = pyro.sample("bA", dist.Normal(0.0, 1.0))
    b_r = pyro.sample("bR", dist.Normal(0.0, 1.0))
    b_ar = pyro.sample("bAR", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
    mean = a + b_a * is_cont_africa + b_r * ruggedness + b_ar * is_cont_africa * ruggedness
    with pyro.plate("data", len(ruggedness)):
        return pyro.sample("obs", dist.Normal(mean, sigma), obs=log_gdp)


def logistic(x: Tensor, y: Tensor) -> None:
    coefs = pyro.sample("beta", dist.Normal(torch.zeros(x.shape[-1]), torch.ones(x.shape[-1])).to_event(1))
    intercept = pyro.sample("intercept", dist.StudentT(7.0, 0.0, 2.5))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=(coefs * x).sum(-1) + intercept), obs=y)


def multinomial(x: Tensor, y: Tensor) -> None:
    classes = 3
    with pyro.plate("class", classes, dim=-2), pyro.plate("feature", x.shape[1], dim=-1):
        w = pyro.sample("w", dist.Laplace(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Categorical(logits=x @ w.t()), obs=y)


def poisson_with_exposure(x: Tensor, exposure: Tensor, y: Tensor) -> None:
    rate = pyro.sample("beta", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    with pyro.plate("data", len(x)):
        noise = pyro.sample("overdispersion", dist.Normal(0.0, 0.3))
        pyro.sample("y", dist.Poisson((x @ rate + exposure.log() + noise).exp()), obs=y)


def negative_binomial(x: Tensor, y: Tensor) -> None:
    beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
    concentration = pyro.sample("concentration", dist.Gamma(2.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.GammaPoisson(concentration, concentration / (beta * x).exp()), obs=y)


def zero_inflated(x: Tensor, y: Tensor) -> None:
    """Fish that visitors of a park caught; some did not fish."""
    b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    shape = pyro.sample("shape", dist.HalfNormal(2.0))
    with pyro.plate("visitors", len(x)):
        gate = torch.sigmoid(b[0] - x)
        law = dist.ZeroInflatedNegativeBinomial(total_count=shape + 0.5, logits=b[1] * x, gate=gate)
        pyro.sample("fish", law, obs=y)


def robust(x: Tensor, y: Tensor) -> None:
    nu = pyro.sample("nu", dist.Gamma(2.0, 0.1))
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.StudentT(nu, w[0] + w[1] * x, sigma), obs=y)


def quantile(x: Tensor, y: Tensor, tau: float = 0.9) -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    scale = pyro.sample("scale", dist.Exponential(1.0))
    asymmetry = (tau / (1 - tau)) ** 0.5
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.AsymmetricLaplace(w[0] + w[1] * x, scale, asymmetry), obs=y)


def two_scales(x: Tensor, y: Tensor) -> None:
    """The scale is regressed as well."""
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    s = pyro.sample("s", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(a[0] + a[1] * x, nn.functional.softplus(s[0] + s[1] * x)), obs=y)


def horseshoe(x: Tensor, y: Tensor) -> None:
    """The regularised one: global, local and slab scales."""
    n, d = x.shape
    tau = pyro.sample("tau", dist.HalfCauchy(0.1))
    c2 = pyro.sample("c2", dist.InverseGamma(2.0, 4.0))
    with pyro.plate("covariates", d):
        lam = pyro.sample("lam", dist.HalfCauchy(torch.ones(())))
        lam_tilde = c2.sqrt() * lam / (c2 + (tau * lam) ** 2).sqrt()
        w = pyro.sample("w", dist.Normal(0.0, tau * lam_tilde))
    with pyro.plate("data", n):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def spike_and_slab(x: Tensor, y: Tensor) -> None:
    share = pyro.sample("share", dist.Beta(1.0, 3.0))
    with pyro.plate("covariates", x.shape[1]):
        used = pyro.sample("used", dist.Bernoulli(share))
        slab = pyro.sample("slab", dist.Normal(0.0, 2.0))
    w = pyro.deterministic("w", used * slab)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


class Hypers(NamedTuple):
    expected_sparsity: float
    alpha1: float
    beta1: float
    alpha_obs: float
    beta_obs: float


def kernel(x: Tensor, z: Tensor, eta1: Tensor, eta2: Tensor, c: float) -> Tensor:
    """Of all linear and pairwise effects, without writing any of them out."""
    eta1sq, eta2sq = eta1.pow(2), eta2.pow(2)
    product = x @ z.t()
    k1 = 0.5 * eta2sq * (1.0 + product) ** 2
    k2 = -0.5 * eta2sq * (x**2) @ (z**2).t()
    k3 = (eta1sq - eta2sq) * product
    return k1 + k2 + k3 + c**2 - 0.5 * eta2sq


def sparse_kernel_regression(x: Tensor, y: Tensor, hypers: Hypers) -> None:
    """Sparse linear regression with pairwise interactions by the kernel trick."""
    s, p, n = hypers.expected_sparsity, x.size(1), x.size(0)
    sigma = pyro.sample("sigma", dist.HalfNormal(hypers.alpha_obs))
    phi = sigma * (s / n**0.5) / (p - s)
    eta1 = pyro.sample("eta1", dist.HalfCauchy(phi))
    msq = pyro.sample("msq", dist.InverseGamma(hypers.alpha1, hypers.beta1))
    xisq = pyro.sample("xisq", dist.InverseGamma(hypers.alpha1, hypers.beta1))
    eta2 = eta1.pow(2.0) * xisq.sqrt() / msq
    lam = pyro.sample("lam", dist.HalfCauchy(torch.ones(p)).to_event(1))
    kappa = msq.sqrt() * lam / (msq + (eta1 * lam).pow(2.0)).sqrt()
    scaled = kappa * x
    covariance = kernel(scaled, scaled, eta1, eta2, 1.0)
    covariance = covariance + (sigma**2 + hypers.beta_obs) * torch.eye(n)
    pyro.sample("Y", dist.MultivariateNormal(torch.zeros(n), covariance_matrix=covariance), obs=y)


def ordinal(x: Tensor, y: Tensor) -> None:
    """Cutpoints that are in order, by a transform."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    raw = dist.Normal(torch.tensor([-1.0, 0.0, 1.0]), 1.0).to_event(1)
    cutpoints = pyro.sample("cutpoints", dist.TransformedDistribution(raw, OrderedTransform()))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.OrderedLogistic(slope * x, cutpoints), obs=y)


def eight_schools(sigma: Tensor, y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


@poutine.reparam(config={"theta": LocScaleReparam(0.0)})
def eight_schools_decentred(sigma: Tensor, y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def radon(county: Tensor, floor: Tensor, uranium: Tensor, y: Tensor) -> None:
    """Houses in counties: levels and slopes vary together, and uranium explains the levels."""
    gamma = pyro.sample("gamma", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    sd = pyro.sample("sd", dist.Exponential(torch.ones(2)).to_event(1))
    chol = pyro.sample("chol", dist.LKJCholesky(2, torch.tensor(2.0)))
    sigma = pyro.sample("sigma", dist.Exponential(1.0))
    with pyro.plate("counties", len(uranium)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    effects = pyro.deterministic("effects", (sd.unsqueeze(-1) * chol @ z.unsqueeze(-1)).squeeze(-1))
    level = gamma[0] + gamma[1] * uranium + effects[:, 0]
    with pyro.plate("houses", len(y)):
        pyro.sample("y", dist.Normal(level[county] + effects[county, 1] * floor, sigma), obs=y)


def baseball(at_bats: Tensor, hits: Tensor) -> None:
    """Partial pooling with a uniform share and a Pareto strength."""
    m = pyro.sample("m", dist.Uniform(0, 1))
    kappa = pyro.sample("kappa", dist.Pareto(1, 1.5))
    with pyro.plate("num_players", at_bats.shape[0]):
        phi = pyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        pyro.sample("obs", dist.Binomial(at_bats, probs=phi), obs=hits)


def baseball_pooled_in_logits(at_bats: Tensor, hits: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(-1, 1))
    scale = pyro.sample("scale", dist.HalfCauchy(1))
    with pyro.plate("num_players", at_bats.shape[0]):
        alpha = pyro.sample("alpha", dist.Normal(loc, scale))
        pyro.sample("obs", dist.Binomial(at_bats, logits=alpha), obs=hits)


def putting(distance: Tensor, tries: Tensor, holed: Tensor) -> None:
    """Golf: the angle has to be small enough, and the length right."""
    sigma_angle = pyro.sample("sigma_angle", dist.HalfNormal(1.0))
    sigma_distance = pyro.sample("sigma_distance", dist.HalfNormal(1.0))
    threshold = torch.asin((4.25 - 1.68) / 24.0 / distance)
    p_angle = 2 * dist.Normal(0.0, 1.0).cdf(threshold / sigma_angle) - 1
    reach = dist.Normal(distance + 1.0, (distance + 1.0) * sigma_distance)
    p_distance = reach.cdf(distance + 3.0) - reach.cdf(distance)
    with pyro.plate("distances", len(distance)):
        pyro.sample("holed", dist.Binomial(tries, (p_angle * p_distance).clamp(1e-6, 1 - 1e-6)), obs=holed)


def missing_covariate(x: Tensor, seen: Tensor, y: Tensor) -> None:
    """Some ages were not written down: ``obs_mask`` makes latents of them."""
    loc = pyro.sample("loc", dist.Normal(30.0, 5.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 0.1))
    with pyro.plate("passengers", len(x)):
        age = pyro.sample("age", dist.Normal(loc, 10.0), obs=x, obs_mask=seen)
        pyro.sample("survived", dist.Bernoulli(logits=slope * (age - 30.0)), obs=y)


def measured_with_error(x: Tensor, error: Tensor, y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        true_x = pyro.sample("true_x", dist.Normal(mu, 1.0))
        pyro.sample("x", dist.Normal(true_x, error), obs=x)
        pyro.sample("y", dist.Normal(slope * true_x, 0.5), obs=y)


def election_poll(cell: dict[str, Tensor], yes: Tensor, asked: Tensor) -> None:
    """Multilevel regression of a poll: the categories come in a dict."""
    sizes = {"age": 3, "state": 4}
    total = pyro.sample("intercept", dist.Normal(0.0, 1.0))
    for name, size in sizes.items():
        scale = pyro.sample(f"{name}_scale", dist.HalfNormal(1.0))
        with pyro.plate(f"{name}_levels", size):
            effect = pyro.sample(f"{name}_effect", dist.Normal(0.0, scale))
        total = total + effect[cell[name]]
    with pyro.plate("cells", len(yes)):
        pyro.sample("yes", dist.Binomial(asked, logits=total), obs=yes)


X2, Y5 = values(5, 2), values(5, seed=1)
COUNTED = torch.tensor([0.0, 2.0, 1.0, 4.0, 0.0])
AT_BATS, HITS = torch.tensor([45.0, 45.0, 30.0]), torch.tensor([18.0, 12.0, 9.0])
SCHOOLS = (torch.tensor([15.0, 10.0, 16.0, 11.0]), torch.tensor([28.0, 8.0, -3.0, 7.0]))


@poutine.reparam(config=AutoReparam())
def studies_of_their_own_size(studies: list[Tensor], noise: float = 0.5) -> None:
    """Results of several laboratories, which measured as often as they liked; centered as far as is best."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    with pyro.plate("laboratories", len(studies)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
    for i, results in enumerate(studies):
        with pyro.plate(f"results_{i}", len(results)):
            pyro.sample(f"y_{i}", dist.Normal(theta[i], noise), obs=results)


ENTRIES = (
    Entry(
        seeded(lambda: BayesianRegression(2)),
        (X2, Y5),
        sites=(3, 1),
        name="BayesianRegression",
        note="PyroSample in a layer",
    ),
    Entry(terrain, (bits(5), values(5), Y5), sites=(5, 1), note="the introduction's regression"),
    Entry(logistic, (X2, bits(5)), sites=(2, 1), note="coefficients and a Student intercept"),
    Entry(multinomial, (X2, torch.tensor([0, 2, 1, 1, 0])), sites=(1, 1), note="a matrix under two plates"),
    Entry(poisson_with_exposure, (X2, X2[:, 0].exp(), COUNTED), sites=(2, 1), note="an offset, overdispersed"),
    Entry(negative_binomial, (values(5), COUNTED), sites=(2, 1), note="GammaPoisson"),
    Entry(zero_inflated, (values(5), COUNTED), sites=(2, 1), note="ZeroInflatedNegativeBinomial with a gate"),
    Entry(robust, (values(5), Y5), sites=(3, 1), note="Student likelihood of which df is a latent"),
    Entry(quantile, (values(5), Y5), sites=(2, 1), note="AsymmetricLaplace, a float argument"),
    Entry(two_scales, (values(5), Y5), sites=(2, 1), note="heteroscedastic"),
    Entry(horseshoe, (X2, Y5), sites=(4, 1), note="the regularised horseshoe"),
    Entry(spike_and_slab, (X2, Y5), sites=(3, 1), note="a deterministic product of discrete and continuous"),
    Entry(
        sparse_kernel_regression,
        (values(5, 3), Y5, Hypers(1.0, 3.0, 1.0, 3.0, 1.0)),
        sites=(5, 1),
        other_size=False,
        note="the kernel trick; a named tuple of floats; a square root of a size, which is guarded",
    ),
    Entry(ordinal, (values(5), torch.tensor([0, 1, 3, 2, 0])), sites=(2, 1), note="ordered cutpoints"),
    Entry(eight_schools, SCHOOLS, sites=(3, 1), note="centred"),
    Entry(
        eight_schools_decentred,
        SCHOOLS,
        sites=(3, 1),
        name="eight_schools_decentred",
        note="reparameterised by Pyro's own handler",
    ),
    Entry(
        radon,
        (torch.tensor([0, 1, 1, 2, 0]), bits(5), values(3), Y5),
        sites=(5, 1),
        note="correlated varying effects, indexed twice",
    ),
    Entry(baseball, (AT_BATS, HITS), sites=(3, 1), note="a Beta of latents, a Binomial of inputs"),
    Entry(baseball_pooled_in_logits, (AT_BATS, HITS), sites=(3, 1), note="integers as parameters"),
    Entry(
        putting,
        (torch.tensor([2.0, 5.0, 10.0]), torch.tensor([100.0, 90.0, 50.0]), torch.tensor([95.0, 50.0, 10.0])),
        sites=(2, 1),
        note="distributions that are used for their cdf",
    ),
    Entry(
        missing_covariate,
        (values(5) + 30.0, torch.tensor([True, False, True, True, False]), bits(5)),
        sites=(3, 2),
        note="obs_mask",
    ),
    Entry(measured_with_error, (values(5), torch.full((5,), 0.1), Y5), sites=(3, 2), note="a latent covariate"),
    Entry(
        election_poll,
        ({"age": torch.tensor([0, 1, 2, 0, 1]), "state": torch.tensor([3, 2, 1, 0, 3])}, COUNTED, COUNTED + 3.0),
        sites=(5, 1),
        note="inputs in a dict, plates in a loop over names",
    ),
    Entry(
        studies_of_their_own_size,
        ([values(3), values(4)],),
        sites=(3, 2),
        note="a list of tensors; AutoReparam learns a centering, which it makes from latents",
    ),
)
