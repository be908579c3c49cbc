"""``python -m benchmarks [steps|tracing|nuts]``: two threads, and glibc told to keep the memory that it frees."""

from __future__ import annotations

import os
import sys

_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**31), "MALLOC_MMAP_THRESHOLD_": str(2**31)}


def main() -> None:
    if any(os.environ.get(name) != value for name, value in _MALLOC.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **_MALLOC})
    import torch

    from benchmarks import nuts, steps, tracing

    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.get_num_interop_threads()} interop\n")
    wanted = sys.argv[1:] or ["steps", "tracing"]
    if "steps" in wanted:
        steps.run()
        print()
    if "tracing" in wanted:
        tracing.run()
    if "nuts" in wanted:  # by name only: it takes minutes
        torch.set_num_threads(1)  # a dozen numbers at a time
        nuts.run()


main()
