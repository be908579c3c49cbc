"""The text of a graph is read back as the same graph, whatever its names are."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmcompile.diagnostics import CompileError, Location
from dgmcompile.ir.graph import (
    Argument,
    Call,
    Constant,
    DeviceOf,
    Formula,
    Graph,
    Guard,
    Input,
    Node,
    Noise,
    Parameter,
    Plate,
    Ref,
    Sample,
    Site,
    TransformStep,
)
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import format_graph, format_type, format_value, parse


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


EXAMPLE = """
    vae = graph(x, optional(mask), keyword(rate), keyword(optional(n)))
    x: float32[batch, 784] = input()
    mask: bool[batch] = input("batch", "mask", 0)
    rate = input()
    n = input()
    batch = size(x, 0)
    w: float32[784, 16] = param("encoder.0.weight")
    running: float32[16] = param(trainable=False)
    origin: float32[2, 2] = constant(((0.0, -1.0), (float("nan"), float("inf"))))
    hidden: float32[batch, 16] = self.encoder["0"](x)
    loc: float32[batch, 16] = torch.nn.functional.relu(hidden, inplace=False)
    parts = torch.Tensor.split(loc, [8, 8], dim=-1)
    first: float32[batch, 8] = getitem(parts, 0)
    e: float32[2 * batch + 1, n] = noise.StandardNormal()
    twice: float32[batch, 8] = double(first)
    z: float32[batch, 8] = identity(twice).latent("z 1", plate("data", -2, batch), family="Normal")
    k: float32 = sample.Gamma(concentration=1.0, rate=ref["rate"]).keep().latent()
    y: float32[batch, 784] = sample.Normal(loc=z, scale=k).transform.AffineTransform(loc=0.0, scale=2.0)\
.transform["x.inv"]().event(1).mask(mask).scale(0.5).target(plate("data", -2, batch))
    flat: float32[784 * batch] = torch.Tensor.reshape(y, (-1,), (batch, 784 * batch), ref["batch"])
    cut: float32[batch, 3] = torch.Tensor.__getitem__(x, (..., slice(None, -3, None), None, True))
    made: float64[batch] = torch.zeros(batch, dtype=torch.float64, device=device(), layout=torch.strided)
    moved: complex64[...] = torch.f(device("cpu"), complex(1.0, -0.0), {"a": [1, "b"]}, torch.channels_last)
    untyped: [batch, 2] = call["weird target"](**{"not plain": 1})
    guard("x", dim=1, expected=784, reason="a loop over it")
    guard("n", dim=None, expected=batch - 1, reason='it "decides"')
    return {"z": z, "result": flat}
