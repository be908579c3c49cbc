"""A family of a user's own goes through everything that the others go through."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.distill.divergences import CLOSED_FORMS, LOG_PROBS
from dgmcompile.registration import preserved
from dgmcompile.registration.tables import _tables
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS
from tests import own_families as own
from tests import seeds
from tests.own_families import DICE, SHIFTED, TRIANGULAR, Dice, Shifted, Triangular

NAME = "tests.own_families.Triangular"


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = [dict(table) for table in _tables()]
    with preserved():
        yield
    assert [dict(table) for table in _tables()] == before


class Program(nn.Module):
    """Two Triangular latents and a target; the second latent by its other parameter."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, width), nn.Linear(width, 2)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", Triangular(self.inner(x), 2.0).to_event(1))
            w = pyro.sample("w", Triangular(z.sum(-1), width=torch.exp(z[:, 0])))
            loc = 0.01 * torch.tanh(self.outer(z)) + 0.01 * torch.tanh(w[:, None])
            return pyro.sample("y", Triangular(loc, 20.0).to_event(1), obs=y)


X, Y = torch.randn(6, 2, generator=seeds.generator(0)), torch.zeros(6, 2)


def refused(register: Callable[[], Any]) -> list[tuple[str, str]]:
    """Code and message of each problem; nothing is registered."""
    before = [dict(table) for table in _tables()]
    with pytest.raises(dgm.CompileError) as caught:
        register()
    assert [dict(table) for table in _tables()] == before
    assert all(
        d.location is None or Path(d.location.file).parent == Path(__file__).parent for d in caught.value.diagnostics
    )
    return [(d.code, d.message) for d in caught.value.diagnostics]


# -- from the program to the loss --------------------------------------------------------------------------------------


def test_a_registered_family_in_every_form():
    dgm.register(Triangular, **TRIANGULAR)
    torch.manual_seed(0)
    model = Program()
    graph = dgm.trace(model, (X, Y))
    compact = dgm.compact(dgm.semi_auxiliary(graph))
    for form in (graph, dgm.semi_auxiliary(graph), compact, dgm.auxiliary(graph)):
        assert str(dgm.parse(str(form))) == str(form)
    rows = {row.site: (row.family, row.noise, row.transform, row.differentiable) for row in compact.report().sites}
    assert rows["z"] == (NAME, "StandardUniform, StandardUniform", "triangular_from_noise", True)
    noise = dgm.compile(compact).sample_noise(X, Y)
    values = dgm.compile(compact)(X, Y, noise=noise)
    expected = model.inner(X) + 2.0 * (noise["z_noise"] - noise["z_noise_1"])
    torch.testing.assert_close(values["z"], expected)
    report = dgm.check(model, (X, Y))
    assert report.ok, report


def test_without_it_the_same_program_is_refused():
    with pytest.raises(dgm.CompileError, match="no-noise-transform"):
        dgm.semi_auxiliary(dgm.trace(Program(), (X, Y)))


def test_a_target_of_a_family_that_nobody_knows_is_replayed():
    def model() -> Tensor:
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 0.001))
        return pyro.sample("y", Triangular(z, 2.0))

    graph = dgm.trace(model)
    assert graph.targets == ("y",)
    with dgm.register(Triangular, **TRIANGULAR):
        assert dgm.check(model).ok


def test_a_class_inside_a_function_is_as_good():
    class Tent(Triangular):
        pass

    def model() -> Tensor:
        return pyro.sample("z", Tent(torch.zeros(3), 2.0).to_event(1))

    dgm.register(Tent, **TRIANGULAR)
    graph = dgm.trace(model)
    assert str(dgm.parse(str(graph))) == str(graph)
    assert dgm.compile(graph)()["z"].abs().max() < 2.0


