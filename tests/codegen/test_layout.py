"""The memory format of weights: which one files choose, and what `compile_graph` does to the user's tensors."""

from typing import Any

import pytest
import torch
from torch import nn

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Argument, Call, Graph, Input, Ref

LINE = "self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions run faster in it"


def graph_of(net: nn.Module, dims: int = 4) -> Graph:
    nodes = [
        Input(name="x", path=("x",), shape=(2, 3, *[8] * (dims - 2)), dtype=torch.float32),
        Call(name="y", target="self.net", args=(Ref("x"),)),
    ]
    binding = Binding(modules={"net": Submodule(net)})
    return Graph(nodes, outputs={"y": "y"}, arguments=(Argument("x"),), binding=binding)


def convolutions() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 3))


def is_last(tensor: Any) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


def loaded_file(text: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(text, "emitted.py", "exec"), scope)
    return scope


def test_files_of_convolutions_choose_channels_last_and_loading_keeps_it():
    net = convolutions()
    scope = loaded_file(source_of(graph_of(net)))
    model = scope["Model"]()
    scope["load_weights"](model, {f"net.{name}": value for name, value in net.state_dict().items()})
    assert is_last(model.net[0].weight) and is_last(model.net[2].weight)
    assert torch.equal(model.net[0].weight, net[0].weight)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x)["y"], net(x), rtol=1e-5, atol=1e-5)


def test_compiling_leaves_the_users_layout_unless_asked():
    net = convolutions()
    held, x = net[0].weight, torch.randn(2, 3, 8, 8)
    wanted = net.eval()(x)
    strides = [p.stride() for p in net.parameters()]
    plain = compile_graph(graph_of(net))
    assert [p.stride() for p in net.parameters()] == strides
    laid_out = compile_graph(graph_of(net), memory_format=torch.channels_last)
    assert net[0].weight is held is laid_out.net[0].weight and is_last(held)
    torch.testing.assert_close(laid_out.eval()(x)["y"], wanted, rtol=1e-5, atol=1e-5)
    extra = set(laid_out.source.splitlines()) - set(plain.source.splitlines())
    assert extra == {f"        {LINE}"}
    assert laid_out.source == source_of(graph_of(net))


def test_gradients_and_buffers_follow():
    net = convolutions()
    net.register_buffer("grid", torch.randn(1, 3, 8, 8))
    grid = net.grid
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    compile_graph(graph_of(net), memory_format=torch.channels_last)
    assert is_last(net[0].weight.grad) and net.grid is grid and is_last(grid)


@pytest.mark.parametrize(("net", "dims"), [(nn.Linear(3, 2), 2), (nn.Conv1d(3, 2, 1), 3), (nn.Conv3d(3, 2, 1), 5)])
def test_other_models_have_no_such_line(net: nn.Module, dims: int):
    assert "memory_format" not in source_of(graph_of(net, dims))
