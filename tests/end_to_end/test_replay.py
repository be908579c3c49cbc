"""Every small program, compiled, is the same program: at other sizes, in both precisions, gradients included."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile import replay
from dgmcompile.frontends.modules import ModulePaths
from dgmcompile.ir.graph import Formula, Graph, Ref, Sample, leaves
from dgmcompile.reparam import NOISE_TRANSFORMS
from dgmcompile.replay import comparison
from tests.programs import PROGRAMS, families, networks, plates, sequences
from tests.programs.program import Program, bits, seeded, values

LABELS = [program.label for program in PROGRAMS]


def traced(program: Program) -> Any:
    return dgm.trace(program.model, program.args, program.kwargs, program.targets)


def checked(program: Program, dtype: torch.dtype | None = None) -> replay.CheckReport:
    return dgm.check(program.model, program.args, program.kwargs, program.targets, dtype=dtype)


def test_there_are_enough_programs_and_each_has_its_own_name():
    assert len(PROGRAMS) >= 45
    assert len(set(LABELS)) == len(LABELS)
    assert sum(program.edges is not None for program in PROGRAMS) >= 15


@pytest.mark.parametrize("program", PROGRAMS, ids=LABELS)
def test_compiled_form_is_the_same_program(program: Program):
    report = checked(program)
    assert report.ok, str(report)
    assert bool(report.sizes) is program.other_size


@pytest.mark.parametrize("program", [p for p in PROGRAMS if p.float64], ids=[p.label for p in PROGRAMS if p.float64])
def test_compiled_form_is_the_same_program_to_the_last_digits(program: Program):
    report = checked(program, torch.float64)
    assert report.ok, str(report)
    assert report.gradient_tolerance == 1e-9  # a program of one precision only is marked as such


@pytest.mark.parametrize("program", PROGRAMS, ids=LABELS)
def test_text_of_each_form_parses_back(program: Program):
    graph = traced(program)
    semi = dgm.semi_auxiliary(graph)
    for form in (graph, semi, dgm.compact(semi)):
        assert dgm.parse(str(form)) == form


@pytest.mark.parametrize(
    "program", [p for p in PROGRAMS if p.edges is not None], ids=[p.label for p in PROGRAMS if p.edges is not None]
)
def test_variables_are_those_that_the_program_shows(program: Program):
    assert set(traced(program).variables().edges) == program.edges


def snapshot(program: Program) -> dict[str, Any]:
    """All that tracing might change, by value or by identity."""
    modules = ModulePaths(program.model).modules()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
        "store": [(name, id(p), p.detach().tolist()) for name, p in pyro.get_param_store()._params.items()],
        "modes": [module.training for module in modules],
        "attributes": [{key: id(v) for key, v in vars(m).items() if not isinstance(v, dict)} for m in modules],
        "state": [(k, t.tolist()) for m in modules for k, t in m.state_dict().items()],
        "gradients": [p.grad for m in modules for p in m.parameters()],
        "inputs": [t.tolist() for t in leaves((list(program.args), dict(program.kwargs))) if isinstance(t, Tensor)],
        "held": [t.tolist() for t in ModulePaths(program.model).tensors()],
        "handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "call": nn.Module.__call__,
        "apply": torch.autograd.Function.apply,
        "grad": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=LABELS)
def test_tracing_leaves_everything_as_it_was(program: Program):
    pyro.poutine.trace(program.model).get_trace(*program.args, **program.kwargs)  # its parameters exist now
    before = snapshot(program)
    traced(program)
    assert snapshot(program) == before


def test_checking_leaves_everything_as_it_was():
    for program in (
        p for p in PROGRAMS if p.label in ("VAE.model", "Normalised", "mixture", "conditioned from outside")
    ):
        before = snapshot(program)
        assert checked(program, torch.float64).ok
        assert snapshot(program) == before


# -- does the check find what is wrong? --------------------------------------------------------------------------------

REGRESSION = Program(plates.regression, (values(5), values(5, seed=1)))


def damaged(monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    """The traced graph is changed by ``damage``, as a faulty frontend would."""
    right = replay.trace
    monkeypatch.setattr(replay, "trace", lambda *args, **kwargs: damage(right(*args, **kwargs)))


def change_sample(graph: Graph, name: str, **changes: Any) -> Graph:
    node = graph[name]
    assert isinstance(node, Sample)
    return graph.evolve([replace(n, **changes) if n is node else n for n in graph])


def test_a_transform_of_the_wrong_sign_is_found(monkeypatch: pytest.MonkeyPatch):
    """Values outside of the support: the program says that they cannot be."""

    def half_cauchy_of_the_wrong_sign(noise: Tensor, scale: Tensor) -> Tensor:
        return -scale * torch.tan(noise * 1.5)

    wrong = replace(NOISE_TRANSFORMS["HalfCauchy"], forward=Formula.of(half_cauchy_of_the_wrong_sign))
    monkeypatch.setitem(NOISE_TRANSFORMS.table, "HalfCauchy", wrong)
    assert [site.name for site in checked(REGRESSION).sites if not site.ok] == ["noise", "y"]


def test_swapped_parameters_are_found(monkeypatch: pytest.MonkeyPatch):
    def damage(graph: Graph) -> Graph:
        params = graph.samples[-1].params
        return change_sample(graph, "y", params={"loc": params["scale"], "scale": params["loc"]})

    damaged(monkeypatch, damage)
    report = checked(REGRESSION)
    assert [site.name for site in report.sites if not site.ok] == ["y"]
    assert "DIFFERS" in str(report)


def test_another_mask_is_found(monkeypatch: pytest.MonkeyPatch):
    program = Program(plates.masked_by_value, (values(5), bits(5)))
    damaged(monkeypatch, lambda graph: change_sample(graph, "x", mask=None))
    assert [site.name for site in checked(program).sites if not site.ok] == ["x"]


def test_another_scale_is_found(monkeypatch: pytest.MonkeyPatch):
    damaged(monkeypatch, lambda graph: change_sample(graph, "y", scale=None))
    assert [site.name for site in checked(Program(plates.subsampled, (values(4),))).sites if not site.ok] == ["y"]


def test_another_family_is_found(monkeypatch: pytest.MonkeyPatch):
    damaged(monkeypatch, lambda graph: change_sample(graph, "noise", family="HalfNormal"))
    assert not checked(REGRESSION).ok


def test_a_missing_transform_is_found(monkeypatch: pytest.MonkeyPatch):
    damaged(monkeypatch, lambda graph: change_sample(graph, "shift", transforms=graph["shift"].transforms[:1]))
    assert not checked(Program(families.logistic_by_transforms, (values(4),))).ok


def test_a_dropped_broadcast_is_found(monkeypatch: pytest.MonkeyPatch):
    """The row effect used in place of the sum over the table."""

    def damage(graph: Graph) -> Graph:
        return change_sample(graph, "cell", params={"loc": Ref("row_effect"), "scale": 0.3})

    damaged(monkeypatch, damage)
    assert not checked(Program(plates.nested_plates, (values(3, 4),))).ok


def test_a_gradient_that_is_cut_is_found(monkeypatch: pytest.MonkeyPatch):
    """Same values, other gradients: a ``detach`` that the graph forgot."""

    def damage(graph: Graph) -> Graph:
        keep = {n.name: n.args[0].name for n in graph if getattr(n, "target", "") == "torch.Tensor.detach"}
        assert keep

        def through(leaf: Any) -> Any:
            return Ref(keep[leaf.name]) if isinstance(leaf, Ref) and leaf.name in keep else leaf

        return graph.evolve([node.map_leaves(through) for node in graph])

    damaged(monkeypatch, damage)
    report = checked(Program(sequences.filtered_without_gradient, (values(4),)))
    assert all(site.ok for site in report.sites)
    assert report.wrong_gradients
    assert not report.ok
    assert "DIFFERS drift" in str(report)


def test_a_site_that_the_graph_lacks_is_found(monkeypatch: pytest.MonkeyPatch):
    def damage(graph: Graph) -> Graph:
        return graph.evolve([n for n in graph if n.name != "b"], outputs={"a": "a"})

    def model() -> None:
        pyro.sample("a", pyro.distributions.Normal(0.0, 1.0))
        pyro.sample("b", pyro.distributions.Normal(0.0, 1.0))

    damaged(monkeypatch, damage)
    with pytest.raises(KeyError, match="b"):
        dgm.check(model, targets="all")


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_lengths_that_agreed_have_to_agree_again():
    def model(x: Tensor, table: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", pyro.distributions.Normal(x + table, 1.0))

    compiled = dgm.compile(dgm.trace(model, (values(4), values(4))))
    assert compiled(values(7), values(7))["y"].shape == (7,)
    with pytest.raises(ValueError, match=r"table\.shape\[0\] has to be batch: they were of one length"):
        compiled(values(7), values(1))


def test_a_size_that_is_no_polynomial_is_guarded():
    def model(x: Tensor) -> None:
        pyro.sample("z", pyro.distributions.Normal(x[: len(x) // 2], 1.0).to_event(1))

    compiled = dgm.compile(dgm.trace(model, (values(4),)))
    with pytest.raises(ValueError, match=r"x\.shape\[0\] has to be 4"):
        compiled(values(6))


def test_weights_of_the_compiled_form_are_the_users_own():
    vae = seeded(networks.VAE)
    graph = dgm.trace(vae.model, (values(4, 3),))
    compiled = dgm.compile(graph)
    assert compiled.decoder.hidden.weight is vae.decoder.hidden.weight


def test_a_target_without_a_transform_is_drawn_and_replayed():
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Poisson(z.exp()), obs=x)

    assert dgm.check(model, (torch.zeros(6),)).ok
    values = dgm.compile(dgm.semi_auxiliary(dgm.trace(model, (torch.zeros(6),))))(torch.zeros(500))
    assert torch.equal(values["x"], values["x"].round()) and values["x"].max() > 1


def written_before_backward(x: torch.Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        h = z.exp()
        pyro.sample("w", dist.Normal(h.sqrt(), 1.0))
        h.mul_(2)  # autograd needs the old values of h
        pyro.sample("x", dist.Normal(h, 1.0), obs=x)


def data_written_and_multiplied(x: torch.Tensor) -> None:
    x.clamp_(-1, 1)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z * x, 1.0), obs=x)


def data_centred_and_multiplied(x: torch.Tensor) -> None:
    x -= x.mean()
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z * x, 1.0), obs=x)


@pytest.mark.parametrize("model", [written_before_backward, data_written_and_multiplied, data_centred_and_multiplied])
def test_gradients_are_those_of_what_was_read_whatever_is_written_later(model: Any):
    report = dgm.check(model, (values(4),))
    assert report.ok and report.gradients, str(report)


def test_gradients_of_a_density_that_pyro_computes_in_place():
    """So does its GaussianScaleMixture."""

    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(torch.zeros(3), 1.3).to_event(1), obs=torch.zeros(len(x), 3))
        coordinates, logits, scales = torch.tensor([0.7, 1.1, 1.3]), torch.tensor([0.2, -0.7]), torch.tensor([0.5, 2.0])
        pyro.sample("z", dist.GaussianScaleMixture(coordinates, logits, scales))

    report = dgm.check(model, (torch.zeros(4, 3),))
    assert report.ok and report.gradients == {"z": 0.0}, str(report)


def test_says_why_gradients_are_not_compared(monkeypatch: pytest.MonkeyPatch):
    def refuses(*args: Any) -> Any:
        raise RuntimeError("one of the variables\nis gone")

    monkeypatch.setattr(comparison, "gradients", refuses)
    report = dgm.check(REGRESSION.model, REGRESSION.args)
    assert report.ok and report.gradients == {}
    assert "gradients not compared: autograd refuses the original program (one of the variables)" in str(report)


def test_says_what_the_log_probability_of_the_program_fails_with():
    def model() -> None:
        steps = [torch.distributions.StackTransform([torch.distributions.ExpTransform()] * 3, dim=-1)]
        with pyro.plate("data", 4):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(3), 1.0).to_event(1), steps))

    report = dgm.check(model, ())
    assert not report.ok
    assert "DIFFERS (the program's own log-probability fails: RuntimeError: The size of tensor" in str(report)
