"""Laws that hold others, each with parameters of its own, for the walks over compositions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import transforms as T
from torch import Tensor, nn

from tests import seeds
from tests.programs.compositions import Bend


class ComposedLaw(nn.Module):
    """``law()`` is a Pyro distribution; its parameters depend on ``seed`` only and are in float64."""

    shapes: ClassVar[dict[str, tuple[int, ...]]]

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = seeds.generator(seed)
        for name, shape in self.shapes.items():
            value = torch.randn(shape, generator=generator, dtype=torch.float64)
            setattr(self, name, nn.Parameter(0.6 * value))

    def law(self) -> Any:
        raise TypeError(f"{type(self).__name__} has no law")

    def log_prob(self, value: Tensor) -> Tensor:
        """Of a stack of values, by Pyro where that is right."""
        return self.law().log_prob(value)

    def model(self, copies: Tensor) -> None:
        """As many draws as ``copies`` is long."""
        with pyro.plate("copies", len(copies)):
            pyro.sample("x", self.law())


def positive(x: Tensor) -> Tensor:
    return nn.functional.softplus(x) + 0.2


def covariance(root: Tensor) -> Tensor:
    return root @ root.mT + torch.eye(root.shape[-1], dtype=root.dtype)


class MixtureOfNormals(ComposedLaw):
    shapes: ClassVar = {"weights": (3,), "loc": (3,), "width": (3,)}

    def law(self) -> Any:
        components = dist.Normal(self.loc, positive(self.width))
        return dist.MixtureSameFamily(dist.Categorical(self.weights.softmax(-1)), components)


class MixtureOfMixtures(ComposedLaw):
    shapes: ClassVar = {"groups": (2,), "within": (3,), "loc": (2, 3)}

    def law(self) -> Any:
        gate = dist.Categorical(logits=self.within).expand((2,))
        group = dist.MixtureSameFamily(gate, dist.Normal(2 * self.loc, 0.5))
        return dist.MixtureSameFamily(dist.Categorical(logits=self.groups), group)


class MixtureOfVectors(ComposedLaw):
    shapes: ClassVar = {"weights": (2,), "loc": (2, 2), "root": (2, 2, 2)}

    def law(self) -> Any:
        components = dist.MultivariateNormal(3 * self.loc, covariance_matrix=covariance(self.root))
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class MixtureOfDirichlets(ComposedLaw):
    shapes: ClassVar = {"weights": (2,), "shape": (2, 3)}

    def law(self) -> Any:
        components = dist.Dirichlet(2 * positive(self.shape))
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class MixtureOfLabels(ComposedLaw):
    shapes: ClassVar = {"weights": (2,), "labels": (2, 4)}

    def law(self) -> Any:
        components = dist.Categorical(self.labels.softmax(-1))
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class MixtureOfRows(ComposedLaw):
    """Independent coordinates, of which each component repeats one location."""

    shapes: ClassVar = {"weights": (3,), "loc": (3, 1)}

    def law(self) -> Any:
        components = dist.Normal(self.loc, 0.5).expand((3, 2)).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class MixtureOfTheSame(ComposedLaw):
    """Components of numbers, expanded: one draw stands for all."""

    shapes: ClassVar = {"shift": ()}

    def law(self) -> Any:
        gate = dist.Categorical(torch.ones(4, dtype=torch.float64))
        mixture = dist.MixtureSameFamily(gate, dist.Normal(0.0, 1.0).expand((4,)))
        return dist.TransformedDistribution(mixture, [T.AffineTransform(self.shift, self.shift.exp())])


class MixtureOfSteps(ComposedLaw):
    """Components that are pushed through named steps."""

    shapes: ClassVar = {"weights": (3,), "loc": (3,), "slope": (3,)}

    def law(self) -> Any:
        steps = [T.AffineTransform(self.loc, positive(self.slope)), T.ExpTransform()]
        components = dist.TransformedDistribution(dist.Normal(self.loc, 0.5), steps)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class MixtureOfRecordedSteps(ComposedLaw):
    """Components that are pushed through a step of the user's."""

    shapes: ClassVar = {"weights": (3,), "loc": (3,), "slope": (3,)}

    def law(self) -> Any:
        components = dist.TransformedDistribution(dist.Normal(0.5 * self.loc, 0.5), [Bend(self.slope)])
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class Masked(ComposedLaw):
    """One of two, by a mask over the batch, with an event dim."""

    shapes: ClassVar = {"loc": (2,), "width": (2,)}

    def law(self) -> Any:
        mask = torch.tensor([True, False, True])
        wide = dist.Normal(self.loc, positive(self.width)).to_event(1).expand((3,))
        narrow = dist.Laplace(self.loc.flip(0), positive(self.width)).to_event(1).expand((3,))
        return dist.MaskedMixture(mask, wide, narrow).to_event(1)


