"""Weights for an emitted file: a state dict or Pyro's parameter store, of which nothing is run."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyro
import pytest
import torch
from torch import nn
from torch.distributions import constraints

from dgmcompile.codegen import source_of
from dgmcompile.codegen.printed import load_weights
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Argument, Call, Graph, Input, Parameter, Ref

from .test_emitted import run_alone


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, 3)
        self.scale_unconstrained = nn.Parameter(torch.rand(3))
        self.loc = nn.Parameter(torch.rand(3))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_a_state_dict_or_a_file_of_one_is_loaded(tmp_path: Path):
    saved, from_dict, from_file = Net(), Net(), Net()
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    load_weights(from_dict, saved.state_dict())
    load_weights(from_file, tmp_path / "weights.pt")
    assert same(from_dict, saved) and same(from_file, saved)


def store_of(net: Net, prefix: str = "decoder") -> dict[str, Any]:
    pyro.module(prefix, net.decoder)
    pyro.param("scale", torch.ones(3), constraint=constraints.positive)
    pyro.get_param_store()._params["scale"].data.copy_(net.scale_unconstrained.data)
    pyro.param("loc", net.loc.detach().clone(), constraint=constraints.independent(constraints.real, 1))
    pyro.param("guide.other", torch.eye(2), constraint=pyro.distributions.constraints.softplus_lower_cholesky)
    return pyro.get_param_store().get_state()


@pytest.mark.parametrize("prefix", ["decoder", "model$$$decoder"])
def test_pyros_parameter_store_is_loaded(prefix: str, tmp_path: Path):
    saved, loaded = Net(), Net()
    store_of(saved, prefix.split("$$$")[-1])
    pyro.get_param_store().save(tmp_path / "store.pt")
    load_weights(loaded, tmp_path / "store.pt")
    assert same(loaded, saved)


def test_a_store_is_loaded_where_pyro_is_not(hvae: SimpleNamespace, tmp_path: Path):
    pyro.module("decoder", hvae.model.decoder)
    pyro.param("prior.scale", hvae.model.prior.scale.detach().clone(), constraint=constraints.interval(0.0, 9.0))
    pyro.param("guide", torch.ones(2), constraint=pyro.distributions.constraints.softplus_positive)
    pyro.get_param_store().save(tmp_path / "store.pt")
    unconstrained = pyro.get_param_store()._params["prior.scale"].tolist()
    script = "from emitted import *\nm = Hvae()\nload_weights(m, 'store.pt')\nprint(m.prior.scale.tolist())\n"
    assert run_alone(tmp_path, source_of(hvae.graph), script) == f"{unconstrained}\n"


def test_what_is_missing_is_named():
    state = Net().state_dict()
    del state["loc"]
    with pytest.raises(ValueError, match=r"the weights lack \['loc'\]$"):
        load_weights(Net(), state)


def test_buffers_are_no_part_of_a_store():
    net = nn.BatchNorm1d(2)
    pyro.module("net", net)
    with pytest.raises(ValueError, match=r"lack .*'running_mean'.*; Pyro's parameter store holds no buffers"):
        load_weights(net, pyro.get_param_store().get_state())


def test_what_is_not_read_is_named_or_left_out():
    net = Net()
    state = {**net.state_dict(), "encoder.weight": torch.ones(2)}
    with pytest.raises(ValueError, match=r"nothing here is named \['encoder.weight'\]; strict=False leaves them out"):
        load_weights(Net(), state)
    loaded = Net()
    load_weights(loaded, state, strict=False)
    assert same(loaded, net)


def test_a_store_of_two_modules_that_both_fit_is_refused():
    net = nn.Linear(2, 2)
    pyro.module("model", net)
    pyro.module("guide", nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"'(weight|bias)' may be any of \['model\$\$\$"):
        load_weights(net, pyro.get_param_store().get_state())


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"params": {"loc": Bomb()}, "constraints": {}}, "bomb.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_weights(Net(), "bomb.pt")
    assert not Path("exploded").exists()


def test_what_could_not_keep_its_name_is_loaded_by_the_users():
    net = nn.Linear(2, 2)
    nodes = [
        Input(name="x", path=("x",), shape=(3, 2), dtype=torch.float32),
        Parameter(name="type", path="type", shape=(2,)),
        Call(name="source", target="self.source", args=(Ref("x"),)),
        Call(name="y", target="torch.Tensor.add", args=(Ref("source"), Ref("type"))),
    ]
    shift = nn.Parameter(torch.rand(2))
    binding = Binding(tensors={"type": shift}, modules={"source": Submodule(net)})
    graph = Graph(nodes, outputs={"y": "y"}, arguments=(Argument("x"),), binding=binding)
    scope: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(source_of(graph), "emitted.py", "exec"), scope)
    model, x = scope["Model"](), torch.rand(3, 2)
    state = {"type": shift.detach(), **{f"source.{name}": value for name, value in net.state_dict().items()}}
    scope["load_weights"](model, state)
    assert torch.equal(model(x)["y"], net(x) + shift)
    with pytest.raises(ValueError, match=r"the weights lack \['type'\]"):
        scope["load_weights"](model, {name: value for name, value in state.items() if name != "type"})
