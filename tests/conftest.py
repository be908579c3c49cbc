"""What every test starts from: the same random numbers, and Pyro's parameter store empty."""

from collections.abc import Iterator

import hypothesis
import pyro
import pytest
import torch

hypothesis.settings.register_profile("dgmcompile", deadline=None, derandomize=True)
hypothesis.settings.load_profile("dgmcompile")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    pyro.clear_param_store()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    pyro.clear_param_store()
