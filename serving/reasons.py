"""Why an item is in the list, in words: because of which earlier item, or because it is popular.

Before: the rows that an answer holds. After: the answer's `reasons`. Knows nothing of how the association memories are
stored: an entry's part in a score is what their output loses when the entry is left out of the history. Only requests
that say `explain` pay for it: one more graph run, of a handful of histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from headwater.examples import Entry

if TYPE_CHECKING:
    from serving.scorer import Half

__all__ = ["explain"]

NEWEST = 8
"""Newest items of a history that are tried as reasons; the memories fade by a fifth at each step back."""

VERBS = {
    "view": "viewed",
    "impression": "saw",
    "click": "clicked",
    "cart": "put in your cart",
    "purchase": "bought",
    "like": "liked",
    "share": "shared",
    "comment": "commented on",
    "rating": "rated",
    "watch": "watched",
    "listen": "listened to",
    "read": "read",
}


def explain(
    half: Half, history: Sequence[Entry], best: npt.NDArray[np.int64], now_ms: int, *, personal: bool
) -> list[tuple[str, ...]]:
    """Reasons for each of the rows `best`, most important first; every row gets at least one."""
    if not len(best):
        return []
    if not personal:
        return [("popular now",)] * len(best)
    title = half.rows.catalogue.title
    newest: dict[str, Entry] = {}
    for entry in reversed(history):
        if len(newest) < NEWEST and entry.item_id in half.bundle.item_rows:
            newest.setdefault(entry.item_id, entry)
    without = [[entry for entry in history if entry.item_id != item_id] for item_id in newest]
    _, (memory, *others) = half.run([history, *without], now_ms, ["memory", *half.bundle.reasons])
    memory = memory[:, best]  # (1 + newest, k)
    parts = memory[0] - memory[1:]  # (newest, k)
    typical = [float(np.median(output[0])) for output in others]
    entries = list(newest.values())
    reasons = []
    for place, row in enumerate(best):
        found: list[str] = []
        for i in np.argsort(-parts[:, place], kind="stable")[:2]:
            if parts[i, place] > 1e-6 and (not found or parts[i, place] > parts[:, place].max() / 2):
                found.append(f"because you {VERBS.get(entries[i].type, 'chose')} {title(entries[i].item_id)}")
        gains = {
            reason: float(output[0, row]) - usual
            for reason, output, usual in zip(half.bundle.reasons.values(), others, typical, strict=True)
        }
        best_gain = max(gains, key=lambda name: gains[name])
        if not found or gains[best_gain] > float(parts[:, place].max()):
            found.append(best_gain)
        reasons.append(tuple(found))
    return reasons
