"""What tracing 300 programs once showed to go wrong, a test for each; and what only looks wrong.

Programs of these kinds that are replayed as well stand in ``tests/programs``; those that are refused, in
``docs/diagnostics``.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.contrib.tracking.distributions import EKFDistribution
from pyro.contrib.tracking.dynamic_models import NcvContinuous
from pyro.infer import config_enumerate
from pyro.infer.reparam import AutoReparam, LatentStableReparam, LocScaleReparam, StableReparam, SymmetricStableReparam
from pyro.util import warn_if_inf, warn_if_nan
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.graph import Constant, Guard, Parameter, Ref, Sample
from tests.programs.program import size_guards, values


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


def test_parameters_that_a_family_keeps_in_another_object_are_those_of_the_constructor_call():
    def model(a: Tensor) -> None:
        pyro.sample("hot", dist.OneHotCategorical(logits=a))
        pyro.sample("counts", dist.Multinomial(4, probs=a.exp()))
        parts = dist.Normal(a, 1.0)
        pyro.sample("mixed", dist.MixtureSameFamily(dist.Categorical(logits=a), parts))
        pyro.sample("states", dist.DiscreteHMM(a, torch.zeros(3, 3), parts, duration=2))

    graph = dgm.trace(model, (torch.zeros(3),), targets="all")
    assert dict(site(graph, "hot").params) == {"logits": Ref("a")}
    assert dict(site(graph, "counts").params) == {"total_count": 4, "probs": Ref("exp")}
    mixed, states = site(graph, "mixed").params, site(graph, "states").params
    assert (mixed["mixture_distribution"].family, mixed["component_distribution"].family) == ("Categorical", "Normal")
    assert mixed["mixture_distribution"].params == {"logits": Ref("a")}
    assert (states["initial_logits"], states["observation_dist"].params["loc"]) == (Ref("a"), Ref("a"))
    assert_same(model, torch.zeros(3), targets="all")


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


def test_tensors_in_named_tuples_are_inputs_a_packed_sequence_among_them():
    def model(packed: Any) -> None:
        pyro.sample("x", dist.Normal(packed.data.sum(), 1.0))

    packed = nn.utils.rnn.pack_padded_sequence(values(4, 3), torch.tensor([4, 2, 1]))
    assert dgm.trace(model, (packed,)).inputs == ("packed.0", "packed.1")
    assert_same(model, packed)


def test_random_numbers_that_nothing_reads_are_harmless():
    def model() -> None:
        torch.randn(3)
        pyro.param("w", lambda: torch.randn(3))
        pyro.sample("x", dist.Normal(0.0, 1.0))

    assert dgm.trace(model).targets == ("x",)


def test_random_numbers_that_something_reads_are_refused():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

    def model() -> None:
        pyro.sample("x", dist.Normal(net(torch.ones(2)), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(torch.rand(2), 1.0).to_event(1))

    with pytest.raises(dgm.CompileError, match="stray-random") as caught:
        dgm.trace(model)
    assert len(caught.value.diagnostics) == 1  # dropout inside a whole submodule is that submodule's


def test_dropout_inside_a_whole_submodule_is_said():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

    def model() -> None:
        pyro.sample("x", dist.Normal(net(torch.ones(2)), 1.0).to_event(1))

    assert next(warning.code for warning in dgm.trace(model).warnings) == "random-module"


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


def test_a_value_computed_from_latents_is_no_observation():
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("d", dist.Delta(z.exp()), obs=z.exp() + 1.0)

    with pytest.raises(dgm.CompileError, match="observed-latent"):
        dgm.trace(model)


def test_a_submodule_that_returns_a_distribution_is_recorded_inside():
    from tests.programs.networks import ReturnsALaw

    graph = dgm.trace(ReturnsALaw(), (values(4),))
    assert set(site(graph, "x").params) == {"loc", "scale"}
    assert "head" not in graph.binding.modules


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
        warn_if_nan(z, "z")
        warn_if_inf(z, "z")
        print(f"z is {z}, {z.item():.2f}", end="")
        logging.getLogger("model").debug("z is %f", float(z.detach()))
        pyro.sample("x", dist.Normal(z, 1.0))

    assert_same(model)


@pytest.mark.parametrize("reparam", [StableReparam(), LatentStableReparam(), SymmetricStableReparam()])
def test_reads_inside_of_pyros_reparameterisers_only_guard(reparam: Any):
    skew = 0.5 if isinstance(reparam, StableReparam) else 0.0
    config = {"z": reparam}

    def model(x: Tensor) -> None:
        with poutine.reparam(config=config), pyro.plate("data", len(x)):
            law = dist.Stable(torch.tensor(1.5), torch.tensor(skew), torch.tensor(1.0), torch.tensor(0.0))
            z = pyro.sample("z", law)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    assert_same(model, values(3), dtype=torch.float64)


def test_reads_that_agree_by_accident_are_refused_all_the_same():
    """Both recordings go the same way: a coin of one side nearly always does."""

    def model() -> None:
        k = pyro.sample("k", dist.Bernoulli(0.999))
        pyro.sample("x", dist.Normal(1.0 if k == 1 else 2.0, 1.0))

    with pytest.raises(dgm.CompileError, match="value-branch"):
        dgm.trace(model)


def test_indices_that_a_plate_draws_may_choose_the_data():
    def model(y: Tensor) -> None:
        with pyro.plate("data", len(y), subsample_size=3) as index:
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y[index])

    assert_same(model, values(7))


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
    assert [d.code for d in caught.value.diagnostics] == ["value-number", "value-number"]


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_two_recordings_show_which_numbers_are_sizes():
    """Wherever they stand: plates, ``expand``, ``new_zeros``, ``arange``, reshapes."""

    def model(x: Tensor) -> None:
        n, d = x.shape
        with pyro.plate("data", n):
            z = pyro.sample("z", dist.Normal(x.new_zeros(n, d), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(torch.arange(n) * 1.0, 1.0))
            loc = z.reshape(n * d).view(d, n).sum(0) + w.unsqueeze(0).expand(d, n).sum(0)
            pyro.sample("y", dist.Normal(loc, 1.0))

    assert not size_guards(dgm.trace(model, (values(4, 3),)))
    assert dgm.check(model, (values(4, 3),)).sizes == {"x.shape[0]": 7, "x.shape[1]": 6}
    assert_same(model, values(4, 3))


def test_a_program_that_runs_at_one_size_only_is_guarded():
    table = values(6)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x + table, 1.0))

    (guard,) = size_guards(dgm.trace(model, (values(6),)))
    assert (guard.path, guard.dim, guard.expected) == (("x",), 0, 6)
    assert "the program fails at another size" in guard.reason


def test_a_loop_over_the_data_is_guarded():
    def model(x: Tensor) -> None:
        for i in range(len(x)):
            pyro.sample(f"x_{i}", dist.Normal(x[i], 1.0))

    (guard,) = size_guards(dgm.trace(model, (values(4),)))
    assert (guard.expected, guard.reason.partition(" (")[0]) == (4, "the program's structure depends on it")


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


def test_distributions_without_argument_constraints_are_recorded():
    class Shifted(dist.TorchDistribution):
        support = dist.constraints.real

        def __init__(self, loc: Tensor) -> None:
            self.loc = loc
            super().__init__(loc.shape, validate_args=False)

        def sample(self, sample_shape: Any = ()) -> Tensor:
            return self.loc + torch.rand(self._extended_shape(sample_shape))

    def model(x: Tensor) -> None:
        pyro.sample("x", Shifted(x).to_event(1))

    graph = dgm.trace(model, (values(3),))
    assert site(graph, "x").params == {"loc": Ref("x_1")}


def test_deterministic_sites_in_plates_keep_their_shape():
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("total", z.sum())
            assert x.shape == z.shape  # programs may ask this of observed values
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    graph = dgm.trace(model, (values(4),))
    assert graph["total"].shape == ()
    assert_same(model, values(4))


def test_sizes_may_be_closed_over():
    size = 5

    def model() -> None:
        with pyro.plate("data", size):
            pyro.sample("x", dist.Normal(torch.zeros(size), 1.0))

    assert dgm.trace(model)["x"].shape == (5,)
    assert_same(model)


def test_a_plate_takes_the_elements_that_it_is_given():
    def model(x: Tensor) -> None:
        with pyro.plate("data", 10, subsample=x) as batch:
            pyro.sample("y", dist.Normal(batch, 1.0))

    graph = dgm.trace(model, (values(4),))
    assert isinstance(site(graph, "y").scale, Ref)
    assert_same(model, values(4))


def test_images_are_warped_by_samples():
    def model(image: Tensor) -> None:
        with pyro.plate("data", len(image)):
            move = pyro.sample("move", dist.Normal(torch.zeros(2, 3), 0.1).to_event(2))
            grid = F.affine_grid(move, list(image.shape), align_corners=False)
            warped = F.grid_sample(image, grid, align_corners=False)
            pyro.sample("y", dist.Normal(warped, 1.0).to_event(3))

    assert_same(model, values(2, 1, 4, 4))


def test_a_mask_that_is_written_later_on_is_refused():
    def model(lengths: Tensor) -> None:
        mask = torch.ones(3).bool()
        with poutine.mask(mask=mask), pyro.plate("data", 3):
            for t in range(3):
                mask &= t < lengths
                pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))

    with pytest.raises(dgm.CompileError, match="mask-write"):
        dgm.trace(model, (torch.tensor([1, 2, 3]),))


def test_a_mask_that_a_distribution_holds_is_the_programs_own_tensor_too():
    def model(lengths: Tensor) -> None:
        mask = torch.ones(3).bool()
        with pyro.plate("data", 3):
            for t in range(3):
                mask &= t < lengths
                pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0).mask(mask))

    with pytest.raises(dgm.CompileError, match=r"mask-write.*'x_0'"):
        dgm.trace(model, (torch.tensor([1, 2, 3]),))


def test_a_mask_may_be_written_where_no_site_has_read_it():
    def model(lengths: Tensor) -> None:
        masks = torch.ones(2, 3).bool()
        with pyro.plate("data", 3):
            for t in range(2):
                masks[t].logical_and_(t < lengths)
                with poutine.mask(mask=masks[t]):
                    pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))

    assert_same(model, torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bool])
def test_a_distributions_mask_may_be_numbers(dtype: torch.dtype):
    def model(x: Tensor, mask: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0).mask(mask))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), torch.ones(2)).to_event(1).mask(mask), obs=None)

    args = (values(3), torch.tensor([1, 0, 1]).to(dtype))
    assert_same(model, *args)
    pair = dgm.pair(model, model, model_args=args)
    assert dgm.compile(pair, latent_weight=1.0)(*args).total == 0


def test_a_law_is_not_what_it_was_made_of_where_that_is_written():
    def model(write: Any, x: Tensor) -> None:
        h = torch.zeros(3)
        law = dist.Normal(h[:2], 1.0).to_event(1)
        write(h, x)
        pyro.sample("x", law)

    with pytest.raises(dgm.CompileError, match="law-write"):
        dgm.trace(model, (lambda h, x: h.add_(x), values(3)))
    assert_same(model, lambda h, x: h[2:].add_(x[2:]), values(3))


def test_a_law_that_holds_an_object_is_refused():
    """Whether it is the same object at each call or not."""
    motion = NcvContinuous(4, 2.0)
    for made in (lambda: motion, lambda: NcvContinuous(4, 2.0)):

        def model(x: Tensor, made: Any = made) -> None:
            pyro.sample("x", EKFDistribution(torch.zeros(4), torch.eye(4), made(), torch.eye(2), time_steps=3), obs=x)

        with pytest.raises(dgm.CompileError, match=r"unknown-literal.*EKFDistribution is given a NcvContinuous"):
            dgm.trace(model, (values(3, 2),))


def test_a_drawn_value_may_be_written():
    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        z.mul_(2.0)
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1))

    assert_same(model)


def test_a_detached_value_is_still_a_dependence():
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.detach(), 1.0))

    assert ("z", "x") in dgm.trace(model).variables().edges


def test_elements_unbound_are_the_elements():
    """``x.unbind(1)`` is cheap in a loop, and is what ``x[:, t]`` is."""

    def unbound(x: Tensor) -> None:
        for t, x_t in enumerate(x.unbind(1)):
            pyro.sample(f"x_{t}", dist.Normal(0.5 * x_t, 1.0).to_event(1))

    def sliced(x: Tensor) -> None:
        for t in range(x.shape[1]):
            pyro.sample(f"x_{t}", dist.Normal(0.5 * x[:, t], 1.0).to_event(1))

    for model in (unbound, sliced):
        assert_same(model, values(4, 3))


def test_a_parameter_that_is_initialised_at_random_is_initialised_once():
    def model() -> None:
        pyro.sample("x", dist.Normal(pyro.param("w", torch.randn(3)), 1.0).to_event(1))

    first = dgm.trace(model)
    assert "w" not in pyro.get_param_store()
    assert [n.path for n in first if isinstance(n, Parameter)] == ["w"]


@pytest.mark.parametrize("strategy", [{"z": LocScaleReparam()}, AutoReparam()], ids=["LocScaleReparam", "AutoReparam"])
def test_a_parameter_may_be_initialised_from_a_random_value(strategy: Any):
    """The centering that Pyro learns is made from the site's own parameters, in the first call."""

    def model() -> None:
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Normal(scale, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0))

    assert_same(poutine.reparam(model, strategy))


def test_tracing_time_is_linear_in_the_sites():
    def chain(length: int) -> Any:
        def model() -> None:
            z = torch.zeros(2)
            for t in range(length):
                z = pyro.sample(f"z_{t}", dist.Normal(z * 0.5, 1.0).to_event(1))

        return model

    nodes = {length: len(dgm.trace(chain(length))) for length in (10, 100)}
    assert nodes[100] - 1 == 10 * (nodes[10] - 1)
