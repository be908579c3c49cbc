"""``python -m tests.reparam``: check every family, ask `AutoReparam` about it, and write docs/families.json.

It takes some minutes; the pages of documentation read the file. ``python -m tests.reparam NAME ...`` measures these
families again and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import json
import warnings

from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS
from tests.reparam.auto_reparam import auto_reparam
from tests.reparam.measured import FILE, measured, stored


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.reparam", description="measure the families")
    parser.add_argument("family", nargs="*", help="by default all of them")
    wanted = parser.parse_args().family
    known = sorted([*NOISE_TRANSFORMS.names(), *COMPOSITIONS.names()])
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no family {', '.join(unknown)}")
    rows = {name: row for name, row in stored().items() if name in known} if FILE.exists() and wanted else {}
    for name in wanted or known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows[name] = {"checks": measured(name), "auto_reparam": auto_reparam(name)}
        print(name, rows[name], flush=True)
    FILE.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
