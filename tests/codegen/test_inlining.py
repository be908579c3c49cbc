"""Which nodes become statements, which become part of one, and that no evaluation changes places by that."""

import ast
import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.codegen.inlining import delayed
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Argument, Call, Graph, Input, Node, Parameter, Ref, Site

from .conftest import NORMAL

GraphOf = Callable[..., Graph]
X = Ref("x")
T = "torch.Tensor."


def forward_of(graph: Graph) -> list[str]:
    """The statements of ``forward`` after the sizes and before ``return``, without comments."""
    tree = ast.parse(source_of(graph))
    model = [node for node in tree.body if isinstance(node, ast.ClassDef)][-1]
    forward = next(node for node in model.body if isinstance(node, ast.FunctionDef) and node.name == "forward")
    lines = [ast.unparse(node) for node in forward.body if isinstance(node, ast.Assign)]
    return [line for line in lines if ".shape[" not in line]


def call(name: str, target: str, *args: Any, **more: Any) -> Call:
    return Call(name=name, target=target, args=args, **more)


def test_a_node_named_after_its_call_is_part_of_the_one_that_reads_it(graph_of: GraphOf):
    nodes = [call("exp", f"{T}exp", X), call("sum_1", f"{T}sum", Ref("exp"), -1), call("y", f"{T}neg", Ref("sum_1"))]
    assert forward_of(graph_of(*nodes, outputs={"y": "y"})) == ["y = -x.exp().sum(-1)"]


def test_a_name_of_the_users_own_stays(graph_of: GraphOf):
    nodes = [call("rate", f"{T}exp", X), call("y", f"{T}neg", Ref("rate"))]
    assert forward_of(graph_of(*nodes, outputs={"y": "y"})) == ["rate = x.exp()", "y = -rate"]


def test_what_is_read_twice_is_computed_once(graph_of: GraphOf):
    nodes = [call("exp", f"{T}exp", X), call("y", f"{T}mul", Ref("exp"), Ref("exp"))]
    assert forward_of(graph_of(*nodes, outputs={"y": "y"})) == ["exp = x.exp()", "y = exp * exp"]


def test_sites_and_outputs_have_lines_of_their_own(graph_of: GraphOf):
    site = Site("exp", "deterministic")
    nodes = [call("exp", f"{T}exp", X, site=site), call("neg", f"{T}neg", Ref("exp")), call("y", f"{T}abs", Ref("neg"))]
    graph = graph_of(*nodes, outputs={"exp": "exp", "neg": "neg", "y": "y"})
    assert forward_of(graph) == ["exp = x.exp()", "neg = -exp", "y = neg.abs()"]


def test_operators_keep_their_order(graph_of: GraphOf):
    nodes = [
        call("add", f"{T}add", X, 1.0),
        call("neg", f"{T}neg", Ref("add")),
        call("pow", f"{T}pow", Ref("neg"), 2),
        call("sub", f"{T}sub", X, Ref("pow")),
        call("y", f"{T}sub", X, Ref("sub")),
    ]
    graph = graph_of(*nodes, outputs={"y": "y"})
    assert forward_of(graph) == ["y = x - (x - (-(x + 1.0)) ** 2)"]
    x = torch.randn(2, 3)
    assert torch.equal(compile_graph(graph)(x)["y"], x - (x - (-(x + 1.0)) ** 2))


def test_a_long_expression_is_cut(graph_of: GraphOf):
    nodes = list[Node]()
    for i in range(70):
        name = f"add_{i}"
        nodes.append(call(name, f"{T}add", Ref(f"add_{i - 1}") if i else X, X))
    graph = graph_of(*nodes, outputs={"y": "add_69"})
    assert 80 < max(len(line) for line in source_of(graph).splitlines() if " + x" in line) <= 112
    assert 3 <= len(forward_of(graph)) <= 6


def test_a_part_of_a_site_is_named_after_its_parameter(graph_of: GraphOf):
    nodes = [
        call("exp", f"{T}exp", X),
        Call(name="z", target=NORMAL, args=(X, 0.0, Ref("exp")), site=Site("z", "latent", "Normal")),
        call("y", f"{T}mul", Ref("z"), Ref("exp")),
    ]
    lines = forward_of(graph_of(*nodes, outputs={"y": "y"}))
    assert lines == ["z_scale = x.exp()", "z = normal_from_noise(x, 0.0, z_scale)", "y = z * z_scale"]


# tuples


def element(name: str, of: str, index: int) -> Call:
    return call(name, "getitem", Ref(of), index)


