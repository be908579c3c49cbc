"""Gaussian processes: written out, of pyro.contrib.gp, sparse, deep, approximated by features."""

import math

import pyro
import pyro.contrib.gp as gp
import pyro.distributions as dist
import torch
from pyro.nn import PyroSample
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import bits, seeded, values


def squared_exponential(x: Tensor, z: Tensor, variance: Tensor, length: Tensor) -> Tensor:
    return variance * torch.exp(-0.5 * ((x.unsqueeze(-1) - z.unsqueeze(-2)) / length) ** 2)


def regression(x: Tensor, y: Tensor) -> None:
    variance = pyro.sample("kernel_var", dist.LogNormal(0.0, 10.0**0.5))
    noise = pyro.sample("kernel_noise", dist.LogNormal(0.0, 0.5))
    length = pyro.sample("kernel_length", dist.LogNormal(0.0, 0.5))
    n = x.shape[0]
    k = squared_exponential(x, x, variance, length) + (noise + 1e-3) * torch.eye(n)
    pyro.sample("Y", dist.MultivariateNormal(loc=torch.zeros(n), covariance_matrix=k), obs=y)


def classification(x: Tensor, y: Tensor) -> None:
    """Latent function values, whitened."""
    length = pyro.sample("length", dist.InverseGamma(5.0, 5.0))
    k = squared_exponential(x, x, torch.tensor(1.0), length)
    k.view(-1)[:: x.shape[0] + 1] += 1e-3
    white = pyro.sample("white", dist.Normal(torch.zeros(x.shape[0]), 1.0).to_event(1))
    f = pyro.deterministic("f", torch.linalg.cholesky(k) @ white, event_dim=1)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=f), obs=y)


def cox_process(centres: Tensor, counts: Tensor) -> None:
    """Points in cells, of which the intensity is the exponential of a process."""
    area = 1.0 / counts.shape[0]
    mean = pyro.sample("mean", dist.Normal(math.log(10.0), 1.0))
    k = squared_exponential(centres, centres, torch.tensor(0.5), torch.tensor(0.3))
    k = k + 1e-3 * torch.eye(centres.shape[0])
    f = pyro.sample("f", dist.MultivariateNormal(mean.expand(centres.shape[0]), k))
    pyro.sample("counts", dist.Poisson(area * f.exp()).to_event(1), obs=counts)


def hilbert_space(x: Tensor, y: Tensor, basis: int = 4) -> None:
    """The approximation by eigenfunctions of a box."""
    length = pyro.sample("length", dist.Gamma(3.0, 3.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(1.0))
    j = torch.arange(1, basis + 1, dtype=x.dtype)
    roots = j * math.pi / 6.0
    phi = torch.sin((x.unsqueeze(-1) + 3.0) * roots) / math.sqrt(3.0)
    spectrum = alpha * math.sqrt(2 * math.pi) * length * torch.exp(-0.5 * (length * roots) ** 2)
    with pyro.plate("basis", basis):
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(phi @ (spectrum.sqrt() * beta), 0.1), obs=y)


def random_features(x: Tensor, y: Tensor, features: int = 5) -> None:
    """Frequencies and phases are drawn as well."""
    omega = pyro.sample("omega", dist.Cauchy(torch.zeros(features), 1.0).to_event(1))
    phase = pyro.sample("phase", dist.Uniform(torch.zeros(features), 2 * math.pi).to_event(1))
    weights = pyro.sample("weights", dist.Normal(torch.zeros(features), 1.0).to_event(1))
    basis = math.sqrt(2.0 / features) * torch.cos(torch.outer(x, omega) + phase)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(basis @ weights, 0.3), obs=y)


def multi_output(x: Tensor, y: Tensor) -> None:
    """Coregionalisation: a Kronecker product of two covariances."""
    outputs = y.shape[0] // x.shape[0]
    mixing = pyro.sample("mixing", dist.Normal(torch.zeros(outputs, 1), 1.0).to_event(2))
    between = mixing @ mixing.t() + 0.1 * torch.eye(outputs)
    within = squared_exponential(x, x, torch.tensor(1.0), torch.tensor(1.0))
    k = torch.kron(between, within) + 0.1 * torch.eye(y.shape[0])
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(y.shape[0]), k), obs=y)


def contrib_regression() -> gp.models.GPRegression:
    model = gp.models.GPRegression(values(4), values(4, seed=1), gp.kernels.RBF(1), noise=torch.tensor(0.1))
    model.kernel.lengthscale = PyroSample(dist.LogNormal(0.0, 1.0))
    model.kernel.variance = PyroSample(dist.LogNormal(0.0, 1.0))
    return model


def contrib_sparse(approx: str) -> gp.models.SparseGPRegression:
    kernel = gp.kernels.Sum(gp.kernels.RBF(1), gp.kernels.Periodic(1, period=torch.tensor(1.5)))
    return gp.models.SparseGPRegression(
        values(5), values(5, seed=1), kernel, Xu=values(2, seed=2), approx=approx, noise=torch.tensor(0.1)
    )


