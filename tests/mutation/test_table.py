"""The documentation's table of broken functions is complete, and every one was noticed."""

from tests.mutation.__main__ import ROOT, Target, mutants, table, targets


def test_every_function_was_broken_and_noticed():
    rows = {name: (change, noticed) for name, change, noticed in table()}
    assert list(rows) == list(dict.fromkeys(target.name for target in targets()))
    assert all(noticed.startswith("tests/") for _, noticed in rows.values())


def test_every_change_of_the_table_is_one_that_is_made():
    functions = {target.name: target for target in targets()}
    stale = [name for name, change, _ in table() if not _is_made(change, functions[name])]
    assert stale == []


def _is_made(change: str, target: Target) -> bool:
    return any(" ".join(mutant.change.split()) == change for mutant in mutants(ROOT / target.file, target.name))
