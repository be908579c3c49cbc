"""No public distribution is forgotten: each has a transform, is written through others, or is refused with a reason."""

import inspect
from collections.abc import Iterator

import pyro.distributions
import pyro.distributions.conditional
import pytest
import torch.distributions
from pyro.distributions.distribution import Distribution as PyroDistribution

from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, REFUSED

UNWRAPPED = {
    "ConditionalTransformedDistribution",
    "ExpandedDistribution",
    "Independent",
    "MaskedDistribution",
    "TransformedDistribution",
}
"""Wrappers: what a site holds is the law inside."""

KINDS = (
    torch.distributions.Distribution,
    PyroDistribution,
    pyro.distributions.conditional.ConditionalDistribution,
    pyro.distributions.CoalescentRateLikelihood,
)


def public_classes() -> Iterator[str]:
    for module in (torch.distributions, pyro.distributions):
        for name, value in vars(module).items():
            if not name.startswith("_") and inspect.isclass(value) and issubclass(value, KINDS):
                yield name


PUBLIC = sorted(set(public_classes()))


def test_the_walk_finds_the_classes():
    assert {"Normal", "OneTwoMatching", "Unit", "TorchDistribution", "ConditionalDistribution"} <= set(PUBLIC)
    assert len(PUBLIC) > 100


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_distribution_stands_in_one_table(name: str):
    tables = [set(NOISE_TRANSFORMS.names()), set(COMPOSITIONS.names()), set(REFUSED), UNWRAPPED]
    assert sum(name in table for table in tables) == 1


def test_the_tables_name_nothing_else():
    named = {*NOISE_TRANSFORMS.names(), *COMPOSITIONS.names(), *REFUSED, *UNWRAPPED}
    assert named <= set(PUBLIC)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refusal_is_one_sentence(name: str):
    reason = REFUSED[name]
    assert reason == reason.strip().rstrip(".")
    assert len(reason.split()) > 4
    assert "\n" not in reason


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        REFUSED["Normal"] = "no"  # type: ignore[index]
