"""How figures are written in reports, and what rankers are called there.

After: `replay.report.verdict`, `replay.report.sections`, `replay.report.comparison`. What was not measured is a dash,
never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from viewing.written import DASH, MINUS, printable, score

__all__ = [
    "DASH",
    "called_from",
    "counted",
    "described",
    "flat",
    "inline",
    "label",
    "meant",
    "number",
    "percent",
    "printable",
    "score",
    "signed",
    "time_text",
    "whole",
]

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
    "without ranker": ("Without ranker", "candidates keep their fused scores"),
    "without replay": ("Without replay", "the encoder rehearses nothing"),
    "without content": ("Without content", "it knows no titles, categories or attributes"),
    "popularity": ("Popularity", "most events so far"),
    "recent": ("Own recent items", "the user's items again, newest first"),
    "rules": ("Sequential rules", "what followed the history's last items"),
    "rules-now": ("Sequential rules for news", "what follows the newest item just now"),
    "rules-own": ("Sequential rules for shops", "the user's own items first, then what followed"),
    "rules-symmetric": ("Sequential rules, both ways", "what went together with the history's last items"),
    "item-item": ("Item-item", "cosine of items by their users"),
    "item rate": ("Item's own rate", "the share of its showings that were reacted to, smoothed"),
    "ranking": ("Headwater's ranking", "where the list's items stand in its ranking of all items"),
    "ranking without ranker": ("Ranking without the ranker", "where they stand by the fused scores alone"),
    "ranking by lists": ("Ranking by what lists taught", "that in full, as by objectives = {shown = 1}"),
    "shown order": ("Order as shown", "whatever showed it: the first place is the likeliest"),
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
    kept = told.startswith("Headwater") or told == name or told[:2].isupper()
    return told if kept else told[0].lower() + told[1:]


def called_from(threshold: float) -> str:
    """A threshold: a chance, or of an order, whose scores are minus the place, how many of a list are called.

    >>> called_from(0.25), called_from(-3.0)
    ('0.2500', 'first 3')
    """
    return f"first {-threshold:.0f}" if threshold < 0 else score(threshold)


def described(name: str) -> str:
    """One line on what a ranker is; empty when it is not one of ours."""
    kind = name.partition(":")[0]
    if kind in _RANKERS:
        return _RANKERS[kind][1]
    if name.startswith("popularity-"):
        return f"most events of the last {name.partition('-')[2]}"
    return "published that often" if name.startswith("headwater@") else ""


_FIELDS = {"weight": "weight {}", "reward": "worth {}", "negative_for_days": "for {} days"}


def meant(signal: Mapping[str, Any]) -> str:
    """What a type of event means, in words, of a signal as the settings have it.

    >>> meant({"positive": ">= 4", "negative": "<= 2"}), meant({"means": "context", "undoes": ["like"]})
    ('positive >= 4, negative <= 2, else context', 'undoes like')
    >>> meant({"means": "positive", "weight": 3.0, "reward": "0.01 * value"})
    'positive, weight 3, worth 0.01 * value'
    """
    thresholds = [f"{side} {signal[side]}" for side in ("positive", "negative") if signal.get(side)]
    undone = signal.get("undoes")
    if thresholds:
        told = [*thresholds, "else context"]
    elif isinstance(undone, list | tuple) and undone:
        told = [f"undoes {', '.join(map(str, undone))}"]
    else:
        told = [str(signal.get("means", "positive"))]
    for field, words in _FIELDS.items():
        value = signal.get(field)
        if value is not None:
            told.append(words.format(f"{value:g}" if isinstance(value, int | float) else value))
    return ", ".join(told)


def signed(value: float | None) -> str:
    """A difference of two scores, with its sign.

    >>> signed(-0.0123), signed(0.00001)
    ('−0.0123', '0.0000')
    """
    if value is None:
        return DASH
    return "0.0000" if round(value, 4) == 0 else f"{value:+.4f}".replace("-", MINUS)


def whole(value: float | None) -> str:
    """A count, with thousands apart."""
    return DASH if value is None else f"{value:,.0f}".replace("-", MINUS)


def counted(counts: Mapping[str, int]) -> str:
    """What was refused, by reason; none when nothing was."""
    return "; ".join(f"{whole(counts[reason])} {reason}" for reason in sorted(counts)) or "none"


def number(value: float | None) -> str:
    """A measured quantity: three significant digits below 100, whole above."""
    if value is None:
        return DASH
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", MINUS)


def percent(share: float | None, *, sign: bool = False) -> str:
    """A share of 1 in percent: one decimal below 10%, none above.

    >>> percent(0.1212), percent(-0.034, sign=True), percent(0.5, sign=True)
    ('12%', '−3.4%', '+50%')
    """
    if share is None:
        return DASH
    digits = 0 if abs(share) >= 0.0995 or share == 0 else 1
    return f"{share * 100:{'+' if sign else ''}.{digits}f}%".replace("-", MINUS)


def time_text(epoch_ms: float | None, *, minutes: bool = False) -> str:
    """A day in UTC, or day and minute; empty when there is no such time."""
    if epoch_ms is None:
        return ""
    try:
        moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
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
