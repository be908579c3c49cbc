"""Names, paths and titles are data: whatever they hold, the text parses and runs no more than the graph."""

import ast
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.diagnostics import Location
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Argument, Call, Constant, Graph, Guard, Input, Noise, Parameter, Ref, Site

HOSTILE = [
    '"""\nimport os\nos.abort()\n"""',
    "x'; import os; os.abort() #",
    "a\nimport os\nos.abort()",
    "\\",
    "\\'",
    "{os.abort()}",
    "# fmt: off",
    "\u202e\u2066",
    "\ud800",
    "\r\x0c\x1c\u2028\u0085",
    "class",
    "self",
    "torch",
    "None",
    "__import__",
    "normal",
    "noise",
    "device",
    "teacher.z",
    "total",
    "μ ﬁ",
    "",
]


def graph_of_names(*texts: str) -> Graph:
    """A graph where every name that a user may choose is one of ``texts``."""
    text, others = texts[0], texts[1:]
    path = text.replace(".", "_") + ".w"
    weight, linear = nn.Parameter(torch.full((2,), 2.0)), nn.Linear(2, 2)
    here = Location(f"/home/user/{text}.py", 3)
    names = [f"{text}{i}" if i else text for i in range(7)]
    return Graph(
        [
            Input(name=names[1], path=("x", text), shape=(2,), dtype=torch.float32),
            Parameter(name=names[2], path=path, shape=(2,)),
            Constant(name=names[3], value=(1.0, 1.0), shape=(2,), dtype=torch.float32),
            Noise(name=names[4], law="StandardNormal", shape=(2,), dtype=torch.float32),
            Call(name=names[5], target="torch.stack", args=([Ref(name) for name in names[1:5]],), location=here),
            Call(name=names[6], target=f"self.{path}_module", args=(Ref(names[5]),), kwargs={}),
            Call(name=text, target="torch.Tensor.sum", args=(Ref(names[6]),), site=Site(text, "target"), location=here),
            *(
                Call(
                    name=f"{other}{8 + i}", target="identity", args=(Ref(text),), site=Site(f"{other}{8 + i}", "latent")
                )
                for i, other in enumerate(others)
            ),
        ],
        name=text,
        arguments=(Argument("x"), Argument(text, required=False)) if text not in ("x", "") else (Argument("x"),),
        guards=(Guard(("x", text), 0, 2, text),),
        binding=Binding(tensors={path: weight}, modules={f"{path}_module": Submodule(linear)}),
    )


def check(graph: Graph, text: str) -> None:
    source = source_of(graph)
    tree = ast.parse(source)
    assert not any(alias.name == "os" for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names)
    assert not any(isinstance(n, ast.Name) and n.id in {"os", "abort", "__import__"} for n in ast.walk(tree))
    module = compile_graph(graph)
    x = torch.tensor([0.5, 0.25])
    noise = module.sample_noise({"x": x, text: x})
    rows = torch.stack([x, torch.full((2,), 2.0), torch.ones(2), next(iter(noise.values()))])
    linear = next(iter(graph.binding.modules.values())).module
    found = module({"x": x, text: x}, noise=noise)
    assert set(found) == set(graph.outputs)
    assert all(torch.equal(value, linear(rows).sum()) for value in found.values())
    with pytest.raises(ValueError, match="has to be 2"):
        module({text: torch.ones(3)}, noise=noise)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_name_stays_a_name(text: str):
    check(graph_of_names(text), text)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=12), st.text(max_size=4))
def test_any_name_stays_a_name(text: str, other: str):
    check(graph_of_names(text, other), text)


RENAMED = ["type", "training", "forward", "source", "a.b", "a.b.c", ".", ""]
"""A module cannot have these: its own attributes, parts below a tensor, empty parts."""


@pytest.mark.parametrize("path", [*RENAMED, "a", "layers.0.w", "0", "x y", "__w", "lambda"])
def test_any_path_has_a_place(path: str, graph_of: Callable[..., Graph]):
    tensors = {"a": nn.Parameter(torch.ones(3)), "a.b.d": torch.ones(3), path: nn.Parameter(torch.full((3,), 2.0))}
    nodes = [Parameter(name=f"p{i}", path=p, shape=(3,)) for i, p in enumerate(tensors)]
    total = Call(name="y", target="torch.stack", args=([Ref(node.name) for node in nodes],))
    module = compile_graph(graph_of(*nodes, total, outputs={"y": "y"}, tensors=tensors))
    assert torch.equal(module(torch.ones(1, 3))["y"], torch.stack(list(tensors.values())))
    for live in tensors.values():
        assert any(live is found for found in (*module.parameters(), *module.buffers()))
    assert (path in module.state_dict()) == (path not in RENAMED)
    assert module.train(False).training is False and isinstance(module.source, str)
