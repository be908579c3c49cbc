"""Eight schools: the effect of coaching on a test, estimated at eight schools with known standard errors.

Rubin 1981, "Estimation in parallel randomized experiments"; Gelman et al., "Bayesian Data Analysis", section 5.5.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
STANDARD_ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def model(standard_error: Tensor, effect: Tensor) -> Tensor:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(standard_error)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        return pyro.sample("y", dist.Normal(theta, standard_error), obs=effect)


def student(standard_error: Tensor, effect: Tensor) -> Tensor:
    """The same hierarchy, whose two priors are to be learnt."""
    mu_loc = pyro.param("mu_loc", torch.tensor(1.0))
    mu_scale = pyro.param("mu_scale", torch.tensor(2.0), constraint=constraints.positive)
    tau_scale = pyro.param("tau_scale", torch.tensor(1.0), constraint=constraints.positive)
    mu = pyro.sample("mu", dist.Normal(mu_loc, mu_scale))
    tau = pyro.sample("tau", dist.HalfCauchy(tau_scale))
    with pyro.plate("school", len(standard_error)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        return pyro.sample("y", dist.Normal(theta, standard_error), obs=effect)


example_inputs = (STANDARD_ERROR, EFFECT)
