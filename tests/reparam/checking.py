"""`dgm.check_family` of every entry of the registry: at which parameters, and by which oracle."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.distill.divergences import LOG_PROBS
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS
from tests.reparam.composed_laws import LAWS, ComposedLaw
from tests.reparam.drawing import INDICES, canonical
from tests.reparam.example import Given
from tests.reparam.examples import EXAMPLES

LIBRARY_IS_WRONG = {
    "Bernoulli": "its probabilities are clamped",
    "Categorical": "its probabilities are clamped",
    "ContinuousBernoulli": "its series near 1/2 has few digits",
    "GaussianScaleMixture": "it takes no batch of values",
    "GeneralizedPareto": "it works in float32 only",
    "LKJ": "it takes the Cholesky factor of rounded draws",
    "LogNormalNegativeBinomial": "its quadrature has few nodes",
    "OneHotCategorical": "its probabilities are clamped",
    "OneHotCategoricalStraightThrough": "its probabilities are clamped",
    "RelaxedBernoulli": "its values are clamped",
    "RelaxedBernoulliStraightThrough": "it has the density of the relaxed draw, and not of the hard one",
    "RelaxedOneHotCategoricalStraightThrough": "it has the density of the relaxed draw, and not of the hard one",
    "SoftAsymmetricLaplace": "its gradient is NaN in the tails",
    "TruncatedPolyaGamma": "it sums few terms",
}
"""Families whose density is ours, which tests of its own compare with SciPy, because the library's is no oracle."""

SKIPPED: Mapping[str, tuple[str, ...]] = {
    "Delta": ("score",),
    "Empirical": ("score", "density"),
    "GroupedNormalNormal": ("score", "density", "batch", "vmap"),  # all rows of a table are one value
    "RelaxedOneHotCategorical": ("batch",),  # as in the library, a temperature broadcasts with the whole value
    "RelaxedOneHotCategoricalStraightThrough": ("batch",),
}

ALONE = ("Delta", "Empirical", "GroupedNormalNormal")
"""Families without a law of one value: no noise at all, stored samples, all rows of a table at once."""


def settings(family: str) -> Iterator[Given]:
    """What the constructor is given."""
    for setting in EXAMPLES[family].settings if family != "Delta" else ({"v": 1.5}, {"v": -0.0}):
        yield {name: _value(name, value) for name, value in setting.items()}


def _value(name: str, value: Any) -> Any:
    if name in INDICES:
        return torch.tensor(value)
    return float(value) if name == "logits" and not isinstance(value, list) else value


def cdf_of(family: str) -> Callable[..., Any] | None:
    """The exact distribution function, in SciPy."""
    exact = EXAMPLES[family].exact
    return None if exact is None else lambda value, **given: exact(**given).cdf(value.numpy())


def our_density(family: str, value: Tensor, **given: Any) -> Tensor:
    """By our own formula."""
    return LOG_PROBS[family].function(value, *canonical(NOISE_TRANSFORMS[family], given))


def report_of(family: str, variant: str | None = None, **options: Any) -> dgm.FamilyReport:
    """All checks of an entry of `NOISE_TRANSFORMS` at all its settings, or at those in ``options``."""
    log_prob = functools.partial(our_density, family) if family in LIBRARY_IS_WRONG else None
    chosen = {"settings": list(settings(family)), **options}
    chosen["skip"] = (*SKIPPED.get(family, ()), *options.get("skip", ()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a name that Pyro will drop
        return dgm.check_family(family, cdf=cdf_of(family), log_prob=log_prob, variant=variant, **chosen)


def composed_law(family: str) -> type[ComposedLaw]:
    """The first among the examples of laws that hold others."""
    for law in LAWS:
        if type(law().law()).__name__ in (family, "Independent") and _family_of(law) == family:
            return law
    raise KeyError(family)


@functools.cache
def _family_of(law: type[ComposedLaw]) -> str:
    (sample,) = dgm.trace(law().double().model, (torch.zeros(3).double(),)).samples
    return sample.family


def report_of_composition(family: str, **options: Any) -> dgm.FamilyReport:
    """Of an entry of `COMPOSITIONS`."""
    cls = composed_law(family)

    def of(given: Mapping[str, Tensor]) -> ComposedLaw:
        law = cls.__new__(cls)
        nn.Module.__init__(law)
        for name, value in given.items():
            setattr(law, name, value)
        return law

    setting = {name: value.tolist() for name, value in cls().named_parameters()}
    return dgm.check_family(
        family,
        setting,
        make=lambda **given: of(given).law(),
        log_prob=lambda value, **given: of(given).log_prob(value),
        **options,
    )


FAMILIES = [*NOISE_TRANSFORMS.names(), *COMPOSITIONS.names()]