def test_the_loss_estimates_by_the_density_and_takes_a_closed_form_where_one_is_registered():
    dgm.register(Triangular, **TRIANGULAR)
    torch.manual_seed(0)
    teacher, student = Program(), Program()
    estimate = dgm.compile(dgm.pair(teacher, student, model_args=(X, Y)))
    e = estimate.sample_noise(X, Y)
    out = estimate(X, Y, noise=e)
    drawn = dgm.compile(dgm.trace(teacher, (X, Y)))  # the teacher's values, from the same noise
    values = drawn(X, Y, noise={name: e[name] for name in drawn.sample_noise(X, Y)})
    z, w = (pupil(student, teacher, values["z"], values["w"], e) for pupil in (own_z, own_w))
    loc = [
        0.01 * torch.tanh(m.outer(a)) + 0.01 * torch.tanh(b[:, None])
        for m, a, b in ((teacher, values["z"], values["w"]), (student, z, w))
    ]
    p, q = (own.log_prob_triangular(values["y"], each, 20.0).sum(-1) for each in loc)
    torch.testing.assert_close(out.surrogate["y"], (p - q).mean())
    dgm.register_divergence("kl", Triangular, Triangular, squared_distance, source="for this test")
    closed = dgm.compile(dgm.pair(teacher, student, model_args=(X, Y)))
    expected = ((loc[0] - loc[1]) ** 2).sum(-1).mean()
    torch.testing.assert_close(closed(X, Y, noise=closed_noise(closed, e)).surrogate["y"], expected)
    assert (NAME, NAME) in CLOSED_FORMS["reverse_kl"]


def own_z(student: Program, teacher: Program, z: Tensor, w: Tensor, e: dict[str, Tensor]) -> Tensor:
    return student.inner(X) + 2.0 * (e["z_noise"] - e["z_noise_1"])


def own_w(student: Program, teacher: Program, z: Tensor, w: Tensor, e: dict[str, Tensor]) -> Tensor:
    z = own_z(student, teacher, z, w, e)
    return z.sum(-1) + torch.exp(z[:, 0]) / 2 * (e["w_noise"] - e["w_noise_1"])


def closed_noise(loss: nn.Module, e: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: e.get(name, noise) for name, noise in loss.sample_noise(X, Y).items()}  # type: ignore[operator]


def squared_distance(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    return (p_loc - q_loc) ** 2 + 0.0 * (p_scale - q_scale)


def test_counts_are_not_compared_with_numbers():
    dgm.register(Dice, **DICE)

    def teacher() -> Tensor:
        return pyro.sample("y", Dice(torch.tensor(6.0)))

    def student() -> Tensor:
        return pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))

    assert dgm.compile(dgm.pair(teacher, teacher))().total == 0.0
    with pytest.raises(dgm.CompileError, match="no-divergence"):
        dgm.compile(dgm.pair(teacher, student))


def test_a_composition():
    with dgm.register_composition(Shifted, **SHIFTED):

        def model(x: Tensor) -> Tensor:
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", Shifted(dist.Exponential(2.0 + x**2), x))
                return pyro.sample("y", Shifted(dist.Normal(z, 1.0), 2 * x))

        graph = dgm.trace(model, (X[:, 0],))
        semi = dgm.semi_auxiliary(graph)
        assert str(dgm.parse(str(semi))) == str(semi)
        assert "moved" in str(semi.report())
        report = dgm.check(model, (X[:, 0],))
        assert report.ok, report
        assert dgm.compile(dgm.pair(graph, graph))(X[:, 0]).total == 0.0
    assert "tests.own_families.Shifted" not in COMPOSITIONS


def test_a_composition_calls_what_it_names():
    with dgm.register_composition(Shifted, **{**SHIFTED, "formulas": (own.moved_back,)}):
        graph = dgm.trace(lambda: pyro.sample("z", Shifted(dist.Normal(0.0, 1.0), torch.tensor(1.0))))
        with pytest.raises(dgm.CompileError, match="'moved', which is not among its formulas"):
            dgm.compile(graph)


