"""What must hold of the losses (DESIGN, section 1), exactly: every expectation is a finite sum or in closed form.

A loss is a function of its noise. Where noise only decides between finitely many values, its range falls into
boxes on which the loss is constant; where the loss is a polynomial of normal noise, a quadrature rule is exact.
Boxes or nodes are the batch, and their probabilities weigh the terms (`poutine.scale`).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

import dgmcompile as dgm

DRAWS = 200


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


class Tables(PyroModule):
    """A model whose parameters are tables of these shapes, to be drawn anew; ``body`` draws its sites."""

    def __init__(self, body: Callable[..., None], shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.body = body
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.zeros(shape)))

    def forward(self, weight: Tensor) -> None:
        with pyro.plate("box", len(weight)), poutine.scale(scale=weight):
            self.body(self)

    def draw(self, scale: float = 1.5) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(scale * torch.randn_like(parameter))


def coin(name: str, logits: Tensor, observed: bool = False) -> Tensor:
    return pyro.sample(name, dist.Bernoulli(logits=logits), obs=torch.tensor(0.0) if observed else None).long()


def two_coins(m: Any) -> None:
    """z1 -> z2, (z1, z2) -> y1, (y1, z2) -> y2."""
    z1 = pyro.sample("z1", dist.Bernoulli(logits=m.a)).long()
    z2 = coin("z2", m.b[z1])
    y1 = coin("y1", m.c[z1, z2], observed=True)
    coin("y2", m.d[y1, z2], observed=True)


TWO_COINS = {"a": (), "b": (2,), "c": (2, 2), "d": (2, 2)}


def chain(m: Any) -> None:
    """y1 -> y2 -> y3, no latents."""
    y1 = pyro.sample("y1", dist.Bernoulli(logits=m.a), obs=torch.tensor(0.0)).long()
    y2 = coin("y2", m.b[y1], observed=True)
    coin("y3", m.c[y1, y2], observed=True)


CHAIN = {"a": (), "b": (2,), "c": (2, 2)}


def probability(logits: Tensor, value: int) -> Tensor:
    return torch.sigmoid(logits if value else -logits)


def joint_of_two_coins(m: Any) -> Tensor:
    """p(y1, y2), the latents summed out."""
    joint = torch.zeros(2, 2)
    for z1, z2, y1, y2 in itertools.product((0, 1), repeat=4):
        latents = probability(m.a, z1) * probability(m.b[z1], z2)
        joint[y1, y2] += latents * probability(m.c[z1, z2], y1) * probability(m.d[y1, z2], y2)
    return joint


def joint_of_chain(m: Any) -> Tensor:
    joint = torch.zeros(2, 2, 2)
    for y1, y2, y3 in itertools.product((0, 1), repeat=3):
        joint[y1, y2, y3] = probability(m.a, y1) * probability(m.b[y1], y2) * probability(m.c[y1, y2], y3)
    return joint


def kl(p: Tensor, q: Tensor) -> float:
    return float((p * (p / q).log()).sum().detach())


def boxes(thresholds: Mapping[str, Sequence[Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
    """(noise in the middle of each box, the boxes' probabilities), for uniforms that are compared with logits."""
    middles, widths = [], []
    for cuts in thresholds.values():
        ends = torch.cat([torch.zeros(1), torch.cat([1 - torch.sigmoid(c).flatten() for c in cuts]), torch.ones(1)])
        ends = ends.sort().values
        middles.append((ends[1:] + ends[:-1]) / 2)
        widths.append(ends[1:] - ends[:-1])
    grid = torch.cartesian_prod(*middles).reshape(-1, len(middles))
    weight = torch.cartesian_prod(*widths).reshape(-1, len(widths)).prod(-1)
    keep = weight > 0
    return {f"{name}_noise": grid[keep, i] for i, name in enumerate(thresholds)}, weight[keep]


def expected(loss: Any, noise: Mapping[str, Tensor], weight: Tensor) -> Any:
    """Each term's expectation: a mean over boxes of weighted values, times their number."""
    out = loss(weight, noise={name: value for name, value in noise.items() if name in loss.sample_noise(weight)})
    return out.total * len(weight), {name: term * len(weight) for name, term in {**out.surrogate, **out.latent}.items()}


def compiled(teacher: Any, student: Any, method: Any = "surrogate", **options: Any) -> Any:
    return dgm.compile(dgm.pair(teacher, student, method=method, model_args=(torch.ones(5),)), **options)


@pytest.fixture
def two_machines() -> tuple[Tables, Tables]:
    return Tables(two_coins, TWO_COINS), Tables(two_coins, TWO_COINS)


def random_draws(*models: Tables) -> Iterator[int]:
    torch.manual_seed(0)
    for i in range(DRAWS):
        for model in models:
            model.draw()
        yield i


def test_the_surrogate_bounds_the_divergence_of_the_marginals(two_machines: tuple[Tables, Tables]):
    teacher, student = two_machines
    loss = compiled(teacher, student, latent_weight=0)
    gaps = []
    for _ in random_draws(*two_machines):
        cuts = {
            "z1": [teacher.a, student.a],
            "z2": [teacher.b, student.b],
            "y1": [teacher.c],
        }
        total, _ = expected(loss, *boxes(cuts))
        gaps.append(total.item() - kl(joint_of_two_coins(teacher), joint_of_two_coins(student)))
    assert len(gaps) == DRAWS and min(gaps) > -1e-12
    assert max(gaps) > 0.1  # the bound is no equality here


def test_without_latents_the_surrogate_is_the_divergence():
    teacher, student = Tables(chain, CHAIN), Tables(chain, CHAIN)
    loss = compiled(teacher, student)
    for _ in random_draws(teacher, student):
        total, _ = expected(loss, *boxes({"y1": [teacher.a], "y2": [teacher.b]}))
        assert total.item() == pytest.approx(kl(joint_of_chain(teacher), joint_of_chain(student)), abs=1e-12)


def test_local_terms_are_the_divergence_of_the_joint_laws(two_machines: tuple[Tables, Tables]):
    """Bound to the teacher's latents, all terms together are the chain rule of KL over latents and targets."""
    teacher, student = two_machines
    loss = compiled(teacher, student, method="local")

    def joint(m: Any) -> Tensor:
        table = torch.zeros(2, 2, 2, 2)
        for z1, z2, y1, y2 in itertools.product((0, 1), repeat=4):
            latents = probability(m.a, z1) * probability(m.b[z1], z2)
            table[z1, z2, y1, y2] = latents * probability(m.c[z1, z2], y1) * probability(m.d[y1, z2], y2)
        return table

    for _ in random_draws(*two_machines):
        total, _ = expected(loss, *boxes({"z1": [teacher.a], "z2": [teacher.b], "y1": [teacher.c]}))
        assert total.item() == pytest.approx(kl(joint(teacher), joint(student)), abs=1e-12)


def test_the_marginalised_loss_is_the_divergence_of_the_marginals(two_machines: tuple[Tables, Tables]):
    teacher, student = two_machines
    pair = dgm.pair(*map(unweighted, two_machines), method="marginalised")
    loss: Any = dgm.compile(pair)
    surrogate = compiled(teacher, student, latent_weight=0)
    for _ in random_draws(*two_machines):
        out = loss()
        assert out.surrogate.keys() == {"y1, y2"}
        assert out.total.item() == pytest.approx(
            kl(joint_of_two_coins(teacher), joint_of_two_coins(student)), abs=1e-12
        )
        cuts = {"z1": [teacher.a, student.a], "z2": [teacher.b, student.b], "y1": [teacher.c]}
        assert out.total.item() <= expected(surrogate, *boxes(cuts))[0].item() + 1e-12


def unweighted(model: Tables) -> Callable[[], None]:
    return lambda: model.body(model)


# --- categorical: the difference of two Gumbels is logistic ---------------------------------------------


def test_the_bound_holds_for_two_classes():
    def body(m: Any) -> None:
        z = pyro.sample("z", dist.Categorical(logits=m.a))
        pyro.sample("y", dist.Categorical(logits=m.b[z]), obs=torch.tensor(0))

    shapes = {"a": (2,), "b": (2, 3)}
    teacher, student = Tables(body, shapes), Tables(body, shapes)
    loss = compiled(teacher, student, latent_weight=0)
    gaps = []
    for _ in random_draws(teacher, student):
        cuts = torch.stack([m.a[1] - m.a[0] for m in (teacher, student)]).sort().values
        ends = torch.cat([cuts[:1] - 1, cuts.mean().reshape(1), cuts[1:] + 1])  # log e1 - log e0, one in each box
        cdf = torch.cat([torch.zeros(1), torch.sigmoid(cuts), torch.ones(1)])
        noise = torch.stack([torch.ones(3), ends.exp()], -1)
        total, _ = expected(loss, {"z_noise": noise}, cdf[1:] - cdf[:-1])
        p, q = (torch.softmax(m.a, -1) @ torch.softmax(m.b, -1) for m in (teacher, student))
        gaps.append(total.item() - kl(p, q))
    assert min(gaps) > -1e-12 and max(gaps) > 0.05


# --- linear-Gaussian -----------------------------------------------------------------------------------


def linear(m: Any) -> None:
    z = pyro.sample("z", dist.Normal(m.loc, m.scale.exp()))
    pyro.sample("y", dist.Normal(m.slope * z + m.shift, m.noise.exp()), obs=torch.tensor(0.0))


LINEAR = dict.fromkeys(("loc", "scale", "slope", "shift", "noise"), ())


def test_linear_gaussian_models_in_closed_form():
    teacher, student = Tables(linear, LINEAR), Tables(linear, LINEAR)
    loss = compiled(teacher, student, latent_weight=1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weight = torch.tensor(weights / weights.sum())
    for _ in random_draws(teacher, student):
        _, terms = expected(loss, {"z_noise": torch.tensor(nodes)}, weight)
        (m, s, a, b, t), (n, r, c, d, u) = (
            (x.loc.item(), x.scale.exp().item(), x.slope.item(), x.shift.item(), x.noise.exp().item())
            for x in (teacher, student)
        )
        gap = (a * m + b - c * n - d) ** 2 + (a * s - c * r) ** 2  # of the means of y, on average over the noise
        assert terms["y"].item() == pytest.approx(gaussian_kl(t**2, gap, u**2), rel=1e-9)
        assert terms["z"].item() == pytest.approx(gaussian_kl(s**2, (m - n) ** 2, r**2), rel=1e-9)
        marginal = gaussian_kl((a * s) ** 2 + t**2, (a * m + b - c * n - d) ** 2, (c * r) ** 2 + u**2)
        assert terms["y"].item() >= marginal - 1e-12


def gaussian_kl(p_variance: float, squared_gap: float, q_variance: float) -> float:
    ratio = p_variance / q_variance
    return 0.5 * (ratio + squared_gap / q_variance - 1 - math.log(ratio))


# --- known methods as special cases ----------------------------------------------------------------------


class Classifier(PyroModule):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 4))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Categorical(logits=self.net(x)), obs=torch.zeros(len(x), dtype=torch.long))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_one_target_is_vanilla_distillation(temperature: float):
    """Hinton, Vinyals & Dean 2015: soft labels at a temperature."""
    teacher, student, x = Classifier(8), Classifier(2), torch.randn(6, 3)
    loss: Any = dgm.compile(
        dgm.pair(teacher, student, model_args=(x,)), divergence="cross_entropy", temperature=temperature
    )
    x = torch.randn(9, 3)
    soft = torch.softmax(teacher.net(x).detach() / temperature, -1)
    by_hand = -(temperature**2) * (soft * F.log_softmax(student.net(x) / temperature, -1)).sum(-1).mean()
    assert_same_step(loss(x).total, by_hand, student)


