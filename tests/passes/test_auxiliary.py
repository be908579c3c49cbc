"""Random variables as noise and a transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dgmcompile.diagnostics import CompileError, Location
from dgmcompile.ir.graph import Call, Formula, Graph, Noise
from dgmcompile.passes import Reparameterize, auxiliary, semi_auxiliary
from dgmcompile.passes.draws import Tables
from dgmcompile.reparam import NOISE_TRANSFORMS, REFUSED, NoiseTransform, Registry

Parse = Callable[[str], Graph]


def test_normal_becomes_noise_and_a_call(check_pass):
    check_pass(
        Reparameterize(),
        before="""
            x: float32[batch, 3] = input()
            batch = size(x, 0)
            z: float32[batch, 3] = sample.Normal(loc=x, scale=1.0).latent(plate("data", -2, batch))
            y: float32[batch, 3] = sample.Normal(loc=z, scale=1.0).event(1).target()
        """,
        after="""
            x: float32[batch, 3] = input()
            batch = size(x, 0)
            z_noise: float32[batch, 3] = noise.StandardNormal()
            z: float32[batch, 3] = normal_from_noise(z_noise, x, 1.0).latent(plate("data", -2, batch), family="Normal")
            y: float32[batch, 3] = sample.Normal(loc=z, scale=1.0).event(1).target()
        """,
        why={
            "x": "not a random variable",
            "z": "Normal as normal_from_noise of StandardNormal",
            "y": "a target: it stays random",
        },
    )


def test_targets_are_rewritten_in_the_auxiliary_form(check_pass):
    check_pass(
        Reparameterize(latents_only=False),
        before="y: float32[3] = sample.Normal(loc=0.0, scale=1.0).target()",
        after="""
            y_noise: float32[3] = noise.StandardNormal()
            y: float32[3] = normal_from_noise(y_noise, 0.0, 1.0).target(family="Normal")
        """,
    )


def test_noise_has_the_batch_shape_of_the_site_not_of_its_parameters(check_pass):
    check_pass(
        Reparameterize(),
        before="""
            w: float32[4] = param()
            k: int64[5] = sample.Categorical(logits=w).latent()
        """,
        after="""
            w: float32[4] = param()
            k_noise: float32[5, 4] = noise.StandardExponential()
            k: int64[5] = categorical_from_noise(k_noise, w).latent(family="Categorical")
        """,
    )


def test_parameters_that_the_user_gave_otherwise_are_converted_by_a_node_of_their_own(check_pass):
    check_pass(
        Reparameterize(),
        before="""
            p: float64[4] = param()
            b: float64[2, 4] = sample.Bernoulli(probs=p).latent()
            m: float32[2] = sample.Bernoulli(probs=0.5).latent()
        """,
        after="""
            p: float64[4] = param()
            b_logits: float64[4] = logits_from_probs(p)
            b_noise: float64[2, 4] = noise.StandardUniform()
            b: float64[2, 4] = bernoulli_from_noise(b_noise, b_logits).latent(family="Bernoulli")
            m_logits: float32 = logits_from_probs(0.5)
            m_noise: float64[2] = noise.StandardUniform()
            m: float32[2] = bernoulli_from_noise(m_noise, m_logits).latent(family="Bernoulli")
        """,
    )


def test_a_value_that_is_smaller_than_its_site_is_expanded(check_pass):
    check_pass(
        Reparameterize(),
        before="""
            x: float32[batch, 3] = input()
            batch = size(x, 0)
            v: float32[3] = param()
            d: float32[batch, 3] = sample.Delta(v=v, event_dim=1).event(1).latent()
        """,
        after="""
            x: float32[batch, 3] = input()
            batch = size(x, 0)
            v: float32[3] = param()
            d_base: float32[3] = delta_from_value(v)
            d: float32[batch, 3] = torch.Tensor.expand(d_base, (batch, 3)).latent(family="Delta")
        """,
    )


def test_steps_of_a_transformed_distribution_stand_on_top_and_take_back_their_effect_on_the_shape(check_pass):
    check_pass(
        Reparameterize(),
        before="""
            s: float32[2, 6] = sample.Normal(loc=0.0, scale=1.0)
                .transform.StickBreakingTransform().transform.AffineTransform(loc=1.0, scale=2.0, event_dim=1)
                .event(1).latent()
        """.replace("\n                .", "."),
        after="""
            s_noise: float32[2, 5] = noise.StandardNormal()
            s_base: float32[2, 5] = normal_from_noise(s_noise, 0.0, 1.0)
            s_stickbreaking: float32[2, 6] = stick_breaking(s_base)
            s: float32[2, 6] = affine(s_stickbreaking, 1.0, 2.0).latent(family="Normal")
        """,
    )


def test_a_value_of_another_dtype_than_the_site_is_cast(parse: Parse):
    graph = semi_auxiliary(
        parse("""
            p: float32[4] = param()
            d: float64[4] = sample.Delta(v=p).latent()
        """)
    )
    value = graph["d"]
    assert isinstance(value, Call) and value.target == "torch.Tensor.to" and value.args[1] == torch.float64
    assert graph["d_base"].dtype == torch.float32


def test_every_noise_of_a_site_has_a_name_and_none_clashes(parse: Parse):
    graph = semi_auxiliary(
        parse("""
            z_noise: float32[3] = param()
            f: float32[3, 2] = param()
            z: float32[3] = sample.LowRankMultivariateNormal(loc=z_noise, cov_factor=f, cov_diag=z_noise)\
