"""Programs that write into the weights of a submodule that is called whole: each is refused, and loses nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from tests.programs.program import values

OTHER = nn.Linear(3, 3)


def copied(net: Any, z: Tensor) -> None:
    with torch.no_grad():
        net.bias.copy_(z)


def from_a_vector(net: Any, z: Tensor) -> None:
    nn.utils.vector_to_parameters(torch.cat([net.weight.detach().reshape(-1) * 2, z]), net.parameters())


def loaded(net: Any, z: Tensor) -> None:
    net.load_state_dict({"weight": net.weight.detach() * 2, "bias": z})


def by_data(net: Any, z: Tensor) -> None:
    net.weight.data.copy_(z.expand(3, 3))


def other_data(net: Any, z: Tensor) -> None:
    net.weight.data = z.expand(3, 3) * 1


def initialised(net: Any, z: Tensor) -> None:
    nn.init.constant_(net.bias, 2.0)


def statistics(net: Any, z: Tensor) -> None:
    net.running_mean.copy_(z)


def inner(net: Any, z: Tensor) -> None:
    net[0].bias.data.copy_(z)


def of_another(net: Any, z: Tensor) -> None:
    with torch.no_grad():
        for mine, theirs in zip(net.parameters(), OTHER.parameters(), strict=True):
            mine.copy_(theirs)


def clamped(net: Any, z: Tensor) -> None:
    with torch.no_grad():
        net.weight.clamp_(min=0.0)


def another_parameter(net: Any, z: Tensor) -> None:
    net.bias = nn.Parameter(z.detach())


WRITES: list[tuple[Callable[[Any, Tensor], None], Callable[[], nn.Module], str]] = [
    *(
        (write, lambda: nn.Linear(3, 3), "state-write")
        for write in (copied, from_a_vector, loaded, by_data, other_data)
    ),
    *((write, lambda: nn.Linear(3, 3), "state-write") for write in (initialised, of_another, clamped)),
    (another_parameter, lambda: nn.Linear(3, 3), "fresh-parameter"),
    (statistics, lambda: nn.BatchNorm1d(3), "state-write"),
    (statistics, lambda: nn.BatchNorm1d(3).eval(), "state-write"),
    (inner, lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh()), "state-write"),
]


@pytest.mark.parametrize(("write", "make", "code"), WRITES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_weights_that_the_program_writes_are_no_weights(write: Any, make: Any, code: str, after: bool):
    net = make()
    state = copy.deepcopy(net.state_dict())

    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        if not after:
            write(net, z)
        loc = net(x)
        if after:
            write(net, z)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=x)

    with pytest.raises(dgm.CompileError) as found:
        dgm.trace(model, (values(4, 3),))
    assert {problem.code for problem in found.value.diagnostics} == {code}
    assert all(problem.location for problem in found.value.diagnostics)
    torch.testing.assert_close(net.state_dict(), state)


def test_a_tensor_with_a_gradient_that_is_made_anew_is_a_fresh_parameter():
    def model() -> None:
        weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        pyro.sample("x", dist.Normal(weight * 2, 1.0).to_event(1))

    with pytest.raises(dgm.CompileError) as found:
        dgm.trace(model)
    assert [problem.code for problem in found.value.diagnostics] == ["fresh-parameter"]


class Noisy(nn.Module):
    """A layer whose noise lives in a buffer, which ``write`` fills anew at each call."""

    def __init__(self, write: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.write = write
        self.mean, self.scale = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.ones(2, 3))
        self.register_buffer("eps", torch.zeros(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        eps: Any = self.eps
        self.write(eps)
        w = self.mean + self.scale * eps
        y = torch.normal(x @ w.T, 1.0)
        return y


@torch.no_grad()
def without_gradient(eps: Tensor) -> None:
    eps.copy_(torch.randn(2, 3))


FILLED: list[Callable[[Tensor], object]] = [
    lambda eps: eps.normal_(),
    lambda eps: eps.copy_(torch.randn(2, 3)),
    without_gradient,
]


@pytest.mark.parametrize("write", FILLED)
def test_a_buffer_that_is_filled_before_it_is_read_keeps_no_state(write: Callable[[Tensor], object]):
    model, x = Noisy(write), values(4, 3)
    graph = dgm.trace(model, (x,))
    assert graph.latents == ("w",) and graph.targets == ("y",)
    assert dgm.check(model, (x,)).ok and not model.get_buffer("eps").any()


READ: list[Callable[[Tensor], object]] = [
    lambda eps: eps.copy_(eps + torch.randn(2, 3)),
    lambda eps: eps[:1].copy_(torch.randn(1, 3)),
    lambda eps: eps.mul_(0.5).add_(torch.randn(2, 3)),
]


@pytest.mark.parametrize("write", READ)
def test_a_buffer_of_which_something_is_left_is_a_state(write: Callable[[Tensor], object]):
    with pytest.raises(dgm.CompileError) as found:
        dgm.trace(Noisy(write), (values(4, 3),))
    assert {problem.code for problem in found.value.diagnostics} == {"state-write"}


def test_a_submodule_may_keep_statistics_of_its_own():
    norm = nn.BatchNorm1d(3)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(norm(norm(x)), 1.0).to_event(1), obs=x)

    assert dgm.check(model, (values(4, 3),)).ok
