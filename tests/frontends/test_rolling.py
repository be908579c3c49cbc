"""The steps of a loop as one: the same program as its steps one by one, and nothing rolled that is no loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dgmcompile.codegen import compile_graph
from dgmcompile.frontends.rolling import rolled
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Call, Graph, Loop, Site, is_size
from dgmcompile.ir.loops import unrolled
from dgmcompile.ir.size import Size
from dgmcompile.ir.verify import TRACED, verify
from dgmcompile.passes import compact, semi_auxiliary
from dgmcompile.passes.lower import lower
from tests import seeds
from tests.corpus import ENTRIES
from tests.programs import sequences
from tests.programs.program import Program, seeded, values

STEPS, BATCH = 5, 3


def loops(graph: Graph) -> list[Loop]:
    return [node for node in graph if isinstance(node, Loop)]


def sizes(graph: Graph, args: tuple[Any, ...]) -> dict[str, int]:
    """Of one tensor argument."""
    measured = [node for node in graph if isinstance(node, Call) and is_size(node)]
    return {node.name: args[0].shape[node.args[1]] for node in measured}


def edges(graph: Graph) -> set[tuple[str, str]]:
    def name(node: str) -> str:
        site = graph[node].site
        return site.name if site is not None else node

    return {(name(a), name(b)) for a, b in graph.variables().edges}


def assert_same_program(rolled: Graph, flat: Graph, args: tuple[Any, ...]) -> None:
    """The same edges and, from the same noise, the same values to the last bit: as loops, and step by step."""
    verify(rolled, TRACED)
    written_out = unrolled(rolled, sizes(rolled, args))
    assert edges(written_out) == edges(flat)
    theirs, apart, looped = (compile_graph(lower(compact(semi_auxiliary(g)))) for g in (flat, written_out, rolled))
    noise = theirs.sample_noise(*args, generator=seeds.generator(1))  # type: ignore[operator]
    expected = theirs(*args, noise=noise)
    of_site = {site: noise[f"{node}_noise"] for site, node in flat.sites().items() if f"{node}_noise" in noise}
    named = {f"{node}_noise": of_site[site] for site, node in written_out.sites().items() if site in of_site}
    for found in (apart(*args, noise=named), looped(*args, noise=noise_of_steps(rolled, of_site, sizes(rolled, args)))):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


def noise_of_steps(graph: Graph, of_site: dict[str, Tensor], lengths: dict[str, int]) -> dict[str, Tensor]:
    """That of each site, of all its steps at once."""

    def of(site: Site, steps: tuple[Size, ...], numbers: dict[str, Any]) -> Tensor:
        if not steps:
            given = site.map_sizes(lambda size: size.substitute(numbers) if isinstance(size, Size) else size)
            return of_site[given.name]
        loop = graph[steps[0].symbols[0]]
        assert isinstance(loop, Loop)
        length = loop.length.evaluate(lengths) if isinstance(loop.length, Size) else loop.length
        return torch.stack([of(site, steps[1:], {**numbers, loop.name: step}) for step in range(length)])

    sites = {node.name: node.site for node in graph.samples if node.site is not None and node.family != "Delta"}
    return {f"{name}_noise": of(site, graph.steps_of(name), lengths) for name, site in sites.items()}


def both(model: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Graph, Graph]:
    return trace(model, args, roll=True), trace(model, args)


# programs as they are written

MODELS = [entry for entry in (*sequences.PROGRAMS, *ENTRIES) if getattr(entry, "compiles", True)]
ROLLED = {
    "random_walk": (7, "batch"),
    "hidden_markov": (22, "sequences_size_1 - 1"),
    "taught_by_iteration": (8, "batch"),
    "VRNN.model": (16, "x_size_1"),
    "kalman": (20, "batch"),
    "sir_chain": (24, "batch"),
    "DMM.model": (22, "mini_batch_size_1"),
}


@pytest.mark.parametrize("name", ROLLED)
def test_program_of_the_corpus(name: str):
    program: Program = next(entry for entry in MODELS if entry.label == name)
    with pyro.get_param_store().scope():
        graph = trace(program.model, program.args, program.kwargs, program.targets, roll=True)
        assert (len(graph), [str(loop.length) for loop in loops(graph)]) == (ROLLED[name][0], [ROLLED[name][1]])
        if len(program.args) == 1:
            assert_same_program(graph, trace(program.model, program.args, program.kwargs), program.args)


def recurrent(x: Tensor) -> None:
    h = x.new_zeros(len(x), 2)
    with pyro.plate("batch", len(x)):
        for t, step in enumerate(x.unbind(1)):
            z = pyro.sample(f"z_{t}", dist.Normal(h, 1.0).to_event(1))
            h = torch.tanh(z + h)
            pyro.sample(f"x_{t}", dist.Normal(h, 1.0).to_event(1), obs=step)


def test_a_recurrent_network_in_the_text_form():
    graph = trace(recurrent, (values(BATCH, STEPS, 2),), roll=True)
    text = "\n".join(line.partition("  #")[0] for line in str(graph).split("\n"))
    assert text.split("\nguard")[0] == RECURRENT


RECURRENT = """\
recurrent = graph(x)
x: float32[batch, x_size_1, x_size_2] = input()
batch = size(x, 0)
x_size_1 = size(x, 1)
x_size_2 = size(x, 2)
h: float32[batch, 2] = torch.Tensor.new_zeros(x, batch, 2)
t = loop(x_size_1)
last_h: float32[batch, 2] = carry(t, h, h_1)
z: float32[batch, 2] = sample.Normal(loc=last_h, scale=1.0).event(1).latent("z_", t, plate("batch", -1, batch))
add: float32[batch, 2] = torch.Tensor.add(z, last_h)
h_1: float32[batch, 2] = torch.tanh(add)
x_1: float32[batch, 2] = sample.Normal(loc=h_1, scale=1.0).event(1).target("x_", t, plate("batch", -1, batch))"""
"""Of `recurrent`."""


class Nested(nn.Module):
    """Integrates in each step, by steps of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> None:
        z = pyro.sample("z0", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(2))
        for t in range(x.shape[1]):
            for _ in range(4):
                z = z + 0.1 * torch.tanh(self.field(z))
            pyro.sample(f"y_{t}", dist.Normal(z.sum(-1), 1.0).to_event(1), obs=x[:, t])