def test_one_target_is_the_divergence_of_the_predictions():
    teacher, student, x = Classifier(8), Classifier(2), torch.randn(6, 3)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(x,)))
    log_probs = [F.log_softmax(m.net(x), -1) for m in (student, teacher)]
    by_hand = F.kl_div(log_probs[0], log_probs[1].detach(), reduction="batchmean", log_target=True)
    assert_same_step(loss(x).total, by_hand, student)


def assert_same_step(found: Tensor, by_hand: Tensor, student: nn.Module) -> None:
    torch.testing.assert_close(found, by_hand)
    leaves = list(student.parameters())
    torch.testing.assert_close(torch.autograd.grad(found, leaves), torch.autograd.grad(by_hand, leaves))


class Decoder(PyroModule):
    """An autoregressive chain of five tokens."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(6, hidden), nn.GRUCell(hidden, hidden)
        self.logits, self.start = nn.Linear(hidden, 6), nn.Linear(3, hidden)

    def forward(self, x: Tensor) -> None:
        h = self.start(x)
        with pyro.plate("batch", len(x)):
            for t in range(5):
                y = pyro.sample(f"y_{t}", dist.Categorical(logits=self.logits(h)), obs=torch.zeros(len(x)).long())
                h = self.cell(self.embed(y), h)


def test_a_chain_of_targets_is_sequence_level_distillation():
    """Kim & Rush 2016, word by word along the teacher's own samples."""
    teacher, student, x = Decoder(7), Decoder(3), torch.randn(4, 3)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(x,)))
    noise = loss.sample_noise(x)
    by_hand = torch.zeros(())
    p, q = teacher.start(x), student.start(x)
    for t in range(5):
        p_log, q_log = F.log_softmax(teacher.logits(p).detach(), -1), F.log_softmax(student.logits(q), -1)
        by_hand = by_hand + F.kl_div(q_log, p_log, reduction="batchmean", log_target=True)
        if t < 4:
            y = (p_log - noise[f"y_{t}_noise"].log()).argmax(-1)
            p, q = teacher.cell(teacher.embed(y), p), student.cell(student.embed(y), q)
    assert_same_step(loss(x, noise=noise).total, by_hand, student)


