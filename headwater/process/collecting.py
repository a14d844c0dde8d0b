"""How often Python looks for circles among all that a long-lived process holds.

Before: a worker has loaded what it keeps. After: a full collection comes once in hours, not once in seconds: one walks
every object that is not frozen, and nothing else runs meanwhile (100 ms in a scorer whose 10,000 items came after its
start). What is let go without being a part of a circle, as nearly all is, never waits for one.
"""

from __future__ import annotations

import gc

__all__ = ["RARELY", "collect_rarely"]

RARELY = (50_000, 20, 1000)
"""Python's thresholds of collection: objects, young collections, middle ones."""


def collect_rarely() -> None:
    """From here on; what there is by now is never walked again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)
