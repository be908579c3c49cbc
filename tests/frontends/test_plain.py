"""Programs of plain PyTorch: what they draw, by torch's functions and distributions, and what is recovered of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as td
from torch.autograd import Variable

import dgmcompile as dgm
from dgmcompile.ir.graph import Noise
from tests.frontends.latents import MEAN, PROBS, SCALE, families, the_latent
from tests.programs.program import values

LIBRARY: dict[str, tuple[Callable[[], Tensor], str]] = {
    "normal": (lambda: torch.normal(MEAN, SCALE), "Normal"),
    "normal of numbers": (lambda: torch.normal(1.0, 2.0, (3,)), "Normal"),
    "bernoulli": (lambda: torch.bernoulli(PROBS), "Bernoulli"),
    "bernoulli of a number": (lambda: torch.zeros(3).bernoulli_(0.3), "Bernoulli"),
    "poisson": (lambda: torch.poisson(SCALE), "Poisson"),
    "binomial": (lambda: torch.binomial(torch.tensor([5.0, 2.0, 9.0]), PROBS), "Binomial"),
    "multinomial": (lambda: torch.multinomial(PROBS, 1), "Categorical"),
    "multinomial with replacement": (lambda: torch.multinomial(PROBS.expand(4, 3), 5, True), "Categorical"),
    "uniform_": (lambda: torch.empty(3).uniform_(-1, 2), "Uniform"),
    "exponential_": (lambda: torch.empty(3).exponential_(2.0), "Exponential"),
    "cauchy_": (lambda: torch.empty(3).cauchy_(1.0, 2.0), "Cauchy"),
    "log_normal_": (lambda: torch.empty(3).log_normal_(0.5, 0.2), "LogNormal"),
    "gumbel_softmax": (lambda: F.gumbel_softmax(MEAN.expand(4, 3), 0.5), "RelaxedOneHotCategorical"),
    "gumbel_softmax, hard": (
        lambda: F.gumbel_softmax(MEAN.expand(4, 3), 0.5, hard=True),
        "RelaxedOneHotCategoricalStraightThrough",
    ),
    "gumbel_softmax of a dim": (
        lambda: F.gumbel_softmax(MEAN[:, None].expand(3, 4), 0.5, dim=0),
        "RelaxedOneHotCategorical",
    ),
    "geometric_": (lambda: torch.empty(3).geometric_(0.3), "Geometric"),
    "distribution": (lambda: td.Gamma(SCALE, SCALE).rsample(), "Gamma"),
    "distribution of a shape": (lambda: td.Beta(SCALE, 2.0).sample((4,)), "Beta"),
    "independent": (lambda: td.Independent(td.Normal(MEAN, SCALE), 1).rsample(), "Normal"),
    "transformed": (
        lambda: td.TransformedDistribution(td.Normal(MEAN, SCALE), [td.SigmoidTransform()]).rsample(),
        "Normal",
    ),
    "mixture": (
        lambda: td.MixtureSameFamily(td.Categorical(PROBS), td.Normal(MEAN, SCALE)).sample((4,)),
        "MixtureSameFamily",
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_what_torch_draws_is_a_random_variable(name: str):
    the_latent(*LIBRARY[name])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.multinomial(PROBS.expand(4, 3), 2),
        lambda: torch.randint(10, (4,)),
        lambda: torch.randint(3, 7, (4, 2), dtype=torch.int32),
    ],
)
def test_draws_without_a_law_of_their_own_are_made_of_noise(draw: Callable[[], Tensor]):
    def model() -> Tensor:
        z = draw()
        return torch.sin(z.float())

    graph = dgm.trace(model, ())
    assert not graph.latents and len([node for node in graph if isinstance(node, Noise)]) == 1
    assert dgm.check(model, ()).ok


def test_a_distribution_that_was_made_before_is_read():
    prior = td.Normal(MEAN, SCALE)

    def model(n: int) -> Tensor:
        z = prior.sample((n,))
        return z * 2

    graph = dgm.trace(model, (4,))
    (z,) = (node for node in graph.samples if node.name == "z")
    assert set(z.params) == {"loc", "scale"}
    assert dgm.check(model, (4,)).ok


class Generator(nn.Module):
    """A draw by its own noise, a threshold, and an output that is drawn by torch."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale, self.out = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        mu, std = self.loc(x), F.softplus(self.scale(x))
        z = mu + std * torch.randn_like(std)
        mask = (torch.rand_like(mu) < torch.sigmoid(mu)).float()
        y = torch.bernoulli(torch.sigmoid(self.out(z * mask)))
        return y


