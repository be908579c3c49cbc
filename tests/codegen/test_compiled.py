"""The compiled module: training trains the user's model, torch.compile and torch.export take it, errors show it."""

import copy
import linecache
import pickle
import traceback
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import Argument, Call, Graph, Input, Parameter, Ref


def test_training_the_compiled_module_trains_the_users(hvae: SimpleNamespace):
    module = compile_graph(hvae.graph)
    assert {id(p) for p in module.parameters()} == {id(p) for p in hvae.model.parameters()}
    before = copy.deepcopy(hvae.model.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, 3))["z"].sum().backward()
    optimizer.step()
    assert not torch.equal(hvae.model.prior.scale, before["prior.scale"])


def test_plain_tensors_that_pyro_trains_are_shared_too():
    live = torch.ones(3, requires_grad=True)
    nodes = [
        Input(name="x", path=("x",), shape=(3,), dtype=torch.float32),
        Parameter(name="p", path="p", shape=(3,)),
        Call(name="y", target="torch.Tensor.mul", args=(Ref("x"), Ref("p"))),
    ]
    graph = Graph(nodes, outputs={"y": "y"}, arguments=(Argument("x"),), binding=Binding(tensors={"p": live}))
    module = compile_graph(graph)
    assert next(iter(module.parameters())) is live
    module(torch.full((3,), 2.0))["y"].sum().backward()
    assert torch.equal(live.grad, torch.full((3,), 2.0))
    assert module.double()(torch.ones(3, dtype=torch.float64))["y"].dtype == torch.float64


def test_recurrent_modules_use_the_users_tensors():
    live = nn.LSTM(3, 4)
    call = Call(name="h", target="self.rnn", args=(Ref("x"),))
    nodes = [
        Input(name="x", path=("x",), shape=(2, 1, 3), dtype=torch.float32),
        call,
        Call(name="y", target="getitem", args=(Ref("h"), 0)),
    ]
    binding = Binding(modules={"rnn": Submodule(live)})
    module = compile_graph(Graph(nodes, outputs={"y": "y"}, arguments=(Argument("x"),), binding=binding))
    x = torch.randn(2, 1, 3)
    assert torch.equal(module(x)["y"], live(x)[0])
    with torch.no_grad():
        live.weight_ih_l0.mul_(2)
    assert torch.equal(module(x)["y"], live(x)[0])


def test_compiling_leaves_everything_as_it_was(hvae: SimpleNamespace, blocks: SimpleNamespace, pair: SimpleNamespace):
    hvae.model.decoder[1].eval()
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    modes = [m.training for m in hvae.model.modules()]
    module = compile_graph(hvae.graph)
    compile_graph(blocks.graph), compile_graph(pair.graph)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_default_dtype() == dtype
    assert [m.training for m in hvae.model.modules()] == modes
    assert [m.training for m in module.decoder] == [True, False, True]


def test_the_module_runs_exactly_its_source(hvae: SimpleNamespace):
    module = compile_graph(hvae.graph)
    assert module.source == source_of(hvae.graph)
    assert "".join(linecache.getlines(type(module).forward.__code__.co_filename)) == module.source
    assert type(compile_graph(hvae.graph)) is type(module)


def test_tracebacks_show_the_emitted_line(hvae: SimpleNamespace):
    module = compile_graph(hvae.graph)
    noise = {"z_noise": torch.ones(2, 5), "y_noise": torch.ones(2, 3)}
    with pytest.raises(RuntimeError) as error:
        module(torch.ones(2, 3), noise=noise)
    shown = "".join(traceback.format_exception(error.value))
    assert "z = normal_from_noise(noise[\"z_noise\"], loc, scale)  # site 'z', hvae.py:12" in shown


def test_a_module_can_be_copied_and_pickled(hvae: SimpleNamespace):
    module, x = compile_graph(hvae.graph), torch.randn(3, 3)
    noise = module.sample_noise(x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x, noise=noise)["z"], module(x, noise=noise)["z"])
        assert other.prior.scale is not module.prior.scale


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
@pytest.mark.parametrize("name", ["hvae", "pair"])
def test_torch_compile_takes_it_whole(name: str, request: pytest.FixtureRequest):
    module, x = compile_graph(request.getfixturevalue(name).graph).eval(), torch.randn(4, 3)
    noise = module.sample_noise(x)
    whole = torch.compile(module, fullgraph=True, backend="inductor" if name == "hvae" else "aot_eager")
    found, wanted = whole(x, noise=noise), module(x, noise=noise)
    if name == "hvae":
        torch.testing.assert_close(found, wanted)
    else:
        torch.testing.assert_close(found.total, wanted.total)
        assert set(found.surrogate) == {"y"}
        found.total.backward()
        assert module.student.mu.grad is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
def test_torch_export_takes_it_with_a_dynamic_batch(hvae: SimpleNamespace):
    module, x = compile_graph(hvae.graph), torch.randn(4, 3)
    batch = torch.export.Dim("batch")
    noise = module.sample_noise(x)
    shapes = {"x": {0: batch}, "noise": {name: {0: batch} for name in noise}}
    program = torch.export.export(module, (x,), {"noise": noise}, dynamic_shapes=shapes, strict=False)
    other = torch.randn(7, 3)
    noise = module.sample_noise(other)
    torch.testing.assert_close(program.module()(other, noise=noise), module(other, noise=noise))
