"""Arguments that the caller may leave out: the program's own default decides, never the recorded value."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import dgmcompile as dgm


def program(x: Tensor, depth: int = 2, *, flag: bool = True, scale: float = 1.0) -> None:
    for _ in range(depth):
        x = x * 10
    with pyro.plate("b", len(x)):
        z = pyro.sample("z", dist.Normal(x if flag else -x, 0.001))
        pyro.sample("y", dist.Normal(z * scale, 0.001), obs=torch.zeros(len(x)))


X = torch.ones(3)


def compiled(*args, **kwargs):
    return dgm.compile(dgm.compact(dgm.semi_auxiliary(dgm.trace(program, args, kwargs))))


def test_recorded_with_other_values_than_the_defaults():
    module = compiled(X, depth=3, flag=False, scale=5.0)
    with pytest.raises(TypeError, match="missing"):
        module(X)
    with pytest.raises(TypeError, match="scale"):
        module(X, 3, flag=False)
    with pytest.raises(ValueError, match="flag has to be False"):
        module(X, 3, flag=True, scale=5.0)
    values = module(X, 3, flag=False, scale=5.0)
    assert torch.allclose(values["z"], torch.tensor(-1000.0), atol=0.01)
    assert torch.allclose(values["y"], torch.tensor(-5000.0), atol=0.05)


def test_recorded_with_the_defaults():
    module = compiled(X)
    assert torch.allclose(module(X)["y"], torch.tensor(100.0), atol=0.01)
    assert torch.allclose(module(X, 2, scale=1.0)["y"], torch.tensor(100.0), atol=0.01)
    with pytest.raises(ValueError, match="depth has to be 2"):
        module(X, 3)


def test_a_given_default_may_be_left_out():
    module = compiled(X, 2, flag=True)
    assert torch.allclose(module(X)["z"], torch.tensor(100.0), atol=0.01)


def test_distillation_compiles_again_for_other_arguments():
    loss = dgm.Distillation()(program, program)
    assert float(loss(X)) == 0.0
    assert float(loss(X, depth=3)) == 0.0
    assert float(loss(X, 3, scale=2.0)) == 0.0
    assert float(loss(X)) == 0.0