DRAWN = [("Normal", "latent"), ("Bernoulli", "latent"), ("Bernoulli", "target")]


def test_a_symbolic_trace_is_a_model():
    model, x = torch.fx.symbolic_trace(Generator()), values(4, 2)
    graph = dgm.trace(model, (x,))
    assert families(graph) == DRAWN
    assert "add = loc + mul" in graph["add"].location.text  # type: ignore[union-attr]
    assert dgm.check(model, (x,)).ok


def test_an_exported_program_is_a_model():
    batch = torch.export.Dim("batch")
    exported = torch.export.export(Generator(), (values(4, 2),), dynamic_shapes=({0: batch},))
    graph = dgm.trace(exported, (values(4, 2),))
    assert families(graph) == DRAWN
    report = dgm.check(exported, (values(4, 2),))
    assert report.ok and report.sizes == {"x.shape[0]": 7}, str(report)


def test_double_values_of_single_noise_are_replayed_as_exactly_as_the_noise():
    layer = nn.Linear(3, 3).double()

    def model(x: Tensor) -> Tensor:
        mean = layer(x)
        z = mean + mean.exp() * torch.randn(5, 3)
        return z.sin()

    report = dgm.check(model, (values(5, 3).double(),))
    assert report.ok and report.gradients, str(report)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_that_torch_compiles_is_replayed_as_it_stands():
    net = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.Tanh()))

    def model(x: Tensor) -> Tensor:
        z = net(x) + torch.randn_like(x)
        return z.sin()

    assert dgm.check(model, (values(5, 3),)).ok


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_model_that_torch_compiles_is_the_model_that_it_was_made_of():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = torch.compile(nn.Linear(3, 3)), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = self.encoder(x) + torch.randn_like(x)
            return self.head(z)

    model = Model()
    one, two = dgm.trace(torch.compile(model), (values(5, 3),)), dgm.trace(model, (values(5, 3),))
    assert str(one) == str(two)
    assert one.name == "Model" and "encoder" in one
    assert dgm.compile(dgm.pair(torch.compile(model), Model(), model_args=(values(5, 3),)))(values(4, 3)).total > 0


def test_a_model_that_runs_in_parallel_is_the_model():
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, n: int) -> Tensor:
            z = torch.randn(n, 3)
            return self.head(z)

    model = Generator()
    assert str(dgm.trace(nn.DataParallel(model), (4,))) == str(dgm.trace(model, (4,)))
    assert dgm.check(nn.DataParallel(model), (4,)).ok
    assert dgm.pair(nn.DataParallel(model), Generator(), model_args=(4,)).latents


def test_an_argument_may_be_of_8_bits():
    def model(x: Tensor) -> Tensor:
        return x.float() + torch.randn(x.shape)

    x = values(4, 3).to(torch.float8_e4m3fn)
    assert [node.family for node in dgm.trace(model, (x,)).samples] == ["Normal"]


def test_variables_of_old_programs_are_tensors():
    layer = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        mean = layer(Variable(x))
        z = mean + mean.exp() * Variable(torch.randn(mean.size()))
        return z.sin()

    assert dgm.trace(model, (values(5, 3),)).latents == ("z",)
    assert dgm.check(model, (values(5, 3),)).ok
    assert type(Variable(torch.ones(1))) is Tensor


def test_the_callers_autocast_is_for_calls_of_what_is_compiled():
    layer = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        z = layer(x) + torch.randn_like(x)
        return layer(z)

    x = values(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph = dgm.trace(model, (x,))
        assert torch.is_autocast_enabled("cpu")
        assert dgm.compile(dgm.semi_auxiliary(graph))(x)["output"].dtype == torch.bfloat16
    assert str(graph) == str(dgm.trace(model, (x,)))


def test_autocast_inside_of_the_model_is_told_once():
    layer = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = layer(layer(x)).sin()
        return h + torch.randn_like(h)

    with pytest.raises(dgm.CompileError) as found:
        dgm.trace(model, (values(5, 3),))
    assert [problem.code for problem in found.value.diagnostics] == ["autocast"]


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (lambda x: dgm.target("y", x), "dgm.target takes a distribution, not a Tensor"),
        (lambda x: dgm.site("z", 3.0), "dgm.site takes a tensor, not a float"),
    ],
)
def test_marks_say_what_they_take(mark: Any, words: str):
    with pytest.raises(TypeError, match=words):
        mark(torch.ones(3))
    with pytest.raises(dgm.CompileError, match=words):
        dgm.trace(lambda x: mark(x), (torch.ones(3),))


