"""How often and how long ago a user was shown an item without a reaction, as the facts that fatigue is learned from.

Before: what a user was shown, from examples (learning) or from the feature store (serving). After: `experts.fatigue`
weighs the facts, and the click model learns these weights. The one preprocessing for learner and serving alike. Knows
rows, no weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Example, Shown

__all__ = ["FACTS", "Tired", "pad_tired", "times_shown", "tired_facts", "tired_of", "unanswered"]

TIMES = (1, 2, 3, 5, 8)
"""Shown at least so often: a weight each, so that any course can be learned."""

FADES_S = (600.0, 86_400.0)
"""Each of these facts is told as it is, and as it fades with the time since the last showing."""

FACTS = len(TIMES) * (1 + len(FADES_S))

NOTHING = [0.0] * FACTS


def unanswered(example: Example, window_s: float) -> Sequence[Shown]:
    """What a user was shown before an event, without the list that it answers: that was asked for before it was shown.

    It is the list that the event names, else the newest one of the last `window_s` of event time.
    """
    shown = example.shown
    if not shown:
        return shown
    answered = example.request_id
    if not any(one.list_id == answered for one in shown):
        newest = shown[-1]
        answered = newest.list_id if example.target.time_ms - newest.time_ms <= window_s * 1000 else None
    return [one for one in shown if one.list_id != answered]


class Tired(NamedTuple):
    """What a user was shown and did not react to: different rows (m), and the facts (m, FACTS) of each."""

    rows: list[int]
    facts: list[list[float]]


def times_shown(shown: Iterable[Shown], now_ms: int) -> dict[str, tuple[int, int]]:
    """Of each item how often it was shown, and how long ago it was last (ms).

    Parameters
        shown: of one user.
        now_ms: the instant that is asked about, epoch ms; what was shown later counts as shown at that instant.
    """
    found: dict[str, tuple[int, int]] = {}
    for item_id, time_ms, _, _ in shown:
        ago, before = max(now_ms - time_ms, 0), found.get(item_id)
        found[item_id] = (1, ago) if before is None else (before[0] + 1, min(before[1], ago))
    return found


def tired_facts(times: int, ago_ms: int) -> list[float]:
    """The facts of an item that was shown so often and so long ago; zeros for one that was never shown.

    >>> sum(tired_facts(0, 0)), tired_facts(2, 0)[:6]
    (0.0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    """
    if not times:
        return NOTHING
    fades = [1.0, *(math.exp(-ago_ms / (1000.0 * fade)) for fade in FADES_S)]
    return [fade if times >= least else 0.0 for least in TIMES for fade in fades]


def tired_of(shown: Sequence[Shown], now_ms: int, item_rows: Mapping[str, int]) -> Tired | None:
    """The facts of all items that a user was shown and that have a row; None without any."""
    if not shown:
        return None
    tired = Tired([], [])
    for item_id, (times, ago_ms) in times_shown(shown, now_ms).items():
        row = item_rows.get(item_id)
        if row is not None:
            tired.rows.append(row)
            tired.facts.append(tired_facts(times, ago_ms))
    return tired if tired.rows else None


def pad_tired(each: Sequence[Tired | None]) -> dict[str, NDArray[np.generic]]:
    """Runtime inputs of the served graph: tired_rows int64 (B, S) and tired_facts float32 (B, S, FACTS), right-padded
    with zeros; S is at least 1.
    """
    most = max((len(one.rows) for one in each if one is not None), default=0)
    rows = np.zeros((len(each), max(most, 1)), np.int64)
    facts = np.zeros((*rows.shape, FACTS), np.float32)
    for i, one in enumerate(each):
        if one is not None:
            rows[i, : len(one.rows)] = one.rows
            facts[i, : len(one.rows)] = one.facts
    return {"tired_rows": rows, "tired_facts": facts}
