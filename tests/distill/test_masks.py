"""Terms of masked and scaled sites: what a mask leaves out, inside an event as well as outside it."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

import dgmcompile as dgm
from tests import seeds
from tests.programs.program import bits, values

X, SEEN = values(5, 4), bits(5, 4).bool()


def model(scale: float) -> Any:
    def program(x: Tensor, seen: Tensor) -> None:
        with pyro.plate("data", len(x)), poutine.mask(mask=seen[:, 1]):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), scale).mask(seen).to_event(1))
            w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), scale).to_event(1).mask(seen[:, :2]).to_event(1))
            with poutine.scale(scale=seen[:, 0] + 0.5):
                law = dist.Normal(z + w.sum((-2, -1)).unsqueeze(-1), scale)
                pyro.sample("x", law.mask(seen).to_event(1).mask(seen[:, 3]), obs=x)

    return program


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_masks_within_and_outside_the_event(reduction: str):
    pair = dgm.pair(model(1.0), model(2.0), model_args=(X, SEEN))
    loss = dgm.compile(pair, latent_weight=0.5, reduction=reduction)
    noise = loss.sample_noise(X, SEEN, generator=seeds.generator(0))
    out = loss(X, SEEN, noise=noise)
    one = kl_divergence(dist.Normal(0.0, 1.0), dist.Normal(0.0, 2.0))
    dims = {"z": 4, "w": 6, "x": 4} if reduction == "mean" else {"z": 1, "w": 1, "x": 1}
    rows = SEEN[:, 1].float()
    z = (one * SEEN.sum(-1) * rows).mean() / dims["z"]
    w = (3 * one * SEEN[:, :2].sum(-1) * rows).mean() / dims["w"]

    def loc(scale: float) -> Tensor:
        return scale * (noise["z_noise"] + noise["w_noise"].sum((-2, -1)).unsqueeze(-1))

    x = kl_divergence(dist.Normal(loc(1.0), 1.0), dist.Normal(loc(2.0), 2.0)) * SEEN
    x = (x.sum(-1) * SEEN[:, 3] * rows * (SEEN[:, 0] + 0.5)).mean() / dims["x"]
    torch.testing.assert_close(out.latent["z"], z)
    torch.testing.assert_close(out.latent["w"], w)
    torch.testing.assert_close(out.surrogate["x"], x)
    torch.testing.assert_close(out.total, x + 0.5 * (z + w))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_mask_of_more_dims_than_the_batch_counts_as_often(reduction: str):
    """As Pyro's log-probability does: the one draw is counted at each true place of the mask."""

    def shifted(by: float) -> Any:
        def program(x: Tensor, seen: Tensor) -> None:
            with poutine.mask(mask=seen):
                pyro.sample(
                    "z", dist.Normal(by * torch.ones(3), 1.0).mask(torch.tensor([True, True, False])).to_event(1)
                )
            with pyro.plate("data", len(x)), poutine.scale(scale=0.5 * torch.ones(2, 1)):
                pyro.sample("y", dist.Normal(by * torch.ones(3), 1.0).to_event(1))

        return program

    pair = dgm.pair(shifted(0.0), shifted(1.0), model_args=(X, SEEN), targets=["y"])
    loss = dgm.compile(pair, latent_weight=1.0, reduction=reduction)
    x, seen = values(7, 4), bits(7, 4).bool()
    out = loss(x, seen, noise=loss.sample_noise(x, seen))
    events = 3 if reduction == "mean" else 1
    torch.testing.assert_close(out.latent["z"], seen.sum() * 2 * 0.5 / events)
    torch.testing.assert_close(out.surrogate["y"], torch.tensor(2 * 0.5 * 3 * 0.5 / events))


def test_a_mask_below_a_transform_is_refused():
    def program(x: Tensor, seen: Tensor) -> None:
        base = dist.Normal(torch.zeros(4), 1.0).mask(seen).to_event(1)
        pyro.sample("z", dist.TransformedDistribution(base, [dist.transforms.ExpTransform()]))

    with pytest.raises(dgm.CompileError, match="masked-part"):
        dgm.trace(program, (X, SEEN))
