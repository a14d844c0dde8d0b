"""The figures of a moment: what the three workers' /metrics say, put together.

Knows nothing of how they are shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from viewing.worker_metrics import Scrape, quantile

__all__ = ["Figures", "MeasuredWorker", "read_figures"]

TO_FEATURE = "headwater_event_to_feature_seconds"


@dataclass(frozen=True)
class Figures:
    """One scrape of everything. Absent figures are None: no worker has said them yet.

    Fields
        applied: events folded, the engine's own exposures too; the trainer was sent `examples` of them.
        exposures: lists that went out as events, be they folded yet or not.
        held: somebody went back to a version, which answers until they end that.
    """

    at_s: float = field(default_factory=time.monotonic)
    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    examples: int = 0
    exposures: int = 0
    items: int = 0
    to_feature: Mapping[float, float] = field(default_factory=dict)
    learned: int = 0
    ndcg: float | None = None
    ndcg_popularity: float | None = None
    queries: int = 0
    published: int = 0
    model_version: int = 0
    held: bool = False
    weight_age_s: float | None = None

    @property
    def settled(self) -> int:
        """Events of apps that nothing more will happen to: learned, or known to be duplicates, or refused."""
        unlearned = max(0, self.examples - self.learned)
        return self.applied - self.exposures + self.duplicates + self.dead_letters - unlearned

    def to_feature_ms(self, q: float, since: Figures | None = None) -> float | None:
        """Quantile of the milliseconds from event to feature, of all events or of those since an earlier scrape."""
        found = quantile(q, dict(self.to_feature), dict(since.to_feature) if since else None)
        return None if found is None else found * 1000


class MeasuredWorker(Protocol):
    """A worker that can be asked."""

    def metrics(self) -> Scrape:
        """What its /metrics says; empty when it does not answer."""
        ...


def read_figures(workers: Mapping[str, MeasuredWorker]) -> Figures:
    """Ask every worker once; one that does not answer leaves its figures at their defaults."""
    streams, trainer, serving = (
        workers[name].metrics() if name in workers else Scrape() for name in ("streams", "trainer", "serving")
    )
    letters = sum(
        metrics.total(name)
        for metrics in (streams, trainer, serving)
        for name in ("headwater_dead_letters_total", "headwater_serving_dead_letters_total")
    )
    version = serving.total("headwater_model_version")
    return Figures(
        applied=int(streams.total("headwater_events_applied_total")),
        duplicates=int(streams.total("headwater_duplicates_total")),
        dead_letters=int(letters),
        examples=int(streams.total("headwater_examples_sent_total")),
        exposures=int(serving.total("headwater_exposures_total")),
        items=int(serving.total("headwater_catalogue_items")),
        to_feature=streams.buckets(TO_FEATURE),
        learned=int(trainer.total("headwater_examples_learned_total")),
        ndcg=trainer.value("headwater_prequential_ndcg_at_10", model="headwater"),
        ndcg_popularity=trainer.value("headwater_prequential_ndcg_at_10", model="popularity"),
        queries=int(trainer.total("headwater_prequential_queries")),
        published=int(trainer.total("headwater_publications_total")),
        model_version=int(version),
        held=trainer.total("headwater_model_pinned") > 0,
        weight_age_s=serving.value("headwater_weight_age_seconds") if version else None,
    )
