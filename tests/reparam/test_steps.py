"""Each step of a transformed distribution against torch.distributions.transforms."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.distributions import transforms as T

from dgmcompile.ir.size import Size
from dgmcompile.reparam import STEP_TRANSFORMS, StepTransform

DTYPES = (torch.float32, torch.float64)


def real(dtype: torch.dtype) -> Tensor:
    return torch.tensor([[-6.0, -1.5, -0.2], [0.3, 1.0, 7.0]], dtype=dtype)


def positive(dtype: torch.dtype) -> Tensor:
    return torch.tensor([[1e-3, 0.4, 0.9], [1.0, 2.5, 30.0]], dtype=dtype)


def unit(dtype: torch.dtype) -> Tensor:
    return torch.tensor([[1e-6, 0.2, 0.5], [0.6, 0.9, 0.999]], dtype=dtype)


def inside_one(dtype: torch.dtype) -> Tensor:
    return 2 * unit(dtype) - 1


def simplex(dtype: torch.dtype) -> Tensor:
    return torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.05, 0.05, 0.2]], dtype=dtype)


def matrices(dtype: torch.dtype) -> Tensor:
    return torch.linspace(-1.0, 1.0, 18, dtype=dtype).reshape(2, 3, 3)


@dataclass(frozen=True)
class Example:
    """``oracle(**params)`` is torch's transform; ``values`` lie in the domain of the step."""

    oracle: Callable[..., T.Transform]
    values: Callable[[torch.dtype], Tensor]
    params: dict[str, float | list[float]] = field(default_factory=dict)


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "AbsTransform": (Example(T.AbsTransform, real),),
    "AffineTransform": (
        Example(T.AffineTransform, real, {"loc": -1.0, "scale": 3.0}),
        Example(T.AffineTransform, real, {"loc": [0.5, 1.0, 2.0], "scale": [-2.0, 0.1, 5.0]}),
    ),
    "AffineTransform.inv": (
        Example(lambda **p: T.AffineTransform(**p).inv, real, {"loc": 2.0, "scale": -0.5}),
        Example(lambda **p: T.AffineTransform(**p).inv, real, {"loc": [0.5, 1.0, 2.0], "scale": [-2.0, 0.1, 5.0]}),
    ),
    "ExpTransform": (Example(T.ExpTransform, real),),
    "ExpTransform.inv": (Example(lambda: T.ExpTransform().inv, positive),),
    "LowerCholeskyTransform": (Example(T.LowerCholeskyTransform, matrices),),
    "PositiveDefiniteTransform": (Example(T.PositiveDefiniteTransform, matrices),),
    "PowerTransform": (
        Example(T.PowerTransform, positive, {"exponent": 2.5}),
        Example(T.PowerTransform, positive, {"exponent": [0.5, -1.0, 3.0]}),
    ),
    "PowerTransform.inv": (
        Example(lambda **p: T.PowerTransform(**p).inv, positive, {"exponent": 2.0}),
        Example(lambda **p: T.PowerTransform(**p).inv, positive, {"exponent": [0.5, -1.0, 3.0]}),
    ),
    "SigmoidTransform": (Example(T.SigmoidTransform, real),),
    "SigmoidTransform.inv": (Example(lambda: T.SigmoidTransform().inv, unit),),
    "SoftmaxTransform": (Example(T.SoftmaxTransform, real),),
    "SoftplusTransform": (Example(T.SoftplusTransform, real),),
    "SoftplusTransform.inv": (Example(lambda: T.SoftplusTransform().inv, positive),),
    "StickBreakingTransform": (Example(T.StickBreakingTransform, real),),
    "StickBreakingTransform.inv": (Example(lambda: T.StickBreakingTransform().inv, simplex),),
    "TanhTransform": (Example(T.TanhTransform, lambda dtype: real(dtype).clamp(-3, 3)),),
    "TanhTransform.inv": (Example(lambda: T.TanhTransform().inv, inside_one),),
}

CASES = [(step, example) for step in STEP_TRANSFORMS for example in EXAMPLES.get(step.name, ())]


def each(cases: list[tuple[StepTransform, Example]]) -> pytest.MarkDecorator:
    names = [f"{step.name}-{number}" for number, (step, _) in enumerate(cases)]
    return pytest.mark.parametrize(("step", "example"), cases, ids=names)


every = each(CASES)
one_to_one = each([(step, example) for step, example in CASES if step.inverse is not None])


def arguments(example: Example, dtype: torch.dtype) -> dict[str, Tensor | float]:
    return {k: torch.tensor(v, dtype=dtype) if isinstance(v, list) else v for k, v in example.params.items()}


