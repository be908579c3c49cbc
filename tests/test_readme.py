"""What README.md shows is what happens: its commands, their output, its Python, its pictures."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from dgmcompile import cli
from dgmcompile.viz import render

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = {"original.svg": "helmholtz_original.svg", "compact.svg": "helmholtz_compact.svg"}


def blocks(before: str, language: str) -> list[tuple[str, str]]:
    """Fenced blocks after a comment ``<!-- before: WHAT -->``: (what, text)."""
    return re.findall(rf"<!-- {before}: (.*?) -->\n```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the examples in it, as a reader's clone has."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Output of a command line that begins with ``dgmcompile``."""

    def run(command: str) -> str:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code == 0
        return capsys.readouterr().out

    return run


def test_commands_run(run: Callable[[str], str]):
    commands = [line for _, text in blocks("ci", "bash") for line in text.splitlines() if line.startswith("dgmcompile")]
    assert commands == ["dgmcompile transform examples/hvae.py -o out/hvae"]
    for command in commands:
        run(command)
    assert Path("out/hvae/hvae_distill.py").is_file()


def test_output_is_what_is_printed(run: Callable[[str], str]):
    shown = blocks("output", "text")
    assert len(shown) == 2
    for command, text in shown:
        assert run(command) == text, command


def test_python_runs():
    found = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(found) == 3
    names: dict[str, object] = {}
    source = Path("readme.py")
    source.write_text("\n".join(found), encoding="utf-8")
    exec(compile(source.read_text(), os.path.abspath(source), "exec"), names)
    assert Path("model.svg").is_file()
    assert set(names["e"]) == {"z_noise", "y_noise"} and set(names["v"]) == {"z", "y"}
    assert 'pyro.sample("z_noise", ' in names["program"].source  # type: ignore[attr-defined]
    assert not names["semi"].noises  # type: ignore[attr-defined]


def test_pictures_are_those_of_the_command(run: Callable[[str], str], monkeypatch: pytest.MonkeyPatch):
    """By graphviz-pure, whatever is installed: another Graphviz lays boxes out a little differently."""
    (command, _), _ = blocks("output", "text")
    pure = render._graphviz_pure()
    assert pure is not None
    monkeypatch.setattr(render, "renderers", lambda: (pure,))
    run(command)
    for made, committed in PICTURES.items():
        assert (ROOT / "docs" / "images" / committed).read_text() == Path("out/helmholtz", made).read_text()
        assert f"docs/images/{committed}" in README
