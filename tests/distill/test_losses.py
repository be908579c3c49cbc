"""Terms: batch and plates, masks and scales, options, estimates; what is computed, and what is refused."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import transforms as T
from torch import Tensor

import dgmcompile as dgm
from dgmcompile import pipeline
from dgmcompile.diagnostics import CompileError
from dgmcompile.distill.losses import LossOptions
from dgmcompile.ir.graph import Call, Constant

B, D, P = 4, 3, 5
X = torch.linspace(-1, 1, B * D).reshape(B, D)


def loss_of(teacher: Any, student: Any, *args: Any, method: Any = "surrogate", **options: Any) -> Any:
    return dgm.compile(dgm.pair(teacher, student, method=method, model_args=args or (X,)), **options)


def both(program: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two models that differ in a number: ``program(x, c)`` at c = 0 and c = 1."""
    return (lambda x: program(x, 0.0)), (lambda x: program(x, 1.0))


def gap(loc: Tensor) -> Tensor:
    """KL of two normals of scale 1 that are 1 apart, of this shape."""
    return torch.full_like(loc, 0.5)


# --- the reduction -----------------------------------------------------------------------------------------


def events(x: Tensor, c: float) -> None:
    with pyro.plate("batch", len(x)):
        pyro.sample("y", dist.Normal(x + c, 1.0).to_event(1))


def test_events_are_summed_and_the_batch_averaged():
    loss = loss_of(*both(events))
    assert loss(X).total.item() == pytest.approx(0.5 * D)
    assert loss(torch.zeros(9, D)).total.item() == pytest.approx(0.5 * D)


def test_a_mean_over_the_event():
    assert loss_of(*both(events), reduction="mean")(X).total.item() == pytest.approx(0.5)


def test_a_mean_leaves_dims_that_the_family_takes_as_one():
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.MultivariateNormal(x + c, torch.eye(D)))

    assert loss_of(*both(program), reduction="mean")(X).total.item() == pytest.approx(0.5 * D)


def nested(x: Tensor, c: float) -> None:
    with pyro.plate("batch", len(x), dim=-2), pyro.plate("part", D, dim=-1):
        pyro.sample("y", dist.Normal(x + c, 1.0))


def test_other_plates_are_summed():
    assert loss_of(*both(nested))(X).total.item() == pytest.approx(0.5 * D)
    assert loss_of(*both(nested), reduction="mean")(X).total.item() == pytest.approx(0.5 * D)


def outside(x: Tensor, c: float) -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(P) + c, 1.0).to_event(1))
    with pyro.plate("batch", len(x)):
        pyro.sample("y", dist.Normal(x[:, 0] + w.sum(), 1.0))


def test_sites_outside_the_batch_are_not_averaged():
    out = loss_of(*both(outside), latent_weight=1)(X)
    assert out.latent["w"].item() == pytest.approx(0.5 * P)
    assert out.surrogate["y"].item() == pytest.approx(0.5 * P**2)


def repeated(x: Tensor, c: float) -> None:
    loc = torch.zeros(D) + c
    with pyro.plate("copies", 2, dim=-2), pyro.plate("batch", len(x), dim=-1):
        pyro.sample("y", dist.Normal(loc, 1.0).expand([2, len(x), D]).to_event(1))


def test_parameters_without_plates_count_as_often_as_they_are_used():
    graph = pipeline.loss_graph(dgm.pair(*both(repeated), model_args=(X,)))
    assert dgm.compile(dgm.pair(*both(repeated), model_args=(X,)))(X).total.item() == pytest.approx(0.5 * D * B)
    assert not any(isinstance(node, Call) and node.target_name.endswith("expand") for node in graph)


def test_without_plates_the_batch_leads_the_arguments():
    def program(x: Tensor, c: float) -> None:
        pyro.sample("y", dist.Normal(x + c, 1.0))
        pyro.sample("v", dist.Normal(torch.zeros(7) + c, 1.0))

    out = loss_of(*both(program))(X)
    assert out.surrogate["y"].item() == pytest.approx(0.5 * D)
    assert out.surrogate["v"].item() == pytest.approx(0.5 * 7)


def test_an_event_is_summed_even_if_it_leads_the_arguments():
    def program(x: Tensor, c: float) -> None:
        pyro.sample("y", dist.Normal(x + c, 1.0).to_event(1))

    assert loss_of(*both(program), X[:, 0])(X[:, 0]).total.item() == pytest.approx(0.5 * B)


