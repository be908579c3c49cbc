"""What the variables and the targets of plain PyTorch are called, and which they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

import dgmcompile as dgm
from dgmcompile.frontends.gathering import gathered_in
from dgmcompile.ir.text import parse
from tests.frontends.latents import MEAN, PROBS, SCALE, families
from tests.programs.program import values


@pytest.mark.parametrize("path", ["net.0", "net.1.0"])
def test_a_submodule_of_one_that_is_called_whole(path: str):
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.Tanh()))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    model, x = Deep(), values(6, 3)
    graph = dgm.trace(model, (x,), names={path: "low"})
    assert graph.latents == ("low",)
    made: Any = dgm.compile(dgm.semi_auxiliary(graph))
    low = model.net[0](x)
    torch.testing.assert_close(made(x)["low"], low if path == "net.0" else model.net[1][0](low))
    assert dgm.check(model, (x,)).ok


class Layered(nn.Module):
    """Three layers, each with a draw of its own, made by one method; the last is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer(), Layer()])
        self.out = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.layers:
            x = layer(x)
        y = torch.bernoulli(torch.sigmoid(self.out(x)))
        return {"image": y, "top": x}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.reparameterised(self.loc(x), self.scale(x))

    def reparameterised(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        std = torch.exp(0.5 * log_variance)
        eps = torch.randn_like(std)
        z = mean + eps * std
        return z


def test_sites_are_called_as_the_program_calls_them():
    model = Layered()
    graph = dgm.trace(model, (values(4, 3),))
    assert graph.latents == ("layers.0.z", "layers.1.z")
    assert set(graph.targets) == {"image", "top"}
    assert (graph["image"].family, graph["top"].family) == ("Bernoulli", "Normal")  # type: ignore[attr-defined]
    report = dgm.check(model, (values(4, 3),))
    assert report.ok, str(report)
    assert report.sizes == {"x.shape[0]": 7}


def test_draws_of_one_variable_are_numbered():
    def model(x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + torch.exp(x) * torch.randn_like(x)
        return torch.sin(x)

    assert dgm.trace(model, (values(4, 3),)).latents == ("x_0", "x_1", "x_2")


def test_marks_say_what_a_variable_is_called_and_which_law_a_target_has():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    head = nn.Linear(4, 2)

    def model(x: Tensor) -> Tensor:
        h = dgm.site("features", net(x))
        eps = torch.randn(len(x), 4)
        noisy = dgm.site("noisy", h + 0.1 * eps)
        logits = head(noisy)
        dgm.target("label", td.Categorical(logits=logits))
        return logits

    x = values(5, 3)
    assert model(x).shape == (5, 2)
    graph = dgm.trace(model, (x,))
    assert (set(graph.latents), graph.targets) == ({"features", "noisy"}, ("label",))
    assert families(graph) == [("Delta", "latent"), ("Normal", "latent"), ("Categorical", "target")]
    report = dgm.check(model, (x,))
    assert report.ok, str(report)


@dataclass
class Results:
    mean: Tensor
    law: td.Distribution
    note: str = "neither a tensor nor a law"


RESULTS: dict[str, tuple[Callable[[Tensor], Any], dict[str, str]]] = {
    "a law": (lambda z: td.Normal(z, SCALE), {"output": "Normal"}),
    "laws and values": (
        lambda z: (td.Independent(td.Normal(z, 1.0), 1), z.exp(), td.Bernoulli(logits=z)),
        {"output": "Normal", "output_1": "Delta", "output_2": "Bernoulli"},
    ),
    "a dataclass": (lambda z: Results(z.exp(), td.Categorical(logits=z)), {"mean": "Delta", "law": "Categorical"}),
    "a dict": (
        lambda z: {
            "mixed": td.MixtureSameFamily(td.Categorical(PROBS), td.Normal(z, 1.0)),
            "positive": td.TransformedDistribution(td.Normal(z, 1.0), [td.ExpTransform()]),
        },
        {"mixed": "MixtureSameFamily", "positive": "Normal"},
    ),
    "a marked value": (lambda z: dgm.site("w", z.exp()), {"w": "Delta"}),
    "marked twice": (lambda z: (dgm.site("w", z.exp()),) * 2, {"w": "Delta", "output": "Delta"}),
}


@pytest.mark.parametrize(("results", "targets"), RESULTS.values(), ids=RESULTS)
def test_what_is_returned_is_a_target(results: Callable[[Tensor], Any], targets: dict[str, str]):
    def model() -> Any:
        z = MEAN + SCALE * torch.randn(3)
        return results(z)

    graph = dgm.trace(model, ())
    assert {n.site.name: n.family for n in graph.samples if n.site and n.site.role == "target"} == targets
    report = dgm.check(model, ())
    assert report.ok and {site.name for site in report.sites} == {*targets, "z"}, str(report)
    loss = dgm.compile(dgm.pair(model, model))
    assert loss().total.item() == pytest.approx(0.0, abs=1e-6)


def test_a_draw_that_is_marked_and_returned_is_a_target_of_that_name():
    def model() -> Tensor:
        return dgm.site("w", MEAN + SCALE * torch.randn(3))

    graph = dgm.trace(model, ())
    assert [(n.site.role, n.site.name, n.family) for n in graph.samples if n.site] == [("target", "w", "Normal")]
    assert dgm.check(model, ()).ok


def in_pairs() -> Tensor:
    a, (b, c) = torch.bernoulli(PROBS), (torch.bernoulli(PROBS), td.Poisson(SCALE).sample())
    return a + b + c


def in_a_list() -> Tensor:
    flips = [torch.bernoulli(PROBS) for _ in range(2)]
    return flips[0] + flips[1]


def stacked() -> Tensor:
    def flip() -> Tensor:
        return torch.bernoulli(PROBS)

    flips = torch.stack(tuple(flip() for _ in range(2)))
    return flips.sum(0)


def appended() -> Tensor:
    flips: list[Tensor] = []
    for _ in range(2):
        flips.append(torch.bernoulli(PROBS))
    return torch.stack(flips).sum(0)


def by_key() -> Tensor:
    state: dict[str, Tensor] = {}
    state["code"] = torch.bernoulli(PROBS)
    return state["code"]


def within() -> Tensor:
    return torch.zeros(3) if (flip := torch.bernoulli(PROBS)) is None else flip


def chosen() -> Tensor:
    def flip(once: bool) -> Tensor:
        return torch.bernoulli(PROBS) if once else PROBS

    a = flip(True)
    b = torch.bernoulli(PROBS) if len(PROBS) else PROBS
    return a + b


def one_of_several() -> Tensor:
    def encoded() -> tuple[Tensor, Tensor, Tensor]:
        return MEAN + SCALE * torch.randn(3), MEAN, SCALE

    z, mean, _ = encoded()
    return torch.sin(z) * mean


def keyed() -> Tensor:
    flips = {"a": torch.bernoulli(PROBS), "b": torch.bernoulli(PROBS)}
    more = [flips["a"]]
    more += [torch.bernoulli(PROBS)]
    more.extend([torch.bernoulli(PROBS)])
    return sum(more) + flips["b"]


def taken_apart() -> Tensor:
    a, b = torch.bernoulli(PROBS.expand(2, 3))
    return a + b


@pytest.mark.parametrize(
    ("draw", "names"),
    [
        (in_pairs, "a b c"),
        (in_a_list, "flips_0 flips_1"),
        (stacked, "flips_0 flips_1"),
        (appended, "flips_0 flips_1"),
        (by_key, "code"),
        (within, "flip"),
        (taken_apart, "a_b"),
        (chosen, "a b"),
        (one_of_several, "z"),
        (keyed, "a b more_0 more_1"),
    ],
)
def test_a_variable_is_called_as_what_receives_it(draw: Callable[[], Tensor], names: str):
    def model() -> Tensor:
        return torch.exp(draw())

    assert dgm.trace(model, ()).latents == tuple(names.split())
    assert dgm.check(model, ()).ok


def test_names_may_be_given_to_variables_and_to_submodules():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    graph = dgm.trace(model, (values(5, 3),), names={"1": "features", "output": "score"})
    assert (graph.latents, graph.targets) == (("features",), ("score",))
    assert dgm.check(model, (values(5, 3),)).ok
    with pytest.raises(dgm.CompileError, match=r"unknown-site.*'tanh'"):
        dgm.trace(model, (values(5, 3),), names={"tanh": "features"})


def test_a_result_that_gathers_draws_makes_them_the_targets():
    net = nn.GRUCell(3, 3)

    def model(x: Tensor) -> Tensor:
        steps, h = list[Tensor](), x
        for _ in range(3):
            h = net(h)
            step = torch.normal(h, 1.0)
            steps.append(step)
        return torch.stack(steps, 1)

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.targets == ("step_0", "step_1", "step_2") and not graph.latents
    report = dgm.check(model, (values(5, 3),))
    assert report.ok and "output" in {site.name for site in report.sites}


class Tokens(nn.Module):
    """Sequences of tokens, each of which is drawn from the ones before."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.cell, self.above = nn.Embedding(5, 8), nn.GRUCell(8, 8), nn.Linear(8, 5)

    def next(self, token: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(self.below(token), h)
        return torch.multinomial(torch.softmax(self.above(h), -1), 1).squeeze(-1), h

    def assigned(self, h: Tensor) -> Tensor:
        tokens, token = torch.zeros(len(h), 3, dtype=torch.long), torch.zeros(len(h), dtype=torch.long)
        for t in range(3):
            token, h = self.next(token, h)
            tokens[:, t] = token
        return tokens

    def read_again(self, h: Tensor) -> Tensor:
        tokens = h.new_zeros(len(h), 4, dtype=torch.long)
        for t in range(3):
            tokens[:, t + 1], h = self.next(tokens[:, t], h)
        return tokens

    def without_a_beginning(self, h: Tensor) -> Tensor:
        return self.read_again(h)[:, 1:]

    def of_columns(self, h: Tensor) -> Tensor:
        tokens, token = [], torch.zeros(len(h), 1, dtype=torch.long)
        for _ in range(3):
            h = self.cell(self.below(token[:, 0]), h)
            token = torch.multinomial(torch.softmax(self.above(h), -1), 1)
            tokens.append(token[:, 0].int())
        return torch.stack(tokens, 1)

    def joined_to(self, tokens: Tensor, h: Tensor) -> Tensor:
        for _ in range(3):
            token, h = self.next(tokens[:, -1], h)
            tokens = torch.cat([tokens, token[:, None]], 1)
        return tokens

    def joined(self, h: Tensor) -> Tensor:
        tokens = torch.zeros(len(h), 1, dtype=torch.long)
        for _ in range(3):
            token, h = self.next(tokens[:, -1], h)
            tokens = torch.cat([tokens, token[:, None]], 1)
        return tokens[:, 1:]


class Others(Tokens):
    """Not all that was drawn is returned, or it is a number that was computed."""

    def the_last(self, h: Tensor) -> Tensor:
        return self.joined(h)[:, -1]

    def without_the_first(self, h: Tensor) -> Tensor:
        return self.joined(h)[:, 1:]

    def overwritten(self, h: Tensor) -> Tensor:
        tokens = self.assigned(h)
        tokens[:, 2] = self.next(tokens[:, 2], h)[0]
        return tokens

    def cut_by_two(self, h: Tensor) -> Tensor:
        return self.joined_to(torch.zeros(len(h), 1, dtype=torch.long), h)[:, 2:]

    def counted(self, h: Tensor) -> Tensor:
        return self.assigned(h).sum(-1)


@pytest.mark.parametrize("kind", ["assigned", "read_again", "without_a_beginning", "of_columns", "joined"])
def test_tokens_that_are_put_together_are_the_targets(kind: str):
    graph = dgm.trace(getattr(Tokens(), kind), (values(5, 8),))
    assert not graph.latents and not graph.warnings
    assert [(node.family, node.site.role) for node in graph.samples if node.site] == [("Categorical", "target")] * 3
    assert dgm.check(getattr(Tokens(), kind), (values(5, 8),)).ok


@pytest.mark.parametrize("kind", ["the_last", "without_the_first", "overwritten", "cut_by_two", "counted"])
def test_whole_numbers_that_have_no_law_are_told(kind: str):
    graph = dgm.trace(getattr(Others(), kind), (values(5, 8),))
    assert len(graph.latents) >= 3 and [warning.code for warning in graph.warnings] == ["whole-target"]


def test_tokens_that_follow_an_argument_are_the_targets():
    net = Tokens()

    def model(first: Tensor, h: Tensor) -> Tensor:
        return net.joined_to(first, h)[:, 1:]

    graph = dgm.trace(model, (torch.zeros(5, 1, dtype=torch.long), values(5, 8)))
    assert [(node.family, node.site.role) for node in graph.samples if node.site] == [("Categorical", "target")] * 3


def clamped(p: Tensor) -> Tensor:
    y = torch.bernoulli(p)
    y[:, 0] = 1.0
    return y


def begun(p: Tensor) -> Tensor:
    token = torch.distributions.Categorical(p.unsqueeze(1).expand(-1, 4, -1)).sample()
    token[:, 0] = 0
    return token


def drawn_again(p: Tensor) -> Tensor:
    y = torch.bernoulli(p)
    y[:, 1] = torch.bernoulli(0.5 * p[:, 0])
    return y


def cut(p: Tensor) -> Tensor:
    return drawn_again(p)[:, 1:]


def stacked_and_clamped(p: Tensor) -> Tensor:
    y = torch.stack([torch.bernoulli(p[:, 0]), torch.bernoulli(p[:, 1])], 1)
    y[:, 0] = 1.0
    return y


@pytest.mark.parametrize("kind", [clamped, begun, drawn_again, cut, stacked_and_clamped])
def test_a_draw_of_which_a_part_is_overwritten_is_no_target(kind: Callable[[Tensor], Tensor]):
    net = nn.Linear(3, 3)
    graph = dgm.trace(lambda x: kind(torch.softmax(net(x), -1)), (values(5, 3),))
    assert [node.family for node in graph.samples if node.site and node.site.role == "target"] == ["Delta"]
    assert graph.latents


def test_a_draw_that_is_overwritten_as_a_whole_leaves_the_later_draws_as_targets():
    """A sweep of a Gibbs sampler over a random start."""
    weights = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        v = torch.bernoulli(torch.sigmoid(x))
        for i in range(3):
            v[:, i] = torch.bernoulli(torch.sigmoid(weights(v)[:, i]))
        return v

    graph = dgm.trace(model, (values(5, 3),))
    assert len(graph.targets) == 3 and len(graph.latents) == 1
    assert dgm.check(model, (values(5, 3),)).ok


def drawn_into(p: Tensor) -> Tensor:
    image = torch.zeros_like(p)
    for i in range(3):
        image[:, i].bernoulli_(p[:, i])
    return image


def copied_into(p: Tensor) -> Tensor:
    image = torch.zeros_like(p)
    for i in range(3):
        image[:, i].copy_(torch.bernoulli(p[:, i]))
    return image


@pytest.mark.parametrize("kind", [drawn_into, copied_into])
def test_draws_into_parts_are_called_as_the_whole(kind: Callable[[Tensor], Tensor]):
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        return kind(torch.sigmoid(net(x)))

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.targets == ("image_0", "image_1", "image_2") and not graph.latents
    assert dgm.check(model, (values(5, 3),)).ok


def test_a_very_long_sequence_of_tokens():
    lines = [
        "model = graph(x)",
        "x: float32[3] = input()",
        'draw: float32[3] = sample.Bernoulli(probs=x).latent("draw")',
    ]
    for i in range(2000):
        before = f"tokens_{i - 1}" if i else "x"
        lines.append(f"tokens_{i}: float32[{3 * i + 6}] = torch.cat([{before}, draw], 0)")
    nodes = {node.name: node for node in parse("\n".join(lines))}
    assert [node.name for node in gathered_in("tokens_1999", nodes) or ()] == ["x", *["draw"] * 2000]


TRUNCATED: dict[str, Callable[[Tensor], Tensor]] = {
    "long": lambda x: torch.normal(x, 0.1).long(),
    "stacked": lambda x: torch.stack([torch.normal(x, 0.1), torch.normal(x, 0.2)]).int(),
    "to": lambda x: torch.normal(x, 0.1).to(torch.int32),
    "bytes": lambda x: torch.poisson(x.exp()).to(torch.uint8),
    "bits": lambda x: torch.normal(x, 0.1).view(torch.int32),
}


def column(x: Tensor) -> Tensor:
    y = torch.zeros(5, 3, dtype=torch.long)
    y[:, 0] = torch.normal(x[:, 0], 0.1)
    return y


@pytest.mark.parametrize("name", [*TRUNCATED, "a column"])
def test_what_is_cut_to_whole_numbers_has_not_the_law_of_the_draw(name: str):
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        return {**TRUNCATED, "a column": column}[name](net(x))

    graph = dgm.trace(model, (values(5, 3),))
    assert [node.family for node in graph.samples if node.site and node.site.role == "target"] == ["Delta"]
    assert "whole-target" in [warning.code for warning in graph.warnings]


SPINS: dict[str, Callable[[Tensor], Tensor]] = {
    "drawn": lambda p: 2 * torch.bernoulli(p) - 1,
    "chosen": lambda p: torch.where(torch.rand_like(p) < p, 1.0, -1.0),
    "sign": lambda p: torch.sign(p - torch.rand_like(p)),
    "the other": lambda p: 1 - torch.distributions.Bernoulli(p).sample(),
    "negated": lambda p: ~(torch.rand_like(p) < p),
    "stacked": lambda p: torch.stack([2 * torch.bernoulli(p) - 1, 0.5 - torch.bernoulli(p)], 1).view(5, -1),
}


@pytest.mark.parametrize("name", SPINS)
def test_a_coin_of_other_values_is_a_target_by_its_law(name: str):
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        return SPINS[name](torch.sigmoid(net(x)))

    graph = dgm.trace(model, (values(5, 3),))
    assert {(node.family, node.site.role) for node in graph.samples if node.site} == {("Bernoulli", "target")}
    assert dgm.check(model, (values(5, 3),)).ok


NO_SPINS: dict[str, Callable[[Tensor], Tensor]] = {
    "forgotten": lambda b: b.clamp(min=1),
    "merged by rounding": lambda b: (1e9 + b) / 7.0,
    "by a size": lambda b: b * len(b) - len(b),
    "squared": lambda b: b * b,
    "counted": lambda b: b.sum(-1),
    "a part": lambda b: 2 * b[:, 1:] - 1,
}


@pytest.mark.parametrize("name", NO_SPINS)
def test_what_does_not_tell_a_coin_is_compared_by_its_value(name: str):
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        return NO_SPINS[name](torch.bernoulli(torch.sigmoid(net(x))))

    graph = dgm.trace(model, (values(5, 3),))
    assert [node.family for node in graph.samples if node.site and node.site.role == "target"] == ["Delta"]


def test_counts_and_coins_are_the_same_as_whole_numbers():
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> dict[str, Tensor]:
        rate = net(x).exp()
        return {"count": torch.poisson(rate).long(), "coin": torch.bernoulli(rate / (1 + rate)).bool()}

    sites = [(n.family, n.site.role) for n in dgm.trace(model, (values(5, 3),)).samples if n.site]
    assert sites == [("Poisson", "target"), ("Bernoulli", "target")]


def test_a_draw_is_not_called_as_another_value_that_is_made_of_it():
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        y = torch.square(torch.normal(net(x), 1.0))
        return net(y)

    assert dgm.trace(model, (values(5, 3),)).latents == ("y_draw",)
    assert dgm.check(model, (values(5, 3),)).ok


class Dropping(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h * torch.bernoulli(torch.sigmoid(h))


class Part(nn.Module):
    """Draws amid other calls; torch.export knows lines of ``forward`` only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.drop = Dropping()
        self.drops = nn.Sequential(nn.Linear(3, 3), Dropping())


class Factor(Part):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h = h * torch.bernoulli(torch.sigmoid(h))
        return torch.sin(h)


class OfASubmodule(Part):
    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.layer(x))
        return torch.sin(h)


class OfASequence(Part):
    def forward(self, x: Tensor) -> Tensor:
        h = self.drops(x)
        return torch.sin(h)


class Augmented(Part):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h *= 1 + torch.bernoulli(torch.sigmoid(h))
        return torch.sin(h)


class Index(Part):
    def forward(self, x: Tensor) -> Tensor:
        h = x[torch.arange(len(x)), torch.multinomial(torch.softmax(self.layer(x), -1), 1)[:, 0]]
        return torch.sin(h)


class InAFunction(Part):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(torch.normal(self.layer(x), 1.0)) * 2 + x
        return torch.sin(h)


@pytest.mark.parametrize("exported", [False, True], ids=["module", "exported"])
@pytest.mark.parametrize("part", [Factor, OfASubmodule, OfASequence, Augmented, Index, InAFunction])
def test_a_draw_that_is_part_of_a_value_is_called_after_it(part: Callable[[], nn.Module], exported: bool):
    module, x = part(), values(5, 3)
    model = torch.export.export(module, (x,)) if exported else module
    assert dgm.trace(model, (x,)).latents == ("h_draw",)
    assert dgm.check(model, (x,)).ok


@pytest.mark.parametrize(
    "value",
    [lambda p: 1 - torch.bernoulli(p), lambda p: torch.where(torch.bernoulli(p) > 0, 1.0, -1.0)],
    ids=["complement", "signs"],
)
def test_a_draw_is_called_as_what_is_made_of_it_alone(value: Callable[[Tensor], Tensor]):
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        z = value(torch.sigmoid(net(x)))
        return net(z)

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.latents == ("z",) and graph.samples[0].family == "Bernoulli"
    assert dgm.check(model, (values(5, 3),)).ok


def test_a_draw_that_is_returned_in_another_shape_keeps_its_name():
    def model() -> Tensor:
        k = torch.multinomial(PROBS.expand(4, 3), 1).squeeze(-1)
        return k

    sites = [(n.site.role, n.site.name) for n in dgm.trace(model, ()) if n.site]
    assert sites == [("target", "k"), ("deterministic", "k_value")]
    assert dgm.check(model, ()).ok


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.bernoulli(PROBS).float(),
        lambda: torch.multinomial(PROBS.expand(4, 3), 1).squeeze(-1),
        lambda: td.Normal(MEAN, SCALE).rsample().to(torch.float64).view(3, 1),
    ],
)
def test_a_draw_is_called_as_what_it_becomes_by_a_cast_or_a_view(draw: Callable[[], Tensor]):
    def model() -> Tensor:
        z = draw()
        return torch.sin(z.float())

    assert dgm.trace(model, ()).latents == ("z",)
    assert dgm.check(model, ()).ok