"""
FORMULAS = {"double": Formula.of(double)}


def test_the_example_is_canonical():
    graph = parse(EXAMPLE, FORMULAS)
    assert str(graph) == "\n".join(line.strip() for line in EXAMPLE.strip().splitlines())
    assert parse(str(graph), FORMULAS) == graph


def test_the_example_is_what_it_says():
    graph = parse(EXAMPLE, FORMULAS)
    batch = Size.symbol("batch")
    assert graph.name == "vae"
    assert graph.arguments == (
        Argument("x"),
        Argument("mask", required=False),
        Argument("rate", keyword_only=True),
        Argument("n", required=False, keyword_only=True),
    )
    assert graph["x"] == Input(name="x", path=("x",), shape=(batch, 784), dtype=torch.float32)
    assert graph["mask"] == Input(name="mask", path=("batch", "mask", 0), shape=(batch,), dtype=torch.bool)
    assert graph["batch"] == Call(name="batch", target="size", args=(Ref("x"), 0))
    assert graph["running"] == Parameter(
        name="running", path="running", trainable=False, shape=(16,), dtype=torch.float32
    )
    assert graph["e"] == Noise(
        name="e",
        law="StandardNormal",
        shape=(Size.of({("batch",): 2, (): 1}), Size.symbol("n")),
        dtype=torch.float32,
    )
    assert graph["z"].site == Site("z 1", "latent", "Normal", (Plate("data", -2, batch),))
    assert graph["k"] == Sample(
        name="k",
        family="Gamma",
        params={"concentration": 1.0, "rate": Ref("rate")},
        kept=True,
        shape=(),
        dtype=torch.float32,
        site=Site("k", "latent", "Gamma"),
    )
    y = graph["y"]
    assert isinstance(y, Sample)
    assert y.transforms == (TransformStep("AffineTransform", {"loc": 0.0, "scale": 2.0}), TransformStep("x.inv"))
    assert (y.event_dim, y.mask, y.scale, y.kept) == (1, Ref("mask"), 0.5, False)
    flat = graph["flat"]
    assert isinstance(flat, Call)
    assert flat.args == (Ref("y"), (-1,), (batch, Size.of({("batch",): 784})), Ref("batch"))
    cut = graph["cut"]
    assert isinstance(cut, Call) and cut.args[1] == (..., slice(None, -3, None), None, True)
    hidden, untyped = graph["hidden"], graph["untyped"]
    assert isinstance(hidden, Call) and hidden.target == "self.encoder.0"
    assert isinstance(untyped, Call) and untyped.target == "weird target" and untyped.dtype is None
    assert (graph["moved"].shape, graph["moved"].dtype) == (None, torch.complex64)
    assert graph.guards[1] == Guard(("n",), None, Size.of({("batch",): 1, (): -1}), 'it "decides"')
    assert graph.outputs == {"z": "z", "result": "flat"}


KNOWN_WORDS = [
    "x",
    "ref",
    "graph",
    "input",
    "size",
    "torch",
    "self",
    "class",
    "None",
    "match",
    "torch.exp",
    "__debug__",
]
ODD_NAMES = [
    "teacher.z",
    "a.b.c",
    "torch.x",
    "x.1",
    ".",
    "é",
    "ﬁ",
    "µ",
    '"',
    "'",
    "\"'",
    "\\",
    "<script>",
    "a b",
    "a\nb",
    "# no",
    "a + -b",
    "",
    "\u2028",
    "\ud800",
]
NAMES = st.sampled_from([*KNOWN_WORDS, *ODD_NAMES]) | st.text(max_size=5)
TARGETS = st.one_of(
    st.sampled_from(["torch.exp", "torch.Tensor.mT", "self.net.0", "self", "torch", "torch.", "self..a", "size"]),
    st.sampled_from(["identity", "getitem", "input", "call", "formula", "sample.Normal", "x", "call.x"]),
    NAMES,
    NAMES.map(lambda name: Formula(name, double)),
)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
FLOATS = st.floats() | st.sampled_from([float("nan"), float("inf"), -0.0, 1e-45, 1e300])


def sizes(names: list[str]) -> st.SearchStrategy[Size | int]:
    monomials = st.lists(st.sampled_from(names), max_size=2).map(lambda m: tuple(sorted(m)))
    return st.dictionaries(monomials, st.integers(-3, 3), max_size=3).map(Size.of)


def args(names: list[str]) -> st.SearchStrategy[Any]:
    literals = [
        st.none(),
        st.booleans(),
        st.integers(),
        FLOATS,
        st.builds(complex, FLOATS, FLOATS),
        NAMES,
        st.binary(max_size=3),
        DTYPES,
        st.just(...),
        st.just(DeviceOf()),
        st.sampled_from([torch.device("cpu"), torch.device("cuda", 1), torch.strided, torch.channels_last]),
    ]
    leaf = st.one_of(*literals)
    if names:
        leaf = leaf | st.sampled_from(names).map(Ref) | sizes(names)
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(NAMES | st.integers(), inner, max_size=2),
            st.builds(slice, inner, inner, inner),
        ),
        max_leaves=4,
    )


@st.composite
def nodes(draw: st.DrawFn, name: str, before: list[str]) -> Node:
    values = args(before)
    dims = st.integers(0, 9) | sizes(before) if before else st.integers(0, 9)
    named = st.dictionaries(NAMES, values, max_size=3)
    plates = st.lists(st.builds(Plate, NAMES, st.integers(-3, -1), dims), max_size=2).map(tuple)
    roles = st.sampled_from(["latent", "target", "deterministic"])
    common: dict[str, Any] = {
        "name": name,
        "shape": draw(st.none() | st.lists(dims, max_size=3).map(tuple)),
        "dtype": draw(st.none() | DTYPES),
        "site": draw(st.none() | st.builds(Site, st.just(name) | NAMES, roles, NAMES, plates)),
    }
    match draw(st.sampled_from([Input, Parameter, Constant, Call, Call, Sample, Noise])):
        case kind if kind is Input:
            path = draw(st.just((name,)) | st.lists(NAMES | st.integers(-2, 9), min_size=1, max_size=3).map(tuple))
            return Input(**common, path=path)
        case kind if kind is Parameter:
            return Parameter(**common, path=draw(st.just(name) | NAMES), trainable=draw(st.booleans()))
        case kind if kind is Constant:
            return Constant(**common, value=draw(args([])))
        case kind if kind is Noise:
            return Noise(**common, law=draw(NAMES))
        case kind if kind is Call:
            positional = tuple(draw(st.lists(values, max_size=3)))
            return Call(**common, target=draw(TARGETS), args=positional, kwargs=draw(named))
        case _:
            steps = draw(st.lists(st.builds(TransformStep, NAMES, named), max_size=2).map(tuple))
            return Sample(
                **common,
                family=draw(NAMES),
                params=draw(named),
                transforms=steps,
                event_dim=draw(st.integers(0, 2)),
                mask=draw(values),
                scale=draw(values),
                kept=draw(st.booleans()),
            )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = draw(st.lists(NAMES, max_size=5, unique=True))
    made = [draw(nodes(name, names[:i])) for i, name in enumerate(names)]
    outputs = st.dictionaries(NAMES, st.sampled_from(names), max_size=3) if names else st.just({})
    same = st.lists(st.sampled_from(names), max_size=3).map(lambda keys: {k: k for k in keys}) if names else st.none()
    paths = st.lists(NAMES | st.integers(0, 3), max_size=2).map(tuple)
    return Graph(
        made,
        name=draw(st.just("model") | NAMES),
        outputs=draw(st.none() | outputs | same),
        arguments=tuple(draw(st.lists(st.builds(Argument, NAMES, st.booleans(), st.booleans()), max_size=3))),
        guards=tuple(
            draw(st.lists(st.builds(Guard, paths, st.none() | st.integers(), args(names), NAMES), max_size=2))
        ),
    )


def formulas(graph: Graph) -> dict[str, Formula]:
    return {n.target.name: n.target for n in graph if isinstance(n, Call) and isinstance(n.target, Formula)}


def plain(graph: Graph) -> tuple[Any, ...]:
    """What equality of dataclasses compares, nan made equal to itself."""
    return (graph.name, repr(list(graph)), graph.outputs, graph.arguments, repr(graph.guards))


@settings(max_examples=300)
@given(graphs())
def test_every_graph_is_read_back(graph: Graph):
    text = str(graph)
    again = parse(text, formulas(graph))
    assert again == graph
    assert plain(again) == plain(graph)
    assert text.count("\n") <= len(graph) + len(graph.guards) + 1  # a line for each, whatever the names hold


def test_locations_are_comments():
    node = Call(name="y", target="torch.exp", shape=(), location=Location("/home/me/model\n.py", 14, 8))
    graph = Graph([node])
    assert str(graph) == "y: [] = torch.exp()  # model?.py:14:8"
    assert format_graph(graph, locations=False) == "y: [] = torch.exp()"
    assert parse(str(graph)) == graph


def test_what_has_no_text_is_shown_and_refused():
    graph = Graph([Call(name="y", target="torch.f", args=(frozenset([1]),))])
    assert str(graph) == 'y = torch.f(opaque("frozenset({1})"))'
    with pytest.raises(CompileError, match="expected a value"):
        parse(str(graph))


def test_short_forms_of_values_and_types():
    assert format_value([Ref("x"), Size.symbol("n"), (1.0,), "a"]) == '[x, 1 * n, (1.0,), "a"]'
    node = Noise(name="e", law="StandardNormal", shape=(Size.symbol("n"), 3), dtype=torch.float32)
    assert format_type(node) == "float32[n, 3]"


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("x: [2] = 1 +", "not in the text form of a graph: invalid syntax", 1, 13),
        ("x: [2] = input()\nx + 1", "expected `name: dtype[shape] = head(...)`", 2, 1),
        ("x: [2] = y", "expected `name: dtype[shape] = head(...)`", 1, 1),
        ("for x in y: pass", "expected `name: dtype[shape] = head(...)`", 1, 1),
        ("x: [2] = torch.exp(lambda: 1)", "expected a value", 1, 20),
        ("x: [2] = torch.exp(open('file'))", "expected a value", 1, 20),
        ("x: [2] = torch.exp(torch.nn)", "torch.nn is no literal", 1, 20),
        ("x: [2] = torch.exp(1 / 2)", "expected a sum of products of sizes", 1, 20),
        ("x: [2] = (lambda: 1)()", "expected a call by name", 1, 10),
        ("x[0]: [2] = input()", "expected a node's name", 1, 1),
        ("x: [y] = input()", "expected a number or a size node", 1, 5),
        ("x: float31[2] = input()", "torch.float31 is no literal", 1, 4),
        ("x: strided[2] = input()", "torch.strided is no dtype", 1, 4),
        ("x: 3 = input()", "expected dtype[shape]", 1, 4),
        ("x: [2] = unheard(1)", "no formula is called 'unheard'", 1, 10),
        ("x: [2] = os.system(1)", "os.system is no kind of node", 1, 10),
        ("x: [2] = input().event(1)", "no such suffix: .event", 1, 10),
        ("x: [2] = sample.N().soon()", "no such suffix: .soon", 1, 10),
        ("x: [2] = sample.N().latent(3)", "expected the site's name or plate(name, dim, size)", 1, 28),
        ("x: [2] = param(wrong=3)", "Parameter.__init__() got an unexpected keyword argument 'wrong'", 1, 1),
        ('x: [2] = torch.f(device("nowhere"))', "Expected one of", 1, 18),
        ("model = graph(f(x))", "expected an argument's name, optional(...) or keyword(...)", 1, 15),
        ("y: [2] = torch.exp(x)", "'y' reads 'x', which no node defines", 1, 1),
        ("x: [2] = input()\nx: [2] = input()", "two nodes of one name", 1, 1),
        ("x: [2] = input()\nreturn y", "outputs ['y'] name no node", 1, 1),
        ('guard("x")', "missing 3 required positional arguments", 1, 1),
        ("\0", "source code string cannot contain null bytes", 1, 1),
    ],
)
def test_a_text_that_is_no_graph_is_refused_where_it_is_wrong(text: str, message: str, line: int, column: int):
    with pytest.raises(CompileError) as caught:
        parse(text)
    (found,) = caught.value.diagnostics
    assert found.code == "graph-text" and message in found.message
    assert found.location == Location("<graph>", line, column)


def test_source_lines_come_back():
    text = """
        f = graph(x)
        x: float32[3] = input()
        y: float32[3] = torch.exp(x)  # model.py:14:8
        z: float32[3] = torch.exp(y)  # what a person says of it
        return z
    """
    graph = parse(text)
    assert graph["y"].location == Location("model.py", 14, 8)
    assert graph["z"].location is None
    assert str(parse(str(graph))) == str(graph)


def test_laws_inside_laws_and_options_come_back():
    mixture = "mixture_distribution=law.Categorical(3, logits=w)"
    component = "component_distribution=law.Normal(3, 5, loc=0.0, scale=w).transform.ExpTransform().event(1)"
    text = f"""
        w: float32[3] = param()
        z: float32[2, 5] = sample.MixtureSameFamily({mixture}, {component}).event(1).options(variant="v").latent()
    """
    graph = parse(text)
    sample = graph["z"]
    assert isinstance(sample, Sample)
    law = sample.params["component_distribution"]
    assert law.shape == (3, 5) and law.event_dim == 1 and law.params["scale"] == Ref("w")
    assert sample.inputs == ("w", "w")
    assert str(graph) == inspect.cleandoc(text)
