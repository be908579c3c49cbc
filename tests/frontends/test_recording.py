"""What tracing 300 programs once showed to go wrong, a test for each; and what only looks wrong."""

from __future__ import annotations

import warnings
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import config_enumerate
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.frontends.polynomials import explained, grid
from dgmcompile.ir.graph import Call, Constant, Guard, Parameter, Ref, Sample
from dgmcompile.ir.size import Size
from tests.programs.program import seeded, values


def site(graph: Any, name: str) -> Sample:
    node = graph[graph.sites()[name]]
    assert isinstance(node, Sample)
    return node


def assert_same(model: Any, *args: Any, **options: Any) -> None:
    report = dgm.check(model, args, **options)
    assert report.ok, str(report)


# -- wrong without a word ----------------------------------------------------------------------------------------------


def test_a_family_is_its_class_and_no_base_distribution_is_stripped():
    def model() -> None:
        pyro.sample("a", dist.LogNormal(0.0, 1.0))
        pyro.sample("b", dist.HalfCauchy(torch.ones(3)).to_event(1))
        pyro.sample(
            "c", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.ExpTransform()]).mask(True)
        )

    graph = dgm.trace(model, targets="all")
    assert [node.family for node in graph.samples] == ["LogNormal", "HalfCauchy", "Normal"]
    assert [step.name for step in site(graph, "c").transforms] == ["ExpTransform"]
    assert site(graph, "b").event_dim == 1


def test_parameters_are_those_of_the_constructor_call():
    def model(a: Tensor, b: Tensor) -> None:
        pyro.sample("x", dist.Beta(a, b))
        pyro.sample("y", dist.GammaPoisson(a, rate=b))

    graph = dgm.trace(model, (torch.tensor(1.0), torch.tensor(2.0)))
    assert dict(site(graph, "x").params) == {"concentration1": Ref("a"), "concentration0": Ref("b")}
    assert dict(site(graph, "y").params) == {"concentration": Ref("a"), "rate": Ref("b")}


def test_logits_stay_logits_though_the_sampler_caches_probs():
    def model(logits: Tensor) -> None:
        law = dist.Categorical(logits=logits)
        pyro.sample("k", law)
        pyro.sample("l", law)

    graph = dgm.trace(model, (torch.zeros(3),))
    for name in ("k", "l"):
        assert dict(site(graph, name).params) == {"logits": Ref("logits")}


def test_masks_and_scales_of_every_kind_are_part_of_the_site():
    def model(mask: Tensor) -> None:
        with poutine.mask(mask=mask), poutine.scale(scale=3.0), pyro.plate("p", 10, subsample_size=2):
            pyro.sample("x", dist.Normal(0.0, 1.0).mask(mask))

    graph = dgm.trace(model, (torch.tensor([True, False]),))
    node = site(graph, "x")
    assert graph[node.scale.name].args == (10, 2, 3.0)
    assert isinstance(node.mask, Ref)


def test_tensors_in_dicts_lists_and_keywords_are_inputs():
    def model(batch: dict[str, list[Tensor]], *, scale: Tensor) -> None:
        pyro.sample("x", dist.Normal(batch["a"][0] + batch["a"][1], scale))

    graph = dgm.trace(model, ({"a": [torch.zeros(()), torch.ones(())]},), {"scale": torch.ones(())})
    assert set(graph.inputs) == {"batch.a.0", "batch.a.1", "scale"}
    assert not [node for node in graph if isinstance(node, Constant)]


def test_random_numbers_that_nothing_reads_are_harmless():
    def model() -> None:
        torch.randn(3)
        pyro.param("w", lambda: torch.randn(3))
        pyro.sample("x", dist.Normal(0.0, 1.0))

    assert dgm.trace(model).targets == ("x",)


def test_setitem_rebinds_the_tensor():
    def model() -> None:
        x = torch.zeros(3)
        x[1] = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    assert ("z", "y") in dgm.trace(model).variables().edges


def test_a_delta_at_its_own_value_is_deterministic():
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("d", dist.Delta(value := z.exp()), obs=value)

    graph = dgm.trace(model)
    assert graph["d"].site.role == "deterministic"
    assert graph.latents + graph.targets == ("z",)


