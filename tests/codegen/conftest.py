"""Graphs written by hand, as the recorder and the passes leave them."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgmcompile.diagnostics import Location
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import (
    Argument,
    Call,
    Constant,
    DeviceOf,
    Formula,
    Graph,
    Guard,
    Input,
    Node,
    Noise,
    Parameter,
    Ref,
    Site,
)
from dgmcompile.ir.size import Size
from dgmcompile.reparam import NOISE_TRANSFORMS

BATCH = Size.symbol("batch")
NORMAL = NOISE_TRANSFORMS["Normal"].forward


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def at(line: int, file: str = "/home/user/hvae.py") -> Location:
    return Location(file, line)


def batch_of(tensor: str) -> Call:
    return Call(name="batch", target="size", args=(Ref(tensor), 0))


@pytest.fixture
def graph_of() -> Callable[..., Graph]:
    """A graph of one input ``x`` of shape (batch, 3), a size ``batch`` and further nodes."""

    def make(*nodes: Node, tensors: Any = None, modules: Any = None, **changes: Any) -> Graph:
        x = Input(name="x", path=("x",), shape=(BATCH, 3), dtype=torch.float32)
        changes.setdefault("arguments", (Argument("x"),))
        binding = Binding(tensors=tensors or {}, modules=modules or {})
        return Graph([x, batch_of("x"), *nodes], binding=binding, **changes)

    return make


class HVAE(nn.Module):
    """The program that the graph of `hvae` is of."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(4, 8), nn.Softplus(), nn.Linear(8, 3))
        self.prior = nn.Module()
        self.prior.scale = nn.Parameter(torch.rand(4) + 0.5)

    def values(self, x: Tensor, noise: dict[str, Tensor]) -> dict[str, Tensor]:
        z = torch.exp(-self.prior.scale) + self.prior.scale * noise["z_noise"]
        logits = self.decoder(z).view(x.shape[0], 3) + 2.0 * x
        return {"z": z, "y": (noise["y_noise"] < torch.sigmoid(logits)).to(logits.dtype)}


def threshold(noise: Tensor, logits: Tensor) -> Tensor:
    return (noise < torch.sigmoid(logits)).to(logits.dtype)


@pytest.fixture
def hvae() -> SimpleNamespace:
    """``model``: a live program; ``graph``: its semi-auxiliary form."""
    model = HVAE()
    f32 = torch.float32
    graph = Graph(
        [
            Input(name="x", path=("x",), shape=(BATCH, 3), dtype=f32),
            batch_of("x"),
            Parameter(name="scale", path="prior.scale", shape=(4,), dtype=f32),
            Call(name="neg", target="torch.Tensor.neg", args=(Ref("scale"),), shape=(4,), location=at(11)),
            Call(name="loc", target="torch.exp", args=(Ref("neg"),), shape=(4,), location=at(11)),
            Noise(name="z_noise", law="StandardNormal", shape=(BATCH, 4), dtype=f32),
            Call(
                name="z",
                target=NORMAL,
                args=(Ref("z_noise"), Ref("loc"), Ref("scale")),
                shape=(BATCH, 4),
                site=Site("z", "latent", "Normal"),
                location=at(12),
            ),
            Call(name="hidden", target="self.decoder", args=(Ref("z"),), shape=(BATCH, 3), location=at(13)),
            Call(name="view", target="torch.Tensor.view", args=(Ref("hidden"), BATCH, 3), location=at(13)),
            Call(name="mul", target="torch.Tensor.mul", args=(Ref("x"), 2.0), location=at(13)),
            Call(name="logits", target="torch.Tensor.add", args=(Ref("view"), Ref("mul")), location=at(13)),
            Noise(name="y_noise", law="StandardUniform", shape=(BATCH, 3), dtype=torch.float64),
            Call(
                name="y",
                target=Formula.of(threshold),
                args=(Ref("y_noise"), Ref("logits")),
                shape=(BATCH, 3),
                site=Site("y", "target", "Bernoulli"),
                location=at(14),
            ),
        ],
        name="hvae",
        arguments=(Argument("x"), Argument("obs", required=False)),
        guards=(Guard(("x",), 1, 3, "the network takes 3 features"),),
        binding=Binding(
            tensors={"prior.scale": model.prior.scale},
            modules={"decoder": Submodule(model.decoder)},
        ),
    )
    return SimpleNamespace(model=model, graph=graph)