class Features(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            h = pyro.sample("h", dist.Delta(torch.tanh(self.first(x))).to_event(1))
            pyro.sample("y", dist.Normal(self.second(h), 1.0).to_event(1), obs=torch.zeros(len(x), 2))


def test_deterministic_latents_are_feature_distillation():
    teacher, student, x = Features(), Features(), torch.randn(6, 3)
    pair = dgm.pair(teacher, student, model_args=(x,))
    loss: Any = dgm.compile(pair, divergence={"h": "wasserstein2"}, latent_weight=0.7)
    p, q = (torch.tanh(m.first(x)) for m in (teacher, student))
    features = (p.detach() - q).square().sum(-1).mean()
    outputs = 0.5 * (teacher.second(p).detach() - student.second(q)).square().sum(-1).mean()
    assert_same_step(loss(x).total, outputs + 0.7 * features, student)


class Generator(PyroModule):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def forward(self, batch_size: int) -> None:
        with pyro.plate("batch", batch_size):
            z = pyro.sample("z", dist.Normal(torch.zeros(batch_size, 4), 1.0).to_event(1))
            pyro.sample("x", dist.Delta(self.net(z)).to_event(1), obs=torch.zeros(batch_size, 3))


def test_a_deterministic_target_without_input_is_gan_distillation():
    teacher, student = Generator(8), Generator(3)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(5,)), divergence="wasserstein2")
    noise = loss.sample_noise(7)
    z = noise["z_noise"]
    assert z.shape == (7, 4)
    by_hand = (teacher.net(z).detach() - student.net(z)).square().sum(-1).mean()
    out = loss(7, noise=noise)
    assert out.latent["z"] == 0
    assert_same_step(out.total, by_hand, student)


