"""Pyro programs written from graphs: sites, plates, densities and parameters of the program that was traced."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.util import scale_and_mask
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoNormal
from pyro.infer.inspect import render_model
from pyro.nn import PyroModule
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.codegen import module as emitted
from dgmcompile.codegen import pyro_program
from dgmcompile.codegen.pyro_sites import STANDARD_LAWS
from dgmcompile.codegen.pyro_state import constraint_text
from dgmcompile.diagnostics import CompileError
from dgmcompile.reparam import NOISE_LAWS
from examples import eight_schools
from tests.programs import PROGRAMS, flows, networks, parameters, plates
from tests.programs.program import Program, seeded, values
from tests.reparam.drawing import as_given
from tests.reparam.test_families import EXAMPLES

HIDDEN = {"a latent hidden", "all latents hidden", "hidden_inside", "escaped"}
"""Programs with draws that handlers of theirs hide; in the graph, and so in what is written, they are sites."""


def traced(program: Program) -> Any:
    poutine.trace(program.model).get_trace(*program.args, **program.kwargs)  # its parameters exist now
    return dgm.trace(program.model, program.args, program.kwargs, program.targets)


def sites(program: Callable[..., Any], *args: Any, data: Mapping[str, Tensor] | None = None, **kwargs: Any) -> Any:
    """The messages of a run's random variables and deterministic sites, by name."""
    with pyro.validation_enabled(False), poutine.condition(data=dict(data or {})):
        nodes = poutine.trace(program).get_trace(*args, **kwargs).nodes
    return {n: s for n, s in nodes.items() if s["type"] == "sample" and type(s["fn"]).__name__ != "_Subsample"}


def plates_of(site: Any) -> list[Any]:
    return [(frame.name, frame.dim, frame.size) for frame in site["cond_indep_stack"] if frame.vectorized]


def log_prob(site: Any) -> Tensor:
    return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])


def density(site: Any) -> Tensor | None:
    """None where the distribution does not know it: of some flows and HMMs, or where it has just been drawn only."""
    steps = getattr(site["fn"], "transforms", ())
    steps = [part for step in steps for part in getattr(step, "parts", [step])]
    if not all(step.bijective and type(step).__module__.startswith("torch") for step in steps):
        return None
    try:
        return log_prob(site)
    except (NotImplementedError, AssertionError, ValueError):
        return None


def is_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.fixture
def unformatted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are run as they are: laying them out takes longer than all the rest."""
    for module in (pyro_program, emitted):
        monkeypatch.setattr(module, "formatted", lambda text: text)


@pytest.mark.usefixtures("unformatted")
@pytest.mark.parametrize("program", PROGRAMS, ids=[program.label for program in PROGRAMS])
def test_every_program_is_written(program: Program):
    """Traced form: all sites as in the original. Rewritten: values as compiled, densities as the original's."""
    graph = traced(program)
    random = {sample.site.name for sample in graph.samples}
    theirs = sites(program.model, *program.args, **program.kwargs)
    data = {name: site["value"] for name, site in theirs.items() if name in random}
    ours = sites(dgm.to_pyro(graph), *program.args, data=data, **program.kwargs)
    assert program.label in HIDDEN or ours.keys() == theirs.keys()
    for name in ours.keys() & theirs.keys() if program.label not in HIDDEN else ():
        assert plates_of(ours[name]) == plates_of(theirs[name])
        assert is_close(ours[name]["value"], theirs[name]["value"])
        if (wanted := density(theirs[name])) is not None:
            assert is_close(log_prob(ours[name]), wanted), name

    semi = dgm.semi_auxiliary(graph)
    compiled: Any = dgm.compile(semi)
    noise = compiled.sample_noise(*program.args, **program.kwargs)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = compiled(*program.args, **program.kwargs, noise=noise)
    latents = {name: noise[name] for name in semi.noises}
    targets = {name: drawn[name] for name in graph.targets}
    rewritten = sites(dgm.to_pyro(semi), *program.args, data={**latents, **targets}, **program.kwargs)
    original = sites(dgm.to_pyro(graph), *program.args, data={n: drawn[n] for n in random}, **program.kwargs)
    assert rewritten.keys() == {*random, *semi.noises, *(original.keys() - random)}
    for name in original:
        assert plates_of(rewritten[name]) == plates_of(original[name])
        assert is_close(rewritten[name]["value"], drawn[name]), name
        if name in targets and (wanted := density(original[name])) is not None:
            assert is_close(log_prob(rewritten[name]), wanted), name
    assert all(rewritten[name]["value"].shape == noise[name].shape for name in semi.noises)


