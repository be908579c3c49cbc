"""A call as an expression: to the letter, and by what it computes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.codegen.expressions import Names, constant_text, expression, literal
from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Call, Constant, DeviceOf, Formula, Ref
from dgmcompile.ir.size import Size

A, B, INDEX, PAIR = Ref("a"), Ref("b"), Ref("i"), Ref("pair")
N = Size.symbol("n")
TWO_N_PLUS_1 = Size.of({("n",): 2, (): 1})


def names() -> Names:
    return Names(value=str, module=lambda path: f"self.{path}")


def text_of(target: str | Formula, *args: Any, **kwargs: Any) -> str:
    return expression(Call(name="call", target=target, args=args, kwargs=kwargs), names())


def scale_by(x: Tensor, *, by: float) -> Tensor:
    return x * by


T = "torch.Tensor."
CASES: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
    # operators, with their reflected forms
    ("a + b", f"{T}add", (A, B), {}),
    ("a + 2", f"{T}add", (A, 2), {}),
    ("a.add(b, alpha=2)", f"{T}add", (A, B), {"alpha": 2}),
    ("2 - a", f"{T}__rsub__", (A, 2), {}),
    ("a - -2.0", f"{T}sub", (A, -2.0), {}),
    ("-2.0 - a", f"{T}__rsub__", (A, -2.0), {}),
    ("a * (2 * n + 1)", f"{T}mul", (A, TWO_N_PLUS_1), {}),
    ("a - (2 * n + 1)", f"{T}sub", (A, TWO_N_PLUS_1), {}),
    ("a / (2 * n)", f"{T}div", (A, Size.of({("n",): 2})), {}),
    ("2 * n / a", f"{T}__rtruediv__", (A, Size.of({("n",): 2})), {}),
    ("a ** -2", f"{T}__pow__", (A, -2), {}),
    ("2 ** a", f"{T}__rpow__", (A, 2), {}),
    ("(-2) ** a", f"{T}__rpow__", (A, -2), {}),
    ("n ** a", f"{T}__rpow__", (A, N), {}),
    ("a @ b.mT", f"{T}matmul", (A, Ref("b.mT")), {}),
    ("a // 2", f"{T}__floordiv__", (A, 2), {}),
    ("a % 3", f"{T}remainder", (A, 3), {}),
    ("-a", f"{T}neg", (A,), {}),
    ("~i", f"{T}__invert__", (INDEX,), {}),
    ("i & 1", f"{T}__and__", (INDEX, 1), {}),
    ("1 | i", f"{T}__ror__", (INDEX, 1), {}),
    ("1 << i", f"{T}__rlshift__", (INDEX, 1), {}),
    ("a < 2 * n + 1", f"{T}lt", (A, TWO_N_PLUS_1), {}),
    ("a == b", f"{T}__eq__", (A, B), {}),
    ("a.eq(True)", f"{T}eq", (A, True), {}),
    ("abs(a)", f"{T}__abs__", (A,), {}),
    ("len(a)", f"{T}__len__", (A,), {}),
    # indexing
    ("a[0]", f"{T}__getitem__", (A, 0), {}),
    ("a[:, 0]", f"{T}__getitem__", (A, (slice(None), 0)), {}),
    ("a[..., None]", f"{T}__getitem__", (A, (Ellipsis, None)), {}),
    ("a[1:n:2]", f"{T}__getitem__", (A, slice(1, N, 2)), {}),
    ("a[:-1]", f"{T}__getitem__", (A, (slice(None, -1),)), {}),
    ("a[[0, 1]]", f"{T}__getitem__", (A, [0, 1]), {}),
    ("a[[0, 1], :]", f"{T}__getitem__", (A, ([0, 1], slice(None))), {}),
    ("a[i]", f"{T}__getitem__", (A, INDEX), {}),
    ("a[()]", f"{T}__getitem__", (A, ()), {}),
    ("pair[1]", "getitem", (PAIR, 1), {}),
    ("a.shape[-1]", "size", (A, -1), {}),
    ("a", "identity", (A,), {}),
    # methods, properties, functions, submodules
    ("a.view(n, 4)", f"{T}view", (A, N, 4), {}),
    ("a.view((2 * n + 1, -1))", f"{T}view", (A, (TWO_N_PLUS_1, -1)), {}),
    ("a.sum(-1, keepdim=True)", f"{T}sum", (A, -1), {"keepdim": True}),
    ("a.to(torch.float64)", f"{T}to", (A, torch.float64), {}),
    ("a.mT", f"{T}mT", (A,), {}),
    ("a.mT", f"{T}mT.__get__", (A,), {}),
    ("F.relu(a)", "torch.nn.functional.relu", (A,), {}),
    ("F.relu(a)", "torch.nn.functional.relu", (A,), {"inplace": False}),
    ("F.pad(a, (1, 1), value=0.0)", "torch.nn.functional.pad", (A, (1, 1)), {"value": 0.0}),
    ("torch.einsum('ij->i', a)", "torch.functional.einsum", ("ij->i", A), {}),
    ("torch.linalg.cholesky(a)", "torch.linalg.cholesky", (A,), {}),
    ("torch.stack([a, b], dim=-1)", "torch.stack", ([A, B],), {"dim": -1}),
    ("torch.zeros((n,), device=device)", "torch.zeros", ((N,),), {"device": DeviceOf()}),
    ("torch.full((2,), -math.inf)", "torch.full", ((2,), -math.inf), {}),
    ("self.decoder(a, power=2)", "self.decoder", (A,), {"power": 2}),
]


@pytest.mark.parametrize(("expected", "target", "args", "kwargs"), CASES, ids=[case[0] for case in CASES])
def test_a_call_is_written_as_people_write_it(
    expected: str, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]
):
    assert text_of(target, *args, **kwargs) == expected


def test_a_formula_is_called_by_name_and_remembered():
    known = names()
    call = Call(name="y", target=Formula.of(scale_by), args=(A,), kwargs={"by": 2.0})
    assert expression(call, known) == "scale_by(a, by=2.0)"
    assert known.formulas == {"scale_by": Formula.of(scale_by)}


def resolved(target: str) -> Callable[..., Any]:
    found: Any = torch
    for part in target.split(".")[1:]:
        found = getattr(found, part)
    return found


OPERATORS = [case for case in CASES if case[1].startswith(T) and callable(resolved(case[1])) and ".mT" not in case[0]]


@pytest.mark.parametrize(("text", "target", "args", "kwargs"), OPERATORS, ids=[case[0] for case in OPERATORS])
def test_the_text_computes_what_the_call_computes(text: str, target: str, args: Any, kwargs: Any):
    values = {"a": torch.rand(4, 2) + 0.5, "b": torch.rand(4, 2), "i": torch.tensor([1, 0, 1, 2]), "n": 2}

    def value(arg: Any) -> Any:
        if isinstance(arg, Ref):
            return values[arg.name]
        if isinstance(arg, slice):
            return slice(value(arg.start), value(arg.stop), value(arg.step))
        if isinstance(arg, tuple):
            return tuple(value(a) for a in arg)
        return arg.evaluate({"n": 2}) if isinstance(arg, Size) else arg

    shape = (10, -1) if "(2 * n + 1, -1)" in text else (4, 2)
    values["a"] = torch.rand(10, 2)[: shape[0]] + 0.5
    wanted = resolved(target)(*(value(arg) for arg in args), **kwargs)
    found = eval(text, {"torch": torch, "F": F, "math": math}, values)
    assert type(found) is type(wanted)
    if isinstance(wanted, Tensor):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    else:
        assert found == wanted


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        -0.0,
        math.inf,
        -math.inf,
        1e-300,
        3,
        -3,
        True,
        None,
        "a'\"\n",
        1 + 2j,
        (1,),
        [],
        {"a b": (1.5,)},
        slice(1, None),
    ],
    ids=repr,
)
def test_a_literal_is_the_same_value(value: object):
    found = eval(literal(value, names()), {"math": math})
    assert repr(found) == repr(value)


def test_nan_is_not_a_number():
    assert literal(math.nan, names()) == "math.nan"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(0.1),
        torch.tensor([math.inf, -math.inf, -0.0, 1e-45, 3.4028235e38]),
        torch.linspace(-1.3, 0.7, 12).reshape(3, 4),
        torch.linspace(-1.3, 0.7, 3, dtype=torch.float64),
        torch.tensor([1, 2]),
        torch.tensor([True, False]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([1, 2], dtype=torch.int32),
        torch.tensor([1 + 2j]),
        torch.zeros(0, 3),
        torch.linspace(-1.3, 0.7, 3).to(torch.bfloat16),
    ],
    ids=repr,
)
def test_a_constant_is_the_same_tensor(tensor: Tensor):
    text = constant_text(Constant(name="c", value=tensor.tolist(), shape=tuple(tensor.shape), dtype=tensor.dtype))
    found = eval(text, {"torch": torch, "math": math})
    assert found.dtype == tensor.dtype and found.shape == tensor.shape
    assert (
        torch.equal(found.view(torch.uint8), tensor.view(torch.uint8)) if tensor.dim() else torch.equal(found, tensor)
    )


def test_a_constant_in_single_precision_is_short():
    assert constant_text(Constant(name="c", value=0.10000000149011612, dtype=torch.float32)) == "torch.tensor(0.1)"


@pytest.mark.parametrize(
    "target", ["os.system", "torch.no_such", "torch.exp(); import os", "torch.Tensor.no_such", "eval"]
)
def test_a_target_that_is_no_function_of_torch_is_ours_to_mend(target: str):
    with pytest.raises(InternalError, match="bug in dgmcompile"):
        text_of(target, A)


def test_an_argument_without_text_is_ours_to_mend():
    with pytest.raises(InternalError, match="has no text"):
        text_of("torch.exp", object())
