"""How figures are written in reports, and what rankers are called there.

Before: nothing. After: `replay.report.verdict`, `replay.report`, `replay.report.compare`. A value that is missing, null
or not finite is a dash, never a crash and never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "DASH",
    "described",
    "flat",
    "inline",
    "interval",
    "label",
    "number",
    "percent",
    "plain",
    "score",
    "signed",
    "time_text",
    "whole",
]

DASH = "–"
MINUS = "−"

_RANKERS = {
    "headwater": ("Headwater", "the whole model, learns from every event"),
    "frozen": ("Frozen", "published once, at the end of the warm-up"),
    "hourly": ("Hourly", "published once per hour of the events' time"),
    "retrained": ("Retrained", "a batch job: retrained once per hour of the events' time"),
    "memory": ("Memory alone", "its fast association memories"),
    "slow": ("Encoder alone", "its sequence encoder"),
    "without memory": ("Without memory", "no fast association memories"),
    "without encoder": ("Without encoder", "no sequence encoder"),
    "without gate": ("Without gate", "its parts weighed as they start, not as learned"),
    "without returns": ("Without returns", "nothing learned of what users come back to"),
    "without replay": ("Without replay", "the encoder rehearses nothing"),
    "without content": ("Without content", "it knows no titles, categories or attributes"),
    "popularity": ("Popularity", "most events so far"),
    "recent": ("Own recent items", "the user's items again, newest first"),
    "rules": ("Sequential rules", "what followed the history's last items"),
    "rules-now": ("Sequential rules for news", "what follows the newest item just now"),
    "rules-own": ("Sequential rules for shops", "the user's own items first, then what followed"),
    "rules-symmetric": ("Sequential rules, both ways", "what went together with the history's last items"),
    "item-item": ("Item-item", "cosine of items by their users"),
    "als": ("ALS", "factors by alternating least squares"),
    "bpr": ("BPR", "factors by pairwise ranking"),
    "isgd": ("ISGD", "incremental factors"),
    "raisgd": ("RAISGD", "incremental factors, recency-adjusted"),
}


def label(name: str) -> str:
    """What a ranker is called in a report; an unknown one keeps its name.

    >>> label("popularity-1d"), label("rules:reach=3:half_life_h=2.5"), label("headwater@1000")
    ('Popularity 1d', 'Sequential rules (reach 3, half_life_h 2.5)', 'Every 1,000 events')
    """
    kind, _, numbers = name.partition(":")
    if numbers and kind in _RANKERS:
        return f"{_RANKERS[kind][0]} ({numbers.replace(':', ', ').replace('=', ' ')})"
    if name in _RANKERS:
        return _RANKERS[name][0]
    family, _, window = name.partition("-")
    if family == "popularity" and window:
        return f"Popularity {window}"
    family, _, age = name.partition("@")
    if family == "headwater" and age.isdigit():
        return f"Every {int(age):,} events"
    return name


def inline(name: str) -> str:
    """A ranker's name inside a sentence.

    >>> inline("item-item"), inline("als"), inline("headwater"), inline("Other")
    ('item-item', 'ALS', 'Headwater', 'Other')
    """
    told = label(name)
    return told if name == "headwater" or told == name or told[:2].isupper() else told[0].lower() + told[1:]


def described(name: str) -> str:
    """One line on what a ranker is; empty when it is not one of ours."""
    kind = name.partition(":")[0]
    if kind in _RANKERS:
        return _RANKERS[kind][1]
    if name.startswith("popularity-"):
        return f"most events of the last {name.partition('-')[2]}"
    return "published that often" if name.startswith("headwater@") else ""


def plain(value: Any) -> float | None:
    """A finite number, or None for anything else.

    >>> plain(3), plain(None), plain(float("nan")), plain(True), plain("7")
    (3.0, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(value: Any) -> tuple[float, float, float] | None:
    """[low, mean, high] of a result, or None unless all three are finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    low, mean, high = (plain(part) for part in value)
    return None if low is None or mean is None or high is None else (low, mean, high)


def score(value: Any) -> str:
    """A measure between 0 and 1, four digits."""
    found = plain(value)
    return DASH if found is None else f"{found:.4f}".replace("-", MINUS)


def signed(value: Any) -> str:
    """A difference of two scores, with its sign.

    >>> signed(-0.0123), signed(0.00001)
    ('−0.0123', '0.0000')
    """
    found = plain(value)
    if found is None:
        return DASH
    return "0.0000" if round(found, 4) == 0 else f"{found:+.4f}".replace("-", MINUS)


def whole(value: Any) -> str:
    """A count, with thousands apart."""
    found = plain(value)
    return DASH if found is None else f"{found:,.0f}".replace("-", MINUS)


def number(value: Any) -> str:
    """A measured quantity: three significant digits below 100, whole above."""
    found = plain(value)
    if found is None:
        return DASH
    return (f"{found:,.0f}" if abs(found) >= 100 else f"{found:.3g}").replace("-", MINUS)


def percent(share: Any, *, sign: bool = False) -> str:
    """A share of 1 in percent: one decimal below 10%, none above.

    >>> percent(0.1212), percent(-0.034, sign=True), percent(0.5, sign=True)
    ('12%', '−3.4%', '+50%')
    """
    found = plain(share)
    if found is None:
        return DASH
    digits = 0 if abs(found) >= 0.0995 or found == 0 else 1
    return f"{found * 100:{'+' if sign else ''}.{digits}f}%".replace("-", MINUS)


def time_text(epoch_ms: Any, *, minutes: bool = False) -> str:
    """A day in UTC, or day and minute; empty when there is no such time."""
    found = plain(epoch_ms)
    if found is None:
        return ""
    try:
        moment = datetime.fromtimestamp(found / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return moment.strftime("%Y-%m-%d %H:%M" if minutes else "%Y-%m-%d")


def flat(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """(dotted name, value as text) of every leaf, in order of names.

    >>> flat({"seeds": [0, 1], "config": {"width": 64, "dropout": None}})
    [('config.dropout', '–'), ('config.width', '64'), ('seeds', '0, 1')]
    """
    rows: list[tuple[str, str]] = []
    for name in sorted(tree, key=str):
        leaf = tree[name]
        if isinstance(leaf, list | tuple) and any(isinstance(each, Mapping) for each in leaf):
            leaf = {str(place): each for place, each in enumerate(leaf)}
        if isinstance(leaf, Mapping) and leaf:
            rows += flat(leaf, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", _leaf(leaf)))
    return rows


def _leaf(leaf: Any) -> str:
    if leaf is None or leaf == {}:
        return "–"
    if isinstance(leaf, bool):
        return "yes" if leaf else "no"
    if isinstance(leaf, list | tuple):
        return ", ".join(_leaf(each) for each in leaf) or "none"
    return str(leaf)
