"""Recording: warnings, gradients, writes in place."""

from __future__ import annotations

import linecache
import pickle
import random
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.graph import Call, Sample
from tests.programs.program import seeded, values


def site(graph: Any, name: str) -> Sample:
    node = graph[graph.sites()[name]]
    assert isinstance(node, Sample)
    return node


def assert_same(model: Any, *args: Any, **options: Any) -> None:
    report = dgm.check(model, args, **options)
    assert report.ok, str(report)


# -- warnings ----------------------------------------------------------------------------------------------------------


class Reads(nn.Module):
    """A buffer that becomes a Python number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(2.0))

    def forward(self) -> None:
        pyro.sample("x", dist.Normal(self.temperature.item(), 1.0))


class ByMode(nn.Module):
    """Does something else in train mode than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        h = F.dropout(self.linear(z), 0.5, training=self.training)
        pyro.sample("x", dist.Normal(h, 1.0).to_event(1))


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(self.drop(z), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        (Reads(), "frozen-buffer", "the value of 'temperature' leaves torch through item and is fixed in the graph"),
        (
            seeded(ByMode).eval(),
            "frozen-mode",
            "what the model does here depends on its mode; the graph is that of eval mode",
        ),
        (Drops(), "random-module", "submodule 'drop' (Dropout) draws random numbers by itself"),
    ],
)
def test_warned_of(model: nn.Module, code: str, message: str):
    graph = dgm.trace(model)
    warning, note = graph.warnings
    assert (warning.severity, warning.code, warning.message) == ("warning", code, message)
    assert (note.severity, note.code) == ("note", "chosen-targets")
    assert graph.warnings[0].location.line > 0
    assert dgm.compact(dgm.semi_auxiliary(graph)).warnings == graph.warnings


class PlainByMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(x + 1, 0.5, training=self.training)
        return torch.normal(h.reshape(-1), 1.0)


@pytest.mark.parametrize("training", [False, True])
def test_the_warning_points_at_what_depends_on_the_mode(training: bool):
    graph = dgm.trace(PlainByMode().train(training), (torch.zeros(4, 2),))
    (warning,) = (one for one in graph.warnings if one.code == "frozen-mode")
    assert warning.location is not None
    assert "F.dropout" in linecache.getline(warning.location.file, warning.location.line)


def test_modules_that_know_their_mode_are_not_warned_of():
    assert [note.code for note in dgm.trace(Drops().eval()).warnings] == ["chosen-targets"]
    assert dgm.trace(Drops().eval(), targets="all").warnings == ()


def test_functional_dropout_in_train_mode_is_refused():
    with pytest.raises(dgm.CompileError, match=r"error\[stray-random\].*dropout draws random numbers"):
        dgm.trace(seeded(ByMode))


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_no_grad_cuts_gradients_of_calls_tuples_views_and_modules():
    net = seeded(lambda: nn.Linear(2, 2))

    def model() -> None:
        w = pyro.param("w", torch.ones(4))
        with torch.no_grad():
            a, b = w.chunk(2)
            h = net(w[:2] * 2)
        pyro.sample("x", dist.Normal(a + b * w[:2] + h + net(a), 1.0).to_event(1))

    assert_same(model)
    assert_same(model, dtype=torch.float64)


def test_detached_memory_is_not_taken_for_the_tensor_itself():
    def model() -> None:
        w = pyro.param("w", torch.ones(4))
        first, again = w[0], w.detach()[0]
        pyro.sample("x", dist.Normal(first * again, 1.0))

    assert_same(model)


def test_writes_through_strided_views_keep_their_gradient():
    def model() -> None:
        scale = pyro.param("scale", torch.tensor(2.0))
        kernel = scale * torch.ones(3, 3)
        kernel.view(-1)[::4] += 0.5
        kernel[1:, 0] *= scale
        pyro.sample("x", dist.Normal(kernel.sum(0), 1.0).to_event(1))

    assert_same(model, dtype=torch.float64)


def test_what_a_law_computes_of_itself_may_be_read_after_it_was_drawn_from():
    def model() -> None:
        law = dist.Bernoulli(logits=pyro.param("logits", torch.ones(3)))
        z = pyro.sample("z", law.to_event(1))
        labels = dist.Categorical(logits=z)
        k = pyro.sample("k", labels)
        pyro.sample("x", dist.Normal(law.probs * z + labels.probs * k, 1.0).to_event(1))

    assert set(dgm.trace(model).variables().edges) == {("z", "k"), ("z", "x"), ("k", "x")}
    assert_same(model)


def test_a_mode_that_the_program_sets_is_its_own_affair():
    net = seeded(lambda: nn.Linear(3, 3))

    def model(x: torch.Tensor) -> None:
        torch.set_grad_enabled(False)
        h = net(x)
        torch.set_grad_enabled(True)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(h, 1.0).to_event(1), obs=x)

    graph = dgm.trace(model, (torch.ones(4, 3),))
    assert [guard.dim for guard in graph.guards] == [1, "rank"], "the batch is free"
    assert_same(model, torch.ones(4, 3))


