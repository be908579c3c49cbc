"""What stands in ``pyro.contrib``: names that it makes, kernels and Gaussian processes, random variables."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.contrib import autoname, gp
from pyro.contrib.autoname import named
from pyro.contrib.randomvariable import RandomVariable
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import Tensor

from tests.programs.program import Program, edges, seeded, values


@autoname.autoname(name="model")
def automatic_names(x: Tensor) -> None:
    """Sites without names, in scopes that count."""
    a = autoname.sample(dist.Normal(0.0, 1.0))
    for _ in autoname.autoname(range(2), name="time"):
        a = autoname.sample("a", dist.Normal(a, 1.0))
    with pyro.plate("data", len(x)):
        autoname.sample("x", dist.Normal(a, 1.0), obs=x)


@autoname.name_count
def counted_names(x: Tensor) -> None:
    """A name that repeats gets a number."""
    with pyro.plate("data", len(x)):
        z = torch.zeros(len(x))
        for _ in range(3):
            z = pyro.sample("z", dist.Normal(z, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@autoname.scope(prefix="outer")
def scoped_names(x: Tensor) -> None:
    with autoname.scope(prefix="inner"):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def named_objects(x: Tensor) -> None:
    """Sites and parameters that are called for the attributes which hold them."""
    latent = named.Object("latent")
    latent.loc.sample_(dist.Normal(0.0, 1.0))
    latent.scale.param_(torch.tensor(1.0), constraint=constraints.positive)
    latent.parts = named.List()
    for _ in range(2):
        latent.parts.add().z.sample_(dist.Normal(latent.loc, latent.scale))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(latent.parts[0].z + latent.parts[1].z, 1.0), obs=x)


def random_variables(x: Tensor) -> None:
    """Arithmetic of laws: transforms of a normal one."""
    law = (RandomVariable(dist.Normal(torch.zeros(()), torch.ones(()))) * 2.0 + 1.0).exp().distribution
    z = pyro.sample("z", law)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class KernelOfAModel(PyroModule):
    """A kernel with parameters and priors, computed inside the model."""

    def __init__(self) -> None:
        super().__init__()
        one, two = gp.kernels.RBF(input_dim=1), gp.kernels.Periodic(input_dim=1)
        one.variance = PyroParam(torch.tensor(2.0), constraints.positive)
        two.lengthscale = PyroSample(dist.LogNormal(0.0, 1.0))
        self.kernel = gp.kernels.Sum(one, two)

    def forward(self, x: Tensor, y: Tensor) -> None:
        covariance = self.kernel(x) + 0.1 * torch.eye(len(x))
        f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), covariance_matrix=covariance))
        pyro.sample("y", dist.Normal(f, 1.0).to_event(1), obs=y)


_INPUTS, _OUTPUTS = values(5, seed=1), values(5)


def _regression() -> Any:
    kernel = gp.kernels.RBF(input_dim=1, variance=torch.tensor(2.0), lengthscale=torch.tensor(0.5))
    process = gp.models.GPRegression(_INPUTS.clone(), _OUTPUTS.clone(), kernel, noise=torch.tensor(0.3))
    process.kernel.lengthscale = PyroSample(dist.LogNormal(0.0, 1.0))
    return process


def _variational() -> Any:
    return gp.models.VariationalGP(
        _INPUTS.clone(), _OUTPUTS.clone(), gp.kernels.Matern32(input_dim=1), likelihood=gp.likelihoods.Gaussian()
    )


def _sparse() -> Any:
    return gp.models.VariationalSparseGP(
        _INPUTS.clone(),
        _OUTPUTS.clone(),
        gp.kernels.RBF(input_dim=1),
        Xu=_INPUTS[:3].clone(),
        likelihood=gp.likelihoods.Gaussian(),
        whiten=True,
    )


_CONSTANT = {"other_size": False, "float64": False}
"""A process holds its data, and they stay as they are."""

PROGRAMS = (
    Program(
        automatic_names,
        (values(4),),
        name="automatic_names",
        edges=edges("model/Normal -> model/time/a", "model/time/a -> model/time__1/a", "model/time__1/a -> model/x"),
    ),
    Program(counted_names, (values(4),), name="counted_names", edges=edges("z -> z__1", "z__1 -> z__2", "z__2 -> x")),
    Program(scoped_names, (values(4),), name="scoped_names", edges=edges("outer/inner/z -> outer/x")),
    Program(
        named_objects,
        (values(4),),
        edges=edges(
            "latent.loc -> latent.parts[0].z",
            "latent.loc -> latent.parts[1].z",
            "latent.parts[0].z -> x",
            "latent.parts[1].z -> x",
        ),
    ),
    Program(random_variables, (values(4),), edges=edges("z -> x")),
    Program(
        seeded(KernelOfAModel),
        (values(4), values(4, seed=2)),
        name="KernelOfAModel",
        edges=edges("kernel.kern1.lengthscale -> f", "x -> f", "f -> y"),
    ),
    Program(seeded(_regression).model, name="GPRegression.model", edges=edges("kernel.lengthscale -> y"), **_CONSTANT),
    Program(seeded(_regression).guide, name="GPRegression.guide", edges=edges(), **_CONSTANT),
    Program(seeded(_variational).model, name="VariationalGP.model", edges=edges(), **_CONSTANT),
    Program(seeded(_variational).guide, name="VariationalGP.guide", edges=edges(), **_CONSTANT),
    Program(seeded(_sparse).model, name="VariationalSparseGP.model", **_CONSTANT),
    Program(seeded(_sparse).guide, name="VariationalSparseGP.guide", edges=edges(), **_CONSTANT),
)
