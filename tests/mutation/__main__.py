"""``python -m tests.mutation [--missing] [--sample N] [NAME ...]``: break each function once, and run its tests.

Prints a row for each; exits with 1 where a broken function passed. Each mutant lives in a copy of the
tree; the tree itself is not touched, but for the rows of these functions in the table of the documentation.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgmcompile.passes.rules import RULES
from dgmcompile.reparam import COMPOSITIONS, NOISE_LAWS, NOISE_TRANSFORMS, STEP_TRANSFORMS
from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "mutation.csv"
COPIED = ("dgmcompile", "tests", "pyproject.toml", "examples", "docs")


EQUIVALENT = {
    "prior_loc + prior_scale * group_noise": "the noise has a symmetric law, and each model takes the same sign",
    **{
        f"in_double({name}) + zeros": "zeros are added"
        for name in ("correlation", "phi_concentration", "psi_concentration")
    },
    "psi + centred_von_mises_from_noise(psi_noise, second_angle_concentration(phi, other, joint))": "the second angle "
    "has a symmetric law, and each model takes the same sign",
    "in_double(df) + torch.zeros_like(diagonal_noise[..., 0], dtype=torch.float64)": "zeros are added",
    "in_double(concentration) + torch.zeros_like(radius_noise[..., 0], dtype=torch.float64)": "zeros are added",
    "logits.double() - logits.double().amax(-1, keepdim=True)": "softmax is the same of logits that are all shifted",
}
"""Expressions of which the change that comes first changes no value, and why."""


@dataclass(frozen=True)
class Target:
    """A function to break, and pytest's arguments for the tests that should fail then: a few first, then more."""

    function: Callable[..., Any]
    tests: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def file(self) -> Path:
        return Path(inspect.getfile(self.function)).relative_to(ROOT)


_OTHERS = (
    "tests/reparam",
    *(f"--ignore=tests/reparam/test_{name}.py" for name in ("families", "compositions", "steps")),
)


def targets() -> Iterator[Target]:
    """Every transform of the registry, every step, every noise law, every rule of compaction."""
    for entry in NOISE_TRANSFORMS:
        few, some = f"{entry.family}- and not all_that_can", f"{entry.family}-"
        file = "tests/reparam/test_families.py"
        tests = ((file, "-k", few), (file, "-k", some), _OTHERS)
        yield from (Target(made.forward.function, tests) for made in (entry, *entry.variants.values()))
        for formulas in entry.conversions.values():
            yield from (Target(formula.function, tests) for formula in formulas.values())
    for composition in COMPOSITIONS:
        for formula in composition.formulas:
            yield Target(formula.function, (("tests/reparam/test_compositions.py",),))
    for step in STEP_TRANSFORMS:
        yield Target(step.forward.function, (("tests/reparam/test_steps.py",),))
    for law in NOISE_LAWS:
        yield Target(law.draw.function, (("tests/reparam/test_laws.py",),))
    for rule in RULES:
        yield Target(rule, (("tests/passes",),))


@dataclass(frozen=True)
class Result:
    """``noticed`` is the first test that failed."""

    target: Target
    change: str
    noticed: str = ""


def tried(target: Target) -> Result:
    """The first change of the function that can be made, and the test that fails of it."""
    for mutant in mutants(ROOT / target.file, target.name):
        if mutant.change.partition(" -> ")[0] in EQUIVALENT:
            continue
        return Result(target, mutant.change, _failing_test(mutant, target))
    raise LookupError(f"nothing in {target.name} can be changed")


def _failing_test(mutant: Mutant, target: Target) -> str:
    """The first test that fails of the mutant."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            _copy(ROOT / name, Path(folder) / name)
        (Path(folder) / target.file).write_text(mutant.source, encoding="utf-8")
        return next((found for tests in target.tests if (found := _pytest(Path(folder), tests))), "")


def _pytest(folder: Path, tests: tuple[str, ...]) -> str:
    """The first test that fails, or nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode in (0, _NONE_SELECTED):
        return ""
    failed = [line.partition(" ")[2] for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if run.returncode != 1 or not failed:
        raise RuntimeError(f"pytest ended with {run.returncode}:\n{run.stdout}{run.stderr}")
    return failed[0].partition(" - ")[0]


_NONE_SELECTED = 5


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "_build", "_generated"))
    else:
        shutil.copy(source, target)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="functions to break; all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="every so manyth that there are N")
    parser.add_argument("--missing", action="store_true", help="only those that the table has no row for")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = list({target.function: target for target in targets()}.values())
    chosen = [target for target in chosen if not options.names or target.name in options.names]
    if options.missing:
        known = {name for name, _, _ in table()}
        chosen = [target for target in chosen if target.name not in known]
    if options.sample:
        chosen = chosen[:: max(1, len(chosen) // options.sample)][: options.sample]
    results = list[Result]()
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(tried, chosen):
            results.append(result)
            print(" | ".join(row(result)), flush=True)
    noticed = dict.fromkeys(result.noticed for result in results if result.noticed)
    survivors = sum(not result.noticed for result in results)
    print(f"{len(results)} functions broken, {survivors} not noticed")
    if noticed and (failed := _pytest(ROOT, tuple(noticed))):
        print(f"{failed} fails without any change: mend the tests first")
        return 1
    print("the tests that noticed pass without any change")
    renew_table(map(row, results))
    return 1 if survivors else 0


def renew_table(rows: Iterable[Row]) -> None:
    """These rows instead of those that the functions had; in the order of `targets`."""
    found = {name: (name, change, noticed) for name, change, noticed in (*table(), *rows)}
    ordered = [found[name] for name in dict.fromkeys(target.name for target in targets()) if name in found]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *ordered])


def table() -> list[Row]:
    """What the documentation shows."""
    if not TABLE.exists():
        return []
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [(name, change, noticed) for name, change, noticed in list(csv.reader(file))[1:]]


Row = tuple[str, str, str]
HEADER = ("function", "change", "test that fails")


def row(result: Result) -> Row:
    """Of the table."""
    return result.target.name, " ".join(result.change.split()), result.noticed or "SURVIVES"


if __name__ == "__main__":
    sys.exit(main())
