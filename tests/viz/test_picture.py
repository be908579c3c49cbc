"""What is shown of a graph: boxes, roles, words, arrows and plates."""

import pytest

from dgmcompile.ir.graph import Call, Graph, Input, Noise, Plate, Ref, Sample, Site
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import parse
from dgmcompile.viz.picture import picture_of


def boxes(graph, **options):
    return {box.name: box for box in picture_of(graph, **options).boxes}


def arrows(graph, **options):
    return {(arrow.tail, arrow.head) for arrow in picture_of(graph, **options).arrows}


def plates(graph, name, **options):
    return [plate.name for plate in boxes(graph, **options)[name].plates]


def target(name, plates=(), shape=(), **params):
    site = Site(name, "target", "Normal", plates)
    return Sample(name=name, family="Normal", params=params, shape=shape, site=site)


def test_variables_are_those_of_the_graph(vae, semi):
    for graph in (vae, semi):
        expected = graph.variables()
        assert set(boxes(graph)) == set(expected.nodes)
        assert arrows(graph) == set(expected.edges)


def test_roles_of_the_variables(vae, semi):
    roles = {name: box.role for name, box in boxes(vae).items()}
    assert roles == {"x": "input", "w": "latent", "z": "latent", "energy": "deterministic", "y": "target"}
    roles = {name: box.role for name, box in boxes(semi).items()}
    assert roles["z_noise"] == "noise"
    assert roles["z"] == "deterministic"


def test_calls_show_every_node(semi):
    shown = boxes(semi, detail="calls")
    assert set(shown) == {node.name for node in semi}
    roles = {name: shown[name].role for name in ("prior", "two", "x_size_0", "hidden", "view")}
    assert roles == {"prior": "parameter", "two": "constant", "x_size_0": "size", "hidden": "module", "view": "call"}


def test_words_on_the_boxes(semi):
    shown = boxes(semi, detail="calls")
    words = {name: (box.heading, box.caption) for name, box in shown.items()}
    assert words["z"] == ("z", "normal_from_noise [batch, 16]")
    assert words["hidden"] == ("encoder.net", "[batch, 16]")
    assert words["view"] == ("view", "[batch, 784]")
    assert words["x_size_0"] == ("x.shape[0]", "")
    assert words["prior"] == ("prior.loc", "[16]")
    assert boxes(semi)["z"].caption == "Normal [batch, 16]"
    assert boxes(semi)["z_noise"].caption == "StandardNormal [batch, 16]"


def test_parameters_join_the_variables_when_asked_for(vae):
    assert "prior" not in boxes(vae)
    assert ("prior", "w") in arrows(vae, parameters=True)


def test_what_is_read_for_its_shape_alone_is_no_arrow(semi):
    from_size = {
        (arrow.head, arrow.is_size) for arrow in picture_of(semi, detail="calls").arrows if arrow.tail == "x_size_0"
    }
    assert from_size == {("view", True)}


def test_unknown_detail(vae):
    with pytest.raises(ValueError, match="random, variables, calls, not 'everything'"):
        picture_of(vae, detail="everything")


def test_a_pair_has_sides_and_losses(pair):
    shown = boxes(pair)
    assert {name: box.side for name, box in shown.items()} == {
        "x": "",
        "z_noise": "",
        "teacher.z": "teacher",
        "teacher.y": "teacher",
        "student.z": "student",
        "surrogate.y": "",
        "latent.z": "",
        "total": "",
    }
    assert [name for name, box in shown.items() if box.role == "loss"] == ["surrogate.y", "latent.z", "total"]
    assert shown["student.z"].heading == "z"
    assert boxes(pair, detail="calls")["teacher.loc"].heading == "encoder"


def test_one_prefix_alone_makes_no_pair():
    graph = Graph([target("teacher.y"), Call(name="out", target="torch.exp", args=(Ref("teacher.y"),), shape=())])
    shown = boxes(graph.evolve(outputs={"out": "out"}))
    assert (shown["teacher.y"].side, shown["teacher.y"].heading) == ("", "teacher.y")
    assert shown["out"].role == "result"


def test_noise_stands_in_the_plates_of_its_site(semi):
    assert plates(semi, "z_noise") == ["batch"]
    assert plates(semi, "w_noise") == []


def test_input_stands_in_the_plate_that_has_its_size(vae):
    assert plates(vae, "x") == ["batch"]


def test_calls_between_sites_of_a_plate_stand_in_it(vae):
    for name in ("view", "hidden", "moved", "logits"):
        assert plates(vae, name, detail="calls")[:1] == ["batch"]
    for name in ("prior", "two", "x_size_0"):
        assert plates(vae, name, detail="calls") == []


def test_plates_are_nested_outermost_first(vae):
    assert plates(vae, "y") == ["batch", "pixels"]


def test_noise_of_a_global_site_stays_outside_once_the_site_is_gone():
    rows = Plate("rows", -1, 20)
    graph = Graph(
        [
            Noise(name="w_noise", law="StandardNormal", shape=()),
            Noise(name="z_noise", law="StandardNormal", shape=(20,)),
            Call(name="loc", target="torch.mul", args=(Ref("w_noise"), Ref("z_noise")), shape=(20,)),
            target("y", (rows,), (20,), loc=Ref("loc"), scale=1.0),
        ]
    )
    assert plates(graph, "z_noise") == ["rows"]
    assert plates(graph, "w_noise") == []


