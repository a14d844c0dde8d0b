"""The result of a backtest: figures, how they came about, and by what. It alone reads the machine and the versions.

Before: the runs of `replay.backtest`. After: JSON, `replay.report`, `replay.report.compare`.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import SourceError
from replay.backtest import figures
from replay.sources import SourceReport

if TYPE_CHECKING:
    from replay.backtest.run import Options, Run
    from streams.features.recording import Recording

__all__ = ["FORMAT", "result_of"]

FORMAT = 1

PACKAGES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "implicit": ("implicit",),
    "numpy": ("numpy",),
}
"""What computes, and under which names it is installed."""

WINDOWS, SMALLEST_WINDOW = 20, 500


def result_of(
    source: SourceReport,
    recording: Recording,
    options: Options,
    runs: list[Run],
    warm_up: int,
    items: int,
    seconds: float,
) -> dict[str, Any]:
    """The result. Raises SourceError when no event was a query. All but `by_seed` is of the first seed.

    `items` of a catalogue were known before the first event.
    """
    first, events = runs[0], len(recording)
    ledger, excluded = first.ledger, dict(first.queries.excluded)
    if not ledger.queries:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in excluded.items())
        raise SourceError(
            f"nothing to ask: none of the {events - warm_up:,} events after the warm-up has a user and an item met "
            f"before and allowed by the rule ({reasons}). Learn from more (--warm-up), or show seen items again "
            "(--exclude-seen none)"
        )
    window = options.window or max(-(-(events - warm_up) // WINDOWS), SMALLEST_WINDOW)
    each = [figures.results(run.ledger) for run in runs]
    learn_s = sum(run.learn_s for run in runs)
    return {
        "format": FORMAT,
        "source": {
            "name": Path(source.name).name,  # where a file lay is nobody's business, nor what makes it another
            "digest": recording.digest(),
            "events": source.events,
            "rows": source.rows,
            "duplicates": recording.duplicates,
            "left_out": dict(source.left_out),
            "bad": dict(source.bad),
            "first_bad": list(source.first_bad),
            "time_unit": source.time_unit or "milliseconds",
        },
        "settings": {
            "warm_up": options.warm_up,
            "exclude_seen": list(options.exclude_seen),
            "rule": first.rule.described(),
            "peers": list(options.peers),
            "publish_every": list(options.publish_every),
            "ablation": options.ablation,
            "seeds": list(options.seeds),
            "limit": options.limit,
            "window": window,
            "catalogue": items,
            "device": first.learner.device,
            "overrides": options.overrides,
            "config": first.learner.config.model_dump(mode="json"),
        },
        "versions": _versions(),
        "events": events,
        "warm_up": warm_up,
        "queries": ledger.queries,
        "users": len(set(ledger.user)),
        "excluded": excluded,
        "excluded_share": round(sum(excluded.values()) / (events - warm_up), 6),
        "seconds": round(seconds, 3),
        "events_per_s": round(events * len(runs) / seconds, 1),
        "learner_events_per_s": round(events * len(runs) / learn_s, 1),
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "results": each[0],
        "by_seed": {name: {"ndcg@10": [found[name]["ndcg@10"] for found in each if name in found]} for name in each[0]},
        "differences": figures.differences(ledger),
        "curve": figures.curve(ledger, warm_up, events, window),
        "by_type": figures.by_type(ledger),
        "groups": figures.groups(ledger),
        "weight_age": figures.weight_ages(ledger),
        "digest": first.digest,
    }


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB here


def _versions() -> dict[str, str]:
    found = {"headwater": _installed(("headwater",)), "python": platform.python_version()}
    commit = _commit()
    if commit:
        found["commit"] = commit
    found |= {name: _installed(names) for name, names in PACKAGES.items()}
    found["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return found


def _installed(names: Sequence[str]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def _commit() -> str | None:
    """The commit that runs, where this is a working copy; with a + when it was changed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
