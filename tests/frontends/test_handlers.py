"""What each handler around a model means for its graph, and what the compiler says of the model behind it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import autoguide, config_enumerate, infer_discrete
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.graph import Call, Constant, Graph, Input, Parameter, Ref, Sample
from tests.programs import bayesian_layers, enumeration, guides, plates, poutines
from tests.programs.program import bits, seeded, size_guards, values


def traced(model: Any, *args: Any) -> Graph:
    return dgm.trace(model, args or (values(4),))


def site(graph: Graph, name: str) -> Sample:
    node = graph[graph.sites()[name]]
    assert isinstance(node, Sample)
    return node


def value(graph: Graph, arg: Any) -> Any:
    """Of a constant."""
    node = graph[arg.name]
    assert isinstance(node, Constant)
    return node.value


# -- weights -----------------------------------------------------------------------------------------------------------


def test_masks_and_scales_around_the_model_reach_every_site():
    mask = torch.tensor([True, False, True, True])
    graph = traced(poutine.scale(poutine.mask(poutines.chain, mask=mask), scale=0.5))
    assert [node.site.name for node in graph.samples] == ["loc", "z", "x"]
    for node in graph.samples:
        assert node.scale == 0.5
        assert value(graph, node.mask) == (True, False, True, True)


def test_handlers_multiply_and_join():
    graph = traced(poutine.scale(poutine.mask(poutine.scale(poutines.chain, scale=3.0), mask=False), scale=0.5))
    assert {(node.scale, node.mask) for node in graph.samples} == {(1.5, False)}
    inside = traced(poutines.weighed_inside, values(4), bits(4))
    assert (site(inside, "z").scale, site(inside, "y").scale) == (3.0, 2.0)
    mask = inside[site(inside, "y").mask.name]
    assert isinstance(mask, Call) and mask.target == "torch.Tensor.__and__"


def test_a_mask_of_another_batch_shape_is_refused():
    with pytest.raises(dgm.CompileError, match=r"batch-shape.*site 'z' of batch shape \(4,\) has a mask of shape \(3,"):
        traced(poutine.mask(poutines.chain, mask=torch.tensor([True, False, True])))


def test_a_mask_of_fixed_length_fixes_the_batch():
    graph = traced(poutine.mask(poutines.chain, mask=torch.tensor([True, False, True, True])))
    assert [(guard.path, guard.dim, guard.expected) for guard in size_guards(graph)] == [(("x",), 0, 4)]


def test_decorators_and_decorated_methods():
    graph = traced(poutines.decorated)
    assert {(node.scale, value(graph, node.mask)) for node in graph.samples} == {(0.25, (True, False, True, True))}
    graph = traced(poutines.Decorated().model)
    assert {(node.scale, node.mask) for node in graph.samples} == {(2.0, False)}


def test_masks_of_partly_observed_sites():
    graph = traced(enumeration.partly_observed, values(4), bits(4))
    seen, unseen = (graph[site(graph, name).mask.name] for name in ("z_observed", "z_unobserved"))
    assert (seen.target, unseen.target) == ("torch.Tensor.gt", "torch.Tensor.__invert__")
    assert (site(graph, "z_observed").site.role, site(graph, "z_unobserved").site.role) == ("target", "latent")
    assert graph[graph.sites()["z"]].site.role == "deterministic"


# -- plates ------------------------------------------------------------------------------------------------------------


def test_plates_of_a_site_are_those_around_it():
    graph = traced(plates.overlapping_plates, values(3, 4))
    found = {node.site.name: {p.name: (p.dim, str(p.size)) for p in node.site.plates} for node in graph.samples}
    rows, columns = {"rows": (-2, "batch")}, {"columns": (-1, "table_size_1")}
    both = rows | columns
    assert found == {"a": rows, "b": columns, "c": both, "d": columns, "table": both}


def test_sequential_plates_have_no_dim():
    graph = traced(plates.sequential_in_vectorised, values(4, 2))
    assert {tuple(plate.name for plate in node.site.plates) for node in graph.samples} == {("batch",)}


def test_a_sequential_plate_that_subsamples_scales():
    graph = traced(plates.sequential_over_chosen, values(6))
    scales = {node.site.name: node.scale for node in graph.samples}
    assert scales.pop("mean") is None
    assert {name: graph[scale.name].args for name, scale in scales.items()} == dict.fromkeys(scales, (6, 3))


def test_two_plates_that_subsample_multiply():
    graph = traced(plates.subsampled_in_two_plates, values(4, 3))
    assert str(graph[site(graph, "z").scale.name].args[1]) == "batch"
    full, part = graph[site(graph, "x").scale.name].args[:2]
    assert (full, str(part)) == (600, "batch * x_size_1")


def test_what_a_plate_notes_on_a_parameter_is_forgotten():
    args = (torch.tensor([1, 4, 7]), values(3))
    pyro.param("locs", lambda: torch.arange(10.0), event_dim=0)
    dgm.trace(plates.subsampled_parameters, args)
    assert not hasattr(pyro.get_param_store()._params["locs"], "_pyro_subsample")


# -- values and roles --------------------------------------------------------------------------------------------------


def test_conditioned_sites_are_targets():
    graph = traced(poutine.condition(poutines.chain, data={"z": values(4)}))
    assert (graph.latents, graph.targets) == (("loc",), ("z", "x"))
    assert site(graph, "x").params["loc"] == Ref("z")


def test_what_is_done_is_read_in_place_of_the_draw():
    graph = traced(poutine.do(poutines.chain, data={"loc": torch.tensor(3.0)}))
    assert (graph.latents, graph.targets) == (("loc", "z"), ("x",))
    assert value(graph, site(graph, "z").params["loc"]) == 3.0


def test_unconditioned_sites_are_drawn():
    graph = traced(poutine.uncondition(poutines.chain))
    assert (graph.latents, graph.targets) == (("loc", "z"), ("x",))
    assert [note.code for note in graph.warnings] == ["chosen-targets"]


def test_a_deterministic_site_keeps_its_value_when_unconditioned():
    graph = traced(poutine.uncondition(poutines._with_plates))
    original = poutine.trace(poutine.uncondition(poutines._with_plates)).get_trace(values(4))
    for name in ("size", "two"):
        node = graph[graph.sites()[name]]
        assert node.site.role == "deterministic"
        assert len(node.shape or ()) == original.nodes[name]["value"].dim()


def test_a_replayed_site_is_drawn_from_its_law():
    trace = poutine.trace(poutines.chain).get_trace(values(4))
    graph = traced(poutine.replay(poutines.chain, trace=trace))
    assert (graph.latents, graph.targets) == (("loc", "z"), ("x",))
    compiled = dgm.compile(dgm.semi_auxiliary(graph))
    torch.manual_seed(0)
    one, two = (compiled(values(4))["x"] for _ in range(2))
    assert not torch.equal(one, two)


def test_a_lifted_parameter_is_a_latent():
    graph = traced(poutine.lift(poutines.chain, prior={"scale": dist.LogNormal(0.0, 1.0)}))
    assert graph.latents == ("scale", "loc", "z")
    assert site(graph, "z").params["scale"] == Ref("scale")
    assert not [node for node in graph if isinstance(node, Parameter)]


def test_a_lifted_parameter_that_the_program_does_not_read_leaves_it_alone():
    """A `PyroModule` reads its plain parameters past Pyro, and so does a module that is only registered."""
    module = seeded(bayesian_layers.PlainWeights)
    args = (values(4, 3), torch.tensor([0, 2, 1, 0]))
    graph = dgm.trace(poutine.lift(module, prior=dist.Normal(0.0, 1.0)), args, targets=["y"])
    assert graph.variables().in_degree("y") == 2
    trace = poutine.trace(poutine.lift(module, prior=dist.Normal(0.0, 1.0))).get_trace(*args)
    assert set(graph.latents) == {name for name in trace.stochastic_nodes if name not in ("data", "y")}


def _handler_name(handler: Any) -> str:
    return getattr(handler, "func", handler).__name__


@pytest.mark.parametrize(
    "handler",
    [
        functools.partial(poutine.seed, rng_seed=3),
        functools.partial(poutine.infer_config, config_fn=lambda site: {"enumerate": "parallel"}),
        poutine.trace,
        poutine.markov,
        config_enumerate,
        functools.partial(poutine.enum, first_available_dim=-2),
        functools.partial(infer_discrete, first_available_dim=-2, strict_enumeration_warning=False),
        functools.partial(poutine.block, hide=[]),
        functools.partial(poutine.mask, mask=True),
        functools.partial(poutine.scale, scale=1.0),
    ],
    ids=_handler_name,
)
def test_handlers_that_only_concern_inference_leave_no_trace_but_in_what_is_asked_of_it(handler: Callable[..., Any]):
    for model in (poutines.chain, enumeration.annotated):
        assert str(without_infer(traced(handler(model)))) == str(without_infer(traced(model)))


def without_infer(graph: Any) -> Any:
    return graph.evolve([replace(node, infer={}) if isinstance(node, Sample) else node for node in graph])


# -- hidden draws ------------------------------------------------------------------------------------------------------


def test_a_hidden_draw_is_a_latent():
    assert str(traced(poutine.block(poutines.chain, hide=["loc", "z"]))) == str(traced(poutines.chain))


def test_a_hidden_observation_is_data():
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            seen = pyro.sample("seen", dist.Normal(0.0, 1.0), obs=x)
            pyro.sample("y", dist.Normal(seen, 1.0))

    graph = traced(poutine.block(model, hide=["seen"]))
    assert list(graph.sites()) == ["y"]
    assert isinstance(graph[site(graph, "y").params["loc"].name], Input)


def test_hidden_draws_of_one_name_need_names_of_their_own():
    def model() -> None:
        total = torch.zeros(())
        for _ in range(2):
            with poutine.block():
                total = total + pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(total, 1.0))

    with pytest.raises(dgm.CompileError, match=r"repeated-site.*'w'"):
        dgm.trace(model)


@pytest.mark.parametrize("size", [None, 4])
def test_a_plate_has_a_name_of_its_own(size: int | None):
    def plate_then_site() -> None:
        with pyro.plate("data", 10, subsample_size=size):
            pyro.sample("data", dist.Normal(0.0, 1.0))

    def site_then_plate() -> None:
        z = pyro.sample("data", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 10, subsample_size=size):
            pyro.sample("y", dist.Normal(z, 1.0))

    def two_plates() -> None:
        for name in ("z", "y"):
            with pyro.plate("data", 10, subsample_size=size):
                pyro.sample(name, dist.Normal(0.0, 1.0))

    def one_plate() -> None:
        plate = pyro.plate("data", 10, subsample_size=size)
        for name in ("z", "y"):
            with plate:
                pyro.sample(name, dist.Normal(0.0, 1.0))

    for model in (plate_then_site, site_then_plate, two_plates):
        with pytest.raises(RuntimeError, match="Multiple sample sites"):
            poutine.trace(model).get_trace()
        with pytest.raises(dgm.CompileError, match=r"repeated-site.*'data' is used twice, at least once by a plate"):
            dgm.trace(model, ())
    assert len(dgm.trace(one_plate, ()).samples) == 2


def test_handlers_outside_of_a_block_do_not_reach_what_it_hides():
    def model() -> None:
        with poutine.scale(scale=3.0), poutine.block():
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with poutine.block(), poutine.scale(scale=3.0):
            v = pyro.sample("v", dist.Normal(w, 1.0))
        pyro.sample("x", dist.Normal(v, 1.0))

    graph = dgm.trace(model)
    assert {node.site.name: node.scale for node in graph.samples} == {"w": None, "v": 3.0, "x": None}


# -- the model behind --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (poutine.scale(poutines.chain, scale=2.0), "chain"),
        (poutine.trace(poutine.scale(poutines.chain, scale=2.0)).get_trace, "chain"),
        (poutines.decorated, "decorated"),
        (poutines.Decorated().model, "model"),
        (infer_discrete(enumeration.configured, first_available_dim=-2), "configured"),
        (poutine.scale(functools.partial(poutine.mask(poutines.chain, mask=True)), scale=2.0), "chain"),
        (copy.deepcopy(poutine.scale(poutines.chain, scale=2.0)), "chain"),
        (autoguide.AutoNormal(guides.gaussian), "AutoNormal"),
        (seeded(lambda: guides.Grouped(guides.model)), "Grouped"),
        (poutine.block(autoguide.AutoDelta(guides.gaussian), hide=[]), "AutoDelta"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inputs_and_names_are_those_of_the_model(model: Any, name: str):
    graph = traced(model)
    assert graph.name == name
    assert [node.path for node in graph if isinstance(node, Input)] == [("x",)]


def test_parameters_of_a_module_are_called_for_their_place_in_it():
    module = seeded(bayesian_layers.BayesianNetwork)
    for model in (
        module,
        poutine.condition(module, data={"noise": torch.tensor(0.4)}),
        functools.partial(module, y=None),
    ):
        graph = dgm.trace(model, (values(4, 3),))
        assert [node.path for node in graph if isinstance(node, Parameter)] == ["second.bias"]


def test_parameters_that_a_guide_makes_in_its_first_call_are_called_alike():
    used = autoguide.AutoNormal(guides.gaussian)
    used(values(4))
    paths = ["scales.a_unconstrained", "locs.a_unconstrained"]
    for guide in (autoguide.AutoNormal(guides.gaussian), used):
        assert [node.path for node in traced(guide) if isinstance(node, Parameter)] == paths


def test_a_copy_of_a_guide_has_lost_its_model_and_takes_any_arguments():
    guide, x = autoguide.AutoNormal(guides.gaussian), values(4)
    guide(x)
    copied = copy.deepcopy(guide)
    assert dgm.check(copied, (x,), targets="all").ok
    pair = dgm.pair(guide, copied, model_args=(x,))
    assert dgm.compile(pair, divergence="wasserstein2")(x).total.item() == 0.0


def test_nothing_is_blamed_on_the_caller():
    """Where a library's model is refused there is no line of the user's to show."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", 10, subsample_size=len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    guide = autoguide.AutoNormal(model)
    with pytest.raises(dgm.CompileError) as caught:
        traced(guide)
    assert [(d.code, d.location) for d in caught.value.diagnostics] == [("drawn-subsample", None)]


