"""What differs between the data sets, in one place: their bars, what is ranked, and every number that is not a default.

`model` overrides fields of ModelConfig and `peers` the numbers of a peer. All were chosen on events before the last
fifth, which the bars are measured on; `chosen_on` says on which, and what was not searched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["DATA_SETS", "DataSet"]


@dataclass(frozen=True)
class DataSet:
    """A stream and its bars: NDCG@10 of ours (`bar`), or its ratio to the best peer's (`times_best`)."""

    name: str
    exclude_seen: tuple[str, ...]
    chosen_on: str
    bar: float | None = None
    aim: float | None = None
    times_best: float | None = None
    aim_times_best: float | None = None
    model: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)


DATA_SETS = {
    one.name: one
    for one in (
        DataSet(
            "ml100k",
            exclude_seen=("*",),
            bar=0.122,
            aim=0.130,
            chosen_on="events 60,000-80,000",
            peers={
                "als": {"factors": 32, "alpha": 1.0, "regularization": 1.0, "reach": 10, "fade": 0.8},
                "bpr": {"factors": 128, "reach": 5},
                "isgd": {"learning_rate": 0.02},
                "raisgd": {"learning_rate": 0.15},
            },
        ),
        DataSet(
            "globo_10d",
            exclude_seen=(),
            times_best=1.10,
            aim_times_best=1.30,
            chosen_on="events 150,000-200,000; reach and prior of rules, and our expiry, on 1,230,000-1,280,000",
            model={"expire_idle_events": 200_000},
            peers={
                "recent": {"window_h": 0.25},
                "rules": {"reach": 1, "half_life_h": 0.5, "prior": 10.0, "window_h": 0.25},
                "rules-symmetric": {"half_life_h": 0.5, "fade": 0.5, "target_power": 0.0, "window_h": 0.25},
                "item-item": {"capacity": 10_000, "refit_every": 1000, "window_h": 0.25},
                "als": {"capacity": 20_000, "refit_every": 5000, "window_h": 0.25},
                "bpr": {"capacity": 20_000, "refit_every": 5000, "window_h": 0.25},
                "isgd": {"learning_rate": 0.15},
            },
        ),
        DataSet(
            "retailrocket_sub",
            exclude_seen=(),
            times_best=1.10,
            aim_times_best=1.30,
            chosen_on="events 58,428-77,904 (60-80%); item-item's own weight on taobao_bcf",
            peers={
                "rules": {"own": 3.0},
                "rules-symmetric": {"own": 3.0},
                "item-item": {"own": 10.0},
                "als": {"reach": 10, "fade": 0.8},
                "isgd": {"learning_rate": 0.15},
                "raisgd": {"learning_rate": 0.15, "negatives": 3},
            },
        ),
        DataSet(
            "taobao_bcf",
            exclude_seen=(),
            times_best=1.10,
            aim_times_best=1.30,
            chosen_on="events 97,500-130,000; isgd and raisgd as on retailrocket_sub",
            peers={
                "recent": {"window_h": 24},
                "rules": {"own": 3.0},
                "rules-symmetric": {"own": 3.0},
                "item-item": {"own": 10.0},
                "als": {"reach": 10, "fade": 0.8},
                "isgd": {"learning_rate": 0.15},
                "raisgd": {"learning_rate": 0.15, "negatives": 3},
            },
        ),
    )
}