# --- masks, scales, transforms ------------------------------------------------------------------------------


def test_a_mask_multiplies_the_term():
    mask = torch.tensor([True, False, True, True])

    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)), poutine.mask(mask=x[:, 0] > x[1, 0]):
            pyro.sample("y", dist.Normal(x + c, 1.0).to_event(1))
            pyro.sample("v", dist.Normal(torch.zeros(()) + c, 1.0))

    out = loss_of(*both(program))(X)
    kept = (X[:, 0] > X[1, 0]).sum().item() / B
    assert mask.shape == (B,) and 0 < kept < 1
    assert out.surrogate["y"].item() == pytest.approx(0.5 * D * kept)
    assert out.surrogate["v"].item() == pytest.approx(0.5 * kept)


def test_a_mask_that_is_false_leaves_nothing():
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)), poutine.mask(mask=False):
            pyro.sample("y", dist.Normal(x + c, 1.0).to_event(1))

    assert loss_of(*both(program))(X).total == 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_scale_multiplies_the_term(reduction: Any):
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)), poutine.scale(scale=3.0):
            pyro.sample("y", dist.Normal(x + c, 1.0).to_event(1))
            with poutine.scale(scale=x[:, 0].exp()):
                pyro.sample("v", dist.Normal(x + c, 1.0).to_event(1))

    out = loss_of(*both(program), reduction=reduction)(X)
    per_element = 0.5 * (D if reduction == "sum" else 1)
    assert out.surrogate["y"].item() == pytest.approx(3 * per_element)
    assert out.surrogate["v"].item() == pytest.approx(3 * per_element * X[:, 0].exp().mean().item())


def transformed(steps: Callable[[float], list[Any]]) -> Callable[[Tensor, float], None]:
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            law = dist.TransformedDistribution(dist.Normal(x + c, 1.0), steps(c))
            pyro.sample("y", law.to_event(1))

    return program


def test_equal_bijections_have_the_divergence_of_their_bases():
    graph_of = transformed(lambda c: [T.AffineTransform(2.0, torch.tensor(3.0)), T.SigmoidTransform()])
    pair = dgm.pair(*both(graph_of), model_args=(X,))
    assert dgm.compile(pair)(X).total.item() == pytest.approx(0.5 * D)
    assert "y_noise" not in pipeline.loss_graph(pair).noises


@pytest.mark.parametrize(
    "steps", [lambda c: [T.AffineTransform(c, 2.0)], lambda c: [T.ExpTransform(), T.AffineTransform(0.0, 1 + c)]]
)
def test_other_bijections_are_compared_at_the_teachers_sample(steps: Any):
    def law(x: Tensor, c: float) -> Any:
        return dist.TransformedDistribution(dist.Normal(x + c, 1.0), steps(c)).to_event(1)

    loss = loss_of(*both(transformed(steps)))
    noise = loss.sample_noise(X)
    y = X + noise["y_noise"]
    for step in steps(0.0):
        y = step(y)
    by_hand = (law(X, 0.0).log_prob(y) - law(X, 1.0).log_prob(y)).mean()
    torch.testing.assert_close(loss(X, noise=noise).total, by_hand)


def test_what_is_not_one_to_one_is_refused():
    """|x| and |x + 1| are no bijections of their bases: KL of the bases is only a bound."""
    with pytest.raises(CompileError, match="no-divergence"):
        loss_of(*both(transformed(lambda c: [T.AbsTransform()])))


def drawn_from(law: Callable[[int], Any]) -> Callable[[Tensor], None]:
    """A program of one target, which has so many batch elements as the argument."""

    def program(x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("y", law(len(x)))

    return program


def poissons(n: int) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(n, 2)), dist.Poisson(torch.tensor([1.0, 5.0])))


def spike(n: int) -> Any:
    return dist.ZeroInflatedDistribution(dist.Normal(torch.zeros(n), 1.0), gate=torch.tensor(0.3))


def on_simplex(n: int) -> Any:
    base = dist.Normal(torch.zeros(n, 2), 1.0).to_event(1)
    return dist.TransformedDistribution(base, [T.StickBreakingTransform()])


def twice(n: int) -> Any:
    return dist.TransformedDistribution(dist.Poisson(torch.full((n,), 3.0)), [T.AffineTransform(0.0, 2.0)])


def either(n: int) -> Any:
    return dist.MaskedMixture(torch.ones(n) == 1, dist.Normal(torch.zeros(n), 1.0), dist.Poisson(torch.ones(n)))