def contrib_variational(likelihood: gp.likelihoods.Likelihood) -> gp.models.VariationalSparseGP:
    kernel = gp.kernels.Matern52(2, lengthscale=torch.ones(2))
    return gp.models.VariationalSparseGP(values(5, 2), bits(5), kernel, values(3, 2, seed=2), likelihood, whiten=True)


def contrib_latent_variables() -> gp.models.GPLVM:
    inputs = values(4, 2)
    base = gp.models.GPRegression(inputs, values(3, 4, seed=1), gp.kernels.RBF(2, lengthscale=torch.ones(2)))
    base.X = pyro.nn.PyroSample(dist.Normal(inputs, 0.1).to_event())
    return gp.models.GPLVM(base)


class DeepKernel(nn.Module):
    """A network under the kernel; the inducing values are whitened by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        self.inducing = nn.Parameter(torch.linspace(-1.0, 1.0, 3))

    def model(self, x: Tensor, y: Tensor) -> None:
        h = self.features(x).squeeze(-1)
        one = torch.tensor(1.0)
        kzz = squared_exponential(self.inducing, self.inducing, one, one) + 1e-2 * torch.eye(3)
        kxz = squared_exponential(h, self.inducing, one, one)
        u = pyro.sample("u", dist.MultivariateNormal(torch.zeros(3), torch.eye(3)))
        tril = torch.linalg.cholesky(kzz)
        w = torch.linalg.solve_triangular(tril, kxz.t(), upper=False)
        loc = u @ w
        variance = (1.0 - w.pow(2).sum(0)).clamp(min=1e-4)
        with pyro.plate("data", len(x)):
            f = pyro.sample("f", dist.Normal(loc, variance.sqrt()))
            pyro.sample("y", dist.Bernoulli(logits=f), obs=y)


def deep_process(x: Tensor, y: Tensor) -> None:
    """Two layers, each a process of the one below."""
    n = len(x)
    one, jitter = torch.tensor(1.0), 1e-2 * torch.eye(n)
    h = pyro.sample("h", dist.MultivariateNormal(torch.zeros(n), squared_exponential(x, x, one, one) + jitter))
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(n), squared_exponential(h, h, one, one) + jitter))
    pyro.sample("y", dist.Normal(f, 0.2).to_event(1), obs=y)


X5, Y5 = torch.linspace(-2.0, 2.0, 5), values(5, seed=1)

ENTRIES = (
    Entry(regression, (X5, Y5), sites=(3, 1), note="hyperparameters are latents, the function is summed out"),
    Entry(classification, (X5, bits(5)), sites=(2, 1), note="a strided write into the kernel; a Cholesky factor"),
    Entry(
        cox_process,
        (X5 / 4.0, torch.tensor([1.0, 0.0, 3.0, 2.0, 0.0])),
        sites=(2, 1),
        note="a cell's area is a quotient of sizes",
    ),
    Entry(hilbert_space, (X5, Y5), sites=(3, 1), note="basis functions of an arange"),
    Entry(random_features, (X5, Y5), sites=(3, 1), note="Cauchy frequencies"),
    Entry(multi_output, (X5[:3], values(6)), sites=(1, 1), other_size=False, note="a quotient of sizes"),
    Entry(
        contrib_regression().model,
        sites=(2, 1),
        other_size=False,
        name="GPRegression",
        note="pyro.contrib, data inside",
    ),
    Entry(
        contrib_sparse("VFE").model,
        expect="factor",
        name="SparseGPRegression VFE",
        note="the bound's trace term is a pyro.factor",
    ),
    Entry(
        contrib_sparse("DTC").model,
        sites=(0, 1),
        other_size=False,
        name="SparseGPRegression DTC",
        note="the same without the factor: no latent at all",
    ),
    Entry(
        contrib_variational(gp.likelihoods.Gaussian()).model,
        sites=(1, 1),
        other_size=False,
        name="VariationalSparseGP",
        note="inducing values, a likelihood module that samples",
    ),
    Entry(
        contrib_variational(gp.likelihoods.Binary()).model,
        expect="stray-random",
        name="VariationalSparseGP binary",
        note="the library's binary likelihood calls a distribution outside of pyro.sample",
    ),
    Entry(
        contrib_latent_variables().model,
        sites=(1, 1),
        other_size=False,
        name="GPLVM",
        note="inputs of the process are latents",
    ),
    Entry(
        seeded(DeepKernel).model,
        (values(4, 2), bits(4)),
        sites=(2, 1),
        name="DeepKernel.model",
        note="network and kernel",
    ),
    Entry(deep_process, (X5, Y5), sites=(2, 1), note="the covariance is a function of a latent"),
)
