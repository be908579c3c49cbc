"""A loss that cannot train its student says so: the warning agrees with what autograd finds."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile import pipeline
from dgmcompile.distill.losses import LossOptions

X = torch.linspace(-1.0, 1.0, 12).reshape(4, 3)


class Model(PyroModule):
    """``body`` draws what it will from the output of a layer."""

    def __init__(self, body: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.body = body

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("batch", len(x), dim=-1):
            return self.body(self.layer(x))


def drawn_label(h: Tensor, infer: Any = None) -> None:
    label = pyro.sample("label", dist.Bernoulli(logits=h).to_event(1), infer=infer)
    pyro.sample("y", dist.Normal(label.mean(-1), 1.0))


def straight_through(h: Tensor) -> None:
    drawn_label(h, {"dgm": {"gradient": "straight_through"}})


def drawn_mean(h: Tensor) -> None:
    pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(h, 1.0).to_event(1)).mean(-1), 1.0))


def rounded(h: Tensor) -> None:
    pyro.sample("y", dist.Normal(torch.round(3 * h), 1.0).to_event(1))


def detached(h: Tensor) -> None:
    pyro.sample("y", dist.Normal(h.detach(), 1.0).to_event(1))


def chosen(h: Tensor) -> None:
    pyro.sample("y", dist.Normal(h.argmax(-1).float(), 1.0))


def partly_detached(h: Tensor) -> None:
    pyro.sample("y", dist.Normal(h.detach() + h.sum(), 1.0).to_event(1))


def counted(h: Tensor) -> None:
    pyro.sample("y", dist.Poisson(h.exp()).to_event(1))


WITHOUT = [drawn_label, rounded, detached, chosen]
WITH = [straight_through, drawn_mean, partly_detached, counted]


@pytest.mark.parametrize("body", [*WITHOUT, *WITH])
def test_a_loss_without_gradient_says_so(body: Callable[[Tensor], Any]):
    pair = dgm.pair(Model(body), student := Model(body), model_args=(X,), targets=["y"])
    options = LossOptions(latent_weight=0.0)
    total: Tensor = pipeline.compiled(pair, options)(X).total
    if total.requires_grad:
        total.backward()
    has_gradient = any(p.grad is not None and p.grad.any() for p in student.parameters())
    assert has_gradient == (body in WITH)
    codes = [warning.code for warning in pipeline.loss_graph(pair, options).warnings]
    assert ("no-gradient" in codes) != has_gradient


def test_a_latent_term_is_enough():
    pair = dgm.pair(Model(drawn_label), Model(drawn_label), model_args=(X,), targets=["y"])
    assert not pipeline.loss_graph(pair).warnings


def test_a_student_that_is_not_trained_is_left_alone():
    student = Model(rounded)
    student.requires_grad_(False).eval()
    pair = dgm.pair(Model(rounded), student, model_args=(X,), targets=["y"])
    assert not pipeline.loss_graph(pair).warnings
