"""Log-densities of families that hold others, and the losses that are made of them."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.codegen import compile_graph
from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.densities import Densities, has_density
from dgmcompile.distill.hidden_markov import discrete_hmm_log_prob
from dgmcompile.distill.nodes import Nodes
from dgmcompile.ir.graph import Argument, Input, Ref
from dgmcompile.ir.probes import without_probes
from dgmcompile.passes import compact
from dgmcompile.passes.canonicalize import canonicalize
from dgmcompile.reparam import COMPOSITIONS
from tests import seeds
from tests.programs import compositions as programs
from tests.programs.program import Program
from tests.reparam.composed_laws import LAWS, ComposedLaw, FieldLaw, KalmanLaw, LinearLaw, SkewedTorus, SwitchingNumbers

FAST = [law for law in LAWS if law is not SkewedTorus]
"""Those that are drawn quickly."""


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def log_prob_of(law: ComposedLaw, x: Tensor) -> Tensor:
    """Our own log-density of the only site at ``x``, as emitted code computes it."""
    graph = canonicalize(dgm.trace(law.model, (torch.zeros(3),), targets="x"))
    (sample,) = graph.samples
    value = Input(name="x", path=("value",), shape=sample.shape, dtype=sample.dtype)
    given = graph.evolve([value if node is sample else node for node in graph], outputs={})
    nodes = Nodes(given)
    ref = Densities(given, nodes).log_prob(sample, Ref("x"), "log_prob", sample.event_dim)
    whole = given.evolve([*given, *nodes.added], outputs={"log_prob": ref.name}, arguments=(*COPIES, Argument("value")))
    return compile_graph(without_probes(compact(whole)))(torch.zeros(len(x)), x)["log_prob"]


COPIES = (Argument("copies"),)


def draws_of(law: ComposedLaw, copies: int = 40) -> Tensor:
    return dgm.compile(dgm.trace(law.model, (torch.zeros(3),), targets="x"))(torch.zeros(copies))["x"].detach()


def test_every_composition_has_a_log_density():
    assert set(COMPOSED_LOG_PROBS) == set(COMPOSITIONS.names())


@pytest.mark.parametrize("make", LAWS, ids=lambda law: law.__name__)
def test_log_density_and_its_gradient(make: type[ComposedLaw]):
    """Those of Pyro where it is right, else by hand."""
    law = make(1)
    x = draws_of(law, 4 if make is SkewedTorus else 40)
    found, expected = log_prob_of(law, x), law.log_prob(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weights, params = torch.arange(1.0, 1 + len(x)).cos(), list(law.parameters())
    ours, theirs = (
        torch.autograd.grad(weights @ value, params, allow_unused=True, materialize_grads=True)
        for value in (found, expected)
    )
    assert any(gradient.any() for gradient in theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_a_step_without_an_inverse_leaves_no_density():
    class Square(dist.transforms.Transform):
        domain = codomain = dist.constraints.real

        def _call(self, x: Tensor) -> Tensor:
            return x.square()

    def model() -> None:
        components = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0), [Square()])
        pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), components))

    (sample,) = dgm.trace(model).samples
    assert not has_density(sample)


# -- by enumeration and by matrices ----------------------------------------------------------------------------------


def test_forward_algorithm_sums_every_path():
    generator = seeds.generator(0)
    log_probs, initial, transition = (torch.randn(shape, generator=generator) for shape in ((4, 3), (3,), (3, 3)))
    terms = []
    for start, *path in itertools.product(range(3), repeat=5):
        term = initial.log_softmax(-1)[start]
        for t, (old, new) in enumerate(itertools.pairwise((start, *path))):
            term = term + transition.log_softmax(-1)[old, new] + log_probs[t, new]
        terms.append(term)
    torch.testing.assert_close(
        discrete_hmm_log_prob(log_probs, initial, transition), torch.stack(terms).logsumexp(-1), rtol=1e-12, atol=1e-12
    )


def test_states_that_cannot_be_reached_leave_finite_gradients():
    """From left to right only, from the first state."""
    initial = torch.tensor([0.0, -math.inf, -math.inf], requires_grad=True)
    transition = torch.where(torch.ones(3, 3).triu() > 0, 0.0, -math.inf).requires_grad_()
    log_probs = torch.randn(4, 3).requires_grad_()
    found = discrete_hmm_log_prob(log_probs, initial, transition)
    found.backward()
    assert found.isfinite()
    for leaf in (initial, transition, log_probs):
        assert leaf.grad is not None and leaf.grad.isfinite().all()


def test_an_impossible_observation_has_no_probability():
    log_probs = torch.tensor([[0.0, -1.0], [-math.inf, -math.inf]])
    assert discrete_hmm_log_prob(log_probs, torch.zeros(2), torch.zeros(2, 2)) == -math.inf


@pytest.mark.parametrize("make", [KalmanLaw, FieldLaw])
def test_float32_keeps_its_digits(make: type[ComposedLaw]):
    law = make()
    x = draws_of(law)
    exact = law.log_prob(x)
    torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(log_prob_of(law.float(), x.float()).double(), exact, rtol=1e-4, atol=1e-4)


# -- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", FAST, ids=lambda law: law.__name__)
def test_loss_is_the_monte_carlo_estimate_by_hand(make: type[ComposedLaw]):
    """log p - log q at the teacher's draw, averaged over the batch; gradients of the student's parameters too."""
    teacher, student = make(0), make(1)
    copies = torch.zeros(12)
    loss: Any = dgm.compile(dgm.pair(teacher.model, student.model, model_args=(copies,), targets="x"))
    noise = loss.sample_noise(copies, generator=seeds.generator(2))
    x = dgm.compile(dgm.trace(teacher.model, (copies,), targets="x"))(copies, noise=noise)["x"].detach()
    expected = (teacher.log_prob(x).detach() - student.log_prob(x)).mean()
    found = loss(copies, noise=noise).total
    assert expected.abs() > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    ours, theirs = (
        torch.autograd.grad(total, list(student.parameters()), allow_unused=True, materialize_grads=True)
        for total in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


WITHOUT_DENSITY = ("HeavyTailed.model",)


@pytest.mark.parametrize(
    "program", [p for p in programs.PROGRAMS if p.label not in WITHOUT_DENSITY], ids=lambda program: program.label
)
def test_a_program_differs_from_itself_by_nothing(program: Program):
    torch.set_default_dtype(torch.float32)
    loss: Any = dgm.compile(dgm.pair(program.model, program.model, model_args=program.args), latent_weight=0.5)
    out = loss(*program.args)
    assert out.surrogate or out.latent
    assert abs(float(out.total.detach())) < 1e-5


def test_a_linear_model_of_other_noise_has_no_divergence():
    torch.set_default_dtype(torch.float32)
    (program,) = (p for p in programs.PROGRAMS if p.label == "HeavyTailed.model")
    with pytest.raises(dgm.CompileError, match="there is no kl from LinearHMM"):
        dgm.compile(dgm.pair(program.model, program.model, model_args=program.args))


def test_a_linear_model_of_normal_noise_is_compared_with_a_gaussian_one():
    """Of other families, at one value: here of the same law, so that the loss is 0."""
    law = LinearLaw()

    def gaussian(copies: Tensor) -> None:
        steps = [dist.transforms.ExpTransform()]
        with pyro.plate("copies", len(copies)):
            pyro.sample("x", dist.TransformedDistribution(dist.GaussianHMM(*law.parts()), steps))

    loss: Any = dgm.compile(dgm.pair(law.model, gaussian, model_args=(torch.zeros(3),), targets="x"))
    assert abs(float(loss(torch.zeros(5)).total.detach())) < 1e-9


def test_mixtures_of_different_size_are_compared():
    """A target needs no noise of the student's."""

    def model_of(count: int) -> Any:
        def model(copies: Tensor) -> None:
            components = dist.Normal(torch.arange(float(count)), 1.0)
            with pyro.plate("copies", len(copies)):
                pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.ones(count)), components), obs=copies)

        return model

    loss: Any = dgm.compile(dgm.pair(model_of(2), model_of(3), model_args=(torch.zeros(3),)))
    assert loss(torch.zeros(500)).total > 0.01


