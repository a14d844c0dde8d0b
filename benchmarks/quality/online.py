"""What learning online is worth on ML-100K: against the weights of the warm-up's end, and against hourly retraining.

All are of one configuration on one stream, with live histories. `frozen` and `hourly` differ from ours by the age of
their weights alone; `retrained` learns in batches each hour, and more often. The bar: online above all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.quality import prequential
from benchmarks.quality.data_sets import DATA_SETS

__all__ = ["main"]

ONLINE = "headwater@64"
"""Published after every block of the learner: served like the others, so that only the weights' age differs."""


def main(name: str, arguments: Sequence[str]) -> int:
    """One command."""
    given = prequential.options_parser(name, __doc__).parse_args(arguments)
    given.peers = given.peers or []
    data_set = DATA_SETS["ml100k"]
    result = prequential.measure(
        data_set, given, publish_every=(64, 1000, 5000), frozen=True, hourly=True, retrained=True
    )
    means = prequential.means_of(result)
    bar = {one: means[one] for one in (ONLINE, "headwater", "hourly", "retrained", "frozen")}
    met = means[ONLINE] > max(means["hourly"], means["retrained"], means["frozen"])
    if given.json:
        print(json.dumps({"benchmark": name, "bar": {**bar, "met": met}, **result.as_json()}))
    else:
        prequential.show(name, result, {})
        print(f"  bar, online above hourly, retrained and frozen: {'met' if met else 'NOT met'}")
    return int(given.stop is None and not met)