def test_call_that_sums_over_a_plate_leaves_it():
    rows = Plate("rows", -1, 20)
    graph = Graph(
        [
            target("z", (rows,), (20,), loc=0.0, scale=1.0),
            Call(name="total", target="torch.sum", args=(Ref("z"),), shape=()),
            Call(name="parts", target="torch.chunk", args=(Ref("z"), 2)),
            Call(name="part", target="getitem", args=(Ref("parts"), 0), shape=(10,)),
            target("y", (), (), loc=Ref("total"), scale=Ref("part")),
        ]
    )
    assert plates(graph, "z", detail="calls") == ["rows"]
    for name in ("total", "parts", "part", "y"):
        assert plates(graph, name, detail="calls") == []


def test_call_of_several_values_stands_between_nodes_of_its_plate():
    rows = Plate("rows", -2, 20)
    graph = Graph(
        [
            target("z", (rows,), (20, 4), loc=0.0, scale=1.0),
            Call(name="parts", target="torch.chunk", args=(Ref("z"), 2, -1)),
            Call(name="part", target="getitem", args=(Ref("parts"), 0), shape=(20, 2)),
            target("y", (rows,), (20, 2), loc=Ref("part"), scale=1.0),
        ]
    )
    assert plates(graph, "parts", detail="calls") == ["rows"]
    assert plates(graph, "part", detail="calls") == ["rows"]


def test_equal_numbers_do_not_put_an_input_into_a_plate_that_not_all_readers_share():
    rows = Plate("rows", -1, 20)
    graph = Graph(
        [
            Input(name="x", path=("x",), shape=(20,)),
            target("z", (rows,), (20,), loc=Ref("x"), scale=1.0),
            target("y", (), (20,), loc=Ref("x"), scale=1.0),
        ]
    )
    assert plates(graph, "x") == []


def test_a_plate_at_two_dims_is_one_plate():
    graph = Graph(
        [
            target("a", (Plate("rows", -1, 20),), (20,), loc=0.0, scale=1.0),
            target("b", (Plate("rows", -2, 20),), (20, 1), loc=0.0, scale=1.0),
        ]
    )
    a, b = boxes(graph)["a"], boxes(graph)["b"]
    assert a.plates == b.plates


def test_a_size_of_two_plates_is_called_by_what_it_is():
    size = Size.symbol("n")
    graph = Graph(
        [
            Input(name="n", path=("n",)),
            target("a", (Plate("rows", -1, size),), (size,), loc=0.0, scale=1.0),
            target("b", (Plate("columns", -1, size),), (size,), loc=0.0, scale=1.0),
        ]
    )
    assert boxes(graph)["a"].caption == "Normal [n]"
    assert set(picture_of(graph).plate_labels.values()) == {"rows  n", "columns  n"}


def test_of_very_many_arrows_those_that_longer_paths_imply_are_left_out(monkeypatch):
    chain = [Sample(name="a", family="Normal", params={}, shape=(), site=Site("a", "latent", "Normal"))]
    for name in "bcd":
        params = {"loc": Ref(chain[-1].name), "scale": Ref(chain[0].name)}
        chain.append(Sample(name=name, family="Normal", params=params, shape=(), site=Site(name, "latent", "Normal")))
    whole = picture_of(Graph(chain))
    assert [(arrow.tail, arrow.head) for arrow in whole.arrows] == [
        ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d")
    ]  # fmt: skip
    assert whole.implied == 0
    monkeypatch.setattr("dgmcompile.viz.picture.MOST_ARROWS", 4)
    reduced = picture_of(Graph(chain))
    assert [(arrow.tail, arrow.head) for arrow in reduced.arrows] == [("a", "b"), ("b", "c"), ("c", "d")]
    assert reduced.implied == 2


def test_random_shows_targets_given_noise_and_inputs(semi):
    shown = boxes(semi, detail="random")
    assert "z" not in shown and "w" not in shown
    assert {"x", "w_noise", "z_noise", "y"} <= set(shown)
    assert {("w_noise", "y"), ("z_noise", "y")} <= arrows(semi, detail="random")


def test_a_loop_is_one_frame_in_which_dashed_arrows_lead_from_step_to_step():
    graph = parse("""
        chain = graph(x, start)
        x: float32[batch, steps] = input()
        start: float32[batch] = input()
        batch = size(x, 0)
        steps = size(x, 1)
        t = loop(steps)
        last_h: float32[batch] = carry(t, start, h)
        x_t: float32[batch] = torch.select(x, 1, t)
        z: float32[batch] = sample.Normal(loc=last_h, scale=1.0).latent("z_", t, plate("rows", -1, batch))
        h: float32[batch] = torch.add(z, x_t)
        y: float32[batch] = sample.Normal(loc=h, scale=1.0).target("y_", t, plate("rows", -1, batch))
    """)
    picture = picture_of(graph)
    assert {(arrow.tail, arrow.head) for arrow in picture.arrows if arrow.is_later} == {("z", "z")}
    assert {(arrow.tail, arrow.head) for arrow in picture.arrows if not arrow.is_later} == {
        ("start", "z"), ("x", "z"), ("z", "y"), ("x", "y")
    }  # fmt: skip
    assert plates(graph, "z") == plates(graph, "y") == ["rows", "t"] and plates(graph, "start") == ["rows"]
    assert "t  x.shape[1]" in picture.plate_labels.values()