def normal(n: int) -> Any:
    return dist.Normal(torch.zeros(n), 3.0)


def vector(n: int) -> Any:
    return dist.Normal(torch.zeros(n, 3), 1.0).to_event(1)


def angle(n: int) -> Any:
    return dist.VonMises(torch.zeros(n), 2.0)


def count(n: int) -> Any:
    return dist.Poisson(torch.full((n,), 6.0))


INCOMPARABLE = [(poissons, normal), (spike, normal), (on_simplex, vector), (twice, count), (either, normal)]


@pytest.mark.parametrize(("one", "other"), INCOMPARABLE, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js"])
def test_densities_per_unit_of_different_things_are_not_compared(one: Any, other: Any, name: str):
    """An estimate would be a finite number, and the mean of it no divergence of these laws: it may be below 0."""
    for pair in ((one, other), (other, one)):
        with pytest.raises(CompileError, match=f"there is no {name} from"):
            loss_of(*map(drawn_from, pair), divergence=name)


def ordered(cutpoints: int) -> Callable[[int], Any]:
    return lambda n: dist.OrderedLogistic(torch.zeros(n), torch.arange(float(cutpoints)))


def labels(count: int) -> Callable[[int], Any]:
    return lambda n: dist.Categorical(logits=torch.arange(float(count)).expand(n, count))


def test_ordered_labels_are_compared_with_any():
    p, q = ordered(2)(1), labels(3)(1)
    exact = (p.probs * (p.probs / q.probs).log()).sum().item()
    assert loss_of(drawn_from(ordered(2)), drawn_from(labels(3)))(X).total.item() == pytest.approx(exact, rel=1e-5)
    exact = (q.probs * (q.probs / p.probs).log()).sum().item()
    assert loss_of(drawn_from(labels(3)), drawn_from(ordered(2)))(X).total.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("pair", [(ordered(3), ordered(1)), (ordered(3), labels(3)), (labels(1), ordered(1))])
def test_laws_of_other_labels_are_not_compared(pair: tuple[Any, Any]):
    with pytest.raises(CompileError, match=r"they have [0-9] and [0-9] labels"):
        loss_of(*map(drawn_from, pair))


def test_stored_vectors_are_compared_once():
    """Not once for each of their coordinates."""
    samples = torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [5.0, 5.0]])

    def stored(weights: Tensor) -> Callable[[int], Any]:
        return lambda n: dist.Empirical(samples.expand(n, 4, 2), weights.expand(n, 4))

    weights = torch.tensor([0.3, 1.0, -0.5, 0.0]), torch.tensor([1.0, 0.0, -0.5, 0.7])
    p, q = (torch.stack([w[0] + w[2], w[1], w[3]]) for w in (x.softmax(-1) for x in weights))
    loss = loss_of(*(drawn_from(stored(w)) for w in weights))
    assert loss(torch.zeros(20_000, D)).total.item() == pytest.approx((p * (p / q).log()).sum().item(), abs=0.03)


def test_grouped_values_are_compared_once():
    group = torch.tensor([0, 1, 1])

    def program(x: Tensor, c: float) -> None:
        pyro.sample("y", dist.GroupedNormalNormal(torch.zeros(2) + c, torch.ones(2), torch.ones(3), group))

    loss = loss_of(*both(program))
    noise = loss.sample_noise(X)
    y = noise["y_noise"][group] + noise["y_noise_1"]
    p, q = (dist.GroupedNormalNormal(torch.full((2,), c), torch.ones(2), torch.ones(3), group) for c in (0.0, 1.0))
    torch.testing.assert_close(loss(X, noise=noise).total, p.log_prob(y) - q.log_prob(y))


def test_angles_are_reals_and_reals_no_angles():
    """The density of angles is that of any turn: over the line it has no integral."""
    with pytest.raises(CompileError, match="there is no kl from Normal to VonMises"):
        loss_of(drawn_from(normal), drawn_from(angle))
    loss = loss_of(drawn_from(angle), drawn_from(normal))
    turn = torch.linspace(-math.pi, math.pi, 2001)[:-1]
    p, q = dist.VonMises(0.0, 2.0).log_prob(turn), dist.Normal(0.0, 3.0).log_prob(turn)
    exact = (p.exp() * (p - q)).mean() * 2 * math.pi
    assert loss(torch.zeros(20_000, D)).total.item() == pytest.approx(exact.item(), abs=0.02)