# --- gradients ---------------------------------------------------------------------------------------------


def test_no_gradient_passes_a_discrete_latent_and_its_own_term_has_one(two_machines: tuple[Tables, Tables]):
    teacher, student = two_machines
    for _ in random_draws(teacher, student):
        break
    loss = compiled(teacher, student, latent_weight=1)
    weight = torch.ones(64)
    out = loss(weight)
    out.surrogate["y1"].backward(retain_graph=True)
    out.surrogate["y2"].backward(retain_graph=True)
    assert student.a.grad is None or student.a.grad == 0
    assert student.b.grad is None or (student.b.grad == 0).all()
    assert student.c.grad.abs().min() > 0 and student.d.grad.abs().min() > 0
    (out.latent["z1"] + out.latent["z2"]).backward()
    assert student.a.grad != 0 and student.b.grad.abs().min() > 0
    assert all(p.grad is None for p in teacher.parameters())


def test_the_gradient_passes_a_continuous_latent():
    teacher, student = Tables(linear, LINEAR), Tables(linear, LINEAR)
    for _ in random_draws(teacher, student):
        break
    compiled(teacher, student, latent_weight=0)(torch.ones(64)).total.backward()
    assert student.loc.grad != 0 and student.scale.grad != 0
    assert all(p.grad is None for p in teacher.parameters())


