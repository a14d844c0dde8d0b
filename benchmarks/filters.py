"""What a mask costs: each kind of filter over a whole catalogue, the first time and when it is kept.

    python -m benchmarks.filters [--items 100000] [--runs 50]

"first" is after an item changed, so that nothing is kept; "moved" the same filter at another instant, past a time of an
item; "kept" the filter that was asked before. Milliseconds of processor time, p50 and p99; "found" is how many items.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import time
from typing import Any

import numpy as np

from headwater.events import Item
from serving.catalogue import Catalogue
from serving.rules import Rows

NOW_MS = 1_764_000_000_000
DAY_MS = 86_400_000

ASKED: dict[str, dict[str, Any]] = {
    "value": {"brand": "b3"},
    "not": {"brand": {"not": ["b3", "b4"]}},
    "range": {"price": {"gte": 10, "lt": 300}},
    "any of 500": {"sku": {"any": [f"sku-{number}" for number in range(500)]}},
    "all of a list": {"categories": {"all": ["c3", "d1"]}},
    "none of a list": {"categories": {"none": ["c3", "d1"]}},
    "nested": {"maker.land": "nl"},
    "exists": {"discount": {"exists": True}},
    "text range, all different": {"sku": {"gte": "sku-5", "lt": "sku-6"}},
    "last 7 days": {"published_time": {"gte": "now-7d"}},
    "near, 25 km": {"place": {"near": {"lat": 52.5, "lon": 13.4, "km": 25}}},
    "or of three": {"or": [{"brand": "b3"}, {"price": {"lt": 5}}, {"published_time": {"gte": "now-1d"}}]},
    "all together": {
        "categories": {"any": ["c3", "c4"], "none": ["d2"]},
        "price": {"gte": 10, "lt": 300},
        "published_time": {"gte": "now-90d", "lte": "now"},
        "or": [{"discount": {"gt": 10}}, {"not": {"maker.land": "nl", "brand": "b3"}}],
        "place": {"near": {"lat": 52.5, "lon": 13.4, "km": 300}},
    },
}


def item(number: int) -> Item:
    """One of a made-up shop."""
    attributes: dict[str, Any] = {
        "price": number % 5000 / 10,
        "brand": f"b{number % 97}",
        "sku": f"sku-{number}",
        "maker": {"land": ("nl", "it", "de")[number % 3]},
        "place": {"lat": 47.0 + number % 8000 / 1000, "lon": 6.0 + number % 9001 / 1000},
    }
    if number % 5 == 0:
        attributes["discount"] = number % 50
    return Item(
        item_id=f"item-{number}",
        title=f"Title {number}",
        categories=(f"c{number % 20}", f"d{number % 3}"),
        published_time=NOW_MS - number * 90 * DAY_MS // 20_000,
        expires_time=NOW_MS + (number + 1) * 3_600_000 if number % 10 == 0 else None,
        attributes=attributes,
    )


def spent_ms(rows: Rows, filters: dict[str, Any] | None, now_ms: int) -> float:
    """Processor time of one mask; of what may be shown at all for None."""
    begun = time.thread_time()
    if filters is None:
        rows.blocked(now_ms)
    else:
        rows.matching_all(filters, now_ms)
    return (time.thread_time() - begun) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=50)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    made = [item(number) for number in range(given.items)]
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.thread_time()
    catalogue = Catalogue(made)
    filled_s = time.thread_time() - begun
    after_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = Rows(catalogue, catalogue.ids.copy())
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"commit {commit.stdout.strip()}; {given.items:,} items, put in {filled_s:.1f} s, "
        f"{(after_kb - before_kb) / 1024:.0f} MB; ms of processor time, p50 (p99)"
    )
    for name, filters in [("what may be shown", None), *ASKED.items()]:
        took: dict[str, list[float]] = {"first": [], "moved": [], "kept": []}
        for run in range(given.runs):
            now_ms = NOW_MS + run * 2 * DAY_MS
            catalogue.put(made[run])
            took["first"].append(spent_ms(rows, filters, now_ms))
            took["moved"].append(spent_ms(rows, filters, now_ms + DAY_MS))
            took["kept"].append(spent_ms(rows, filters, now_ms + DAY_MS))
        found = ~rows.blocked(NOW_MS) if filters is None else rows.matching_all(filters, NOW_MS)
        shown = (f"{one} {np.median(ms):7.3f} ({np.percentile(ms, 99):7.3f})" for one, ms in took.items())
        print(f"{name:26} {np.count_nonzero(found):7,} found   {'   '.join(shown)}")


if __name__ == "__main__":
    main()