@pytest.mark.parametrize("form", [dgm.semi_auxiliary, lambda g: dgm.compact(dgm.semi_auxiliary(g)), dgm.auxiliary])
def test_every_form_is_written(form: Callable[[Any], Any]):
    model = seeded(networks.VAE).model
    x = values(4, 3)
    rewritten = form(dgm.trace(model, (x,)))
    found = sites(dgm.to_pyro(rewritten), x)
    noises = {"z_noise"} if "x_noise" not in rewritten else {"z_noise", "x_noise"}
    assert found.keys() == {"z", "x"} | noises
    assert all(plates_of(site) == [("data", -1, 4)] for site in found.values())
    assert found["z_noise"]["fn"].batch_shape == (4,) and found["z_noise"]["fn"].event_shape == (2,)
    assert found["z"]["is_observed"] and found["x"]["is_observed"]
    assert torch.equal(found["x"]["value"], x) is ("x_noise" not in rewritten)  # nothing can be observed there


GIVEN = {
    family: as_given(example.settings[0], torch.float32, numbers=family.startswith("LKJ") or family == "Multinomial")
    for family, example in EXAMPLES.items()
    if example.settings and family != "LKJCorrCholesky"  # its constructor warns that it is deprecated
}


@pytest.mark.usefixtures("unformatted")
@pytest.mark.filterwarnings("ignore:Singular sample detected")  # Wishart's sampler
@pytest.mark.parametrize("family", GIVEN)
def test_every_family_is_written(family: str):
    """By itself, and in a plate where it can stand in one."""

    def model(in_plate: bool) -> None:
        law = getattr(dist, family)(**GIVEN[family])
        with pyro.plate("data", 3, dim=-1 - len(law.batch_shape)) if in_plate else contextlib.nullcontext():
            pyro.sample("z", law)

    for in_plate in (False, True):
        try:
            theirs = sites(model, in_plate)["z"]
        except (NotImplementedError, TypeError):  # no sampler, or no expand
            continue
        found = sites(dgm.to_pyro(dgm.trace(model, (in_plate,), targets="all")), in_plate, data={"z": theirs["value"]})
        law = found["z"]["fn"]
        for one, other in ((law.batch_shape, theirs["fn"].batch_shape), (law.event_shape, theirs["fn"].event_shape)):
            assert tuple(one) == tuple(other)
        if (wanted := density(theirs)) is not None and not wanted.isinf().any():
            assert is_close(log_prob(found["z"]), wanted)


def test_every_law_of_noise_has_a_distribution():
    assert set(NOISE_LAWS.names()) <= STANDARD_LAWS.keys()


# -- the text ----------------------------------------------------------------------------------------------------------


def affine_coupling() -> Any:
    flow = next(program for program in flows.PROGRAMS if program.label == "OnTarget affine_coupling")
    return dgm.trace(flow.model, flow.args)


