"""What a campaign found, for people and machines: each kind of fault, how often, how soon all was well, what broke."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, NamedTuple

from chaos.campaign import CampaignResult, Done
from chaos.faults import FAULTS

__all__ = ["FaultRow", "as_json", "rows"]


class FaultRow(NamedTuple):
    """One kind of fault. `took` of `times` had an effect; median and longest time until folded and answered again, and
    until learned, too; `open` never recovered.
    """

    fault: str
    about: str
    times: int
    took: int
    served_median_s: float | None
    served_longest_s: float | None
    median_s: float | None
    longest_s: float | None
    open: int


def rows(faults: list[Done]) -> list[FaultRow]:
    """A row for each kind that was tried, by name."""
    found = []
    for name in sorted({one.planned.fault for one in faults}):
        ours = [one for one in faults if one.planned.fault == name]
        took = [one for one in ours if one.took]
        times = [one.recovery_s for one in took if one.recovery_s is not None]
        served = [one.served_s for one in took if one.served_s is not None]
        both = (*_median_and_longest(served), *_median_and_longest(times))
        found.append(FaultRow(name, FAULTS[name].about, len(ours), len(took), *both, len(took) - len(times)))
    return found


def _median_and_longest(times: list[float]) -> tuple[float | None, float | None]:
    return (statistics.median(times), max(times)) if times else (None, None)


def as_json(result: CampaignResult) -> dict[str, Any]:
    """All of it, as plain JSON values."""
    took = [one for one in result.faults if one.took]
    times = [one.recovery_s for one in took if one.recovery_s is not None]
    served = [one.served_s for one in took if one.served_s is not None]
    return {
        "ok": result.ok,
        "seed": result.asked.seed,
        "kafka": result.asked.kafka,
        "redis": result.asked.redis,
        "seconds": round(result.seconds, 1),
        "faults": len(took),
        "kinds": len({one.planned.fault for one in took}),
        "recovery_s": {"p50": statistics.median(times), "max": max(times)} if times else {},
        "served_again_s": {"p50": statistics.median(served), "max": max(served)} if served else {},
        "by_kind": [row._asdict() for row in rows(result.faults)],
        "not_here": result.not_here,
        "violations": {name: found for name, found in result.violations.items() if found},
        "counts": result.counts,
        "figures": result.figures,
        "largest_mb_by_minute": result.largest_mb,
        "left_by_themselves": result.endings,
        "schedule": [one.planned._asdict() | dataclasses.asdict(one) | {"planned": None} for one in result.faults],
    }
