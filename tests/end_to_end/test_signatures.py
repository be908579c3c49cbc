"""Submodules that are called whole, by every kind of argument: the emitted ``forward`` takes them as theirs does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm

X = torch.arange(20.0).reshape(5, 4).sin()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)


class PassesOn(Inner):
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.inner(*args, **kwargs)


class Variadic(Inner):
    def forward(self, a: Tensor, *others: Tensor) -> Tensor:
        return self.inner(a) * len(others) + sum(other[:, :1] for other in others)


class Keywords(Inner):
    def forward(self, a: Tensor, **others: Any) -> Tensor:
        return self.inner(a) + others["shift"][:, :1] * others.get("times", 2)


class KeywordOnly(Inner):
    def forward(self, a: Tensor, *, shift: Tensor, times: int = 1) -> Tensor:
        return self.inner(a) + shift[:, :1] * times


class PositionalOnly(Inner):
    def forward(self, a: Tensor, /, shift: Tensor, times: int = 1) -> Tensor:
        return self.inner(a) + shift[:, :1] * times


class All(Inner):
    def forward(self, a: Tensor, *more: Tensor, b: Tensor | None = None, **rest: Tensor) -> Tensor:
        assert b is not None
        return self.inner(a) + more[1] + b[:, :1] + rest["z"][:, :1]


class ReadsHalf(Inner):
    """Computes something of an argument that nothing reads."""

    def forward(self, a: Tensor, unread: Tensor, b: Tensor) -> Tensor:
        unread.sum()
        return self.inner(a) + b


class Mixed(Inner):
    """Not all of what it is given is a tensor, or is read."""

    def forward(self, unread: Tensor, a: Tensor, *more: Any, scale: float = 1.0, **rest: Any) -> Tensor:
        return self.inner(a) * more[0] + more[1] * scale + rest["z"][:, :1] * rest["how"].real


Called = Callable[[Any, Tensor], Tensor]

CALLS: list[tuple[type[Inner], Called]] = [
    (PassesOn, lambda net, x: net(x)),
    (PassesOn, lambda net, x: net(input=x)),
    (Variadic, lambda net, x: net(x, x + 2, x + 1)),
    (Variadic, lambda net, x: net(x, x + 1)),
    (Keywords, lambda net, x: net(x, shift=x + 1, times=3)),
    (KeywordOnly, lambda net, x: net(x, times=3, shift=x + 1)),
    (PositionalOnly, lambda net, x: net(x, x + 1, times=3)),
    (PositionalOnly, lambda net, x: net(x, x + 1, 3)),
    (All, lambda net, x: net(x, x[:, :1], x[:, 1:2], z=x + 1, b=x + 2)),
    (Mixed, lambda net, x: net(x - 1, x, 2, x[:, :1], scale=2.0, how=1 + 2j, z=x + 1)),
    (ReadsHalf, lambda net, x: net(x, x + 1, x[:, :1])),
]


@pytest.mark.parametrize(("kind", "called"), CALLS)
def test_loss_is_that_of_the_modules(kind: type[Inner], called: Called) -> None:
    class Model(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.net = kind()

        def forward(self, x: Tensor) -> Tensor:
            return torch.normal(called(self.net, x), 1.0)

    with torch.random.fork_rng():
        teacher, student = Model(0), Model(1)
    graph = dgm.trace(teacher, (X,))
    assert [node.name for node in graph if getattr(node, "target", "") == "self.net"] == ["net"]
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(X,)))
    by_hand = 0.5 * (called(teacher.net, X) - called(student.net, X)).square().sum(-1).mean()
    torch.testing.assert_close(loss(X).total, by_hand)
    assert dgm.check(teacher, (X,)).ok
    compiled: Any = dgm.compile(graph)
    noise = compiled.sample_noise(X)
    torch.testing.assert_close(dgm.to_fx(graph)(X, noise=noise), compiled(X, noise=noise))
