"""The text of one program: to the letter, where nothing of ours can be imported, and by what it computes."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.codegen.modules import returned
from dgmcompile.diagnostics import CompileError, InternalError
from dgmcompile.ir.graph import (
    Argument,
    Call,
    Constant,
    DeviceOf,
    Graph,
    Guard,
    Input,
    Noise,
    Parameter,
    Ref,
    Sample,
    Site,
)
from dgmcompile.ir.size import Size
from tests import seeds

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"dgmcompile", "pyro"}:
            raise ImportError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Refuse())
import warnings
from tests import seeds
warnings.simplefilter("error")
"""


def run_alone(folder: Path, text: str, script: str) -> str:
    """Standard output of ``script`` beside the file ``emitted.py``, where our package cannot be imported."""
    (folder / "emitted.py").write_text(text, encoding="utf-8")
    (folder / "main.py").write_text(ALONE + script, encoding="utf-8")
    run = subprocess.run([sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def ruff_check(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--stdin-filename", "emitted.py", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


def imported(text: str) -> set[str]:
    """Top-level names of the packages that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_type_checkers_accept_the_texts(request: pytest.FixtureRequest, tmp_path: Path):
    pytest.importorskip("pyright")
    for name in ("hvae", "blocks", "pair"):
        (tmp_path / f"{name}.py").write_text(source_of(request.getfixturevalue(name).graph), encoding="utf-8")
    (tmp_path / "wrong.py").write_text("x: int = ''\n", encoding="utf-8")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard", "pythonVersion": "3.11"}')
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    errors = [line for line in shown.splitlines() if " - error: " in line]
    assert len(errors) == 1 and "wrong.py" in errors[0], shown


@pytest.mark.parametrize("name", ["hvae", "blocks", "pair"])
def test_the_text_is_the_golden_one_and_clean(name: str, request: pytest.FixtureRequest, golden: Any):
    text = source_of(request.getfixturevalue(name).graph)
    golden(name, text)
    assert imported(text) <= {"torch", "math", "typing"}
    assert "All checks passed" in ruff_check(text)
    assert "/home/" not in text


def test_the_compiled_program_computes_what_the_model_does(hvae: SimpleNamespace):
    module = compile_graph(hvae.graph)
    for batch in (1, 5):
        x = torch.randn(batch, 3)
        noise = module.sample_noise(x)
        assert {name: (tuple(n.shape), n.dtype) for name, n in noise.items()} == {
            "z_noise": ((batch, 4), torch.float32),
            "y_noise": ((batch, 3), torch.float64),
        }
        found, wanted = module(x, noise=noise), hvae.model.values(x, noise)
        assert found.keys() == wanted.keys() == {"z", "y"}
        assert all(torch.equal(found[site], wanted[site]) for site in wanted)


def test_noise_is_the_generators(hvae: SimpleNamespace):
    module, x = compile_graph(hvae.graph), torch.randn(4, 3)
    first, second, other = (module.sample_noise(x, generator=seeds.generator(s)) for s in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) and not torch.equal(first[name], other[name]) for name in first)


def test_without_noise_it_is_drawn(hvae: SimpleNamespace):
    module, x = compile_graph(hvae.graph), torch.randn(4, 3)
    torch.manual_seed(3)
    drawn = module(x)
    torch.manual_seed(3)
    again = module(x, noise=module.sample_noise(x))
    assert all(torch.equal(drawn[site], again[site]) for site in ("z", "y"))


def test_the_file_runs_by_itself(hvae: SimpleNamespace, tmp_path: Path):
    module, x = compile_graph(hvae.graph), torch.randn(5, 3)
    noise = module.sample_noise(x)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    torch.save({"x": x, "noise": noise}, tmp_path / "data.pt")
    script = (
        "import torch\nfrom emitted import Hvae, load_weights\n"
        "model = Hvae()\nload_weights(model, 'weights.pt')\ndata = torch.load('data.pt')\n"
        "torch.save(model(data['x'], noise=data['noise']), 'values.pt')\n"
        "print(sorted(model.state_dict()))\n"
    )
    keys = run_alone(tmp_path, source_of(hvae.graph), script)
    assert ast.literal_eval(keys) == sorted(module.state_dict())
    values = torch.load(tmp_path / "values.pt")
    assert all(torch.equal(values[site], value) for site, value in module(x, noise=noise).items())


def test_state_is_keyed_by_the_users_paths(hvae: SimpleNamespace):
    module = compile_graph(hvae.graph)
    assert set(module.state_dict()) == set(hvae.model.state_dict())


def test_a_users_class_is_written_once_for_all_its_widths(blocks: SimpleNamespace):
    module, x = compile_graph(blocks.graph), torch.randn(5, 3)
    assert module.source.count("class Block") == 1
    found, wanted = module({"input": x}), blocks.reference(x)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_tied_tensors_stay_tied_in_the_file(blocks: SimpleNamespace, tmp_path: Path):
    script = "from emitted import TwoBlocks\nm = TwoBlocks()\nprint(m.tied is m.blocks[1].out.weight)\n"
    assert run_alone(tmp_path, source_of(blocks.graph), script) == "True\n"


def test_buffers_outside_the_state_dict_keep_their_values_in_the_file(blocks: SimpleNamespace, tmp_path: Path):
    script = "from emitted import TwoBlocks\nm = TwoBlocks()\nprint(m.blocks[0].tenth.item(), list(m.state_dict()))\n"
    assert run_alone(tmp_path, source_of(blocks.graph), script).startswith(f"{torch.tensor(0.1).item()} ['tied'")


def test_dtype_and_device_follow_the_module(hvae: SimpleNamespace, blocks: SimpleNamespace):
    module = compile_graph(hvae.graph).double()
    noise = module.sample_noise(torch.randn(2, 3))
    assert {n.dtype for n in noise.values()} == {torch.float64}
    other = compile_graph(blocks.graph).double()
    assert other({"input": torch.randn(2, 3).double()})["b"].dtype == torch.float64
    meta = compile_graph(hvae.graph).to("meta")
    assert {n.device.type for n in meta.sample_noise(torch.randn(2, 3)).values()} == {"meta"}


def test_noise_wider_than_the_model_stays_so(hvae: SimpleNamespace):
    noise = compile_graph(hvae.graph).half().sample_noise(torch.randn(2, 3))
    assert {name: n.dtype for name, n in noise.items()} == {"z_noise": torch.float16, "y_noise": torch.float64}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ((), "dtype=torch.get_default_dtype()"),
        ((Input(name="x", path=("x",), shape=(2,), dtype=torch.float32),), "x.dtype"),
    ],
)
def test_without_parameters_noise_follows_the_input(state: tuple[Input, ...], expected: str):
    noise = Noise(name="e", law="StandardNormal", shape=(2,), dtype=torch.float32)
    z = Call(name="z", target="torch.cat", args=([Ref("e"), *(Ref(node.name) for node in state)],))
    graph = Graph([*state, noise, z], outputs={"z": "z"}, arguments=tuple(Argument(n.name) for n in state))
    assert expected in source_of(graph)
    assert compile_graph(graph)(*(torch.zeros(2) for _ in state))["z"].shape == (2 + 2 * len(state),)


def test_guards_say_what_they_take_as_fixed(hvae: SimpleNamespace, blocks: SimpleNamespace):
    with pytest.raises(ValueError, match=r"^x.shape\[1\] has to be 3: the network takes 3 features$"):
        compile_graph(hvae.graph)(torch.randn(2, 4))
    block = compile_graph(blocks.graph).blocks[0]
    with pytest.raises(ValueError, match="power has to be 2: its value is taken as fixed"):
        block(torch.randn(2, 3), power=3)


def test_a_guard_is_checked_once(hvae: SimpleNamespace):
    again = Guard(("x",), 1, 3, "the other model says so too")
    text = source_of(hvae.graph.evolve(guards=(*hvae.graph.guards, again)))
    assert text.count("if x.shape[1] != 3:") == 1 and "the other model" not in text


def test_a_guard_on_a_size_may_name_another_size(graph_of: Callable[..., Graph]):
    y = Input(name="y", path=("y",), shape=(None, 3))  # type: ignore[arg-type]
    twice = Size.of({("batch",): 2})
    nodes = (Call(name="z", target="torch.Tensor.sum", args=(Ref("x"),)),)
    graph = graph_of(
        *nodes,
        y.__class__(name="y", path=("y",), shape=(twice, 3), dtype=torch.float32),
        outputs={"z": "z"},
        arguments=(Argument("x"), Argument("y")),
        guards=(Guard(("y",), 0, twice, "it is twice the batch"), Guard(("flag",), None, None, "fixed")),
    )
    graph = graph.evolve(arguments=(*graph.arguments, Argument("flag", required=False, keyword_only=True)))
    module = compile_graph(graph)
    module(torch.ones(2, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"y.shape\[0\] has to be 2 \* batch: it is twice the batch"):
        module(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="flag has to be None: fixed"):
        module(torch.ones(2, 3), torch.ones(4, 3), flag=1)


def test_arguments_are_as_in_the_users_signature():
    def leaf(name: str, *path: str | int, size: bool = False) -> Input:
        return Input(name=name, path=path, shape=None if size else (2,), dtype=None if size else torch.float32)

    leaves = [
        leaf("a", "len"),
        leaf("b", "batch", "b c"),
        leaf("d", "pair", 1),
        leaf("e", "rest", 0),
        leaf("n", "n", size=True),
    ]
    stack = Call(name="s", target="torch.stack", args=([Ref(node.name) for node in leaves[:4]],))
    ones = Call(name="o", target="torch.ones", args=((Size.symbol("n"), 2),), kwargs={"device": DeviceOf()})
    out = Call(name="out", target="torch.cat", args=([Ref("s"), Ref("o")],))
    graph = Graph(
        [*leaves, stack, ones, out],
        outputs={"out": "out"},
        arguments=(
            *(Argument("len"), Argument("batch"), Argument("pair"), Argument("noise", required=False)),
            *(Argument("*rest"), Argument("n", keyword_only=True), Argument("mode", required=False, keyword_only=True)),
        ),
        guards=(Guard(("mode",), None, "fast", "it is a plain Python value"),),
    )
    names = ("len: Tensor", "batch: dict[str, Tensor]", "pair: tuple[Tensor, ...]", "noise_1: Any", "*rest: Tensor")
    head = f'def forward( self, {", ".join(names)}, n: int, mode: Any = "fast", noise: dict'
    assert head in " ".join(source_of(graph).split())
    one = torch.ones(2)
    found = compile_graph(graph)(one, {"b c": 2 * one}, (None, 3 * one), None, 4 * one, n=1)
    assert torch.equal(found["out"], torch.tensor([[1.0], [2], [3], [4], [1]]).expand(5, 2))


def test_dead_calls_are_not_written(graph_of: Callable[..., Graph]):
    used = Call(name="y", target="torch.exp", args=(Ref("x"),))
    dead = Call(name="w", target="torch.log", args=(Ref("x"),))
    text = source_of(graph_of(used, dead, outputs={"y": "y"}))
    assert "torch.exp" in text and "torch.log" not in text and "batch =" not in text


def test_values_read_once_are_written_where_they_are_read(graph_of: Callable[..., Graph]):
    scale = Parameter(name="scale", path="scale", shape=(3,))
    half = Constant(name="half", value=0.5, shape=(), dtype=torch.float32)
    once = Call(name="y", target="torch.Tensor.mul", args=(Ref("x"), Ref("scale")))
    twice = Call(name="z", target="torch.where", args=(Ref("half"), Ref("half"), Ref("y")))
    tensors = {"scale": torch.nn.Parameter(torch.ones(3))}
    text = source_of(graph_of(scale, half, once, twice, outputs={"z": "z"}, tensors=tensors))
    assert "y = x * self.scale\n" in text and "torch.where(half, half, y)" in text


def test_a_sample_left_over_is_ours_to_mend(graph_of: Callable[..., Graph]):
    sample = Sample(name="z", family="Normal", params={"loc": 0.0, "scale": 1.0}, shape=(2,), site=Site("z", "latent"))
    with pytest.raises(InternalError, match="'z' is still a sample"):
        source_of(graph_of(sample))


def test_a_graph_without_its_modules_is_refused(hvae: SimpleNamespace):
    with pytest.raises(CompileError) as refusal:
        source_of(hvae.graph.evolve(binding=None))
    assert str(refusal.value).startswith("hvae.py:13:1: error[unbound-module]: the graph calls submodule 'decoder'")


def test_returns_of_submodules_may_be_nested():
    assert returned({"return": "h"}) == "h"
    assert returned({"0": "h"}) == "(h,)"
    assert returned({"0": "h", "1.0": "c", "1.1": "d"}) == "(h, (c, d))"
    assert returned({"mean": "m", "0": "h"}) == "{'mean': m, '0': h}"