def test_a_tuple_is_unpacked(graph_of: GraphOf):
    nodes = [
        call("chunk", f"{T}chunk", X, 3, -1),
        element("loc", "chunk", 0),
        element("scale", "chunk", 2),
        call("y", f"{T}add", Ref("loc"), Ref("scale")),
    ]
    graph = graph_of(*nodes, outputs={"y": "y"})
    assert forward_of(graph) == ["loc, _, scale = x.chunk(3, -1)", "y = loc + scale"]
    x = torch.randn(2, 3)
    assert torch.equal(compile_graph(graph)(x)["y"], x[:, :1] + x[:, 2:])


@pytest.mark.parametrize(
    ("made", "indices"),
    [
        (call("pieces", f"{T}chunk", X, 4, -1), (0, 1)),  # 4 of 3 columns are 3
        (call("pieces", f"{T}split", X, 2, 0), (0, 1)),  # of a batch: as many as it has
        (call("pieces", f"{T}unbind", X), (0, 1)),
    ],
)
def test_a_tuple_of_unknown_length_is_indexed(graph_of: GraphOf, made: Call, indices: tuple[int, int]):
    a, b = (element(name, "pieces", index) for name, index in zip("ab", indices, strict=True))
    graph = graph_of(made, a, b, call("y", f"{T}add", Ref("a"), Ref("b")), outputs={"y": "y"})
    lines = forward_of(graph)
    if made.args[1:] == (4, -1):
        assert lines[0].startswith("a, b, _ = ")
    else:
        assert lines[1:3] == ["a = pieces[0]", "b = pieces[1]"]
    x = torch.randn(3, 3)
    pieces = {"chunk": x.chunk(4, -1), "split": x.split(2), "unbind": x.unbind()}[made.target_name.rpartition(".")[2]]
    if len({piece.shape for piece in pieces[:2]}) == 1:
        assert torch.equal(compile_graph(graph)(x)["y"], pieces[0] + pieces[1])


def test_one_element_is_read_in_place(graph_of: GraphOf):
    nodes = [call("max", f"{T}max", X, -1), element("max_1", "max", 0), call("y", f"{T}neg", Ref("max_1"))]
    assert forward_of(graph_of(*nodes, outputs={"y": "y"})) == ["y = -x.max(-1)[0]"]


def test_a_cell_has_two_results():
    cell = nn.LSTMCell(3, 2)
    nodes: list[Node] = [
        Input(name="x", path=("x",), shape=(4, 3), dtype=torch.float32),
        call("cell", "self.cell", X),
        element("h", "cell", 0),
        element("c", "cell", 1),
        call("y", f"{T}mul", Ref("h"), Ref("c")),
    ]
    binding = Binding(modules={"cell": Submodule(cell)})
    graph = Graph(nodes, outputs={"y": "y"}, arguments=(Argument("x"),), binding=binding)
    assert forward_of(graph) == ["h, c = self.cell(x)", "y = h * c"]


# evaluation order


def with_modules(nodes: list[Node], modules: dict[str, nn.Module], tensors: Any = None) -> Graph:
    x = Input(name="x", path=("x",), shape=(64,), dtype=torch.float32)
    binding = Binding(tensors=tensors or {}, modules={name: Submodule(module) for name, module in modules.items()})
    return Graph([x, *nodes], outputs={"y": "y"}, arguments=(Argument("x"),), binding=binding)


def test_submodules_are_called_in_the_programs_order():
    nodes: list[Node] = [call("a", "self.a", X), call("b", "self.b", X), call("y", f"{T}sub", Ref("b"), Ref("a"))]
    graph = with_modules(nodes, {"a": nn.Dropout(), "b": nn.Dropout()})
    assert forward_of(graph) == ["a = self.a(x)", "y = self.b(x) - a"]
    nodes[-1] = call("y", f"{T}sub", Ref("a"), Ref("b"))
    assert forward_of(with_modules(nodes, {"a": nn.Dropout(), "b": nn.Dropout()})) == ["y = self.a(x) - self.b(x)"]


