"""The graph: edges follow from references, order from both, and nothing is built that does not hold together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dgmcompile.diagnostics import InternalError, Location
from dgmcompile.ir.graph import (
    Call,
    Decision,
    Graph,
    Input,
    Noise,
    Plate,
    Ref,
    Sample,
    Site,
    TransformStep,
    leaves,
    map_arg,
    names_in,
    refs_in,
    variable_kind,
)
from dgmcompile.ir.size import Size, add
from dgmcompile.ir.text import parse

BATCH = Size.symbol("batch")


def test_edges_follow_from_references_wherever_they_stand():
    x, n = Input(name="x", path=("x",), shape=(2,)), Input(name="n", path=("n",))
    call = Call(
        name="y",
        target="torch.f",
        args=(Ref("x"), [1, {"k": (Ref("a"),)}], slice(None, Ref("b"))),
        kwargs={"size": (add(Size.symbol("n"), 1),), "x": Ref("x")},
    )
    graph = Graph([x, n, *(Input(name=name, path=(name,)) for name in "ab"), call])
    assert set(graph.graph.edges) == {("x", "y"), ("n", "y"), ("a", "y"), ("b", "y")}
    assert call.inputs == ("x", "a", "b", "n", "x")
    assert graph.users("x") == ("y",)


def test_a_sample_reads_parameters_steps_mask_scale_and_the_sizes_of_its_shape():
    sample = Sample(
        name="z",
        family="Normal",
        params={"loc": Ref("a"), "scale": 1.0},
        transforms=(TransformStep("AffineTransform", {"loc": Ref("b")}),),
        mask=Ref("c"),
        scale=Ref("d"),
        shape=(BATCH, 3),
    )
    assert sample.inputs == ("a", "b", "c", "d", "batch")
    assert Noise(name="e", law="StandardNormal", shape=(BATCH,)).inputs == ("batch",)


def test_shapes_of_inputs_and_calls_make_no_edges():
    graph = parse("x: float32[batch, 3] = input()\nbatch = size(x, 0)\ny: float32[batch] = torch.sum(x, -1)")
    assert set(graph.graph.edges) == {("x", "batch"), ("x", "y")}


def test_an_unknown_reference_is_refused():
    with pytest.raises(InternalError, match="'y' reads 'q', which no node defines"):
        Graph([Call(name="y", target="torch.exp", args=(Ref("q"),))])


def test_two_nodes_of_one_name_are_refused():
    with pytest.raises(InternalError, match="two nodes of one name"):
        Graph([Input(name="x", path=("x",)), Input(name="x", path=("x",))])


def test_a_cycle_is_refused():
    with pytest.raises(InternalError, match="cycle"):
        Graph([Call(name=a, target="torch.exp", args=(Ref(b),)) for a, b in ("xy", "yx")])


def test_an_output_that_is_no_node_is_refused():
    with pytest.raises(InternalError, match=r"outputs \['q'\] name no node"):
        Graph([], outputs={"y": "q"})


def test_inputs_come_before_their_users_else_the_order_is_the_programs():
    nodes = [
        Call(name="c", target="torch.exp", args=(Ref("a"),)),
        Input(name="b", path=("b",)),
        Input(name="a", path=("a",)),
    ]
    assert [node.name for node in Graph(nodes)] == ["b", "a", "c"]
    assert [node.name for node in Graph(list(Graph(nodes)))] == ["b", "a", "c"]


def test_the_networkx_graph_is_a_copy():
    graph = parse("x: [2] = input()\ny: [2] = torch.exp(x)")
    picture = graph.graph
    assert picture.nodes["x"]["node"] == graph["x"]
    picture.clear()
    assert len(graph.graph) == 2


MODEL = """
    x: float32[batch, 3] = input()
    batch = size(x, 0)
    e: float32[batch, 3] = noise.StandardNormal()
    h: float32[batch, 3] = torch.exp(x)
    z: float32[batch, 3] = torch.add(h, e).latent(plate("data", -2, batch), family="Normal")
    zeros: float32[batch, 3] = torch.zeros((batch, 3))
    like: float32[batch, 3] = torch.zeros_like(z)
    w: float32[batch, 3] = sample.Normal(loc=zeros, scale=1.0).latent()
    v: float32[batch, 3] = sample.Normal(loc=like, scale=1.0).latent()
    d: float32[batch, 3] = identity(z).deterministic()
    y: float32[batch, 3] = sample.Normal(loc=z, scale=w).target()
