"""What is refused, in exactly which words; and the same program once the help was followed.

``pytest --update-golden`` rewrites the words; they are read in review like code.
"""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import dgmcompile as dgm
from tests.frontends.refused import CASES, Refused

GOLDEN = Path(__file__).parent / "golden" / "refused.txt"


def golden() -> dict[str, str]:
    blocks = GOLDEN.read_text(encoding="utf-8").split("--- ")[1:]
    return {name: text.rstrip("\n") for name, text in (block.split("\n", 1) for block in blocks)}


def trace_file(source: str, folder: Path) -> Any:
    """The program's ``model`` on its ``args``, or on the defaults of its parameters."""
    file = folder / "program.py"
    file.write_text(source, encoding="utf-8")
    program = runpy.run_path(str(file))
    model = program["model"]
    signature = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    defaults = [p.default for p in signature.parameters.values() if p.default is not p.empty]
    return dgm.trace(model, program.get("args", tuple(defaults)), targets=program.get("targets"))


def refusal(case: Refused, folder: Path) -> str:
    with pytest.raises(dgm.CompileError) as caught:
        trace_file(case.source, folder)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_update_golden(request: pytest.FixtureRequest, tmp_path: Path):
    if request.config.getoption("--update-golden"):
        GOLDEN.parent.mkdir(exist_ok=True)
        for case in CASES:
            (tmp_path / case.name).mkdir()
        said = [f"--- {case.name}\n{refusal(case, tmp_path / case.name)}\n" for case in CASES]
        GOLDEN.write_text("".join(said), encoding="utf-8")
    assert list(golden()) == [case.name for case in CASES]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_refused_in_these_words(case: Refused, tmp_path: Path):
    said = refusal(case, tmp_path)
    assert said == golden()[case.name]
    assert f"error[{case.name.partition(' ')[0]}]" in said
    assert "\n  help: " in said


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_following_the_help_compiles(case: Refused, tmp_path: Path):
    graph = trace_file(case.mended_source, tmp_path)
    assert graph.samples
    dgm.compact(dgm.semi_auxiliary(graph))
