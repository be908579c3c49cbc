"""``python -m benchmarks [steps|plain|tracing|sequences|nuts ...] [--device cuda]``.

Two threads, and glibc told to keep the memory that it frees. The loss steps run on any device.
"""

from __future__ import annotations

import argparse
import os
import sys

_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**31), "MALLOC_MMAP_THRESHOLD_": str(2**31)}


def main() -> None:
    if any(os.environ.get(name) != value for name, value in _MALLOC.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **_MALLOC})
    import torch

    from benchmarks import nuts, plain, sequences, steps, tracing

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "wanted",
        nargs="*",
        choices=["steps", "plain", "tracing", "sequences", "nuts"],
        default=["steps", "plain", "tracing"],
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="of the loss steps")
    given = parser.parse_args()
    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.get_num_interop_threads()} interop\n")
    if "steps" in given.wanted:
        steps.run(given.device)
        print()
    if "plain" in given.wanted:
        plain.run(given.device)
        print()
    if "tracing" in given.wanted:
        tracing.run()
    if "sequences" in given.wanted:  # by name only, as the next
        sequences.run(given.device)
    if "nuts" in given.wanted:  # by name only: it takes minutes
        torch.set_num_threads(1)  # a dozen numbers at a time
        nuts.run()


main()
