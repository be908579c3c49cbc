"""Each rule is broken by a graph that breaks it, and by nothing else."""

from __future__ import annotations

import pytest

from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Graph, Noise, Sample, Site
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import parse
from dgmcompile.ir.verify import AUXILIARY, COMPACT, SEMI_AUXILIARY, TRACED, Stage, verify

GOOD = """
    x: float32[batch, 3] = input()
    batch = size(x, 0)
    z_noise: float32[batch, 3] = noise.StandardNormal()
    z: float32[batch, 3] = identity(z_noise).latent(family="Normal")
    kept: float32[batch, 3] = sample.Gamma(concentration=x, rate=1.0).keep().latent()
"""
TARGET = "y: float32[batch, 3] = sample.Normal(loc=z, scale=1.0).target()"


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (TRACED, f"{GOOD}    {TARGET}"),
        (SEMI_AUXILIARY, f"{GOOD}    {TARGET}"),
        (AUXILIARY, GOOD),
        (COMPACT, f"{GOOD}    {TARGET}"),
    ],
    ids=lambda value: value.name if isinstance(value, Stage) else "",
)
def test_a_good_graph_breaks_no_rule(stage: Stage, text: str):
    verify(parse(text), stage)


@pytest.mark.parametrize(
    ("stage", "text", "broken"),
    [
        (TRACED, 'a: [2] = torch.f().latent("s")\nb: [2] = torch.f().latent("s")', "site 's' stands on 2 nodes"),
        (TRACED, "z: [2] = sample.Normal()", "sample 'z' is neither latent nor target"),
        (TRACED, "z: [2] = sample.Normal().deterministic()", "sample 'z' is neither latent nor target"),
        (TRACED, "z: [2] = sample.Normal().event(2).latent()", "sample 'z' has no shape that holds 2 event dims"),
        (TRACED, "z = sample.Normal().latent()", "sample 'z' has no shape that holds 0 event dims"),
        (SEMI_AUXILIARY, "z: [2] = sample.Normal().latent()", "latent 'z' is still a sample"),
        (AUXILIARY, "y: [2] = sample.Normal().target()", "'y' is still a sample"),
        (COMPACT, "x: [2] = input()\ny: [2] = torch.exp(x)\nreturn x", "nothing reads 'y'"),
        (COMPACT, "e: [2] = noise.StandardNormal()\nreturn {}", "nothing reads 'e'"),
    ],
)
def test_each_rule_says_what_is_broken(stage: Stage, text: str, broken: str):
    with pytest.raises(InternalError) as caught:
        verify(parse(text), stage)
    assert str(caught.value).startswith(f"bug in dgmcompile: stage '{stage.name}': {broken}\n")


def test_noise_depends_on_sizes_only():
    x = parse("x: float32[3] = input()")["x"]
    noise = Noise(name="e", law="StandardNormal", shape=(Size.symbol("x"),))
    with pytest.raises(InternalError, match="noise 'e' reads 'x'; 'e' has a dimension of 'x', which is no size"):
        verify(Graph([x, noise]), TRACED)


def test_a_dimension_is_a_size_that_is_there():
    with pytest.raises(InternalError, match="'x' has a dimension of 'rows', which is no size"):
        verify(parse("x: float32[1 * rows] = input()"), TRACED)


def test_every_problem_is_told_and_the_graph_is_printed():
    samples = [Sample(name=name, family="Normal", params={}, shape=(), site=Site(name, "latent")) for name in "ab"]
    with pytest.raises(InternalError) as caught:
        verify(Graph(samples), SEMI_AUXILIARY)
    assert str(caught.value) == (
        "bug in dgmcompile: stage 'semi-auxiliary': latent 'a' is still a sample; latent 'b' is still a sample\n"
        'a: [] = sample.Normal().latent(family="")\nb: [] = sample.Normal().latent(family="")'
    )