def test_defaults_of_torchs_functions_are_not_written_out():
    def model(x: torch.Tensor) -> torch.Tensor:
        h = F.softmax(F.relu(x), dim=-1)
        return h + torch.randn_like(h)

    source = dgm.compile(dgm.trace(model, (torch.ones(2, 3),))).source
    assert "F.softmax(F.relu(x), dim=-1)" in source


# -- writes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda h: h.__ipow__(2.0),
        lambda h: h.__itruediv__(3.0),
        lambda h: torch.exp(h.clone(), out=h),
        lambda h: torch.add(h, 1.0, out=h),
        lambda h: F.relu(h, inplace=True),
        lambda h: F.elu(h, 0.5, True),
        lambda h: h.clamp_(-0.1, 0.1),
        lambda h: h[:1].mul_(3.0),
        lambda h: h.view(3, 1).t().add_(1.0),
        lambda h: h.__setitem__(slice(None, 2), 0.5),
        lambda h: h.copy_(torch.arange(3.0)),
        lambda h: h.zero_(),
        lambda h: h.fill_(2.0),
        lambda h: h.index_add_(0, torch.tensor([0, 2]), torch.ones(2)),
        lambda h: h.masked_fill_(h > 0, 1.5),
        lambda h: torch.max(torch.arange(6.0).view(2, 3), 0, out=(h, torch.empty(3, dtype=torch.long))),
    ],
)
def test_every_way_to_write_is_seen(write: Any):
    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        h = z.detach().clone()
        before = h * 1.0
        write(h)
        pyro.sample("x", dist.Normal(before + 2.0 * h, 1.0).to_event(1))

    graph = dgm.trace(model)
    assert any(isinstance(n, Call) and n.target_name not in ("torch.Tensor.mul", "torch.Tensor.add") for n in graph)
    assert_same(model)


@pytest.mark.parametrize("operator", ["__iand__", "__ior__", "__ixor__"])
def test_operators_on_masks_write(operator: str):
    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        mask = z > 0
        getattr(mask, operator)(z < 1)
        pyro.sample("x", dist.Normal(mask.float(), 1.0).to_event(1))

    assert_same(model)


def test_closed_over_tensors_that_are_written_are_refused_and_put_back():
    work = torch.zeros(3)

    def model() -> None:
        work[1:].copy_(pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1)))
        pyro.sample("x", dist.Normal(work, 1.0).to_event(1))

    with pytest.raises(dgm.CompileError, match="unstable-recording"):
        dgm.trace(model)
    assert torch.equal(work, torch.zeros(3))


def test_closed_over_tensors_that_are_filled_anew_are_put_back():
    work = torch.zeros(3)

    def model() -> None:
        work.copy_(pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1)))
        pyro.sample("x", dist.Normal(work, 1.0).to_event(1))

    assert dgm.trace(model).latents == ("z",) and torch.equal(work, torch.zeros(3))
    assert_same(model)


def test_what_a_module_notes_is_put_back():
    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = nn.Linear(3, 2), 0
            self.log, self.by_name, self.kinds = list[Tensor](), {"z": list[float]()}, set[str]()

        def forward(self, x: Tensor) -> Tensor:
            z = torch.normal(self.net(x), 1.0)
            self.log.append(z)
            self.by_name["z"].append(0.5)
            self.by_name[f"call {self.calls}"] = []
            self.kinds.add("z")
            self.calls += 1
            return z

    model = Noting()
    graph = dgm.trace(model, (values(4, 3),))
    assert graph.targets == ("z",) and dgm.check(model, (values(4, 3),)).ok
    assert (model.log, model.by_name, model.kinds, model.calls) == ([], {"z": []}, set(), 0)


def test_empty_literals_are_tensors_like_others():
    """As the caches of attention begin."""
    net = seeded(lambda: nn.Linear(2, 2))

    def model() -> None:
        start, none = torch.tensor([]), torch.zeros(0, 2, dtype=torch.int64)
        x = torch.cat([start, net(torch.ones(2))])
        pyro.sample("x", dist.Normal(x + none.sum(), 1.0).to_event(1))

    assert_same(model)


@pytest.mark.parametrize("own", [random.Random(1), np.random.default_rng(1), np.random.RandomState(1)])
def test_generators_of_the_program_are_put_back(own: Any):
    def model() -> None:
        own.random() if not isinstance(own, np.random.RandomState) else own.rand()
        pyro.sample("x", dist.Normal(0.0, 1.0))

    before = pickle.dumps(own)
    with pytest.raises(dgm.CompileError, match="foreign-random"):
        dgm.trace(model)
    assert pickle.dumps(own) == before
