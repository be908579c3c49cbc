"""Choices, memories and reaction times."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values


def working_memory(length: Tensor, y: Tensor | None = None) -> Tensor:
    """The design tutorial's: how many digits can one remember? Designs come in any batch shape."""
    with pyro.plate_stack("plate", length.shape[:-1]):
        theta = pyro.sample("theta", dist.Normal(7.0, 2.0))
        theta = theta.unsqueeze(-1)
        return pyro.sample("y", dist.Bernoulli(logits=5.0 * (theta - length)).to_event(1), obs=y)


def reinforcement(choices: Tensor, rewards: Tensor) -> None:
    """Rescorla and Wagner: the values of two arms follow what was chosen, which is observed."""
    with pyro.plate("subjects", len(choices)):
        rate = pyro.sample("rate", dist.Beta(2.0, 2.0))
        temperature = pyro.sample("temperature", dist.Gamma(2.0, 1.0))
        q = torch.zeros(len(choices), 2)
        for t in range(choices.shape[1]):
            choice = pyro.sample(
                f"choice_{t}", dist.Categorical(logits=temperature.unsqueeze(-1) * q), obs=choices[:, t]
            )
            chosen = torch.nn.functional.one_hot(choice, 2)
            error = rewards[:, t].unsqueeze(-1) - q
            q = q + rate.unsqueeze(-1) * chosen * error


def signal_detection(hits: Tensor, false_alarms: Tensor, signals: float = 20.0) -> None:
    """Sensitivity and bias of subjects, from two counts of each."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    sd = pyro.sample("sd", dist.HalfNormal(torch.ones(2)).to_event(1))
    with pyro.plate("subjects", len(hits)):
        d, c = pyro.sample("dc", dist.Normal(mu, sd).to_event(1)).unbind(-1)
        standard = dist.Normal(torch.tensor(0.0), torch.tensor(1.0))
        pyro.sample("hits", dist.Binomial(signals, standard.cdf(d / 2 - c)), obs=hits)
        pyro.sample("false_alarms", dist.Binomial(signals, standard.cdf(-d / 2 - c)), obs=false_alarms)


def forgetting(recalled: Tensor, delay: Tensor) -> None:
    """An exponential curve of each subject; a table of counts, of which the last column is not seen."""
    with pyro.plate("subject", recalled.shape[0], dim=-2):
        alpha = pyro.sample("alpha", dist.Beta(2.0, 8.0))
        beta = pyro.sample("beta", dist.Beta(1.0, 4.0))
        with pyro.plate("delay", recalled.shape[1], dim=-1):
            theta = torch.exp(-alpha * delay).clamp(max=0.99) * (1 - beta) + beta
            seen = torch.ones(recalled.shape[1], dtype=torch.bool)
            seen[-1] = False
            pyro.sample("k", dist.Binomial(18, theta).mask(seen), obs=recalled)


def reaction_times(rt: Tensor, condition: Tensor, subject: Tensor) -> None:
    """Shifted log-normal times; the shift has to be below each subject's fastest."""
    shift_share = pyro.sample("shift_share", dist.Beta(2.0, 2.0).expand([2]).to_event(1))
    effect = pyro.sample("effect", dist.Normal(0.0, 0.3))
    sigma = pyro.sample("sigma", dist.HalfNormal(0.5))
    with pyro.plate("subjects", 2):
        base = pyro.sample("base", dist.Normal(-0.5, 0.5))
    shift = 0.2 * shift_share[subject]
    law = dist.LogNormal(base[subject] + effect * condition, sigma)
    with pyro.plate("trials", len(rt)):
        moved = dist.transforms.AffineTransform(shift, 1.0)
        pyro.sample("rt", dist.TransformedDistribution(law, [moved]), obs=rt)


def weight_of_an_object(guess: Tensor) -> Tensor:
    """The introduction's scale, conditioned from outside on its reading."""
    weight = pyro.sample("weight", dist.Normal(guess, 1.0))
    tolerance = pyro.param("tolerance", torch.tensor(0.75), constraint=constraints.positive)
    return pyro.sample("measurement", dist.Normal(weight, tolerance))


ENTRIES = (
    Entry(working_memory, (torch.tensor([[5.0, 7.0, 9.0], [6.0, 8.0, 10.0]]),), sites=(1, 1), note="any batch shape"),
    Entry(
        reinforcement,
        (torch.tensor([[0, 1, 1], [1, 1, 0]]), bits(2, 3)),
        sites=(2, 3),
        note="what was chosen changes what is chosen next",
    ),
    Entry(
        signal_detection,
        (torch.tensor([15.0, 12.0, 18.0]), torch.tensor([5.0, 2.0, 9.0])),
        sites=(3, 2),
        note="unbind of a latent, a distribution used for its cdf",
    ),
    Entry(
        forgetting, (torch.ones(3, 4), torch.tensor([1.0, 2.0, 4.0, 7.0])), sites=(2, 1), note="a mask written by index"
    ),
    Entry(
        reaction_times,
        (values(5).abs() + 0.4, bits(5), torch.tensor([0, 0, 1, 1, 0])),
        sites=(4, 1),
        note="a target shifted by a transform of latents",
    ),
    Entry(
        pyro.condition(weight_of_an_object, data={"measurement": torch.tensor(9.5)}),
        (torch.tensor(8.5),),
        sites=(1, 1),
        other_size=False,
        name="weight_of_an_object",
        note="pyro.condition around the model",
    ),
)
