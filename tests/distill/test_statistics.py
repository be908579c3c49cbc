"""Teachers that normalise by the batch: their running statistics are not moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.export import export

import dgmcompile as dgm
from tests import seeds

X = torch.rand(6, 3, generator=seeds.generator(0))


class Layers(nn.Module):
    """torch's own, which are in train mode when they are exported."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.batch, self.instance = nn.BatchNorm1d(3), nn.InstanceNorm1d(6, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.batch(self.layer(x))
        h = h + self.instance(h[None]).squeeze(0)
        y = torch.normal(h, 1.0)
        return y


class Calls(nn.Module):
    """In training, whatever its mode; the statistics are given by name and by place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        for name, size in (("batch", 3), ("instance", 6)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_var", torch.ones(size))

    def normalised(self, x: Tensor) -> Tensor:
        mean, var, of_instance, instance_var = self.buffers()
        h = F.batch_norm(self.layer(x), running_mean=mean, running_var=var, training=True)
        return h + F.instance_norm(h[None], of_instance, instance_var).squeeze(0)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.normal(self.normalised(x), 1.0)
        return y


class Inside(Calls):
    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x)


class Submodule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = Inside()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.normal(self.inside(x), 1.0)
        return y


PROGRAMS: dict[str, tuple[type[nn.Module], Callable[[nn.Module], Any]]] = {
    "layers": (Layers, lambda module: export(module, (X,))),
    "exported": (Calls, lambda module: export(module, (X,))),
    "plain": (Calls, lambda module: module),
    "traced": (Calls, fx.symbolic_trace),
    "submodule": (Submodule, lambda module: module),
}


def buffers(program: Any) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in program.named_buffers()}


def mean_of(program: Any, x: Tensor) -> Tensor:
    """As the program itself computes it, of which the draw has this mean."""
    module = program if isinstance(program, nn.Module) else program.module()
    torch.manual_seed(0)
    drawn = module(x)
    torch.manual_seed(0)
    return drawn - torch.normal(torch.zeros(6, 3), 1.0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_teacher_is_left_as_it_is(name: str):
    kind, made = PROGRAMS[name]
    teacher, student = made(kind()), made(kind())
    before, others = buffers(teacher), buffers(student)
    loss = dgm.compile(dgm.pair(teacher, student, model_args=(X,)))
    torch.testing.assert_close(buffers(student), others, rtol=0, atol=0)
    total = loss(X).total
    torch.testing.assert_close(buffers(teacher), before, rtol=0, atol=0)
    assert all(not torch.equal(moved, others[key]) for key, moved in buffers(student).items() if "tracked" not in key)
    by_hand = 0.5 * (mean_of(teacher, X) - mean_of(student, X)).square().sum(-1).mean()
    torch.testing.assert_close(total, by_hand)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_its_own_student(name: str):
    kind, made = PROGRAMS[name]
    teacher = made(kind())
    assert float(dgm.compile(dgm.pair(teacher, teacher, model_args=(X,)))(X).total.detach()) == 0.0


def test_statistics_that_are_read_are_given():
    teacher, student = Layers().eval(), Layers()
    teacher.batch.running_mean = torch.ones(3)
    loss = dgm.compile(dgm.pair(export(teacher, (X,)), export(student, (X,)), model_args=(X,)))
    by_hand = 0.5 * (mean_of(teacher, X) - mean_of(student, X)).square().sum(-1).mean()
    torch.testing.assert_close(loss(X).total, by_hand)


def test_a_program_by_itself_moves_them():
    program = export(Layers(), (X,))
    before = buffers(program)
    form = dgm.compile(dgm.trace(program, (X,)))
    torch.testing.assert_close(buffers(program), before, rtol=0, atol=0)
    form(X)
    assert not torch.equal(buffers(program)["batch.running_mean"], before["batch.running_mean"])


@pytest.mark.parametrize("made", [lambda model: model, lambda model: export(model, (X,))], ids=["module", "exported"])
def test_terms_of_what_moves_statistics_are_numbers(made: Callable[[nn.Module], Any]):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.above, self.norm = nn.Linear(3, 3), nn.Linear(3, 2), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            norm = self.norm
            h = F.batch_norm(self.layer(x), norm.running_mean, norm.running_var, training=True)
            z = h + 0.1 * torch.randn_like(h)
            return self.above(z)

    loss = dgm.compile(dgm.pair(made(Model()), made(Model()), model_args=(X,)))(X)
    assert [term.shape for term in (loss.total, *loss.latent.values(), *loss.surrogate.values())] == [(), (), ()]
    loss.total.backward()
