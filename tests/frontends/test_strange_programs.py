"""Programs that do strange things: each is followed to the last digit, or refused, and never something in between."""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import dgmcompile as dgm
from tests.programs.program import seeded, values

Program = Callable[..., None]


def weights() -> Tensor:
    return pyro.param("w", torch.tensor([1.0, 2.0, 3.0]))


def latent(name: str = "z") -> Tensor:
    return pyro.sample(name, dist.Normal(torch.zeros(3), 1.0).to_event(1))


def target(loc: Tensor) -> None:
    pyro.sample("x", dist.Normal(loc, 1.0).to_event(loc.dim()))


class Net(nn.Module):
    """Calls ``made`` on a latent."""

    def __init__(self, made: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.made = seeded(made)

    def forward(self) -> None:
        target(self.made(latent()))


# -- followed ----------------------------------------------------------------------------------------------------------


def dtypes_there_and_back() -> None:
    h = (latent().double().to(torch.float16).float() * weights()).bfloat16().float()
    target(h.type(torch.float32).type_as(weights()))


def names_for_one_tensor() -> None:
    z = latent()
    a, b = z, z.view(3)
    target(a + b + b[:] + b.reshape(3) + {"z": z}["z"])


def constants_by_numpy() -> None:
    target(latent() * torch.from_numpy(np.linspace(0, 1, 3)).float() * torch.Tensor([1.0, 2.0, 3.0]))


def sites_from_a_generator() -> None:
    def walk() -> Iterator[Tensor]:
        z = torch.zeros(())
        for t in range(3):
            z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0))
            yield z

    target(torch.stack(list(walk())))


def sites_by_the_order_of_a_dict() -> None:
    target(sum({name: latent(name) for name in {"b": 1, "a": 2, "c": 3}}.values()))


def parameters_asked_for_again() -> None:
    target(latent() * weights() + pyro.param("w") + pyro.param("w", torch.zeros(3)))


def an_exception_that_is_caught() -> None:
    z = latent()
    try:
        z = z @ torch.zeros(2)
    except RuntimeError:
        z = z * 2
    target(z)


def complex_numbers() -> None:
    z = torch.complex(latent(), weights())
    target((z * z.conj()).real + torch.fft.fft(z).abs() + torch.view_as_real(z).sum(-1))


def sums_by_einstein() -> None:
    target(torch.einsum("i,ij->j", latent(), torch.ones(3, 3) * weights()))


def a_forked_generator() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        z = latent()
    target(z)


def another_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        target(latent() * torch.ones(3))
    finally:
        torch.set_default_dtype(torch.float32)


def a_one_hot_write() -> None:
    k = pyro.sample("k", dist.Categorical(torch.ones(3)))
    h = torch.zeros(3)
    h[k] = 1.0
    target(h * weights())


def elements_made_a_tensor() -> None:
    z = latent()
    first, second, third = z.detach()
    target(torch.tensor([first, second, third]) + torch.stack(list(z))[[2, 0, 1]])


def elements_swapped() -> None:
    """``h[0], h[1] = h[1], h[0]`` of views copies one element twice."""
    h = latent().clone()
    h[0], h[1] = h[1], h[0]
    target(h)


def writes_through_chains_of_views() -> None:
    h = torch.zeros(2, 3)
    flat, row = h.view(6), h[1]
    flat[3:] = latent()
    flat.add_(1.0)
    target(h.sum(0) + flat[:3] + row)


def writes_through_overlapping_windows() -> None:
    h = torch.zeros(4)
    windows = h.unfold(0, 2, 1)
    h[1:] = latent()
    target(windows.sum(1) + latent("other"))


def shapes_changed_in_place() -> None:
    h = latent().clone()
    h.unsqueeze_(0).mul_(2.0)
    h.t_()
    target(h.squeeze(-1))


def results_with_names() -> None:
    z = latent()
    top, order = z.topk(2), z.sort()
    target(order.values + order.indices + top.values.sum() + z.max(0).indices)


def arrays_on_the_same_memory() -> None:
    """A tensor made of an array shares its memory; so does one made by DLPack."""
    ones, z = torch.ones(3), latent().detach().clone()
    torch.from_numpy(ones.numpy()).add_(1.0)
    torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(z)).mul_(ones)
    target(z + ones)


def arrays_that_are_only_read() -> None:
    ones = torch.ones(3)
    total = ones.numpy().sum()
    ones.mul_(2.0)
    target(latent() * ones * float(total))


