"""DOT text: outlines by role, boxes around plates and models, and names as data."""

import xml.etree.ElementTree as ET
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmcompile.diagnostics import Location
from dgmcompile.ir.graph import Call, Graph, Input, Parameter, Plate, Ref, Sample, Site
from dgmcompile.viz.dot import LONGEST, MOST_CURVED_SPAN, ROLE_NAMES, ROLE_STYLES, dot_of, name_of, node_id, visible
from dgmcompile.viz.render import svg_of

HOSTILE = (
    'a"b',
    "a\nb",
    '"); import os',
    "<script>alert(1)</script>",
    "lambda",
    "naïve/z 1",
    "x -> y",
    "graph",
    "\\N",
    "\\\\N",
    "\\",
    "a\\",
    "&lt;b&gt; &amp;",
    "<b>",
    "-->",
    "]]>",
    "a:b:c",
    "%teacher",
    "=teacher",
    "=",
    "",
    " ",
    "\x00\x1b[31m",
    "\ud800",
    "\ufffe",
    "日本語",
    "strict digraph {",
)


def test_boxes_have_the_outline_of_their_role(semi, vae, pair, parsed):
    seen = set()
    for graph in (semi, vae, pair):
        for node in parsed(dot_of(graph, detail="calls")).nodes.values():
            assert node["shape"] == ROLE_STYLES[node["class"]]["shape"]
            assert node.get("style") == ROLE_STYLES[node["class"]].get("style")
            seen.add(node["class"])
    assert seen == set(ROLE_STYLES) - {"result"}


def test_outlines_differ_without_their_colours():
    looks = {(look["shape"], look.get("style"), look.get("peripheries")) for look in ROLE_STYLES.values()}
    assert len(looks) == len(ROLE_STYLES) == len(ROLE_NAMES)


def test_a_target_that_is_computed_is_dashed(parsed):
    site = Site("y", "target", "Normal")
    graph = Graph(
        [Input(name="x", path=("x",), shape=()), Call(name="y", target="torch.exp", args=(Ref("x"),), site=site)]
    )
    (target,) = [node for node in parsed(dot_of(graph)).nodes.values() if node["name"] == "y"]
    assert (target["shape"], target["peripheries"], target["style"]) == ("ellipse", "2", "filled,dashed")


def test_plates_are_nested_boxes(semi, parsed):
    dot = parsed(dot_of(semi))
    assert dot.members("batch  x.shape[0]") == [{"x", "z_noise", "z", "energy", "y"}]
    assert dot.members("pixels  784") == [{"y"}]
    assert dot.edges == set(semi.variables().edges)


def test_plates_that_overlap_are_split_rather_than_drawn_around_others(parsed):
    rows, columns = Plate("rows", -1, 4), Plate("columns", -2, 3)

    def latent(name, *plates):
        return Sample(name=name, family="Normal", params={}, shape=(3, 4), site=Site(name, "latent", "Normal", plates))

    graph = Graph([latent("a", rows), latent("b", rows, columns), latent("c", columns), latent("d", rows), latent("e")])
    dot = parsed(dot_of(graph))
    assert dot.members("rows") == [{"a", "b", "d"}]
    assert sorted(map(sorted, dot.members("columns"))) == [["b"], ["c"]]


def test_a_pair_is_two_boxes_with_what_they_share_outside(pair, parsed):
    dot = parsed(dot_of(pair))
    assert dot.members("Teacher") == [{"teacher.z", "teacher.y"}]
    assert dot.members("Student") == [{"student.z"}]
    assert {"z_noise", "x"} in dot.members("batch")
    assert {("z_noise", "teacher.z"), ("z_noise", "student.z"), ("surrogate.y", "total")} <= dot.edges
    assert {dot.nodes[name]["shape"] for name in ("surrogate.y", "latent.z", "total")} == {"octagon"}


def test_teacher_stands_left_of_student(pair):
    for detail in ("variables", "calls"):
        svg = ET.fromstring(svg_of(pair, detail=detail))
        left = {}
        for group in svg.iter("{http://www.w3.org/2000/svg}g"):
            if (kind := group.get("class", "")).startswith("cluster ") and "plate" not in kind:
                left[kind] = float(group.find("{http://www.w3.org/2000/svg}path").get("d")[1:].split(",")[0])
        assert left["cluster teacher"] < left["cluster student"]


