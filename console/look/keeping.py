"""Whether Kafka keeps what it should: the compacted topics removals, for as long as a worker may be away; the others
their records, for as long as the table or `kafka.retention_days` says.

A tombstone that compaction drops before a worker has read it is a removal that the worker never hears of: an item stays
listed, a user's attributes stay in the store. Topics that an earlier release made keep theirs for a day. On how long
records are kept somebody relies: a person who was told when they go, a trainer that is away for a week.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from console.look.cluster import open_admin
from console.look.finding import Finding, ago
from headwater.errors import AccessDenied
from headwater.settings import KafkaSettings
from headwater.topics import TOMBSTONES_KEPT, TOPICS, Topic, as_kept, topic_name

__all__ = ["TO_BE", "expiry", "mend_removals", "mend_retention", "removals", "retention"]

CLEANUP, KEPT, TOMBSTONES = "cleanup.policy", "retention.ms", "delete.retention.ms"
ROOM = "retention.bytes"
KEEPING = [topic for topic in TOPICS if TOMBSTONES in topic.extra]
"""Topics whose tombstones a worker has to hear of."""

TO_BE = {CLEANUP: "compact", KEPT: "-1", **TOMBSTONES_KEPT}


def short_of(kafka: KafkaSettings, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Of these topics, those that lose removals: name -> what their configuration says of it.

    Raises
        Unavailable: no Kafka answers.
        KafkaError: it does not show the configuration.
    """
    wanted = [one for one in (topic_name(topic, kafka.prefix) for topic in KEEPING) if one in names]
    found = _configs(kafka, wanted, [CLEANUP, KEPT, TOMBSTONES])
    return {name: configs for name, configs in found.items() if _cause(configs)}


def expiry(kafka: KafkaSettings, topic: Topic) -> str:
    """Which of its settings let records of a topic expire; empty: none does.

    Raises
        Unavailable: no Kafka answers.
        KafkaError: it does not show the configuration.
    """
    name = topic_name(topic, kafka.prefix)
    configs = _configs(kafka, [name], [CLEANUP, KEPT, ROOM])[name]
    if "delete" not in (configs[CLEANUP] or ""):
        return ""
    return ", ".join(f"{key} {configs[key]}" for key in (KEPT, ROOM) if configs[key] != "-1")


def _configs(kafka: KafkaSettings, names: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """What the broker says of these settings, by topic. Raises as `expiry`."""
    from kafka.admin import ConfigResource, ConfigResourceType

    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs=[*keys]) for name in names]
    with open_admin(kafka) as admin:
        (told,) = admin.describe_configs(asked, config_filter="all").values()
    return {name: {key: one["value"] for key, one in told[name].items()} for name in names}


def _cause(configs: Mapping[str, str | None]) -> str:
    """How removals are lost; empty: they are not."""
    policy, kept, tombstones = (configs.get(key) or "" for key in (CLEANUP, KEPT, TOMBSTONES))
    if "delete" in policy and kept != "-1":
        return f"records older than {_long(kept)} are deleted, whatever they say ({CLEANUP} {policy}, {KEPT} {kept})"
    if "compact" in policy and tombstones.isdigit() and int(tombstones) < int(TOMBSTONES_KEPT[TOMBSTONES]):
        return f"compaction drops tombstones after {_long(tombstones)} ({TOMBSTONES} {tombstones})"
    return ""


def _long(milliseconds: str) -> str:
    return ago(int(milliseconds) / 1000) if milliseconds.isdigit() else "a time that the broker sets"


def removals(kafka: KafkaSettings, names: Sequence[str]) -> Iterator[Finding]:
    """One finding for each topic that loses removals; nothing where none does. Raises as `short_of`."""
    for name, configs in short_of(kafka, names).items():
        by_hand = ",".join(f"{key}={value}" for key, value in TO_BE.items())
        yield Finding(
            f"removals on {name}", "note",
            "a worker that was away for longer than that never hears of a removal",
            f"`headwater topics --mend` sets it; by hand: kafka-configs.sh --bootstrap-server {kafka.bootstrap} "
            f"--alter --entity-type topics --entity-name {name} --add-config {by_hand}",
            {"configs": configs, "to_be": TO_BE}, _cause(configs),
        )  # fmt: skip


