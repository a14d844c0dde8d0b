"""What a demo comes to: one object for scripts, a page for people, and what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Summary"]


@dataclass
class Summary:
    """The demo's result. Milliseconds are as measured from outside the workers, except event_to_feature (streams).

    Events produced and applied are those of apps; `exposures` are the engine's own, one for each list that went out.
    """

    dataset: str = ""
    events_produced: int = 0
    events_of_people: int = 0
    """More, of whoever clicked at the page meanwhile."""
    events_applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    exposures: int = 0
    requests_sent: int = 0
    requests_answered: int = 0
    audit: str = "not done"
    ndcg_at_10: dict[str, float | None] = field(default_factory=lambda: {"headwater": None, "popularity": None})
    queries: int = 0
    click_to_changed_ms: list[float | None] = field(default_factory=list)
    dismissal_to_changed_ms: float | None = None
    takedown_to_changed_ms: float | None = None
    event_to_feature_ms: dict[str, float | None] = field(default_factory=lambda: {"p50": None, "p99": None})
    request_to_reply_ms: dict[str, float | None] = field(default_factory=lambda: {"p50": None, "p99": None})
    events_per_second: float = 0.0
    model_versions_published: int = 0
    restarts: list[str] = field(default_factory=list)
    broker: str = ""
    store: str = ""
    seconds: float = 0.0
    cut_short: bool = False

    @property
    def ratio(self) -> float | None:
        """NDCG@10 over popularity's, or None when one of them is not known or zero."""
        ours, theirs = self.ndcg_at_10["headwater"], self.ndcg_at_10["popularity"]
        return ours / theirs if ours and theirs else None

    def failures(self) -> list[str]:
        """What did not come out as promised; empty when the demo is a success."""
        found = []
        if self.audit != "ok":
            found.append(f"audit: {self.audit}")
        if self.events_applied + self.duplicates + self.dead_letters != self.events_produced + self.events_of_people:
            parts = (
                f"{self.events_applied:,} applied, {self.duplicates:,} duplicates, {self.dead_letters:,} dead letters"
            )
            found.append(f"{self.events_produced:,} events produced, but {parts}")
        if self.dead_letters:
            found.append(f"{self.dead_letters:,} dead letters")
        if self.requests_answered != self.requests_sent:
            found.append(
                f"{self.requests_sent - self.requests_answered:,} of {self.requests_sent:,} requests unanswered"
            )
        unchanged = sum(ms is None for ms in self.click_to_changed_ms)
        if unchanged or not self.click_to_changed_ms:
            found.append(f"{unchanged or 'all'} clicks did not change the newcomer's list")
        if self.dismissal_to_changed_ms is None:
            found.append("a dismissal did not change the newcomer's list")
        if self.takedown_to_changed_ms is None:
            found.append("what was taken down stayed in the newcomer's list")
        if self.restarts:
            found.append(f"ended by itself and was started again: {', '.join(self.restarts)}")
        return found

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "dataset": self.dataset,
            "events_produced": self.events_produced,
            "events_of_people": self.events_of_people,
            "events_applied": self.events_applied,
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters,
            "exposures": self.exposures,
            "requests_sent": self.requests_sent,
            "requests_answered": self.requests_answered,
            "audit": self.audit,
            "ndcg_at_10": {name: _rounded(value, 5) for name, value in self.ndcg_at_10.items()},
            "queries": self.queries,
            "click_to_changed_ms": [_rounded(ms, 1) for ms in self.click_to_changed_ms],
            "dismissal_to_changed_ms": _rounded(self.dismissal_to_changed_ms, 1),
            "takedown_to_changed_ms": _rounded(self.takedown_to_changed_ms, 1),
            "event_to_feature_ms": {name: _rounded(ms, 2) for name, ms in self.event_to_feature_ms.items()},
            "request_to_reply_ms": {name: _rounded(ms, 2) for name, ms in self.request_to_reply_ms.items()},
            "events_per_second": _rounded(self.events_per_second, 1),
            "model_versions_published": self.model_versions_published,
            "restarts": self.restarts,
            "cut_short": self.cut_short,
            "broker": self.broker,
            "store": self.store,
            "seconds": _rounded(self.seconds, 1),
            "failures": self.failures(),
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
