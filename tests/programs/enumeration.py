"""Annotations for inference, which a graph does not know; and sites that are observed in part.

``infer={"enumerate": ...}``, ``config_enumerate``, ``pyro.markov``, ``poutine.enum`` and ``infer_discrete`` choose
how values of discrete sites are found. The program draws them from their laws all the same, and so does the graph:
under ``infer_discrete`` too, where Pyro draws from the posterior, as no law of such a draw can be given.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import config_enumerate, infer_discrete
from torch import Tensor

from tests.programs.program import Program, bits, edges, values


def annotated(x: Tensor) -> None:
    with pyro.plate("components", 3):
        locs = pyro.sample("locs", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
        on = pyro.sample("on", dist.Bernoulli(0.3), infer={"enumerate": "sequential", "expand": True})
        extra = pyro.sample("extra", dist.Normal(on, 1.0), infer={"enumerate": "parallel", "num_samples": 3})
        pyro.sample("x", dist.Normal(locs[k] + extra, 1.0), obs=x)


@config_enumerate
def configured(x: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal(torch.arange(3.0)[k] + loc, 1.0), obs=x)


class Configured:
    @config_enumerate(default="sequential", expand=True)
    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(0.3), obs=x)


def hidden_markov_twice(x: Tensor) -> None:
    """Two chains in a plate, a history of two steps, and a context that is kept."""
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    with pyro.plate("sequences", len(x)):
        fast = slow = torch.zeros(len(x), dtype=torch.long)
        for t in pyro.markov(range(x.shape[1]), history=2, keep=True):
            slow = pyro.sample(f"slow_{t}", dist.Categorical(table[slow]), infer={"enumerate": "parallel"})
            fast = pyro.sample(f"fast_{t}", dist.Categorical(table[fast]), infer={"enumerate": "parallel"})
            pyro.sample(f"x_{t}", dist.Normal((slow + fast).to(x.dtype), 1.0), obs=x[:, t])


def markov_functions(x: Tensor) -> None:
    """``pyro.markov`` as a decorator and as a context."""

    @pyro.markov
    def step(t: int, z: Tensor) -> Tensor:
        return pyro.sample(f"z_{t}", dist.Normal(z, 1.0))

    z = torch.zeros(len(x))
    with pyro.plate("data", len(x)):
        for t in range(2):
            z = step(t, z)
        with pyro.markov():
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


# -- observed in part --------------------------------------------------------------------------------------------------
# ``obs_mask`` makes three sites: ``x_observed`` and ``x_unobserved``, each weighed by its mask, and ``x``, which takes
# the one or the other. Both are drawn, and the first is a target.


def partly_observed(x: Tensor, seen: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(loc, 1.0), obs=x, obs_mask=seen > 0)
        pyro.sample("y", dist.Normal(z, 1.0))


def partly_observed_vectors(x: Tensor, seen: Tensor) -> None:
    """The mask is one of events; the site has a scale, and is read again."""
    with pyro.plate("data", len(x)), poutine.scale(scale=0.5):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x, obs_mask=seen > 0)
        pyro.sample("y", dist.Normal(z.sum(-1) + x.sum(-1), 1.0))


def partly_observed_under_masks(x: Tensor, seen: Tensor, valid: Tensor) -> None:
    with pyro.plate("data", len(x)), poutine.mask(mask=valid > 0):
        pyro.sample("z", dist.Normal(0.0, 1.0).mask(x > -1), obs=x, obs_mask=seen > 0)


def not_observed_after_all(x: Tensor, seen: Tensor) -> None:
    """A mask, and no data: both parts are latents."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0), obs=None, obs_mask=seen > 0)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


_PARTS = ("z_observed -> z", "z_unobserved -> z", "seen -> z", "seen -> z_observed", "seen -> z_unobserved")

PROGRAMS = (
    Program(annotated, (values(4),), edges=edges("locs -> x", "k -> x", "on -> extra", "extra -> x")),
    Program(configured, (values(4),), name="configured to enumerate", edges=edges("loc -> x", "k -> x")),
    Program(Configured().model, (bits(4),), name="configured method"),
    Program(
        infer_discrete(configured, first_available_dim=-2),
        (values(4),),
        name="infer_discrete",
        edges=edges("loc -> x", "k -> x"),
    ),
    Program(
        infer_discrete(configured, first_available_dim=-2, temperature=0),
        (values(4),),
        name="infer_discrete, the most probable",
        edges=edges("loc -> x", "k -> x"),
    ),
    Program(
        poutine.enum(configured, first_available_dim=-2),
        (values(4),),
        name="enumerated",
        edges=edges("loc -> x", "k -> x"),
    ),
    Program(
        hidden_markov_twice,
        (values(4, 2),),
        edges=edges(
            "slow_0 -> slow_1", "fast_0 -> fast_1", "slow_0 -> x_0", "fast_0 -> x_0", "slow_1 -> x_1", "fast_1 -> x_1"
        ),
    ),
    Program(markov_functions, (values(4),), edges=edges("z_0 -> z_1", "z_1 -> x")),
    Program(
        partly_observed,
        (values(4), bits(4)),
        edges=edges("loc -> z_observed", "loc -> z_unobserved", "z -> y", *_PARTS),
    ),
    Program(partly_observed_vectors, (values(4, 2), bits(4)), edges=edges("z -> y", "z_observed -> y", *_PARTS)),
    Program(partly_observed_under_masks, (values(4), bits(4), bits(4, seed=2))),
    Program(not_observed_after_all, (values(4), bits(4)), edges=edges("z -> x", *_PARTS)),
)