def test_a_layer_whose_weights_are_drawn_is_not_kept_whole():
    for model in (bayesian_layers.Replaced, bayesian_layers.Functional):
        graph = dgm.trace(seeded(model), (values(4, 3),))
        called = [n for n in graph if isinstance(n, Call) and n.target_name == "torch.nn.functional.linear"]
        assert called[0].args[1] == Ref("weight")


def test_a_program_whose_first_call_is_another_is_refused():
    """``update_module_params`` puts the draw into the module, which has no such parameter from then on."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> None:
            net = pyro.module("net", self.net, update_module_params=True)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(net(x).squeeze(-1), 1.0))

    module = seeded(Model).eval()
    prior = {"weight": dist.Normal(torch.zeros(1, 3), 1.0).to_event(2)}
    with pytest.raises(dgm.CompileError, match=r"unstable-sites.*net\$\$\$weight"):
        dgm.trace(poutine.lift(module, prior=prior), (values(4, 3),))
    assert isinstance(module.net.weight, nn.Parameter)


def test_a_draw_from_a_function_has_no_law():
    def model() -> None:
        z = pyro.sample("z", lambda: torch.randn(()))
        pyro.sample("x", dist.Normal(z, 1.0))

    with pytest.raises(dgm.CompileError, match=r"no-law.*site 'z' draws from a function"):
        dgm.trace(model)


def test_a_lazy_prior_reads_the_module_once_in_a_call():
    class Model(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.z = PyroSample(lambda self: dist.Normal(torch.zeros(()), 1.0))

        def forward(self) -> None:
            pyro.sample("x", dist.Normal(self.z * self.z, 1.0))

    graph = dgm.trace(Model())
    assert [node.site.name for node in graph.samples] == ["z", "x"]
