"""Whether the compacted topics keep what takes something away for as long as a worker may be away.

A tombstone that compaction drops before a worker has read it is a removal that the worker never hears of: an item stays
listed, a user's attributes stay in the store. Topics that an earlier release made keep theirs for a day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from console.look.cluster import open_admin
from console.look.finding import Finding, ago
from headwater.errors import AccessDenied
from headwater.settings import KafkaSettings
from headwater.topics import TOMBSTONES_KEPT, TOPICS, topic_name

__all__ = ["TO_BE", "mend_removals", "removals"]

CLEANUP, KEPT, TOMBSTONES = "cleanup.policy", "retention.ms", "delete.retention.ms"
KEEPING = [topic for topic in TOPICS if TOMBSTONES in topic.extra]
"""Topics whose tombstones a worker has to hear of."""

TO_BE = {CLEANUP: "compact", KEPT: "-1", **TOMBSTONES_KEPT}


def short_of(kafka: KafkaSettings, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Of these topics, those that lose removals: name -> what their configuration says of it.

    Raises
        Unavailable: no Kafka answers.
        KafkaError: it does not show the configuration.
    """
    from kafka.admin import ConfigResource, ConfigResourceType

    wanted = [one for one in (topic_name(topic, kafka.prefix) for topic in KEEPING) if one in names]
    if not wanted:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs=[CLEANUP, KEPT, TOMBSTONES]) for name in wanted]
    with open_admin(kafka) as admin:
        (told,) = admin.describe_configs(asked, config_filter="all").values()
    found = {name: {key: one["value"] for key, one in told[name].items()} for name in wanted}
    return {name: configs for name, configs in found.items() if _cause(configs)}


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
    from kafka.admin import ConfigResource, ConfigResourceType

    short = list(short_of(kafka, names))
    if short:
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name, configs=TO_BE) for name in short]
        with open_admin(kafka) as admin:
            (answers,) = admin.alter_configs(wanted).values()
        refused = [f"{name} ({answer})" for name, answer in answers.items() if answer != "OK"]
        if refused:
            raise AccessDenied(
                f"{kafka.bootstrap} does not change {', '.join(refused)}. Allow this Kafka user AlterConfigs on "
                "topics, or have somebody set it who may: `headwater doctor` says what"
            )
    return short
