"""Plates that subsample: the scale is a quotient of sizes and follows the batch."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

import dgmcompile as dgm

FULL = 1000


def drawn(x: Tensor) -> None:
    with pyro.plate("data", FULL, subsample_size=len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(-1, 2), 1.0).to_event(1), obs=x)


def scaled_twice(x: Tensor) -> None:
    with pyro.plate("data", FULL, subsample_size=len(x)), poutine.scale(scale=0.25):
        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(("program", "factor"), [(drawn, 1.0), (scaled_twice, 0.25)])
def test_the_scale_follows_the_batch(program, factor):
    graph = dgm.trace(program, (torch.zeros(6, 2),))
    assert [guard for guard in graph.guards if guard.path == ("x",) and guard.dim == 0] == []
    report = dgm.check(program, (torch.zeros(6, 2),))
    assert report.ok and report.sizes["x.shape[0]"] == 9
    assert dgm.parse(str(graph)) == graph
    student = dgm.trace(_shifted(program), (torch.zeros(6, 2),))
    loss = dgm.compile(dgm.pair(graph, student))
    for size in (3, 6, 64):
        x = torch.zeros(size, 2)
        noise = loss.sample_noise(x)
        total = loss(x, noise=noise).surrogate["x"]
        assert torch.allclose(total, torch.tensor(factor * FULL / size * 1.0), rtol=1e-5)


def _shifted(program):
    """The same, with means moved by 1: a divergence of 1/2 for each of the two dimensions."""
    if program is scaled_twice:

        def shifted(x: Tensor) -> None:
            with pyro.plate("data", FULL, subsample_size=len(x)), poutine.scale(scale=0.25):
                pyro.sample("x", dist.Normal(torch.ones(2), 1.0).to_event(1), obs=x)
    else:

        def shifted(x: Tensor) -> None:
            with pyro.plate("data", FULL, subsample_size=len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 2.0))
                pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(-1, 2) + 1, 1.0).to_event(1), obs=x)

    return shifted


def test_one_tensor_may_be_observed_twice():
    def program(x: Tensor) -> None:
        with pyro.plate("b", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y1", dist.Normal(z, 1.0), obs=x)
            pyro.sample("y2", dist.Normal(-z, 1.0), obs=x)

    graph = dgm.trace(program, (torch.zeros(4),))
    assert set(graph.variables().edges) == {("z", "y1"), ("z", "y2")}
    assert dgm.check(program, (torch.zeros(4),)).ok


def test_what_an_observed_tensor_becomes_is_still_refused():
    def program(x: Tensor) -> None:
        pyro.sample("y1", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x)
        pyro.sample("y2", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x + 1)

    with pytest.raises(dgm.CompileError, match="observed-latent"):
        dgm.trace(program, (torch.zeros(3),))


def test_bad_arguments_of_the_api():
    with pytest.raises(dgm.CompileError, match=r"write model_args=\(x,\)"):
        dgm.trace(drawn, torch.zeros(6, 2))
    graph = dgm.trace(drawn, (torch.zeros(6, 2),))
    with pytest.raises(dgm.CompileError, match="unknown-method"):
        dgm.pair(graph, graph, method="exact")
