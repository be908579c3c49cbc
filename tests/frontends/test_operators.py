"""Operators of aten, as `torch.export` writes them: each is recorded by a name, and computes the same by it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

import dgmcompile as dgm
from dgmcompile.frontends.operators import public_call
from dgmcompile.frontends.targets import functional, is_in_place
from tests import seeds

aten = torch.ops.aten

X = torch.rand(4, 6, generator=seeds.generator(0)) + 0.1
CUBE = torch.rand(3, 4, 5, generator=seeds.generator(1))
CHOSEN = torch.tensor([2, 0])
ONE = torch.tensor(1)


def named(target: str) -> Callable[..., Any]:
    """What emitted code finds under the name."""
    return reduce(getattr, target.split(".")[1:], torch)  # type: ignore[return-value]


CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (aten.exp.default, (X,), {}, "torch.exp"),
    (aten.select.int, (X, -1, 2), {}, "torch.Tensor.__getitem__"),
    (aten.split_with_sizes.default, (X, [2, 4], 1), {}, "torch.split"),
    (aten.special_ndtri.default, (X / 2,), {}, "torch.special.ndtri"),
    (aten.slice.Tensor, (X,), {"dim": 1, "start": 1, "end": 3}, "torch.Tensor.__getitem__"),
    (aten.slice.Tensor, (), {"self": X, "end": 3}, "torch.Tensor.__getitem__"),
    (aten.split.Tensor, (X, 4), {"dim": 1}, "torch.split"),
    (aten.index.Tensor, (X,), {"indices": [None, CHOSEN]}, "torch.Tensor.__getitem__"),
    (aten.sym_size.int, (X,), {"dim": 1}, "torch.Tensor.size"),
    (aten.hardtanh.default, (X, 0.2, 0.5), {}, "torch.nn.functional.hardtanh"),
    (aten.elu.default, (-X, 2.0, 3.0), {}, "torch.ops.aten.elu"),  # the function has no scale
    (aten.mse_loss.default, (X, 2 * X), {}, "torch.ops.aten.mse_loss"),
    (aten.cdist.default, (X, X, 2.0, 1), {}, "torch.ops.aten.cdist"),  # the function takes a word
    (aten.stft.default, (X, 4, 2, 4, None, False, True, True), {}, "torch.ops.aten.stft"),  # the function pads
    (aten.einsum.default, ("ij,kj->ik", [X, X]), {"path": None}, "torch.einsum"),
    (aten.split.Tensor, (X, 2, 1), {}, "torch.split"),
    (aten.to.dtype, (X, torch.float64, False, False, None), {}, "torch.Tensor.to"),
    (aten.to.dtype, (X, torch.float64, False, True), {}, "torch.ops.aten.to"),
    (aten.to.other, (X, CHOSEN), {}, "torch.Tensor.to"),
    (aten.to.device, (X, torch.device("cpu"), torch.float64), {}, "torch.Tensor.to"),
    (aten._to_copy.default, (X,), {"dtype": torch.float64, "device": torch.device("cpu")}, "torch.Tensor.to"),
    (aten._to_copy.default, (X,), {"dtype": torch.float32}, "torch.ops.aten._to_copy"),
    (aten.slice.Tensor, (X, 1, 1, 2**63 - 1, 2), {}, "torch.Tensor.__getitem__"),
    (aten.index.Tensor, (X, [None, CHOSEN]), {}, "torch.Tensor.__getitem__"),
    (aten.index.Tensor, (CUBE, [CHOSEN, None, CHOSEN]), {}, "torch.Tensor.__getitem__"),
    (aten.index.Tensor, (CUBE, [ONE, None, CHOSEN]), {}, "torch.ops.aten.index"),
    (aten.index_put.default, (X, [None, CHOSEN], ONE.float()), {}, "torch.ops.aten.index_put"),
    (aten.upsample_nearest2d.vec, (CUBE[None], None, [2.0, 2.0]), {}, "torch.ops.aten.upsample_nearest2d"),
    (aten.upsample_nearest2d.vec, (CUBE[None], [8, 10], None), {}, "torch.ops.aten.upsample_nearest2d.vec"),
]


@pytest.mark.parametrize(("operator", "args", "kwargs", "target"), CALLS, ids=[f"{o}-{t}" for o, _, _, t in CALLS])
def test_what_is_found_under_the_name_computes_the_same(operator: Any, args: Any, kwargs: Any, target: str):
    call = public_call(operator, args, kwargs)
    assert call.target == target
    expected = operator(*args, **kwargs)
    for function in (call.function, named(target)):
        torch.testing.assert_close(function(*call.args, **call.kwargs), expected, rtol=0, atol=0)


@pytest.mark.parametrize("word", ["relu", "elu", "celu", "selu", "silu", "mish", "leaky_relu", "hardtanh", "relu6"])
def test_what_writes_is_named_by_what_does_not(word: str):
    operator = getattr(aten, f"{word}_").default
    name = public_call(operator, (X.clone(),), {}).target
    assert name is not None and is_in_place(name)
    target, args = functional(name, (-X,))
    assert isinstance(target, str)
    torch.testing.assert_close(named(target)(*args), operator(-X))


def test_a_packet_is_the_operator_that_torch_chooses():
    assert public_call(aten.exp, (X,), {}).target == "torch.exp"
    assert public_call(aten.index, (X, [None, CHOSEN]), {}).target == "torch.Tensor.__getitem__"


def test_an_operator_that_moves_memory_has_no_name():
    assert public_call(aten.set_.source_Tensor, (X.clone(), X), {}).target is None
    assert public_call(aten.resize_.default, (X.clone(), [2]), {}).target is None


# -- whole programs ----------------------------------------------------------------------------------------------------


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return torch.normal(self.function(x), 1.0)


def exported(module: nn.Module, x: Tensor, decomposed: bool) -> ExportedProgram:
    program = export(module, (x,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its own code
        return program.run_decompositions() if decomposed else program


def columns(x: Tensor) -> Tensor:
    h = x.clone()
    h[:, CHOSEN] = x[:, :2]
    h.index_put_((CHOSEN, CHOSEN), x[0, 0], accumulate=True)
    return h


def column(x: Tensor) -> Tensor:
    h = x.clone()
    h[:, ONE] = 0.5
    return aten.index_put_.default(h, [None, ONE + 1], x[:, 0])


def apart(x: Tensor) -> Tensor:
    h = x[None].repeat(3, 1, 1)
    h[CHOSEN, :, CHOSEN] = 0.5
    return aten.index.Tensor(h, [ONE, None, CHOSEN])


def masked(x: Tensor) -> Tensor:
    h = x.clone()
    h[h > 0.5] = 1.0
    return h


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "columns": columns,
    "column": column,
    "apart": apart,
    "masked": masked,
    "fold": lambda x: F.fold(F.unfold(x[None, None], 2), (4, 6), 2),
    "elu": lambda x: F.elu(x - 1, inplace=True),
    "celu": lambda x: F.celu(x - 1, inplace=True),
    "selu": lambda x: F.selu(x - 1, inplace=True),
    "silu": lambda x: F.silu(x - 1, inplace=True),
    "mish": lambda x: F.mish(x - 1, inplace=True),
    "relu6": lambda x: F.relu6(7 * x, inplace=True),
    "hardtanh": lambda x: F.hardtanh(x - 1, -0.5, 0.5, inplace=True),
    "leaky_relu": lambda x: F.leaky_relu(x - 1, 0.1, inplace=True),
    "hardswish": lambda x: F.hardswish(x - 1, inplace=True),
    "hardsigmoid": lambda x: F.hardsigmoid(x - 1, inplace=True),
    "diagonal": lambda x: x.exp().fill_diagonal_(0.5),
    "embedding": lambda x: F.embedding(x.argmax(0), 3 * x, max_norm=1.0),
    "cdist": lambda x: torch.cdist(x, x),
    "stft": lambda x: torch.stft(x, 4, return_complex=True, window=torch.ones(4)).abs(),
    "cast": lambda x: x.to(torch.float64, memory_format=torch.contiguous_format, copy=True),
}

DECOMPOSED = pytest.mark.parametrize("decomposed", [False, True], ids=["exported", "decomposed"])


@DECOMPOSED
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, decomposed: bool):
    assert dgm.check(Applied(FUNCTIONS[name]), (X,)).ok
    assert dgm.check(exported(Applied(FUNCTIONS[name]), X, decomposed), (X,)).ok


def test_all_that_a_program_asks_of_sizes_is_followed():
    program = export(Applied(lambda x: x * x.numel() + x.stride(0) + x.shape[0]), (X,), dynamic_shapes=({0: Dim.AUTO},))
    report = dgm.check(program, (X,))
    assert report.ok and report.sizes == {"x.shape[0]": 7}


def test_what_is_emitted_for_an_operator_is_read_again():
    form = dgm.compile(dgm.trace(exported(Applied(FUNCTIONS["columns"]), X, False), (X,)))
    assert "torch.ops.aten.index_put(" in str(form.source)
    assert dgm.check(lambda x: form(x)["output"], (X,)).ok


DRAWS: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("Normal", lambda x: torch.empty_like(x).normal_(1.0, 2.0)),
    ("Uniform", lambda x: torch.empty_like(x).uniform_(-1.0, 2.0)),
    ("Exponential", lambda x: torch.empty_like(x).exponential_(2.0)),
    ("Exponential", lambda x: x.exp() * torch.empty_like(x).exponential_()),  # which is noise
    ("Cauchy", lambda x: torch.empty_like(x).cauchy_(1.0, 2.0)),
    ("LogNormal", lambda x: torch.empty_like(x).log_normal_(1.0, 2.0)),
    ("Geometric", lambda x: torch.empty_like(x).geometric_(0.3)),
    ("Bernoulli", lambda x: torch.empty_like(x).bernoulli_(x / 2)),
    ("RelaxedOneHotCategorical", lambda x: F.gumbel_softmax(x, 0.5)),
]


class Drawn(nn.Module):
    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        z = self.draw(x)
        return z.tanh()


@DECOMPOSED
@pytest.mark.parametrize(("family", "draw"), DRAWS)
def test_draws_are_variables(family: str, draw: Callable[[Tensor], Tensor], decomposed: bool):
    module = Drawn(draw)
    found = [
        [(node.site and node.site.name, node.family, node.params.keys()) for node in dgm.trace(program, (X,)).samples]
        for program in (module, exported(module, X, decomposed))
    ]
    assert found[0] == found[1] and ("z", family) in [one[:2] for one in found[0]]
    assert dgm.check(exported(module, X, decomposed), (X,)).ok


MATRIX = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.2, 0.3, 2.0]])
RECOVERED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "a factor": ("MultivariateNormal", lambda h: h + torch.randn(4, 3) @ MATRIX.T),
    "sums of probabilities": (
        "Categorical",
        lambda h: (torch.rand(4, 1) > h.softmax(-1).cumsum(-1)).sum(-1),
    ),
    "a quantile": ("Normal", lambda h: h + torch.special.ndtri(torch.rand(4, 3)) * 0.5),
    "parts of given sizes": ("Normal", lambda h: h + 2 * torch.split(torch.randn(4, 5), [3, 2], dim=1)[0]),
    "a part": ("Normal", lambda h: h + 2 * torch.randn(2, 4, 3)[-1]),
}


class Recovered(nn.Module):
    def __init__(self, variable: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.variable = nn.Linear(6, 3), variable

    def forward(self, x: Tensor) -> Tensor:
        z = self.variable(self.layer(x))
        return z.sin()


@pytest.mark.parametrize("name", RECOVERED)
def test_noise_of_an_exported_program_is_recovered_as_that_of_the_module(name: str):
    family, variable = RECOVERED[name]
    module = Recovered(variable)
    for program in (module, export(module, (X,))):
        assert next((s.site and s.site.name, s.family) for s in dgm.trace(program, (X,)).samples) == ("z", family)
        assert dgm.check(program, (X,)).ok
