"""Mixtures of fixed normals, and of stored samples: a Gumbel-max label picks the component.

The weights get no gradient: the label is all that depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.compositions import component_at
from dgmcompile.reparam.discrete import categorical_by_inverse_cdf, categorical_from_noise
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform

_SOURCE = "composition by Gumbel-max; Devroye 1986, Non-Uniform Random Variate Generation, section II.4"
_BY_INVERSE_CDF = "composition by inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section II.4"


def at_label(values: Tensor, label: Tensor, event_dim: int) -> Tensor:
    """The component ``label`` of values of shape ``(*some of the batch, components, *event)``."""
    return component_at(values.expand(label.shape + values.shape[-1 - event_dim :]), label, event_dim)


def diag_normals_at_label(label: Tensor, noise: Tensor, locs: Tensor, coord_scale: Tensor) -> Tensor:
    return at_label(locs, label, 1) + at_label(coord_scale, label, 1) * noise


def mixture_of_diag_normals_from_noise(
    label_noise: Tensor, noise: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    return diag_normals_at_label(categorical_from_noise(label_noise, component_logits), noise, locs, coord_scale)


def mixture_of_diag_normals_by_inverse_cdf(
    label_noise: Tensor, noise: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    return diag_normals_at_label(categorical_by_inverse_cdf(label_noise, component_logits), noise, locs, coord_scale)


def _labels_and_coordinates(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*value[:-1], params["component_logits"][-1]), value)


def _label_and_coordinates(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value[:-1], value)


def _mixture(
    family: str,
    params: tuple[str, ...],
    by_gumbel: Callable[..., Tensor],
    by_inverse_cdf: Callable[..., Tensor],
) -> NoiseTransform:
    transform = NoiseTransform(
        family=family,
        noises=(NoiseSource(STANDARD_EXPONENTIAL), NoiseSource(STANDARD_NORMAL)),
        params=params,
        forward=Formula.of(by_gumbel),
        noise_shapes=_labels_and_coordinates,
        differentiable=False,
        no_gradient=frozenset({"component_logits"}),
        event_dim=1,
        source=_SOURCE,
    )
    by_uniform = replace(
        transform,
        noises=(NoiseSource(STANDARD_UNIFORM, torch.float64), NoiseSource(STANDARD_NORMAL)),
        forward=Formula.of(by_inverse_cdf),
        noise_shapes=_label_and_coordinates,
        source=_BY_INVERSE_CDF,
    )
    return replace(transform, variants={"inverse_cdf": by_uniform})


MIXTURE_OF_DIAG_NORMALS = _mixture(
    "MixtureOfDiagNormals",
    ("locs", "coord_scale", "component_logits"),
    mixture_of_diag_normals_from_noise,
    mixture_of_diag_normals_by_inverse_cdf,
)


def mixture_of_diag_normals_shared_covariance_from_noise(
    label_noise: Tensor, noise: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    return at_label(locs, categorical_from_noise(label_noise, component_logits), 1) + coord_scale * noise


def mixture_of_diag_normals_shared_covariance_by_inverse_cdf(
    label_noise: Tensor, noise: Tensor, locs: Tensor, coord_scale: Tensor, component_logits: Tensor
) -> Tensor:
    return at_label(locs, categorical_by_inverse_cdf(label_noise, component_logits), 1) + coord_scale * noise


MIXTURE_OF_DIAG_NORMALS_SHARED_COVARIANCE = _mixture(
    "MixtureOfDiagNormalsSharedCovariance",
    ("locs", "coord_scale", "component_logits"),
    mixture_of_diag_normals_shared_covariance_from_noise,
    mixture_of_diag_normals_shared_covariance_by_inverse_cdf,
)


def gaussian_scale_mixture_from_noise(
    label_noise: Tensor, noise: Tensor, coord_scale: Tensor, component_logits: Tensor, component_scale: Tensor
) -> Tensor:
    label = categorical_from_noise(label_noise, component_logits)
    return coord_scale * at_label(component_scale, label, 0).unsqueeze(-1) * noise


def gaussian_scale_mixture_by_inverse_cdf(
    label_noise: Tensor, noise: Tensor, coord_scale: Tensor, component_logits: Tensor, component_scale: Tensor
) -> Tensor:
    label = categorical_by_inverse_cdf(label_noise, component_logits)
    return coord_scale * at_label(component_scale, label, 0).unsqueeze(-1) * noise


GAUSSIAN_SCALE_MIXTURE = _mixture(
    "GaussianScaleMixture",
    ("coord_scale", "component_logits", "component_scale"),
    gaussian_scale_mixture_from_noise,
    gaussian_scale_mixture_by_inverse_cdf,
)


def empirical_from_noise(noise: Tensor, samples: Tensor, log_weights: Tensor) -> Tensor:
    """One of the stored samples, which stand along the last dim of ``log_weights``."""
    label = categorical_from_noise(noise, log_weights)
    return at_label(samples, label, samples.dim() - log_weights.dim())


def empirical_by_inverse_cdf(noise: Tensor, samples: Tensor, log_weights: Tensor) -> Tensor:
    label = categorical_by_inverse_cdf(noise, log_weights)
    return at_label(samples, label, samples.dim() - log_weights.dim())


def _batch_of_samples(value: Shape, params: Mapping[str, Shape]) -> Shape:
    return value[: len(value) - _event_dim_of_samples(params)]


def _event_dim_of_samples(params: Mapping[str, Shape]) -> int:
    return len(params["samples"]) - len(params["log_weights"])


def _one_noise_a_sample(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*_batch_of_samples(value, params), params["log_weights"][-1]),)


def _one_noise(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (_batch_of_samples(value, params),)


EMPIRICAL = NoiseTransform(
    family="Empirical",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("samples", "log_weights"),
    forward=Formula.of(empirical_from_noise),
    noise_shapes=_one_noise_a_sample,
    differentiable=False,
    no_gradient=frozenset({"log_weights"}),
    event_dim_of=_event_dim_of_samples,
    variants={
        "inverse_cdf": NoiseTransform(
            family="Empirical",
            noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
            params=("samples", "log_weights"),
            forward=Formula.of(empirical_by_inverse_cdf),
            noise_shapes=_one_noise,
            differentiable=False,
            no_gradient=frozenset({"log_weights"}),
            event_dim_of=_event_dim_of_samples,
            source=_BY_INVERSE_CDF,
        )
    },
    source=_SOURCE,
)