"""


def test_names_by_role():
    graph = parse(MODEL)
    assert graph.inputs == ("x",) and graph.noises == ("e",)
    assert graph.latents == ("z", "w", "v") and graph.targets == ("y",)
    assert [sample.name for sample in graph.samples] == ["w", "v", "y"]
    assert graph.sites() == graph.outputs == {name: name for name in "zwvdy"}


def test_variables_are_joined_through_calls_and_not_through_sizes():
    picture = parse(MODEL).variables()
    assert set(picture.nodes) == set("xezwvdy")
    assert set(picture.edges) == {("x", "z"), ("e", "z"), ("z", "d"), ("z", "y"), ("w", "y")}
    assert picture.nodes["z"] == {
        "kind": "latent",
        "family": "Normal",
        "shape": (BATCH, 3),
        "plates": (Plate("data", -2, BATCH),),
    }
    assert picture.nodes["e"]["family"] == "StandardNormal"


def test_kinds_of_variables():
    graph = parse(f"{MODEL}\n    n = input()")
    assert {variable_kind(node) for node in graph} == {"input", "noise", "latent", "target", "deterministic", None}
    assert variable_kind(graph["n"]) is None


def test_ancestors_and_what_is_live():
    graph = parse(MODEL)
    assert graph.ancestors(["z"]) == {"x", "batch", "e", "h", "z"}
    assert graph.evolve(outputs={"h": "h"}).live() == {"x", "batch", "h"}
    assert graph.evolve(outputs={}).live() == {"x", "batch"}
    assert graph.live() == set(graph.graph)


def test_sizes_of_plates_and_guards_are_live():
    text = """
        x: float32[3] = input()
        n = size(x, 0)
        m = size(x, 0)
        k = size(x, 0)
        z: float32[3] = identity(x).latent(plate("p", -1, n))
        guard("x", dim=0, expected=m, reason="a test")
    """
    assert parse(text).live() == {"x", "n", "m", "z"}


def test_replace_keeps_the_users():
    graph = parse("x: [2] = input()\ny: [2] = torch.exp(x)\nz: [2] = torch.log(y)")
    inner = Call(name="inner", target="torch.neg", args=(Ref("x"),), shape=(2,))
    replaced = graph.replace("y", inner, replace(graph["y"], args=(Ref("inner"),)))
    assert [node.name for node in replaced] == ["x", "inner", "y", "z"]
    assert set(replaced.graph.edges) == {("x", "inner"), ("inner", "y"), ("y", "z")}
    assert [node.name for node in graph] == ["x", "y", "z"]
    for new in ((), (inner,)):
        with pytest.raises(InternalError, match="must keep its name"):
            graph.replace("y", *new)


def test_evolve_keeps_what_is_not_changed():
    graph = parse('m = graph(x)\nx: [2] = input()\nguard("x", dim=0, expected=2, reason="r")\nreturn x')
    history = (Decision("pass", "x", "keep", "why"),)
    changed = graph.evolve(history=history).evolve(name="other")
    assert (changed.name, changed.history) == ("other", history)
    assert (changed.arguments, changed.guards, changed.outputs) == (graph.arguments, graph.guards, graph.outputs)
    assert list(changed) == list(graph)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("torch.f(1)", "torch.f(1)", True),
        ("torch.f(1)", "torch.f(1.0)", False),
        ("torch.f(1)", "torch.f(True)", False),
        ("torch.f(0.0)", "torch.f(-0.0)", False),
        ('torch.f(float("nan"))', 'torch.f(float("nan"))', True),
        ("torch.f((1, 2))", "torch.f([1, 2])", False),
    ],
)
def test_graphs_are_equal_as_their_texts_are(one: str, other: str, equal: bool):
    assert (parse(f"y: [2] = {one}") == parse(f"y: [2] = {other}")) is equal


def test_equality_leaves_out_where_a_node_comes_from():
    graph = parse("y: [2] = torch.f()")
    assert graph.evolve(replace(node, location=Location("a.py", 3)) for node in graph) == graph
    assert graph != "y: [2] = torch.f()"


def test_renaming_reaches_every_reference_and_no_name():
    graph = parse(MODEL)
    for node in graph:
        renamed = node.map_names(lambda name: f"teacher.{name}")
        assert renamed.name == node.name
        assert renamed.inputs == tuple(f"teacher.{name}" for name in node.inputs)
    z = graph["z"].map_names(str.upper)
    assert z.shape == (Size.symbol("BATCH"), 3)
    assert z.site == Site("z", "latent", "Normal", (Plate("data", -2, Size.symbol("BATCH")),))


def test_map_arg_walks_everything_and_keeps_the_kinds():
    arg = (1, [2, {"k": 3}], slice(4, None, 5), torch.Size([6]))
    assert map_arg(arg, lambda a: a and a + 1) == (2, [3, {"k": 4}], slice(5, None, 6), (7,))
    assert leaves(arg) == [1, 2, 3, 4, None, 5, 6]
    assert refs_in([Ref("a"), BATCH]) == ["a"]
    assert names_in([Ref("a"), add(BATCH, Size.symbol("a"))]) == ["a", "a", "batch"]
