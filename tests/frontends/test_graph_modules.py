"""Programs that are graphs of torch.fx already: what `torch.fx.symbolic_trace` and `torch.export` make."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.distributions import Categorical, Normal
from torch.export import Dim, ExportedProgram, export

import dgmcompile as dgm
from dgmcompile.frontends import fx_source
from tests import seeds

X = torch.randn(6, 3, generator=seeds.generator(0))
BATCH = {"x": {0: Dim("batch", min=2, max=64)}}


def drawn(mean: Tensor, std: Tensor) -> Tensor:
    return mean + std * torch.randn_like(std)


class Model(nn.Module):
    """Latents by a call, in one line and in several, and from a function."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(3, hidden), nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        mean, raw = self.above(torch.tanh(self.below(x))).chunk(2, -1)
        z = drawn(mean, F.softplus(raw))
        gate = (torch.rand_like(z) < torch.sigmoid(
            mean)).float()  # fmt: skip
        pixels = torch.bernoulli(torch.sigmoid(z * gate))
        return pixels


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.drop(self.layer(x))
        z = mean + torch.randn_like(mean)
        return z.sin()


class Frozen(nn.Module):
    """Its scale carries no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.scale = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            std = self.scale(x).exp()
        z = self.mean(x) + std * torch.randn_like(std)
        return z


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        z = x + torch.randn_like(x)
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (z,))


class Counter(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x + self.calls * torch.randn_like(x)


def exported(module: nn.Module, **sizes: Any) -> ExportedProgram:
    return export(module, (X,), **sizes)


def sites(program: Any) -> list[tuple[str, str, str]]:
    return [(node.site.role, node.site.name, node.family) for node in dgm.trace(program, (X,)).samples if node.site]


def refusal(program: Any) -> dgm.diagnostics.Diagnostic:
    with pytest.raises(dgm.CompileError) as raised:
        dgm.trace(program, (X,))
    return raised.value.diagnostics[0]


def line_of(text: str) -> int:
    """The number of the first line of this file that has the text."""
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def test_an_exported_program_has_the_variables_of_the_program():
    assert sites(exported(Model())) == sites(Model())
    assert [name for _, name, _ in sites(Model())] == ["z", "gate", "pixels"]


def test_its_nodes_stand_where_the_program_computes_them():
    graph = dgm.trace(exported(Model()), (X,))
    places = {node.site.name: node.location for node in graph.samples if node.site and node.location}
    assert {place.file for place in places.values()} == {__file__}
    assert places["z"].line == line_of("z = drawn(") or places["z"].line == line_of("return mean + std")
    assert places["pixels"].line == line_of("pixels = torch.bernoulli")


@pytest.mark.parametrize("program", [Model(), WithDropout().eval(), Frozen()], ids=["draws", "eval", "no_grad"])
def test_graphs_are_the_same_programs(program: nn.Module):
    assert dgm.check(exported(program), (X,)).ok
    assert dgm.check(exported(program, dynamic_shapes=BATCH), (X,)).sizes == {"x.shape[0]": 9}
    assert dgm.check(exported(program, dynamic_shapes=BATCH), (X,)).ok


def test_what_was_exported_under_no_grad_carries_no_gradient():
    form = dgm.compile(dgm.auxiliary(dgm.trace(exported(Frozen()), (X,))))
    form(X)["z"].sum().backward()
    gradients = {name: parameter.grad for name, parameter in form.named_parameters()}
    assert gradients["mean.weight"] is not None and gradients["scale.weight"] is None


def test_a_traced_module_calls_its_variables_as_its_nodes():
    traced = fx.symbolic_trace(WithDropout().eval())
    assert sites(traced) == [("latent", "add", "Normal"), ("target", "sin", "Delta")]
    assert dgm.trace(traced, (X,), names={"add": "z"}).sites().keys() == {"z", "sin"}
    assert dgm.check(traced, (X,)).ok


def test_a_tracer_that_records_stack_traces_is_believed():
    tracer = fx.Tracer()
    tracer.record_stack_traces = True
    module = Frozen()
    traced = fx.GraphModule(module, tracer.trace(module))
    assert sites(traced) == sites(module)


def test_lines_that_have_changed_since_are_not_believed():
    trace = f'  File "{__file__}", line {line_of("z = drawn(")}, in forward\n    '
    assert fx_source._stack(trace + "z = drawn(mean, F.softplus(raw))\n")
    assert not fx_source._stack(trace + "z = drawn(mean, raw)\n")


def test_an_exported_teacher_is_the_module_itself():
    teacher, student = Model(16).eval(), Model(2)
    losses = [
        dgm.compile(dgm.pair(program, student, model_args=(X,)), latent_weight=0.5)
        for program in (teacher, exported(teacher, dynamic_shapes=BATCH))
    ]
    noise = losses[0].sample_noise(X)
    first, second = (loss(X, noise=noise) for loss in losses)
    assert {**first.latent, **first.surrogate}.keys() == {"z", "gate", "pixels"}
    torch.testing.assert_close(first.total, second.total)


def test_an_exported_student_is_trained():
    student = exported(Model(2))
    loss = dgm.compile(dgm.pair(Model(16), student, model_args=(X,)))
    loss(X).total.backward()
    trained = dict(loss.named_parameters())
    assert all(any(p is q for q in trained.values()) for p in student.module().parameters())


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [Branch(), exported(Branch())], ids=["module", "exported"])
def test_a_branch_by_a_value_is_refused_where_the_program_has_it(program: Any):
    found = refusal(program)
    assert found.code == "value-branch" and "torch.cond" in found.message and "torch.where" in found.help
    assert found.location and found.location.line == line_of("return torch.cond")


def test_a_branch_inside_of_a_graph_is_refused():
    graph = fx.Graph()
    x = graph.placeholder("x")
    noise = graph.call_function(torch.randn_like, (x,))
    positive = graph.call_function(bool, (graph.call_method("sum", (noise,)),))
    graph.output(graph.call_function(lambda a, b: a.sin() if b else a.cos(), (x, positive)))
    assert refusal(fx.GraphModule(nn.Module(), graph)).code == "value-branch"


def test_state_that_a_graph_writes_is_refused_where_the_program_writes_it():
    found = refusal(exported(Counter()))
    assert found.code == "state-write" and found.location and found.location.line == line_of("self.calls.add_(1)")


def test_a_program_that_was_exported_in_train_mode_is_told():
    program = exported(WithDropout())
    for graph in (dgm.trace(program, (X,)), dgm.pair(program, WithDropout().eval(), model_args=(X,))):
        found = [warning for warning in graph.warnings if warning.code == "random-call"]
        assert found and found[0].location and found[0].location.line == line_of("mean = self.drop(")
        assert "export model.eval()" in found[0].help


def test_a_result_that_no_draw_reaches_is_told():
    layer = nn.Linear(3, 2)

    def both(x: Tensor) -> dict[str, Tensor]:
        z = layer(x) + torch.randn(len(x), 2)
        return {"mean": layer(x), "value": z.exp()}

    def none(x: Tensor) -> Tensor:
        return layer(x)

    def marked(x: Tensor) -> Tensor:
        logits = layer(x)
        dgm.target("label", Categorical(logits=logits))
        return logits

    def all_drawn(x: Tensor) -> Tensor:
        z = Normal(layer(x), 1.0).rsample()
        return z

    told = {program.__name__: dgm.trace(program, (X,)).warnings for program in (both, none, marked, all_drawn)}
    assert [(w.code, w.severity) for w in told["both"]] == [("certain-target", "warning")]
    assert "'mean'" in told["both"][0].message
    assert [(w.code, w.severity) for w in told["none"]] == [("certain-target", "note")]
    assert not told["marked"] and not told["all_drawn"]


class Windows(nn.Module):
    """Windows that overlap, each written by itself."""

    def forward(self, x: Tensor) -> Tensor:
        series = x.flatten().clone()
        windows = series.unfold(0, 4, 2)
        windows.add_(torch.randn_like(windows))
        return series.exp()


@pytest.mark.parametrize("kind", ["module", "traced", "exported"])
def test_writes_of_which_the_order_matters_are_refused(kind: str):
    module = Windows()
    found = refusal({"module": module, "traced": fx.symbolic_trace(module), "exported": exported(module)}[kind])
    assert found.code == "view-write" and "order of the writes" in found.message


def test_the_same_written_everywhere_has_no_order():
    def program(x: Tensor) -> Tensor:
        series = x.flatten().clone()
        series.unfold(0, 4, 2)[:2].zero_()
        return series + torch.randn_like(series)

    assert dgm.check(program, (X,)).ok


class Expanded(nn.Module):
    """It cannot run: it writes into what is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.zeros(1).expand(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.get_buffer("one").copy_(x[0]) + torch.randn_like(x)


def test_a_program_that_torch_does_not_run_is_refused_in_its_words():
    assert refusal(Expanded()).code == "program-raised"


# -- the same variables in each form -----------------------------------------------------------------------------------


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)