def test_a_module_whose_weights_are_samples_is_recorded_inside():
    from tests.programs.parameters import BayesianRegression

    graph = dgm.trace(BayesianRegression(), (values(4, 3),))
    assert set(graph.latents) == {"linear.weight", "linear.bias"}


# -- reads of values ---------------------------------------------------------------------------------------------------


def test_reads_that_only_assert_or_warn_are_harmless():
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        assert z > -100
        assert bool(z.isfinite()), "not finite"
        if torch.isnan(z).any():
            raise ValueError("nan")
        if z.abs() > 1e9:
            warnings.warn("large", stacklevel=1)
        pyro.sample("x", dist.Normal(z, 1.0))

    assert_same(model)


def test_values_of_closed_over_tensors_may_become_numbers():
    lengths = torch.tensor([2, 3])

    def model() -> None:
        for i in range(int(lengths.sum())):
            pyro.sample(f"x_{i}", dist.Normal(0.0, lengths[0].item()))

    assert len(dgm.trace(model).samples) == 5


def test_branches_on_shapes_and_flags_are_no_reads():
    def model(x: Tensor, flag: bool) -> None:
        if x.dim() == 1 and flag and x.is_floating_point():
            pyro.sample("x", dist.Normal(x, 1.0).to_event(1))

    graph = dgm.trace(model, (torch.zeros(3), True))
    assert Guard(("flag",), None, True, "it is a plain Python value") in graph.guards


def test_every_read_is_reported_at_once():
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.item(), 1.0))
        pyro.sample("y", dist.Normal(float(z), 1.0))

    with pytest.raises(dgm.CompileError) as caught:
        dgm.trace(model)
    assert [d.code for d in caught.value.diagnostics] == ["value-escape", "value-escape"]


# -- warnings ----------------------------------------------------------------------------------------------------------


class Reads(nn.Module):
    """A buffer that becomes a Python number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(2.0))

    def forward(self) -> None:
        pyro.sample("x", dist.Normal(self.temperature.item(), 1.0))


class ByMode(nn.Module):
    """Does something else in train mode than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        h = F.dropout(self.linear(z), 0.5, training=self.training)
        pyro.sample("x", dist.Normal(h, 1.0).to_event(1))


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(self.drop(z), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        (Reads(), "frozen-buffer", "the value of 'temperature' leaves torch through item and is fixed in the graph"),
        (
            seeded(ByMode).eval(),
            "frozen-mode",
            "what the model does here depends on its mode; the graph is that of eval mode",
        ),
        (Drops(), "random-module", "submodule 'drop' (Dropout) draws random numbers by itself"),
    ],
)
def test_warned_of(model: nn.Module, code: str, message: str):
    graph = dgm.trace(model)
    warning, note = graph.warnings
    assert (warning.severity, warning.code, warning.message) == ("warning", code, message)
    assert (note.severity, note.code) == ("note", "chosen-targets")
    assert graph.warnings[0].location.line > 0
    assert dgm.compact(dgm.semi_auxiliary(graph)).warnings == graph.warnings


def test_modules_that_know_their_mode_are_not_warned_of():
    assert [note.code for note in dgm.trace(Drops().eval()).warnings] == ["chosen-targets"]
    assert dgm.trace(Drops().eval(), targets="all").warnings == ()


def test_functional_dropout_in_train_mode_is_refused():
    with pytest.raises(dgm.CompileError, match=r"error\[stray-random\].*dropout draws random numbers"):
        dgm.trace(seeded(ByMode))


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_no_grad_cuts_gradients_of_calls_tuples_views_and_modules():
    net = seeded(lambda: nn.Linear(2, 2))

    def model() -> None:
        w = pyro.param("w", torch.ones(4))
        with torch.no_grad():
            a, b = w.chunk(2)
            h = net(w[:2] * 2)
        pyro.sample("x", dist.Normal(a + b * w[:2] + h + net(a), 1.0).to_event(1))

    assert_same(model)
    assert_same(model, dtype=torch.float64)