# --- the student is the teacher --------------------------------------------------------------------------


def mixed(m: Any) -> None:
    """Every kind of latent, one after the other."""
    z = pyro.sample("z", dist.Normal(m.a, m.b.exp()))
    w = pyro.sample("w", dist.LogNormal(0.1 * z, m.c.exp()))
    v = pyro.sample("v", dist.Laplace(w, m.b.exp()))
    u = pyro.sample("u", dist.Gumbel(v, m.c.exp()))
    k = pyro.sample("k", dist.Bernoulli(logits=u))
    h = pyro.sample("h", dist.HalfCauchy(torch.ones(())))
    y = pyro.sample("y", dist.Normal(k + 0.01 * h, m.a.exp()), obs=torch.tensor(0.0))
    pyro.sample("x", dist.Exponential(y.exp()), obs=torch.tensor(1.0))


MIXED: dict[str, tuple[int, ...]] = {"a": (), "b": (), "c": ()}


@pytest.mark.parametrize("same_object", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_student_that_is_the_teacher_has_no_loss_and_its_samples(same_object: bool, dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    teacher = Tables(mixed, MIXED)
    student = teacher if same_object else Tables(mixed, MIXED)
    teacher.draw(0.5)
    student.load_state_dict(teacher.state_dict())
    weight = torch.ones(50)
    pair = dgm.pair(teacher, student, model_args=(weight,))
    for divergence in ("kl", "js"):
        out: Any = dgm.compile(pair, divergence={"z": "kl", "k": divergence}, latent_weight=1)(weight)
        assert out.total == 0
        assert {**out.surrogate, **out.latent}.keys() == {"z", "w", "v", "u", "k", "h", "y", "x"}
    first, second = (dgm.compile(dgm.compact(dgm.semi_auxiliary(dgm.trace(m, (weight,))))) for m in (teacher, student))
    noise = first.sample_noise(weight)
    values, others = first(weight, noise=noise), second(weight, noise=noise)
    assert all(torch.equal(values[name], others[name]) for name in ("z", "w", "v", "u", "k", "h"))


def test_a_teacher_that_is_its_own_student_still_trains():
    model = Tables(linear, LINEAR)
    model.draw()
    out = compiled(model, model)(torch.ones(8))
    assert out.total == 0
    out.total.backward()
    assert all(p.grad is not None and p.grad.abs() < 1e-12 for p in model.parameters())
