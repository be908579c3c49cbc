"""Effect handlers around the user's model, and inside it: what each means for the graph.

A graph says what a program draws, and from which laws. A handler that changes laws, weights or what is observed
changes the graph; one that only chooses values, seeds or inference does not.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from torch import Tensor

from tests.programs.program import Program, bits, edges, values


def chain(x: Tensor) -> Tensor:
    """What most handlers below are put around."""
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(loc, scale))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    return z


def unobserved(x: Tensor) -> Tensor:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(loc * x, 0.5))
        return pyro.sample("y", dist.Normal(z, 1.0))


def _with_plates(x: Tensor) -> None:
    """Deterministic sites in a plate, one of which is of one element."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        size = pyro.deterministic("size", z.exp())
        two = pyro.deterministic("two", torch.tensor(2.0))
        pyro.sample("x", dist.Normal(size * two, 1.0), obs=x)


def _theta(*args: object, **kwargs: object) -> Tensor:
    return pyro.sample("theta", dist.LogNormal(0.0, 1.0))


def _read_twice(x: Tensor) -> None:
    w, again = pyro.param("w", torch.zeros(())), pyro.param("w")
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(w + again, 1.0), obs=x)


@poutine.scale(scale=0.25)
@poutine.mask(mask=torch.tensor([True, False, True, True]))
def decorated(x: Tensor) -> None:
    """Handlers as decorators: the signature is the function's own."""
    with pyro.plate("data", 4):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class Decorated:
    """A decorated method still knows its object."""

    scale = torch.tensor(2.0)

    @poutine.scale(scale=2.0)
    @poutine.mask(mask=False)
    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, self.scale), obs=x)


# -- inside the model --------------------------------------------------------------------------------------------------


def weighed_inside(x: Tensor, seen: Tensor) -> None:
    """Masks are joined and scales multiplied, whatever the order."""
    with pyro.plate("data", len(x)):
        draw = poutine.mask(lambda: pyro.sample("z", dist.Normal(0.0, 1.0)), mask=seen > 0)
        z = poutine.scale(draw, scale=3.0)()
        with poutine.scale(scale=0.5), poutine.mask(mask=seen > 0), poutine.scale(scale=4.0), poutine.mask(mask=x < 1):
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.zeros(len(x)))


def scaled_by_tensors(x: Tensor, weight: Tensor) -> None:
    """Scales that are computed multiply as well."""
    with poutine.scale(scale=weight.exp()), pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=weight + 1.0):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def asks_for_the_mask(x: Tensor) -> None:
    """``poutine.get_mask`` is how a program spares itself work that the mask drops."""
    with poutine.mask(mask=False), pyro.plate("data", len(x)):
        loc = 0.0 if poutine.get_mask() is False else 1.0
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def unconditioned_inside(x: Tensor) -> None:
    """The data of the part are not looked at: it is a latent."""
    y = poutine.uncondition(lambda: pyro.sample("y", dist.Normal(1.0, 1.0), obs=torch.tensor(0.3)))()
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(y, 1.0), obs=x)


def traced_inside(x: Tensor) -> None:
    """A part is run under ``poutine.trace``, and its values are taken out of the trace."""

    def part() -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(a, 1.0))

    b = poutine.trace(part).get_trace().nodes["b"]["value"]
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(b, 1.0), obs=x)


def replayed_inside(x: Tensor) -> None:
    """The plate stands outside of ``poutine.replay``: the site has the shape that it has without it."""
    with pyro.plate("data", len(x)):
        z = poutine.replay(lambda: pyro.sample("z", dist.Normal(0.0, 1.0)), trace=_TRACE)()
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def lifted_inside(x: Tensor) -> None:
    """One of two parameters is lifted."""

    def part() -> Tensor:
        return pyro.param("w", torch.zeros(())) + pyro.param("v", torch.tensor(1.0))

    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(poutine.lift(part, prior={"w": dist.Normal(0.0, 2.0)})(), 1.0), obs=x)