class InOneLine(Layers):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.exp(self.a(x) + 0.5 * torch.randn_like(x))
        return self.b(z)


class Labels(Layers):
    def forward(self, x: Tensor) -> Tensor:
        k = (self.a(x) - torch.log(-torch.log(torch.rand_like(x)))).argmax(-1)
        return self.b(x) * k[:, None]


class Soft(Layers):
    def forward(self, x: Tensor) -> Tensor:
        w = F.gumbel_softmax(self.a(x), tau=0.5)
        return self.b(w)


class Looped(Layers):
    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(3):
            h = torch.tanh(self.a(h)) + 0.1 * torch.randn_like(h)
        return self.b(h)


class LoopedOverNoise(Layers):
    def forward(self, x: Tensor) -> Tensor:
        noise, h = torch.randn(4, len(x), 3), x
        for t in range(4):
            h = torch.tanh(self.a(h)) + 0.1 * noise[t]
        return self.b(h)


class LoopedOverColumns(Layers):
    def forward(self, x: Tensor) -> Tensor:
        noise, hs, h = torch.randn(len(x), 4, 3), [], x
        for t in range(4):
            h = torch.tanh(self.a(h)) + 0.1 * noise[:, t]
            hs.append(h)
        return self.b(torch.stack(hs, 1))


