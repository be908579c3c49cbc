"""Random programs give the same values to the last bit, and the same gradients, before and after compaction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dgmcompile.ir.graph import Call, Constant, Graph, Input, Node, Ref, map_arg
from dgmcompile.passes import compact

VALUES = {
    "x": torch.tensor([[1.5, -2.0, float("inf")], [0.1, float("nan"), -7.25]]),
    "v": torch.tensor([3.0, -0.5, 1e-30], dtype=torch.float64),
    "n": torch.tensor([[3, -1, 0], [5, 2, 7]]),
}


def value_of(node: Node, values: Mapping[str, Any]) -> Any:
    """What ``node`` is worth, given the values of the nodes that it reads."""
    if isinstance(node, Constant):
        return torch.tensor(node.value, dtype=node.dtype)
    assert isinstance(node, Call) and isinstance(node.target, str)
    args, kwargs = map_arg((node.args, dict(node.kwargs)), lambda a: values[a.name] if isinstance(a, Ref) else a)
    if node.target in ("identity", "getitem"):
        return args[0] if node.target == "identity" else args[0][args[1]]
    function: Any = reduce(getattr, node.target.split(".")[1:], torch)
    return function(*args, **kwargs)


def run(graph: Graph, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    values: dict[str, Any] = dict(inputs)
    for node in graph:
        if not isinstance(node, Input):
            values[node.name] = value_of(node, values)
    return {name: values[node] for name, node in graph.outputs.items()}


LITERALS = [0, 1, -1, 2, 0.0, 1.0, 0.5, True]
BINARY = ["torch.add", "torch.Tensor.add", "torch.Tensor.sub", "torch.mul", "torch.Tensor.mul", "torch.maximum"]
BY_LITERAL = ["torch.Tensor.div", "torch.Tensor.__pow__", "torch.Tensor.__rsub__", *BINARY]
UNARY = ["torch.neg", "torch.abs", "torch.clone", "torch.Tensor.detach", "torch.Tensor.contiguous", "torch.square"]
SHAPES = [(2, 3), (3,), (1, 3), (6,), (4, 2, 3), (3, 2)]
DTYPES = [torch.float32, torch.float64, torch.int64]


@st.composite
def calls(draw: st.DrawFn, names: list[str], tuples: list[str]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    a, b = (Ref(draw(st.sampled_from(names))) for _ in range(2))
    literal, shape = draw(st.sampled_from(LITERALS)), draw(st.sampled_from(SHAPES))
    dtype = draw(st.sampled_from(DTYPES))
    choices = [
        (draw(st.sampled_from(BINARY)), (a, b), {}),
        (draw(st.sampled_from(BY_LITERAL)), (a, literal), {}),
        (draw(st.sampled_from(BY_LITERAL)), (a, literal), {}),
        (draw(st.sampled_from(UNARY)), (a,), {}),
        ("torch.Tensor.view", (a, shape), {}),
        (draw(st.sampled_from(["torch.Tensor.expand", "torch.reshape", "torch.broadcast_to"])), (a, shape), {}),
        ("torch.Tensor.to", (a, dtype), {}),
        (draw(st.sampled_from(["torch.zeros", "torch.ones"])), (shape,), {"dtype": dtype}),
        ("torch.full", (shape, literal), {"dtype": dtype}),
        (draw(st.sampled_from(["torch.zeros_like", "torch.ones_like"])), (a,), {}),
        ("torch.transpose", (a, 0, -1), {}),
        ("torch.stack", ([a, b],), {"dim": draw(st.sampled_from([0, -1]))}),
        ("torch.unbind", (a, 0), {}),
        ("identity", (a,), {}),
    ]
    if tuples:
        choices.append(("getitem", (Ref(draw(st.sampled_from(tuples))), draw(st.sampled_from([0, 1, -1]))), {}))
    return draw(st.sampled_from(choices))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Calls that run: shapes and dtypes are those of the values, as a recorder would find them."""
    values: dict[str, Any] = dict(VALUES)
    nodes: list[Node] = [Input(name=k, path=(k,), shape=tuple(v.shape), dtype=v.dtype) for k, v in VALUES.items()]
    constant = torch.tensor(draw(st.sampled_from([1.0, 0.0, 0.3])))
    values["c"] = constant
    nodes.append(Constant(name="c", value=constant.item(), shape=(), dtype=constant.dtype))
    for i in range(draw(st.integers(1, 14))):
        tensors = [name for name, value in values.items() if isinstance(value, Tensor)]
        tuples = [name for name in values if name not in tensors]
        target, args, kwargs = draw(calls(tensors, tuples))
        node = Call(name=f"n{i}", target=target, args=args, kwargs=kwargs)
        try:
            value = value_of(node, values)
        except (RuntimeError, IndexError, TypeError):
            continue
        typed = {"shape": tuple(value.shape), "dtype": value.dtype} if isinstance(value, Tensor) else {}
        nodes.append(Call(name=node.name, target=target, args=args, kwargs=kwargs, **typed))
        values[node.name] = value
    tensors = [node.name for node in nodes if isinstance(values[node.name], Tensor)]
    outputs = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3, unique=True))
    return Graph(nodes, outputs={name: name for name in outputs})


def gradients(graph: Graph) -> list[Tensor]:
    inputs = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in VALUES.items()}
    total = sum(value.double().sum() for value in run(graph, inputs).values())
    leaves = [v for v in inputs.values() if v.requires_grad]
    if not isinstance(total, Tensor) or not total.requires_grad:
        return []
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


@settings(max_examples=300)
@given(graphs())
def test_values_and_gradients_are_the_same(graph: Graph):
    simple = compact(graph)
    before, after = run(graph, VALUES), run(simple, VALUES)
    assert list(before) == list(after)
    for name, value in before.items():
        torch.testing.assert_close(value, after[name], rtol=0.0, atol=0.0, equal_nan=True)
    for a, b in zip(gradients(graph), gradients(simple), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=0.0, equal_nan=True)
    assert compact(simple) == simple
    assert len(simple) <= len(graph)


def test_random_programs_are_simplified_at_all():
    found: list[str] = []

    @settings(max_examples=100, database=None)
    @given(graphs())
    def collect(graph: Graph) -> None:
        found.extend(decision.reason.split(" '")[0] for decision in compact(graph).history)

    collect()
    assert {"adds 0", "multiplies by 1", "computed from constants", "repeats", "has the shape already"} <= set(found)
