"""The folder of benches: where it is looked for, and where results go."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from headwater.errors import HeadwaterError

__all__ = ["QUICK_RESULTS", "RESULTS", "need_checkout"]

RESULTS = Path("benchmarks/results")
QUICK_RESULTS = Path(".headwater/bench-quick")


def need_checkout() -> None:
    """Raises HeadwaterError where the benches are not there, as beside an installed wheel."""
    if importlib.util.find_spec("benchmarks") is None or importlib.util.find_spec("benchmarks.ruler") is None:
        raise HeadwaterError(
            "bench needs the checkout, for what it runs is in its folder benchmarks/ and in no wheel: "
            "clone the repository, `make demo` in it, then .venv/bin/headwater bench"
        )