def test_detached_memory_is_not_taken_for_the_tensor_itself():
    def model() -> None:
        w = pyro.param("w", torch.ones(4))
        first, again = w[0], w.detach()[0]
        pyro.sample("x", dist.Normal(first * again, 1.0))

    assert_same(model)


def test_writes_through_strided_views_keep_their_gradient():
    def model() -> None:
        scale = pyro.param("scale", torch.tensor(2.0))
        kernel = scale * torch.ones(3, 3)
        kernel.view(-1)[::4] += 0.5
        kernel[1:, 0] *= scale
        pyro.sample("x", dist.Normal(kernel.sum(0), 1.0).to_event(1))

    assert_same(model, dtype=torch.float64)


# -- writes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda h: h.__ipow__(2.0),
        lambda h: h.__itruediv__(3.0),
        lambda h: torch.exp(h.clone(), out=h),
        lambda h: torch.add(h, 1.0, out=h),
        lambda h: F.relu(h, inplace=True),
        lambda h: F.elu(h, 0.5, True),
        lambda h: h.clamp_(-0.1, 0.1),
        lambda h: h[:1].mul_(3.0),
        lambda h: h.view(3, 1).t().add_(1.0),
        lambda h: h.__setitem__(slice(None, 2), 0.5),
        lambda h: h.copy_(torch.arange(3.0)),
        lambda h: h.zero_(),
        lambda h: h.fill_(2.0),
        lambda h: h.index_add_(0, torch.tensor([0, 2]), torch.ones(2)),
        lambda h: h.masked_fill_(h > 0, 1.5),
        lambda h: torch.max(torch.arange(6.0).view(2, 3), 0, out=(h, torch.empty(3, dtype=torch.long))),
    ],
)
def test_every_way_to_write_is_seen(write: Any):
    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        h = z.detach().clone()
        before = h * 1.0
        write(h)
        pyro.sample("x", dist.Normal(before + 2.0 * h, 1.0).to_event(1))

    graph = dgm.trace(model)
    assert any(isinstance(n, Call) and n.target_name not in ("torch.Tensor.mul", "torch.Tensor.add") for n in graph)
    assert_same(model)


@pytest.mark.parametrize("operator", ["__iand__", "__ior__", "__ixor__"])
def test_operators_on_masks_write(operator: str):
    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        mask = z > 0
        getattr(mask, operator)(z < 1)
        pyro.sample("x", dist.Normal(mask.float(), 1.0).to_event(1))

    assert_same(model)


def test_closed_over_tensors_that_are_written_are_refused_and_put_back():
    work = torch.zeros(3)

    def model() -> None:
        work.copy_(pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1)))
        pyro.sample("x", dist.Normal(work, 1.0).to_event(1))

    with pytest.raises(dgm.CompileError, match="unstable-recording"):
        dgm.trace(model)
    assert torch.equal(work, torch.zeros(3))


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (lambda n, d: n, "n"),
        (lambda n, d: 2 * n + 1, "2 * n + 1"),
        (lambda n, d: n - 1, "n - 1"),
        (lambda n, d: n * d, "d * n"),
        (lambda n, d: n * n, "n * n"),
        (lambda n, d: n * d + n - 1, "d * n + n - 1"),
        (lambda n, d: (n + 1) * (n + d), "d * n + n * n + d + n"),
        (lambda n, d: n // 2, None),
        (lambda n, d: n * (n + 1) // 2, None),
        (lambda n, d: min(n, 6), None),
        (lambda n, d: n % 3, None),
        (lambda n, d: max(n, d), None),
        (lambda n, d: 2**n, None),
    ],
)
def test_numbers_are_polynomials_in_the_sizes_or_nothing(size: Any, expected: str | None):
    base = (4, 3)
    settings = [(4, 3), (5, 3), (4, 4), (11, 9), *grid(base, (0, 1))]
    found = explained([(at, size(*at)) for at in settings], ["n", "d"], (0, 1))
    if expected is None:
        assert found is None
    else:
        assert isinstance(found, Size)
        assert str(found) == expected


