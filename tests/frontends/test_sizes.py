"""Sizes: which numbers of a program follow the sizes of its arguments, and how far."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.frontends.polynomials import Quotient, explained, grid, quotient
from dgmcompile.ir.graph import Parameter
from dgmcompile.ir.size import Size
from tests.programs.program import size_guards, values


def assert_same(model: Any, *args: Any, **options: Any) -> None:
    report = dgm.check(model, args, **options)
    assert report.ok, str(report)


def guards_of(model: Any, *args: Any) -> list[Any]:
    """What is expected of the first dimension of ``x``."""
    return [guard.expected for guard in dgm.trace(model, args).guards if (guard.path, guard.dim) == (("x",), 0)]


# -- whole numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (lambda n, d: n, "n"),
        (lambda n, d: 2 * n + 1, "2 * n + 1"),
        (lambda n, d: n - 1, "n - 1"),
        (lambda n, d: n * d, "d * n"),
        (lambda n, d: n * n, "n * n"),
        (lambda n, d: n * d + n - 1, "d * n + n - 1"),
        (lambda n, d: (n + 1) * (n + d), "d * n + n * n + d + n"),
        (lambda n, d: n // 2, None),
        (lambda n, d: n * (n + 1) // 2, None),
        (lambda n, d: min(n, 6), None),
        (lambda n, d: n % 3, None),
        (lambda n, d: max(n, d), None),
        (lambda n, d: 2**n, None),
    ],
)
def test_numbers_are_polynomials_in_the_sizes_or_nothing(size: Any, expected: str | None):
    base = (4, 3)
    settings = [(4, 3), (5, 3), (4, 4), (11, 9), *grid(base, (0, 1))]
    found = explained([(at, size(*at)) for at in settings], ["n", "d"], (0, 1))
    if expected is None:
        assert found is None
    else:
        assert isinstance(found, Size)
        assert str(found) == expected


def test_a_constant_made_of_a_size_is_computed_from_it():
    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(torch.tensor([len(x), 2]).float() + torch.tensor(len(x) - 1), 1.0).to_event(1))

    graph = dgm.trace(model, (values(4),))
    assert not size_guards(graph)
    assert_same(model, values(4))


def test_a_large_constant_made_of_a_size_fixes_it():
    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(torch.tensor([[0.5] * len(x)] * 40), 1.0).to_event(2))

    graph = dgm.trace(model, (values(4),))
    assert [(g.path, g.dim, g.expected) for g in size_guards(graph)] == [(("x",), 0, 4)]


def test_large_constants_of_two_recordings_are_one():
    def model() -> None:
        pyro.sample("y", dist.Normal(torch.tensor([0.5] * 100), 1.0).to_event(1))

    graph = dgm.trace(model)
    assert [n.trainable for n in graph if isinstance(n, Parameter)] == [False]


def test_a_branch_on_a_size_is_a_guard():
    def model(x: Tensor) -> None:
        scale = 1.0 if len(x) == 4 else 2.0
        pyro.sample("y", dist.Normal(x, scale).to_event(1))

    assert [(g.dim, g.expected) for g in size_guards(dgm.trace(model, (values(4),)))] == [(0, 4)]


def of_length(length: Any) -> Any:
    """A program with a latent that is ``length(n)`` long."""

    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(length(len(x))), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(z.sum(), 1.0))

    return model


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (lambda n: n, []),
        (lambda n: n * n + 1, []),
        (lambda n: min(n, 100), [slice(None, 101)]),
        (lambda n: min(n, 5), [slice(5, None)]),
        (lambda n: max(n, 3), [slice(3, None)]),
        (lambda n: max(n, 50), [slice(None, 51)]),
        (lambda n: min(max(n, 4), 30), [slice(4, 31)]),
        (lambda n: n // 20 + 1, [slice(None, 20)]),
        (lambda n: n // 2, [8]),
        (lambda n: n % 3 + 1, [8]),
        (lambda n: (n + 7) // 8 * 8, [8]),
        (lambda n: round(n / 3), [8]),
        (lambda n: n * (n + 1) // 2, [8]),
        (lambda n: len(range(n)[:3]), [slice(3, None)]),
    ],
)
def test_a_length_follows_the_size_as_far_as_it_does(length: Any, expected: list[Any]):
    model = of_length(length)
    assert guards_of(model, values(8)) == expected
    assert_same(model, values(8))


def test_a_bound_is_checked_and_said():
    compiled = dgm.compile(dgm.trace(of_length(lambda n: min(max(n, 4), 30)), (values(8),)))
    assert compiled(values(30))["z"].shape == (30,)
    with pytest.raises(ValueError, match=r"x\.shape\[0\] has to be from 4 to 30: elsewhere the program computes with"):
        compiled(values(31))
    with pytest.raises(ValueError, match="has to be from 4 to 30"):
        compiled(values(3))


def test_a_bound_is_part_of_text_and_report():
    graph = dgm.trace(of_length(lambda n: min(n, 100)), (values(8),))
    assert dgm.parse(str(graph)) == graph
    assert "x.shape[0] < 101" in str(graph.report())
    with pytest.raises(ValueError, match="has to be at most 100"):
        dgm.compile(dgm.compact(dgm.semi_auxiliary(graph)))(values(101))


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        (lambda n: n > 20, [slice(None, 21)]),
        (lambda n: n == 1, [slice(2, None)]),
        (lambda n: n < 5, [slice(5, None)]),
        (lambda n: n % 2 == 0, [8]),
        (lambda n: n == 8, [8]),
    ],
)
def test_a_branch_on_a_size_bounds_it(branch: Any, expected: list[Any]):
    def model(x: Tensor) -> None:
        law = dist.Normal(x, 1.0) if branch(len(x)) else dist.Laplace(x, 1.0)
        pyro.sample("y", law.to_event(1))

    assert guards_of(model, values(8)) == expected
    assert_same(model, values(8))


def test_a_dimension_of_one_element_may_be_another():
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x.mean(-1) * x.shape[1], 1.0))

    compiled = dgm.compile(dgm.trace(model, (torch.ones(4, 1),)))
    assert torch.allclose(compiled(torch.full((4, 3), 1e6))["y"], torch.tensor(3e6))
    assert_same(model, torch.ones(4, 1))


@pytest.mark.parametrize(
    ("branch", "recorded", "expected"),
    [
        (lambda k: k, 1, [slice(1, None)]),
        (lambda k: k, 0, [0]),
        (lambda k: k < 0, 1, [slice(0, None)]),
        (lambda k: k > 10, 3, [slice(None, 11)]),
        (lambda k: True, 1, []),
    ],
)
def test_a_branch_on_a_whole_number_bounds_it(branch: Any, recorded: int, expected: list[Any]):
    """Whether or not anything else reads it."""

    def model(x: Tensor, k: int) -> None:
        law = dist.Normal(x, 1.0) if branch(k) else dist.Laplace(x, 1.0)
        pyro.sample("y", law.to_event(1))

    graph = dgm.trace(model, (values(8), recorded))
    assert [guard.expected for guard in graph.guards if guard.path == ("k",)] == expected


def _summed(xs: list[Tensor]) -> None:
    pyro.sample("y", dist.Normal(torch.stack(xs).sum(0), 1.0).to_event(1))


def _first(xs: list[Tensor]) -> None:
    pyro.sample("y", dist.Normal(xs[0] + xs[1], 1.0).to_event(1))


def _named(xs: dict[str, Tensor]) -> None:
    for name, x in xs.items():
        pyro.sample(f"y_{name}", dist.Normal(x, 1.0).to_event(1))


def _unpacked(*xs: Tensor) -> None:
    a, b = xs
    pyro.sample("y", dist.Normal(a + b, 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "args", "guarded"),
    [
        (_summed, ([values(3), values(3)],), True),
        (_first, ([values(3), values(3)],), False),
        (_named, ({"a": values(3), "b": values(3)},), True),
        (_unpacked, (values(3), values(3)), True),
    ],
)
def test_how_many_a_list_holds_is_guarded_where_it_matters(model: Any, args: tuple[Any, ...], guarded: bool):
    graph = dgm.trace(model, args)
    assert [guard.expected for guard in graph.guards if guard.dim == "len"] == [2] * guarded
    assert dgm.parse(str(graph)) == graph
    assert ("len(xs) == 2" in str(graph.report())) == guarded
    assert_same(model, *args)
    if guarded:
        fewer = args[:1] if model is _unpacked else ({"a": values(3)} if model is _named else [values(3)],)
        with pytest.raises(ValueError, match=r"len\(xs\) has to be 2: the program depends on how many there are"):
            dgm.compile(graph)(*fewer)


def test_a_loss_is_compiled_again_for_another_number_of_elements():
    loss = dgm.Distillation()(_summed, _summed)
    for count in (2, 3, 2):
        assert loss([values(3)] * count) == 0


def test_an_empty_batch_may_be_recorded():
    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(x * len(x), 1.0).to_event(1))

    assert not size_guards(dgm.trace(model, (torch.zeros(0),)))
    assert_same(model, torch.zeros(0))


def test_a_loop_over_the_first_few_bounds_the_size():
    def model(x: Tensor) -> None:
        for i in range(len(x))[:3]:
            pyro.sample(f"x_{i}", dist.Normal(x[i], 1.0))

    assert guards_of(model, values(8)) == [slice(3, None)]


def test_two_sizes_that_are_compared_are_fixed():
    """Each alone, the larger seems to go as far as the other; together it does not."""

    def model(x: Tensor, y: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(max(len(x), y.shape[1])), 1.0).to_event(1))
        pyro.sample("w", dist.Normal(z.sum() + x.sum() + y.sum(), 1.0))

    graph = dgm.trace(model, (values(8), values(2, 3)))
    assert {(g.path, g.dim): g.expected for g in size_guards(graph)} == {(("x",), 0): 8, (("y",), 1): 3}


def test_a_size_that_the_program_does_not_run_at_is_no_bound():
    table = values(50)

    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(table[torch.arange(len(x))], 1.0).to_event(1))
        if len(x) == 1:
            raise ValueError("one value has no spread")
        pyro.sample("y", dist.Normal(z.std(), 1.0))

    assert not size_guards(dgm.trace(model, (values(8),)))
    assert_same(model, values(8))


# -- real numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "follows"),
    [
        (lambda n: 1000 / n, True),
        (lambda n: n / 1000, True),
        (lambda n: 0.1 * n, True),
        (lambda n: 0.3 / n, True),
        (lambda n: 1 / (n + 1), True),
        (lambda n: 2.0 / n**2, True),
        (lambda n: 3.0 * n, True),
        (lambda n: n**0.5, False),
        (lambda n: math.log(n), False),
        (lambda n: 2.0 / min(n, 100), None),
    ],
)
@pytest.mark.parametrize("place", ["parameter", "call", "scale"])
def test_a_real_number_follows_a_size(number: Any, follows: bool | None, place: str):
    def model(x: Tensor) -> None:
        made = number(len(x))
        weight = made if place == "scale" else 1.0
        loc = x * made if place == "call" else x
        with poutine.scale(scale=weight), pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, made if place == "parameter" else 1.0))

    assert guards_of(model, values(8)) == {True: [], False: [8], None: [slice(None, 101)]}[follows]
    assert_same(model, values(8))
    if follows:
        assert dgm.check(model, (values(8),)).sizes
        assert_same(model, values(8), dtype=torch.float64)


def test_a_real_number_in_a_constant_fixes_the_size():
    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(x, torch.tensor([1 / len(x), 2.0]).sum()).to_event(1))

    assert guards_of(model, values(8)) == [8]


def test_numbers_of_two_sizes_follow_both():
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(x.sum(-1) / (x.shape[0] * x.shape[1]), 1 / (x.shape[0] * x.shape[1])))

    assert not size_guards(dgm.trace(model, (values(4, 3),)))
    assert_same(model, values(4, 3), dtype=torch.float64)


def test_quotients_are_exact_or_nothing():
    points = [((4,), 2.5), ((5,), 2.0), ((11,), 10 / 11)]
    assert quotient(points, ["n"]) == Quotient(10.0, 1, Size.symbol("n"))
    assert quotient([*points, ((1003,), 10 / 1003 + 1e-15)], ["n"]) is None
    assert quotient([((4,), math.nan), ((5,), 1.0)], ["n"]) is None
    assert quotient([((4,), 0.0), ((5,), 1.0)], ["n"]) is None


def test_large_programs_are_not_tried_at_large_sizes(monkeypatch: pytest.MonkeyPatch):
    """What a recording costs is told from the sizes found, so the same program always has the same guards."""
    from dgmcompile.frontends import sizes

    monkeypatch.setattr(sizes, "_AFFORDABLE", 200)
    model = of_length(lambda n: min(n, 100))
    assert guards_of(model, values(8)) == []  # up to 32 elements only
    monkeypatch.setattr(sizes, "_AFFORDABLE", 5000)
    assert guards_of(model, values(8)) == [slice(None, 101)]


def test_a_loss_is_compiled_again_where_a_bound_fails():
    teacher, student = of_length(lambda n: min(n, 30)), of_length(lambda n: min(n, 30))
    loss = dgm.Distillation(latent_weight=0.0)(teacher, student)
    assert loss(values(8)).shape == loss(values(12)).shape == ()
    assert len(loss._losses) == 1
    assert loss(values(40)).shape == ()
    assert len(loss._losses) == 2


@pytest.mark.parametrize("known", [True, False])
def test_lengths_that_were_equal_have_to_be_so_where_only_a_size_is_read(known: bool):
    """The program may have compared them."""

    def model(x: Tensor, y: Tensor) -> None:
        loc = x * 2 if len(x) == len(y) else x
        pyro.sample("v", dist.Normal(loc, 1.0).to_event(1))

    compiled = dgm.compile(dgm.compact(dgm.semi_auxiliary(dgm.trace(model, (torch.ones(3), torch.ones(3))))))
    given = (torch.zeros(4), torch.zeros(4)) if known else (torch.zeros(4),)
    assert compiled(*given)["v"].shape == (4,)
    with pytest.raises(ValueError, match=r"y\.shape\[0\] has to be .*of one length"):
        compiled(torch.zeros(4), torch.zeros(5))


def test_a_sampler_that_needs_numbers_ends_where_there_are_none():
    """At no features the concentration is NaN, and torch's sampler would reject every proposal."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.VonMises(0.0, x.mean(-1).exp()))
            pyro.sample("y", dist.VonMises(z, 2.0))

    assert dgm.trace(model, (values(4, 3),)).latents == ("z",)


