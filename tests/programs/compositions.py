"""Distributions that hold others: mixtures of every make, zero inflation, hidden Markov models."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import transforms as T
from torch import Tensor, nn

from tests.programs.program import Program, bits, edges, seeded, values


class Weights(nn.Module):
    """Numbers that nothing but the seed decides, by name."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(0.7 * torch.randn(shape)))


def positive(x: Tensor) -> Tensor:
    return nn.functional.softplus(x) + 0.2


# -- mixtures --------------------------------------------------------------------------------------------------------


class LatentMixture(Weights):
    """A mixture prior, read by a mixture with one set of components for each datum."""

    def __init__(self) -> None:
        super().__init__(weights=(3,), loc=(3,), width=(3,))

    def model(self, x: Tensor) -> None:
        weights = self.weights.softmax(-1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(self.loc, 1.0)))
            components = dist.Normal(z.unsqueeze(-1) + self.loc, positive(self.width))
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(logits=self.weights), components), obs=x)


class MixtureOfMixtures(Weights):
    """Two groups of three components; both levels by probabilities."""

    def __init__(self) -> None:
        super().__init__(groups=(2,), within=(2, 3), loc=(2, 3))

    def model(self, x: Tensor) -> None:
        group = dist.MixtureSameFamily(dist.Categorical(self.within.softmax(-1)), dist.Normal(self.loc, 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(self.groups.softmax(-1)), group), obs=x)


class SharedWeightsWithin(Weights):
    """Groups that differ by location only, so that one draw of the inner component serves all of them."""

    def __init__(self) -> None:
        super().__init__(within=(3,), loc=(2, 1))

    def model(self, x: Tensor) -> None:
        inner = dist.Normal(self.loc + torch.arange(3.0).to(self.loc), 0.5)
        group = dist.MixtureSameFamily(dist.Categorical(logits=self.within).expand((2,)), inner)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.ones(2).to(self.loc)), group), obs=x)


class WeightsByDatum(Weights):
    """Weights of a network, components for all."""

    def __init__(self) -> None:
        super().__init__(gate=(2, 3), loc=(3,), width=(3,))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            gate = dist.Categorical(logits=x @ self.gate)
            components = dist.Laplace(self.loc, positive(self.width))
            pyro.sample("y", dist.MixtureSameFamily(gate, components.expand((len(x), 3))))


class BroadcastMixture(Weights):
    """Weights by row, components by column: the batch is the table."""

    def __init__(self) -> None:
        super().__init__(weights=(2,), loc=(4, 1, 2))

    def model(self, x: Tensor) -> None:
        with pyro.plate("columns", 4, dim=-2), pyro.plate("rows", len(x), dim=-1):
            gate = dist.Categorical(logits=self.weights + x.unsqueeze(-1)).expand((4, len(x)))
            z = pyro.sample("z", dist.MixtureSameFamily(gate, dist.Normal(self.loc, 1.0).expand((4, len(x), 2))))
            pyro.sample("y", dist.Normal(z, 1.0))


class DiagonalComponents(Weights):
    """Reinterpreted dims of the components, expanded components, and a reinterpreted mixture."""

    def __init__(self) -> None:
        super().__init__(weights=(3,), loc=(3, 2), level=(3,))

    def model(self, x: Tensor) -> None:
        gate = dist.Categorical(logits=self.weights)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MixtureSameFamily(gate, dist.Normal(self.loc, 0.5).to_event(1)))
            alike = dist.MixtureSameFamily(gate, dist.Normal(0.0, 1.0).expand((3,)))
            shift = pyro.sample("shift", alike.expand((2,)).to_event(1))
            flat = dist.Normal(self.level.unsqueeze(-1), 1.0).expand((3, 2)).to_event(1)
            level = pyro.sample("level", dist.MixtureSameFamily(gate, flat))
            pyro.sample("x", dist.Normal(z + shift + level, 0.3).to_event(1), obs=x)


class VectorComponents(Weights):
    """Components with event dims of their own: normal vectors by covariance, points of a simplex, labels."""

    def __init__(self) -> None:
        super().__init__(weights=(3,), loc=(3, 2), root=(3, 2, 2), shape=(3, 2), labels=(3, 4))

    def model(self, x: Tensor) -> None:
        gate = dist.Categorical(self.weights.softmax(-1))
        covariance = self.root @ self.root.mT + torch.eye(2).to(self.root)
        with pyro.plate("data", len(x)):
            normal = dist.MultivariateNormal(self.loc, covariance_matrix=covariance)
            z = pyro.sample("z", dist.MixtureSameFamily(gate, normal))
            share = pyro.sample("share", dist.MixtureSameFamily(gate, dist.Dirichlet(positive(self.shape))))
            labels = dist.Categorical(self.labels.softmax(-1))
            label = pyro.sample("label", dist.MixtureSameFamily(gate, labels))
            pyro.sample("x", dist.Normal(z * share + label.unsqueeze(-1), 0.3).to_event(1), obs=x)