def laws_asked_for_numbers() -> None:
    z = latent()
    law = dist.Normal(z, 1.0)
    target(law.cdf(weights()) + law.entropy() + dist.Gamma(z.exp(), 1.0).mean + law.log_prob(weights()))


def sequences_padded() -> None:
    target(nn.utils.rnn.pad_sequence([latent(), latent("other")[:2]]).sum(1))


def filled_with_a_value() -> None:
    h = torch.zeros(3)
    h[1:].fill_(latent()[0])
    target(h.fill_(value=2.0) + torch.zeros(3).fill_(latent("other")[1]))


def gradients_switched() -> None:
    h = latent().clone()
    h.requires_grad = True
    target(h * 2)


WEIGHTS = io.BytesIO()
torch.save(torch.ones(3), WEIGHTS)


def weights_loaded() -> None:
    WEIGHTS.seek(0)
    target(latent() * torch.load(WEIGHTS))


def copies() -> None:
    z = latent()
    target(copy.deepcopy(z) + z.clone().detach())


def detached_memory_written() -> None:
    h = latent() * weights()
    memory, tail = h.detach(), h[1:]
    memory[0] = 5.0
    memory[1:].add_(2.0)
    target(h + memory + torch.cat([tail, tail[:1]]))


def written_without_gradient() -> None:
    h = latent() * weights()
    with torch.no_grad():
        h.clamp_(-0.5, 0.5)
        h[:2].mul_(3.0)
    target(h)


def made_without_gradient() -> None:
    z = latent()
    table = torch.zeros(3)
    with torch.no_grad():
        table[0] = weights()[1] * 2
        table.add_(z)
    target(table * weights())


class ManyOutputs(nn.Module):
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, z: Tensor) -> Any:
            h = self.linear(z)
            return h, (h * 2, {"k": [h + 1, None, "text", 3]})

    def __init__(self) -> None:
        super().__init__()
        self.inner = seeded(self.Inner)

    def forward(self) -> None:
        a, (b, more) = self.inner(latent())
        target(a + b + more["k"][0])


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net.register_forward_pre_hook(lambda module, args: (args[0] + 1.0,))
    net[0].register_forward_hook(lambda module, args, output: output * 2.0)
    return net


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = seeded(lambda: nn.Linear(3, 3)), nn.Linear(3, 3)
        self.back.weight = self.there.weight

    def forward(self) -> None:
        target(self.back(self.there(latent())))


class Held(nn.Module):
    """Parameters in lists and dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.several = nn.ParameterList([torch.ones(3), torch.zeros(3)])
        self.named = nn.ParameterDict({"a": torch.ones(3)})

    def forward(self) -> None:
        target(latent() * self.several[0] + self.several[1] * self.named["a"])


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = seeded(lambda: nn.Linear(3, 3))

    def forward(self) -> None:
        target(torch.utils.checkpoint.checkpoint(self.linear, latent(), use_reentrant=False))


class WeightsGiven(nn.Module):
    """Another weight for one call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = seeded(lambda: nn.Linear(3, 3))

    def forward(self) -> None:
        weight = pyro.sample("weight", dist.Normal(torch.zeros(3, 3), 1.0).to_event(2))
        target(torch.func.functional_call(self.linear, {"weight": weight}, (latent(),)))


FOLLOWED: dict[str, Program] = {
    program.__name__: program
    for program in (
        dtypes_there_and_back,
        names_for_one_tensor,
        constants_by_numpy,
        sites_from_a_generator,
        sites_by_the_order_of_a_dict,
        parameters_asked_for_again,
        an_exception_that_is_caught,
        complex_numbers,
        sums_by_einstein,
        a_forked_generator,
        another_default_dtype,
        a_one_hot_write,
        elements_made_a_tensor,
        elements_swapped,
        writes_through_chains_of_views,
        writes_through_overlapping_windows,
        shapes_changed_in_place,
        results_with_names,
        filled_with_a_value,
        gradients_switched,
        weights_loaded,
        copies,
        arrays_on_the_same_memory,
        arrays_that_are_only_read,
        laws_asked_for_numbers,
        sequences_padded,
        detached_memory_written,
        written_without_gradient,
        made_without_gradient,
    )
} | {
    "many outputs": ManyOutputs(),
    "hooks": Net(hooked),
    "tied weights": Tied(),
    "parameters in lists": Held(),
    "checkpoint": Checkpointed(),
    "weights given": WeightsGiven(),
    "lazy module": Net(lambda: nn.LazyLinear(3)),
    "weight norm": Net(lambda: parametrizations.weight_norm(nn.Linear(3, 3))),
    "orthogonal": Net(lambda: parametrizations.orthogonal(nn.Linear(3, 3))),
    "spectral norm in eval mode": Net(lambda: parametrizations.spectral_norm(nn.Linear(3, 3))).eval(),
    "dropout in train mode": Net(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))),
    "layer norm": Net(lambda: nn.Sequential(nn.LayerNorm(3), nn.GELU())),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed(name: str):
    report = dgm.check(FOLLOWED[name])
    assert report.ok, str(report)


