"""What is emitted for the examples runs where neither dgmcompile nor pyro can be imported, and reads as it did.

``pytest --update-golden`` rewrites the golden files.
"""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch

from dgmcompile import pipeline

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("eight_schools", "gmm", "helmholtz", "hvae", "vae", "vrnn")
FORMS = ("semi_auxiliary", "distill")

BLOCKED = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dgmcompile", "pyro"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Blocked())
import runpy, torch
torch.set_num_threads(1)
folder, name = sys.argv[1:]
semi, distill = (runpy.run_path(f"{folder}/{name}_{form}.py") for form in ("semi_auxiliary", "distill"))
inputs = torch.load(f"{folder}/inputs.pt")
"""

MODEL = """
model = semi[CLASS]()
semi["load_weights"](model, f"{folder}/teacher.pt", strict=name != "vae")  # its state dict has an encoder as well
noise = model.sample_noise(*inputs, generator=torch.Generator().manual_seed(1))
values = model(*inputs, noise=noise)
again = model(*inputs, noise=noise)
assert all(torch.equal(values[site], again[site]) for site in values)
"""

LOSS = """
teacher, student = distill["Teacher"](), distill["Student"]()
for module, file in ((teacher, "teacher.pt"), (student, "student.pt")):
    distill["load_weights"](module, f"{folder}/{file}", strict=name != "vae")
loss = distill["Distillation"](teacher, student)
noise = loss.sample_noise(*inputs, generator=torch.Generator().manual_seed(1))
out = loss(*inputs, noise=noise)
trained = [name for name, p in loss.named_parameters() if p.requires_grad]
if trained:
    out.total.backward()
print(json.dumps({
    "total": out.total.item(),
    "terms": [sorted(out.surrogate), sorted(out.latent)],
    "state": sorted(loss.state_dict()),
    "moved": any(p.grad is not None and bool(p.grad.any()) for p in student.parameters()),
    "teacher": [p.grad is None and not p.requires_grad for p in teacher.parameters()],
    "sites": sorted(values),
    "modules": sorted({name.partition(".")[0] for name in sys.modules} & {"dgmcompile", "pyro"}),
}))
"""


@pytest.fixture(scope="session")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pipeline.Transformed]:
    """What ``dgmcompile transform examples/NAME.py`` makes, once a session."""

    @cache
    def transformed(name: str) -> pipeline.Transformed:
        pyro.clear_param_store()
        return pipeline.transform(str(EXAMPLES / f"{name}.py"), tmp_path_factory.mktemp(name))

    return transformed


def file_of(result: pipeline.Transformed, form: str) -> Path:
    return next(file for file in result.files if file.name.endswith(f"_{form}.py"))


def save_weights(example: dict[str, Any], inputs: tuple[torch.Tensor, ...], folder: Path) -> None:
    """As their user would: a state dict of the module, or Pyro's parameter store."""
    for name, program in (("teacher", example["model"]), ("student", example["student"])):
        module = getattr(program, "__self__", program)
        if isinstance(module, torch.nn.Module):
            torch.save(module.state_dict(), folder / f"{name}.pt")
        else:
            pyro.clear_param_store()
            program(*inputs)
            pyro.get_param_store().save(str(folder / f"{name}.pt"))
    torch.save(inputs, folder / "inputs.pt")


def class_of(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


@pytest.mark.parametrize("name", NAMES)
def test_runs_where_neither_can_be_imported(name: str, transformed: Callable):
    result = transformed(name)
    folder = result.files[0].parent
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    given = example["example_inputs"]
    inputs = given() if callable(given) else given
    save_weights(example, inputs, folder)
    script = BLOCKED + MODEL.replace("CLASS", repr(class_of(name))) + LOSS
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), name], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    roles = {row.site: row.role for row in result.report.sites}
    targets = sorted(site for site in roles if roles[site] == "target")
    assert told["modules"] == []
    assert told["sites"] == sorted(roles)
    assert told["terms"] == [targets, sorted(set(roles) - set(targets))]
    assert told["total"] > 0
    assert told["moved"] and all(told["teacher"])
    assert told["state"] and all(key.startswith("student.") for key in told["state"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, form: str, transformed: Callable, golden: Callable[[str, str], None]):
    file = file_of(transformed(name), form)
    golden(file.stem, file.read_text(encoding="utf-8"))


def test_emitted_files_are_clean(transformed: Callable, tmp_path: Path):
    for name in NAMES:
        for form in FORMS:
            file = file_of(transformed(name), form)
            (tmp_path / file.name).write_bytes(file.read_bytes())
    rules = ["--isolated", "--select", "E,F,I,UP,B,SIM", "--ignore", "E501"]  # a reason may be one long string
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", *rules], ["format", "--isolated", "--line-length", "120", "--check"]):
        done = subprocess.run([*ruff, *command, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    roots = {line.split()[1].partition(".")[0] for file in tmp_path.glob("*.py") for line in imports(file)}
    assert {"torch"} <= roots <= {"torch", "math", "typing"}


def imports(file: Path) -> set[str]:
    return {line for line in file.read_text().splitlines() if line.startswith(("import ", "from "))}


def test_loss_compiles_to_one_graph(transformed: Callable):
    """Without a C++ compiler at hand: ``aot_eager`` captures the whole graph, backward included."""
    emitted = runpy.run_path(str(file_of(transformed("helmholtz"), "distill")))
    loss = emitted["Distillation"](emitted["Teacher"](), emitted["Student"]())
    inputs = (torch.randn(5), torch.randn(5))
    noise = loss.sample_noise(*inputs)
    expected = loss(*inputs, noise=noise).total
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs, noise=noise).total
    assert torch.allclose(found, expected, rtol=1e-6)
    found.backward()
    assert loss.student.top_logits.grad is not None


def test_model_exports(transformed: Callable):
    emitted = runpy.run_path(str(file_of(transformed("vae"), "semi_auxiliary")))
    model = emitted["Vae"]()
    images = torch.rand(4, 1, 28, 28)
    noise = model.sample_noise(images)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(
        model,
        (images,),
        {"noise": noise},
        dynamic_shapes={"images": {0: batch}, "noise": {name: {0: batch} for name in noise}},
    )
    images = torch.rand(7, 1, 28, 28)
    noise = model.sample_noise(images)
    found, expected = exported.module()(images, noise=noise), model(images, noise=noise)
    assert {site: torch.equal(found[site], expected[site]) for site in expected} == {"z": True, "x": True}