class TransformedComponents(Weights):
    """Components pushed through steps that are known by name, and through one that is not."""

    def __init__(self) -> None:
        super().__init__(weights=(3,), loc=(3,), slope=(2, 2))
        self.stretch = nn.Linear(2, 2)

    def model(self, x: Tensor) -> None:
        gate = dist.Categorical(logits=self.weights)
        with pyro.plate("data", len(x)):
            shifted = dist.TransformedDistribution(
                dist.Normal(self.loc, 0.5), [T.AffineTransform(1.0, 2.0), T.ExpTransform()]
            )
            z = pyro.sample("z", dist.MixtureSameFamily(gate, shifted))
            bent = dist.TransformedDistribution(dist.Normal(self.loc, 0.5), [Bend(self.slope[0, 0])])
            u = pyro.sample("u", dist.MixtureSameFamily(gate, bent))
            pyro.sample("x", dist.Normal(z.log() + u, 0.3), obs=x)


class Bend(T.Transform):
    """A user's own transform, with a parameter."""

    domain = codomain = dist.constraints.real
    bijective = True
    sign = 1

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = slope

    def _call(self, x: Tensor) -> Tensor:
        return torch.sinh(x) * self.slope.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.asinh(y * torch.exp(-self.slope))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cosh(x).log() + self.slope


class ChosenByMask(Weights):
    """A choice that is known, with an event dim, and without."""

    def __init__(self) -> None:
        super().__init__(loc=(2,), level=())

    def model(self, x: Tensor, mask: Tensor) -> None:
        with pyro.plate("data", len(x)):
            wide = dist.Normal(self.loc, 2.0).to_event(1).expand((len(x),))
            narrow = dist.Laplace(self.loc, 0.5).to_event(1).expand((len(x),))
            z = pyro.sample("z", dist.MaskedMixture(mask > 0, wide, narrow))
            some = dist.MaskedMixture(mask > 0, dist.Normal(self.level, 1.0), dist.Normal(0.0, 2.0))
            y = pyro.sample("y", some)
            pyro.sample("x", dist.Normal(z + y.unsqueeze(-1), 1.0).to_event(1), obs=x)


# -- zero inflation and folding --------------------------------------------------------------------------------------


class Inflated(Weights):
    """Zero inflation around a family, around a mixture, and as the components of one."""

    def __init__(self) -> None:
        super().__init__(gate=(), weights=(2,), rate=(2,), shape=())

    def model(self, x: Tensor) -> None:
        rate = positive(self.rate)
        mixed = dist.Categorical(logits=self.weights)
        with pyro.plate("data", len(x)):
            base = dist.Exponential(rate[0])
            z = pyro.sample("z", dist.ZeroInflatedDistribution(base, gate=self.gate.sigmoid()))
            counts = dist.MixtureSameFamily(mixed, dist.Geometric(logits=self.rate))
            n = pyro.sample("n", dist.ZeroInflatedDistribution(counts, gate_logits=self.gate))
            parts = dist.ZeroInflatedDistribution(dist.Geometric(rate / (1 + rate)), gate_logits=self.rate)
            m = pyro.sample("m", dist.MixtureSameFamily(mixed, parts))
            pyro.sample("x", dist.Normal(z + n + m, 1.0), obs=x)


class Folded(Weights):
    """|x| of a family, of a mixture, and as the components of one."""

    def __init__(self) -> None:
        super().__init__(weights=(2,), loc=(2,))

    def model(self, x: Tensor) -> None:
        gate = dist.Categorical(logits=self.weights)
        with pyro.plate("data", len(x)):
            pair = dist.FoldedDistribution(dist.Normal(self.loc, 1.0))
            z = pyro.sample("z", pair.expand((len(x), 2)).to_event(1))
            y = pyro.sample("y", dist.MixtureSameFamily(gate, dist.FoldedDistribution(dist.Normal(self.loc, 1.0))))
            pyro.sample("x", dist.Normal(z.sum(-1) - y, 1.0), obs=x)


class Angles(Weights):
    """A skewed angle around a learnt one."""

    def __init__(self) -> None:
        super().__init__(loc=(), skew=(1,))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            arc = dist.Uniform(-math.pi, math.pi).expand((1,)).to_event(1)
            angle = pyro.sample("angle", dist.SineSkewed(arc, self.skew.tanh()))
            pyro.sample("x", dist.Normal(self.loc + angle[..., 0].sin(), 0.3), obs=x)


