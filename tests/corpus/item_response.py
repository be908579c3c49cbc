"""Persons answer questions: one, two and three parameters, graded answers, ability that changes."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits


def one_parameter(models: Tensor, items: Tensor, obs: Tensor, num_models: int = 3, num_items: int = 4) -> None:
    """Rasch's, from a list of answers."""
    with pyro.plate("thetas", num_models):
        ability = pyro.sample("theta", dist.Normal(torch.tensor(0.0), torch.tensor(1.0)))
    with pyro.plate("bs", num_items):
        diff = pyro.sample("b", dist.Normal(torch.tensor(0.0), torch.tensor(1e3)))
    with pyro.plate("observe_data", obs.size(0)):
        pyro.sample("obs", dist.Bernoulli(logits=ability[models] - diff[items]), obs=obs)


def two_parameters(answers: Tensor) -> None:
    """With hyperpriors on abilities, difficulties and discriminations."""
    mu_b = pyro.sample("mu_b", dist.Normal(0.0, 10.0))
    u_b = pyro.sample("u_b", dist.Gamma(1.0, 1.0))
    mu_gamma = pyro.sample("mu_gamma", dist.Normal(0.0, 1.0))
    u_gamma = pyro.sample("u_gamma", dist.Gamma(1.0, 1.0))
    persons = pyro.plate("persons", answers.shape[0], dim=-2)
    questions = pyro.plate("questions", answers.shape[1], dim=-1)
    with persons:
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    with questions:
        b = pyro.sample("b", dist.Normal(mu_b, 1.0 / u_b))
        slope = pyro.sample("slope", dist.LogNormal(mu_gamma, 1.0 / u_gamma))
    with persons, questions:
        pyro.sample("answer", dist.Bernoulli(logits=slope * (theta - b)), obs=answers)


def guessing(answers: Tensor, seen: Tensor) -> None:
    """Three parameters: one may guess; some were not asked."""
    n, items = answers.shape
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0).expand([n, 1]).to_event(2))
    with pyro.plate("items", items):
        a = pyro.sample("a", dist.HalfNormal(2.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        c = pyro.sample("c", dist.Beta(5.0, 17.0))
    p = c + (1 - c) * torch.sigmoid(a * (theta - b))
    pyro.sample("answer", dist.Bernoulli(p).mask(seen).to_event(2), obs=answers)


def graded(grades: Tensor) -> None:
    """Each question has cutpoints of its own, which are in order."""
    with pyro.plate("persons", len(grades), dim=-2):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    with pyro.plate("questions", grades.shape[1], dim=-1):
        raw = dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1)
        cut = pyro.sample("cut", dist.TransformedDistribution(raw, [OrderedTransform()]))
        with pyro.plate("persons_again", len(grades), dim=-2):
            pyro.sample("grade", dist.OrderedLogistic(theta, cut), obs=grades)


def knowledge_tracing(answers: Tensor) -> None:
    """Does the pupil know it yet? Once learnt it stays; slips and guesses."""
    p_start = pyro.sample("p_start", dist.Beta(1.0, 1.0))
    p_learn = pyro.sample("p_learn", dist.Beta(1.0, 3.0))
    slip, guess = pyro.sample("slip_guess", dist.Beta(1.0, 4.0).expand([2]).to_event(1)).unbind()
    with pyro.plate("pupils", len(answers)):
        knows = pyro.sample("knows_0", dist.Bernoulli(p_start))
        for t in pyro.markov(range(answers.shape[1])):
            if t > 0:
                knows = pyro.sample(f"knows_{t}", dist.Bernoulli(knows + (1 - knows) * p_learn))
            right = knows * (1 - slip) + (1 - knows) * guess
            pyro.sample(f"answer_{t}", dist.Bernoulli(right), obs=answers[:, t])


ENTRIES = (
    Entry(
        one_parameter,
        (torch.tensor([0, 1, 2, 2, 0]), torch.tensor([0, 1, 2, 3, 3]), bits(5)),
        sites=(2, 1),
        note="indices of persons and items as inputs",
    ),
    Entry(two_parameters, (bits(3, 4),), sites=(7, 1), note="hyperpriors, crossed plates"),
    Entry(
        guessing, (bits(3, 4), bits(3, 4, seed=3).bool()), sites=(4, 1), note="a mask of single answers in one event"
    ),
    Entry(graded, (torch.tensor([[0, 1, 2], [2, 1, 0]]),), sites=(2, 1), note="ordered cutpoints in a plate"),
    Entry(knowledge_tracing, (bits(3, 4),), sites=(7, 4), note="an absorbing chain; a latent that is unbound"),
)