def test_the_cross_entropy_of_stretched_counts_would_depend_on_the_stretch():
    with pytest.raises(CompileError, match="there is no cross_entropy from Poisson"):
        loss_of(drawn_from(twice), drawn_from(twice), divergence="cross_entropy")


def test_simplices_of_two_makes_are_compared():
    """Stick-breaking by a step or by the family itself is one law, at which each estimate is 0."""

    def logistic_normal(n: int) -> Any:
        return dist.LogisticNormal(torch.zeros(n, 2), torch.ones(n, 2))

    assert abs(loss_of(drawn_from(logistic_normal), drawn_from(on_simplex))(X).total.item()) < 1e-5


def test_coalescent_times_are_compared_by_their_densities():
    """With the rate doubled, by log 2 for each time and by the time that pairs of lineages spend."""
    leaves = torch.tensor([0.3, 0.0, 1.5])

    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.CoalescentTimes(leaves, torch.tensor(1.0 + c)))

    loss = loss_of(*both(program))
    assert loss(torch.zeros(20_000, D)).total.item() == pytest.approx(2 * (1 - math.log(2)), abs=0.05)


def test_matchings_are_compared_exactly():
    logits = torch.randn(3, 3)

    def program(x: Tensor, c: float) -> None:
        pyro.sample("y", dist.OneOneMatching(logits + c * logits.mT))

    matchings = torch.tensor(list(itertools.permutations(range(3))))
    p, q = (dist.OneOneMatching(logits + c * logits.mT).log_prob(matchings) for c in (0.0, 1.0))
    assert loss_of(*both(program))(X).total.item() == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-5)


def test_stable_laws_have_no_density_here():
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Stable(1.5, 0.1, 1.0, x[:, 0] + c))

    with pytest.raises(CompileError, match="Stable: its density is an integral, whose peak becomes too narrow"):
        loss_of(*both(program))


def test_simplices_are_compared_by_their_bases():
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            base = dist.Normal(x + c, 1.0).to_event(1)
            pyro.sample("y", dist.TransformedDistribution(base, [T.StickBreakingTransform()]))

    assert loss_of(*both(program))(X).total.item() == pytest.approx(0.5 * D)


# --- options ------------------------------------------------------------------------------------------------


def hierarchy(x: Tensor, c: float) -> None:
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Normal(x + c, 1.0).to_event(1))
        w = pyro.sample("w", dist.Normal(torch.zeros(len(x)) + 2 * c, 1.0))
        pyro.sample("y", dist.Normal(z.sum(-1) + w, 1.0))
        pyro.sample("v", dist.Normal(torch.zeros(len(x)) + c, 1.0 + c))


def test_weights_default_to_a_tenth_of_each_latent_and_all_of_a_local_one():
    surrogate, local = loss_of(*both(hierarchy))(X), loss_of(*both(hierarchy), method="local")(X)
    for out, weight in ((surrogate, 0.1), (local, 1.0)):
        expected = sum(out.surrogate.values()) + weight * sum(out.latent.values())
        torch.testing.assert_close(out.total, expected)