# -- along time ------------------------------------------------------------------------------------------------------


class Kalman(Weights):
    """A linear Gaussian state space: all as long as the data, batched by a plate."""

    def __init__(self) -> None:
        super().__init__(step=(2, 2), seen=(2, 3), noise=(2, 2), level=(3,))

    def parts(self) -> tuple[Any, Tensor, Any, Tensor, Any]:
        covariance = self.noise @ self.noise.mT + torch.eye(2).to(self.noise)
        initial = dist.MultivariateNormal(torch.zeros(2).to(self.noise), torch.eye(2).to(self.noise))
        transition = dist.MultivariateNormal(self.noise[0], covariance_matrix=covariance)
        observation = dist.Normal(self.level, positive(self.level)).to_event(1)
        return initial, self.step, transition, self.seen, observation

    def model(self, x: Tensor) -> None:
        with pyro.plate("series", len(x)):
            pyro.sample("x", dist.GaussianHMM(*self.parts(), duration=x.shape[1]), obs=x)

    def of_any_length(self, x: Tensor) -> None:
        """No duration at all: the data tell it."""
        pyro.sample("x", dist.GaussianHMM(*self.parts()), obs=x)

    def latent(self, y: Tensor) -> None:
        z = pyro.sample("z", dist.GaussianHMM(*self.parts(), duration=len(y)))
        pyro.sample("y", dist.Normal(z.sum(-1), 0.5).to_event(1), obs=y)

    def changing(self, x: Tensor) -> None:
        """Matrices and noise of every step."""
        initial, step, transition, seen, _ = self.parts()
        noise = dist.Normal(self.level * torch.arange(1.0, 5.0).to(step).unsqueeze(-1), 0.5).to_event(1)
        with pyro.plate("series", len(x)):
            pyro.sample("x", dist.GaussianHMM(initial, step.expand(4, 2, 2), transition, seen, noise), obs=x)

    def heavy(self, x: Tensor) -> None:
        initial, step, transition, seen, _ = self.parts()
        noise = dist.MultivariateNormal(self.level, torch.eye(3).to(step))
        precision = dist.Gamma(positive(self.level[0]) + 1, 2.0)
        with pyro.plate("series", len(x)):
            law = dist.GammaGaussianHMM(precision, initial, step, transition, seen, noise, duration=x.shape[1])
            pyro.sample("x", law, obs=x)

    def side_by_side(self, x: Tensor) -> None:
        """One state space for each coordinate of the data."""
        initial, step, transition, seen, _ = self.parts()
        noise = dist.Normal(self.level.unsqueeze(-1).unsqueeze(-1), 0.5).to_event(1)
        series = dist.GaussianHMM(initial, step, transition, seen[:, :1], noise, duration=len(x))
        pyro.sample("x", dist.IndependentHMM(series), obs=x)


class HeavyTailed(Weights):
    """A linear model with noise of other families, pushed through the steps of its observations."""

    def __init__(self) -> None:
        super().__init__(step=(2, 2), seen=(2, 3), loc=(3,))

    def model(self, x: Tensor) -> None:
        initial = dist.Laplace(torch.zeros(2).to(self.loc), 1.0).to_event(1)
        transition = dist.Cauchy(torch.zeros(2).to(self.loc), 0.1).to_event(1)
        observation = dist.LogNormal(self.loc, 0.3).to_event(1)
        pyro.sample("x", dist.LinearHMM(initial, self.step, transition, self.seen, observation, duration=len(x)), obs=x)

    def bounded(self, x: Tensor) -> None:
        initial = dist.Normal(torch.zeros(2).to(self.loc), 1.0).to_event(1)
        transition = dist.Normal(0.0, 0.1).expand((len(x), 2)).to_event(1)
        noise = dist.TransformedDistribution(dist.Normal(self.loc, 0.3), [Bend(self.loc[0]), T.SigmoidTransform()])
        pyro.sample("x", dist.LinearHMM(initial, self.step, transition, self.seen, noise.to_event(1)), obs=x)


