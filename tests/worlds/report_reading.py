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
        "meanings": {
            "view": {"events": {"positive": 2000}, "signal": {"means": "positive"}},
            "rating": {
                "events": {"positive": 500, "negative": 100, "context": 50},
                "signal": {"positive": ">= 4", "negative": "<= 2"},
            },
            "impression": {"events": {"exposure": 300}, "items": 1500, "signal": {"means": "exposure"}},
            "poke": {"events": {"positive": 50}, "signal": {"means": "positive", "weight": 3.0}, "known": False},
        },
        "negatives": {
            "events": 80,
            "in_top_10": 0.125,
            "by_type": {"rating": 80},
            "by_ranker": {
                "headwater": {"in_top_10": 0.125, "auc": 0.71},
                "item-item": {"in_top_10": 0.25, "auc": 0.55, "lead": [-0.2, -0.125, -0.05]},
            },
        },
        "folds": [
            {
                "begin": begin,
                "end": begin + 1000,
                "time": 1_500_000_000_000 + begin * 1000,
                "queries": 900,
                "results": {
                    name: {"ndcg@10": each + begin / 1e6, "hr@10": 2 * each, "mrr@10": each / 2}
                    for name, each in found.items()
                },
            }
            for begin in (1000, 2000)
        ],
        "fold_spread": {
            name: {"ndcg@10": {"mean": each, "deviation": 0.0007, "least": each - 0.0005, "most": each + 0.0005}}
            for name, each in found.items()
        },
        "classification": _classification(),
        "digest": "0123456789abcdef",
    }


def _classification() -> dict[str, Any]:
    """Items that were shown, as Headwater and two others saw them."""

    def scorer(area: float) -> dict[str, Any]:
        return {
            "auc": {"value": area, "low": area - 0.01, "high": area + 0.01},
            "grouped": {
                "users": 60,
                "weighted": {"value": area - 0.05, "low": area - 0.07, "high": area - 0.03},
                "unweighted": {"value": area - 0.06},
                "histogram": [0, 0, 1, 4, 10, 15, 16, 8, 4, 2],
            },
            "at_threshold": {
                "threshold": 0.2, "true_positive": 40, "false_positive": 60, "false_negative": 60,
                "true_negative": 1340, "precision": 0.4, "recall": 0.4, "f1": 0.4, "accuracy": 0.92,
            },
            "precision_recall": [[0.1, 0.9], [0.4, 0.4], [1.0, 0.07]],
            "roc": [[0.0, 0.0], [0.2, area - 0.1], [1.0, 1.0]],
            "mrr": {"value": area - 0.1, "low": area - 0.2, "high": area},
            "ndcg@10": {"value": area},
        }  # fmt: skip

    chances = {
        "log_loss": {"value": 0.31},
        "calibration": [
            {"items": 750, "chance": 0.02, "reacted": 0.03},
            {"items": 750, "chance": 0.4, "reacted": 0.35},
        ],
        "calibration_error": 0.03,
    }
    return {
        "items": 1500,
        "lists": 300,
        "users": 80,
        "reacted": 100,
        "ranked_lists": 90,
        "chosen_on": "warm-up",
        "chosen_on_items": 700,
        "scorers": {
            "headwater": scorer(0.78) | chances,
            "item rate": scorer(0.67) | chances | {"auc_lead": [0.08, 0.11, 0.14]},
            "shown order": scorer(0.55) | {"auc_lead": [0.2, 0.23, 0.26]},
        },
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