def test_options_are_one_value_or_one_a_site():
    out = loss_of(
        *both(hierarchy),
        latent_weight={"z": 2.0},
        target_weight={"v": 0.0, "y": 3.0},
        divergence={"y": "wasserstein2"},
        reduction={"z": "mean"},
    )(X)
    assert out.surrogate.keys() == {"y"} and out.latent.keys() == {"z", "w"}
    assert out.surrogate["y"].item() == pytest.approx((D + 2) ** 2)
    assert out.latent["z"].item() == pytest.approx(0.5)
    torch.testing.assert_close(out.total, 3 * out.surrogate["y"] + 2 * out.latent["z"] + 0.1 * out.latent["w"])


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "wasserstein2", "cross_entropy"])
def test_divergences_by_name(name: str):
    out = loss_of(*both(hierarchy), divergence=name, latent_weight=0)(X)
    p, q = dist.Normal(0.0, 1.0), dist.Normal(1.0, 2.0)
    kl = torch.distributions.kl_divergence
    expected = {
        "kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "wasserstein2": torch.tensor(2.0),
        "cross_entropy": kl(p, q) + p.entropy(),
    }
    torch.testing.assert_close(out.surrogate["v"], expected[name])


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"latent_weight": {"q": 1.0}}, "unknown-site", "'q' is no site"),
        ({"latent_weight": {"y": 1.0}}, "loss-option", "its weight is target_weight"),
        ({"target_weight": {"z": 1.0}}, "loss-option", "its weight is latent_weight"),
        ({"latent_weight": -1.0}, "loss-option", "-1.0"),
        ({"target_weight": float("nan")}, "loss-option", "nan"),
        ({"divergence": "hellinger"}, "unknown-divergence", "kl, reverse_kl"),
        ({"divergence": {"y": "KL"}}, "unknown-divergence", "'KL'"),
        ({"reduction": "max"}, "loss-option", "'max'"),
        ({"temperature": 2.0}, "loss-option", "cross_entropy"),
        ({"temperature": {"y": 2.0}, "divergence": "cross_entropy"}, "loss-option", "'y'"),
        ({"temperature": 0.0}, "loss-option", "above 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], code: str, said: str):
    with pytest.raises(CompileError) as error:
        loss_of(*both(hierarchy), **options)
    assert {d.code for d in error.value.diagnostics} == {code}
    assert said in str(error.value)


def test_all_problems_are_reported_at_once():
    def points(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            h = pyro.sample("h", dist.Delta(x[:, 0] + c))
            pyro.sample("y", dist.Delta(h), obs=x[:, 1])

    with pytest.raises(CompileError) as error:
        loss_of(*both(points))
    assert [d.code for d in error.value.diagnostics] == ["no-divergence"] * 2
    assert "wasserstein2 compares deterministic sites" in str(error.value)


# --- what is computed ---------------------------------------------------------------------------------------


def prior(x: Tensor, c: float) -> None:
    with pyro.plate("batch", len(x)):
        top = x.new_zeros(len(x), 2)
        z = pyro.sample("z", dist.Normal(top, torch.ones_like(top)).to_event(1))
        pyro.sample("y", dist.Normal(z.sum(-1) + c, 1.0))


def test_one_law_in_both_models_is_no_computation():
    graph = pipeline.loss_graph(dgm.pair(*both(prior), model_args=(X,)))
    node = graph[graph.outputs["latent.z"]]
    assert isinstance(node, Constant) and node.value == 0
    assert not graph.users(node.name)
    assert graph.outputs["total"] == graph.outputs["surrogate.y"]
    out = dgm.compile(dgm.pair(*both(prior), model_args=(X,)))(X)
    assert out.latent["z"] == 0 and out.total.item() == pytest.approx(0.5)


def test_the_entropy_of_one_law_is_computed():
    out = loss_of(*both(prior), divergence="cross_entropy")(X)
    assert out.latent["z"].item() == pytest.approx(2 * dist.Normal(0.0, 1.0).entropy().item())


def test_models_that_are_equal_have_the_loss_0():
    loss = loss_of(lambda x: prior(x, 0.0), lambda x: prior(x, 0.0))
    out = loss(X)
    assert out.total == 0 and out.surrogate["y"] == 0 and out.latent["z"] == 0


def test_a_loss_is_few_calls():
    """Of a term: its divergence and a mean, or a sum and a quotient; of the total: additions, one product a weight."""
    pair = dgm.pair(*both(hierarchy), model_args=(X,))
    graph = pipeline.loss_graph(pair)
    words = [node.target_name.rpartition(".")[2] for node in graph if node.name.startswith(("latent", "surrogate"))]
    words += [node.target_name.rpartition(".")[2] for node in graph if node.name == "total"]
    assert sorted(words) == sorted(
        ["kl_normal", "sum", "div"]  # z
        + ["kl_normal", "mean"] * 3  # w, y, v
        + ["add", "add", "__rmul__", "add"]
    )


def test_the_loss_lists_its_terms_by_kind():
    graph = pipeline.loss_graph(dgm.pair(*both(hierarchy), model_args=(X,)), LossOptions(latent_weight={"w": 0.0}))
    assert list(graph.outputs) == ["latent.z", "surrogate.y", "surrogate.v", "total"]


@pytest.mark.parametrize("law", [dist.Multinomial, dist.DirichletMultinomial], ids=lambda law: law.__name__)
def test_counts_of_other_totals_are_infinitely_far_apart(law: Any):
    def model(first: float, total: int) -> Any:
        return lambda: pyro.sample("n", law(torch.tensor([first, 2.0]), total_count=total))

    if law is dist.Multinomial:
        law = lambda probs, total_count: dist.Multinomial(total_count, probs)  # noqa: E731
    loss = dgm.compile(dgm.pair(model(1.0, 5), model(1.0, 9), targets="all"))
    assert loss().total == torch.inf
    assert dgm.compile(dgm.pair(model(1.0, 5), model(1.0, 5), targets="all"))().total == 0
