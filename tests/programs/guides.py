"""Guides as programs in their own right: written by hand, and all that Pyro writes.

Most of Pyro's draw one auxiliary vector and unpack it: the sites that they share with their model are then Deltas at
what it says, with the Jacobian in their log-density, and latents or targets like any other. The plates of such a
guide are those of the first call, so that no size is left to vary but that of an argument that nothing reads.
"""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.easyguide import EasyGuide, easy_guide
from pyro.distributions import constraints
from pyro.infer import autoguide
from pyro.infer.autoguide.initialization import init_to_value
from pyro.nn import PyroModule
from torch import Tensor, nn

from tests.programs.program import Program, edges, seeded, values


def model(x: Tensor) -> None:
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(a[0], s))
        pyro.sample("x", dist.Normal(z + a[1], s), obs=x)


def supports(x: Tensor) -> None:
    """Latents whose supports are no whole spaces: a simplex, an interval."""
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    u = pyro.sample("u", dist.Uniform(-1.0, 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(u + p[0], p[1] + 0.1), obs=x)


def gaussian(x: Tensor) -> None:
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(a.sum(), 1.0), obs=x)


def mixture(x: Tensor) -> None:
    locs = pyro.sample("locs", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)


def mean_field(x: Tensor) -> None:
    """Global draws from parameters, a point estimate, and local draws from the data."""
    loc = pyro.param("loc", torch.zeros(2))
    scale = pyro.param("scale", torch.ones(2), constraint=constraints.positive)
    a = pyro.sample("a", dist.Normal(loc, scale).to_event(1))
    s = pyro.sample("s", dist.Delta(pyro.param("s_map", torch.tensor(1.0), constraint=constraints.positive)))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x * a[0], s))


def auxiliary(x: Tensor) -> None:
    """An auxiliary draw, unpacked by hand as Pyro's guides do it."""
    both = pyro.sample("both", dist.Normal(torch.zeros(3), 1.0).to_event(1), infer={"is_auxiliary": True})
    a = pyro.sample("a", dist.Delta(both[:2], event_dim=1))
    s = pyro.sample("s", dist.Delta(both[2].exp(), log_density=-both[2]))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x * a[0], s))


class Amortised(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc, raw = self.net(x.unsqueeze(-1)).unbind(-1)
            pyro.sample("z", dist.Normal(loc, raw.exp()))


class Grouped(EasyGuide):
    """An easy guide: one draw for a group of sites, and a plate of its own."""

    def guide(self, x: Tensor) -> None:
        group = self.group(match="a|s")
        loc = pyro.param("loc", torch.zeros(group.event_shape))
        group.sample("both", dist.Normal(loc, 1.0).to_event(1))
        with self.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))


class Estimated(EasyGuide):
    def guide(self, x: Tensor) -> None:
        self.map_estimate("a")
        self.map_estimate("s")
        with self.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))

    def init(self, site: Any) -> Tensor:
        return torch.ones(site["fn"].shape())


@easy_guide(gaussian)
def from_a_function(self: Any, x: Tensor) -> None:
    self.map_estimate("a")


def _listed() -> Any:
    """A guide for each kind of site."""
    guide = autoguide.AutoGuideList(mixture)
    guide.append(autoguide.AutoNormal(poutine.block(mixture, hide=["k"])))
    guide.append(autoguide.AutoDiscreteParallel(poutine.block(mixture, expose=["k"])))
    return guide


def _listed_with_a_function() -> Any:
    def of_one_site(x: Tensor) -> None:
        pyro.sample("s", dist.LogNormal(pyro.param("loc_of_s", torch.tensor(0.5)), 0.1))

    guide = autoguide.AutoGuideList(model)
    guide.append(autoguide.AutoDiagonalNormal(poutine.block(model, hide=["s"])))
    guide.append(of_one_site)
    return guide


def _used(guide: Any) -> Any:
    """A guide that was called before, so that it has its parameters."""
    seeded(lambda: guide(*_X))
    return guide


def _laplace() -> Any:
    return seeded(lambda: _used(autoguide.AutoLaplaceApproximation(gaussian)).laplace_approximation(*_X))


_X = (values(4),)


def _from_one_draw(name: str, *sites: str) -> Any:
    return edges(*(f"_{name}_latent -> {site}" for site in sites))