def test_a_constant_made_of_a_size_is_computed_from_it():
    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(torch.tensor([len(x), 2]).float() + torch.tensor(len(x) - 1), 1.0).to_event(1))

    graph = dgm.trace(model, (values(4),))
    assert not graph.guards
    assert_same(model, values(4))


def test_a_large_constant_made_of_a_size_fixes_it():
    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(torch.tensor([[0.5] * len(x)] * 40), 1.0).to_event(2))

    graph = dgm.trace(model, (values(4),))
    assert [(g.path, g.dim, g.expected) for g in graph.guards] == [(("x",), 0, 4)]


def test_large_constants_of_two_recordings_are_one():
    def model() -> None:
        pyro.sample("y", dist.Normal(torch.tensor([0.5] * 100), 1.0).to_event(1))

    graph = dgm.trace(model)
    assert [n.trainable for n in graph if isinstance(n, Parameter)] == [False]


def test_a_branch_on_a_size_is_a_guard():
    def model(x: Tensor) -> None:
        scale = 1.0 if len(x) == 4 else 2.0
        pyro.sample("y", dist.Normal(x, scale).to_event(1))

    assert [(g.dim, g.expected) for g in dgm.trace(model, (values(4),)).guards] == [(0, 4)]


# -- good to know ------------------------------------------------------------------------------------------------------


def test_names_of_sites_are_data():
    names = ["a b", "c/d", "é", "class", 'q"', "x.y", "%1"]

    def model() -> None:
        for name in names:
            pyro.sample(name, dist.Normal(0.0, 1.0))

    assert list(dgm.trace(model).sites()) == names


def test_handlers_around_the_model_are_part_of_it():
    def model() -> None:
        z = pyro.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(z, 1.0))

    graph = dgm.trace(poutine.condition(config_enumerate(model), data={"x": torch.tensor(0.3)}))
    assert (graph.latents, graph.targets) == (("z",), ("x",))


def test_handlers_around_the_call_are_not():
    def model() -> None:
        pyro.sample("x", dist.Normal(0.0, 1.0))

    with poutine.trace() as outer, poutine.condition(data={"x": torch.tensor(0.3)}):
        graph = dgm.trace(model)
    assert graph.targets == ("x",)
    assert "x" not in outer.trace.nodes


def test_observations_by_mask_are_followed():
    def model(x: Tensor, seen: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x, obs_mask=seen)

    assert_same(model, values(4), torch.tensor([True, False, True, True]))


def test_distributions_made_before_the_model_are_read_without_computing():
    priors = {
        "a": dist.Normal(torch.tensor(0.0), 1.0),
        "b": dist.HalfNormal(torch.tensor(2.0)),
        "c": dist.LogNormal(0.0, 1.0),
        "d": dist.OneHotCategorical(logits=torch.zeros(3)),
        "e": dist.MultivariateNormal(torch.zeros(2), covariance_matrix=torch.eye(2)),
        "f": dist.Categorical(probs=torch.ones(2) / 2),
        "g": dist.Normal(0.0, 1.0).expand([3]).to_event(1),
    }

    def model() -> None:
        for name, law in priors.items():
            pyro.sample(name, law)

    graph = dgm.trace(model, targets="all")
    assert set(site(graph, "d").params) == {"logits"}
    assert set(site(graph, "f").params) == {"probs"}
    assert set(site(graph, "e").params) == {"loc", "covariance_matrix"}
    assert_same(model, targets="all")


def test_a_parameter_that_is_initialised_at_random_is_initialised_once():
    def model() -> None:
        pyro.sample("x", dist.Normal(pyro.param("w", torch.randn(3)), 1.0).to_event(1))

    first = dgm.trace(model)
    assert "w" not in pyro.get_param_store()
    assert [n.path for n in first if isinstance(n, Parameter)] == ["w"]


def test_tracing_time_is_linear_in_the_sites():
    def chain(length: int) -> Any:
        def model() -> None:
            z = torch.zeros(2)
            for t in range(length):
                z = pyro.sample(f"z_{t}", dist.Normal(z * 0.5, 1.0).to_event(1))

        return model

    nodes = {length: len(dgm.trace(chain(length))) for length in (10, 100)}
    assert nodes[100] - 1 == 10 * (nodes[10] - 1)