WRITTEN: dict[str, Callable[[], Any]] = {
    "schools": lambda: dgm.trace(eight_schools.model, eight_schools.example_inputs),
    "schools_semi": lambda: dgm.semi_auxiliary(dgm.trace(eight_schools.model, eight_schools.example_inputs)),
    "constrained_semi": lambda: dgm.semi_auxiliary(dgm.trace(parameters.constrained, (values(4),))),
    "masks_semi": lambda: dgm.semi_auxiliary(dgm.trace(plates.annealed, (values(3), torch.tensor(0.2)))),
    "nested": lambda: dgm.trace(plates.nested_plates, (values(3, 4),)),
    "flow": affine_coupling,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_text_is_the_golden_one_and_clean(name: str, golden: Any):
    text = dgm.to_pyro(WRITTEN[name]()).source
    golden(f"pyro_{name}", text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--stdin-filename", "program.py", "-"]
    shown = subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout
    assert "All checks passed" in shown, shown


def test_the_text_runs_where_nothing_of_ours_can_be_imported(tmp_path: Path):
    model = seeded(networks.VAE)
    program = dgm.to_pyro(dgm.semi_auxiliary(dgm.trace(model.model, (values(4, 3),))))
    (tmp_path / "program.py").write_text(program.source, encoding="utf-8")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "main.py").write_text(
        "import sys, torch, pyro\n"
        "sys.modules['dgmcompile'] = None\n"
        "from program import VAE\n"
        "program = VAE()\n"
        "program.load_state_dict(torch.load('weights.pt'), strict=False)\n"
        "program = pyro.condition(program, data={'z_noise': torch.ones(4, 2)})\n"
        "trace = pyro.poutine.trace(program).get_trace(torch.zeros(4, 3))\n"
        "print(trace.log_prob_sum().item())\n",
        encoding="utf-8",
    )
    run = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    conditioned = poutine.condition(program, data={"z_noise": torch.ones(4, 2)})
    ours = poutine.trace(conditioned).get_trace(torch.zeros(4, 3)).log_prob_sum()
    assert float(run.stdout) == pytest.approx(ours.item(), rel=1e-5)


def test_names_of_sites_and_plates_are_data():
    odd = 'z"\n); import os; ("<script>'

    def model(x: Tensor) -> None:
        with pyro.plate("a plate 'of'", len(x)):
            z = pyro.sample(odd, dist.Normal(0.0, 1.0))
            pyro.sample("lambda", dist.Normal(z, 1.0), obs=x)

    program = dgm.to_pyro(dgm.semi_auxiliary(dgm.trace(model, (values(3),))))
    assert sites(program, values(3)).keys() == {odd, f"{odd}_noise", "lambda"}
    assert "import os" not in [line.strip() for line in program.source.splitlines()]


# -- round trip --------------------------------------------------------------------------------------------------------

ROUND = [p for p in PROGRAMS if p.edges is not None and p.label not in HIDDEN]


def families_of(graph: Any) -> dict[str, Any]:
    return {s.site.name: (s.site.role, s.family, s.event_dim, s.site.plates) for s in graph.samples}


@pytest.mark.parametrize("program", ROUND[:12], ids=[program.label for program in ROUND[:12]])
def test_traced_again_it_is_the_same_model(program: Program):
    graph = traced(program)
    again = dgm.trace(dgm.to_pyro(graph), program.args, program.kwargs, graph.targets)
    assert families_of(again).keys() == families_of(graph).keys()
    for name, (role, family, event_dim, around) in families_of(graph).items():
        found = families_of(again)[name]
        assert found[:3] == (role, family, event_dim)
        assert [plate.name for plate in found[3]] == [plate.name for plate in around]
    sites_of = {sample.site.name for sample in graph.samples}
    picture, other = (g.variables() for g in (graph, again))
    assert {e for e in other.edges if sites_of.issuperset(e)} == {e for e in picture.edges if sites_of.issuperset(e)}
    compiled, once_more = dgm.compile(graph), dgm.compile(again)
    noise = compiled.sample_noise(*program.args, **program.kwargs)
    found, wanted = (m(*program.args, **program.kwargs, noise=noise) for m in (once_more, compiled))
    assert all(is_close(found[name], wanted[name]) for name in wanted)


def test_a_rewritten_model_traced_again_depends_on_its_noise():
    semi = dgm.semi_auxiliary(dgm.trace(eight_schools.model, eight_schools.example_inputs))
    again = dgm.trace(dgm.to_pyro(semi), eight_schools.example_inputs)
    assert set(again.latents) == {"mu_noise", "tau_noise", "theta_noise"}
    assert nx.has_path(again.variables(), "tau_noise", "y")
    assert dgm.check(dgm.to_pyro(semi), eight_schools.example_inputs).ok


# -- data --------------------------------------------------------------------------------------------------------------


def regression(x: Tensor, y: Tensor | None = None) -> Tensor:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)


