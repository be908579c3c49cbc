"""``transform`` and ``check``: what they print, what they write, what they leave alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyro
import pytest
import torch

PROGRAM = """
print("loading the model")

class Program(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = torch.nn.Linear(width, 3)

    def forward(self, x):
        print("running the model")
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            h = pyro.sample("h", dist.LogNormal(z, 0.5).to_event(1))
            k = pyro.sample("k", dist.Bernoulli(logits=h.sum(-1)))
            pyro.sample("y", dist.Normal(self.net(h) + k[:, None] + x @ torch.ones(3, 3), 1.0).to_event(1), obs=x)

torch.manual_seed(3)
model = Program(2)
student = Program(2)
example_inputs = (torch.zeros(4, 3),)
"""

WRITTEN = [
    "compact.svg",
    "graph.html",
    "model_distill.py",
    "model_semi_auxiliary.py",
    "original.svg",
    "pair.svg",
    "report.json",
    "semi_auxiliary.svg",
]


def test_first_screen(run: Callable, write: Callable):
    ran = run("transform", write(PROGRAM), "-o", "out", "--keep", "h")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert [line.rstrip() for line in lines[:5]] == [
        "site  family     noise law        transform             differentiable  why",
        "z     Normal     StandardNormal   = z_noise             yes             "
        "normal_from_noise at loc=0, scale=1 is its noise",
        "h     LogNormal  -                -                     -               kept by the user",
        "k     Bernoulli  StandardUniform  bernoulli_from_noise  no",
        "y     Normal     -                -                     -               a target: it stays random",
    ]
    assert "stochastic depth 4 -> 2" in ran.out
    assert "guard: x.shape[1] == 3" in ran.out
    assert "z     z               Normal     Normal            latent     kl          0.1" in lines
    assert "y     y               Normal     Normal            surrogate  kl          1" in lines
    assert lines[-len(WRITTEN) :] == [
        f"wrote out/{name}"
        for name in (
            "original.svg",
            "semi_auxiliary.svg",
            "compact.svg",
            "pair.svg",
            "graph.html",
            "model_semi_auxiliary.py",
            "model_distill.py",
            "report.json",
        )
    ]
    assert sorted(path.name for path in Path("out").iterdir()) == WRITTEN


def test_what_the_program_prints_is_no_result(run: Callable, write: Callable):
    ran = run("transform", write(PROGRAM), "--json")
    assert ran.code == 0
    assert ran.err.startswith("loading the model\nrunning the model\n")
    assert "the model\n" not in ran.out
    assert json.loads(ran.out)["name"] == "model"


def test_json_and_the_report_say_the_same(run: Callable, write: Callable):
    printed = json.loads(run("transform", write(PROGRAM), "-o", "out", "--json").out)
    report = json.loads(Path("out/report.json").read_text())
    assert report.pop("generator") == "made by dgmcompile"
    assert [f"out/{name}" for name in report.pop("files")] == printed.pop("files")
    assert report == printed
    assert set(report) == {"name", "sites", "before", "after", "guards", "pair", "warnings"}
    z, h, k, y = report["sites"]
    assert z == {
        "site": "z",
        "role": "latent",
        "family": "Normal",
        "noise": "StandardNormal",
        "transform": "= z_noise",
        "differentiable": True,
        "kept": False,
        "reason": "normal_from_noise at loc=0, scale=1 is its noise",
        "line": "model.py:15",
    }
    assert (h["transform"], h["reason"]) == ("log_normal_from_noise", "")
    assert (k["noise"], k["differentiable"]) == ("StandardUniform", False)
    assert (y["role"], y["kept"]) == ("target", True)
    assert report["before"]["stochastic_depth"] == 4 and report["after"]["stochastic_depth"] == 1
    assert report["guards"][0]["condition"] == "x.shape[1] == 3"
    assert [(term["term"], term["site"], term["weight"]) for term in report["pair"]["terms"]] == [
        ("latent", "z", 0.1),
        ("latent", "h", 0.1),
        ("latent", "k", 0.1),
        ("surrogate", "y", 1.0),
    ]


def test_explain_is_grouped_by_pass(run: Callable, write: Callable):
    out = run("transform", write(PROGRAM), "--explain").out
    explained = out[out.index("reparameterize:") : out.index("\nwrote")]
    assert explained.startswith(
        "reparameterize: 3 rewritten, 1 kept\n"
        "  z  rewrite  Normal as normal_from_noise of StandardNormal\n"
        "  h  rewrite  LogNormal as log_normal_from_noise of StandardNormal\n"
        "  k  rewrite  Bernoulli as bernoulli_from_noise of StandardUniform\n"
        "  y  keep     a target: it stays random\n"
        "\n"
        "compact: "
    )
    assert "not a random variable" not in explained


def test_json_explained_holds_every_decision(run: Callable, write: Callable):
    decisions = json.loads(run("transform", write(PROGRAM), "--json", "--explain").out)["decisions"]
    assert {
        "stage": "reparameterize",
        "node": "y",
        "action": "keep",
        "reason": "a target: it stays random",
    } in decisions


def test_long_programs_are_told_by_kind_of_step(run: Callable, write: Callable):
    text = """
    def model():
        z = torch.zeros(())
        for t in range(15):
            z = pyro.sample(f"z_{t}", dist.Normal(z + 1, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(z, 1.0), obs=torch.zeros(()))
    """
    out = run("transform", write(text), "-o", "out").out.splitlines()
    assert out[1:3] == [
        "z_0 ... z_14  Normal  StandardNormal  normal_from_noise  yes",
        "y_0 ... y_14  Normal  -               -                  -               a target: it stays random",
    ]
    assert len(json.loads(Path("out/report.json").read_text())["sites"]) == 30


def test_what_its_user_should_know_is_said(run: Callable, write: Callable):
    text = """
    class Program(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
        def forward(self):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(self.net(z), 1.0).to_event(1), obs=torch.zeros(2))
    model = Program()
    """
    ran = run("transform", write(text), "-o", "out", "--json")
    assert ran.code == 0, ran.err
    assert ran.err.startswith("model.py:11:38: warning[random-module]")
    (warning,) = json.loads(Path("out/report.json").read_text())["warnings"]
    assert ran.err.strip() == warning


def test_which_sites_were_taken_as_targets_is_said(run: Callable, write: Callable):
    text = """
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0))
    """
    ran = run("transform", write(text))
    assert ran.err.startswith(
        "note[chosen-targets]: nothing is observed, so the targets are the sites that no other depends on: 'y'\n"
    )
    assert run("transform", "model.py", "--target", "z").err == ""


def test_targets(run: Callable, write: Callable):
    write(PROGRAM)
    rows = json.loads(run("transform", "model.py", "--no-student", "--target", "k", "--target", "y", "--json").out)
    assert {row["site"]: row["role"] for row in rows["sites"]} == {
        "z": "latent",
        "h": "latent",
        "k": "target",
        "y": "target",
    }
    rows = json.loads(run("transform", "model.py", "--no-student", "--target", "all", "--json").out)
    assert {row["role"] for row in rows["sites"]} == {"target"}


def test_student_in_another_file_with_other_names(run: Callable, write: Callable, folder: Path):
    write(PROGRAM)
    write("from layers import width\n" + PROGRAM.replace('"h"', '"g"').replace("student =", "other ="), "small/net.py")
    write("width = 2", "small/layers.py")
    write("raise RuntimeError('the wrong one')", "layers.py")
    before = list(sys.path), set(sys.modules)
    ran = run("transform", "model.py", "--student", folder / "small" / "net.py", "--match", "h=g", "--json")
    assert ran.code == 0, ran.err
    assert ("h", "g") in [(term["site"], term["student_site"]) for term in json.loads(ran.out)["pair"]["terms"]]
    assert sys.path == before[0]
    assert "layers" not in sys.modules and not [m for m in set(sys.modules) - before[1] if "dgmcompile_program" in m]
    ran = run("transform", "model.py", "--student", "small/net.py:other", "--match", "h=", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["pair"]["unmatched"] == ["teacher.h", "student.g"]


def test_two_programs_each_import_their_own_neighbour(run: Callable, write: Callable):
    text = """
    from layers import width
    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(2), width).to_event(1))
        pyro.sample("y", dist.Normal(z, width).to_event(1), obs=torch.zeros(2))
    """
    for name, width in (("a", 1.0), ("b", 3.0)):
        write(text, f"{name}/model.py")
        write(f"width = {width}", f"{name}/layers.py")
    ran = run("transform", "a/model.py", "--student", "b/model.py", "-o", "out")
    assert ran.code == 0, ran.err
    assert "3.0" in Path("out/model_distill.py").read_text()


def test_a_named_model_has_its_own_files_and_no_student_by_itself(run: Callable, write: Callable):
    ran = run("transform", f"{write(PROGRAM)}:student", "-o", "out")
    assert ran.code == 0, ran.err
    assert "out/model_student_semi_auxiliary.py" in ran.out and "distill" not in ran.out


def test_dotted_name(run: Callable, write: Callable):
    text = """
    class Holder:
        def __init__(self): self.scale = 2.0
        def net(self): pyro.sample("z", dist.Normal(0.0, self.scale))
    holder = Holder()
    """
    assert run("check", f"{write(text)}:holder.net").code == 0


def test_state_of_the_process_is_left_alone(run: Callable, write: Callable, folder: Path):
    (folder / "elsewhere").mkdir()
    text = """
    import os
    os.chdir("elsewhere")
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    pyro.param("loc", torch.zeros(3))
    def model():
        z = pyro.sample("z", dist.Normal(pyro.param("loc"), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=torch.zeros(3))
    """
    random_state = torch.get_rng_state()
    ran = run("transform", write(text), "-o", "out")
    assert ran.code == 0, ran.err
    assert (folder / "out" / "report.json").is_file()
    assert Path.cwd() == folder
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not dict(pyro.get_param_store())
    assert run("transform", "model.py", "-o", "out").out == ran.out


def test_users_files_are_not_overwritten(run: Callable, write: Callable, folder: Path):
    write(PROGRAM)
    (folder / "graph.html").write_text("my own page")
    ran = run("transform", "model.py", "-o", ".")
    assert (ran.code, ran.out) == (2, "")
    assert "graph.html stands there already, and was not made by dgmcompile" in ran.err
    assert (folder / "graph.html").read_text() == "my own page"
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["graph.html", "model.py"]
    (folder / "graph.html").unlink()
    assert run("transform", "model.py", "-o", ".").code == 0
    (folder / "notes.txt").write_text("mine")
    assert run("transform", "model.py", "-o", ".").code == 0
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == sorted(
        [*WRITTEN, "model.py", "notes.txt"]
    )


def test_nothing_is_written_if_a_late_stage_refuses(run: Callable, write: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dgmcompile.viz.render.renderers", tuple)
    ran = run("transform", write(PROGRAM), "-o", "out")
    assert (ran.code, ran.out) == (1, "")
    assert "error[no-renderer]" in ran.err
    assert not Path("out").exists()


def test_the_same_program_gives_the_same_bytes(run: Callable, write: Callable):
    write(PROGRAM)
    for out in ("one", "two"):
        assert run("transform", "model.py", "-o", out).code == 0
    for name in WRITTEN:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_check(run: Callable, write: Callable):
    ran = run("check", write(PROGRAM))
    assert ran.code == 0, ran.err
    assert [line.split()[0] for line in ran.out.splitlines()[1:5]] == ["z", "h", "k", "y"]
    assert ran.out.splitlines()[-1] == "model: the same program, at x.shape[0] = 7"
    report = json.loads(run("check", "model.py", "--json").out)
    assert report["ok"] is True
    assert [site["name"] for site in report["sites"]] == ["z", "h", "k", "y"]


def test_check_fails_where_the_compiled_form_differs(run: Callable, write: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dgmcompile.replay.comparison.TOLERANCES", {torch.float32: -1.0})
    ran = run("check", write(PROGRAM))
    assert ran.code == 1
    assert "model: NOT the same program" in ran.out


def test_version_and_help(run: Callable):
    assert run("--version").out == "0.1.0\n"
    ran = run("--help")
    assert ran.code == 0
    assert "transform" in ran.out and "check" in ran.out


def shell(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("args", [["--help"], ["transform", "--help"], ["--version"], ["transform"]])
def test_help_loads_no_torch(args: list[str], folder: Path):
    done = shell("-X", "importtime", "-m", "dgmcompile", *args, cwd=folder, env=bare_environment())
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in imported
    assert not imported & {"torch", "pyro", "networkx", "numpy", "graphviz"}


def bare_environment() -> dict[str, str]:
    """No HOME, no terminal, no letters but ASCII."""
    root = str(Path(__file__).parents[2])
    return {"PATH": os.environ["PATH"], "PYTHONPATH": root, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}


def test_without_home_or_terminal_and_with_spaces(write: Callable, folder: Path):
    write(PROGRAM.replace('"z"', '"ζ"'), "my models/ladder net.py")
    args = ("-m", "dgmcompile", "transform", "my models/ladder net.py", "-o", "my results")
    done = shell(*args, cwd=folder, env=bare_environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("\\u03b6  ")
    assert (folder / "my results" / "ladder net_distill.py").is_file()


def test_refusal_in_a_shell(write: Callable, folder: Path):
    write("def model(): pyro.factor('f', torch.zeros(()))")
    done = shell("-m", "dgmcompile", "check", "model.py", cwd=folder, env=bare_environment())
    assert (done.returncode, done.stdout) == (1, "")
    assert "model.py:4:14: error[factor]" in done.stderr and "Traceback" not in done.stderr


def test_pictures_in_other_formats(run: Callable, folder: Path):
    gmm = Path(__file__).parents[2] / "examples" / "gmm.py"
    for _ in range(2):  # what was written is known as ours, and replaced
        ran = run("transform", gmm, "-o", folder / "out", "--picture", "png", "--picture", "dot")
        assert ran.code == 0
    for name in ("original", "semi_auxiliary", "compact", "pair"):
        assert (folder / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "digraph" in (folder / "out" / f"{name}.dot").read_text()
        assert f"{name}.png" in ran.out and f"{name}.dot" in ran.out
    assert run("transform", gmm, "-o", folder / "out", "--picture", "bmp").code == 2