def test_batch_norm_and_attention_are_followed_in_both_modes():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.attention = seeded(lambda: nn.MultiheadAttention(4, 2, batch_first=True))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = self.norm(pyro.sample("z", dist.Normal(x, 1.0).to_event(1)))
                mixed, _ = self.attention(z.unsqueeze(1), z.unsqueeze(1), z.unsqueeze(1))
                pyro.sample("y", dist.Normal(mixed.squeeze(1), 1.0).to_event(1))

    for model in (Model(), Model().eval()):
        report = dgm.check(model, (values(5, 4),))
        assert report.ok, str(report)


def test_inputs_written_in_place_are_followed_and_put_back():
    def model(x: Tensor) -> None:
        x.mul_(2.0)
        x[0] = latent()[0]
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x, 1.0))

    x = values(4)
    before = x.clone()
    assert dgm.check(model, (x,)).ok
    assert torch.equal(x, before)


def test_compiled_functions_and_modules_are_the_programs_own_code():
    """``torch.compile`` runs nothing of its own while the program is recorded."""
    seen: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append("compiled")
        return graph.forward

    net = seeded(lambda: nn.Linear(3, 3))
    compiled = torch.compile(net, backend=backend)
    doubled = torch.compile(lambda x: x * 2, backend=backend)

    def model() -> None:
        target(doubled(compiled(latent())))

    graph = dgm.trace(model)
    assert not seen
    assert dgm.check(model).ok
    assert dgm.compile(graph).source


# -- refused -----------------------------------------------------------------------------------------------------------


def array_of_an_input(x: Tensor) -> None:
    target(latent() * torch.from_numpy(x.numpy() * 2))


def memory_of_a_latent() -> None:
    target(torch.as_tensor(memoryview(latent().detach().numpy())) * 1.0)


def memory_written_by_numpy() -> None:
    ones = torch.ones(3)
    ones.numpy()[0] = 5.0
    target(latent() * ones)


def memory_written_by_numpy_later() -> None:
    ones = torch.ones(3)
    array, before = ones.numpy(), ones * 2
    array[0] = 5.0
    target(latent() * ones + before)


def elements_changed_by_python() -> None:
    target(latent().clone().apply_(lambda element: element + 1))


def a_shallow_copy() -> None:
    target(copy.copy(latent()))


def data_written() -> None:
    """What ``exp`` saved for its gradient changes as well."""
    h = latent().exp()
    h.data[h.data > 2.0] = 2.0
    target(h)


def data_replaced() -> None:
    h = latent() * weights()
    h.data = (h * h).data
    target(h)


def another_thread() -> None:
    z, w, made = latent(), weights(), list[Tensor]()
    thread = threading.Thread(target=lambda: made.append(z * w))
    thread.start()
    thread.join()
    target(made[0])


_CALLS = [0]


def names_by_a_counter() -> None:
    _CALLS[0] += 1
    pyro.sample(f"x_{_CALLS[0]}", dist.Normal(0.0, 1.0))


def a_module_copied() -> None:
    target(copy.deepcopy(_LINEAR)(latent()))


def a_parameter_copied() -> None:
    target(F.linear(latent(), copy.deepcopy(_LINEAR.weight)))


_LINEAR = seeded(lambda: nn.Linear(3, 3))


def saved_and_loaded() -> None:
    file = io.BytesIO()
    torch.save(latent(), file)
    file.seek(0)
    target(torch.load(file))


def gradients_asked_for() -> None:
    z = latent().detach().clone().requires_grad_()
    (z**2).sum().backward()
    target(z.grad)


def a_hook_on_a_gradient() -> None:
    h = latent() * weights()
    h.register_hook(lambda gradient: gradient * 2)
    target(h)