def test_a_target_observes_the_argument_that_it_observed():
    program = dgm.to_pyro(dgm.trace(regression, (values(4), values(4, seed=1))))
    data = values(6, seed=2)
    assert torch.equal(sites(program, values(6), data)["y"]["value"], data)
    assert sites(program, values(6), data)["y"]["is_observed"]
    assert not sites(program, values(6))["y"]["is_observed"]  # without data it is drawn
    assert program(values(6))["y"].shape == (6,)


def test_other_targets_take_their_data_by_name():
    def chain(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            for t in range(2):
                pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0), obs=x[:, t])

    program = dgm.to_pyro(dgm.trace(chain, (values(4, 2),)))
    found = sites(program, values(4, 2), observations={"x_1": values(4)})
    assert (found["x_0"]["is_observed"], found["x_1"]["is_observed"]) == (False, True)
    assert torch.equal(found["x_1"]["value"], values(4))


def test_data_that_the_program_reads_again_stay_data():
    def model(x: Tensor) -> None:
        total = x.sum()
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(total, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    program = dgm.to_pyro(dgm.trace(model, (values(4),)))
    found = sites(program, torch.ones(5))
    assert found["z"]["fn"].loc.tolist() == [5.0] * 5
    assert found["x"]["value"].tolist() == [1.0] * 5


def test_guards_hold_for_the_program():
    def loops(x: Tensor) -> None:
        for i in range(len(x)):
            pyro.sample(f"z_{i}", dist.Normal(x[i], 1.0))

    program = dgm.to_pyro(dgm.trace(loops, (values(3),)))
    with pytest.raises(ValueError, match=r"x\.shape\[0\] has to be 3"):
        program(values(4))


# -- masks and scales of what is rewritten -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [dgm.semi_auxiliary, lambda g: dgm.compact(dgm.semi_auxiliary(g))])
def test_noise_counts_as_much_as_its_variable(form: Callable[[Any], Any]):
    """Compaction has no use for the scale of a latent, which is dropped with all that it was computed from."""
    weight = torch.tensor(0.2)
    program = dgm.to_pyro(form(dgm.trace(plates.annealed, (values(3), weight))))
    found = sites(program, values(5), weight)["z_noise"]
    noise = found["value"]
    assert torch.allclose(log_prob(found), 0.2 * dist.Normal(0.0, 1.0).log_prob(noise).sum(-1))


def test_noise_is_masked_as_its_variable_is():
    program = dgm.to_pyro(
        dgm.semi_auxiliary(dgm.trace(plates.masked_sequence, (values(4, 3), torch.tensor([3, 1, 2, 3]))))
    )
    found = sites(program, values(4, 3), torch.tensor([1, 2, 3, 0]))
    assert [(log_prob(found[f"z_{t}_noise"]) != 0).tolist() for t in range(3)] == [
        [True, True, True, False],
        [False, True, True, False],
        [False, False, True, False],
    ]


@pytest.mark.parametrize("form", [lambda g: g, dgm.semi_auxiliary, lambda g: dgm.compact(dgm.semi_auxiliary(g))])
def test_a_mask_wider_than_its_site_makes_the_value_no_larger(form: Callable[[Any], Any]):
    def model(x: Tensor) -> None:
        with poutine.mask(mask=x > 0):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(u, 1.0), obs=x)

    x = torch.tensor([1.0, -1.0, 2.0, 0.5])
    program = dgm.to_pyro(form(dgm.trace(model, (x,))))
    found = sites(program, x)
    value = found["u"]["value"]
    assert value.shape == ()
    name = "u_noise" if "u_noise" in found else "u"
    expected = poutine.trace(poutine.condition(model, {"u": value})).get_trace(x).log_prob_sum()
    assert torch.allclose(sum(log_prob(found[site]).sum() for site in (name, "x")), expected)