PROGRAMS = (
    Program(mean_field, _X, targets="all", edges=edges("a -> z", "s -> z", "x -> z")),
    Program(auxiliary, _X, targets="all", edges=edges("both -> a", "both -> s", "a -> z", "s -> z", "x -> z")),
    Program(seeded(Amortised), _X, name="Amortised", edges=edges("x -> z")),
    Program(autoguide.AutoDelta(model), _X, targets="all", name="AutoDelta", edges=edges()),
    Program(
        autoguide.AutoDelta(model, init_loc_fn=init_to_value(values={"a": torch.ones(2), "s": torch.tensor(2.0)})),
        _X,
        name="AutoDelta from values",
        float64=False,
        edges=edges(),
    ),
    Program(
        autoguide.AutoNormal(model),
        _X,
        name="AutoNormal",
        edges=edges("a_unconstrained -> a", "s_unconstrained -> s", "z_unconstrained -> z"),
    ),
    Program(
        autoguide.AutoNormal(supports),
        _X,
        targets="all",
        name="AutoNormal on other supports",
        edges=edges("p_unconstrained -> p", "u_unconstrained -> u"),
    ),
    Program(
        autoguide.AutoDiagonalNormal(model),
        _X,
        name="AutoDiagonalNormal",
        edges=_from_one_draw("AutoDiagonalNormal", "a", "s", "z"),
    ),
    Program(
        _used(autoguide.AutoDiagonalNormal(supports)),
        _X,
        name="AutoDiagonalNormal on other supports",
        edges=_from_one_draw("AutoDiagonalNormal", "p", "u"),
    ),
    Program(
        autoguide.AutoMultivariateNormal(model),
        _X,
        name="AutoMultivariateNormal",
        edges=_from_one_draw("AutoMultivariateNormal", "a", "s", "z"),
    ),
    Program(
        autoguide.AutoLowRankMultivariateNormal(model, rank=2),
        _X,
        targets="all",
        name="AutoLowRankMultivariateNormal",
        edges=_from_one_draw("AutoLowRankMultivariateNormal", "a", "s", "z"),
    ),
    Program(
        autoguide.AutoLaplaceApproximation(model),
        _X,
        name="AutoLaplaceApproximation",
        edges=_from_one_draw("AutoLaplaceApproximation", "a", "s", "z"),
    ),
    Program(_laplace(), _X, name="Laplace's normal", edges=_from_one_draw("AutoMultivariateNormal", "a")),
    Program(
        autoguide.AutoIAFNormal(gaussian, hidden_dim=[3]),
        _X,
        name="AutoIAFNormal",
        edges=_from_one_draw("AutoIAFNormal", "a"),
    ),
    Program(
        autoguide.AutoStructured(model),
        _X,
        name="AutoStructured",
        edges=edges("a_aux -> a", "a_aux -> s", "a_aux -> z", "s_aux -> s", "s_aux -> z", "z_aux -> z"),
    ),
    Program(
        autoguide.AutoStructured(
            model, conditionals={"a": "mvn", "s": "normal", "z": "delta"}, dependencies={"z": {"a": "linear"}}
        ),
        _X,
        targets="all",
        name="AutoStructured as told",
        edges=edges("a_aux -> a", "a_aux -> z", "s_aux -> s"),
    ),
    Program(
        autoguide.AutoGaussian(model),
        _X,
        name="AutoGaussian",
        edges=_from_one_draw("AutoGaussianDense", "a", "s", "z"),
    ),
    Program(
        autoguide.AutoDiscreteParallel(poutine.block(mixture, expose=["k"])),
        _X,
        name="AutoDiscreteParallel",
        edges=edges(),
    ),
    Program(_listed(), _X, targets="all", name="AutoGuideList", edges=edges("locs_unconstrained -> locs")),
    Program(
        _listed_with_a_function(),
        _X,
        name="AutoGuideList with a function",
        edges=edges("_AutoGuideList.0_latent -> a", "_AutoGuideList.0_latent -> z"),
    ),
    Program(seeded(lambda: Grouped(model)), _X, name="Grouped", edges=edges("both -> a", "both -> s", "x -> z")),
    Program(seeded(lambda: Estimated(model)), _X, name="Estimated", edges=edges("x -> z")),
    Program(seeded(lambda: from_a_function), _X, name="from a function", edges=edges()),
)
