"""`python -m benchmarks.quality [NAME] [options]`: the quality of one data set, of ML-100K when none is named.

A name's module is imported when it is asked for; `python -m benchmarks.quality NAME --help` lists its options.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

MODULES = {
    "ml100k": "ml100k",
    "globo_10d": "globo",
    "retailrocket_sub": "shops",
    "taobao_bcf": "shops",
    "online": "online",
    "ml1m": "ml1m",
    "diginetica17": "diginetica",
    "trivago100k": "trivago",
}
"""Each module has `main(name, arguments) -> int`: 0 when the bar is met or there is none for this slice, else 1."""


def main(arguments: Sequence[str]) -> int:
    """Dispatch on the name."""
    name, rest = (
        ("ml100k", arguments) if not arguments or arguments[0].startswith("-") else (arguments[0], arguments[1:])
    )
    if name not in MODULES:
        print(f"there is no quality benchmark {name!r}: choose of {', '.join(MODULES)}", file=sys.stderr)
        return 2
    found: int = importlib.import_module(f"benchmarks.quality.{MODULES[name]}").main(name, rest)
    return found


if __name__ == "__main__":
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when numpy is imported, which is in main
        os.environ.setdefault(threads, "1")
    sys.exit(main(sys.argv[1:]))
