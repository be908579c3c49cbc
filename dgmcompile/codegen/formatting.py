"""Emitted text, laid out by ruff."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

from dgmcompile.diagnostics import InternalError

LINE_LENGTH = 120


@lru_cache(maxsize=256)
def formatted(text: str) -> str:
    """``text`` as ``ruff format`` writes it, whatever configuration lies about."""
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--no-cache", "--line-length", str(LINE_LENGTH)]
    run = subprocess.run(
        [*command, "--target-version", "py311", "--stdin-filename", "emitted.py", "-"],
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    if run.returncode:
        raise InternalError(f"emitted text cannot be formatted: {run.stderr.decode(errors='replace')}", text)
    return run.stdout.decode()
