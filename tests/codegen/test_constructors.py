"""torch's own modules, as the expressions that make them."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from dgmcompile.codegen.modules import Classes, construct
from dgmcompile.codegen.names import Namespace
from dgmcompile.diagnostics import CompileError
from dgmcompile.ir.binding import Submodule


def text_of(module: nn.Module, **inside: Submodule) -> str:
    classes = Classes(Namespace(), frozenset(), {})
    return classes.constructor(module, "net", {"": Submodule(module), **inside})


MODULES: list[tuple[str, nn.Module]] = [
    ("nn.Linear(16, 32)", nn.Linear(16, 32)),
    ("nn.Linear(16, 32, bias=False)", nn.Linear(16, 32, bias=False)),
    ("nn.Linear(2, 3).to(torch.float64)", nn.Linear(2, 3, dtype=torch.float64)),
    ("nn.Linear(2, 3).requires_grad_(False)", nn.Linear(2, 3).requires_grad_(False)),
    ("nn.Bilinear(2, 3, 4)", nn.Bilinear(2, 3, 4)),
    ("nn.Conv2d(3, 8, 3, padding=1, bias=False)", nn.Conv2d(3, 8, 3, padding=1, bias=False)),
    ("nn.Conv2d(3, 8, (3, 5), padding='same')", nn.Conv2d(3, 8, (3, 5), padding="same")),
    (
        "nn.Conv1d(4, 8, 3, stride=2, dilation=2, groups=2, padding_mode='circular')",
        nn.Conv1d(4, 8, 3, stride=2, groups=2, dilation=2, padding_mode="circular"),
    ),
    ("nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)", nn.ConvTranspose2d(8, 3, 4, 2, 1)),
    ("nn.BatchNorm1d(4)", nn.BatchNorm1d(4)),
    ("nn.BatchNorm2d(4, eps=0.001, momentum=None)", nn.BatchNorm2d(4, eps=1e-3, momentum=None)),
    ("nn.LayerNorm(8)", nn.LayerNorm(8)),
    ("nn.LayerNorm((3, 3))", nn.LayerNorm((3, 3))),
    ("nn.LayerNorm((3, 4), bias=False)", nn.LayerNorm((3, 4), bias=False)),
    ("nn.GroupNorm(2, 4)", nn.GroupNorm(2, 4)),
    ("nn.Embedding(10, 3, padding_idx=0)", nn.Embedding(10, 3, padding_idx=0)),
    ("nn.LSTMCell(3, 4)", nn.LSTMCell(3, 4)),
    ("nn.GRUCell(3, 4, bias=False)", nn.GRUCell(3, 4, bias=False)),
    ("nn.LSTM(3, 4, num_layers=2, batch_first=True)", nn.LSTM(3, 4, 2, batch_first=True)),
    ("nn.GRU(3, 4, bidirectional=True)", nn.GRU(3, 4, bidirectional=True)),
    ("nn.RNN(3, 4, nonlinearity='relu')", nn.RNN(3, 4, nonlinearity="relu")),
    ("nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)", nn.MultiheadAttention(8, 2, 0.1, batch_first=True)),
    ("nn.MultiheadAttention(8, 2, bias=False, kdim=4)", nn.MultiheadAttention(8, 2, bias=False, kdim=4)),
    ("nn.Softplus()", nn.Softplus()),
    ("nn.Softplus(beta=2.0)", nn.Softplus(beta=2.0)),
    ("nn.LeakyReLU(negative_slope=0.2)", nn.LeakyReLU(0.2)),
    ("nn.ELU(alpha=0.5)", nn.ELU(0.5)),
    ("nn.GELU(approximate='tanh')", nn.GELU("tanh")),
    ("nn.Softmax(dim=-1)", nn.Softmax(dim=-1)),
    ("nn.PReLU()", nn.PReLU()),
    ("nn.Hardtanh(min_val=0.0)", nn.Hardtanh(0.0)),
    ("nn.Dropout(p=0.1)", nn.Dropout(0.1)),
    ("nn.Flatten()", nn.Flatten()),
    ("nn.Unflatten(1, (2, 3))", nn.Unflatten(1, (2, 3))),
    ("nn.Upsample(scale_factor=2.0)", nn.Upsample(scale_factor=2)),
    ("nn.MaxPool2d(2)", nn.MaxPool2d(2)),
    ("nn.AdaptiveAvgPool2d((1, 2))", nn.AdaptiveAvgPool2d((1, 2))),
    ("nn.Identity()", nn.Identity()),
    ("nn.Sequential(nn.Linear(2, 3), nn.Tanh())", nn.Sequential(nn.Linear(2, 3), nn.Tanh())),
    (
        "nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).to(torch.float64)",
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).double(),
    ),
    (
        "nn.Sequential(OrderedDict([('fc', nn.Linear(2, 3)), ('act', nn.Tanh())]))",
        nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), act=nn.Tanh())),
    ),
    ("nn.ModuleList([nn.Linear(2, 3)])", nn.ModuleList([nn.Linear(2, 3)])),
    ("nn.ModuleDict({'a b': nn.Linear(2, 3)})", nn.ModuleDict({"a b": nn.Linear(2, 3)})),
    ("nn.ParameterList([nn.Parameter(torch.zeros(2))])", nn.ParameterList([torch.zeros(2)])),
    ("nn.Linear(2, 3)", PyroModule[nn.Linear](2, 3)),
]


@pytest.mark.parametrize(("expected", "module"), MODULES, ids=[text for text, _ in MODULES])
def test_the_expression_makes_the_same_module(expected: str, module: nn.Module):
    text = text_of(module)
    assert text == expected
    made: Any = construct(text.replace("OrderedDict", "__import__('collections').OrderedDict"))
    wanted = {name: (tuple(t.shape), t.dtype) for name, t in module.state_dict().items()}
    assert {name: (tuple(t.shape), t.dtype) for name, t in made.state_dict().items()} == wanted
    if type(made) is type(module):
        assert repr(made) == repr(module)


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 3), nn.ReLU())


class Scaled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def test_a_subclass_that_only_fills_a_sequence_is_the_sequence():
    assert text_of(Mlp()) == "nn.Sequential(nn.Linear(2, 3), nn.ReLU())"


def with_hook() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    return module


def changed() -> nn.Module:
    module = nn.Linear(2, 3)
    module.weight = nn.Parameter(torch.zeros(3, 5))
    return module


def mixed() -> nn.Module:
    module = nn.BatchNorm1d(3)
    module.running_mean = torch.zeros(3, dtype=torch.float64)
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Scaled(2, 3), "Scaled is not torch's own, and its forward was not recorded"),
        (nn.Sequential(nn.ReLU(), Scaled(2, 3)), "Scaled is not torch's own"),
        (with_hook(), "it has hooks"),
        (changed(), "'weight' is (3, 5) torch.float32, not (3, 2)"),
        (mixed(), "'running_mean'"),
        (nn.TransformerEncoderLayer(8, 2), "TransformerEncoderLayer takes d_model, which it does not keep"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)), "its forward was not recorded"),
    ],
)
def test_what_cannot_be_written_is_refused(module: nn.Module, reason: str):
    with pytest.raises(CompileError) as refusal:
        text_of(module)
    assert [d.code for d in refusal.value.diagnostics] == ["module-not-emittable"]
    assert reason in str(refusal.value)
    assert "'net" in str(refusal.value)
