"""The contract that the outside relies on, word by word."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from tests import seeds


class Program(nn.Module):
    """x -> z Normal (latent), h Bernoulli (latent), y Normal (target)."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.net(x), 1.0).to_event(1))
            h = pyro.sample("h", dist.Bernoulli(logits=z.sum(-1)))
            return pyro.sample("y", dist.Normal(z + h[:, None], 0.5).to_event(1), obs=y)


X, Y = torch.randn(8, 3, generator=seeds.generator(0)), torch.zeros(8, 2)
ARGS = (X, Y)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> Program:
    return Program()


@pytest.fixture
def g(model: Program) -> dgm.DGM:
    return dgm.trace(model, model_args=ARGS)


def test_public_names():
    assert set(dgm.__all__) == {
        "DGM",
        "CompileError",
        "Diagnostic",
        "Distillation",
        "FamilyCheck",
        "FamilyReport",
        "FullReparam",
        "PairDGM",
        "Registered",
        "auxiliary",
        "check",
        "check_family",
        "compact",
        "compile",
        "pair",
        "parse",
        "register",
        "register_composition",
        "register_divergence",
        "semi_auxiliary",
        "site",
        "target",
        "to_fx",
        "to_pyro",
        "trace",
    }
    assert all(callable(getattr(dgm, name)) for name in dgm.__all__)
    assert set(dgm.__all__) <= set(dir(dgm))
    with pytest.raises(AttributeError, match="has no attribute 'tracer'"):
        _ = dgm.tracer


def test_signature_of_trace_is_pyros():
    given = inspect.signature(dgm.trace).parameters
    own = ["options", "names", "share_dropout", "roll"]
    assert list(given) == ["model", "model_args", "model_kwargs", "targets", *own]
    assert (given["model_args"].default, given["model_kwargs"].default, given["targets"].default) == ((), None, None)
    assert list(inspect.signature(dgm.pair).parameters)[:4] == ["teacher", "student", "match", "method"]


def test_graph_is_networkx_and_names_are_tuples(g: dgm.DGM):
    assert isinstance(g, dgm.DGM)
    assert isinstance(g.graph, nx.DiGraph) and nx.is_directed_acyclic_graph(g.graph)
    assert g.inputs[0] == "x" and len(g.inputs) == 2
    assert (g.noises, g.latents, g.targets) == ((), ("z", "h"), ("y",))


def test_keywords_and_targets_can_be_given(model: Program):
    g = dgm.trace(model, model_args=(X,), model_kwargs={"y": None})
    assert g.targets == ("y",)
    assert dgm.trace(model, model_args=(X,), targets=["h", "y"]).targets == ("h", "y")
    assert dgm.trace(model, model_args=(X,), targets="all").latents == ()


def test_variables(g: dgm.DGM):
    picture = g.variables()
    assert isinstance(picture, nx.DiGraph)
    assert set(picture.edges) >= {("x", "z"), ("z", "h"), ("z", "y"), ("h", "y")}
    assert all(set(picture.nodes[name]) == {"kind", "family", "shape", "plates"} for name in picture)
    assert (picture.nodes["h"]["kind"], picture.nodes["h"]["family"]) == ("latent", "Bernoulli")
    assert [plate.name for plate in picture.nodes["y"]["plates"]] == ["batch"]


@pytest.mark.parametrize(("name", "start"), [("m.svg", b"<svg"), ("m.dot", b"digraph"), ("m.png", b"\x89PNG")])
def test_draw(g: dgm.DGM, tmp_path: Path, name: str, start: bytes):
    g.draw(str(tmp_path / name))
    assert start in (tmp_path / name).read_bytes()[:200]


def test_notebooks_show_the_picture_and_the_text(g: dgm.DGM):
    bundle = g._repr_mimebundle_(include=None, exclude=None)
    assert "<svg" in bundle["image/svg+xml"]
    assert bundle["text/plain"] == str(g)


def test_text_there_and_back(g: dgm.DGM):
    for graph in (g, dgm.auxiliary(g), dgm.semi_auxiliary(g), dgm.compact(dgm.semi_auxiliary(g))):
        back = dgm.parse(str(graph))
        assert isinstance(back, dgm.DGM)
        assert back == graph


def test_forms(g: dgm.DGM):
    aux, semi = dgm.auxiliary(g), dgm.semi_auxiliary(g)
    assert (aux.noises, aux.samples) == (("z_noise", "h_noise", "y_noise"), ())
    assert semi.noises == ("z_noise", "h_noise")
    assert [sample.name for sample in semi.samples] == ["y"]
    assert (semi.latents, semi.targets) == (("z", "h"), ("y",))
    kept = dgm.semi_auxiliary(g, keep=("h",))
    assert kept.noises == ("z_noise",)
    assert all(isinstance(graph, dgm.DGM) for graph in (aux, semi, kept, dgm.compact(semi)))


