"""What the streams worker counts, for /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["StreamsMetrics"]

BUCKETS_S = (
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    30,
    60,
)


class StreamsMetrics:
    """The worker's counters in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.applied = Counter("headwater_events_applied", "Events folded into features.", registry=registry)
        self.exposures = Counter(
            "headwater_exposures_applied", "Of the events folded, those that say what was shown.", registry=registry
        )
        self.undos = Counter(
            "headwater_undos_applied", "Of the events folded, those that undo others.", registry=registry
        )
        self.undone = Counter("headwater_undone_events", "Events that were taken back.", registry=registry)
        self.duplicates = Counter("headwater_duplicates", "Events whose id was known already.", registry=registry)
        self.late = Counter("headwater_late_events", "Events older than the user's newest.", registry=registry)
        self.forgotten = Counter("headwater_users_forgotten", "Users that a log forgot.", registry=registry)
        self.before_erasure = Counter(
            "headwater_events_before_erasure",
            "Events of forgotten users, from before that: not kept.",
            registry=registry,
        )
        self.words = Counter("headwater_consent_words", "Words of consent that logs went by.", registry=registry)
        self.withheld = Counter(
            "headwater_events_without_consent", "Events that may not be used for a purpose.", ["purpose"],
            registry=registry,
        )  # fmt: skip
        self.examples = Counter("headwater_examples_sent", "Examples sent to the trainer.", registry=registry)
        self.items = Counter("headwater_items_applied", "Catalogue entries written or removed.", registry=registry)
        self.users = Counter("headwater_users_applied", "Attributes of users written or erased.", registry=registry)
        self.identities = Counter(
            "headwater_identities_applied", "Words on two ids that are one person, or are not.", registry=registry
        )
        self.dead_letters = Counter("headwater_dead_letters", "Messages refused.", ["reason"], registry=registry)
        self.conflicts = Counter(
            "headwater_conflicts", "Rounds redone because another worker was faster.", ["on"], registry=registry
        )
        self.store_went_back = Counter(
            "headwater_store_went_back", "Times the store held less than was written to it.", registry=registry
        )
        self.gone = Counter(
            "headwater_records_gone", "Records deleted from the log before the store had them.", ["topic"],
            registry=registry,
        )  # fmt: skip
        self.damaged = Counter(
            "headwater_damaged_keys", "Keys of the store that held what no worker wrote.", registry=registry
        )
        self.redelivered = Counter(
            "headwater_redelivered_records", "Records at or below the mark: folded before.", registry=registry
        )
        self.to_feature = Histogram(
            "headwater_event_to_feature_seconds",
            "From a record's timestamp to its features being readable.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.round_seconds = Histogram(
            "headwater_round_seconds", "One round: read, fold, send, write.", buckets=BUCKETS_S, registry=registry
        )
        self.lag = Gauge("headwater_lag", "Records not yet committed.", ["topic"], registry=registry)
