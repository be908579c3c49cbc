"""Several models in one file: each by its name, with example inputs of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

MODELS = """
    from pyro import poutine
    from pyro.infer import config_enumerate
    from pyro.infer.autoguide import AutoNormal

    def one(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    @config_enumerate
    @poutine.scale(scale=0.5)
    def two(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    class Three:
        def model(self):
            pyro.sample("w", dist.Normal(0.0, 1.0))

    three = Three()
    around = poutine.condition(one, data={"z": torch.zeros(4)})
    guide = AutoNormal(one)

    example_inputs = {
        "one": (torch.zeros(4),),
        "two": lambda: (torch.zeros(4), torch.ones(4)),
        "around": (torch.zeros(4),),
        "guide": (torch.zeros(4),),
    }
"""


@pytest.mark.parametrize(
    ("name", "site"), [("one", "z"), ("two", "y"), ("three.model", "w"), ("around", "z"), ("guide", "z_unconstrained")]
)
def test_each_is_checked_by_its_name(run: Callable, write: Callable, name: str, site: str):
    write(MODELS)
    done = run("check", f"model.py:{name}")
    assert (done.code, done.err.count("error")) == (0, 0), done.err
    assert any(line.startswith(f"  {site} ") or line.startswith(site) for line in done.out.splitlines()), done.out


def test_example_inputs_may_lack_a_model(run: Callable, write: Callable):
    write(MODELS.replace('"around": (torch.zeros(4),),', ""))
    done = run("check", "model.py:around")
    assert done.code == 1
    assert "error[no-example-inputs]: the model takes x, and model.py defines no example_inputs['around']" in done.err
    assert "model.py:9" in done.err  # where the model behind the handler stands
    assert "example_inputs['around'] = (x,)" in done.err


def test_one_tuple_is_for_all(run: Callable, write: Callable, folder: Path):
    start = MODELS.index("    example_inputs")
    write(MODELS[:start] + "    example_inputs = (torch.zeros(4),)\n")
    assert run("check", "model.py:one").code == run("check", "model.py:guide").code == 0


GRAPHS = """
    from torch import fx, nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            mean = self.layer(x)
            z = mean + torch.randn_like(mean)
            value = torch.sin(z)
            return value

    class Holder:
        pass

    x = torch.zeros(4, 3)
    module = Net()
    traced = fx.symbolic_trace(Net())
    exported = torch.export.export(Net(), (x,))
    holder = Holder()
    holder.exported = exported
    student = torch.export.export(Net(), (x,))
    example_inputs = (x,)
"""


def test_variables_of_plain_programs_may_have_other_names(run: Callable, write: Callable):
    write(GRAPHS)
    done = run("check", "model.py:traced", "--name", "add=z", "--name", "layer=mean")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith(("z ", "mean "))] == ["mean", "z"]
    named = ["--name", "add=code", "--name", "sin=value", "--student-name", "z=code"]
    done = run("transform", "model.py:traced", "--student", "model.py:module", *named, "--json")
    assert done.code == 0, done.err
    terms = [(term["site"], term["student_site"]) for term in json.loads(done.out)["pair"]["terms"]]
    assert terms == [("code", "code"), ("value", "value")]
    for wrong, code in [(["--name", "adds=z"], 2), (["--name", "add"], 2), (["--name", "add=z", "--name", "add=y"], 2)]:
        done = run("check", "model.py:traced", *wrong)
        assert done.code == code and done.err.startswith("error"), done.err


def test_all_models_of_a_file_are_told(run: Callable, write: Callable):
    write(GRAPHS)
    done = run("check", "model.py:other")
    assert done.code == 1 and "it defines module, traced, exported, student" in done.err


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("module", []),
        ("traced", ["--match", "add=z", "--match", "sin=value"]),
        ("exported", []),
        ("holder.exported", []),
    ],
)
def test_modules_and_graphs_of_fx_are_models(run: Callable, write: Callable, name: str, matches: list[str]):
    write(GRAPHS)
    done = run("check", f"model.py:{name}")
    assert (done.code, done.err) == (0, ""), done.err
    assert "the same program" in done.out
    done = run("transform", f"model.py:{name}", "--student", "model.py:student", *matches, "-o", "out")
    assert (done.code, done.err) == (0, ""), done.err
