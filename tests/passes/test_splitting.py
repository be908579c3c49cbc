"""Products in parts: the same values and gradients, and in the loop only what a step waits for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dgmcompile.codegen import compile_graph
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Call, Graph
from dgmcompile.ir.text import parse
from dgmcompile.passes import compact
from dgmcompile.passes.hoisting import hoisted
from dgmcompile.passes.splitting import split
from tests.programs.program import seeded, values

STEPS, BATCH, IN, H = 5, 4, 3, 6

CELLS: dict[str, Callable[[int], nn.Module]] = {
    "lstm": lambda width: nn.LSTMCell(width, H),
    "lstm without bias": lambda width: nn.LSTMCell(width, H, bias=False),
    "gru": lambda width: nn.GRUCell(width, H),
    "gru without bias": lambda width: nn.GRUCell(width, H, bias=False),
    "rnn": lambda width: nn.RNNCell(width, H),
    "rnn of relu": lambda width: nn.RNNCell(width, H, nonlinearity="relu"),
}

HEADS: dict[str, Callable[[], nn.Module]] = {
    "a layer": lambda: nn.Linear(H, 2),
    "a layer without bias": lambda: nn.Linear(H, 2, bias=False),
    "layers": lambda: nn.Sequential(nn.Linear(H, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 2)),
    "a layer that another dim follows": lambda: nn.Sequential(nn.Linear(H, 4), nn.Unflatten(1, (2, 2)), nn.Flatten()),
}


def recurrent(cell: str, head: str, joined: str = "z, x_t") -> Graph:
    """A cell that reads what its state gave by a head, and an input of the step."""
    above = seeded(HEADS[head]).double()
    sizes = {"z": above(torch.zeros(BATCH, H).double()).shape[-1], "x_t": IN, "last_h": H}
    width = sum(sizes[name] for name in joined.split(", "))
    below = seeded(lambda: CELLS[cell](width)).double()
    step = "h: float64[batch, 6] = self.cell(joined, last_h)"
    if cell.startswith("lstm"):
        step = """hc = self.cell(joined, (last_h, last_c))
            h: float64[batch, 6] = getitem(hc, 0)
            c: float64[batch, 6] = getitem(hc, 1)
            last_c: float64[batch, 6] = carry(t, h_0, c)"""
    return bound(
        f"""
            z: float64[batch, {sizes["z"]}] = self.head(last_h)
            joined: float64[batch, {width}] = torch.cat([{joined}], -1)
            {step}
            zs: float64[steps, batch, {sizes["z"]}] = stacked(t, z)
            hs: float64[steps, batch, 6] = stacked(t, h)
            return hs, zs""",
        cell=below,
        head=above,
    )


def bound(body: str, **modules: nn.Module) -> Graph:
    """A loop over the steps of ``x``, in which ``last_h`` is the ``h`` of the step before."""
    lines = f"""
            model = graph(x, h_0)
            x: float64[batch, steps, 3] = input()
            h_0: float64[batch, 6] = input()
            batch = size(x, 0)
            steps = size(x, 1)
            t = loop(steps)
            last_h: float64[batch, 6] = carry(t, h_0, h)
            x_t: float64[batch, 3] = torch.select(x, 1, t)
            {body}
    """
    graph = parse("\n".join(line.strip() for line in lines.splitlines()))
    return graph.evolve(binding=Binding(modules={path: Submodule(module) for path, module in modules.items()}))


def gradients(graph: Graph, *args: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values, and the gradient of a function of them all for each parameter and argument."""
    module = compile_graph(graph)
    given = [arg.clone().requires_grad_() for arg in args]
    found: dict[str, Tensor] = module(*given)
    total = sum(value.square().sum() + value.sin().sum() for value in found.values())
    named = {**dict(module.named_parameters()), **{f"argument {i}": arg for i, arg in enumerate(given)}}
    grads = torch.autograd.grad(total, list(named.values()))  # type: ignore[arg-type]
    return {name: value.detach() for name, value in found.items()}, dict(zip(named, grads, strict=True))