def test_laws_that_are_returned_stand_where_they_were_made():
    def model(x: Tensor) -> Any:
        return [
            td.Normal(x, 1.0),
            td.Independent(td.Bernoulli(probs=PROBS).expand(x.shape), 1),
            dist.Categorical(logits=x).expand([2, 5]),
        ]

    graph = dgm.trace(model, (values(5, 3),))
    first = model.__code__.co_firstlineno
    assert [node.location.line - first for node in graph.samples if node.location] == [2, 3, 4]


def test_names_do_not_collide():
    def model(x: Tensor) -> Tensor:
        z_0 = x + torch.randn_like(x)
        z = z_0.exp() + torch.randn_like(x)
        z = z.exp() + torch.randn_like(x)
        return torch.sin(z)

    graph = dgm.trace(model, (values(4, 3),))
    assert len(set(graph.latents)) == 3 and dgm.check(model, (values(4, 3),)).ok
    with pytest.raises(dgm.CompileError, match="repeated-site"):
        dgm.trace(model, (values(4, 3),), names={"z_0": "output"})


@pytest.mark.parametrize(("model", "word"), [(3, "type int"), (nn.Linear, "the class Linear"), (None, "type NoneType")])
@pytest.mark.parametrize("use", [dgm.trace, dgm.check])
def test_what_is_no_model_is_refused(model: Any, word: str, use: Callable[..., Any]):
    with pytest.raises(dgm.CompileError) as found:
        use(model, (values(5, 3),))
    assert [problem.code for problem in found.value.diagnostics] == ["no-model"] and word in str(found.value)


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_is_a_text(name: Any):
    def marked(x: Tensor) -> Tensor:
        return dgm.site(name, torch.normal(x, 1.0)).sin()

    def named(x: Tensor) -> Tensor:
        z = torch.normal(x, 1.0)
        return z.sin()

    for model, names in ((marked, {}), (named, {"z": name})):
        with pytest.raises(dgm.CompileError, match="site-name"):
            dgm.trace(model, (values(3),), names=names)


def test_marks_do_nothing_in_other_tracers():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return dgm.site("z", x.exp()) + 1

    x = values(3)
    for tool in (torch.fx.symbolic_trace(Model()), torch.export.export(Model(), (x,), strict=True).module()):
        torch.testing.assert_close(tool(x), x.exp() + 1)
