"""Handlers inside the program, and sites that are no random variables."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from tests.programs.program import Program, edges, values


def deterministic_sites(x: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
    scale = pyro.deterministic("scale", raw.exp())
    with pyro.plate("data", len(x)):
        shifted = pyro.deterministic("shifted", x + loc)
        pyro.sample("x", dist.Normal(shifted, scale), obs=x)


def _inner(size: int) -> Tensor:
    a = pyro.sample("a", dist.Normal(torch.zeros(size), 1.0).to_event(1))
    return pyro.sample("b", dist.Normal(a.sum(), 1.0))


def conditioned(x: Tensor, b: Tensor) -> None:
    """A program that conditions a part of itself: the value is data, and sampled."""
    b = poutine.condition(_inner, data={"b": b})(2)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(b, 1.0), obs=x)


def done(x: Tensor) -> None:
    """``pyro.poutine.do``: the site is replaced by the value, and is no site."""
    b = poutine.do(_inner, data={"a": torch.ones(2)})(2)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(b, 1.0), obs=x)


def blocked(x: Tensor) -> None:
    """A blocked part is hidden from inference; whatever it draws is a draw of the program."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with poutine.block(hide=["w"]):
            z = z * 2
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def scoped(x: Tensor) -> None:
    """``poutine.scope`` puts a prefix before the names of sites."""
    from pyro.contrib.autoname import scope

    with scope(prefix="first"):
        b = _inner(2)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(b, 1.0), obs=x)


def reparameterised(x: Tensor) -> None:
    from pyro.infer.reparam import LocScaleReparam

    with poutine.reparam(config={"z": LocScaleReparam(centered=0.0)}), pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.tensor(1.0), torch.tensor(2.0)))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def with_defaults(x: Tensor, noise: float = 0.5, center: Tensor | None = None) -> None:
    """``obs=None`` where no data are given."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, noise))
        pyro.sample("y", dist.Normal(z, 1.0), obs=center)


def observed_keyword(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        pyro.sample("x", dist.Normal(z, 1.0), obs=x, infer={})


_CONDITIONED = poutine.condition(with_defaults, data={"y": values(4)})
_PREFIXED = poutine.block(observed_keyword, hide=["nothing"])


PROGRAMS = (
    Program(
        deterministic_sites,
        (values(4),),
        edges=edges("raw -> scale", "loc -> shifted", "x_1 -> shifted", "shifted -> x", "scale -> x"),
    ),
    Program(conditioned, (values(4), torch.tensor(0.5))),
    Program(done, (values(4),)),
    Program(blocked, (values(4),)),
    Program(scoped, (values(4),)),
    Program(reparameterised, (values(4),)),
    Program(with_defaults, (values(4),), edges=edges("z -> y")),
    Program(observed_keyword, (values(4),)),
    Program(_CONDITIONED, (values(4),), name="conditioned from outside", edges=edges("z -> y")),
    Program(_PREFIXED, (values(4),), name="blocked from outside"),
)