class InflatedCounts(ComposedLaw):
    shapes: ClassVar = {"gate": (), "rate": ()}

    def law(self) -> Any:
        return dist.ZeroInflatedDistribution(dist.Geometric(logits=self.rate), gate=self.gate.sigmoid())


class InflatedLengths(ComposedLaw):
    """Of a base that has a density; Pyro adds the density at 0 to the probability of 0."""

    shapes: ClassVar = {"gate": (), "rate": ()}

    def law(self) -> Any:
        return dist.ZeroInflatedDistribution(dist.Exponential(positive(self.rate)), gate_logits=self.gate)

    def log_prob(self, value: Tensor) -> Tensor:
        closed, rate = nn.functional.logsigmoid(self.gate), positive(self.rate)
        return torch.where(value == 0, closed, closed - self.gate + rate.log() - rate * value)


class MixtureOfInflated(ComposedLaw):
    shapes: ClassVar = {"weights": (2,), "gate": (2,), "rate": (2,)}

    def law(self) -> Any:
        components = dist.ZeroInflatedDistribution(dist.Geometric(logits=self.rate), gate_logits=self.gate)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components)


class Folded(ComposedLaw):
    shapes: ClassVar = {"loc": (2,), "width": (2,)}

    def law(self) -> Any:
        return dist.FoldedDistribution(dist.Normal(self.loc, positive(self.width))).to_event(1)


class SkewedUniform(ComposedLaw):
    shapes: ClassVar = {"skew": (2,)}
    ends: ClassVar = (-math.pi, math.pi)

    def law(self) -> Any:
        base = dist.Uniform(*self.ends).expand((2,)).to_event(1)
        return dist.SineSkewed(base, 0.5 * self.skew.tanh())


class SkewedArc(SkewedUniform):
    """Its middle is not at 0."""

    ends: ClassVar = (-1.0, 2.0)


class SkewedVonMises(ComposedLaw):
    shapes: ClassVar = {"loc": (2,), "width": (2,), "skew": (2,)}

    def law(self) -> Any:
        base = dist.VonMises(self.loc, positive(self.width)).to_event(1)
        return dist.SineSkewed(base, 0.5 * self.skew.tanh())

    def log_prob(self, value: Tensor) -> Tensor:
        """By hand: Pyro's has eight digits."""
        width, turn = positive(self.width), value - self.loc
        base = width * (turn.cos() - 1) - torch.special.i0e(width).log() - math.log(2 * math.pi)
        return base.sum(-1) + torch.log1p((0.5 * self.skew.tanh() * turn.sin()).sum(-1))


class SkewedTorus(ComposedLaw):
    """Pyro's constructor looks at the concentrations' values."""

    shapes: ClassVar = {"loc": (2,), "width": (2,), "correlation": (), "skew": (2,)}

    def law(self) -> Any:
        phi, psi = positive(self.width).unbind(-1)
        base = dist.SineBivariateVonMises(*self.loc.unbind(-1), phi, psi, correlation=0.3 * self.correlation)
        return dist.SineSkewed(base, 0.5 * self.skew.tanh())


class StateSpace(ComposedLaw):
    """Homogeneous matrices and full covariances, noise of the observations by steps."""

    shapes: ClassVar = {
        "start": (2,),
        "spread": (2, 2),
        "step": (2, 2),
        "drift": (2,),
        "noise": (2, 2),
        "seen": (2, 2),
        "level": (3, 2),
        "width": (3, 2),
    }

    def parts(self) -> tuple[Any, Tensor, Any, Tensor, Any]:
        initial = dist.MultivariateNormal(self.start, covariance(self.spread))
        transition = dist.MultivariateNormal(self.drift, covariance(self.noise))
        observation = dist.Normal(self.level, positive(self.width)).to_event(1)
        return initial, self.step, transition, self.seen, observation


