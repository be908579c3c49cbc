"""Speed, both sides in one run: ``python -m benchmarks``."""