def seeded_inside(x: Tensor) -> None:
    """A seed chooses the value and not the law."""
    with pyro.plate("data", len(x)):
        with poutine.seed(rng_seed=3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def hidden_inside(x: Tensor) -> None:
    """A hidden draw is a draw of the program."""
    with poutine.block(hide=["w"]):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


def hidden_and_unread(x: Tensor) -> None:
    """What is hidden and read by nothing is no part of the graph, even where its name repeats."""
    for _ in range(2):
        with poutine.block():
            pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def done_with_a_latent(x: Tensor) -> None:
    """``poutine.do`` puts a computed value in the place of a draw: no observation, and so no factor."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    z = poutine.do(lambda: pyro.sample("z", dist.Normal(0.0, 1.0)), data={"z": w * 2})()
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def escaped(x: Tensor) -> None:
    """A part that is left before it draws anything."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    part = poutine.escape(lambda: pyro.sample("w", dist.Normal(0.0, 1.0)), escape_fn=lambda msg: msg["name"] == "w")
    try:
        part()
    except poutine.NonlocalExit as left:
        left.reset_stack()
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


_TRACE = poutine.trace(chain).get_trace(values(4))
_DATA, _OTHER = values(4, seed=3), values(4, seed=4)
_CHAIN = edges("loc -> z", "z -> x")

AROUND = (
    Program(poutine.scale(poutine.mask(chain, mask=True), scale=0.5), (values(4),), name="scaled", edges=_CHAIN),
    Program(
        poutine.scale(poutine.mask(chain, mask=torch.tensor([True, False, True, True])), scale=0.5),
        (values(4),),
        name="masked by four values",
        other_size=False,
        edges=_CHAIN,
    ),
    Program(poutine.mask(chain, mask=False), (values(4),), name="masked altogether", edges=_CHAIN),
    # What is conditioned is a target. Its data are no part of the graph, as those of any observed site.
    Program(poutine.condition(chain, data={"z": _DATA}), (values(4),), name="a latent conditioned", edges=_CHAIN),
    Program(
        poutine.condition(poutine.condition(unobserved, data={"y": _OTHER}), data={"z": _DATA}),
        (values(4),),
        name="conditioned twice",
        edges=edges("loc -> z", "x -> z", "z -> y"),
    ),
    # The trace holds the plate's four indices as well.
    Program(
        poutine.condition(chain, data=_TRACE),
        (values(4),),
        name="conditioned on a trace",
        other_size=False,
        edges=_CHAIN,
    ),
    # What is done is cut off: the site is still drawn, and what reads it reads the value instead.
    Program(
        poutine.do(chain, data={"loc": torch.tensor(3.0)}),
        (values(4),),
        name="done from outside",
        edges=edges("z -> x"),
    ),
    Program(poutine.do(chain, data={"loc": 3.0}), (values(4),), name="done by a number", edges=edges("z -> x")),
    Program(
        poutine.do(chain, data={"z": _DATA}),
        (values(4),),
        name="done in a plate",
        other_size=False,
        edges=edges("loc -> z"),
    ),
    Program(
        poutine.condition(poutine.do(unobserved, data={"z": _DATA}), data={"y": _OTHER}),
        (values(4),),
        name="done and conditioned",
        other_size=False,
        edges=edges("loc -> z", "x -> z"),
    ),
    # A hidden draw is a latent; a hidden observation is the data that it returns.
    Program(poutine.block(chain, hide=["z"]), (values(4),), name="a latent hidden", edges=_CHAIN),
    Program(poutine.block(chain, expose=["x"]), (values(4),), name="all latents hidden", edges=_CHAIN),
    Program(poutine.block(chain, hide=["x"]), (values(4),), name="the data hidden", edges=edges("loc -> z")),
    Program(poutine.block(chain, hide_types=["param"]), (values(4),), name="parameters hidden", edges=_CHAIN),
    # Nothing is observed: the targets are the sites without children.
    Program(poutine.uncondition(chain), (values(4),), name="unconditioned", edges=_CHAIN),
    Program(
        poutine.uncondition(_with_plates),
        (values(4),),
        name="deterministic sites unconditioned",
        edges=edges("z -> size", "size -> x", "two -> x"),
    ),
    # A replayed site is still drawn from its law: a trace holds values, and the graph holds none.
    Program(poutine.replay(chain, trace=_TRACE), (values(4),), name="replayed", other_size=False, edges=_CHAIN),
    # A lifted parameter is a latent.
    Program(
        poutine.lift(chain, prior={"scale": dist.LogNormal(0.0, 1.0)}),
        (values(4),),
        name="lifted by name",
        edges=edges("loc -> z", "scale -> z", "z -> x"),
    ),
    Program(
        poutine.lift(chain, prior=dist.LogNormal(0.0, 1.0)),
        (values(4),),
        name="lifted by a law",
        edges=edges("loc -> z", "scale -> z", "z -> x"),
    ),
    Program(
        poutine.lift(chain, prior=_theta),
        (values(4),),
        name="lifted by a stochastic function",
        edges=edges("loc -> z", "theta -> z", "z -> x"),
    ),
    Program(
        poutine.lift(_read_twice, prior={"w": dist.Normal(0.0, 2.0)}),
        (values(4),),
        name="lifted and read twice",
        edges=edges("w -> x"),
    ),
    Program(
        poutine.substitute(chain, data={"scale": torch.tensor(2.0)}), (values(4),), name="substituted", edges=_CHAIN
    ),
    Program(poutine.equalize(chain, sites=["loc", "z"]), (values(4),), name="equalised", edges=_CHAIN),
    # What only concerns inference changes nothing.
    Program(
        poutine.infer_config(chain, config_fn=lambda site: {"enumerate": "parallel"}),
        (values(4),),
        name="configured",
        edges=_CHAIN,
    ),
    Program(poutine.seed(chain, rng_seed=3), (values(4),), name="seeded", edges=_CHAIN),
    Program(poutine.trace(chain), (values(4),), name="traced", edges=_CHAIN),
    Program(poutine.trace(chain).get_trace, (values(4),), name="traced, by its method", edges=_CHAIN),
    Program(poutine.markov(chain), (values(4),), name="markov", edges=_CHAIN),
    Program(decorated, (values(4),), name="decorated", edges=edges("z -> x")),
    Program(Decorated().model, (values(4),), name="decorated method"),
)


def masked_within_the_event(x: Tensor, seen: Tensor) -> None:
    """Masks inside ``to_event``, where they weigh single dims of an event, beside masks outside of it."""
    with pyro.plate("data", len(x)), poutine.mask(mask=seen[:, 1]):
        z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).mask(seen[:, 0:1]).to_event(1))
        law = dist.MultivariateNormal(torch.zeros(4), torch.eye(4)).expand([len(x), 2])
        w = pyro.sample("w", law.mask(seen[:, :2]).to_event(1).mask(seen[:, 2]))
        pyro.sample("x", dist.Normal(z + w.sum(-2), 1.0).mask(seen).to_event(1), obs=x)


PROGRAMS = (
    *AROUND,
    Program(
        masked_within_the_event,
        (values(5, 4), bits(5, 4).bool()),
        edges=edges("seen -> z", "seen -> w", "seen -> x", "z -> x", "w -> x"),
    ),
    Program(weighed_inside, (values(4), bits(4)), edges=edges("seen -> z", "z -> y", "seen -> y", "x -> y")),
    Program(scaled_by_tensors, (values(4), torch.tensor(0.3)), edges=edges("weight -> z", "weight -> x", "z -> x")),
    Program(asks_for_the_mask, (values(4),)),
    Program(unconditioned_inside, (values(4),), edges=edges("y -> x")),
    Program(traced_inside, (values(4),), edges=edges("a -> b", "b -> x")),
    Program(replayed_inside, (values(4),), edges=edges("z -> x")),
    Program(lifted_inside, (values(4),), edges=edges("w -> x")),
    Program(seeded_inside, (values(4),), edges=edges("z -> x")),
    Program(hidden_inside, (values(4),), edges=edges("w -> x")),
    Program(hidden_and_unread, (values(4),), edges=edges()),
    Program(done_with_a_latent, (values(4),), edges=edges("w -> x")),
    Program(escaped, (values(4),), edges=edges("z -> x")),
)
