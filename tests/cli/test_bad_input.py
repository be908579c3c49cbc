"""Each mistake gives one clear diagnostic with the user's line and exit code 1 or 2; nothing is written."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAMS: dict[str, tuple[str, str]] = {
    "no-model": (
        """
        def net(): pyro.sample("z", dist.Normal(0.0, 1.0))
        """,
        "model.py defines no 'model'",
    ),
    "no-example-inputs": (
        """
        def model(x):
            pyro.sample("y", dist.Normal(x, 1.0))
        """,
        "model.py:5:1: error[no-example-inputs]: the model takes x",
    ),
    "example-inputs": (
        """
        def model(x):
            pyro.sample("y", dist.Normal(x, 1.0))
        example_inputs = [torch.zeros(3)]
        """,
        "model.py:7:1: error[example-inputs]: example_inputs is a list, not a tuple",
    ),
    "example-inputs (number)": (
        """
        def model(x):
            pyro.sample("y", dist.Normal(x, 1.0))
        example_inputs = (torch.zeros(3), torch.zeros(3))
        """,
        "model.py:7:1: error[example-inputs]: example_inputs has 2 entries",
    ),
    "file-raised (example inputs)": (
        """
        def model(x):
            pyro.sample("y", dist.Normal(x, 1.0))
        def example_inputs():
            return (torch.zeros(3) @ torch.zeros(4),)
        """,
        "model.py:8:13: error[file-raised]: example_inputs raised RuntimeError",
    ),
    "value-branch": (
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            if z > 0:
                z = -z
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.0))
        """,
        "model.py:7:8: error[value-branch]: the value of site 'z' decides a Python branch",
    ),
    "value-number": (
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z.item(), 1.0), obs=torch.tensor(0.0))
        """,
        "model.py:7:34: error[value-number]: the value of site 'z' becomes a Python number (item)",
    ),
    "factor": (
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("f", -z)
        """,
        "model.py:7:5: error[factor]",
    ),
    "no-noise-transform": (
        """
        def model():
            z = pyro.sample("z", dist.SpanningTree(torch.zeros(3)))
            pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.0))
        """,
        "model.py:6:9: error[no-noise-transform]: site 'z' draws from SpanningTree",
    ),
    "program-raised": (
        """
        def model():
            raise ValueError("sizes \\x1b[31m do not fit")
        """,
        "model.py:6:5: error[program-raised]: the model raised ValueError: sizes \\x1b[31m do not fit",
    ),
    "program-raised (exit)": (
        """
        def model():
            pyro.sample("z", dist.Normal(0.0, 1.0))
            raise SystemExit(0)
        """,
        "model.py:7:5: error[program-raised]: the model raised SystemExit: 0",
    ),
    "file-raised": (
        """
        def size(name):
            return {}[name]
        model = size("hidden")
        """,
        "model.py:6:12: error[file-raised]: the file raised KeyError: 'hidden'",
    ),
    "file-raised (exit)": (
        """
        raise SystemExit("not today")
        """,
        "model.py:5:1: error[file-raised]: the file raised SystemExit: not today",
    ),
    "syntax-error": (
        """
        def model(:
            pass
        """,
        "model.py:5:11: error[syntax-error]: the file is no valid Python: invalid syntax",
    ),
    "no-model (class)": (
        """
        class model(torch.nn.Module): pass
        """,
        "model.py:5:1: error[no-model]: 'model' in model.py is a class",
    ),
    "no-sites": (
        """
        def model(): pass
        """,
        "error[no-sites]: the model has no sample site, and returns no tensor that depends on a draw or an argument",
    ),
    "pair-mismatch": (
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=torch.zeros(3))
        def student():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=torch.zeros(2))
        """,
        "error[pair-mismatch]: teacher and student do not fit together",
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_refused_program(case: str, run: Callable, write: Callable, folder: Path):
    text, expected = PROGRAMS[case]
    ran = run("transform", write(text), "-o", folder / "out")
    assert expected in ran.err
    assert f"error[{case.partition(' ')[0]}]" in ran.err
    _assert_one_refusal(ran, folder, 1)


def _assert_one_refusal(ran: Any, folder: Path, code: int) -> None:
    assert ran.code == code
    assert ran.out == ""
    assert ran.err.count("error[") == 1
    assert "  help: " in ran.err
    assert "Traceback" not in ran.err and "\x1b" not in ran.err
    assert not (folder / "out").exists()


def test_mismatch_is_a_table_of_what_was_found(run: Callable, write: Callable):
    ran = run("transform", write(PROGRAMS["pair-mismatch"][0]))
    rows = [line for line in ran.err.splitlines() if "note: " in line]
    for name, found in (("'y'", "Normal [3]"), ("'x'", "Normal [2]"), ("'z'", "Normal [3]")):
        assert any(name in row and found in row for row in rows)


@pytest.mark.parametrize("command", ["transform", "check"])
def test_refusal_is_the_same_for_every_command(command: str, run: Callable, write: Callable):
    ran = run(command, write(PROGRAMS["factor"][0]))
    assert (ran.code, ran.out) == (1, "")
    assert "error[factor]" in ran.err


GOOD = """
def model():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.0))
"""


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (["missing.py"], 2, "error[no-file]: 'missing.py' does not exist"),
        (["."], 2, "error[no-file]: '.' is a folder"),
        (["model.txt"], 2, "error[no-file]: 'model.txt' is no Python file"),
        (["model.py:net"], 1, "error[no-model]: model.py defines no 'net'"),
        (["model.py", "--student", "missing.py"], 2, "error[no-file]: 'missing.py' does not exist"),
        (["model.py", "--student", "model.py:net"], 1, "error[no-model]: model.py defines no 'net'"),
        (["model.py", "--student", "model.py", "--no-student"], 2, "exclude each other"),
        (["model.py", "--method", "magic"], 2, "error: --method is one of surrogate, local, marginalised, not 'magic'"),
        (["model.py", "--divergence", "l2"], 2, "error: --divergence is one of kl, "),
        (["model.py", "--match", "z"], 2, "error: --match takes SITE=SITE, not 'z'"),
        (["model.py", "--match", "=z"], 2, "error: --match takes SITE=SITE, not '=z'"),
        (["model.py", "--match", "z=z", "--match", "z="], 2, "error: --match names 'z' twice"),
        (["model.py", "--match", "z=z"], 2, "error[no-student]: model.py has no student"),
        (["model.py", "--method", "local"], 2, "error[no-student]"),
        (["model.py", "--divergence", "js"], 2, "error[no-student]"),
        (["model.py", "--no-student", "--latent-weight", "1"], 2, "error[no-student]"),
        (["model.py", "--keep", "q"], 2, "error[unknown-site]: there is no random variable 'q'"),
        (["model.py", "--target", "q"], 2, "error[unknown-site]: no site is called 'q'"),
        (["model.py", "-o", "model.txt"], 2, "error: 'model.txt' is no folder"),
        (["model.py", "-o", "model.txt/deeper"], 2, "error: cannot write to 'model.txt/deeper': Not a directory"),
        (["model.py", "-o", "/proc/out"], 2, "error: cannot write to '/proc/out'"),
        (["model.py", "--latent-weight", "much"], 2, "Invalid value for '--latent-weight'"),
        (["model.py", "--unknown"], 2, "No such option"),
        ([], 2, "Missing argument"),
    ],
)
def test_wrong_usage(args: list[str], code: int, expected: str, run: Callable, write: Callable, folder: Path):
    write(GOOD)
    (folder / "model.txt").write_text("plain")
    ran = run("transform", *args)
    assert (ran.code, ran.out) == (code, "")
    assert expected in ran.err
    assert "Traceback" not in ran.err
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["model.py", "model.txt"]


def test_a_kept_site_is_drawn_in_the_emitted_file(run: Callable, write: Callable, folder: Path):
    text = """
    def model():
        with pyro.plate("batch", 500):
            z = pyro.sample("z", dist.VonMises(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.zeros(500))
    """
    kept = run("transform", write(text), "--keep", "z", "-o", "out")
    assert kept.code == 0
    assert [line.split()[:2] for line in kept.out.splitlines()[1:3]] == [["z", "VonMises"], ["y", "Normal"]]
    assert "kept by the user" in kept.out
    values = emitted(folder / "out" / "model_semi_auxiliary.py").Model()()
    assert values["z"].shape == (500,)
    # mean resultant length of this law: I1(1) / I0(1); a standard error is below 1 / sqrt(500)
    assert torch.cos(values["z"]).mean() == pytest.approx(0.4464, abs=5 / 500**0.5)


def test_a_family_without_noise_has_no_place_in_a_pair(run: Callable, write: Callable):
    text = """
    def model():
        z = pyro.sample("z", dist.SpanningTree(torch.zeros(3)))
        pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.0))
    student = model
    """
    for options in ((), ("--keep", "z")):
        ran = run("transform", write(text), *options)
        assert (ran.code, ran.out) == (1, "")
        assert ("error[no-emitted-draw]" if options else "error[no-noise-transform]") in ran.err


HOSTILE = [
    'quo"te',
    "apos'trophe",
    "new\nline",
    '"); import os; os.system("touch hacked"); ("',
    '"""; raise SystemExit; """',
    "<script>alert(1)</script>",
    "class",
    "self",
    "\\",
    "{x}",
    "\x1b[31mred",
    "é\N{SNOWMAN}",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_site_names_are_data(name: str, run: Callable, write: Callable, folder: Path):
    text = f"""
    def program(loc):
        def run():
            z = pyro.sample({name!r}, dist.Normal(loc, 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=torch.zeros(2))
        return run
    model = program(torch.zeros(2, requires_grad=True))
    student = program(torch.ones(2, requires_grad=True))
    """
    ran = run("transform", write(text), "-o", "out", "--explain")
    assert ran.code == 0, ran.err
    assert "\x1b" not in ran.out + ran.err
    values = emitted(folder / "out" / "model_semi_auxiliary.py").Model()()
    assert set(values) == {name, "y"}
    distil = emitted(folder / "out" / "model_distill.py")
    loss = distil.Distillation(distil.Teacher(), distil.Student())()
    assert set(loss.latent) == {name}
    assert json.loads((folder / "out" / "report.json").read_text())["sites"][0]["site"] == name
    for page in ("graph.html", "compact.svg"):
        assert "<script" not in (folder / "out" / page).read_text()
    assert not (folder / "hacked").exists()
    assert run("check", "model.py").code == 0


def emitted(file: Path) -> Any:
    """The emitted file as a module."""
    spec = importlib.util.spec_from_file_location(f"emitted_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[module.__name__]
    return module
