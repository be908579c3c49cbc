"""Compaction: each rule, and what each must leave alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import cleandoc

import pytest
import torch
from torch import nn

from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Call, Constant, Graph
from dgmcompile.ir.torch_calls import folding_function
from dgmcompile.passes import Compact, compact, node_counts, semi_auxiliary, stochastic_depth

Parse = Callable[[str], Graph]


def with_inputs(body: str) -> str:
    """``body`` with tensors to work on, of which the first has a size of its own."""
    inputs = """
        x: float32[batch, 4] = input()
        batch = size(x, 0)
        n: int64[4] = input()
        c: complex64[4] = input()
    """
    return f"{cleandoc(inputs)}\n{cleandoc(body)}"


def _is_kept(parse: Parse, line: str) -> bool:
    """Does the call that ``line`` defines as ``y`` survive?"""
    graph = compact(parse(with_inputs(f"{line}\nw = torch.unbind(y)\nreturn w")))
    return "y" in graph


SIMPLIFIED = {
    "torch.Tensor.add(x, 0)": "adds 0",
    "torch.add(0.0, x)": "adds 0",
    "torch.Tensor.add(x, zeros)": "adds 0",
    "torch.Tensor.add(x, zeros_like)": "adds 0",
    "torch.Tensor.add(expanded, x)": "adds 0",
    "torch.Tensor.sub(x, 0)": "subtracts 0",
    "torch.Tensor.mul(x, 1)": "multiplies by 1",
    "torch.mul(ones, x)": "multiplies by 1",
    "torch.Tensor.mul(x, full)": "multiplies by 1",
    "torch.Tensor.div(x, 1.0)": "divides by 1",
    "torch.Tensor.__pow__(x, 1)": "raises to the power of 1",
    "torch.Tensor.neg(negative)": "negates twice",
    "torch.Tensor.expand(x, (batch, 4))": "has the shape already",
    "torch.broadcast_to(x, (batch, 4))": "has the shape already",
    "torch.Tensor.view(x, -1, 4)": "has the shape already",
    "torch.reshape(x, (batch, 4))": "has the shape already",
    "torch.Tensor.to(x, torch.float32)": "has the dtype already",
    "torch.Tensor.to(x, dtype=torch.float32)": "has the dtype already",
    "torch.Tensor.float(x)": "has the dtype already",
    "torch.clone(x)": "a copy",
    "torch.nn.functional.dropout(x, 0.5, False)": "dropout outside of training",
    "torch.nn.functional.dropout(x, p=0.5, training=False)": "dropout outside of training",
    "identity(x)": "another name of 'x'",
    "getitem((x, n), 0)": "an element of what was put together",
    "getitem(unbound, 1)": "an element of what was put together",
    "getitem(broadcast, 0)": "an element of what was put together",
    "torch.Tensor.__getitem__(stacked, -1)": "an element of what was put together",
    "normal_from_noise(x, 0.0, 1.0)": "normal_from_noise at loc=0, scale=1 is its noise",
    "normal_from_noise(x, zeros, ones)": "normal_from_noise at loc=0, scale=1 is its noise",
    "uniform_from_noise(x, 0, 1)": "uniform_from_noise at low=0, high=1 is its noise",
    "exponential_from_noise(x, full)": "exponential_from_noise at rate=1 is its noise",
}


@pytest.mark.parametrize("call", SIMPLIFIED)
def test_what_is_the_same_to_the_last_bit_is_read_directly(check_pass, call: str):
    graph = check_pass(
        Compact(),
        before=with_inputs(f"""
            zeros: float32[batch, 4] = torch.zeros(batch, 4)
            zeros_like: float32[batch, 4] = torch.zeros_like(x)
            ones: float32[batch, 4] = torch.Tensor.new_ones(x, (batch, 4))
            full: float32[4] = torch.full((4,), 1.0)
            zero: float32 = constant(0.0)
            expanded: float32[batch, 4] = torch.Tensor.expand(zero, (batch, 4))
            negative: float32[batch, 4] = torch.neg(x)
            other: float32[batch, 4] = torch.exp(x)
            stacked: float32[2, batch, 4] = torch.stack([other, x])
            along: float32[batch, 4, 2] = torch.stack((other, x), -1)
            unbound = torch.Tensor.unbind(along, 2)
            broadcast = torch.broadcast_tensors(x, other)
            y: float32[batch, 4] = {call}
            z: float32[batch, 4] = torch.sqrt(y)
            return z
        """),
        after=with_inputs("z: float32[batch, 4] = torch.sqrt(x)\nreturn z"),
        why={"y": SIMPLIFIED[call]},
    )
    assert len(graph) == 5


@pytest.mark.parametrize(
    "line",
    [
        "y: float32[batch, 4] = torch.Tensor.mul(x, 0)",  # nan and inf stay
        "y: float32[4] = torch.Tensor.mul(n, 1.0)",  # promotes
        "y: float32[4] = torch.Tensor.div(n, 1)",
        "y: complex64[4] = torch.Tensor.mul(c, 1.0)",  # inf * 0
        "y: complex64[4] = torch.clone(c)",  # which computes a conjugate
        "y: float32[batch, 4] = torch.Tensor.add(x, 0, alpha=x)",
        "y: float32[batch, 4] = torch.Tensor.__rsub__(x, 0)",
        "y: float32[batch, 4] = torch.Tensor.__rpow__(x, 1)",
        "y: float32[batch, 4] = torch.Tensor.__rtruediv__(x, 1)",
        "y: float32[3, batch, 4] = torch.Tensor.expand(x, (3, batch, 4))",
        "y: float64[batch, 4] = torch.Tensor.to(x, torch.float64)",
        'y: float32[batch, 4] = torch.Tensor.to(x, device("cpu"))',
        "y: float32[batch, 4] = torch.Tensor.to(x, device())",
        "y: float32[batch, 4] = torch.Tensor.detach(x)",  # cuts gradients
        "y: float32[batch, 4] = torch.Tensor.contiguous(x)",  # decides whether a view is possible
        "y: float32[batch, 4] = torch.nn.functional.dropout(x, 0.5)",
        "y: float32[batch, 4] = torch.nn.functional.dropout(x, 0.5, True)",
        "y: float32[batch, 4] = normal_from_noise(x, 0.0, 2.0)",
        "y: float32[2, batch, 4] = normal_from_noise(x, 0.0, 1.0)",
        "y: float32[batch, 4] = log_normal_from_noise(x, 0.0, 1.0)",
        "y: float32[batch, 4] = torch.transpose(x, 0, 1)",  # the shape tells nothing
        "y: int32[batch, 4] = torch.Tensor.view(x, torch.int32)",
        "y: float32[batch, 4] = torch.special.add(x, 0)",
    ],
)
def test_what_is_not_the_same_stays(parse: Parse, line: str):
    assert _is_kept(parse, line)


def test_bits_of_another_dtype_are_not_a_number_any_more(parse: Parse):
    graph = compact(
        parse(
            with_inputs("""
            ones: float32[batch, 4] = torch.ones(batch, 4)
            bits: int32[batch, 4] = torch.Tensor.view(ones, torch.int32)
            m: int32[batch, 4] = input()
            y: int32[batch, 4] = torch.mul(m, bits)
            return y
        """)
        )
    )
    assert "bits" in graph


def test_a_site_keeps_its_name_and_its_readers_read_the_source(check_pass):
    check_pass(
        Compact(),
        before="""
            z_noise: float32[3] = noise.StandardNormal()
            z: float32[3] = normal_from_noise(z_noise, 0.0, 1.0).latent(family="Normal")
            d: float32[3] = identity(z).deterministic("two words", family="Delta")
            y: float32[3] = sample.Normal(loc=z, scale=1.0).transform.AffineTransform(loc=d, scale=1.0).mask(z).target()
        """,
        after="""
            z_noise: float32[3] = noise.StandardNormal()
            z: float32[3] = identity(z_noise).latent(family="Normal")
            d: float32[3] = identity(z_noise).deterministic("two words", family="Delta")
            y: float32[3] = sample.Normal(loc=z_noise, scale=1.0)
                .transform.AffineTransform(loc=z_noise, scale=1.0).mask(z_noise).target()
        """.replace("\n                .", "."),
        why={"z": "normal_from_noise at loc=0, scale=1 is its noise"},
    )


def test_an_output_without_a_site_is_the_source_itself(check_pass):
    graph = check_pass(
        Compact(),
        before='x: [3] = input()\ny: [3] = identity(x)\nreturn {"result": y}',
        after='x: [3] = input()\nreturn {"result": x}',
    )
    assert graph.outputs == {"result": "x"}


def test_calls_of_constants_are_computed(check_pass):
    check_pass(
        Compact(),
        before="""
            a: float32[2] = constant((0.0, 1.0))
            two: float64 = torch.tensor(2.0, dtype=torch.float64)
            e: float32[2] = torch.exp(a)
            f: float64[2] = torch.Tensor.to(e, torch.float64)
            g: float64[2] = torch.Tensor.mul(f, two)
            h: float64[2, 1] = torch.unsqueeze(g, dim=-1)
            t: float64[1, 2] = torch.Tensor.mT(h)
            s: bool[2] = torch.Tensor.gt(e, 1.5).deterministic()
            return {"t": t, "s": s}
        """,
        after=f"""
            t: float64[1, 2] = constant(((2.0, {2 * torch.tensor(1.0).exp().double().item()!r}),))
            s: bool[2] = constant((False, True)).deterministic()
            return t, s
        """,
        why={"t": "computed from constants", "two": "nothing reads it"},
    )


@pytest.mark.parametrize(
    "line",
    [
        "y: float32[2] = torch.bernoulli(a)",
        "y: float32[2] = torch.Tensor.normal_(a)",
        "y: float32[2] = torch.nn.functional.dropout(a, 0.5)",
        "y: float32[2] = torch.empty_like(a)",
        "y: float32[65] = torch.Tensor.expand(b, (65,))",  # too long to be read
        "y: float32[2] = torch.Tensor.expand(b, (batch,))",
        'y: float32[2] = torch.Tensor.to(a, device("cuda"))',
        'y: float32[2] = torch.zeros(2, device="meta")',
        "y: float64[2] = torch.exp(a)",  # not what was recorded
        "y: float32[3] = torch.exp(a)",
        "y: float32[2] = torch.linalg.cholesky(a)",  # fails, and where it runs it shall fail
        'y: float32[2] = torch.load("file")',
        "y: float32[2] = self.net(a)",
    ],
)
def test_what_is_not_computed_while_compiling(parse: Parse, line: str):
    graph = compact(
        parse(f"""
            x: float32[batch] = input()
            batch = size(x, 0)
            a: float32[2] = constant((0.5, 0.25))
            b: float32 = constant(0.5)
            {line}
            return y
        """)
    )
    assert isinstance(graph["y"], Call)


@pytest.mark.parametrize(
    "target", ["torch.load", "torch.save", "torch.hub.load", "torch.compile", "torch.nope", "os.x"]
)
def test_only_functions_on_tensors_are_ever_run(target: str):
    assert folding_function(target) is None


def test_a_factory_stays_as_it_reads_better_than_its_numbers(parse: Parse):
    text = "y: float32[8, 8] = torch.zeros(8, 8)\nreturn y"
    assert str(compact(parse(text))) == text


def test_repeated_work_is_done_once(check_pass):
    check_pass(
        Compact(),
        before="""
            x: float32[3] = input()
            p: float32[3] = param("a.weight")
            q: float32[3] = param("a.weight")
            f: float32[3] = torch.add(x, p)
            g: float32[3] = torch.add(x, q)
            parts = torch.unbind(f)
            again = torch.unbind(g)
            h: float32 = getitem(again, 0).deterministic()
            i: float32 = getitem(parts, 0).deterministic()
            j: float32 = torch.sum(i, dim=0, keepdim=False)
            k: float32 = torch.sum(h, keepdim=False, dim=0)
            l: float32[3] = sigmoid(x)
            y: float32 = torch.addcmul(j, k, l)
            return y, h, i
        """.replace("sigmoid(x)", "torch.sigmoid(x)"),
        after="""
            x: float32[3] = input()
            p: float32[3] = param("a.weight")
            f: float32[3] = torch.add(x, p)
            parts = torch.unbind(f)
            h: float32 = getitem(parts, 0).deterministic()
            i: float32 = identity(h).deterministic()
            j: float32 = torch.sum(h, dim=0, keepdim=False)
            l: float32[3] = torch.sigmoid(x)
            y: float32 = torch.addcmul(j, j, l)
            return y, h, i
        """,
        why={"g": "repeats 'f'", "q": "repeats 'p'", "k": "repeats 'j'", "i": "repeats 'h'"},
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("torch.bernoulli(x)", "torch.bernoulli(x)"),
        ("torch.nn.functional.dropout(x, 0.5)", "torch.nn.functional.dropout(x, 0.5)"),
        ("torch.empty(3)", "torch.empty(3)"),
        ("self.net(x)", "self.net(x)"),
        ("torch.mul(x, 2)", "torch.mul(x, 2.0)"),
        ("torch.mul(x, 0.0)", "torch.mul(x, -0.0)"),
        ("torch.add(x, True)", "torch.add(x, 1)"),
        ("torch.sum(x, dim=0)", "torch.sum(x, dim=1)"),
        ("noise.StandardNormal()", "noise.StandardNormal()"),
    ],
)
def test_what_is_not_repeated_work(parse: Parse, first: str, second: str):
    graph = compact(parse(f"x: float32[3] = input()\na: float32[3] = {first}\nb: float32[3] = {second}\nreturn a, b"))
    assert graph.outputs == {"a": "a", "b": "b"} and "b" in graph


def test_nan_repeats_nan(parse: Parse):
    graph = parse(
        'x: [3] = input()\na: [3] = torch.mul(x, float("nan"))\nb: [3] = torch.mul(x, float("nan"))\nreturn a, b'
    )
    assert compact(graph).outputs == {"a": "a", "b": "a"}


class _Doubles(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def _hooked() -> nn.Module:
    net = nn.Linear(3, 3)
    net.register_forward_hook(lambda *args: None)
    return net


@pytest.mark.parametrize(
    ("module", "body", "merged"),
    [
        (nn.Linear(3, 3), None, True),
        (nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Tanh())), None, True),
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), None, False),
        (nn.BatchNorm1d(3), None, False),
        (nn.ReLU(inplace=True), None, False),
        (_hooked(), None, False),
        (_Doubles(), None, False),
        (_Doubles(), "x: [3] = input()\ny: [3] = torch.mul(2, x)\nreturn y", True),
        (_Doubles(), "x: [3] = input()\ny: [3] = torch.bernoulli(x)\nreturn y", False),
        (_Doubles(), "x: [3] = input()\ny: [3] = self.inner(x)\nreturn y", False),
    ],
)
def test_submodules_are_merged_only_where_they_are_known_to_be_pure(
    parse: Parse, module: nn.Module, body: str | None, merged: bool
):
    binding = Binding(modules={"net": Submodule(module, parse(body) if body else None)})
    graph = parse("x: float32[3] = input()\na: float32[3] = self.net(x)\nb: float32[3] = self.net(x)\nreturn a, b")
    assert ("b" not in compact(graph.evolve(binding=binding))) is merged


def test_dead_code_and_unread_noise_go_and_inputs_stay(check_pass):
    graph = check_pass(
        Compact(),
        before="""
            model = graph(x, unread, lengths, guarded)
            x: float32[batch, 3] = input()
            unread: float32[k, 3] = input()
            lengths: int64[m] = input()
            m = size(lengths, 0)
            guarded: float32[2] = input()
            batch = size(x, 0)
            k = size(unread, 0)
            e: float32[batch] = noise.StandardNormal()
            used: float32[m] = noise.StandardNormal()
            p: float32[3] = param()
            f: float32[batch] = torch.exp(e)
            y: float32[batch, 3] = torch.exp(x)
            guard("guarded", dim=0, expected=2, reason="a loop over it")
            return y, used
        """,
        after="""
            model = graph(x, optional(unread), lengths, guarded)
            x: float32[batch, 3] = input()
            unread: float32[k, 3] = input()
            lengths: int64[m] = input()
            m = size(lengths, 0)
            guarded: float32[2] = input()
            batch = size(x, 0)
            k = size(unread, 0)
            used: float32[m] = noise.StandardNormal()
            y: float32[batch, 3] = torch.exp(x)
            guard("guarded", dim=0, expected=2, reason="a loop over it")
            return {"y": y, "used": used}
        """,
        why={"e": "nothing reads it", "p": "nothing reads it"},
    )
    assert [argument.required for argument in graph.arguments] == [True, False, True, True]


def test_a_size_that_is_known_is_written_by_that_size(check_pass):
    check_pass(
        Compact(),
        before="""
            x: float32[batch, 3] = input()
            batch = size(x, 0)
            h: float32[2 * batch, 3] = torch.cat([x, x])
            rows = size(h, 0)
            columns = size(h, -1)
            again = size(x, 0)
            e: float32[rows, columns] = noise.StandardNormal()
            y: float32[rows - batch, 3] = torch.Tensor.narrow(e, 0, ref["again"], rows - again)\