class Switching(Weights):
    """A discrete state with observations of several kinds."""

    def __init__(self) -> None:
        super().__init__(initial=(3,), transition=(3, 3), loc=(3,), place=(3, 2), labels=(3, 4))

    def model(self, x: Tensor) -> None:
        with pyro.plate("series", len(x)):
            seen = dist.Normal(self.loc, 0.5)
            pyro.sample("x", dist.DiscreteHMM(self.initial, self.transition, seen, duration=x.shape[1]), obs=x)

    def vectors(self, x: Tensor) -> None:
        """Initial logits by series; the length of the data."""
        seen = dist.Normal(self.place, 0.5).to_event(1)
        with pyro.plate("series", len(x)):
            pyro.sample("x", dist.DiscreteHMM(self.initial + x[:, 0, :1], self.transition, seen), obs=x)

    def latent_labels(self, y: Tensor) -> None:
        labels = dist.Categorical(self.labels.softmax(-1))
        z = pyro.sample("z", dist.DiscreteHMM(self.initial, self.transition, labels, duration=len(y)))
        pyro.sample("y", dist.Normal(self.loc.sum() * z.to(self.loc), 0.5).to_event(1), obs=y)

    def of_mixtures(self, x: Tensor) -> None:
        """Each state sees a mixture."""
        components = dist.Normal(self.loc.unsqueeze(-1) + self.place, 0.5)
        seen = dist.MixtureSameFamily(dist.Categorical(logits=self.place), components)
        pyro.sample("x", dist.DiscreteHMM(self.initial, self.transition, seen, duration=len(x)), obs=x)


class Field(Weights):
    """A chain of Gaussian factors."""

    def __init__(self) -> None:
        super().__init__(pair=(4, 4), seen=(3, 3), level=(3,))

    def model(self, x: Tensor) -> None:
        eye = torch.eye(4).to(self.pair)
        initial = dist.MultivariateNormal(eye[0, :2], eye[:2, :2])
        transition = dist.MultivariateNormal(eye[0], covariance_matrix=self.pair @ self.pair.mT + eye)
        loc = self.level.expand(x.shape[1], 3)
        observation = dist.MultivariateNormal(loc, precision_matrix=self.seen @ self.seen.mT + eye[:3, :3])
        with pyro.plate("series", len(x)):
            pyro.sample("x", dist.GaussianMRF(initial, transition, observation), obs=x)


class Grouped(Weights):
    """Noisy values around the means of their groups, these summed out: Pyro tells its density only."""

    def __init__(self) -> None:
        super().__init__(loc=(3,), width=(3,))

    def model(self, y: Tensor, group: Tensor) -> None:
        noise = torch.tensor(0.5).to(self.loc)
        pyro.sample("y", dist.GroupedNormalNormal(self.loc, positive(self.width), noise, group), obs=y)


kalman, switching, heavy_tailed = seeded(Kalman), seeded(Switching), seeded(HeavyTailed)

PROGRAMS = (
    Program(seeded(LatentMixture).model, (values(5),), edges=edges("z -> x")),
    Program(seeded(MixtureOfMixtures).model, (values(5),)),
    Program(seeded(SharedWeightsWithin).model, (values(5),)),
    Program(seeded(WeightsByDatum).model, (values(5, 2),), edges=edges("x -> y")),
    Program(seeded(BroadcastMixture).model, (values(5),), edges=edges("x -> z", "z -> y")),
    Program(seeded(DiagonalComponents).model, (values(5, 2),), edges=edges("z -> x", "shift -> x", "level -> x")),
    Program(seeded(VectorComponents).model, (values(5, 2),), edges=edges("z -> x", "share -> x", "label -> x")),
    Program(seeded(TransformedComponents).model, (values(5),), edges=edges("z -> x", "u -> x")),
    Program(
        seeded(ChosenByMask).model,
        (values(5, 2), bits(5)),
        edges=edges("mask -> z", "mask -> y", "z -> x", "y -> x"),
    ),
    Program(seeded(Inflated).model, (values(5),), edges=edges("z -> x", "n -> x", "m -> x")),
    Program(seeded(Folded).model, (values(5),), edges=edges("z -> x", "y -> x")),
    Program(seeded(Angles).model, (values(5),), edges=edges("angle -> x")),
    Program(kalman.model, (values(4, 5, 3),)),
    Program(kalman.of_any_length, (values(5, 3),)),
    Program(kalman.latent, (values(5),), edges=edges("z -> y")),
    Program(kalman.changing, (values(5, 4, 3),)),
    Program(kalman.heavy, (values(4, 5, 3),)),
    Program(kalman.side_by_side, (values(5, 3),)),
    Program(heavy_tailed.model, (values(5, 3).exp(),)),
    Program(heavy_tailed.bounded, (values(5, 3).sigmoid(),)),
    Program(switching.model, (values(4, 5),)),
    Program(switching.vectors, (values(4, 5, 2),)),
    Program(switching.latent_labels, (values(5),), edges=edges("z -> y")),
    Program(switching.of_mixtures, (values(5),)),
    Program(seeded(Field).model, (values(4, 5, 3),)),
    Program(seeded(Grouped).model, (values(5), torch.tensor([0, 2, 1, 2, 0]))),
)
