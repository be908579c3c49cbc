"""Networks of a few discrete variables, in tables and in Python."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits

RAIN = torch.tensor([0.01, 0.4])
WET = torch.tensor([[0.0, 0.8], [0.9, 0.99]])


def sprinkler() -> None:
    rain = pyro.sample("rain", dist.Bernoulli(0.2)).long()
    on = pyro.sample("sprinkler", dist.Bernoulli(RAIN[1 - rain])).long()
    pyro.sample("wet", dist.Bernoulli(Vindex(WET)[on, rain]))


def sprinkler_in_python() -> None:
    """The same as it is written on the first day."""
    rain = pyro.sample("rain", dist.Bernoulli(0.2))
    on = pyro.sample("sprinkler", dist.Bernoulli(0.01 if rain.item() == 1.0 else 0.4))
    if rain and on:
        chance = 0.99
    elif rain or on:
        chance = 0.85
    else:
        chance = 0.0
    pyro.sample("wet", dist.Bernoulli(chance))


def weather() -> tuple[str, float]:
    """The introduction's: a string by a number."""
    cloudy = pyro.sample("cloudy", dist.Bernoulli(0.3))
    word = "cloudy" if cloudy.item() == 1.0 else "sunny"
    mean = {"cloudy": 55.0, "sunny": 75.0}[word]
    temp = pyro.sample("temp", dist.Normal(mean, 10.0))
    return word, temp.item()


@config_enumerate
def asia(smoker: Tensor, dyspnoea: Tensor) -> None:
    """Lauritzen and Spiegelhalter's chest clinic: an or-gate, and eight variables."""
    with pyro.plate("patients", len(smoker)):
        visit = pyro.sample("asia", dist.Bernoulli(0.01))
        tuberculosis = pyro.sample("tub", dist.Bernoulli(0.01 + 0.04 * visit))
        smoker = pyro.sample("smoke", dist.Bernoulli(0.5), obs=smoker)
        cancer = pyro.sample("lung", dist.Bernoulli(0.01 + 0.09 * smoker))
        bronchitis = pyro.sample("bronc", dist.Bernoulli(0.3 + 0.3 * smoker))
        either = pyro.deterministic("either", torch.maximum(tuberculosis, cancer))
        pyro.sample("xray", dist.Bernoulli(0.05 + 0.93 * either))
        table = torch.tensor([[0.1, 0.8], [0.7, 0.9]])
        chance = Vindex(table)[either.long(), bronchitis.long()]
        pyro.sample("dysp", dist.Bernoulli(chance), obs=dyspnoea)


def alarm(graph: dict[str, list[str]], tables: dict[str, Tensor], data: dict[str, Tensor]) -> None:
    """Any network, from a dict of parents and a dict of tables: the program is made of its arguments."""
    drawn: dict[str, Tensor] = {}
    with pyro.plate("cases", len(next(iter(data.values())))):
        for name, parents in graph.items():
            logits = tables[name][tuple(drawn[p] for p in parents)]
            drawn[name] = pyro.sample(name, dist.Categorical(logits=logits), obs=data.get(name))


def rules_of_a_grammar(depth: int = 3) -> None:
    """A tree of fixed depth, of which the nodes are named by their path."""

    def expand(path: str, left: int) -> Tensor:
        kind = pyro.sample(f"rule{path}", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])))
        if left == 0:
            return kind.float()
        return kind + 0.5 * (expand(path + "/l", left - 1) + expand(path + "/r", left - 1))

    pyro.sample("length", dist.Poisson(1.0 + expand("", depth)), obs=torch.tensor(4.0))


def noisy_or(symptoms: Tensor) -> None:
    """Diseases and symptoms: a leak, and causes that fail independently."""
    with pyro.plate("diseases", 3):
        strength = pyro.sample("strength", dist.Beta(2.0 * torch.ones(4, 1), 2.0).to_event(0))
    with pyro.plate("patients", len(symptoms)), poutine.scale(scale=0.1):
        sick = pyro.sample("sick", dist.Bernoulli(0.1 * torch.ones(3)).to_event(1))
        healthy = (1 - strength * sick.unsqueeze(-2)).prod(-1) * 0.95
        pyro.sample("symptoms", dist.Bernoulli(1 - healthy).to_event(1), obs=symptoms)


NET = {"burglary": [], "earthquake": [], "alarm": ["burglary", "earthquake"], "call": ["alarm"]}
TABLES = {
    "burglary": torch.tensor([2.0, -2.0]),
    "earthquake": torch.tensor([3.0, -3.0]),
    "alarm": torch.tensor([[[4.0, -4.0], [0.5, -0.5]], [[-2.0, 2.0], [-3.0, 3.0]]]),
    "call": torch.tensor([[2.0, -2.0], [-2.0, 2.0]]),
}

ENTRIES = (
    Entry(sprinkler, sites=(2, 1), other_size=False, note="tables read by latents"),
    Entry(sprinkler_in_python, expect="value-branch", note="branches and .item(), as beginners write it"),
    Entry(weather, expect="value-branch", note="the introduction's first model"),
    Entry(asia, (bits(5), bits(5, seed=1)), sites=(5, 2), note="an or-gate as a deterministic site"),
    Entry(
        alarm,
        (NET, TABLES, {"call": torch.tensor([0, 1, 1, 0, 0])}),
        sites=(3, 1),
        note="the structure is an argument: a dict of lists of strings",
    ),
    Entry(rules_of_a_grammar, sites=(15, 1), other_size=False, note="recursion of a fixed depth; slashes in names"),
    Entry(noisy_or, (bits(5, 4),), sites=(2, 1), note="a plate that broadcasts a column; a product of many"),
)