.latent(plate("p", -2, rows - again))
            guard("x", dim=0, expected=again, reason="a test")
        """,
        after="""
            x: float32[batch, 3] = input()
            batch = size(x, 0)
            e: float32[2 * batch, 3] = noise.StandardNormal()
            y: float32[batch, 3] = torch.Tensor.narrow(e, 0, batch, batch).latent(plate("p", -2, batch))
            guard("x", dim=0, expected=batch, reason="a test")
        """,
        why={"rows": "is the size 2 * batch", "again": "is the size batch", "columns": "is the size 3"},
    )


def test_a_view_of_what_lies_otherwise_becomes_a_reshape(check_pass):
    """The sum is laid out afresh and can be viewed; the expanded tensor cannot."""
    check_pass(
        Compact(),
        before="""
            x: float32[3] = input()
            wide: float32[2, 3] = torch.Tensor.expand(x, (2, 3))
            copied: float32[2, 3] = torch.add(wide, 0)
            flat: float32[6] = torch.Tensor.view(copied, 6)
            other: float32[3] = torch.Tensor.view(x, 3, 1)
            turned: float32[3, 2] = torch.Tensor.t(copied)
            back: float32[2, 3] = torch.t(turned)
            flatter: float32[6] = torch.Tensor.view(back, (-1,))
            return flat, flatter
        """.replace("other: float32[3] =", "other: float32[3, 1] ="),
        after="""
            x: float32[3] = input()
            wide: float32[2, 3] = torch.Tensor.expand(x, (2, 3))
            flat: float32[6] = torch.Tensor.reshape(wide, 6)
            turned: float32[3, 2] = torch.Tensor.t(wide)
            back: float32[2, 3] = torch.t(turned)
            flatter: float32[6] = torch.Tensor.reshape(back, (-1,))
            return flat, flatter
        """,
    )


@pytest.mark.parametrize(
    ("reader", "survives"),
    [
        ("self.net(copied)", True),
        ("torch.as_strided(copied, (6,), (1,))", True),
        ("torch.Tensor.view(copied, torch.int32)", True),
        ("torch.exp(copied)", False),
    ],
)
def test_layout_is_kept_for_those_who_read_it(parse: Parse, reader: str, survives: bool):
    graph = parse(f"""
        x: float32[2, 3] = input()
        copied: float32[2, 3] = torch.add(x, 0)
        y: float32[6] = {reader}
        return y
    """)
    assert ("copied" in compact(graph)) is survives


@pytest.mark.parametrize("module", [nn.Linear(3, 3), _Doubles()])
def test_noise_lies_as_any_fresh_tensor_does(parse: Parse, module: nn.Module):
    graph = parse("""
        e: float32[2, 3] = noise.StandardNormal()
        z: float32[2, 3] = normal_from_noise(e, 0.0, 1.0).latent(family="Normal")
        y: float32[2, 3] = self.net(z)
        return y
    """).evolve(binding=Binding(modules={"net": Submodule(module)}))
    assert compact(graph)["y"].inputs == ("e",)


def test_a_whole_model(check_pass, parse: Parse):
    before = """
        vae = graph(x)
        x: float32[batch, 4] = input()
        batch = size(x, 0)
        loc: float32[batch, 2] = torch.Tensor.new_zeros(x, (batch, 2))
        scale: float32[batch, 2] = torch.ones(batch, 2, device=device())
        z: float32[batch, 2] = sample.Normal(loc=loc, scale=scale).event(1).latent(plate("data", -1, batch))
        w: float32[2, 4] = param("decoder.weight")
        h: float32[batch, 4] = torch.matmul(z, w)
        y: float32[batch, 4] = sample.Bernoulli(logits=h).event(1).target(plate("data", -1, batch))
    """
    semi = semi_auxiliary(parse(before))
    result = compact(semi)
    expected = parse("""
        vae = graph(optional(x))
        x: float32[batch, 4] = input()
        batch = size(x, 0)
        z_noise: float32[batch, 2] = noise.StandardNormal()
        z: float32[batch, 2] = identity(z_noise).latent(plate("data", -1, batch), family="Normal")
        w: float32[2, 4] = param("decoder.weight")
        h: float32[batch, 4] = torch.matmul(z_noise, w)
        y: float32[batch, 4] = sample.Bernoulli(logits=h).event(1).target(plate("data", -1, batch))
    """).evolve(arguments=result.arguments)
    assert result == expected
    assert [argument.required for argument in result.arguments] == [True]
    assert (stochastic_depth(parse(before)), stochastic_depth(result)) == (2, 1)
    assert node_counts(result) == {"Call": 3, "Input": 1, "Noise": 1, "Parameter": 1, "Sample": 1}


def test_depth_counts_dependence_on_values_only(parse: Parse):
    graph = parse("""
        a: float32[3] = sample.Normal(loc=0.0, scale=1.0).latent()
        same: float32[3] = torch.zeros_like(a)
        b: float32[3] = sample.Normal(loc=same, scale=1.0).latent()
        c: float32[3] = sample.Normal(loc=b, scale=1.0).target()
    """)
    assert stochastic_depth(graph) == 2
    assert stochastic_depth(Graph(())) == 0


def test_twenty_thousand_nodes_take_seconds(parse: Parse):
    lines = ["x: float32[4] = input()", "x0: float32[4] = torch.exp(x)"]
    lines += [f"x{i}: float32[4] = torch.add(x{i - 1}, {i % 3})" for i in range(1, 20_000)]
    graph = parse("\n".join([*lines, "return x19999"]))
    start = time.process_time()
    result = compact(graph)
    assert time.process_time() - start < 15  # it takes 1: a Graph built for each node would take hours
    assert len(result) == 2 + sum(i % 3 != 0 for i in range(1, 20_000))


def test_a_constant_with_a_site_keeps_it(parse: Parse):
    graph = compact(parse("a: [] = constant(1.0)\nz: float32[2] = torch.ones(2).latent()\n"))
    assert graph.latents == ("z",)
    folded = compact(parse("a: float32 = constant(1.0)\nz: float32 = torch.exp(a).latent()"))["z"]
    assert isinstance(folded, Constant) and folded.site and folded.site.role == "latent"