def mend_removals(kafka: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Set what keeps removals on the topics that lose them; their names. Records and other settings stay.

    Raises
        Unavailable: no Kafka answers.
        AccessDenied: it refuses some of them; those that it does not name are set.
        KafkaError: it does not show the configuration.
    """
    short = list(short_of(kafka, names))
    if refused := _altered(kafka, dict.fromkeys(short, TO_BE)):
        raise AccessDenied(
            f"{kafka.bootstrap} does not change {', '.join(refused)}. Allow this Kafka user AlterConfigs on "
            "topics, or have somebody set it who may: `headwater doctor` says what"
        )
    return short


def _altered(kafka: KafkaSettings, configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Set configurations by topic; those that the broker refused, each with its answer."""
    from kafka.admin import ConfigResource, ConfigResourceType

    if not configs:
        return []
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(one)) for name, one in configs.items()]
    with open_admin(kafka) as admin:
        (answers,) = admin.alter_configs(wanted).values()
    return [f"{name} ({answer})" for name, answer in answers.items() if answer != "OK"]


def otherwise_kept(kafka: KafkaSettings, names: Sequence[str]) -> dict[str, tuple[Topic, str]]:
    """Of these topics, those that the broker keeps for another time: name -> the topic as it should be, what it says.

    Raises
        Unavailable: no Kafka answers.
        KafkaError: it does not show the configuration.
    """
    timed = [as_kept(topic, kafka.retention_days) for topic in TOPICS if topic.retention_ms >= 0]
    wanted = {name: one for one in timed if (name := topic_name(one, kafka.prefix)) in names}
    found = {name: told[KEPT] or "" for name, told in _configs(kafka, [*wanted], [KEPT]).items()}
    return {name: (one, found[name]) for name, one in wanted.items() if found[name] != str(one.retention_ms)}


def retention(kafka: KafkaSettings, names: Sequence[str]) -> Iterator[Finding]:
    """One finding for each topic that is kept for another time than is said. Raises as `otherwise_kept`."""
    for name, (topic, found) in otherwise_kept(kafka, names).items():
        told = "kafka.retention_days" if _is_said(kafka, topic) else "the table"
        yield Finding(
            f"retention of {name}", "note",
            f"the broker keeps its records for {_days(found)}, and {told} says {topic.kept}: dates that `headwater "
            "export` tells are wrong",
            f"`headwater topics --make` sets what kafka.retention_days says of it; or write there what you want: "
            f"{{{topic.name!r}: days}}, the same for every worker",
            {KEPT: found, "to_be": str(topic.retention_ms)},
        )  # fmt: skip


def _days(milliseconds: str) -> str:
    return f"{int(milliseconds) / 86_400_000:g} d" if milliseconds.isdigit() else "ever"


def mend_retention(kafka: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Set what `kafka.retention_days` says on those of these topics that are kept for another time; their names. Of
    which it is silent, these stay as they are.

    Raises
        Unavailable: no Kafka answers.
        AccessDenied: it refuses some of them; those that it does not name are set.
        KafkaError: it does not show the configuration.
    """
    if not kafka.retention_days:
        return []  # nothing is to be set, and who makes topics may not be allowed to see how they are kept
    others = otherwise_kept(kafka, names)
    said = {name: {KEPT: str(one.retention_ms)} for name, (one, _) in others.items() if _is_said(kafka, one)}
    if refused := _altered(kafka, said):
        raise AccessDenied(
            f"{kafka.bootstrap} does not change {KEPT} of {', '.join(refused)}. Allow this Kafka user AlterConfigs "
            "on topics, or have somebody set it who may"
        )
    return list(said)


def _is_said(kafka: KafkaSettings, topic: Topic) -> bool:
    """Whether the settings decide on it, themselves or through a topic that it follows."""
    table = next(one for one in TOPICS if one.name == topic.name)
    return as_kept(table, kafka.retention_days) is not table
