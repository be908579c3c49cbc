"""``dgm.Distillation`` as Pyro's users know ``Trace_ELBO``: it compiles at its first call, and for others again."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule
from torch import Tensor, nn

import dgmcompile as dgm


class Chain(PyroModule):
    """As many steps as ``x`` has columns: the loop over them is unrolled."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> None:
        value = x.new_zeros(x.shape[0])
        with pyro.plate("batch", x.shape[0]):
            for t in range(x.shape[1]):
                z = pyro.sample(f"z_{t}", dist.Normal(self.net(value.unsqueeze(-1)).squeeze(-1), 1.0))
                value = pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=x[:, t])


def compiled(loss_fn: Any) -> int:
    return len(loss_fn._losses)


def test_it_learns():
    teacher, student = Chain("teacher"), Chain("student")
    loss_fn = dgm.Distillation(latent_weight=0.5)(teacher, student)
    optimizer = torch.optim.Adam(loss_fn.parameters(), lr=0.02)
    totals = []
    for _ in range(60):
        optimizer.zero_grad()
        total = loss_fn(torch.zeros(64, 2))
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-10:]) < 0.5 * sum(totals[:10])
    assert all(p.grad is None for p in teacher.parameters())
    assert compiled(loss_fn) == 1


def test_its_parameters_are_the_students():
    teacher, student = Chain("teacher"), Chain("student")
    loss_fn = dgm.Distillation()(teacher, student)
    assert {id(p) for p in loss_fn.parameters()} == {id(p) for p in student.parameters()}
    assert {name.split(".")[0] for name in loss_fn.state_dict()} == {"student"}


def test_terms_are_those_of_the_compiled_pair():
    teacher, student, x = Chain("teacher"), Chain("student").eval(), torch.zeros(5, 2)
    loss_fn = dgm.Distillation(latent_weight=0.2, target_weight=2.0)(teacher, student)
    pair = dgm.pair(teacher, student, model_args=(x,))
    expected: Any = dgm.compile(pair, latent_weight=0.2, target_weight=2.0)
    torch.manual_seed(3)
    found = loss_fn.terms(x)
    torch.manual_seed(3)
    out = expected(x)
    assert torch.equal(found.total, out.total)
    assert found.surrogate.keys() == {"y_0", "y_1"} and found.latent.keys() == {"z_0", "z_1"}


def test_another_length_compiles_again_and_another_batch_does_not():
    loss_fn = dgm.Distillation()(Chain("teacher"), Chain("student"))
    for batch, steps, times in ((4, 2, 1), (7, 2, 1), (4, 3, 2), (5, 2, 2), (6, 3, 2)):
        assert len(loss_fn.terms(torch.zeros(batch, steps)).surrogate) == steps
        assert compiled(loss_fn) == times


def test_the_modes_of_the_students_modules_are_followed():
    student = Chain("student")
    loss_fn = dgm.Distillation()(Chain("teacher"), student)
    statistics = student.net[1].running_mean
    loss_fn(torch.zeros(4, 1))
    first = statistics.clone()
    loss_fn(torch.zeros(4, 1))
    assert student.net[1].running_mean is statistics and not torch.equal(statistics, first)
    student.eval()
    first = statistics.clone()
    loss_fn(torch.zeros(4, 1))
    assert torch.equal(statistics, first)


def test_a_function_keeps_its_parameters_in_the_store():
    def teacher(n: int) -> None:
        pyro.sample("y", dist.Normal(torch.ones(n), 0.5).to_event(1), obs=torch.zeros(n))

    def student(n: int) -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        for _ in range(n):
            pass
        pyro.sample("y", dist.Normal(loc.expand(n), scale).to_event(1), obs=torch.zeros(n))

    loss_fn = dgm.Distillation()(teacher, student)
    loss_fn(3)
    leaves = dict(pyro.get_param_store().named_parameters())
    assert leaves.keys() == {"loc", "scale"}
    optimizer = torch.optim.Adam(leaves.values(), lr=0.05)
    for step in range(200):
        optimizer.zero_grad()
        loss_fn(3 + step % 2).backward()
        optimizer.step()
    assert pyro.param("loc").item() == pytest.approx(1.0, abs=0.02)
    assert pyro.param("scale").item() == pytest.approx(0.5, abs=0.02)


def test_a_store_that_is_cleared_or_set_is_read_again():
    def teacher() -> None:
        pyro.sample("y", dist.Normal(2.0, 1.0))

    def student() -> None:
        pyro.sample("y", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    pyro.clear_param_store()
    loss_fn = dgm.Distillation()(teacher, student)
    assert loss_fn() == 2.0
    pyro.get_param_store()["loc"] = torch.tensor(1.0)
    assert loss_fn() == 0.5
    pyro.clear_param_store()
    loss_fn().backward()
    assert pyro.param("loc").grad == -2.0
    assert compiled(loss_fn) == 1


def test_a_matched_pair_of_other_names():
    def program(latent: str) -> Any:
        def model() -> None:
            z = pyro.sample(latent, dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

        return model

    out = dgm.Distillation(match={"z": "h"})(program("z"), program("h")).terms()
    assert out.total == 0 and out.surrogate["y"] == 0
    apart = dgm.Distillation(match={"z": None})(program("z"), program("h")).terms()
    assert apart.total > 0 and apart.latent == {}


class _CallsParam(torch.nn.Module):
    """A plain module whose forward asks Pyro's store for a parameter."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> None:
        offset = pyro.param(f"{self.tag}_offset", torch.tensor(0.3))
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(self.linear(z) + offset, 1.0).to_event(1), obs=x)


def test_parameters_that_a_module_asks_the_store_for_are_trained():
    student = _CallsParam("student")
    loss = dgm.Distillation()(_CallsParam("teacher"), student)
    loss(torch.zeros(4, 1)).backward()
    stored = pyro.get_param_store()._params["student_offset"]
    assert stored.grad is not None and stored.grad.abs() > 0