class KalmanLaw(StateSpace):
    def law(self) -> Any:
        return dist.GaussianHMM(*self.parts())


class DiagonalKalmanLaw(ComposedLaw):
    """Independent noise everywhere, matrices by steps, numbers among the parameters."""

    shapes: ClassVar = {"step": (3, 2, 2), "seen": (3, 2, 1), "width": (2,)}

    def law(self) -> Any:
        initial = dist.Normal(0.0, 1.0).expand((2,)).to_event(1)
        transition = dist.Normal(0.5, positive(self.width)).to_event(1)
        observation = dist.Normal(0.0, 0.3).expand((1,)).to_event(1)
        return dist.GaussianHMM(initial, self.step, transition, self.seen, observation)


class StudentLaw(StateSpace):
    def law(self) -> Any:
        initial, step, transition, seen, noise = self.parts()
        noise = dist.MultivariateNormal(self.level, scale_tril=torch.diag_embed(positive(self.width)))
        scale = dist.Gamma(positive(self.drift[0]) + 2, positive(self.start[0]))
        return dist.GammaGaussianHMM(scale, initial, step, transition, seen, noise)


class SideBySide(StateSpace):
    def law(self) -> Any:
        initial, step, transition, seen, _ = self.parts()
        noise = dist.Normal(self.level.T.unsqueeze(-1), positive(self.width).T.unsqueeze(-1)).to_event(1)
        return dist.IndependentHMM(dist.GaussianHMM(initial, step, transition, seen[:, :1], noise))


class LinearLaw(StateSpace):
    """Pyro's has no density; where all noise is normal, there is one."""

    def law(self) -> Any:
        *parts, noise = self.parts()
        return dist.LinearHMM(*parts, dist.TransformedDistribution(noise, [T.ExpTransform()]))

    def log_prob(self, value: Tensor) -> Tensor:
        return dist.GaussianHMM(*self.parts()).log_prob(value.log()) - value.log().sum((-2, -1))


class SwitchingNumbers(ComposedLaw):
    shapes: ClassVar = {"initial": (3,), "transition": (3, 3), "loc": (3,), "width": (3,)}

    def law(self) -> Any:
        seen = dist.Normal(2 * self.loc, positive(self.width))
        return dist.DiscreteHMM(self.initial, self.transition, seen, duration=3)


class SwitchingLabels(ComposedLaw):
    shapes: ClassVar = {"initial": (2,), "transition": (3, 2, 2), "labels": (2, 3)}

    def law(self) -> Any:
        return dist.DiscreteHMM(self.initial, 2 * self.transition, dist.Categorical(self.labels.softmax(-1)))


class SwitchingVectors(ComposedLaw):
    shapes: ClassVar = {"initial": (2,), "transition": (2, 2), "loc": (3, 2, 2)}

    def law(self) -> Any:
        seen = dist.Normal(2 * self.loc, 0.5).to_event(1)
        return dist.DiscreteHMM(self.initial, 2 * self.transition, seen)


class FieldLaw(ComposedLaw):
    shapes: ClassVar = {"start": (2,), "pair_loc": (4,), "pair": (4, 4), "seen_loc": (3, 3), "seen": (3, 3, 3)}

    def law(self) -> Any:
        initial = dist.MultivariateNormal(self.start, torch.eye(2).to(self.start))
        transition = dist.MultivariateNormal(self.pair_loc, covariance(self.pair))
        observation = dist.MultivariateNormal(self.seen_loc, precision_matrix=covariance(self.seen))
        return dist.GaussianMRF(initial, transition, observation)


LAWS: tuple[type[ComposedLaw], ...] = (
    MixtureOfNormals,
    MixtureOfMixtures,
    MixtureOfVectors,
    MixtureOfDirichlets,
    MixtureOfLabels,
    MixtureOfRows,
    MixtureOfTheSame,
    MixtureOfSteps,
    MixtureOfRecordedSteps,
    Masked,
    InflatedCounts,
    InflatedLengths,
    MixtureOfInflated,
    Folded,
    SkewedUniform,
    SkewedArc,
    SkewedVonMises,
    SkewedTorus,
    KalmanLaw,
    DiagonalKalmanLaw,
    StudentLaw,
    SideBySide,
    LinearLaw,
    SwitchingNumbers,
    SwitchingLabels,
    SwitchingVectors,
    FieldLaw,
)