# -- rank and dtype ----------------------------------------------------------------------------------------------------


def _of_any_rank(x: Tensor) -> None:
    x = x.unsqueeze(0) if x.dim() == 1 else x
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x, 1.0).to_event(1))


def test_another_rank_is_refused_and_recorded_again_by_a_loss():
    graph = dgm.trace(_of_any_rank, (values(4, 3),))
    assert "x.dim() == 2" in str(graph.report())
    with pytest.raises(ValueError, match=r"x\.dim\(\) has to be 2: it was recorded so"):
        dgm.compile(graph)(values(3))
    loss = dgm.Distillation()(_of_any_rank, _of_any_rank)
    for x in (values(4, 3), values(3), values(2, 3)):
        assert loss(x) == 0


def _of_any_dtype(x: Tensor) -> None:
    x = x if x.is_floating_point() else x / 255
    pyro.sample("z", dist.Normal(x, 1.0).to_event(1))


def test_whole_numbers_are_refused_where_the_program_asks_for_the_dtype():
    graph = dgm.trace(_of_any_dtype, (values(4),))
    assert dgm.parse(str(graph)) == graph
    assert dgm.compile(graph)(values(4).double())["z"].dtype == torch.float64
    whole = (255 * values(4)).to(torch.uint8)
    with pytest.raises(ValueError, match=r"x\.is_floating_point\(\) has to be True: the program asks for its dtype"):
        dgm.compile(graph)(whole)
    assert_same(_of_any_dtype, whole)
    loss = dgm.Distillation()(_of_any_dtype, _of_any_dtype)
    assert loss(values(4)) == loss(whole) == 0
