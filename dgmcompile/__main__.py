"""``python -m dgmcompile``."""

from dgmcompile.cli import main

main()
