"""What docs/sequences.md shows is what happens: its Python runs, and prints what is printed there."""

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "sequences.md").read_text(encoding="utf-8")


def test_python_runs_and_prints_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(0)
    source = tmp_path / "page.py"
    source.write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), encoding="utf-8")
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), {})
    assert capsys.readouterr().out == "".join(re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL))
