"""Public classes of torch.distributions and pyro.distributions that are not written as noise and a transform."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ABSTRACT = "it is a base class: there is no law to draw from"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "CoalescentRateLikelihood": "it is a likelihood to call, and not a distribution",
        "ConditionalDistribution": "it is a base class: `condition(context)` gives the distribution to draw from",
        "Distribution": _ABSTRACT,
        "ExponentialFamily": _ABSTRACT,
        "ImproperUniform": "it has no finite mass, so that there is no law to draw from",
        "Rejector": "its acceptance is an opaque function, and no fixed number of proposals draws from it exactly",
        "SpanningTree": "the library draws it by a few steps of a Markov chain, and exactly only by listing all trees",
        "TorchDistribution": _ABSTRACT,
        "Unit": "it is a factor of the density, and has no value",
    }
)
"""Class -> why. A class that is neither here nor in a table of `dgmcompile.reparam` was forgotten."""
