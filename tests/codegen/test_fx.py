"""A compiled model as a `torch.fx.GraphModule`: the same values from the same noise."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.graph_drawer import FxGraphDrawer
from torch.fx.passes.shape_prop import ShapeProp

import dgmcompile as dgm
from tests import seeds
from tests.programs import PROGRAMS
from tests.programs.program import Program, values


def compiled(graph: Any) -> tuple[Any, fx.GraphModule]:
    return dgm.compile(graph), dgm.to_fx(graph)


def flat(found: Any) -> dict[str, Tensor]:
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


SOME = PROGRAMS[::4]


@pytest.mark.parametrize("program", SOME, ids=[program.label for program in SOME])
def test_it_gives_the_same_values(program: Program):
    graph = dgm.trace(program.model, program.args, program.kwargs, program.targets)
    module, by_fx = compiled(dgm.compact(dgm.semi_auxiliary(graph)))
    kwargs = dict(program.kwargs or {})
    noise = module.sample_noise(*program.args, **kwargs, generator=seeds.generator(1))
    torch.manual_seed(2)
    expected = module(*program.args, **kwargs, noise=noise)
    torch.manual_seed(2)
    found = by_fx(*program.args, **kwargs, **({"noise": noise} if noise else {}))
    assert found.keys() == expected.keys()
    for name, value in flat(expected).items():
        assert torch.equal(found[name], value) or bool((found[name].isnan() == value.isnan()).all()), name


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.net(x)
        z = h + torch.exp(h) * torch.randn_like(h)
        return self.out(z)


def made() -> tuple[Model, Any, fx.GraphModule, Tensor, dict[str, Tensor]]:
    model, x = Model(), values(5, 3)
    module, by_fx = compiled(dgm.semi_auxiliary(dgm.trace(model, (x,))))
    return model, module, by_fx, x, module.sample_noise(x)


def test_parameters_are_the_users_own():
    model, _, by_fx, x, noise = made()
    assert {id(p) for p in by_fx.parameters()} == {id(p) for p in model.parameters()}
    by_fx(x, noise)["output"].sum().backward()
    assert model.net[0].weight.grad is not None
    assert [str(node.target) for node in by_fx.graph.nodes if node.op == "call_module"] == ["net", "out"]


def test_what_the_graph_takes_as_fixed_is_asserted():
    *_, by_fx, _, _ = made()
    with pytest.raises(AssertionError, match=r"x\.shape\[1\] has to be 3"):
        by_fx(values(5, 2), {})
    with pytest.raises(AssertionError, match=r"x\.dim\(\) has to be 2"):
        by_fx(values(3), {})


def test_without_noise_it_says_what_it_lacks():
    *_, by_fx, x, _ = made()
    with pytest.raises(AssertionError, match="noise has to be what sample_noise draws"):
        by_fx(x)


def test_fx_passes_and_exporters_take_it():
    _, module, by_fx, x, noise = made()
    ShapeProp(by_fx).propagate(x, noise)
    shapes = {
        str(node.target): node.meta["tensor_meta"].shape for node in by_fx.graph.nodes if node.op == "call_module"
    }
    assert shapes == {"net": (5, 4), "out": (5, 2)}
    by_fx.graph.eliminate_dead_code()
    by_fx.recompile()
    exported = torch.export.export(by_fx, (x, noise))
    torch.testing.assert_close(exported.module()(x, noise), module(x, noise=noise))


def test_it_is_drawn_and_quantised():
    _, module, by_fx, x, noise = made()
    assert "call_module" in FxGraphDrawer(by_fx, "model").get_dot_graph().to_string()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends another package for it
        small = torch.ao.quantization.quantize_dynamic(by_fx, {nn.Linear}, dtype=torch.qint8)
    assert not isinstance(small.get_submodule("out"), nn.Linear)
    torch.testing.assert_close(small(x, noise)["output"], module(x, noise=noise)["output"], rtol=0.1, atol=0.1)


class Thresholded(nn.Module):
    """Its noise transform looks at its arguments' types, which a tool that traces the graph again cannot do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.bernoulli(torch.sigmoid(self.net(x)))
        return torch.normal(z, 1.0)


def test_tools_that_trace_again_take_it():
    x = values(5, 3)
    module, by_fx = compiled(dgm.auxiliary(dgm.trace(Thresholded(), (x,))))
    noise = module.sample_noise(x)
    expected = module(x, noise=noise)
    for again in (pickle.loads(pickle.dumps(by_fx)), fx.symbolic_trace(by_fx)):
        torch.testing.assert_close(again(x, noise=noise), expected)


class CalledTwice(nn.Linear):
    """What it does is more than its forward."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(super().__call__(x))


def test_a_call_that_is_more_than_the_forward_is_made_once():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = CalledTwice(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.normal(self.net(x), 1.0)

    model, x = Model(), values(5, 3)
    module, by_fx = compiled(dgm.trace(model, (x,)))
    noise = module.sample_noise(x)
    torch.testing.assert_close(by_fx(x, noise=noise), module(x, noise=noise))
    assert dgm.check(model, (x,)).ok


def test_it_is_a_program_again():
    _, module, by_fx, x, noise = made()
    graph = dgm.trace(by_fx, (x, noise))
    assert dgm.check(by_fx, (x, noise)).ok
    assert torch.equal(dgm.compile(graph)(x, noise)["output"], module(x, noise=noise)["output"])


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, x: Tensor, flip: bool = False, scale: Any = None) -> Tensor:
        z = self.net(x) + torch.randn(len(x), 2)
        return -z if flip else z.sin()


def test_arguments_that_may_be_left_out_are_no_obstacle():
    x = values(5, 3)
    module, by_fx = compiled(dgm.semi_auxiliary(dgm.trace(Optional(), (x,))))
    noise = module.sample_noise(x)
    expected = module(x, noise=noise)["output"]
    again = [fx.symbolic_trace(by_fx), pickle.loads(pickle.dumps(by_fx)), copy.deepcopy(by_fx)]
    assert all(torch.equal(one(x, noise=noise)["output"], expected) for one in [by_fx, *again])
    exported = torch.export.export(by_fx, (x, False, None, noise)).module()
    torch.testing.assert_close(exported(x, False, None, noise)["output"], expected)
    with pytest.raises(AssertionError, match="flip has to be False"):
        by_fx(x, True, None, noise)


def test_a_pair_is_no_fx_module():
    pair = dgm.pair(Model(), Model(), model_args=(values(5, 3),))
    with pytest.raises(dgm.CompileError, match="no-fx-module"):
        dgm.to_fx(pair)


class Clashing(nn.Module):
    """Names that an fx module has as well."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.constant = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.graph = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.graph(x * self.code + self.constant) + torch.tensor([1.0, 2.0, 3.0])


def test_names_of_the_program_do_not_clash_with_those_of_fx():
    model, x = Clashing(), values(5, 3)
    module, by_fx = compiled(dgm.trace(model, (x,)))
    assert torch.equal(by_fx(x)["output"], module(x)["output"])
    assert {id(p) for p in by_fx.parameters()} == {id(p) for p in model.parameters()}
