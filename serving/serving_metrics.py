"""What /metrics of the serving worker shows. One place for the names; knows nothing of how the numbers come about."""

from __future__ import annotations

import time
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headwater.topics import REQUESTS
from serving.scorer import Scorer

__all__ = ["ServingMetrics"]

SECOND_STAGE = {
    "requests": "Requests whose scores the ranker has revised or, young, has left as they are.",
    "candidates": "Candidates of these requests, together.",
    "not_finite": "What the ranker said of candidates and was no number: left out.",
}

BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class ServingMetrics:
    """Counters, gauges and histograms of one worker."""

    def __init__(self, registry: CollectorRegistry, scorer: Scorer) -> None:
        self.answered = Counter(
            "headwater_requests_answered",
            "Replies sent, by outcome: personal, a fallback, or a refusal's code.",
            ["outcome"],
            registry=registry,
        )
        self.repeated = Counter(
            "headwater_duplicate_requests", "Requests whose request_id had been answered before.", registry=registry
        )
        self.exposures = Counter(
            "headwater_exposures",
            "Lists that went out, as events: sent, lost (`events` refused it or was away), dropped (too many waited).",
            ["outcome"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "headwater_request_seconds",
            "From a request record's timestamp to its reply being sent.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.batch_requests = Histogram(
            "headwater_serving_batch_requests",
            "Requests answered in one graph run.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.dead_letters = Counter(
            "headwater_dead_letters", "Requests that were dead letters.", ["reason"], registry=registry
        )
        self.features_unavailable = Counter(
            "headwater_features_unavailable",
            "Batches answered without features, or some of them: no store.",
            registry=registry,
        )
        self.not_finite = Counter(
            "headwater_not_finite_scores", "Scores that were NaN or infinite and were left out.", registry=registry
        )
        self.model_refused = Counter(
            "headwater_model_refused",
            "Announcements, bundles and deltas that were refused.",
            ["topic", "reason"],
            registry=registry,
        )
        self.deltas_applied = Counter("headwater_deltas_applied", "Deltas applied.", registry=registry)
        self.items_refused = Counter("headwater_items_refused", "Items that could not be read.", registry=registry)
        self.items_failed = Counter(
            "headwater_items_failed", "Items skipped for a fault of this worker; its log says which.", registry=registry
        )
        self.surfaces_refused = Counter(
            "headwater_surfaces_refused", "Records of `surfaces` that are none.", registry=registry
        )
        self.catalogue_items = Gauge("headwater_catalogue_items", "Items in the catalogue.", registry=registry)
        lag = Gauge("headwater_lag", "Requests not yet answered.", ["topic"], registry=registry)
        self.lag = lag.labels(topic=REQUESTS.name)
        _tell_of_the_model(registry, scorer)


def _tell_of_the_model(registry: CollectorRegistry, scorer: Scorer) -> None:
    for name, text in SECOND_STAGE.items():
        Gauge(f"headwater_second_stage_{name}", text, registry=registry).set_function(
            partial(getattr, scorer.seen, name)
        )
    Gauge(
        "headwater_candidate_recall",
        "Share of the queries lately whose next item was among the candidates, by the learner; NaN: not known.",
        registry=registry,
    ).set_function(lambda: scorer.candidate_recall)
    Gauge("headwater_model_version", "Version of the model that answers; 0 is none.", registry=registry).set_function(
        lambda: scorer.version or 0
    )
    Gauge(
        "headwater_weight_age_seconds", "Since the weights that answer were published.", registry=registry
    ).set_function(lambda: time.time() - scorer.published_ms / 1000 if scorer.published_ms is not None else 0.0)
