"""The topic settings this broker honours, with Apache Kafka's names, defaults and bounds.

A name that Kafka knows and this broker does not honour is refused, because accepting it would promise something.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

BOOLEAN, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7  # ConfigType on the wire
FOREVER = 2**63 - 1
DAY_MS = 86_400_000


class Setting(NamedTuple):
    """One setting: default as text, wire type, and a parser that raises ValueError with the rule."""

    default: str
    type: int
    parse: Callable[[str], Any]


def _number(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"not a number: {text!r}") from None
        if not low <= value <= high:
            raise ValueError(f"{text} is not within {low} to {high}")
        return value

    return parse


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
        return text

    return parse


def _policies(text: str) -> frozenset[str]:
    names = frozenset(part.strip() for part in text.split(",") if part.strip())
    if names - {"compact", "delete"}:
        raise ValueError(f"{text!r}: give compact, delete, both, or nothing to keep everything")
    return names


def _int(low: int, default: int) -> Setting:
    return Setting(str(default), INT, _number(int, low, 2**31 - 1))


def _long(low: int, default: int) -> Setting:
    return Setting(str(default), LONG, _number(int, low, FOREVER))


SETTINGS: dict[str, Setting] = {
    "cleanup.policy": Setting("delete", LIST, _policies),
    "compression.type": Setting("producer", STRING, _one_of("producer")),
    "delete.retention.ms": _long(0, DAY_MS),
    "max.compaction.lag.ms": _long(1, FOREVER),
    "max.message.bytes": _int(0, 1_048_588),
    "message.timestamp.after.max.ms": _long(0, 3_600_000),
    "message.timestamp.before.max.ms": _long(0, FOREVER),
    "message.timestamp.type": Setting("CreateTime", STRING, _one_of("CreateTime", "LogAppendTime")),
    "min.cleanable.dirty.ratio": Setting("0.5", DOUBLE, _number(float, 0, 1)),
    "min.compaction.lag.ms": _long(0, 0),
    "min.insync.replicas": _int(1, 1),
    "retention.bytes": _long(-FOREVER, -1),
    "retention.ms": _long(-1, 7 * DAY_MS),
    "segment.bytes": _int(1 << 20, 1 << 30),
    "segment.ms": _long(1, 7 * DAY_MS),
}

BROKER_SETTINGS = {  # read-only, so that a client can see what it talks to
    "auto.create.topics.enable": BOOLEAN,
    "num.partitions": INT,
    "default.replication.factor": INT,
    "group.initial.rebalance.delay.ms": INT,
    "group.min.session.timeout.ms": INT,
    "group.max.session.timeout.ms": INT,
    "socket.request.max.bytes": INT,
}


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """The settings of one topic, parsed once, in the form the hot path reads."""

    compact: bool
    delete: bool
    delete_retention_ms: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    timestamp_after_max_ms: int
    timestamp_before_max_ms: int
    log_append_time: bool
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_ms: int


def parse(overrides: Mapping[str, str | None]) -> TopicConfig:
    """Defaults with `overrides`; ValueError that names the setting, the value and the rule."""
    values: dict[str, Any] = {name: setting.parse(setting.default) for name, setting in SETTINGS.items()}
    for name, text in overrides.items():
        if name not in SETTINGS:
            raise ValueError(f"{name}: the embedded broker has no such topic setting; it has {', '.join(SETTINGS)}")
        if text is None:
            raise ValueError(f"{name}: a value is needed")
        try:
            values[name] = SETTINGS[name].parse(text)
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from None
    return TopicConfig(
        compact="compact" in values["cleanup.policy"],
        delete="delete" in values["cleanup.policy"],
        delete_retention_ms=values["delete.retention.ms"],
        max_compaction_lag_ms=values["max.compaction.lag.ms"],
        max_message_bytes=values["max.message.bytes"],
        timestamp_after_max_ms=values["message.timestamp.after.max.ms"],
        timestamp_before_max_ms=values["message.timestamp.before.max.ms"],
        log_append_time=values["message.timestamp.type"] == "LogAppendTime",
        min_cleanable_dirty_ratio=values["min.cleanable.dirty.ratio"],
        min_compaction_lag_ms=values["min.compaction.lag.ms"],
        min_insync_replicas=values["min.insync.replicas"],
        retention_bytes=values["retention.bytes"],
        retention_ms=values["retention.ms"],
        segment_bytes=values["segment.bytes"],
        segment_ms=values["segment.ms"],
    )