def test_student_without_variables_is_drawn_without_a_box(parsed):
    site = Site("teacher.y", "target", "Normal")
    graph = Graph(
        [
            Sample(name="teacher.y", family="Normal", params={}, shape=(), site=site),
            Parameter(name="student.loc", path="student.loc", shape=()),
            Call(name="loss", target="torch.sub", args=(Ref("teacher.y"), Ref("student.loc")), shape=()),
        ],
        outputs={"loss": "loss"},
    )
    dot = parsed(dot_of(graph))
    assert set(dot.nodes) == {"teacher.y", "loss"}
    assert len(dot.members("Teacher")) == 1
    assert not dot.members("Student")


def test_same_graph_same_text(semi, pair):
    for graph in (semi, pair):
        for detail in ("variables", "calls"):
            again = graph.evolve(list(graph))
            assert dot_of(graph, detail=detail, title="t") == dot_of(again, detail=detail, title="t")


def test_the_empty_graph(parsed):
    assert parsed(dot_of(Graph([]), title="empty")).nodes == {}


def named_graph(name):
    """The name as site, plate, family, input, parameter, function and module."""
    plate = Plate(name, -1, 3)
    return Graph(
        [
            Input(name="x" + name, path=(name,), shape=(3,), location=Location(name, 1)),
            Parameter(name="p" + name, path=name, shape=()),
            Call(name="c" + name, target="torch." + name, args=(Ref("x" + name), Ref("p" + name)), shape=(3,)),
            Call(name="m" + name, target="self." + name, args=(Ref("c" + name),), shape=(3,)),
            Sample(
                name=name,
                family=name,
                params={"loc": Ref("m" + name)},
                shape=(3,),
                site=Site(name, "latent", name, (plate,)),
            ),
        ],
        name=name,
    )


def texts(svg):
    return ["".join(element.itertext()) for element in svg.iter("{http://www.w3.org/2000/svg}text")]


def squeezed(text):
    """HTML-like labels show any run of blanks as one."""
    return " ".join(text.split())


def assert_drawn_as_data(name):
    graph = named_graph(name)
    svg = ET.fromstring(svg_of(graph, detail="calls", title=name))
    tags = {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert tags <= {"svg", "g", "title", "path", "polygon", "polyline", "ellipse", "text"}
    attributes = {key for element in svg.iter() for key in element.attrib}
    assert not [key for key in attributes if key.lower().startswith("on") or "href" in key or key == "id"]
    shown = visible(name)
    if len(shown) <= LONGEST and shown.isascii():
        drawn = [squeezed(text) for text in texts(svg)]
        assert drawn.count(squeezed(shown)) >= 3, (shown, drawn)  # title, site and parameter
        titles = [title.text for title in svg.iter("{http://www.w3.org/2000/svg}title")]
        assert any(title.startswith(f"{shown} | ") for title in titles)
        assert any("\N{RIGHTWARDS ARROW}" in title and title.endswith(shown) for title in titles if title)


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 200])
def test_names_are_data(name, parsed):
    dot = parsed(dot_of(named_graph(name), detail="calls", title=name))
    assert set(dot.nodes) == {node_id(prefix + name) for prefix in ("", "x", "p", "c", "m")}
    assert len(dot.edges) == 4
    assert_drawn_as_data(name)


@settings(max_examples=60)
@given(st.text(max_size=12))
def test_any_text_is_data(name):
    assert_drawn_as_data(name)


@settings(max_examples=60)
@given(st.text(alphabet='<>&;"\\lNGTn:%{}|\n -', max_size=12))
def test_any_markup_is_data(name):
    assert_drawn_as_data(name)


@given(st.text(st.characters(exclude_categories=())))
def test_identifiers_give_the_name_back(name):
    assert name_of(node_id(name)) == name
    assert set(node_id(name)) & set('"\\:<>{};%\n ') == set()


def test_long_names_lose_their_middle(parsed):
    name = "head" + "x" * 200 + "tail"
    dot = parsed(dot_of(named_graph(name)))
    label = unescape(dot.nodes[node_id(name)]["label"])
    assert "headxx" in label
    assert "xxtail" in label
    assert "x" * 60 not in label
    assert name in svg_of(named_graph(name))


def test_large_graphs_are_drawn_with_straight_lines():
    calls = [
        Call(name=f"c{i}", target="torch.add", args=(Ref(f"c{i - 1}" if i else "x"), Ref("x"))) for i in range(130)
    ]
    graph = Graph([Input(name="x", path=("x",), shape=()), *calls])
    assert sum(range(1, 131)) + 129 > MOST_CURVED_SPAN
    assert "splines=line" in dot_of(graph, detail="calls")
    assert "splines=line" not in dot_of(graph)