class Block(nn.Module):
    """A user's own class; instances of two widths share one definition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, width)
        self.out = nn.Linear(width, 3)
        self.gain = nn.Parameter(torch.rand(3))
        self.register_buffer("shift", torch.rand(3))
        self.register_buffer("tenth", torch.tensor(0.1), persistent=False)

    def forward(self, x: Tensor, power: int = 2) -> tuple[Tensor, Tensor]:
        h = F.relu(self.fc(x))
        y = self.out(h) * self.gain + self.shift
        return y * self.tenth, torch.tensor([1.0, torch.inf, 0.25]).clamp(max=5.0) + y


def block_body(block: Block) -> Graph:
    tensors = {"gain": block.gain, "shift": block.shift, "tenth": block.tenth}
    return Graph(
        [
            Input(name="x", path=("x",), shape=(BATCH, 3), dtype=torch.float32),
            Call(name="fc", target="self.fc", args=(Ref("x"),), location=at(9, "blocks.py")),
            Call(name="relu", target="torch.nn.functional.relu", args=(Ref("fc"),), location=at(9, "blocks.py")),
            Call(name="out", target="self.out", args=(Ref("relu"),), location=at(10, "blocks.py")),
            Parameter(name="gain", path="gain", shape=(3,)),
            Call(name="mul", target="torch.Tensor.mul", args=(Ref("out"), Ref("gain")), location=at(10, "blocks.py")),
            Parameter(name="shift", path="shift", shape=(3,), trainable=False),
            Call(name="y", target="torch.Tensor.add", args=(Ref("mul"), Ref("shift")), location=at(10, "blocks.py")),
            Parameter(name="tenth", path="tenth", shape=(), trainable=False),
            Call(name="first", target="torch.Tensor.mul", args=(Ref("y"), Ref("tenth")), location=at(11, "blocks.py")),
            Constant(name="tensor", value=(1.0, torch.inf, 0.25), shape=(3,), dtype=torch.float32),
            Call(name="clamp", target="torch.Tensor.clamp", args=(Ref("tensor"),), kwargs={"max": 5.0}),
            Call(name="second", target="torch.Tensor.add", args=(Ref("clamp"), Ref("y"))),
        ],
        name="Block",
        arguments=(Argument("x"), Argument("power", required=False)),
        guards=(Guard(("power",), None, 2, "its value is taken as fixed"),),
        outputs={"0": "first", "1": "second"},
        binding=Binding(
            tensors=tensors,
            modules={"fc": Submodule(block.fc), "out": Submodule(block.out)},
        ),
    )


@pytest.fixture
def blocks() -> SimpleNamespace:
    """A program that calls two blocks of one class; the second one's ``out`` is tied to a parameter."""
    first, second = Block(4), Block(7)
    tied = second.out.weight
    values = {
        "blocks.0": Submodule(first, block_body(first)),
        "blocks.1": Submodule(second, block_body(second)),
    }

    def block(name: str, path: str, arg: str, index: int) -> tuple[Call, Call]:
        return (
            Call(name=f"{name}_pair", target=path, args=(Ref(arg),), kwargs={"power": 2}),
            Call(name=name, target="getitem", args=(Ref(f"{name}_pair"), index), site=Site(name, "deterministic")),
        )

    graph = Graph(
        [
            Input(name="input", path=("batch", "input"), shape=(BATCH, 3), dtype=torch.float32),
            Call(name="batch", target="size", args=(Ref("input"), 0)),
            *block("a", "self.blocks.0", "input", 0),
            *block("b", "self.blocks.1", "a", 1),
            Parameter(name="tied", path="tied", shape=(3, 7)),
            Call(name="linear", target="torch.Tensor.matmul", args=(Ref("b"), Ref("tied")), shape=(BATCH, 7)),
            Call(name="ones", target="torch.ones", args=((BATCH, 1),), kwargs={"device": DeviceOf()}),
            Call(
                name="c", target="torch.Tensor.add", args=(Ref("linear"), Ref("ones")), site=Site("c", "deterministic")
            ),
        ],
        name="two_blocks",
        arguments=(Argument("batch"),),
        binding=Binding(tensors={"tied": tied}, modules=values),
    )

    def reference(x: Tensor) -> dict[str, Tensor]:
        a = first(x)[0]
        b = second(a)[1]
        return {"a": a, "b": b, "c": b @ tied + 1}

    return SimpleNamespace(first=first, second=second, graph=graph, reference=reference)


