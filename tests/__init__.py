"""A package, so that tests can share programs and helpers."""