def test_loops_in_loops():
    model, x = seeded(Nested), values(BATCH, STEPS)
    graph, flat = both(model, (x,))
    outer, inner = loops(graph)
    assert (str(outer.length), inner.length) == ("x_size_1", 4)
    assert graph.loops[inner.name] == {outer.name, inner.name}
    assert len(graph) < 20 < len(flat)
    assert_same_program(graph, flat, (x,))


def test_two_loops_of_which_one_reads_the_other():
    def model(x: Tensor) -> None:
        zs = [pyro.sample(f"z_{t}", dist.Normal(x[:, t], 1.0).to_event(1)) for t in range(x.shape[1])]
        h = torch.zeros(len(x))
        for t, z in enumerate(zs):
            h = torch.tanh(h + z)
            pyro.sample(f"y_{t}", dist.Normal(h, 1.0).to_event(1))

    x = values(BATCH, STEPS)
    graph, flat = both(model, (x,))
    assert [str(loop.length) for loop in loops(graph)] == ["x_size_1", "x_size_1"]
    assert_same_program(graph, flat, (x,))


def test_a_loop_backwards():
    def model(x: Tensor) -> None:
        h = torch.zeros(len(x))
        for t in reversed(range(x.shape[1])):
            h = torch.tanh(h + x[:, t])
            pyro.sample(f"y_{t}", dist.Normal(h, 1.0).to_event(1))

    x = values(BATCH, STEPS)
    graph, flat = both(model, (x,))
    (loop,) = loops(graph)
    assert [site for site in graph.sites()] == [f"y_{{-1 * {loop.name} + x_size_1 - 1}}"]
    assert_same_program(graph, flat, (x,))


def test_parameters_of_each_step_are_stacked():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shifts = nn.ParameterList([nn.Parameter(torch.full((2,), float(i))) for i in range(4)])

        def forward(self) -> None:
            h = torch.zeros(2)
            for t, shift in enumerate(self.shifts):
                h = pyro.sample(f"z_{t}", dist.Normal(h + shift, 1.0).to_event(1))
            pyro.sample("y", dist.Normal(h, 1.0).to_event(1))

    graph, flat = both(Model(), ())
    assert [loop.length for loop in loops(graph)] == [4]
    assert_same_program(graph, flat, ())


def test_values_of_all_steps_read_afterwards():
    def model(x: Tensor) -> None:
        z, zs = torch.zeros(len(x)), []
        for t in range(x.shape[1]):
            z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0).to_event(1))
            zs.append(z.exp())
        pyro.sample("a", dist.Normal(torch.stack(zs, -1), 1.0).to_event(2))
        pyro.sample("b", dist.Normal(torch.cat(zs), 1.0).to_event(1))
        pyro.sample("c", dist.Normal(zs[1] + zs[-1] + z, 1.0).to_event(1))

    x = values(BATCH, STEPS)
    graph, flat = both(model, (x,))
    assert [str(loop.length) for loop in loops(graph)] == ["x_size_1"]
    assert_same_program(graph, flat, (x,))


@pytest.mark.parametrize("training", [True, False])
def test_what_draws_anew_in_each_step_is_not_drawn_once(training: bool):
    net, drop, given = nn.Linear(2, 2), nn.Dropout(0.5).train(training), torch.ones(BATCH, 2)

    def model(x: Tensor) -> None:
        h = x.new_zeros(len(x), 2)
        for t in range(x.shape[1]):
            h = pyro.sample(f"z_{t}", dist.Normal(h + drop(net(given)), 1.0).to_event(2))

    x = values(BATCH, STEPS, 2)
    graph = trace(model, (x,), roll=True)
    assert [str(loop.length) for loop in loops(graph)] == ["x_size_1"]
    flat = unrolled(graph, sizes(graph, (x,)))
    assert len([node for node in flat if isinstance(node, Call) and node.target == "self.drop"]) == STEPS


