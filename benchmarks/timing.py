"""Medians of sides that take turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping


def medians(sides: Mapping[str, Callable[[], object]], *, seconds: float = 6.0, at_least: int = 9) -> dict[str, float]:
    """Seconds per call of each side; every round calls each side once, the first two rounds do not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    started, rounds = time.perf_counter(), 0
    gc.disable()
    try:
        while rounds < at_least + 2 or time.perf_counter() - started < seconds:
            for name, side in sides.items():
                before = time.perf_counter()
                side()
                times[name].append(time.perf_counter() - before)
            rounds += 1
            gc.collect(0)
    finally:
        gc.enable()
    return {name: statistics.median(found[2:]) for name, found in times.items()}


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:9.2f} ms"
