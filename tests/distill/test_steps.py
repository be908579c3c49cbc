"""Teacher and student in loops: the loss of all steps at once is that of the steps written out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from dgmcompile.codegen import compile_graph
from dgmcompile.distill.pair import Pair, pair_graphs
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Graph, Loop, Node, Noise, Stacked
from dgmcompile.ir.loops import is_step
from dgmcompile.pipeline import loss_graph
from tests import seeds
from tests.programs.program import seeded, values

STEPS, BATCH = 5, 3


class Recurrent(nn.Module):
    """A variational recurrent network, whose state reads the targets."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell, self.prior = nn.GRUCell(5, hidden), nn.Linear(hidden, 6)
        self.out = nn.Sequential(nn.Linear(hidden + 3, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> None:
        h = x.new_zeros(len(x), self.hidden)
        with pyro.plate("batch", len(x)):
            for t in range(x.shape[1]):
                loc, scale = self.prior(h).chunk(2, -1)
                z = pyro.sample(f"z_{t}", dist.Normal(loc, scale.exp()).to_event(1))
                law = dist.Normal(self.out(torch.cat([h, z], -1)), 1.0)
                y = pyro.sample(f"x_{t}", law.to_event(1), obs=x[:, t])
                h = self.cell(torch.cat([y, z], -1), h)


class Markov(nn.Module):
    """A chain of latents with a target each; the latent of each step is that of the step before, moved on."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.move = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        self.emit = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> None:
        z = pyro.sample("start", dist.Normal(torch.zeros(len(x), 2).to(x), 1.0).to_event(2))
        for step in range(1, x.shape[1]):
            z = pyro.sample(f"z{step}", dist.Normal(self.move(z), 0.5).to_event(2))
            pyro.sample(f"x{step}", dist.Bernoulli(logits=self.emit(z)).to_event(2), obs=(x[:, step] > 0).to(x))


class Taught(nn.Module):
    """Without latents; each step reads the target before, by a variable of the loop."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x: Tensor) -> None:
        last = torch.zeros_like(x[:, 0])
        for i in range(x.shape[1]):
            last = pyro.sample(f"x_{i}", dist.Laplace(self.net(last), 1.0).to_event(2), obs=x[:, i])


class Integrated(nn.Module):
    """Steps of an integration inside of each step."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x: Tensor) -> None:
        z = pyro.sample("start", dist.Normal(torch.zeros(len(x), 2).to(x), 1.0).to_event(2))
        for t in range(x.shape[1]):
            for _ in range(4):
                z = z + 0.1 * self.field(z)
            pyro.sample(f"x_{t}", dist.Normal(z, 1.0).to_event(2), obs=x[:, t])


MODELS: list[Callable[[int], nn.Module]] = [Recurrent, Markov, Taught, Integrated]


def pair_of(kind: Callable[[int], nn.Module], roll: bool, x: Tensor, **how: Any) -> Pair:
    teacher, student = (seeded(partial(kind, hidden), seed=hidden).to(x) for hidden in (8, 4))
    return pair_graphs(*(trace(model, (x,), roll=roll) for model in (teacher, student)), **how)


@pytest.mark.parametrize("method", ["surrogate", "local"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_is_that_of_the_steps_written_out(kind: Callable[[int], nn.Module], method: str):
    x = values(BATCH, STEPS, 2).double()
    rolled, flat = (loss_graph(pair_of(kind, roll, x, method=method)) for roll in (True, False))
    ours, theirs = compile_graph(rolled), compile_graph(flat)
    assert len(rolled) < len(flat) and any(isinstance(node, Loop) for node in rolled)
    noise: dict[str, Tensor] = ours.sample_noise(x, generator=seeds.generator(0))  # type: ignore[operator]
    found, expected = ours(x, noise=noise), theirs(x, noise=of_each_step(flat, noise))
    assert found.surrogate.keys() == expected.surrogate.keys() and found.latent.keys() == expected.latent.keys()
    for name, term in {**expected.surrogate, **expected.latent}.items():
        torch.testing.assert_close({**found.surrogate, **found.latent}[name], term, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.total, expected.total, rtol=1e-9, atol=1e-12)
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    for name, p in ours.named_parameters():
        one, other = (
            torch.autograd.grad(loss.total, w, retain_graph=True)[0]
            for loss, w in ((found, p), (expected, theirs.get_parameter(name)))
        )
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def of_each_step(flat: Graph, noise: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is drawn for all steps at once, as it is drawn for each by itself; that of the last may be of no use."""
    drawn: dict[str, list[Tensor]] = {}
    for name in sorted(noise, key=_number):
        steps = noise[name].unbind(0) if noise[name].dim() > 2 else [noise[name]]
        drawn.setdefault(_stem(name), []).extend(steps)
    return {name: drawn[_stem(name)].pop(0) for name in sorted(flat.noises, key=_number)}


def _stem(name: str) -> str:
    """``z`` for ``z_3_noise`` and ``z_noise``."""
    return name.removesuffix("_noise").rstrip("0123456789").rstrip("_")


def _number(name: str) -> int:
    return int("".join(filter(str.isdigit, name)) or 0)


@pytest.mark.parametrize("kind", MODELS)
def test_no_step_takes_its_part_of_a_tensor_by_its_number(kind: Callable[[int], nn.Module]):
    """Of which the gradient is as large as the whole: a loop of T steps would take time in T squared."""
    loss = loss_graph(pair_of(kind, True, values(BATCH, STEPS, 2)))
    taken = [node for node in loss if is_step(node)]
    assert taken and not [node for node in taken if loss[node.inputs[0]].shape is not None and not _is_list(node, loss)]


def _is_list(node: Node, graph: Graph) -> bool:
    """Of what a loop has made, or of noise?"""
    return isinstance(graph[node.inputs[0]], Stacked | Noise)
