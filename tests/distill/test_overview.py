"""A pair and its loss as a picture shows them: each term between the two variables that it compares."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.distill.losses import LossOptions, overview
from dgmcompile.report import PairReport
from dgmcompile.viz.picture import Arrow, picture_of

X = torch.randn(5, 3)


def model(shift: float) -> Any:
    def program(x: Tensor) -> None:
        prior = pyro.sample("prior", dist.Normal(torch.zeros(()), 1.0))
        z = pyro.sample("z", dist.Normal(prior + shift, 1.0))
        with pyro.plate("batch", len(x)):
            bit = pyro.sample("bit", dist.Bernoulli(logits=x[:, 0] + z))
            pyro.sample("y", dist.Normal(bit * shift, 1.0), obs=x[:, 1])

    return program


def arrows_of(pair: dgm.PairDGM, **options: Any) -> set[tuple[str, str]]:
    arrows = picture_of(overview(pair, LossOptions(**options))).arrows
    return {(arrow.tail, arrow.head) for arrow in arrows}


def test_each_term_reads_the_variables_that_it_compares():
    pair = dgm.pair(model(0.5), model(-1.0), model_args=(X,))
    found = arrows_of(pair)
    for term, site in [("latent", "z"), ("latent", "bit"), ("surrogate", "y")]:
        into = {tail for tail, head in found if head == f"{term}.{site}"}
        assert into == {f"teacher.{site}", f"student.{site}"}
        assert (f"{term}.{site}", "total") in found


def test_a_term_that_is_always_zero_or_of_weight_zero_is_not_shown():
    pair = dgm.pair(model(0.5), model(-1.0), model_args=(X,))
    assert "latent.prior" not in overview(pair)
    assert "latent.bit" not in overview(pair, LossOptions(latent_weight={"bit": 0.0}))
    alone = overview(pair, LossOptions(latent_weight=0.0))
    assert list(alone.outputs) == ["surrogate.y"], "one term is the whole loss"


def test_of_a_marginalised_pair_all_targets_are_one_term():
    def program(shift: float) -> Any:
        def classes(x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                bit = pyro.sample("bit", dist.Bernoulli(logits=x[:, 0] + shift))
                pyro.sample("a", dist.Normal(bit, 1.0), obs=x[:, 1])
                pyro.sample("b", dist.Normal(bit * shift, 1.0), obs=x[:, 2])

        return classes

    pair = dgm.pair(program(0.5), program(-1.0), model_args=(X,), method="marginalised")
    into = {tail for tail, head in arrows_of(pair) if head == "surrogate.a, b"}
    assert into == {f"{side}.{site}" for side in ("teacher", "student") for site in "ab"}
    assert [row.site for row in PairReport.of(pair, LossOptions()).terms] == ["a", "b"]


def test_a_generators_pair_has_both_models(tmp_path: Any):
    """Its loss needs neither variable: only what the laws are made of."""

    def generator(scale: float) -> Any:
        weight = torch.nn.Parameter(torch.tensor(scale))
        return lambda n: torch.tanh(weight * torch.randn(n, 3))

    pair = dgm.pair(generator(1.0), generator(0.5), model_args=(4,))
    (target,) = {site.name for site in pair.compared if site.role == "target"}
    picture = picture_of(overview(pair))
    assert {box.side for box in picture.boxes} >= {"teacher", "student"}
    assert Arrow(f"teacher.{target}", f"surrogate.{target}") in picture.arrows
    pair.draw(tmp_path / "pair.dot")
    assert f"surrogate.{target}" in (tmp_path / "pair.dot").read_text()


@pytest.mark.parametrize("name", ["total", "surrogate.y"])
def test_names_of_sites_are_data(name: str):
    def program(shift: float) -> Any:
        def named(x: Tensor) -> None:
            z = pyro.sample(name, dist.Normal(shift, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0).expand([len(x)]).to_event(1), obs=x[:, 0])

        return named

    shown = overview(dgm.pair(program(0.5), program(-1.0), model_args=(X,)))
    assert set(shown.outputs) == {f"latent.{name}", "surrogate.y", "total"}
    assert len(set(shown.outputs.values())) == 3
