"""Normalising flows and other steps that no formula is known for: they are recorded."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from tests.programs.program import Program, edges, seeded, values


class Flow(nn.Module):
    """A latent through a flow, and the data through its inverse where it has one."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> None:
        pyro.module("flow", self)
        with pyro.plate("data", len(x)):
            base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
            z = pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


class OnTarget(Flow):
    """The data themselves are pushed through the flow."""

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
            base = dist.Normal(loc.unsqueeze(-1) * torch.ones(4), 2.0).to_event(1)
            steps = [self.flow, transforms.AffineTransform(0.5, 2.0)]
            pyro.sample("x", dist.TransformedDistribution(base, steps), obs=x)


class Conditional(nn.Module):
    """The flow's parameters come from another latent."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = transforms.conditional_affine_coupling(4, 2)
        self.planar = transforms.conditional_planar(4, 2)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            context = pyro.sample("context", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
            w = pyro.sample("w", dist.TransformedDistribution(base, [self.planar.condition(context)]))
            flow = dist.ConditionalTransformedDistribution(base, [self.flow])
            z = pyro.sample("z", flow.condition(context))
            pyro.sample("x", dist.Normal(z + w, 1.0).to_event(1), obs=x)


class Cubed(Transform):
    """A transform that a user wrote."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = scale

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cubed) and other.scale is self.scale

    def _call(self, x: Tensor) -> Tensor:
        return self.scale * (x**3 + x)

    def _inverse(self, y: Tensor) -> Tensor:
        half = y / self.scale / 2
        root = torch.sqrt(half**2 + 1 / 27)
        return torch.sign(half + root) * (half + root).abs() ** (1 / 3) - (root - half).abs() ** (1 / 3)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.log(self.scale * (3 * x**2 + 1))


def written_by_a_user(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.1))
        z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [Cubed(scale)]))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def without_parameters(x: Tensor) -> None:
    """Steps of Pyro's that no formula is known for, named ones between them, and event dims that change."""
    with pyro.plate("data", len(x)):
        base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
        steps = [transforms.LeakyReLUTransform(), transforms.AffineTransform(1.0, 0.5), transforms.OrderedTransform()]
        z = pyro.sample(
            "z", dist.TransformedDistribution(base, [*steps, transforms.Permute(torch.tensor([2, 0, 3, 1]))])
        )
        matrix = transforms.ReshapeTransform((4,), (2, 2))
        w = pyro.sample("w", dist.TransformedDistribution(base, [matrix, transforms.ELUTransform()]))
        pyro.sample("x", dist.Normal(z.sum(-1) + w.sum((-2, -1)), 1.0), obs=x)


_FLOWS = {
    "planar": lambda: transforms.planar(4),
    "radial": lambda: transforms.radial(4),
    "sylvester": lambda: transforms.sylvester(4),
    "householder": lambda: transforms.householder(4),
    "affine_coupling": lambda: transforms.affine_coupling(4),
    "affine_autoregressive": lambda: transforms.affine_autoregressive(4, hidden_dims=[8]),
    "spline": lambda: transforms.spline(4),
    "spline_coupling": lambda: transforms.spline_coupling(4),
    "block_autoregressive": lambda: transforms.block_autoregressive(4),
    "neural_autoregressive": lambda: transforms.neural_autoregressive(4, hidden_dims=[8]),
    "polynomial": lambda: transforms.polynomial(4, hidden_dims=[8]),
    "batchnorm": lambda: transforms.batchnorm(4).eval(),
    "matrix_exponential": lambda: transforms.matrix_exponential(4),
}
_ON_TARGET = ("householder", "affine_coupling", "spline", "batchnorm")


def _flow(name: str, kind: type[Flow]) -> Program:
    return Program(kind(seeded(_FLOWS[name])), (0.5 * values(3, 4),), name=f"{kind.__name__} {name}")


PROGRAMS = (
    *(_flow(name, Flow) for name in _FLOWS),
    *(_flow(name, OnTarget) for name in _ON_TARGET),
    Program(
        seeded(Conditional),
        (values(3, 4),),
        edges=edges("context -> w", "context -> z", "z -> x", "w -> x"),
        name="conditional flows",
    ),
    Program(written_by_a_user, (values(3),), edges=edges("scale -> z", "z -> x")),
    Program(without_parameters, (values(3),)),
)
