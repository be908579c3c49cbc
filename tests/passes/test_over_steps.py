"""Calls of all steps at once: the same values, for whatever leaves the loop; and what stays in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgmcompile.codegen import compile_graph
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Graph, Stacked
from dgmcompile.ir.text import parse
from dgmcompile.passes import compact
from dgmcompile.passes.hoisting import hoisted
from tests.programs.program import values

STEPS, BATCH = 5, 4
X, W, B, ROWS = values(BATCH, 3), values(3, 2, seed=1), values(3, seed=2), values(BATCH, 1, seed=3)

HOISTED = [
    "torch.exp(x_t)",
    "torch.add(x_t, b)",
    "torch.mul(rows, x_t)",
    "torch.add(row, x_t)",
    "torch.add(x_t, row, alpha=2)",
    "torch.where(mask, x_t, 0.0)",
    "torch.Tensor.sum(x_t)",
    "torch.Tensor.sum(x_t, 0)",
    "torch.Tensor.sum(x_t, dim=-1, keepdim=True)",
    "torch.mean(x_t, (0, 1))",
    "torch.logsumexp(x_t, 1)",
    "torch.softmax(x_t, 1)",
    "torch.nn.functional.log_softmax(x_t, dim=0)",
    "torch.cumsum(x_t, 0)",
    "torch.std(x_t, dim=0)",
    "torch.amax(x_t, 0)",
    "torch.Tensor.reshape(x_t, 2, 6)",
    "torch.flatten(x_t)",
    "torch.Tensor.view(x_t, 12)",
    "torch.select(x_t, 1, 2)",
    "torch.narrow(x_t, 0, 1, 2)",
    "torch.unsqueeze(x_t, 0)",
    "torch.unsqueeze(x_t, -1)",
    "torch.Tensor.expand(row, 4, 3)",
    "torch.transpose(x_t, 0, 1)",
    "torch.cat([x_t, x_t], 0)",
    "torch.cat([x_t, rows], -1)",
    "torch.stack([x_t, x_t])",
    "torch.stack([row, b], dim=-1)",
    "torch.matmul(x_t, w)",
    "torch.matmul(row, w)",
    "torch.mm(x_t, w)",
    "torch.nn.functional.linear(x_t, x_t_weight)",
    "torch.Tensor.__getitem__(x_t, (0, slice(1, None)))",
    "torch.Tensor.__getitem__(x_t, (slice(None), None, 1))",
    "torch.Tensor.__getitem__(x_t, (..., 0))",
    "torch.Tensor.__getitem__(x_t, -1)",
    "torch.Tensor.sum(number)",
    "torch.mul(number, number)",
    "torch.add(number, b)",
]
STAYS = {
    "torch.argmax(x_t)": "torch.argmax is not known to do the same with all steps at once",
    "torch.flip(x_t, (0,))": "torch.flip is not known to do the same with all steps at once",
    "torch.matmul(w_rows, x_t)": "its matrix is another one in each step",
    "torch.nn.functional.dropout(x_t, 0.0)": "it draws, or keeps a state, in each step anew",
    "torch.var(x_t, False)": "its dim is no number",
    "torch.softmax(number, 0)": "it reads a value of the step in another place than the first",
}


def program(text: str) -> Graph:
    given = {
        "x_t": X,
        "row": X[0],
        "number": X[0, 0],
        "mask": X > 0,
        "w": W,
        "w_rows": values(2, BATCH),
        "b": B,
        "rows": ROWS,
        "x_t_weight": W.T,
    }
    made: Tensor = eval(text, {"torch": torch, **given})
    dtype = str(made.dtype).removeprefix("torch.")

    def of(*shape: Any) -> str:
        return f"{dtype}[{', '.join(map(str, shape))}]" if shape else dtype

    return parse(f"""
        model = graph(x, w, w_rows, b, rows)
        x: float32[steps, 4, 3] = input()
        w: float32[3, 2] = input()
        w_rows: float32[2, 4] = input()
        b: float32[3] = input()
        rows: float32[4, 1] = input()
        steps = size(x, 0)
        x_t_weight: float32[2, 3] = torch.transpose(w, 0, 1)
        t = loop(steps)
        x_t: float32[4, 3] = getitem(x, t)
        row: float32[3] = torch.select(x_t, 0, 0)
        number: float32 = torch.amax(row)
        mask: bool[4, 3] = torch.gt(x_t, 0)
        y: {of(*made.shape)} = {text}
        ys: {of("steps", *made.shape)} = stacked(t, y)
        return ys
    """)


def results(graph: Graph, *args: Tensor) -> Tensor:
    return compile_graph(graph)(*args)["ys"]


@pytest.mark.parametrize("text", HOISTED)
def test_the_same_values(text: str):
    graph = program(text)
    made = compact(hoisted(graph))
    assert not [node for node in made if isinstance(node, Stacked)]
    args = (values(STEPS, BATCH, 3, seed=4), W, values(2, BATCH), B, ROWS)
    torch.testing.assert_close(results(made, *args), results(graph, *args))


@pytest.mark.parametrize("text", STAYS)
def test_what_stays_in_the_loop(text: str):
    made = compact(hoisted(program(text)))
    (stack,) = (node for node in made if isinstance(node, Stacked))
    assert stack.value.name == "y"
    ((action, reason),) = ((d.action, d.reason) for d in made.history if (d.stage, d.node) == ("hoist", "y"))
    assert action == "keep" and reason == STAYS[text]


MODULES: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "a layer": (lambda: nn.Linear(3, 2), True),
    "layers": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4)), True),
    "with a batch": (lambda: nn.BatchNorm1d(3), False),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), False),
    "of the user": (lambda: type("Own", (nn.Linear,), {})(3, 2), False),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str):
    make, is_hoisted = MODULES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    width = module(X).shape[-1]
    graph = parse(f"""
        model = graph(x)
        x: float32[steps, 4, 3] = input()
        steps = size(x, 0)
        t = loop(steps)
        x_t: float32[4, 3] = getitem(x, t)
        y: float32[4, {width}] = self.net(x_t)
        ys: float32[steps, 4, {width}] = stacked(t, y)
        return ys
    """)
    graph = graph.evolve(binding=Binding(modules={"net": Submodule(module)}))
    made = compact(hoisted(graph))
    assert any(isinstance(node, Stacked) for node in made) != is_hoisted
    if is_hoisted:
        x = values(STEPS, BATCH, 3, seed=4)
        torch.testing.assert_close(results(made, x), results(graph, x))


def test_elements_from_both_ends():
    graph = parse("""
        model = graph(x)
        x: float32[4, steps] = input()
        steps = size(x, 1)
        t = loop(steps - 2)
        a: float32[4] = torch.select(x, 1, t + 1)
        b: float32[4] = torch.Tensor.__getitem__(x, (slice(None), t))
        c: float32[4] = torch.Tensor.__getitem__(x, (slice(None), steps - 1 - t))
        y: float32[4] = torch.sub(a, b)
        z: float32[4] = torch.sub(y, c)
        ys: float32[steps - 2, 4] = stacked(t, y)
        zs: float32[steps - 2, 4] = stacked(t, z)
        return ys, zs
    """)
    made, x = compact(hoisted(graph)), values(4, 7)
    assert [node.value.name for node in made if isinstance(node, Stacked)] == ["c"]
    ours, theirs = compile_graph(made)(x), compile_graph(graph)(x)
    for name in ("ys", "zs"):
        torch.testing.assert_close(ours[name], theirs[name])
