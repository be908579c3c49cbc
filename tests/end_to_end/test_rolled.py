"""Programs whose loops are put together: each is the same program, at other lengths too, in every form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.graph import Loop
from dgmcompile.pipeline import transform
from tests.corpus import ENTRIES
from tests.programs import sequences
from tests.programs.program import Program, seeded, values

MODELS = [entry for entry in (*sequences.PROGRAMS, *ENTRIES) if getattr(entry, "compiles", True)]


@pytest.mark.parametrize("program", MODELS, ids=lambda program: program.label)
def test_it_is_the_same_program(program: Program):
    with pyro.get_param_store().scope():
        report = dgm.check(program.model, program.args, program.kwargs, program.targets, roll=True)
    assert report.ok, str(report)


class Chain(nn.Module):
    """A recurrent state, a latent and a target in each step."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell, self.prior, self.out = nn.GRUCell(4, hidden), nn.Linear(hidden, 2), nn.Linear(hidden + 2, 2)

    def forward(self, x: Tensor) -> None:
        h = x.new_zeros(len(x), self.hidden)
        with pyro.plate("batch", len(x)):
            for t in range(x.shape[1]):
                z = pyro.sample(f"z_{t}", dist.Normal(self.prior(h), 1.0).to_event(1))
                law = dist.Normal(self.out(torch.cat([h, z], -1)), 0.5).to_event(1)
                y = pyro.sample(f"x_{t}", law, obs=x[:, t])
                h = self.cell(torch.cat([z, y], -1), h)


def chain(hidden: int) -> Chain:
    return seeded(lambda: Chain(hidden), seed=hidden).double()


X = values(3, 5, 2).double()


def test_a_graph_with_a_loop_runs_at_any_length():
    model = chain(4)
    graph = dgm.trace(model, (X,), roll=True)
    assert graph.latents == ("z",) and [node.site.name for node in graph.samples if node.site] == ["z_{t}", "x_{t}"]
    module: Any = dgm.compile(dgm.semi_auxiliary(graph))
    for length in (3, 8):
        flat: Any = dgm.compile(dgm.semi_auxiliary(dgm.trace(model, (longer := values(2, length, 2).double(),))))
        noise = module.sample_noise(longer)
        apart = {f"{name[0]}_{t}_noise": step for name in noise for t, step in enumerate(noise[name])}
        torch.testing.assert_close(module(longer, noise=noise), flat(longer, noise=apart))


def test_a_pair_runs_at_any_length():
    teacher, student = chain(6), chain(3)
    loss = dgm.compile(dgm.pair(teacher, student, model_args=(X,), roll=True))
    assert "for t in range(" in str(loss.source)
    for length in (3, 8):
        longer = values(2, length, 2).double()
        flat = dgm.compile(dgm.pair(teacher, student, model_args=(longer,)))
        noise = loss.sample_noise(longer)
        apart = {f"{name[0]}_{t}_noise": step for name in noise for t, step in enumerate(noise[name])}
        found, expected = loss(longer, noise=noise), flat(longer, noise=apart)
        torch.testing.assert_close(found.total, expected.total)
        assert {*found.surrogate} == {*expected.surrogate} == {f"x_{t}" for t in range(length)}


def test_the_loss_in_pyros_idiom_is_compiled_once_for_all_lengths(monkeypatch: pytest.MonkeyPatch):
    compiled = list[Any]()
    how = dgm.Distillation(roll=True)
    recorded = how.compiled
    monkeypatch.setattr(how, "compiled", lambda *args: compiled.append(args) or recorded(*args))
    loss = how(chain(6), chain(3))
    assert all(loss(values(2, length, 2).double()).isfinite() for length in (5, 3, 9))
    assert len(compiled) == 1


@pytest.mark.parametrize("form", [lambda g: g, dgm.semi_auxiliary, lambda g: dgm.compact(dgm.semi_auxiliary(g))])
def test_other_forms_have_as_many_steps_as_were_recorded(form: Callable[[Any], Any]):
    model = chain(4)
    graph = form(dgm.trace(model, (X,), roll=True))
    assert dgm.parse(str(graph)) == graph
    program = dgm.to_pyro(graph)
    again = dgm.trace(program, (X,))
    sites = {f"{name}_{t}" for name in "zx" for t in range(5)}
    assert sites <= {node.site.name for node in again if node.site}
    module = dgm.to_fx(graph)
    made: Any = dgm.compile(graph)
    noise = made.sample_noise(X)
    apart = {f"{name[0]}_{t}_noise": step for name in noise for t, step in enumerate(noise[name])}
    torch.testing.assert_close(module(X, apart), made(X, noise=noise))
    with pytest.raises(AssertionError, match="its steps are written out"):
        module(values(3, 6, 2).double(), apart)


