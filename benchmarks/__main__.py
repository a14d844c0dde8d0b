"""`python -m benchmarks`: every benchmark in turn, each as its own process with its defaults."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("quality", "scorer", "latency")


def main() -> int:
    """Run them; the number that failed."""
    failed = 0
    for name in BENCHMARKS:
        print(f"== benchmarks.{name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
