"""Programs that nobody wrote hold what the compiler promises; and the generator writes what it is meant to."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pyro.distributions as dist
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from dgmcompile import replay
from dgmcompile.ir.graph import Graph
from dgmcompile.passes import compact
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS
from tests.random_programs import properties
from tests.random_programs.frames import LAYOUTS
from tests.random_programs.generator import random_program
from tests.random_programs.laws import ALL
from tests.random_programs.program import RandomProgram
from tests.random_programs.properties import PARTS, Invalid, Violation, check_program
from tests.random_programs.shrink import shrunk, smallest

EXAMPLES, SHARES = 500, 20
"""Programs, and the tests among which they are shared, so that several processes check them."""

SOME = ("sizes", "emitted", "pair")
"""Parts of which each program is given one here, and all in a long run (``python -m tests.random_programs``)."""


@pytest.mark.parametrize("share", range(SHARES))
@settings(
    max_examples=EXAMPLES // SHARES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # programs shrink by their statements, which is faster
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(number=st.integers(0, 2**32), some=st.sampled_from(SOME))
def test_compiled_form_is_the_same_program(number: int, some: str, share: int, folder: Path):
    program = random_program(random.Random(f"{share}/{number}"), sites=4)
    parts = {*PARTS} - {*SOME} | {some}
    try:
        check_program(program, folder, parts)
    except Invalid:
        assume(False)
    except Violation as error:
        smaller = smallest(program, error, folder)
        pytest.fail(f"{error}\n{smaller.source}")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


PROGRAMS = [random_program(random.Random(f"generator/{number}")) for number in range(400)]
TEXT = "\n".join(program.source for program in PROGRAMS)


def test_every_family_of_the_registry_is_written():
    written = {name for law in ALL for name in re.findall(r"dist\.(\w+)\(", law.text)}
    assert {*NOISE_TRANSFORMS.names(), *COMPOSITIONS.names()} <= written
    assert all(hasattr(dist, name) for name in written)


@pytest.mark.parametrize(
    "construct",
    [
        *(name for _, layout in LAYOUTS for _, _, name in layout.plates.values() if name),
        "for i in pyro.plate(",
        "for t in pyro.markov(",
        "poutine.mask(mask=False)",
        "poutine.scale(scale=torch.tensor",
        ".mask((rows > 0)).to_event(1)",
        ".to_event(1).mask(",
        "pyro.deterministic(",
        "constraint=constraints.",
        "PyroSample(",
        "nn.Embedding(",
        "nn.GRUCell(",
        ".weight = net",
        "torch.where(",
        "x.shape[0]",
        "2 * len(x)",
        ".reshape(-1, 3)",
        ".expand(",
        "torch.arange(3)",
        "new_zeros(",
        ".unsqueeze(-1).squeeze(-1)\n",
        "obs=None if y is None else",
        'batch["x"]',
        "def model(n):",
        "functools.partial(",
        "*, flag=True",
        "group/",
        "transforms.affine_autoregressive(",
        "@poutine.scale(",
    ],
)
def test_programs_have(construct: str):
    assert construct in TEXT


def test_targets_are_parents_and_there_are_several():
    assert any(len(re.findall(r", obs=", program.source)) > 1 for program in PROGRAMS)
    observed = [(program, re.findall(r"(\w+) = pyro\.sample\(.*, obs=", program.source)) for program in PROGRAMS]
    assert any(program.source.count(name) > 3 for program, names in observed for name in names)


def test_few_programs_cannot_run(folder: Path):
    invalid = 0
    for program in PROGRAMS[:100]:
        try:
            check_program(program, folder, parts=())
        except Invalid:
            invalid += 1
    assert invalid <= 5


def test_a_student_is_another_program_of_the_same_sites():
    differ = [program for program in PROGRAMS if program.student != program.source]
    assert len(differ) > 300
    for program in differ[:50]:
        assert program.source.count("pyro.sample(") == program.student.count("pyro.sample(")


# -- are faults found? -------------------------------------------------------------------------------------------------


def failing_part(program: RandomProgram, folder: Path) -> str:
    try:
        check_program(program, folder)
    except Violation as error:
        return error.part
    return ""


CHAIN = RandomProgram(
    head=("w = nn.Parameter(torch.tensor(<|0.4|0.5|>))", "unused = nn.Linear(3, 3)"),
    frame="def model(x):\n    {body}\n\n\ndef example(n):\n    return (torch.randn(n, 3),), {}",
    body=(
        "rows = x.sum(-1)",
        'data = pyro.plate("data", len(x))',
        'with data:\n    z = pyro.sample("z", dist.Normal(rows * w, 1.0))',
        'with data:\n    y = pyro.sample("y", dist.Normal(z.sin(), <|0.5|0.7|>), obs=torch.zeros(len(x)))',
    ),
)


def test_the_right_compiler_passes(folder: Path):
    assert failing_part(CHAIN, folder) == ""


def test_a_lost_edge_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Graph, "variables", lambda self: self.graph.subgraph([]))
    assert failing_part(CHAIN, folder) == "relations"


def test_a_compaction_that_changes_a_value_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def wrong(graph: Graph) -> Graph:
        made = compact(graph)
        return made.evolve(outputs={**made.outputs, "z": "z_noise"} if "z_noise" in made.noises else made.outputs)

    monkeypatch.setattr(properties.dgm, "compact", wrong)
    assert failing_part(CHAIN, folder) == "forms"


def test_a_wrong_weight_of_a_term_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch):
    right = properties.LossByHandlers.terms
    monkeypatch.setattr(
        properties.LossByHandlers, "terms", lambda *args: {name: 2 * term for name, term in right(*args).items()}
    )
    assert failing_part(CHAIN, folder) == "pair"


def test_a_failing_check_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replay.CheckReport, "ok", False)
    assert failing_part(CHAIN, folder) == "replay"


def test_a_program_shrinks_to_what_fails():
    smaller = shrunk(CHAIN, lambda program: "z = pyro" in program.source)
    assert len(smaller) == 1 and "z = pyro" in smaller.body[0]
