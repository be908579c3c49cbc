"""The loss and its gradient on every example, against the same loss by Pyro's handlers and torch's divergences."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import kl_divergence

import dgmcompile as dgm
from tests import seeds

EXAMPLES = Path(__file__).parents[2] / "examples"


class Case(NamedTuple):
    teacher: Callable[..., Any]
    student: Callable[..., Any]
    args: tuple[Tensor, ...]


def vae(m: ModuleType) -> Case:
    return Case(m.VAE("teacher", hidden=9).model, m.VAE("student", hidden=4).model, m.example_inputs())


def hvae(m: ModuleType) -> Case:
    return Case(m.HVAE("teacher", width=6).eval(), m.HVAE("student", width=4), (torch.zeros(3, 1, 32, 32),))


def helmholtz(m: ModuleType) -> Case:
    return Case(m.model, m.student, tuple(column[:20] for column in m.example_inputs()))


def vrnn(m: ModuleType) -> Case:
    return Case(m.VRNN("teacher", hidden=7), m.VRNN("student", hidden=5), (torch.randn(3, 4, 3),))


def eight_schools(m: ModuleType) -> Case:
    return Case(m.model, m.student, m.example_inputs)


def gmm(m: ModuleType) -> Case:
    return Case(m.model, m.student, m.example_inputs)


CASES = (vae, hvae, helmholtz, vrnn, eight_schools, gmm)


def test_every_example_is_here():
    assert {case.__name__ for case in CASES} == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(1)
    made = request.param(example(request.param.__name__))
    for program in made.teacher, made.student:
        if not isinstance(getattr(program, "__self__", program), nn.Module):
            poutine.block(program)(*made.args)  # its parameters come to be in Pyro's store when it first runs
    return made


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- by hand -------------------------------------------------------------------------------------------


class FromNoise(Messenger):
    """Every site takes the value in ``given``, or else the one that its noise makes."""

    def __init__(self, noise: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.noise, self.given = noise, given

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        if name in self.given:
            msg["value"] = self.given[name]
        elif f"{name}_noise" in self.noise:
            msg["value"] = value_from_noise(msg["fn"], self.noise[f"{name}_noise"])
        else:
            return  # nothing in the loss depends on its value, so there is no noise for it
        msg["done"] = True


def value_from_noise(law: Any, noise: Tensor) -> Tensor:
    while isinstance(law, dist.Independent):
        law = law.base_dist
    match type(law).__name__:
        case "Normal":
            return law.loc + law.scale * noise
        case "HalfCauchy":
            return law.scale * torch.tan(math.pi / 2 * noise)
        case "Bernoulli":
            return (noise > 1 - law.probs).to(law.probs.dtype)
        case "Categorical":
            return torch.argmax(law.logits - torch.log(noise), -1)
        case family:
            raise AssertionError(family)


def by_hand(
    case: Case, noise: Mapping[str, Tensor], latent_weight: float, local: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """(total, term by site) of the teacher in eval mode."""
    with torch.no_grad():
        ours = poutine.trace(FromNoise(noise, {})(case.teacher)).get_trace(*case.args).nodes
    sites = {n: s for n, s in ours.items() if s["type"] == "sample" and type(s["fn"]).__name__ != "_Subsample"}
    targets = {name for name, site in sites.items() if site["is_observed"]}
    given = {name: site["value"] for name, site in sites.items() if local or name in targets}
    theirs = poutine.trace(FromNoise(noise, given)(case.student)).get_trace(*case.args).nodes
    batch = max((frame for s in sites.values() for frame in s["cond_indep_stack"]), key=lambda frame: -frame.dim)
    terms = {}
    for name, site in sites.items():
        shape = (site["fn"].batch_shape, theirs[name]["fn"].batch_shape)
        total = kl_divergence(site["fn"], theirs[name]["fn"]).expand(torch.broadcast_shapes(*shape)).sum()
        terms[name] = total / batch.size if batch in site["cond_indep_stack"] else total
    weights = {name: 1.0 if name in targets else latent_weight for name in terms}
    return sum((weights[name] * term for name, term in terms.items()), torch.zeros(())), terms


def leaves_of(case: Case) -> dict[str, Tensor]:
    """The student's parameters: of its module and, of a function, in Pyro's store."""
    student = getattr(case.student, "__self__", case.student)
    if isinstance(student, nn.Module):
        encoder = "encoder."
        return {name: p for name, p in student.named_parameters() if not name.startswith(encoder)}
    return dict(pyro.get_param_store().named_parameters())


def gradients(case: Case, total: Tensor) -> dict[str, Tensor]:
    leaves = leaves_of(case)
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


# --- the same ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["surrogate", "local"])
def test_loss_and_gradients_are_those_by_handlers(case: Case, method: Any):
    pair = dgm.pair(case.teacher, case.student, method=method, model_args=case.args)
    loss: Any = dgm.compile(pair, latent_weight=0.3)
    noise = loss.sample_noise(*case.args, generator=seeds.generator(2))
    out = loss(*case.args, noise=noise)
    total, terms = by_hand(case, noise, 0.3, local=method == "local")
    torch.testing.assert_close(out.total, total, rtol=1e-9, atol=1e-12)
    found = {**out.surrogate, **out.latent}
    assert found.keys() == terms.keys()
    for name, term in terms.items():
        torch.testing.assert_close(found[name], term, rtol=1e-9, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")
    expected = gradients(case, total)
    assert expected and any(gradient.abs().max() > 0 for gradient in expected.values())
    torch.testing.assert_close(gradients(case, out.total), expected, rtol=1e-6, atol=1e-9)


def test_a_step_is_a_function_of_its_noise(case: Case):
    loss: Any = dgm.compile(dgm.pair(case.teacher, case.student, model_args=case.args))
    loss.eval()
    noise, again = (loss.sample_noise(*case.args, generator=seeds.generator(5)) for _ in range(2))
    assert noise and all(torch.equal(noise[name], again[name]) for name in noise)
    first, second = loss(*case.args, noise=noise), loss(*case.args, noise=again)
    assert torch.equal(first.total, second.total)
    assert not torch.equal(first.total, loss(*case.args).total)


def test_the_users_student_learns_and_the_teacher_does_not(case: Case):
    loss: Any = dgm.compile(dgm.pair(case.teacher, case.student, model_args=case.args))
    generator = seeds.generator(6)
    noise = loss.sample_noise(*case.args, generator=generator)
    leaves = leaves_of(case)
    before = loss(*case.args, noise=noise).total
    before.backward()
    assert all(leaf.grad is not None for leaf in leaves.values())
    teacher = getattr(case.teacher, "__self__", case.teacher)
    if isinstance(teacher, nn.Module):
        assert all(p.grad is None for p in teacher.parameters())
    assert not any(p.requires_grad for p in loss.teacher.parameters())
    length = torch.stack([leaf.grad.norm() for leaf in leaves.values() if leaf.grad is not None]).norm()
    torch.optim.SGD(leaves.values(), lr=1e-4 / float(length)).step()
    assert loss(*case.args, noise=noise).total < before


def test_marginalised_mixture_is_the_mixtures_divergence():
    case = gmm(example("gmm"))
    loss: Any = dgm.compile(dgm.pair(case.teacher, case.student, method="marginalised", model_args=case.args))
    noise = loss.sample_noise(*case.args)
    with torch.no_grad():
        value = poutine.trace(FromNoise(noise, {})(case.teacher)).get_trace(*case.args).nodes["x"]["value"]

    def log_density(m: Any) -> Tensor:
        components = dist.Normal(m.loc, m.scale.expand_as(m.loc)).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(m.weights), components).log_prob(value)

    with torch.no_grad():
        teacher = log_density(case.teacher)
    total = (teacher - log_density(case.student)).mean()
    out = loss(*case.args, noise=noise)
    torch.testing.assert_close(out.total, total)
    torch.testing.assert_close(gradients(case, out.total), gradients(case, total))
