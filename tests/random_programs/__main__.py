"""Many programs, on several processes: ``python -m tests.random_programs --count 20000 --seed 0 --jobs 2``.

Each program is that of one number, so a run goes on with ``--start``, and ``--only 123`` shows and checks one again.
The seeds of programs that fail are printed with the fewest statements that still fail.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.random_programs.long_run import EACH, SELDOM, numbered, run
from tests.random_programs.properties import PARTS


def main() -> int:
    """1 where a property of some program does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.random_programs", description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first program, to go on with a run")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", type=int, help="one number, whose program is printed as well")
    given = parser.parse_args()
    numbers = range(given.start, given.count) if given.only is None else range(given.only, given.only + 1)
    if given.only is not None:
        print(numbered(given.seed, given.only).source)
    began, counts, failed = time.monotonic(), Counter[str](), list[int]()
    for outcome in run(given.seed, numbers, given.jobs):
        counts[outcome.kind] += 1
        if outcome.kind not in ("holds", "invalid"):
            failed.append(outcome.number)
            print(f"--- program {outcome.number} of seed {given.seed}\n{outcome.words}\n{outcome.text}", flush=True)
        if counts.total() % 100 == 0 or counts.total() == len(numbers):
            took = time.monotonic() - began
            print(f"up to {outcome.number} of {given.count}, in {took:.0f} s: {dict(counts)}", flush=True)
    print(f"failed: {sorted(failed) or 'none'}")
    print(f"parts that were checked: {', '.join(PARTS)}; {SELDOM} of each {EACH}th")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
