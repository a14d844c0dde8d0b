"""The topics table: the one place that spells a topic's name, key, partitions, retention and cleanup.

Nothing else in the project writes a topic name as a literal. A prefix makes a separate world beside production:
`topic_name("events", prefix="replay7.")` is `replay7.events`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

__all__ = [
    "API_KEYS",
    "AUDIT",
    "CONSENTS",
    "DEAD_LETTERS",
    "ERASURES",
    "EVENTS",
    "EXAMPLES",
    "IDENTITIES",
    "ITEMS",
    "LEARNING",
    "MODEL",
    "MODEL_DELTAS",
    "RECOMMENDATIONS",
    "REQUESTS",
    "SURFACES",
    "TOMBSTONES_KEPT",
    "TOPICS",
    "USERS",
    "Topic",
    "as_kept",
    "refuse_retention",
    "topic_name",
]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class Topic:
    """One row of the table. `retention_ms` -1 keeps for ever; `partitions` is the default for a new cluster.

    `written_by` and `read_by` are words, separated by commas, that `headwater.security.parties` knows: who has which
    rights follows from them.
    """

    name: str
    key: str
    partitions: int
    retention_ms: int
    cleanup: str
    carries: str
    written_by: str
    read_by: str
    extra: dict[str, str] = field(default_factory=dict)
    made_when_used: bool = False
    """By whoever first uses it, and not by each worker that starts."""

    @property
    def configs(self) -> dict[str, str]:
        """Kafka topic configuration for creating it."""
        return {"cleanup.policy": self.cleanup, "retention.ms": str(self.retention_ms), **self.extra}

    @property
    def kept(self) -> str:
        """How long a record is, in words."""
        if self.cleanup == "compact":
            return "newest by key"
        return f"{self.retention_ms / DAY_MS:g} d" if self.retention_ms >= 0 else "for ever"


TOMBSTONES_KEPT = {"delete.retention.ms": str(3650 * DAY_MS)}
"""Who was away when something was removed, or knows it from a model, hears of it for ten years."""

EVENTS = Topic(
    "events",
    "user_id",
    4,
    30 * DAY_MS,
    "delete",
    "Event, or an array of them",
    "apps, serving, streams",
    "streams, page",
)
ITEMS = Topic(
    "items",
    "item_id",
    1,
    -1,
    "compact",
    "Item; null removes it",
    "apps",
    "streams, serving, page",
    TOMBSTONES_KEPT,
)
USERS = Topic(
    "users",
    "user_id",
    1,
    -1,
    "compact",
    "User: attributes; null removes them",
    "apps, streams",
    "streams, page",
    TOMBSTONES_KEPT,
)
SURFACES = Topic(
    "surfaces", "name", 1, -1, "compact", "Surface; null removes it", "operators", "serving, page", TOMBSTONES_KEPT
)
IDENTITIES = Topic(
    "identities", "user_id", 1, -1, "delete", "Identity: an id that a user had before", "apps", "streams, page"
)
REQUESTS = Topic("requests", "user_id, else session_id", 4, 7 * DAY_MS, "delete", "Request", "asking apps", "serving")
RECOMMENDATIONS = Topic(
    "recommendations", "of the request", 8, 7 * DAY_MS, "delete", "Recommendation", "serving", "asking apps, serving"
)
EXAMPLES = Topic("examples", "none", 1, 7 * DAY_MS, "delete", "packed training examples", "streams", "trainer")
LEARNING = Topic(
    "learning",
    "partition of examples",
    1,
    EXAMPLES.retention_ms,
    "delete",
    "decisions: from which example on which share of the blocks is learned in full",
    "trainer",
    "trainer",
)
MODEL = Topic(
    "model",
    "alias or version",
    1,
    -1,
    "compact",
    "snapshot announcements, aliases",
    "trainer, operators, page",
    "trainer, serving, page",
)
MODEL_DELTAS = Topic(
    "model-deltas", "version", 1, DAY_MS, "delete", "weight deltas, chunked", "trainer", "trainer, serving, page"
)
ERASURES = Topic(
    "erasures",
    "user_id, then its digest",
    1,
    -1,
    "compact",
    "Erasure: forget a user; then the fact, which names nobody",
    "apps, streams",
    "streams, serving, trainer, page",
    TOMBSTONES_KEPT,
)
CONSENTS = Topic(
    "consents",
    "user_id",
    1,
    -1,
    "compact",
    "ConsentWord: for which purposes what a user does may be used; then with its place in events",
    "apps, streams",
    "streams",
    TOMBSTONES_KEPT,
    made_when_used=True,
)
DEAD_LETTERS = Topic(
    "dead-letters",
    "source",
    1,
    30 * DAY_MS,
    "delete",
    "refused messages, raw",
    "workers",
    "streams, people, page",
    {"max.message.bytes": "2097152"},  # the largest message that a broker takes, and the reasons in its headers
)

AUDIT = Topic(
    "audit",
    "none",
    1,
    -1,
    "delete",
    "AuditRecord: who did what to this world, each naming the digests of those before",
    "operators, gateway",
    "people, gateway",
    made_when_used=True,
)

API_KEYS = Topic(
    "api-keys",
    "key_id",
    1,
    -1,
    "compact",
    "ApiKey: scopes and argon2id hash; null revokes it",
    "operators",
    "gateway",
    TOMBSTONES_KEPT,
    made_when_used=True,
)

TOPICS = (
    EVENTS, ITEMS, USERS, SURFACES, IDENTITIES, REQUESTS, RECOMMENDATIONS,
    EXAMPLES, LEARNING, MODEL, MODEL_DELTAS, ERASURES, DEAD_LETTERS, AUDIT,
    CONSENTS, API_KEYS,
)  # fmt: skip


def topic_name(topic: Topic | str, prefix: str = "") -> str:
    """The full name of a topic of the table under a prefix.

    Raises
        KeyError: the table lacks the name.
    """
    name = topic if isinstance(topic, str) else topic.name
    if name not in {known.name for known in TOPICS}:
        raise KeyError(f"no topic {name!r} in the table; it has {', '.join(known.name for known in TOPICS)}")
    return prefix + name


LEAST_KEPT_DAYS = 1 / 24


def as_kept(topic: Topic, days: Mapping[str, float]) -> Topic:
    """The topic with the retention that `kafka.retention_days` gives it; as the table has it where that is silent.

    `learning` tells how `examples` are learned, and is kept as long as these.
    """
    given = days.get(EXAMPLES.name if topic.name == LEARNING.name else topic.name)
    return topic if given is None else replace(topic, retention_ms=round(given * DAY_MS))


def refuse_retention(days: Mapping[str, float]) -> None:
    """Refuse what `kafka.retention_days` cannot set.

    Raises
        ValueError: a topic is not in the table, follows another, or is kept whole; or a number of days is none.
    """
    settable = [topic.name for topic in TOPICS if topic.retention_ms >= 0 and topic.name != LEARNING.name]
    for name, given in days.items():
        topic = next((one for one in TOPICS if one.name == name), None)
        if topic is None:
            why = "no such topic is in the table"
        elif topic.cleanup == "compact":
            why = "it is compacted, and keeps the newest record of each key: what is old there is still true"
        elif topic.name == LEARNING.name:
            why = f"it is kept as long as {EXAMPLES.name}"
        elif topic.retention_ms < 0:
            why = "it is kept whole: its oldest records are still true"
        elif not LEAST_KEPT_DAYS <= given <= 36_500:
            why = f"{given:g} days are not 1/24 (an hour) to 36,500"
        else:
            continue
        raise ValueError(f"{name!r:.60}: {why}. Days can be given for {', '.join(settable)}")