# what is no loop


def growing(z: Tensor, t: int) -> Tensor:
    return torch.cat([z, z[:1]])


def by_square(z: Tensor, t: int) -> Tensor:
    return z.roll(t * t)


def unlike_numbers(z: Tensor, t: int) -> Tensor:
    return torch.nn.functional.leaky_relu(z, [0.1, 0.5, 0.2, 0.7][t])


REASONS = {
    growing: "the shape of a value is another one in each step",
    by_square: "a whole number does not go on by the same distance in each step",
    unlike_numbers: "a number is another one in each step, and its place takes no tensor",
}


@pytest.mark.parametrize("step", REASONS)
def test_reasons(step: Callable[[Tensor, int], Tensor]):
    def model() -> None:
        z = torch.ones(2)
        for t in range(4):
            z = pyro.sample(f"z_{t}", dist.Normal(step(z, t), 1.0).to_event(1))

    graph, flat = both(model, ())
    assert not loops(graph) and len(graph) == len(flat)


def test_layers_with_names_of_their_own_are_no_loop():
    net = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(2, 2), nn.Tanh())))

    def model(x: Tensor) -> None:
        for layer in net:
            x = layer(x)
        pyro.sample("y", dist.Normal(x, 1.0).to_event(2))

    assert not loops(trace(model, (values(BATCH, 2),), roll=True))


def test_values_that_have_nothing_in_common_are_no_loop():
    def model() -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.LogNormal(0.0, 1.0))
        c = pyro.sample("c", dist.Gumbel(0.0, 1.0))
        x, y, z = (value.expand(3) for value in (a, b, c))
        pyro.sample("x", dist.Normal(x, 1.0).to_event(1))
        pyro.sample("y", dist.Normal(y + z, 1.0).to_event(1))

    assert not loops(trace(model, (), roll=True))


def test_it_says_why():
    found = rolled(list(trace(by_squares, ())), {}, lambda call: True)
    assert REASONS[by_square] in [kept.reason for kept in found.kept]
    assert all(kept.location is not None for kept in found.kept)


def by_squares() -> None:
    z = torch.ones(2)
    for t in range(4):
        z = pyro.sample(f"z_{t}", dist.Normal(by_square(z, t), 1.0).to_event(1))


# any loop

SHAPES = st.fixed_dictionaries(
    {
        "steps": st.integers(3, 6),
        "carries": st.integers(0, 2),
        "lag": st.integers(1, 3),
        "reads": st.booleans(),
        "numbers": st.booleans(),
        "inner": st.integers(0, 4),
        "other_first": st.booleans(),
        "last": st.booleans(),
        "all": st.booleans(),
    }
)


def any_loop(how: dict[str, Any]) -> Callable[[Tensor], None]:
    def model(x: Tensor) -> None:
        history = [torch.zeros(len(x))] * how["lag"]
        sums = torch.ones(len(x))
        for t in range(how["steps"]):
            loc = sums.cos() if how["carries"] > 1 else torch.zeros(len(x))
            if how["carries"]:
                loc = loc + 0.5 * history[-how["lag"]]
            if how["reads"]:
                loc = loc + x[:, 2 * t + 1]
            if how["numbers"]:
                loc = loc * (0.3 + 0.1 * t)
            for s in range(how["inner"]):
                loc = torch.sin(loc + s)
            if how["other_first"] and t == 0:
                loc = loc.exp()
            z = pyro.sample(f"z_{t}", dist.Normal(loc, 1.0).to_event(1))
            history.append(z)
            sums = sums + z
        made = [history[-1]] * how["last"] + [torch.stack(history[how["lag"] :]).sum(0)] * how["all"] + [sums]
        pyro.sample("y", dist.Normal(sum(made), 1.0).to_event(1))

    return model


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(how=SHAPES)
def test_any_loop(how: dict[str, Any]):
    model, x = any_loop(how), values(BATCH, 12)
    graph, flat = both(model, (x,))
    assert len(loops(graph)) >= 1 or how["steps"] < 5
    assert_same_program(graph, flat, (x,))


def test_long_loops_are_recorded_at_a_smaller_size():
    recorded = list[int]()

    def model(x: Tensor) -> None:
        recorded.append(x.shape[1])
        recurrent(x)

    x = values(BATCH, 150, 2)
    graph = trace(model, (x,), roll=True)
    assert recorded.count(150) == 2
    short = trace(model, (x[:, :STEPS],), roll=True)
    assert str(graph) == str(short)


def test_a_loop_of_one_length_alone_is_recorded_at_that():
    weights = values(40)

    def model(x: Tensor) -> None:
        z = torch.zeros(len(x))
        for t in range(40):
            z = pyro.sample(f"z_{t}", dist.Normal(weights[t] * z + x[:, t], 1.0).to_event(1))

    graph = trace(model, (values(BATCH, 40),), roll=True)
    assert [loop.length for loop in loops(graph)] == [40]
