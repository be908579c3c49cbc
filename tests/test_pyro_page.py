"""What docs/pyro.md shows is what happens: its Python runs, and prints what is printed there."""

import re
from pathlib import Path

import pyro
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "pyro.md").read_text(encoding="utf-8")


def test_python_runs_and_prints_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pyro.set_rng_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    source = tmp_path / "page.py"
    source.write_text("\n".join(blocks), encoding="utf-8")
    names: dict[str, object] = {}
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), names)
    printed = capsys.readouterr().out
    shown = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4 and len(shown) == 2
    assert all(text in printed for text in shown)
    assert names["theta"].reshape(100, -1).shape == (100, 8)  # type: ignore[attr-defined]
    assert names["graph"]["on"].options == {"gradient": "straight_through", "weight": 2.0}  # type: ignore[index]
    assert "bernoulli_relaxed" in str(names["relaxed"])