def test_a_pooling_layer_of_random_windows_is_a_call_that_draws_by_itself():
    pool = nn.FractionalMaxPool2d(2, output_ratio=0.5)

    def model(x: Tensor) -> Tensor:
        return pool(x)

    graph = dgm.trace(model, (values(2, 1, 8, 8),))
    assert [warning.code for warning in graph.warnings][:1] == ["random-module"]
    assert "nn.FractionalMaxPool2d(2, output_ratio=0.5)" in dgm.compile(graph).source


ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "a draw": lambda row: row + torch.randn(3),
    "a draw like it": lambda row: row + torch.randn_like(row),
    "a distribution": lambda row: td.Normal(row, 1.0).rsample(),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_vmap_runs_is_refused(name: str):
    def model(x: Tensor) -> Tensor:
        return torch.vmap(ROWS[name], randomness="different")(x)

    with pytest.raises(dgm.CompileError, match="functional-transform"):
        dgm.trace(model, (values(5, 3),))


WRITTEN: dict[str, Callable[[Tensor], Any]] = {
    "normal": lambda k: torch.normal(MEAN.expand(4, 3), 1.0, out=k),
    "copied": lambda k: k.copy_(torch.normal(MEAN.expand(4, 3), 1.0)),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_into_a_variable_is_called_so(name: str):
    write = WRITTEN[name]

    def model() -> Tensor:
        k = torch.empty(4, 3)
        write(k)
        return k.sin()

    assert dgm.trace(model, ()).latents == ("k",)
    assert dgm.check(model, ()).ok


def test_whole_numbers_are_written_into_a_variable():
    def model(x: Tensor) -> Tensor:
        k = torch.empty_like(x)
        torch.randint(2, 9, x.shape, out=k)
        j = torch.empty(len(x), 1, dtype=torch.long)
        torch.multinomial(x.exp(), 1, out=j)
        return x + k + j

    x = values(5, 3)
    assert dgm.trace(model, (x,)).latents == ("j",)
    report = dgm.check(model, (x,))
    assert report.ok and report.sizes == {"x.shape[0]": 8, "x.shape[1]": 6}, str(report)


def test_a_module_that_returns_its_argument_returns_another_value():
    net, drop = nn.Linear(3, 3), nn.Dropout(0.5).eval()

    def model(x: Tensor) -> Tensor:
        h = x * 1.0
        z = torch.normal(net(drop(h)) + h, 1.0)
        return z

    graph = dgm.trace(model, (values(5, 3),))
    assert len(graph.users("h")) == 2 and not [w for w in graph.warnings if w.code == "frozen-mode"]


def seeded(draw: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def model(x: Tensor) -> Tensor:
        z = draw(x)
        return torch.sin(z)

    return model


def by_own_generator(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return x + torch.randn(3, generator=generator)


def by_a_seed(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return x + torch.randn(3)


def twice(x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        a = x + torch.randn(3)
    b = x + torch.randn(3)
    return a - b


@pytest.mark.parametrize("draw", [by_own_generator, by_a_seed, twice])
def test_numbers_that_are_not_new_are_refused(draw: Callable[[Tensor], Tensor]):
    with pytest.raises(dgm.CompileError, match="fixed-random"):
        dgm.trace(seeded(draw), (values(4, 3),))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * torch.randn_like(x)


def test_a_submodule_that_draws_is_not_kept_whole():
    model = nn.Sequential(nn.Linear(3, 4), Noisy(), nn.Dropout(0.5), nn.Linear(4, 2))
    graph = dgm.trace(model, (values(5, 3),))
    assert [node.law for node in graph if isinstance(node, Noise)] == ["StandardNormal"]
    assert dgm.check(model, (values(5, 3),)).ok


def test_draws_that_are_put_behind_an_argument_with_a_new_dim_are_the_targets():
    net = nn.Embedding(7, 7)

    def model(first: Tensor) -> Tensor:
        sequence = first[:, None]
        for _ in range(2):
            token = torch.multinomial(net(sequence[:, -1]).softmax(-1), 1)
            sequence = torch.cat([sequence, token], 1)
        return sequence

    graph = dgm.trace(model, (torch.tensor([0, 3, 2]),))
    assert families(graph) == [("Categorical", "target")] * 2
    assert dgm.check(model, (torch.tensor([0, 3, 2]),)).ok