def kl_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL divergence from teacher ``p`` to student ``q``."""
    ratio = (p_scale / q_scale) ** 2
    return 0.5 * (ratio + ((p_loc - q_loc) / q_scale) ** 2 - 1 - torch.log(ratio)).sum(-1)


class Net(nn.Module):
    """Teacher or student: z ~ Normal(mu, 1), y ~ Normal(net(z), scale)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.randn(2))
        self.log_scale = nn.Parameter(torch.zeros(3))
        self.net = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 3))


@pytest.fixture
def pair() -> SimpleNamespace:
    """``teacher`` and ``student``: live programs; ``graph``: their pair with a surrogate and a latent term."""
    teacher, student = Net(8), Net(4)
    student.net[2].eval()  # the user's choice: batch norm trains, dropout does not
    nodes: list[Node] = [
        Input(name="x", path=("x",), shape=(BATCH, 3), dtype=torch.float32),
        batch_of("x"),
        Noise(name="z_noise", law="StandardNormal", shape=(BATCH, 2), dtype=torch.float32),
    ]
    for who, line in (("teacher", 20), ("student", 40)):
        file = f"{who}.py"
        nodes += [
            Parameter(name=f"{who}.mu", path=f"{who}.mu", shape=(2,)),
            Call(
                name=f"{who}.z",
                target=NORMAL,
                args=(Ref("z_noise"), Ref(f"{who}.mu"), 1.0),
                site=Site(f"{who}.z", "latent", "Normal"),
                location=at(line, file),
            ),
            Call(name=f"{who}.loc", target=f"self.{who}.net", args=(Ref(f"{who}.z"),), location=at(line + 1, file)),
            Parameter(name=f"{who}.log_scale", path=f"{who}.log_scale", shape=(3,)),
            Call(name=f"{who}.scale", target="torch.exp", args=(Ref(f"{who}.log_scale"),), location=at(line + 2, file)),
        ]
    kl = Formula.of(kl_normal)
    of_y = tuple(Ref(f"{who}.{name}") for who in ("teacher", "student") for name in ("loc", "scale"))
    nodes += [
        Call(name="kl", target=kl, args=of_y),
        Call(name="surrogate.y", target="torch.Tensor.mean", args=(Ref("kl"),), location=at(22, "teacher.py")),
        Call(name="distance", target="torch.Tensor.sub", args=(Ref("teacher.z"), Ref("student.z"))),
        Call(name="square", target="torch.Tensor.pow", args=(Ref("distance"), 2)),
        Call(name="latent.z", target="torch.Tensor.mean", args=(Ref("square"),)),
        Call(name="weighted", target="torch.Tensor.mul", args=(Ref("latent.z"), 0.1)),
        Call(name="total", target="torch.Tensor.add", args=(Ref("surrogate.y"), Ref("weighted"))),
    ]
    nets = {"teacher": teacher, "student": student}
    graph = Graph(
        nodes,
        name="teacher_student",
        outputs={"total": "total", "surrogate.y": "surrogate.y", "latent.z": "latent.z"},
        arguments=(Argument("x"),),
        binding=Binding(
            tensors={f"{who}.{name}": getattr(net, name) for who, net in nets.items() for name in ("mu", "log_scale")},
            modules={f"{who}.net": Submodule(net.net) for who, net in nets.items()},
        ),
    )
    return SimpleNamespace(teacher=teacher, student=student, graph=graph)