.event(1).latent()
            z_noise_3: float32[3] = param()
        """)
    )
    assert graph.noises == ("z_noise_1", "z_noise_2")
    assert [graph[name].shape for name in graph.noises] == [(2,), (3,)]
    assert graph["z"].inputs[:2] == ("z_noise_1", "z_noise_2")


def test_names_are_data(parse: Parse):
    graph = semi_auxiliary(parse('ref["a\\n\\"<b>"]: float32[3] = sample.Normal(loc=0.0, scale=1.0).latent()'))
    assert [node.name for node in graph] == ['a\n"<b>_noise', 'a\n"<b>']


def test_noise_of_a_site_with_whole_values_has_the_dtype_of_its_parameters(parse: Parse):
    graph = semi_auxiliary(parse("w: float64[4] = param()\nk: int64[5] = sample.Categorical(logits=w).latent()"))
    assert graph["k_noise"].dtype == torch.float64


def test_new_nodes_come_from_the_line_of_the_site(parse: Parse):
    graph = parse("z: float32[3] = sample.Bernoulli(probs=0.5).latent()")
    located = graph.evolve(replace(node, location=Location("model.py", 14, 8)) for node in graph)
    assert {str(node.location) for node in semi_auxiliary(located)} == {"model.py:14"}


@pytest.mark.parametrize("keep", [("z",), ("z", "y")])
def test_a_kept_site_stays_random(parse: Parse, keep: tuple[str, ...]):
    graph = semi_auxiliary(
        parse("""
            z: float32[3] = sample.Gamma(concentration=1.0, rate=1.0).latent()
            y: float32[3] = sample.Normal(loc=z, scale=1.0).target()
        """),
        keep=keep,
    )
    assert str(graph["z"]).count("kept=True") == 1
    assert {decision.node: decision.reason for decision in graph.history}["z"] == "kept by the user"
    assert semi_auxiliary(graph) == graph
    assert tuple(node.name for node in auxiliary(graph).samples) == keep


def test_keeping_what_is_not_there_is_refused(parse: Parse):
    graph = parse("z: float32[3] = sample.Normal(loc=0.0, scale=1.0).latent()")
    with pytest.raises(CompileError) as caught:
        semi_auxiliary(graph, keep=("z", "q"))
    assert str(caught.value) == (
        "error[unknown-site]: there is no random variable 'q'\n  note: random variables: 'z'\n  help: name one of these"
    )
    with pytest.raises(CompileError, match="unknown-site"):
        semi_auxiliary(semi_auxiliary(graph), keep=("z",))


def _only(*families: str) -> Tables:
    known = {family: NOISE_TRANSFORMS[family] for family in families}
    return Tables(families=Registry(known), compositions=Registry({}))


def test_a_family_without_a_transform_is_refused_together_with_the_others(parse: Parse):
    graph = parse("""
        ref["a b"]: float32[3] = sample.Bernoulli(probs=0.5).latent()
        z: float32[3] = sample.Normal(loc=0.0, scale=1.0).latent()
        t: float32[3] = sample.Bernoulli(probs=0.5).target()
    """)
    with pytest.raises(CompileError) as caught:
        Reparameterize(latents_only=False, tables=_only("Normal", "Laplace"))(graph)
    help = "say how the family is made of noise, by dgmcompile.register, or draw the site from another one"
    assert str(caught.value) == (
        "error[no-noise-transform]: site 'a b' draws from Bernoulli, which has no noise transform\n"
        f"  help: {help}\n"
        "error[no-noise-transform]: site 't' draws from Bernoulli, which has no noise transform\n"
        f"  help: {help}"
    )


def test_the_refusal_of_a_public_family_says_why(parse: Parse):
    graph = parse("z: float32[3] = sample.SpanningTree(edge_logits=0.5).latent()")
    with pytest.raises(CompileError) as caught:
        semi_auxiliary(graph)
    assert caught.value.diagnostics[0].notes == (REFUSED["SpanningTree"],)


def test_a_site_of_an_unknown_family_may_be_kept_in_a_graph(parse: Parse):
    graph = parse('ref["a b"]: float32[3] = sample.Unheard(of=0.5).latent()')
    with pytest.raises(CompileError, match="no-noise-transform"):
        semi_auxiliary(graph)
    assert semi_auxiliary(graph, keep=["a b"]).samples[0].kept


def test_a_step_without_a_transform_is_refused(parse: Parse):
    graph = parse("z: float32[3] = sample.Normal(loc=0.0, scale=1.0).transform.PlanarTransform(u=1.0).latent()")
    with pytest.raises(CompileError, match=r"no-step-transform\]: site 'z' is pushed through PlanarTransform"):
        semi_auxiliary(graph)


@pytest.mark.parametrize("given", ["loc=0.0", "loc=0.0, scale=1.0, skew=2.0", "scale=1.0"])
def test_parameters_that_the_transform_does_not_read_are_refused(parse: Parse, given: str):
    graph = parse(f"z: float32[3] = sample.Normal({given}).latent()")
    with pytest.raises(CompileError, match=r"unknown-parameters\]: site 'z' gives Normal the parameters"):
        semi_auxiliary(graph)


def _shifted_from_noise(noise: torch.Tensor, loc: torch.Tensor, shift: float = 0.5) -> torch.Tensor:
    return loc + shift + noise


def test_a_parameter_that_was_not_given_is_left_to_its_default(parse: Parse):
    shifted = NoiseTransform(
        family="Shifted",
        noises=NOISE_TRANSFORMS["Normal"].noises,
        params=("loc", "shift"),
        forward=Formula.of(_shifted_from_noise),
        source="a test",
    )
    graph = Reparameterize(tables=Tables(families=Registry({"Shifted": shifted})))(
        parse("z: float32[3] = sample.Shifted(loc=1.0).latent()")
    )
    value = graph["z"]
    assert isinstance(value, Call) and value.args[1:] == (1.0,)


@pytest.mark.parametrize("entry", list(NOISE_TRANSFORMS), ids=lambda entry: entry.family)
def test_the_law_and_dtype_of_each_noise_are_the_registrys(parse: Parse, entry: NoiseTransform):
    params = ", ".join(f"{name}=p" for name in entry.params)
    event = f".event({entry.event_dim})" if entry.event_dim else ""
    graph = semi_auxiliary(
        parse(f"p: float32[3, 3] = param()\nz: float32[3, 3] = sample.{entry.family}({params}){event}.latent()")
    )
    noises = [graph[name] for name in graph.noises]
    assert [node.law for node in noises if isinstance(node, Noise)] == [source.law.name for source in entry.noises]
    assert [node.dtype for node in noises] == [source.dtype or torch.float32 for source in entry.noises]