def assert_same(one: Graph, other: Graph, *args: Tensor) -> None:
    for ours, theirs in zip(gradients(one, *args), gradients(other, *args), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def products(graph: Graph) -> list[Call]:
    """Those that are made in the loop."""
    calls = [node for node in graph if isinstance(node, Call) and graph.loops[node.name]]
    modules = graph.binding.modules
    layers = {f"self.{path}" for path, submodule in modules.items() if isinstance(submodule.module, nn.Linear)}
    return [call for call in calls if call.target_name.endswith(".linear") or call.target_name in layers]


ARGS = values(BATCH, STEPS, IN).double(), values(BATCH, H, seed=1).double()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_and_a_head_of_its_state(cell: str, head: str):
    graph = recurrent(cell, head)
    made = compact(hoisted(split(graph)))
    assert {d.node for d in made.history if d.stage == "split"} == {"z", "hc" if cell.startswith("lstm") else "h"}
    assert_same(made, graph, *ARGS)
    of_state, of_input = 1, 1
    assert len(products(made)) == of_state + of_input + (head == "layers")


@pytest.mark.parametrize("joined", ["z, x_t", "x_t, z", "x_t, z, x_t", "z, x_t, z", "z, x_t, last_h, x_t"])
def test_columns_in_any_order(joined: str):
    graph = recurrent("gru", "a layer", joined)
    made = compact(hoisted(split(graph)))
    assert_same(made, graph, *ARGS)
    assert "x_t" not in {name for call in products(made) for name in call.inputs}


TWICE = """
    a: float64[batch, 6] = self.layer(last_h)
    b: float64[batch, 6] = self.layer(a)
    g: float64[batch, 6] = self.other(last_h)
    given: float64 = torch.mean(x_t)
    sum: float64[batch, 6] = torch.add(b, g)
    moved: float64[batch, 6] = torch.add(sum, given)
    h: float64[batch, 6] = torch.tanh(moved)
    hs: float64[steps, batch, 6] = stacked(t, h)
    return hs"""

ALONE = """
    a: float64[batch, 6] = self.layer(last_h)
    h: float64[batch, 6] = torch.tanh(a)
    hs: float64[steps, batch, 6] = stacked(t, h)
    return hs"""

OF_THE_STEP = """
    a_1: float64 = torch.mean(last_h)
    a: float64[batch, 6] = torch.nn.functional.linear(x_t, w_t)
    w_t: float64[6, 3] = torch.mul(w_0, a_1)
    w_0: float64[6, 3] = torch.Tensor.new_ones(x, 6, 3)
    h: float64[batch, 6] = torch.tanh(a)
    hs: float64[steps, batch, 6] = stacked(t, h)
    return hs"""

FUNCTION = """
    w: float64[6, 9] = torch.Tensor.new_ones(x, 6, 9)
    joined: float64[batch, 9] = torch.cat([last_h, x_t], 1)
    a: float64[batch, 6] = torch.nn.functional.linear(joined, w)
    h: float64[batch, 6] = torch.tanh(a)
    hs: float64[steps, batch, 6] = stacked(t, h)
    return hs"""


def layers() -> dict[str, nn.Module]:
    return {name: seeded(lambda: nn.Linear(H, H), seed=i).double() for i, name in enumerate(("layer", "other"))}


def test_a_layer_that_is_called_twice():
    graph = bound(TWICE, **layers())
    made = compact(hoisted(split(graph)))
    assert {d.node for d in made.history if d.stage == "split"} == {"a", "g"}
    assert_same(made, graph, *ARGS)
    assert len(products(made)) == 2


def test_a_function_of_a_weight():
    graph = bound(FUNCTION)
    made = compact(hoisted(split(graph)))
    assert {d.node for d in made.history if d.stage == "split"} == {"a"}
    assert_same(made, graph, *ARGS)


def test_one_product_of_the_state_is_left_as_it_is():
    graph = bound(ALONE, layer=layers()["layer"])
    assert split(graph) is graph


def test_a_weight_of_the_step_is_left_as_it_is():
    graph = bound(OF_THE_STEP)
    assert split(graph) is graph


@pytest.mark.parametrize("why", ["a hook", "a class of the user's"])
def test_a_layer_that_does_more_is_left_as_it_is(why: str):
    both = layers()
    if why == "a hook":
        both["layer"].register_forward_pre_hook(lambda *_: None)
    else:
        both["layer"].__class__ = type("Own", (nn.Linear,), {})
    graph = bound(TWICE, **both)
    assert split(graph) is graph