def test_gate_of_a_base_with_a_density_counts_alone_at_zero():
    """The divergence of two gates, where the bases are the same: that of two coins."""

    def model_of(gate: float) -> Any:
        def model(copies: Tensor) -> None:
            with pyro.plate("copies", len(copies)):
                pyro.sample("x", dist.ZeroInflatedDistribution(dist.Normal(0.0, 1.0), gate=torch.tensor(gate)))

        return model

    loss: Any = dgm.compile(dgm.pair(model_of(0.5), model_of(0.2), model_args=(torch.zeros(3),), targets="x"))
    torch.manual_seed(0)
    n = 20_000
    expected = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    spread = 0.5 * abs(math.log(0.5 / 0.2) - math.log(0.5 / 0.8))
    assert abs(float(loss(torch.zeros(n)).total.detach()) - expected) < 5 * spread / math.sqrt(n)


def test_log_density_of_states_reads_as_what_it_is():
    """Names of the nodes that a loss is made of."""
    graph = dgm.pair(SwitchingNumbers(0).model, SwitchingNumbers(1).model, model_args=(torch.zeros(3),), targets="x")
    source = dgm.compile(graph).source
    assert "discrete_hmm_log_prob(" in source
    assert "surrogate_x_teacher_log_prob_observations" in source