def test_a_buffer_is_read_before_the_call_that_changes_it():
    norm = nn.BatchNorm1d(1)
    nodes: list[Node] = [
        Parameter(name="mean", path="norm.running_mean", shape=(1,), trainable=False),
        call("add", f"{T}add", Ref("mean"), 1.0),
        call("column", f"{T}view", X, -1, 1),
        call("norm", "self.norm", Ref("column")),
        call("y", f"{T}mul", Ref("norm"), Ref("add")),
    ]
    graph = with_modules(nodes, {"norm": norm}, {"norm.running_mean": norm.running_mean})
    assert forward_of(graph)[0] == "add = self.norm.running_mean + 1.0"
    x = torch.arange(64.0)
    found = compile_graph(graph)(x)["y"]
    norm.reset_running_stats()
    torch.testing.assert_close(found, norm(x.view(-1, 1)))


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_draw_in_the_order_of_their_nodes(seed: int):
    """Dropout, interpreted node by node, draws the same numbers."""
    pick = random.Random(seed)
    modules: dict[str, nn.Module] = {"drop": nn.Dropout(0.5), "other": nn.Dropout(0.2)}
    values, nodes = ["x"], list[Node]()
    for i in range(14):
        kind = pick.choice(["drop", "other", "add", "sub", "exp"])
        left, right = (Ref(pick.choice(values[-4:])) for _ in range(2))
        if kind in modules:
            nodes.append(call(f"{kind}_{i}", f"self.{kind}", left))
        else:
            nodes.append(call(f"{kind}_{i}", f"{T}{kind}", *((left,) if kind == "exp" else (left, right))))
        values.append(nodes[-1].name)
    nodes.append(call("y", f"{T}add", Ref(values[-1]), Ref(values[-2])))
    graph = with_modules(nodes, modules)
    x = torch.linspace(-1, 0, 64)
    torch.manual_seed(seed)
    found = compile_graph(graph)(x)["y"]
    torch.manual_seed(seed)
    wanted = interpreted(graph, {"x": x})
    assert torch.equal(found.nan_to_num(), wanted.nan_to_num())
    assert len(forward_of(graph)) < len(nodes)


def interpreted(graph: Graph, values: dict[str, Tensor]) -> Tensor:
    """The value of ``y``, computed node by node; what it does not need is left out, as dead code is."""
    needed = graph.ancestors(["y"])
    for node in graph:
        if isinstance(node, Call) and node.name in needed:
            args = [values[arg.name] for arg in node.args]
            path = node.target_name.removeprefix("self.")
            module = graph.binding.modules.get(path)
            values[node.name] = (module.module if module else getattr(torch.Tensor, path.rpartition(".")[2]))(*args)
    return values["y"]


def test_what_comes_too_late_is_named():
    assert delayed(["a", "b", "c"], ["a", "b", "c"]) == set()
    assert delayed(["b", "a", "c"], ["a", "b", "c"]) == {"a"}
    assert delayed(["c", "a", "b"], ["a", "b", "c"]) == {"a", "b"}
    assert delayed(["a", "b"], ["a", "b", "c"]) == {"c"}


# pairs


def test_the_teachers_nodes_stay_where_no_gradient_is(pair: SimpleNamespace):
    """Each is read once, by the terms of the loss."""
    renamed = {"teacher.loc": "teacher.net", "teacher.scale": "teacher.exp", "student.loc": "student.net"}
    nodes = [node.map_names(lambda name: renamed.get(name, name)) for node in pair.graph]
    graph = pair.graph.evolve(_named(node, renamed.get(node.name, node.name)) for node in nodes)
    text = source_of(graph)
    block = text[text.index("with torch.no_grad():") : text.index("# student")]
    assert "teacher.net(teacher_z)" in block and "torch.exp(teacher.log_scale)" in block
    assert text.count("teacher.net(") == text.count("student.net(") == 1
    assert not any("teacher." in line for line in text[text.index("# terms") :].splitlines()[1:8] if "#" not in line)


def _named(node: Node, name: str) -> Node:
    return replace(node, name=name)


def test_parts_of_terms_are_written_into_them(pair: SimpleNamespace):
    parts = {"distance": "latent.z.sub", "square": "latent.z.square"}
    renamed = {**parts, "kl": "surrogate.y.kl", "weighted": "total.part"}
    nodes = [node.map_names(lambda name: renamed.get(name, name)) for node in pair.graph]
    text = source_of(pair.graph.evolve(_named(node, renamed.get(node.name, node.name)) for node in nodes))
    terms = text[text.index("# terms") : text.index("return Loss")]
    assert "latent_z = ((teacher_z - student_z) ** 2).mean()" in terms
    assert "total = surrogate_y + latent_z * 0.1" in terms
    assert "surrogate_y = kl_normal(teacher_loc, teacher_scale, student_loc, student_scale).mean()" in terms