def test_the_emitted_file_runs_alone(tmp_path: Path):
    with dgm.register(Triangular, **TRIANGULAR):
        module = dgm.compile(dgm.trace(lambda: pyro.sample("z", Triangular(torch.zeros(3), 2.0).to_event(1))))
    source = str(module.source)
    assert "SIDES = 1.0" in source
    (tmp_path / "emitted.py").write_text(source)
    code = "import sys; sys.modules['dgmcompile'] = sys.modules['pyro'] = None; import emitted"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_what_the_guide_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    guide = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- test: own_family.py -->\n```python\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "own_family.py").write_text("\n\n".join(blocks))
    monkeypatch.syspath_prepend(tmp_path)
    import own_family  # type: ignore[import-not-found]

    own_family.test_triangular()
    z = dgm.compile(dgm.trace(lambda: pyro.sample("z", own_family.Triangular(torch.zeros(3), 2.0).to_event(1))))
    assert z()["z"].abs().max() < 2.0


# -- taking it back ----------------------------------------------------------------------------------------------------


def test_what_is_removed_is_as_it_was():
    handle = dgm.register(Triangular, **TRIANGULAR)
    assert handle.family == NAME and NAME in NOISE_TRANSFORMS and NAME in LOG_PROBS
    handle.remove()
    handle.remove()
    assert NAME not in NOISE_TRANSFORMS and NAME not in LOG_PROBS


def test_a_public_family_is_replaced_and_comes_back():
    before = NOISE_TRANSFORMS["Laplace"]
    with dgm.register(
        dist.Laplace,
        forward=laplace_from_sides,
        params=("loc", "scale"),
        noises=("StandardExponential", "StandardExponential"),
        replace=True,
    ):
        assert "Laplace" in LOG_PROBS
        assert "laplace_from_sides" in dgm.compile(dgm.trace(lambda: pyro.sample("z", dist.Laplace(0.0, 1.0)))).source
    assert NOISE_TRANSFORMS["Laplace"] is before


def laplace_from_sides(right: Tensor, left: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return loc + scale * (right - left)


def test_registering_again_takes_replace_and_may_bring_other_functions_of_the_same_names():
    dgm.register(Triangular, **TRIANGULAR)
    again: dict[str, Any] = {}
    exec(compile(Path(own.__file__).read_text(), own.__file__, "exec"), vars(own) | {"__name__": own.__name__}, again)
    assert again["half"] is not own.half
    assert [code for code, _ in refused(lambda: dgm.register(Triangular, **again["TRIANGULAR"]))] == ["family-taken"]
    dgm.register(Triangular, **again["TRIANGULAR"], replace=True)
    assert NOISE_TRANSFORMS[NAME].forward.function is again["triangular_from_noise"]


# -- mistakes ----------------------------------------------------------------------------------------------------------


def reads_numpy(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return torch.as_tensor(re.escape("x"))  # type: ignore[arg-type]


def normal_from_noise(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Another one of a name that is taken."""
    return right


def short(right: Tensor, loc: Tensor) -> Tensor:
    return right


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"params": ("loc",)}, "family-arguments", "called with 3 arguments"),
        ({"params": ("loc", "spread")}, "family-arguments", "and no 'spread'"),
        ({"conversions": {"scale": {"base": own.half}}}, "family-arguments", "and no 'base'"),
        ({"conversions": {"width": {"width": own.half}}}, "family-arguments", "conversions: there is no 'width'"),
        ({"noises": ("StandardNormal", "Cauchy")}, "family-arguments", "noises: there is no 'Cauchy'"),
        ({"limits": {"grad": "no"}}, "family-arguments", "limits: there is no 'grad'"),
        ({"no_gradient": ("spread",)}, "family-arguments", "no_gradient: there is no 'spread'"),
        ({"forward": short}, "family-arguments", "called with 4 arguments"),
        ({"forward": torch.add}, "family-arguments", "no plain function"),
        ({"log_prob": short, "inverse": own.log_prob_triangular}, "family-arguments", "the only noise"),
        ({"forward": lambda a, b, c, d: a}, "family-formula", "is not one definition"),
        ({"forward": reads_numpy}, "family-formula", "reads 're'"),
        ({"forward": normal_from_noise}, "family-formula", "two definitions of the name 'normal_from_noise'"),
    ],
)
def test_a_mistake_is_said_where_it_is_made(changes: dict[str, Any], code: str, said: str):
    found = refused(lambda: dgm.register(Triangular, **{**TRIANGULAR, **changes}))
    assert any(found_code == code and said in message for found_code, message in found), found


def test_a_function_that_reads_what_is_around_it():
    width = 2.0

    def around(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return right * width

    ((code, said),) = refused(lambda: dgm.register(Triangular, **{**TRIANGULAR, "forward": around}))
    assert code == "family-formula" and "the function around it" in said


def test_a_constant_of_another_value_under_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "elsewhere.py").write_text(
        "from torch import Tensor\n\nSIDES = 3.0\n\n"
        "def other(noise: Tensor, loc: Tensor) -> Tensor:\n    return SIDES * noise\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import elsewhere  # type: ignore[import-not-found]

    dgm.register(Triangular, **TRIANGULAR)
    changes = {"forward": elsewhere.other, "params": ("sides",)}
    ((code, said),) = refused_in_any_file(lambda: dgm.register(Dice, **{**DICE, **changes}))
    assert code == "family-formula" and "two definitions of the name 'SIDES'" in said


def refused_in_any_file(register: Callable[[], Any]) -> list[tuple[str, str]]:
    with pytest.raises(dgm.CompileError) as caught:
        register()
    return [(d.code, d.message) for d in caught.value.diagnostics]


def test_what_is_no_distribution():
    ((code, said),) = refused(lambda: dgm.register(nn.Linear, **TRIANGULAR))
    assert code == "family-arguments" and "no class of distributions" in said


def test_a_support_that_says_nothing_has_to_be_made_up_for():
    class Silent(Triangular):
        support = property(lambda self: None)  # type: ignore[assignment]

    ((code, said),) = refused(lambda: dgm.register(Silent, **TRIANGULAR))
    assert code == "family-arguments" and "what sort of values" in said
    dgm.register(Silent, **TRIANGULAR, discrete=False, event_dim=0)


def test_parameters_that_divergences_read_keep_their_names():
    ((code, said),) = refused(
        lambda: dgm.register(
            dist.Laplace,
            forward=laplace_from_sides,
            params=("scale", "loc"),
            noises=("StandardExponential", "StandardExponential"),
            replace=True,
        )
    )
    assert code == "family-arguments" and "read (loc, scale)" in said


def other_names(p_middle: Tensor, q_loc: Tensor) -> Tensor:
    return p_middle - q_loc


@pytest.mark.parametrize(
    ("name", "families", "formula", "said"),
    [
        ("hellinger", ("Normal", "Normal"), squared_distance, "there is no 'hellinger'"),
        ("kl", ("Normal", "Heard"), squared_distance, "the family Heard is not known"),
        ("js", ("Normal", "Normal"), other_names, "there is no 'p_middle'"),
        ("kl", ("Normal", "Normal"), squared_distance, "kl for Normal and Normal already"),
    ],
)
def test_a_mistake_in_a_divergence(name: str, families: tuple[str, str], formula: Any, said: str):
    found = refused(lambda: dgm.register_divergence(name, *families, formula))
    assert any(said in message for _, message in found), found


def test_a_divergence_is_replaced_and_comes_back():
    before = CLOSED_FORMS["kl"]["Laplace", "Laplace"]
    with dgm.register_divergence("kl", dist.Laplace, "Laplace", squared_distance, replace=True):
        assert CLOSED_FORMS["kl"]["Laplace", "Laplace"].formula.name == "squared_distance"
        assert CLOSED_FORMS["reverse_kl"]["Laplace", "Laplace"].exchanged
    assert CLOSED_FORMS["kl"]["Laplace", "Laplace"] is before
