"""A written-out result of a backtest, and a strict reader of the pages that are made of one."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

__all__ = ["SCORES", "Strict", "result"]

SCORES = {
    "headwater": 0.12,
    "headwater@1000": 0.119,
    "frozen": 0.09,
    "item-item": 0.1,
    "popularity": 0.03,
    "popularity-1d": 0.02,
}


def result(**scores: float | None) -> dict[str, Any]:
    """A result with every part, as JSON has it; `scores` are NDCG@10 by ranker (- as _), None takes the ranker out."""
    given = {name.replace("_", "-"): each for name, each in scores.items()}
    found = {name: each for name, each in (SCORES | given).items() if each is not None}
    ours = found.get("headwater", 0.0)
    part = {"queries": 900, "ndcg@10": dict(found)}
    return {
        "format": 1,
        "source": {"name": "log.parquet", "events": 3000, "rows": 3010, "bad": {"no_user": 10}, "time_unit": "seconds"},
        "settings": {"seeds": [0, 1], "config": {"width": 64}},
        "versions": {"headwater": "1.2.3", "machine": "two cores"},
        "events": 3000,
        "warm_up": 1000,
        "queries": 1800,
        "excluded": {"no_history": 60, "new_item": 140, "seen": 0},
        "excluded_share": 0.1,
        "seconds": 12.5,
        "events_per_s": 240.0,
        "learner_events_per_s": 1500.0,
        "peak_rss_mb": 512.0,
        "results": {
            name: {"ndcg@10": each, "hr@10": 2 * each, "mrr@10": each / 2, "coverage@10": 0.4, "novelty@10": 8.125}
            for name, each in found.items()
        },
        "by_seed": {"headwater": {"ndcg@10": [ours - 0.001, ours + 0.001]}, "popularity": {"ndcg@10": [0.03]}},
        "differences": {
            name: {"ndcg@10": [ours - each - 0.004, ours - each, ours - each + 0.004]}
            for name, each in found.items()
            if name != "headwater"
        },
        "curve": [
            {
                "events": end,
                "time": 1_500_000_000_000 + end * 1000,
                "queries": 900,
                "ndcg@10": dict(found),
                "band": {name: [each - 0.01, each + 0.01] for name, each in found.items()},
            }
            for end in (2000, 3000)
        ],
        "by_type": {"view": dict(part), "buy": dict(part)},
        "groups": {name: dict(part) for name in ("new_users", "returning_users", "new_items", "warm_items")},
        "weight_age": [
            {"age_events": 0, "name": "headwater", "ndcg@10": ours, "queries": 1800},
            {"age_events": 1000, "name": "headwater@1000", "ndcg@10": 0.119, "queries": 1800},
            {"age_events": None, "name": "frozen", "ndcg@10": 0.09, "queries": 1800},
        ],
        "digest": "0123456789abcdef",
    }


class Strict(HTMLParser):
    """Every element that opens closes in order; ids are unique; collects text and attributes."""

    VOID = frozenset({"meta", "br", "col"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open
        assert len(self.ids) == len(set(self.ids))
        assert set(" ".join(self.labels).split()) <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        given = dict(attrs)
        assert len(given) == len(attrs), f"{tag} has an attribute twice"
        self.ids += [given["id"] or ""] if "id" in given else []
        self.labels += [given["aria-labelledby"] or ""] if "aria-labelledby" in given else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]
        assert not [name for name in given if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += f"{data} "