STATES = 3


class Markov(nn.Module):
    """A hidden Markov model: its latents can be summed out."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.emit = nn.Parameter(torch.eye(STATES)), nn.Parameter(torch.arange(6.0).reshape(STATES, 2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("start", dist.Categorical(logits=self.step[0]).expand([len(x)]))
            for t in range(x.shape[1]):
                z = pyro.sample(f"z_{t}", dist.Categorical(logits=self.step[z]))
                pyro.sample(f"x_{t}", dist.Categorical(logits=self.emit[z]), obs=x[:, t])


def test_latents_of_all_steps_are_summed_out():
    x = torch.zeros(4, 3, dtype=torch.long)
    losses = [
        dgm.compile(dgm.pair(Markov(), Markov(), method="marginalised", model_args=(x,), roll=roll))
        for roll in (True, False)
    ]
    noise = losses[1].sample_noise(x)
    assert {*noise} == {*losses[0].sample_noise(x)}
    torch.testing.assert_close(losses[0](x, noise=noise).total, losses[1](x, noise=noise).total)
    with pytest.raises(dgm.CompileError, match="pair-form"):
        text = dgm.parse(str(dgm.trace(Markov(), (x,), roll=True)))
        dgm.pair(text, text, method="marginalised")


def test_sites_of_a_loop_are_chosen_by_their_pattern():
    graph = dgm.trace(chain(4), (X,), targets=["z_{t}"], options={"x_{t}": {"weight": 2.0}}, roll=True)
    assert graph.targets == ("z",) and graph["x_1"].options == {"weight": 2.0}
    kept = dgm.semi_auxiliary(dgm.trace(chain(4), (X,), roll=True), keep=["z_{t}"])
    assert not kept.noises
    with pytest.raises(dgm.CompileError, match=r"unknown-site.*\n.*z_\{t\}"):
        dgm.trace(chain(4), (X,), targets=["z_0"], roll=True)


def test_a_text_does_not_know_how_many_steps_there_were():
    graph = dgm.parse(str(dgm.trace(chain(4), (X,), roll=True)))
    with pytest.raises(dgm.CompileError, match="cannot be written out"):
        dgm.to_fx(graph)
    with pytest.raises(dgm.CompileError, match="cannot be written out"):
        dgm.to_pyro(graph)


def test_steps_that_are_no_loop_are_told():
    def model(x: Tensor) -> None:
        z = torch.zeros(2)
        for t in range(4):
            z = pyro.sample(f"z_{t}", dist.Normal(z + t * t, 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=x)

    graph = dgm.trace(model, (torch.zeros(2),), roll=True)
    assert not [node for node in graph if isinstance(node, Loop)]
    (note,) = (warning for warning in graph.warnings if warning.code == "written-out")
    assert note.severity == "note" and note.location is not None
    assert not dgm.trace(model, (torch.zeros(2),)).warnings


FILE = """
import pyro, pyro.distributions as dist, torch
from torch import nn


class Chain(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x):
        z = torch.zeros(len(x), 2)
        with pyro.plate("batch", len(x)):
            for t in range(x.shape[1]):
                z = pyro.sample(f"z_{t}", dist.Normal(self.net(z), 1.0).to_event(1))
                pyro.sample(f"x_{t}", dist.Normal(z, 1.0).to_event(1), obs=x[:, t])


model, student = Chain(8), Chain(3)
example_inputs = (torch.zeros(4, 6, 2),)
"""


def test_the_command_writes_a_loop(tmp_path: Path):
    (tmp_path / "model.py").write_text(FILE, encoding="utf-8")
    made = transform(str(tmp_path / "model.py"), tmp_path / "out", roll=True)
    for name in ("model_semi_auxiliary.py", "model_distill.py"):
        assert "for t in range(x_size_1):" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert not made.warnings and "z_{t}" in str(made.report)