class Largest(Layers):
    def forward(self, x: Tensor) -> Tensor:
        k = (self.a(x) - torch.log(-torch.log(torch.rand_like(x)))).max(-1).indices
        return self.b(x) * k[:, None]


class Gaussian(Layers):
    def forward(self, x: Tensor) -> Tensor:
        lower = torch.linalg.cholesky(self.a.weight @ self.a.weight.mT + torch.eye(3))
        z = self.a(x) + torch.einsum("ij,bj->bi", lower, torch.randn_like(x))
        return self.b(z)


class Powers(Layers):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.rand_like(x) ** (1 / self.a(x).exp())
        return self.b(z)


class Assigned(Layers):
    """Pixels, each from those before."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = torch.zeros(len(x), 3)
        for t in range(3):
            pixel = torch.bernoulli(torch.sigmoid(self.a(pixels)[:, t] + x[:, 0]))
            pixels[:, t] = pixel
        return pixels


class InPairs(Layers):
    def forward(self, x: Tensor) -> Tensor:
        z, w = self.a(x) + torch.randn_like(x), self.b(x) + torch.randn_like(x)
        return (z * w).tanh()


class Keyed(Layers):
    def forward(self, x: Tensor) -> Tensor:
        zs = {
            "one": self.a(x) + torch.randn_like(x),
            "two": self.b(x) + torch.randn_like(x),
        }
        return (zs["one"] * zs["two"]).tanh()


class Squeezed(Layers):
    def forward(self, x: Tensor) -> Tensor:
        k = torch.multinomial(torch.softmax(self.a(x), -1), 1).squeeze(-1)
        return self.b(x) * k[:, None]


class Sliced(Layers):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        mean = h[:, :2]
        rest = h.clone()
        rest[:, 1:] = 0.5
        z = mean + torch.randn_like(mean)
        return z.exp() + rest[:, :2]


KINDS = [InOneLine, Labels, Soft, Looped, LoopedOverNoise, LoopedOverColumns, InPairs, Keyed, Squeezed, Sliced]
KINDS += [Largest, Gaussian, Powers, Assigned]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_program_has_all_variables_of_the_module(kind: type[nn.Module]):
    module = kind()
    assert sites(exported(module)) == sites(module)
    assert dgm.check(module, (X,)).ok and dgm.check(exported(module), (X,)).ok


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not InOneLine])
def test_a_graph_that_knows_no_lines_has_the_laws_of_the_module(kind: type[nn.Module]):
    """Of ``exp(mean + noise)`` either may be the variable; of what a label is made of, only the label."""
    module = kind()
    graph = torch.export.export(module, (X,)).module()
    for node in graph.graph.nodes:
        node.meta.pop("stack_trace", None)
    latents = [(role, family) for role, _, family in sites(graph) if role == "latent"]
    assert latents == [(role, family) for role, _, family in sites(module) if role == "latent"]
    assert dgm.check(graph, (X,)).ok


def test_a_size_that_an_exported_program_reads_may_differ():
    class OfSize(Layers):
        def forward(self, x: Tensor) -> Tensor:
            z = torch.exp(self.a(x)) * torch.randn(x.shape[0], 3)
            return self.b(z.view(x.shape[0], 3))

    report = dgm.check(exported(OfSize(), dynamic_shapes=BATCH), (X,))
    assert report.ok and report.sizes == {"x.shape[0]": 9}


POSITIVE = torch.rand(5, 4, generator=seeds.generator(1)) + 0.1
ORDER = torch.tensor([2, 0, 1])

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "bce": lambda x: F.binary_cross_entropy_with_logits(x, x),
    "kl_div": lambda x: F.kl_div(x, x, reduction="sum"),
    "margin": lambda x: F.margin_ranking_loss(x[:, 0], x[:, 1], x[:, 2].sign()),
    "mse": lambda x: F.mse_loss(x, x + 1),
    "cross_entropy": lambda x: F.cross_entropy(x, x.argmax(-1)),
    "columns": lambda x: x[:, ORDER] * 2,
    "pairs": lambda x: x[ORDER, ORDER],
    "rows": lambda x: x[x.argmax(0)],
    "transposed": lambda x: x.T * 2,
    "interpolate": lambda x: F.interpolate(x[None, None], scale_factor=2.0, mode="bilinear"),
    "avg_pool": lambda x: F.avg_pool2d(x[None], 2),
    "unfold": lambda x: F.unfold(x[None, None], 2),
    "normalize": F.normalize,
    "relu6": lambda x: F.relu6(x) + 1,
    "glu": F.glu,
    "inverse": lambda x: torch.linalg.inv(x.T @ x + torch.eye(4)),
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "erfcx": torch.special.erfcx,
    "tensordot": lambda x: torch.tensordot(x, x.T, dims=1),
    "block_diag": lambda x: torch.block_diag(x, x),
    "cartesian": lambda x: torch.cartesian_prod(x[:, 0], x[:, 1]),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, x),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
}


def decomposition(program: ExportedProgram) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its own code
        return program.run_decompositions()


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.empty_like(x).normal_(1.0, 2.0)
        return z.sin()


def test_a_draw_in_place_is_one_after_decomposition():
    program = decomposition(export(InPlace(), (POSITIVE,)))
    (latent,) = (node for node in dgm.trace(program, (POSITIVE,)).samples if node.site and node.site.role == "latent")
    assert (latent.family, latent.params) == ("Normal", {"loc": 1.0, "scale": 2.0})
    assert dgm.check(program, (POSITIVE,)).ok


class Autoregressive(nn.Module):
    """Each element is drawn around what the ones before say, into its place."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros_like(x)
        for i in range(4):
            loc, scale = self.net(u)[:, i], self.net(u)[:, 4 + i].exp()
            u[:, i] = loc + scale * torch.randn(len(x))
        return u


