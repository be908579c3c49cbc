"""Mixture of Gaussians in the plane: four components, of which each has its own scale, or all share one."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

CENTRES = torch.tensor([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])


class Mixture(PyroModule):
    """``scale`` is ``(4, 2)``, or ``(1, 2)`` where the components share it.

    ``name`` keeps its parameters apart from those of another mixture in Pyro's parameter store.
    """

    def __init__(self, name: str, weights: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(name)
        self.weights = PyroParam(weights, constraint=constraints.simplex)
        self.loc = nn.Parameter(loc)
        self.scale = PyroParam(scale, constraint=constraints.positive)

    def forward(self, points: Tensor) -> Tensor:
        weights, scale = self.weights, self.scale.expand_as(self.loc)
        with pyro.plate("point", len(points)):
            component = pyro.sample("component", dist.Categorical(weights))
            return pyro.sample("x", dist.Normal(self.loc[component], scale[component]).to_event(1), obs=points)


model = Mixture(
    "free",
    weights=torch.tensor([0.1, 0.2, 0.3, 0.4]),
    loc=CENTRES.clone(),
    scale=torch.tensor([[0.5, 1.0], [1.0, 0.5], [0.7, 0.7], [0.3, 0.3]]),
)
student = Mixture(
    "tied",
    weights=torch.full((4,), 0.25),
    loc=0.5 * CENTRES,
    scale=torch.ones(1, 2),
)

example_inputs = (CENTRES.repeat(2, 1),)
