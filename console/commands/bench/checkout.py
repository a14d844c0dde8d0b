"""The folder of benches: where it is looked for, and where results go."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from headwater.errors import HeadwaterError

__all__ = ["QUICK_RESULTS", "RESULTS", "ROOT", "named", "need_checkout"]

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks/results"
QUICK_RESULTS = ROOT / ".headwater/bench-quick"


def need_checkout() -> None:
    """Raises HeadwaterError where the benches are not there, as beside an installed wheel."""
    if importlib.util.find_spec("benchmarks") is None or importlib.util.find_spec("benchmarks.ruler") is None:
        raise HeadwaterError(
            "bench needs the checkout, for what it runs is in its folder benchmarks/ and in no wheel: "
            "clone the repository, `make demo` in it, then .venv/bin/headwater bench"
        )


def named(path: Path) -> str:
    """As people see it: from the root of the checkout, where it is in there."""
    whole = path.resolve()
    return whole.relative_to(ROOT).as_posix() if whole.is_relative_to(ROOT) else path.as_posix()