def _scripted(function: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(function)


@_scripted
def _is_large(x):  # type: ignore[no-untyped-def]
    return (x.sum() > -50).float()


def a_scripted_comparison() -> None:
    """What comes back is the same in nearly every recording."""
    target(_is_large(latent()) * torch.ones(3))


@_scripted
def _add_one(x):  # type: ignore[no-untyped-def]
    x.add_(1.0)
    return 0


def a_scripted_write() -> None:
    h = latent() * 1.0
    _add_one(h)
    target(h)


def a_scripted_function_of_a_seeded_draw() -> None:
    """The seed makes all recordings alike."""
    torch.manual_seed(0)
    target(torch.ones(3) * _is_large(latent()))


def vectorised_by_vmap() -> None:
    target(torch.vmap(lambda x: x * 2)(latent()))


def differentiated_by_func() -> None:
    target(torch.func.grad(lambda x: (x**2).sum())(latent()))


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def a_function_with_its_own_gradient() -> None:
    target(_Doubled.apply(latent()))


def sparse() -> None:
    target(torch.sparse.mm(torch.eye(3).to_sparse(), latent().unsqueeze(-1)).squeeze(-1))


def a_generator_of_its_own() -> None:
    target(latent() + torch.randn(3, generator=torch.Generator().manual_seed(0)))


def memory_exchanged() -> None:
    h = torch.zeros(3)
    h.set_(latent())
    target(h)


def several_at_once() -> None:
    tensors = [latent().clone(), latent("other").clone()]
    torch._foreach_mul_(tensors, 2.0)
    target(tensors[0] + tensors[1])


REFUSED: list[tuple[Program, str]] = [
    (array_of_an_input, "value-array"),
    (memory_of_a_latent, "value-array"),
    (memory_written_by_numpy, "foreign-write"),
    (memory_written_by_numpy_later, "foreign-write"),
    (elements_changed_by_python, "unknown-literal"),
    (a_shallow_copy, "value-array"),
    (data_written, "gradient-write"),
    (data_replaced, "gradient-write"),
    (another_thread, "unrecorded-tensor"),
    (names_by_a_counter, "unstable-sites"),
    (a_module_copied, "fresh-parameter"),
    (a_parameter_copied, "fresh-parameter"),
    (saved_and_loaded, "unstable-recording"),
    (gradients_asked_for, "gradient-call"),
    (a_hook_on_a_gradient, "gradient-call"),
    (a_scripted_comparison, "unrecorded-tensor"),
    (a_scripted_write, "unrecorded-tensor"),
    (a_scripted_function_of_a_seeded_draw, "unrecorded-tensor"),
    (vectorised_by_vmap, "functional-transform"),
    (differentiated_by_func, "functional-transform"),
    (a_function_with_its_own_gradient, "custom-function"),
    (sparse, "tensor-layout"),
    (a_generator_of_its_own, "stray-random"),
    (memory_exchanged, "unrecorded-tensor"),
    (several_at_once, "unknown-call"),
    (Net(lambda: parametrizations.spectral_norm(nn.Linear(3, 3))), "state-write"),
]


@pytest.mark.parametrize(("program", "code"), REFUSED, ids=[getattr(p, "__name__", "module") for p, _ in REFUSED])
def test_refused(program: Program, code: str):
    args = (values(3),) if program is array_of_an_input else ()
    with pytest.raises(dgm.CompileError) as caught:
        dgm.trace(program, args)
    assert {problem.code for problem in caught.value.diagnostics} == {code}
    assert all(problem.location is not None for problem in caught.value.diagnostics)


def test_an_argument_that_is_not_dense_is_refused():
    with pytest.raises(dgm.CompileError, match=r"tensor-layout.*argument 'x' is"):
        dgm.trace(lambda x: torch.normal(x @ torch.ones(3, 2), 1.0), (torch.eye(3).to_sparse(),))


def test_a_value_kept_from_an_earlier_call_is_refused():
    cache: dict[str, Tensor] = {}

    def model() -> None:
        z = latent()
        target(cache.setdefault("h", z * 2))

    with pytest.raises(dgm.CompileError, match=r"kept-value.*computed from site 'z'"):
        dgm.trace(model)


def test_a_constant_kept_from_an_earlier_call_is_followed():
    cache: dict[str, Tensor] = {}

    def model() -> None:
        target(latent() * cache.setdefault("scale", torch.ones(3) * 2))

    assert dgm.check(model).ok