def assert_close(found: Tensor, expected: Tensor) -> None:
    tolerance = 2e-5 if expected.dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_each_step_has_its_name_and_an_example():
    assert set(EXAMPLES) == set(STEP_TRANSFORMS.names())
    assert [step.name for step in STEP_TRANSFORMS] == list(STEP_TRANSFORMS.names())


def test_bijective_ones_have_an_inverse_under_their_name():
    for step in STEP_TRANSFORMS:
        assert (step.inverse is None) == (step.log_abs_det_jacobian is None)
        if step.inverse is not None and not step.name.endswith(".inv"):
            back = STEP_TRANSFORMS[f"{step.name}.inv"]
            assert (back.forward, back.inverse, back.params) == (step.inverse, step.forward, step.params)


@pytest.mark.parametrize("dtype", DTYPES)
@every
def test_forward_is_torchs(step: StepTransform, example: Example, dtype: torch.dtype):
    params = arguments(example, dtype)
    oracle, x = example.oracle(**params), example.values(dtype)
    y = step.forward.function(x, **params)
    expected = oracle(x)
    assert isinstance(expected, Tensor)
    assert_close(y, expected)
    assert (step.domain_event_dim, step.codomain_event_dim) == (oracle.domain.event_dim, oracle.codomain.event_dim)
    assert step.domain_shape(tuple(y.shape)) == tuple(x.shape) == tuple(oracle.inverse_shape(y.shape))
    assert set(step.params) == set(example.params)


@pytest.mark.parametrize("dtype", DTYPES)
@one_to_one
def test_inverse_undoes_forward(step: StepTransform, example: Example, dtype: torch.dtype):
    assert step.inverse is not None
    params, x = arguments(example, dtype), example.values(dtype)
    y = step.forward.function(x, **params)
    again = step.forward.function(step.inverse.function(y, **params), **params)
    assert_close(again, y)
    if dtype == torch.float64:
        torch.testing.assert_close(step.inverse.function(y, **params), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@one_to_one
def test_log_jacobian_is_torchs(step: StepTransform, example: Example, dtype: torch.dtype):
    assert step.log_abs_det_jacobian is not None
    params = arguments(example, dtype)
    oracle, x = example.oracle(**params), example.values(dtype)
    y = step.forward.function(x, **params)
    log_jacobian = step.log_abs_det_jacobian.function(x, y, **params)
    torch.testing.assert_close(log_jacobian, oracle.log_abs_det_jacobian(x, y), rtol=1e-4, atol=1e-4)
    assert log_jacobian.shape == y.shape[: y.dim() - step.codomain_event_dim]


@one_to_one
def test_log_jacobian_is_that_of_forward(step: StepTransform, example: Example):
    """By autograd, in float64: torch's own loses digits (tanh, sigmoid) or clamps."""
    assert step.log_abs_det_jacobian is not None
    params, x = arguments(example, torch.float64), example.values(torch.float64)
    y = step.forward.function(x, **params)
    found = step.log_abs_det_jacobian.function(x, y, **params)
    for row in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda v: step.forward.function(v, **params), x[row])
        assert isinstance(jacobian, Tensor)
        if step.codomain_event_dim:
            square = jacobian[:3, :3]
            expected = torch.linalg.slogdet(square).logabsdet
        else:
            expected = jacobian.diagonal().abs().log()
        torch.testing.assert_close(found[row], expected, rtol=1e-8, atol=1e-8)


def test_sigmoid_stays_inside_the_unit_interval():
    y = STEP_TRANSFORMS["SigmoidTransform"].forward.function(torch.tensor([-1e4, 1e4]))
    assert ((y > 0) & (y < 1)).all()


def test_an_affine_step_that_widens_its_value():
    step = STEP_TRANSFORMS["AffineTransform"]
    x, scale = torch.ones(2, 1), torch.tensor([1.0, 2.0, 4.0])
    assert step.log_abs_det_jacobian is not None
    y = step.forward.function(x, 0.0, scale)
    assert step.log_abs_det_jacobian.function(x, y, 0.0, scale).shape == (2, 3)


def test_a_symbolic_number_of_labels_loses_one():
    step, back = STEP_TRANSFORMS["StickBreakingTransform"], STEP_TRANSFORMS["StickBreakingTransform.inv"]
    labels = Size.symbol("labels")
    fewer = step.domain_shape((2, labels))
    assert str(fewer[-1]) == "labels - 1"
    assert back.domain_shape(fewer) == (2, labels)
