"""Who is better: pairs, leagues, races."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values


def bradley_terry(first: Tensor, second: Tensor, won: Tensor, players: int = 4) -> None:
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    with pyro.plate("players", players):
        skill = pyro.sample("skill", dist.Normal(0.0, scale))
    with pyro.plate("games", len(won)):
        pyro.sample("won", dist.Bernoulli(logits=skill[first] - skill[second]), obs=won)


def trueskill(first: Tensor, second: Tensor) -> None:
    """The better performance wins: the result is a function of latents, observed through a Delta."""
    with pyro.plate("players", 4):
        skill = pyro.sample("skill", dist.Normal(25.0, 8.3))
    with pyro.plate("games", len(first)):
        mine = pyro.sample("mine", dist.Normal(skill[first], 4.2))
        yours = pyro.sample("yours", dist.Normal(skill[second], 4.2))
        pyro.sample("won", dist.Delta((mine > yours).float()))


def football(home: Tensor, away: Tensor, home_goals: Tensor, away_goals: Tensor, teams: int = 3) -> None:
    """Goals as Poisson counts of attack and defence; the last team's are minus the sum of the others'."""
    advantage = pyro.sample("advantage", dist.Normal(0.0, 0.5))
    scales = pyro.sample("scales", dist.HalfCauchy(torch.ones(2)).to_event(1))
    with pyro.plate("teams", teams - 1):
        attack = pyro.sample("attack", dist.Normal(0.0, scales[0]))
        defence = pyro.sample("defence", dist.Normal(0.0, scales[1]))
    attack = torch.cat([attack, -attack.sum(-1, keepdim=True)], -1)
    defence = torch.cat([defence, -defence.sum(-1, keepdim=True)], -1)
    with pyro.plate("games", len(home)):
        pyro.sample("home", dist.Poisson((advantage + attack[home] - defence[away]).exp()), obs=home_goals)
        pyro.sample("away", dist.Poisson((attack[away] - defence[home]).exp()), obs=away_goals)


def plackett_luce(orders: Tensor) -> None:
    """Races: one after another crosses the line; who has done so is masked out of the softmax."""
    runners = orders.shape[1]
    worth = pyro.sample("worth", dist.Normal(torch.zeros(runners), 1.0).to_event(1))
    left = torch.zeros(len(orders), runners)
    with pyro.plate("races", len(orders)):
        for place in range(runners - 1):
            runner = pyro.sample(f"place_{place}", dist.Categorical(logits=worth + left), obs=orders[:, place])
            left = left.scatter(-1, runner.unsqueeze(-1), -1e4)


def random_order(size: int = 4) -> None:
    """Judges see noisy merits and sort: the order is a function of latents."""
    merit = pyro.sample("merit", dist.Normal(torch.zeros(size), 1.0).to_event(1))
    with pyro.plate("judges", 3):
        seen = pyro.sample("seen", dist.Normal(merit, 0.5).to_event(1))
        order = seen.argsort(-1, descending=True)
        pyro.sample("best", dist.Categorical(probs=torch.nn.functional.one_hot(order[..., 0], size) * 0.9 + 0.025))


def paired_ties(first: Tensor, second: Tensor, outcome: Tensor) -> None:
    """Davidson's ties: three outcomes."""
    nu = pyro.sample("nu", dist.LogNormal(0.0, 1.0))
    with pyro.plate("players", 3):
        skill = pyro.sample("skill", dist.Gumbel(0.0, 1.0))
    gap = skill[first] - skill[second]
    logits = torch.stack([gap / 2, nu.log().expand_as(gap), -gap / 2], -1)
    with pyro.plate("games", len(outcome)):
        pyro.sample("outcome", dist.Categorical(logits=logits), obs=outcome)


A, B = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 2, 0, 2, 0])

ENTRIES = (
    Entry(bradley_terry, (A, B, bits(5)), sites=(2, 1), note="a difference of two reads"),
    Entry(trueskill, (A, B), sites=(3, 1), note="a target that is a Delta of latents"),
    Entry(football, (A, B, values(5).abs().round(), bits(5)), sites=(4, 2), note="a sum-to-zero constraint"),
    Entry(
        plackett_luce,
        (torch.tensor([[0, 1, 2], [2, 0, 1]]),),
        sites=(1, 2),
        note="targets are indices that mask later targets",
    ),
    Entry(random_order, sites=(2, 1), other_size=False, note="argsort of a latent"),
    Entry(paired_ties, (A, B, torch.tensor([0, 1, 2, 2, 0])), sites=(2, 1), note="a stack of scores"),
)
