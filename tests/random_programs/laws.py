"""How a person writes each family: the constructor, with holes for what it reads.

Holes: ``{r}`` a real number, ``{t}`` one as a tensor, ``{p}`` a positive one, ``{u}`` one between 0 and 1, ``{c}`` a
literal (``{cp}`` positive, ``{cl}`` low, ``{ch}`` high); ``{v}`` three real numbers, ``{fv}`` three in the whole batch
shape, ``{pv}`` three positive ones, ``{two}`` two real ones, ``{pair}`` two rows of three; ``{tril}`` a Cholesky
factor, ``{cov}`` a covariance; ``{event}`` and ``{batch}`` are masks. Each hole is filled anew. What fills them is
bounded, and so are the numbers that no hole stands for: a program draws no value that its dtype could not hold.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LawText:
    """One way to write a distribution.

    Args:
        text: the constructor with holes.
        shape: of a single draw.
        read: what makes one number, or an event of 3, of a value whose ``shape`` is another.
        whole: are its values whole numbers, or is their dtype no float?
        labels: so many values 0, 1, ...; they may be an index. 0 where they may not.
        alone: has it no ``expand``, so that it cannot stand in a plate?
        sampled: can Pyro sample it?
        observed: may it be a target?
        inspected: does Pyro's inspection see what its value depends on, and what depends on it?
    """

    text: str
    shape: tuple[int, ...] = ()
    read: str = "{}"
    whole: bool = False
    labels: int = 0
    alone: bool = False
    sampled: bool = True
    observed: bool = True
    inspected: bool = True

    @property
    def event(self) -> bool:
        """Has what is read of a value an event dim of 3?"""
        return self.shape == (3,) or self.read.endswith(":]")


def _scalars(*texts: str) -> tuple[LawText, ...]:
    return tuple(map(LawText, texts))


def _whole(*texts: str) -> tuple[LawText, ...]:
    return tuple(LawText(text, whole=True) for text in texts)


def _vectors(*texts: str) -> tuple[LawText, ...]:
    return tuple(LawText(text, (3,)) for text in texts)


USUAL: tuple[LawText, ...] = (
    *_scalars(
        "dist.Normal({r}, {p})",
        "dist.Normal({r}, {p})",
        "dist.Normal({r}, 1.0)",
        "dist.Normal(loc={r}, scale=torch.tensor({cp}))",
        "dist.LogNormal({r}, {p})",
        "dist.Gamma(0.5 + {p}, {p})",
        "dist.Beta(0.5 + {p}, 0.5 + {p})",
        "dist.Exponential({p})",
        "dist.Normal({r}, {p}).mask(True)",
    ),
    *_whole("dist.Bernoulli(logits={r})", "dist.Bernoulli({u})"),
    LawText("dist.Categorical(logits={v})", labels=3),
    *_vectors(
        "dist.Normal({v}, {pv}).to_event(1)",
        "dist.Normal({v}, {pv}).to_event(1)",
        "dist.Normal({v}, 1.0).to_event(1)",
        "dist.Normal({v}, {pv}).mask({event}).to_event(1)",
        "dist.Normal({c}, {cp}).expand([3]).to_event(1)",
        "dist.Laplace({v}, {pv}).to_event(1)",
        "dist.Bernoulli(logits={v}).to_event(1)",
        "dist.MultivariateNormal({v}, scale_tril={tril})",
        "dist.Dirichlet(0.6 + {pv})",
    ),
)
"""What most programs are made of; so each stands for a larger part of the random ones."""

FAMILIES: tuple[LawText, ...] = (
    *_scalars(
        "dist.Laplace({r}, {p})",
        "dist.Gumbel({r}, {p})",
        "dist.Logistic({r}, {p})",
        "dist.Cauchy({r}, {p})",
        "dist.StudentT(3.0 + {p}, {r}, {p})",
        "dist.StudentT(3.5)",
        "dist.SkewLogistic({r}, {p}, 0.5 + {p})",
        "dist.SoftLaplace({r}, {p})",
        "dist.AsymmetricLaplace({r}, {p}, 0.5 + {p})",
        "dist.VonMises({r}, 0.3 + {p})",
        "dist.NanMaskedNormal({r}, {p})",
        "dist.Uniform({r}, 2.0 + {p})",
        "dist.Uniform({cl}, {ch})",
        "dist.HalfNormal({p})",
        "dist.HalfCauchy({p})",
        "dist.InverseGamma(1.5 + {p}, {p})",
        "dist.Chi2(1.0 + {p})",
        "dist.Weibull({p}, 0.7 + {p})",
        "dist.Pareto({p}, 1.5 + {p})",
        "dist.FisherSnedecor(2.5 + {p}, 4.5 + {p})",
        "dist.Kumaraswamy(0.7 + {p}, 0.7 + {p})",
        "dist.ContinuousBernoulli(logits={r})",
        "dist.ContinuousBernoulli(probs={u})",
        "dist.AffineBeta(0.5 + {p}, 0.5 + {p}, {r}, 1.0 + {p})",
        "dist.RelaxedBernoulli(torch.tensor(0.7), logits={r})",
        "dist.Exponential({p}).mask({batch})",
        "dist.Gamma({cp}, {p})",
    ),
    LawText("dist.SoftAsymmetricLaplace({t}, {p}, 0.5 + {p}, 1.0 + {p})", alone=True),
    LawText("dist.GeneralizedPareto({r}, {p}, 0.2 * {u})"),
    LawText("dist.Stable(torch.tensor({cs}), {u}, {p}, {r})", observed=False),
    LawText("dist.StableWithLogProb(torch.tensor({cs}), {u}, {p}, {r})", observed=False),
    LawText("dist.TruncatedPolyaGamma(torch.zeros(()))", alone=True),
    LawText("dist.Delta({r})", observed=False, inspected=False),
    LawText("dist.Delta({v}, event_dim=1)", (3,), observed=False, inspected=False),
    LawText("dist.Empirical(torch.tensor([-0.4, 0.2, 0.9]), torch.tensor([0.1, {c}, -0.3]))", alone=True),
    *_whole(
        "dist.Bernoulli(probs={u})",
        "dist.Poisson({p})",
        "dist.Binomial(7, logits={r})",
        "dist.Binomial(total_count=5, probs={u})",
        "dist.Geometric(0.1 + 0.8 * {u})",
        "dist.Geometric(logits={r})",
        "dist.NegativeBinomial(3.0, logits={r})",
        "dist.NegativeBinomial(2.0 + {p}, probs=0.8 * {u})",
        "dist.GammaPoisson(0.5 + {p}, {p})",
        "dist.BetaBinomial(0.5 + {p}, 0.5 + {p}, 6)",
        "dist.ExtendedBinomial(7, logits={r})",
        "dist.ExtendedBetaBinomial(0.5 + {p}, 0.5 + {p}, 6)",
        "dist.ZeroInflatedPoisson({p}, gate={u})",
        "dist.ZeroInflatedPoisson({p}, gate_logits={r})",
        "dist.ZeroInflatedNegativeBinomial(3.0, logits={r}, gate=torch.tensor(0.3))",
        "dist.RelaxedBernoulliStraightThrough(torch.tensor(0.7), logits={r})",
    ),
    LawText("dist.LogNormalNegativeBinomial(3.0, {r}, multiplicative_noise_scale={p})", whole=True, sampled=False),
    LawText("dist.OrderedLogistic({r}, torch.tensor([{cl}, 0.4]))", labels=3, inspected=False),
    LawText("dist.Categorical({v}.softmax(-1))", labels=3),
    LawText("dist.Categorical(probs=0.1 + {pv})", labels=3),
    *_vectors(
        "dist.StudentT(4.0, {v}, {pv}).to_event(1)",
        "dist.LogNormal({v}, 0.5).to_event(1)",
        "dist.Gamma(0.5 + {pv}, 1.0).to_event(1)",
        "dist.Beta({pv} + 0.5, {pv}).to_event(1)",
        "dist.Poisson({pv}).to_event(1)",
        "dist.Normal({c}, {cp}).expand([3]).mask({event}).to_event(1)",
        "dist.Laplace({v}, {pv}).mask({event}).to_event(1)",
        "dist.Normal({v}, {pv}).to_event(1).mask({batch})",
        "dist.MultivariateNormal({v}, covariance_matrix={cov})",
        "dist.MultivariateNormal({v}, precision_matrix={cov})",
        "dist.NanMaskedMultivariateNormal({v}, covariance_matrix={cov})",
        "dist.LowRankMultivariateNormal({v}, torch.tensor([[0.3], [-0.2], {row}]), {pv})",
        "dist.MultivariateStudentT(torch.tensor({cs}) + 2.0, {v}, {tril})",
        "dist.LogisticNormal({two}, 0.5)",
        "dist.ProjectedNormal({v})",
        "dist.RelaxedOneHotCategorical(torch.tensor(0.7), logits={v})",
        "dist.Multinomial(4, logits={v})",
        "dist.Multinomial(6, probs=0.1 + {pv})",
        "dist.DirichletMultinomial(0.5 + {pv}, 4)",
        "dist.OneHotCategorical(logits={v})",
        "dist.OneHotCategorical({v}.softmax(-1))",
        "dist.OneHotCategoricalStraightThrough(logits={v})",
        "dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.7), logits={v})",
    ),
    *(
        LawText(text, (3,), alone=True)
        for text in (
            "dist.MixtureOfDiagNormals({pair}, torch.ones(2, 3), torch.tensor([0.2, {c}]))",
            "dist.MixtureOfDiagNormalsSharedCovariance({pair}, torch.tensor([0.6, 1.1, {cp}]), {mixed})",
            "dist.GaussianScaleMixture(torch.tensor([0.7, 1.1, {cp}]), {mixed}, torch.tensor([0.5, 2.0]))",
            "dist.AVFMultivariateNormal({v}, {tril}, 0.1 * torch.ones(2, 1, 3))",
            "dist.OMTMultivariateNormal({v}, {tril})",
        )
    ),
    LawText("dist.VonMises3D({v})", (3,), sampled=False),
    LawText(
        "dist.GroupedNormalNormal({r}, {p}, {p}, torch.tensor([0, 1, 0]))",
        (3,),
        alone=True,
        sampled=False,
        observed=False,
    ),
    LawText("dist.SineBivariateVonMises({r}, {r}, 2.0 + {p}, 2.0 + {p}, correlation={r})", (2,), "{}.sum(-1)"),
    LawText("dist.CoalescentTimes(torch.tensor([0.0, 0.1, 0.3, 0.3]))", (3,), alone=True, observed=False),
    LawText(
        "dist.CoalescentTimesWithRate(torch.tensor([0.0, 0.1, 0.3, 0.3]), torch.tensor([0.5, 0.8, 1.1]))",
        (3,),
        alone=True,
        sampled=False,
        observed=False,
    ),
    LawText("dist.Wishart(4.0 + {p}, scale_tril={tril})", (3, 3), "{}[..., -1, :]"),
    LawText("dist.Wishart(torch.tensor({cs}) + 4.0, {cov})", (3, 3), "{}.diagonal(0, -2, -1)[..., :]"),
    LawText("dist.LKJCholesky(3, 0.5 + {p})", (3, 3), "{}[..., -1, :]"),
    LawText("dist.LKJCorrCholesky(3, 0.5 + {p})", (3, 3), "{}[..., -1, :]", alone=True),
    LawText("dist.LKJ(3, 0.5 + {p})", (3, 3), "{}[..., 0, :]", alone=True),
    LawText(
        "dist.OneOneMatching(torch.tensor([[0.1, 0.4, -0.3], [0.2, {c}, 0.0], [0.5, -0.6, 0.1]]))",
        (3,),
        whole=True,
        alone=True,
        observed=False,
    ),
    LawText(
        "dist.OneTwoMatching(torch.tensor([[0.1, 0.4], [0.2, {c}], [0.5, -0.6], [0.3, 0.0]]))",
        (4,),
        "{}[..., 1:]",
        whole=True,
        alone=True,
        observed=False,
    ),
    *(
        LawText(text, (3, 2), "{}.sum((-2, -1))", alone=True, sampled=sampled, observed=compared)
        for text, sampled, compared in (
            ("dist.GaussianHMM({state}, {matrix}, {state}, {matrix}, {three_states})", True, True),
            ("dist.GammaGaussianHMM({gamma}, {state}, {matrix}, {state}, {matrix}, {three_states})", False, True),
            ("dist.LinearHMM({state}, {matrix}, {state}, {matrix}, {three_states})", True, False),
            ("dist.GaussianMRF({state}, {four}, {three_fours})", False, True),
        )
    ),
    LawText(
        "dist.IndependentHMM(dist.GaussianHMM({state}, {matrix}, {state}, torch.tensor([[0.5], {one}]), {ones}))",
        (3, 2),
        "{}.sum((-2, -1))",
        alone=True,
    ),
    LawText(
        "dist.DiscreteHMM(torch.tensor([0.1, {c}]), torch.tensor([[0.5, -0.5], {row2}]), "
        "dist.Normal(torch.tensor([-1.0, {cp}]), 1.0), duration=3)",
        (3,),
        alone=True,
    ),
)

COMPOSED: tuple[LawText, ...] = (
    *_scalars(
        "dist.TransformedDistribution(dist.Normal({r}, {p}), [transforms.SigmoidTransform()])",
        "dist.TransformedDistribution(dist.Normal({r}, {p}), transforms.ExpTransform())",
        "dist.TransformedDistribution(dist.Normal({r}, {p}), "
        "[transforms.AffineTransform(0.3, 0.4), transforms.TanhTransform()])",
        "dist.TransformedDistribution(dist.Normal(0.0, {p}), [transforms.AffineTransform({r}, {p})])",
        "dist.TransformedDistribution(dist.Laplace({r}, 1.0), [transforms.SoftplusTransform()])",
        "dist.TransformedDistribution(dist.Gamma(2.0, {p}), [transforms.PowerTransform(torch.tensor(0.5))])",
        "dist.TransformedDistribution(dist.Uniform({zero}, torch.ones(())), "
        "[transforms.SigmoidTransform().inv, transforms.AffineTransform({c}, {cp})])",
        "dist.TransformedDistribution(dist.Normal({r}, 1.0), "
        "transforms.ComposeTransform([transforms.TanhTransform(), transforms.AffineTransform(2.0, 1.3)]))",
        "dist.MixtureSameFamily(dist.Categorical(logits={fv}), dist.Normal({fv}, 1.0))",
        "dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.2, 0.3, 0.5])), dist.StudentT(3.0, {v}, {pv}))",
        "dist.MaskedMixture({batch}, dist.Normal({r}, 1.0), dist.Normal({r}, {p}))",
        "dist.FoldedDistribution(dist.Normal({r}, {p}))",
        "dist.ZeroInflatedDistribution(dist.Normal({r}, 1.0), gate=torch.tensor(0.3))",
    ),
    *_whole(
        "dist.ZeroInflatedDistribution(dist.Poisson({p}), gate={u})",
        "dist.MixtureSameFamily(dist.Categorical(logits={fv}), dist.Poisson({fv}.exp()))",
    ),
    *_vectors(
        "dist.TransformedDistribution(dist.Normal({two}, 1.0).to_event(1), [transforms.StickBreakingTransform()])",
        "dist.TransformedDistribution(dist.Normal({v}, {pv}).to_event(1), [transforms.AffineTransform({c}, {cp})])",
        "dist.TransformedDistribution(dist.Normal({v}, {pv}), [transforms.SigmoidTransform()]).to_event(1)",
        "dist.MixtureSameFamily(dist.Categorical(logits={fv}[..., 1:]), "
        "dist.Normal({fv}.unsqueeze(-2) + torch.tensor([[{c}], [1.1]]), 1.0).to_event(1))",
        "dist.MixtureSameFamily(dist.Categorical(logits=torch.tensor([0.2, {c}])), "
        "dist.MultivariateNormal({pair}, torch.eye(3)))",
    ),
    LawText("dist.SineSkewed(dist.VonMises({v}, 1.0 + {pv}).to_event(1), 0.2 * torch.tanh({v}))", (3,)),
)

ALL = (*USUAL, *FAMILIES, *COMPOSED)
