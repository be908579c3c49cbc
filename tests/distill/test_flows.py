"""Laws through recorded steps: the loss by Monte Carlo equals what torch's own distributions say at the same values."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from torch import Tensor, nn

import dgmcompile as dgm
from tests import seeds
from tests.programs.program import seeded, values


class Model(nn.Module):
    """A latent and a target, each through a flow."""

    def __init__(self, make_flow, seed: int) -> None:
        super().__init__()
        self.flow = seeded(make_flow, seed)
        self.flow_of_x = seeded(lambda: transforms.affine_coupling(4), seed + 1)
        self.scale = nn.Parameter(torch.tensor(1.0 + 0.1 * seed))

    def law_of_z(self, count: int) -> dist.TransformedDistribution:
        base = dist.Normal(torch.zeros(count, 4), self.scale).to_event(1)
        return dist.TransformedDistribution(base, [self.flow, transforms.AffineTransform(1.0, 2.0)])

    def law_of_x(self, z: Tensor) -> dist.TransformedDistribution:
        return dist.TransformedDistribution(dist.Normal(z, 1.0).to_event(1), [self.flow_of_x])

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.law_of_z(len(x)))
            pyro.sample("x", self.law_of_x(z), obs=x)


FLOWS = [lambda: transforms.affine_autoregressive(4, hidden_dims=[8]), lambda: transforms.spline_coupling(4)]


@pytest.mark.parametrize("make_flow", FLOWS, ids=["affine_autoregressive", "spline_coupling"])
def test_loss_and_gradient_are_those_of_torch_distributions(make_flow):
    torch.set_default_dtype(torch.float64)
    try:
        teacher, student = Model(make_flow, 1), Model(make_flow, 3)
        x = values(5, 4).double()
        loss = dgm.compile(dgm.pair(teacher, student, model_args=(x,)), latent_weight=0.3)
        noise = loss.sample_noise(x, generator=seeds.generator(0))
        out = loss(x, noise=noise)
        found = torch.autograd.grad(out.total, list(student.parameters()), allow_unused=True)

        def latent(model: Model) -> Tensor:
            z = model.flow._call(model.scale * noise["z_noise"])
            return 1.0 + 2.0 * z

        with torch.no_grad():
            z = latent(teacher)
            y = teacher.flow_of_x._call(z + noise["x_noise"])
        terms = {
            "z": teacher.law_of_z(5).log_prob(z).detach() - student.law_of_z(5).log_prob(z),
            "x": teacher.law_of_x(z).log_prob(y).detach() - student.law_of_x(latent(student)).log_prob(y),
        }
        total = terms["x"].mean() + 0.3 * terms["z"].mean()
        expected = torch.autograd.grad(total, list(student.parameters()), allow_unused=True)
        torch.testing.assert_close(out.total, total)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs)
        assert all(p.grad is None for p in teacher.parameters())
    finally:
        torch.set_default_dtype(torch.float32)


def test_equal_models_have_the_loss_zero():
    model = Model(FLOWS[0], 1)
    out = dgm.compile(dgm.pair(model, model, model_args=(values(5, 4),)))(values(5, 4, seed=1))
    assert out.total == 0


def test_a_step_that_cannot_be_undone_is_refused_with_its_name():
    flow = seeded(lambda: transforms.planar(4))

    def model(x: Tensor, scale: float) -> None:
        with pyro.plate("data", len(x)):
            base = dist.Normal(torch.zeros(4), scale).to_event(1)
            pyro.sample("x", dist.TransformedDistribution(base, [flow]), obs=x)

    with pytest.raises(dgm.CompileError) as caught:
        pair = dgm.pair(lambda x: model(x, 1.0), lambda x: model(x, 2.0), model_args=(values(3, 4),))
        dgm.compile(pair)
    assert "no kl from Normal + Planar to Normal + Planar" in str(caught.value)
    assert "cannot be undone" in str(caught.value)