@pytest.mark.parametrize("form", [dgm.semi_auxiliary, lambda g: dgm.compact(dgm.semi_auxiliary(g)), dgm.auxiliary])
def test_a_delta_keeps_its_density(form: Callable[[Any], Any]):
    def model(x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3), poutine.scale(scale=0.5):
            law = dist.Delta(torch.ones(3, 2) * a, a * torch.arange(3.0), event_dim=1)
            b = pyro.sample("b", law.mask(torch.tensor([True, True, False])))
            pyro.sample("x", dist.Normal(b.sum(-1), 1.0), obs=x)

    program = dgm.to_pyro(form(dgm.trace(model, (values(3),))))
    b = sites(program, values(3), data={"a_noise": torch.tensor(0.4)})["b"]
    assert b["is_observed"] and torch.equal(b["value"], torch.full((3, 2), 0.4))
    assert log_prob(b).tolist() == pytest.approx([0.0, 0.2, 0.0])


def test_what_is_asked_of_inference_stays():
    """Without it a site is sampled that Pyro would have summed out, and nobody says so."""

    @config_enumerate
    def model(x: Tensor) -> None:
        locs = torch.tensor([-1.0, 2.0])
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])), infer={"dgm": {"keep": True}})
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    graph, x = dgm.trace(model, (values(6),)), values(6)
    assert dgm.parse(str(graph)) == graph
    for form in (graph, dgm.semi_auxiliary(graph), dgm.compact(dgm.semi_auxiliary(graph))):
        program, elbo = dgm.to_pyro(form), TraceEnum_ELBO(max_plate_nesting=1)
        assert elbo.loss(program, lambda x: None, x) == pytest.approx(elbo.loss(model, lambda x: None, x))


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_are_the_users_own_and_keep_their_names_and_constraints():
    x = values(4)
    poutine.trace(parameters.constrained).get_trace(x)
    before = {name: id(tensor) for name, tensor in pyro.get_param_store()._params.items()}
    for form in (lambda g: g, dgm.semi_auxiliary, lambda g: dgm.compact(dgm.semi_auxiliary(g))):
        program = dgm.to_pyro(form(dgm.trace(parameters.constrained, (x,))))
        nodes = poutine.trace(program).get_trace(x).nodes
        params = {name: site for name, site in nodes.items() if site["type"] == "param"}
        assert params.keys() == before.keys() == {"weights", "scale", "chance", "factor"}
        assert {name: id(site["value"].unconstrained()) for name, site in params.items()} == before
        assert torch.allclose(params["weights"]["value"].sum(), torch.tensor(1.0))
    assert "PyroParam(torch.ones(()), constraint=constraints.positive)" in program.source


@pytest.mark.parametrize("form", [lambda g: g, dgm.semi_auxiliary, dgm.compact])
def test_constrained_parameters_are_read_as_such_however_often(form: Callable[[Any], Any]):
    """Pyro's tensors of provenance have no ``unconstrained()``: `render_model` would fail."""

    def model(x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)))
        pyro.sample("x", dist.Normal(a, pyro.param("scale")), obs=x)

    program = dgm.to_pyro(form(dgm.trace(model, (torch.tensor(0.5),))))
    assert "unconstrained()" not in program.source and "exp" not in program.source
    picture = render_model(program, model_args=(torch.tensor(0.5),), render_params=True)
    assert "scale -> a" in picture.source and "scale -> x" in picture.source