def test_what_an_exported_program_assigns_to_parts_is_named_as_in_its_source():
    program = export(Autoregressive(), (POSITIVE,))
    graph = dgm.trace(program, (POSITIVE,))
    assert graph.targets == ("u_0", "u_1", "u_2", "u_3") and not graph.noises
    assert dgm.check(program, (POSITIVE,)).ok


class Applies(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return torch.normal(self.function(x), 1.0)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_called_as_they_were_exported(name: str, decomposed: bool):
    program = export(Applies(OPERATORS[name]), (POSITIVE,))
    program = decomposition(program) if decomposed else program
    graph = dgm.trace(program, (POSITIVE,))
    assert dgm.check(program, (POSITIVE,)).ok
    compiled: Any = dgm.compile(graph)
    noise = compiled.sample_noise(POSITIVE)
    (eps,) = noise.values()
    torch.testing.assert_close(compiled(POSITIVE, noise=noise)["output"], OPERATORS[name](POSITIVE) + eps)
    assert dgm.parse(str(graph)) == graph
    torch.testing.assert_close(dgm.to_fx(graph)(POSITIVE, noise=noise), compiled(POSITIVE, noise=noise))


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor | None = None, *, scale: Tensor) -> Tensor:
        loc = self.net(x) * scale
        return torch.normal(loc if y is None else loc + y, 1.0)


