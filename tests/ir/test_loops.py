"""Loops in a graph: what is in them, what the picture shows, and what they are when each step is written out."""

from __future__ import annotations

import pytest

from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Graph
from dgmcompile.ir.loops import unrolled
from dgmcompile.ir.text import parse
from dgmcompile.ir.verify import TRACED, verify

RECURRENT = """
    model = graph(x)
    x: float32[batch, steps, 3] = input()
    batch = size(x, 0)
    steps = size(x, 1)
    h_0: float32[batch, 4] = torch.zeros((batch, 4))
    t = loop(steps)
    h: float32[batch, 4] = carry(t, h_0, h_next)
    z: float32[batch, 4] = sample.Normal(loc=h, scale=1.0).event(1).latent("z_", t, plate("data", -2, batch))
    x_t: float32[batch, 3] = torch.select(x, 1, t)
    h_next: float32[batch, 4] = self.cell(x_t, z)
    y: float32[batch, 4] = sample.Normal(loc=h_next, scale=1.0).target("y_", t + 1)
    last: float32[batch, 4] = final(h)
    ys: float32[steps, batch, 4] = stacked(t, h_next)
    w: float32[batch, 4] = sample.Normal(loc=last, scale=1.0).target()
"""

NESTED = """
    c: float32 = constant(1.0)
    s = loop(2)
    a: float32 = carry(s, c, b_end)
    t = loop(3, s)
    b: float32 = carry(t, a, b_next)
    b_next: float32 = torch.mul(b, t + 10 * s)
    b_end: float32 = final(b)
    e: float32 = torch.nn.functional.dropout(c).each(s)
    z: float32 = sample.Normal(loc=b_end, scale=e).latent("z_", s)
    a_end: float32 = final(a)
    y: float32 = sample.Normal(loc=a_end, scale=1.0).target()
"""


@pytest.mark.parametrize("text", [RECURRENT, NESTED])
def test_text_there_and_back(text: str):
    graph = parse(text)
    assert parse(str(graph)) == graph
    assert str(parse(str(graph))) == str(graph)
    verify(graph, TRACED)


def test_what_reads_the_number_of_a_step_is_in_the_loop():
    graph = parse(RECURRENT)
    inside = {name for name, loops in graph.loops.items() if loops == {"t"}}
    assert inside == {"t", "h", "z", "x_t", "h_next", "y"}
    assert {name for name, loops in graph.loops.items() if not loops} == {*graph.graph} - inside


def test_loops_are_nested():
    loops = parse(NESTED).loops
    assert loops["b_next"] == loops["t"] == {"s", "t"}
    assert loops["b_end"] == loops["a"] == loops["z"] == {"s"}
    assert loops["y"] == loops["a_end"] == frozenset()


def test_variables_depend_on_those_of_steps_before():
    picture = parse(RECURRENT).variables()
    assert set(picture.edges) == {("z", "z"), ("x", "z"), ("x", "y"), ("z", "y"), ("z", "w"), ("x", "w")}


def test_what_a_step_hands_on_is_alive():
    assert "h_next" in parse(RECURRENT).evolve(outputs={"z_{t}": "z"}).live()


def test_each_step_written_out():
    assert unrolled(parse(RECURRENT), {"steps": 2}) == parse("""
        model = graph(x)
        x: float32[batch, 2, 3] = input()
        batch = size(x, 0)
        steps = size(x, 1)
        h_0: float32[batch, 4] = torch.zeros((batch, 4))
        z_0: float32[batch, 4] = sample.Normal(loc=h_0, scale=1.0).event(1).latent(plate("data", -2, batch))
        ref["x_t.0"]: float32[batch, 3] = torch.select(x, 1, 0)
        ref["h_next.0"]: float32[batch, 4] = self.cell(ref["x_t.0"], z_0)
        y_1: float32[batch, 4] = sample.Normal(loc=ref["h_next.0"], scale=1.0).target()
        z_1: float32[batch, 4] = sample.Normal(loc=ref["h_next.0"], scale=1.0).event(1).latent(plate("data", -2, batch))
        ref["x_t.1"]: float32[batch, 3] = torch.select(x, 1, 1)
        ref["h_next.1"]: float32[batch, 4] = self.cell(ref["x_t.1"], z_1)
        y_2: float32[batch, 4] = sample.Normal(loc=ref["h_next.1"], scale=1.0).target()
        ys: float32[2, batch, 4] = torch.stack([ref["h_next.0"], ref["h_next.1"]])
        w: float32[batch, 4] = sample.Normal(loc=ref["h_next.1"], scale=1.0).target()
        return {"w": w, "z_0": z_0, "y_1": y_1, "z_1": z_1, "y_2": y_2}
    """)


def test_inner_steps_written_out():
    flat = unrolled(parse(NESTED))
    factors = [node.args[1] for node in flat if getattr(node, "target", "") == "torch.mul"]  # type: ignore[attr-defined]
    assert factors == [0, 1, 2, 10, 11, 12]
    assert flat["z_0"].inputs == ("b_next.0.2", "e.0") and flat["z_1"].inputs == ("b_next.1.2", "e.1")
    assert flat["b_next.1.0"].inputs == ("b_next.0.2",)
    assert flat["y"].inputs == ("b_next.1.2",)


def test_no_steps_hand_on_what_there_was():
    flat = unrolled(parse(RECURRENT).evolve(outputs={"w": "w"}), {"steps": 0})
    assert flat["w"].inputs == ("h_0", "batch")


def test_a_length_has_to_be_known():
    with pytest.raises(ValueError, match="loop 't' has steps steps"):
        unrolled(parse(RECURRENT))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("h: float32[batch, 4]", "h: float32[4]", "carry 'h' is handed a value of another type"),
        ("carry(t, h_0, h_next)", "carry(t, h_0, h_0)", "carry 'h' is handed what its loop does not compute"),
        ('"z_", t, ', "", "site 'z' is the same in each step of a loop"),
    ],
)
def test_what_holds_of_loops(right: str, wrong: str, message: str):
    with pytest.raises(InternalError, match=message):
        verify(parse(RECURRENT.replace(right, wrong)), TRACED)


def test_a_carry_hands_on_what_is_there():
    graph = parse(RECURRENT)
    with pytest.raises(InternalError, match="'h' reads 'h_next', which no node defines"):
        Graph([node for node in graph if node.name in ("x", "batch", "steps", "h_0", "t", "h")])