def test_parameters_of_a_module_are_shared_and_found_by_svi():
    model = seeded(networks.VAE)
    program = dgm.to_pyro(dgm.trace(model.model, (values(4, 3),)))
    assert isinstance(program, PyroModule)
    assert program.decoder.hidden.weight is model.decoder.hidden.weight
    before = model.decoder.hidden.weight.detach().clone()
    svi = SVI(program, model.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    svi.step(values(4, 3))
    assert not torch.equal(model.decoder.hidden.weight, before)


def test_a_parameter_and_a_site_may_have_one_name():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor) -> None:
            z = pyro.sample("z", dist.Normal(self.z, 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    program = dgm.to_pyro(dgm.trace(Model(), (values(4),)))
    assert {"Model.z", "z"} <= set(poutine.trace(program).get_trace(values(4)).nodes)


def test_constraints_have_a_text():
    shown = {
        "constraints.positive": constraints.positive,
        "constraints.greater_than(1.5)": constraints.greater_than(1.5),
        "constraints.interval(-1.0, 2)": constraints.interval(-1.0, 2),
        "constraints.simplex": constraints.simplex,
        "constraints.softplus_positive": constraints.softplus_positive,
        "constraints.independent(constraints.positive, 1)": constraints.independent(constraints.positive, 1),
    }
    assert {text: constraint_text(constraint) for text, constraint in shown.items()} == {t: t for t in shown}
    assert constraint_text(constraints.greater_than(torch.tensor(1.5))) is None


# -- inference ---------------------------------------------------------------------------------------------------------

FORMS = {
    "traced": lambda g: g,
    "semi-auxiliary": dgm.semi_auxiliary,
    "compact": lambda g: dgm.compact(dgm.semi_auxiliary(g)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_svi_nuts_predictive_and_render_model(form: Callable[[Any], Any]):
    x = torch.linspace(-1, 1, 12)
    y = 0.7 * x
    graph = form(dgm.trace(regression, (x, y)))
    program = dgm.to_pyro(graph)
    latents = {site.name for site in (node.site for node in graph) if site and site.role == "latent"}
    random = {"slope"} if not graph.noises else {"slope_noise"}

    guide = AutoNormal(program)
    svi = SVI(program, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(num_particles=5))
    losses = [svi.step(x, y) for _ in range(60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert set(guide.median(x, y)) == random

    sampler = MCMC(NUTS(program, jit_compile=False), num_samples=20, warmup_steps=20, disable_progbar=True)
    sampler.run(x, y)
    samples = sampler.get_samples()
    assert samples.keys() == random

    found = Predictive(program, samples, return_sites=sorted({*latents, "y"}))(x)
    assert found.keys() == {*latents, "y"}
    assert found["y"].shape == (20, 12) and found["slope"].reshape(-1).shape == (20,)
    side_by_side = Predictive(program, samples, return_sites=["slope", "y"], parallel=True)(x)
    assert side_by_side["y"].shape == (20, 12)
    assert torch.equal(side_by_side["slope"].reshape(-1), found["slope"].reshape(-1))

    picture = render_model(program, model_args=(x, y), render_deterministic=True, render_distributions=True)
    assert all(name in picture.source for name in {*latents, *random, "y"})


def test_particles_may_be_drawn_side_by_side():
    program = dgm.to_pyro(dgm.semi_auxiliary(dgm.trace(eight_schools.model, eight_schools.example_inputs)))
    with poutine.trace() as found, pyro.plate("particles", 7, dim=-2):
        program(eight_schools.STANDARD_ERROR)
    assert found.trace.nodes["mu"]["value"].shape == (7, 1)
    assert found.trace.nodes["theta"]["value"].shape == found.trace.nodes["y"]["value"].shape == (7, 8)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_pair_is_no_program():
    pair = dgm.pair(eight_schools.model, eight_schools.student, model_args=eight_schools.example_inputs)
    with pytest.raises(CompileError) as refused:
        dgm.to_pyro(pair)
    assert [d.code for d in refused.value.diagnostics] == ["no-pyro-program"]


class Shifted(dist.Normal):
    """A distribution of a user's own."""


def test_a_distribution_of_the_users_is_imported():
    def model() -> None:
        pyro.sample("z", Shifted(0.0, 1.0))

    program = dgm.to_pyro(dgm.trace(model))
    assert f"{__name__}.Shifted(0.0, 1.0)" in program.source
    assert type(sites(program)["z"]["fn"]) is Shifted


def test_a_distribution_that_no_import_gives_is_refused():
    class Local(dist.Normal):
        pass

    def model() -> None:
        pyro.sample("z", Local(0.0, 1.0))

    with pytest.raises(CompileError) as refused:
        dgm.to_pyro(dgm.trace(model))
    assert [d.code for d in refused.value.diagnostics] == ["no-text-for-law"]
    assert "top level of a module" in str(refused.value)
