"""Small graphs to draw, and DOT text read back by the renderer itself."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dgmcompile.ir.graph import Call, Constant, Formula, Graph, Input, Node, Noise, Parameter, Plate, Ref, Sample, Site
from dgmcompile.ir.size import Size
from dgmcompile.viz.render import renderers

BATCH_SIZE = Size.symbol("x_size_0")
BATCH = Plate("batch", -1, BATCH_SIZE)


def normal_from_noise(noise, loc, scale):
    return loc + scale * noise


def latent(name: str, loc: Ref, shape, plates=(BATCH,), *, as_noise: bool = False) -> list[Node]:
    site = Site(name, "latent", "Normal", plates)
    if not as_noise:
        return [Sample(name=name, family="Normal", params={"loc": loc, "scale": 1.0}, shape=shape, site=site)]
    return [
        Noise(name=f"{name}_noise", law="StandardNormal", shape=shape),
        Call(
            name=name,
            target=Formula.of(normal_from_noise),
            args=(Ref(f"{name}_noise"), loc, 1.0),
            shape=shape,
            site=site,
        ),
    ]


def vae_graph(*, as_noise: bool) -> Graph:
    """A global latent ``w``, a local one ``z`` and a target ``y`` in two plates."""
    pixels = Plate("pixels", -2, 784)
    return Graph(
        [
            Input(name="x", path=("x",), shape=(BATCH_SIZE, 784)),
            Call(name="x_size_0", target="size", args=(Ref("x"), 0)),
            Parameter(name="prior", path="prior.loc", shape=(16,)),
            Constant(name="two", value=2.0, shape=()),
            *latent("w", Ref("prior"), (16,), (), as_noise=as_noise),
            Call(name="view", target="torch.Tensor.view", args=(Ref("x"), (BATCH_SIZE, -1)), shape=(BATCH_SIZE, 784)),
            Call(name="hidden", target="self.encoder.net", args=(Ref("view"),), shape=(BATCH_SIZE, 16)),
            Call(name="moved", target="torch.Tensor.add", args=(Ref("hidden"), Ref("w")), shape=(BATCH_SIZE, 16)),
            *latent("z", Ref("moved"), (BATCH_SIZE, 16), as_noise=as_noise),
            Call(
                name="energy",
                target="identity",
                args=(Ref("z"),),
                shape=(BATCH_SIZE, 16),
                site=Site("energy", "deterministic", "", (BATCH,)),
            ),
            Call(name="logits", target="self.decoder", args=(Ref("z"),), shape=(784, BATCH_SIZE)),
            Sample(
                name="y",
                family="Bernoulli",
                params={"logits": Ref("logits")},
                shape=(784, BATCH_SIZE),
                site=Site("y", "target", "Bernoulli", (BATCH, pixels)),
            ),
        ],
        name="vae",
    )


@pytest.fixture
def vae() -> Graph:
    return vae_graph(as_noise=False)


@pytest.fixture
def semi() -> Graph:
    return vae_graph(as_noise=True)


def side_nodes(side: str) -> list[Node]:
    z, loc, logits = f"{side}.z", f"{side}.loc", f"{side}.logits"
    site = Site(z, "latent", "Normal", (BATCH,))
    moved = (Ref("z_noise"), Ref(loc), 1.0)
    return [
        Call(name=loc, target=f"self.{side}.encoder", args=(Ref("x"),), shape=(BATCH_SIZE, 16)),
        Call(name=z, target=Formula.of(normal_from_noise), args=moved, shape=(BATCH_SIZE, 16), site=site),
        Call(name=logits, target=f"self.{side}.decoder", args=(Ref(z),), shape=(BATCH_SIZE, 784)),
    ]


@pytest.fixture
def pair() -> Graph:
    terms = (Ref("teacher.logits"), Ref("student.logits"))
    return Graph(
        [
            Input(name="x", path=("x",), shape=(BATCH_SIZE, 784)),
            Call(name="x_size_0", target="size", args=(Ref("x"), 0)),
            Noise(name="z_noise", law="StandardNormal", shape=(BATCH_SIZE, 16)),
            *side_nodes("teacher"),
            *side_nodes("student"),
            Sample(
                name="teacher.y",
                family="Bernoulli",
                params={"logits": Ref("teacher.logits")},
                shape=(BATCH_SIZE, 784),
                site=Site("teacher.y", "target", "Bernoulli", (BATCH,)),
            ),
            Call(name="surrogate.y", target="kl_bernoulli", args=terms, shape=()),
            Call(name="latent.z", target="kl_normal", args=(Ref("teacher.loc"), Ref("student.loc")), shape=()),
            Call(name="total", target="torch.add", args=(Ref("surrogate.y"), Ref("latent.z")), shape=()),
        ],
        name="pair",
        outputs={name: name for name in ("teacher.y", "surrogate.y", "latent.z", "total")},
    )


@dataclass
class Parsed:
    """DOT as Graphviz understands it: attributes by node, members by cluster, edges."""

    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    clusters: list[tuple[str, set[str]]] = field(default_factory=list)
    edges: set[tuple[str, str]] = field(default_factory=set)

    def members(self, label_part: str) -> list[set[str]]:
        return [members for label, members in self.clusters if label_part in label]


def parse_dot(text: str) -> Parsed:
    done = subprocess.run([renderers()[-1], "-Tdot_json"], input=text.encode(), capture_output=True, check=True)
    complaints = [line for line in done.stderr.decode().splitlines() if "width of non-ASCII character" not in line]
    assert not any(complaints), complaints
    content = json.loads(done.stdout)
    objects = {item["_gvid"]: item for item in content.get("objects", [])}
    nodes = {gvid: item for gvid, item in objects.items() if "nodes" not in item and item.get("style") != "invis"}
    parsed = Parsed(nodes={item["name"]: item for item in nodes.values()})
    for item in objects.values():
        if item["name"].startswith("cluster"):
            parsed.clusters.append((item["label"], {nodes[n]["name"] for n in item["nodes"] if n in nodes}))
    for edge in content.get("edges", []):
        if edge.get("style") != "invis":
            parsed.edges.add((objects[edge["tail"]]["name"], objects[edge["head"]]["name"]))
    return parsed


@pytest.fixture
def parsed() -> Callable[[str], Parsed]:
    return parse_dot