def test_report(g: dgm.DGM):
    report = dgm.compact(dgm.semi_auxiliary(g, keep=("h",))).report()
    heading, *rows = str(report).splitlines()
    assert [word.strip() for word in heading.split("  ") if word.strip()] == [
        "site",
        "family",
        "noise law",
        "transform",
        "differentiable",
        "why",
    ]
    z, h, y = report.sites
    assert (z.site, z.family, z.noise, z.transform, z.differentiable, z.kept, z.reason) == (
        "z",
        "Normal",
        "StandardNormal",
        "normal_from_noise",
        True,
        False,
        "",
    )
    assert (h.kept, h.reason, y.kept, y.reason) == (True, "kept by the user", True, "a target: it stays random")
    assert report.before.nodes == len(g)
    assert (report.before.stochastic_depth, report.after.stochastic_depth) == (3, 2)
    assert rows[0].split() == ["z", "Normal", "StandardNormal", "normal_from_noise", "yes"]
    assert "not rewritten yet" in str(g.report())


def test_compiled_model(model: Program, g: dgm.DGM):
    m = dgm.compile(dgm.compact(dgm.semi_auxiliary(g)))
    assert isinstance(m, nn.Module)
    noise = m.sample_noise(*ARGS, generator=seeds.generator(1))
    assert {name: tuple(e.shape) for name, e in noise.items()} == {
        "z_noise": (8, 2),
        "h_noise": (8,),
        "y_noise": (8, 2),
    }
    again = m.sample_noise(*ARGS, generator=seeds.generator(1))
    assert all(torch.equal(noise[name], again[name]) for name in noise)
    values = m(*ARGS, noise=noise)
    assert list(values) == ["z", "h", "y"]
    assert torch.equal(values["z"], model.net(X) + noise["z_noise"])
    assert all(torch.equal(values[site], m(*ARGS, noise=noise)[site]) for site in values)
    assert m(X[:3], Y[:3])["y"].shape == (3, 2)
    assert "class Program(nn.Module)" in m.source and "import dgmcompile" not in m.source
    assert {id(p) for p in m.parameters()} == {id(p) for p in model.parameters()}


def test_compiled_loss(model: Program):
    student = Program(width=2)
    pair = dgm.pair(dgm.trace(model, model_args=ARGS), dgm.trace(student, model_args=ARGS))
    assert isinstance(pair, dgm.PairDGM)
    loss = dgm.compile(pair, latent_weight=0.1)
    noise = loss.sample_noise(*ARGS)
    out = loss(*ARGS, noise=noise)
    assert (set(out.surrogate), set(out.latent)) == ({"y"}, {"z", "h"})
    expected = out.surrogate["y"] + 0.1 * (out.latent["z"] + out.latent["h"])
    assert torch.allclose(out.total, expected)
    assert torch.equal(out.total, loss(*ARGS, noise=noise).total)
    out.total.backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_step_is_a_function_of_its_noise():
    """A target that is read draws the teacher's value from noise of its own."""

    def program(loc: Tensor):
        def run() -> None:
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            y = pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.0))
            pyro.sample("w", dist.Normal(y + z, 1.0), obs=torch.tensor(0.0))

        return run

    teacher, student = (program(torch.tensor(v, requires_grad=True)) for v in (0.0, 1.0))
    loss = dgm.compile(dgm.pair(teacher, student))
    noise = loss.sample_noise()
    assert set(noise) == {"z_noise", "y_noise"}
    assert torch.equal(loss(noise=noise).total, loss(noise=noise).total)


def test_pair_takes_programs_matches_and_methods(model: Program):
    student = Program(width=2)
    local = dgm.pair(model, student, method="local", model_args=ARGS)
    assert set(dgm.compile(local)(*ARGS).latent) == {"z", "h"}
    unmatched = dgm.pair(model, student, match={"h": None}, model_args=ARGS)
    assert set(dgm.compile(unmatched)(*ARGS).latent) == {"z"}


def test_options_are_of_a_loss_only(g: dgm.DGM):
    with pytest.raises(TypeError, match="latent_weight: only a pair's loss has options"):
        dgm.compile(g, latent_weight=0.1)


def test_distillation_in_pyros_idiom(model: Program):
    student = Program(width=2)
    loss_fn = dgm.Distillation(latent_weight=0.1)(model, student)
    total = loss_fn(*ARGS)
    total.backward()
    assert total.shape == () and student.net[0].weight.grad is not None


def test_check(model: Program):
    report = dgm.check(model, model_args=ARGS)
    assert report.ok
    assert [site.name for site in report.sites] == ["z", "h", "y"]
    assert all(site.ok for site in report.sites)


def test_errors_are_data():
    def branches(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(x, 1.0))
        if z > 0:
            pyro.sample("y", dist.Normal(z, 1.0))

    with pytest.raises(dgm.CompileError) as refused:
        dgm.trace(branches, model_args=(torch.tensor(0.0),))
    (found,) = refused.value.diagnostics
    assert isinstance(found, dgm.Diagnostic)
    assert (found.code, found.severity) == ("value-branch", "error")
    assert found.location is not None and found.location.text.strip() == "if z > 0:"
    assert "'z'" in found.message and found.help
    assert str(refused.value) == found.render()