def test_arguments_that_were_exported_by_keyword_are_passed_so():
    scale = torch.tensor(2.0)
    program = export(ByKeyword(), (POSITIVE,), {"scale": scale})
    assert dgm.check(program, (POSITIVE,), {"scale": scale}).ok
    assert dgm.check(program.module(), (POSITIVE,), {"scale": scale}).ok
    both = export(ByKeyword(), (POSITIVE,), {"scale": scale, "y": POSITIVE[:, :1]})
    assert dgm.check(both, (POSITIVE,), {"y": POSITIVE[:, :1], "scale": scale}).ok


def test_exported_programs_are_distilled_in_pyros_idiom():
    teacher, student = Applies(nn.Linear(4, 3)), Applies(nn.Linear(4, 3))
    loss = dgm.Distillation()(export(teacher, (POSITIVE,)), export(student, (POSITIVE,)))(POSITIVE)
    by_hand = 0.5 * (teacher.function(POSITIVE) - student.function(POSITIVE)).square().sum(-1).mean()
    torch.testing.assert_close(loss, by_hand)


def test_a_refusal_leaves_no_transform_open():
    program = export(Applies(torch.vmap(torch.sin)), (POSITIVE,))
    with pytest.raises(dgm.CompileError, match="functional-transform"):
        dgm.trace(program, (POSITIVE,))
    torch.randn(1)  # which raises inside of vmap


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.normal(self.norm(x), 1.0)


def test_statistics_that_an_exported_program_moves_are_told():
    def codes(program: Any) -> list[str]:
        return [warning.code for warning in dgm.trace(program, (POSITIVE,)).warnings]

    assert codes(export(Normalised(), (POSITIVE,))) == ["moving-statistics"]
    assert codes(export(Normalised().eval(), (POSITIVE,))) == codes(Normalised()) == []
