"""Arguments of every shape, and programs of every kind of callable."""

import functools
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from tests.programs.program import Program, edges, values


def from_a_dict(batch: dict[str, Any]) -> None:
    with pyro.plate("data", len(batch["x"])):
        z = pyro.sample("z", dist.Normal(batch["x"], 1.0))
        pyro.sample("y", dist.Normal(z + batch["deep"]["bias"], 1.0), obs=batch["y"])


def from_a_list(tensors: list[Tensor], pair: tuple[Tensor, float]) -> None:
    x, y = tensors
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x, pair[1]))
        pyro.sample("y", dist.Normal(z * pair[0], 1.0), obs=y)


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


def from_a_named_tuple(batch: Batch) -> None:
    with pyro.plate("data", len(batch.x)):
        z = pyro.sample("z", dist.Normal(batch.x, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=batch.y)


def by_keyword(x: Tensor, *, y: Tensor, scale: Tensor, flag: bool = False) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x if flag else -x, scale))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def whole_number(batch_size: int, features: int) -> None:
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(torch.zeros(features), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.mean(-1), 1.0))


def number_equal_to_the_batch(x: Tensor, size: int) -> None:
    with pyro.plate("data", size):
        z = pyro.sample("z", dist.Normal(x, 1.0))
        pyro.sample("y", dist.Normal(z / size, 1.0))


def no_arguments() -> None:
    data = torch.tensor([1.0, 2.0, 3.0])
    p = pyro.sample("p", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", 3):
        pyro.sample("x", dist.Exponential(p), obs=data)


def spread(*tensors: Tensor, **more: Tensor) -> None:
    with pyro.plate("data", len(tensors[0])):
        z = pyro.sample("z", dist.Normal(tensors[0] + tensors[1], 1.0))
        pyro.sample("y", dist.Normal(z + more["shift"], 1.0))


def _general(scale: float, x: Tensor, depth: int = 1) -> None:
    with pyro.plate("data", len(x)):
        z = torch.zeros(len(x))
        for i in range(depth):
            z = pyro.sample(f"z_{i}", dist.Normal(z, scale))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class Callable:
    """An object that is called: what it holds are constants."""

    def __init__(self, prior: Tensor) -> None:
        self.prior = prior

    def __call__(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.prior, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def method(self, x: Tensor) -> None:
        self(x * 2.0)


def tree(x: Tensor, structure: Any = (None, (None, None))) -> Tensor:
    """Recursion over a data structure."""

    def visit(node: Any, name: str, above: Tensor) -> Tensor:
        if node is None:
            return pyro.sample(f"leaf{name}", dist.Normal(above, 1.0))
        inner = pyro.sample(f"node{name}", dist.Normal(above, 1.0))
        return sum(visit(part, f"{name}.{i}", inner) for i, part in enumerate(node))

    return visit(structure, "", x)


def autoregressive_targets(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Normal(x, 1.0))
        b = pyro.sample("b", dist.Normal(a.sin(), 1.0))
        pyro.sample("c", dist.Normal(a * b, 1.0))


def _weighed(function: Any) -> Any:
    """A decorator of the user's own."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with poutine.scale(scale=0.5):
            return function(*args, **kwargs)

    return wrapped


@_weighed
def decorated_by_the_user(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


@pyro.plate("parts", 3)
def decorated_by_a_plate() -> None:
    pyro.sample("z", dist.Normal(0.0, 1.0))


class Namespace:
    """Functions that stand in a class."""

    scale = 2.0

    @staticmethod
    def static(x: Tensor) -> None:
        decorated_by_the_user(x)

    @classmethod
    def of_the_class(cls, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, cls.scale), obs=x)


def over_a_generator(x: Tensor) -> None:
    """Sites in a generator, which runs as it is read."""

    def steps() -> Any:
        for t in range(3):
            yield pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0))

    total = sum(steps())
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(total, 1.0), obs=x)


def shaped_by_the_call(x: Tensor) -> None:
    """``pyro.sample`` passes a sample shape on to its law."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0), torch.Size((3,)))
    y = pyro.sample("y", dist.Normal(z.sum(), 1.0), sample_shape=torch.Size((2,)))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(pyro.barrier(y).sum(), 1.0), obs=x)


PROGRAMS = (
    Program(
        from_a_dict,
        ({"x": values(4), "y": values(4, seed=1), "deep": {"bias": torch.tensor(0.5)}},),
        edges=edges("batch.x -> z", "z -> y", "batch.deep.bias -> y"),
    ),
    Program(from_a_list, ([values(4), values(4, seed=1)], (torch.tensor(2.0), 0.5))),
    Program(from_a_named_tuple, (Batch(values(4), values(4, seed=1)),)),
    Program(by_keyword, (values(4),), {"y": values(4, seed=1), "scale": torch.tensor(0.5), "flag": True}),
    Program(whole_number, (4, 3), edges=edges("z -> x")),
    Program(number_equal_to_the_batch, (values(4), 4), edges=edges("x -> z", "z -> y")),
    Program(no_arguments, other_size=False, edges=edges("p -> x")),
    Program(spread, (values(4), values(4, seed=1)), {"shift": values(4, seed=2)}),
    Program(functools.partial(_general, 0.5, depth=2), (values(4),), name="partial"),
    Program(Callable(torch.tensor([1.0, -1.0])), (values(4),)),
    Program(Callable(torch.tensor([1.0, -1.0])).method, (values(4),)),
    Program(tree, (values(3),), targets="all"),
    Program(
        autoregressive_targets, (values(4),), targets=["b", "c"], edges=edges("x -> a", "a -> b", "a -> c", "b -> c")
    ),
    Program(decorated_by_the_user, (values(4),), edges=edges()),
    Program(decorated_by_a_plate, other_size=False, name="decorated_by_a_plate", edges=edges()),
    Program(Namespace.static, (values(4),), edges=edges()),
    Program(Namespace.of_the_class, (values(4),), edges=edges()),
    Program(
        functools.partial(poutine.scale(functools.partial(_general, 0.5), scale=0.3), depth=2),
        (values(4),),
        name="partial of a handler of a partial",
        edges=edges("z_0 -> z_1", "z_1 -> x"),
    ),
    Program(over_a_generator, (values(4),), edges=edges("z_0 -> x", "z_1 -> x", "z_2 -> x")),
    Program(shaped_by_the_call, (values(4),), edges=edges("z -> y", "y -> x")),
)
