"""What is known of torch functions: which draw, keep state, are views, and how to run them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from operator import getitem
from typing import Any, cast

import torch
import torch.overrides
from torch import nn

from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Call, Formula


def words(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())


DRAWS = words(
    """rand randn randint randperm rand_like randn_like randint_like normal bernoulli multinomial poisson binomial
    uniform exponential geometric cauchy log_normal random rrelu dropout dropout1d dropout2d dropout3d
    alpha_dropout feature_dropout feature_alpha_dropout native_dropout gumbel_softmax
    fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices
    fractional_max_pool3d_with_indices svd_lowrank pca_lowrank get_lowrank_cov lobpcg
    scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh rnn_relu
    _standard_gamma _sample_dirichlet kaiming_normal kaiming_uniform xavier_normal xavier_uniform trunc_normal
    orthogonal sparse seed initial_seed manual_seed drawn"""
)
"""Last words of the functions that draw random numbers, some of them in one of their modes only, and of our own."""

UNINITIALISED = words("empty empty_like new_empty empty_strided new_empty_strided empty_permuted new")
"""Their values are whatever the memory held."""

STATEFUL = words("batch_norm instance_norm sync_batch_norm embedding embedding_bag embedding_renorm")
"""They write into their arguments in one of their modes."""

READS_STRIDES = words("as_strided stride is_contiguous storage_offset data_ptr resize_ set_ storage")
"""What they return depends on how their argument lies in memory."""

ROUNDED = words("sign sgn round floor ceil trunc heaviside one_hot")
"""They are constant but for jumps."""

FACTORIES = words(
    "torch.zeros torch.ones torch.full torch.eye torch.arange torch.linspace torch.tensor torch.scalar_tensor"
)
"""Tensors made of numbers alone; others have a tensor among their arguments."""

ELEMENTWISE = words(
    """add sub subtract __rsub__ mul multiply div divide true_divide __rtruediv__ pow __pow__ __rpow__ neg negative
    abs exp expm1 log log1p sqrt rsqrt square sigmoid tanh relu sin cos erf clamp maximum minimum where"""
)
"""Of contiguous tensors they make contiguous ones."""

PURE_MODULES = (
    nn.Linear,
    nn.Bilinear,
    nn.GRUCell,
    nn.LSTMCell,
    nn.RNNCell,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Sequential,
    nn.ModuleList,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.ReLU,
    nn.ReLU6,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softmax,
    nn.LogSoftmax,
    nn.LogSigmoid,
    nn.LeakyReLU,
    nn.Hardtanh,
    nn.Softsign,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
)
"""Modules of torch that draw nothing and keep nothing; exactly these classes, as a subclass may do either."""


def tensor_word(call: Call) -> str:
    """``add`` for ``torch.add`` and ``torch.Tensor.add``; "" for what is neither a plain function nor a method."""
    prefix, _, word = call.target_name.rpartition(".")
    return word if isinstance(call.target, str) and prefix in ("torch", "torch.Tensor") else ""


def last_word(target: str) -> str:
    """``exp`` of ``torch.Tensor.exp``."""
    return target.rpartition(".")[2]


def is_pure(call: Call, binding: Binding) -> bool:
    """Does calling it twice with the same arguments give the same values twice, and change nothing?"""
    if isinstance(call.target, Formula):
        return call.target.name not in DRAWS
    if call.target.startswith("self."):
        return _is_pure_submodule(binding.modules.get(call.target.removeprefix("self.")))
    word = last_word(call.target)
    if word.endswith("_") and not word.endswith("__"):
        return False
    return word not in DRAWS | UNINITIALISED | STATEFUL


def _is_pure_submodule(submodule: Submodule | None) -> bool:
    if submodule is None or any(_has_hooks(module) for module in submodule.module.modules()):
        return False
    if all(type(m) in PURE_MODULES and not getattr(m, "inplace", False) for m in submodule.module.modules()):
        return True
    if (body := submodule.body) is None:
        return False
    return not body.samples and all(is_pure(node, body.binding) for node in body if isinstance(node, Call))


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in ("_forward_hooks", "_forward_pre_hooks"))


def is_opaque(call: Call, binding: Binding) -> bool:
    """Is it a submodule of the user's, whose code may ask more of its arguments than their values?"""
    if isinstance(call.target, Formula) or not call.target.startswith("self."):
        return False
    submodule = binding.modules.get(call.target.removeprefix("self."))
    return submodule is None or any(not type(m).__module__.startswith("torch.nn.") for m in submodule.module.modules())


@cache
def _overridable() -> frozenset[Any]:
    return frozenset(cast(Any, torch.overrides).get_testing_overrides())


@cache
def folding_function(target: str) -> Callable[..., Any] | None:
    """The function of that name, if it may be run while compiling; None for what draws, or acts on the outside.

    A graph may come from a text of unknown origin: only functions on tensors and the plainest
    factories are run, so that no ``torch.load`` is.
    """
    if target in ("getitem", "identity"):
        return getitem if target == "getitem" else _identity
    root, *path = target.split(".")
    if root != "torch" or not is_pure(Call(name="", target=target), Binding()):
        return None
    function = reduce(lambda at, name: getattr(at, name, None), path, cast(Any, torch))
    if target in FACTORIES or (_is_hashable(function) and function in _overridable()):
        return function
    getter = getattr(function, "__get__", None)  # a property: torch.Tensor.mT
    return getter if path[0] == "Tensor" and not callable(function) and getter in _overridable() else None


def _identity(value: Any) -> Any:
    return value


def _is_hashable(value: Any) -> bool:
    return getattr(value, "__hash__", None) is not None
