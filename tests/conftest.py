"""What every test starts from: the same random numbers, and Pyro's parameter store empty."""

import os
from collections.abc import Callable, Iterator

import hypothesis
import pyro
import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    torch.set_num_threads(1)

hypothesis.settings.register_profile("dgmcompile", deadline=None, derandomize=True)
hypothesis.settings.load_profile("dgmcompile")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")
    parser.addoption("--device", help="where tensors are made, as torch.set_default_device has it: cuda, say")


def pytest_configure(config: pytest.Config) -> None:
    if device := config.getoption("--device"):
        torch.set_default_device(device)


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    pyro.clear_param_store()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    pyro.clear_param_store()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file ``golden/NAME.py.txt`` beside the test; ``--update-golden`` rewrites the file."""

    def check(name: str, text: str) -> None:
        path = request.path.parent / "golden" / f"{name}.py.txt"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check
