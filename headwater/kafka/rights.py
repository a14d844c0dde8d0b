"""A worker's part in a world: the topics that it uses are there, and it may do with them what it has to.

What is missing is told at the start, all of it in one message: the broker is asked, which says what a user may do with
a topic or a group. One that has no authorizer allows everything; one that does not tell is believed.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Any

from headwater.errors import AccessDenied
from headwater.kafka.connections import admin_client, ensure_topics, whoami
from headwater.kafka.groups import group_description
from headwater.security.parties import Party, Right, kafka_rights, topics_of
from headwater.settings import KafkaSettings
from headwater.topics import topic_name

__all__ = ["take_part"]

ASKED = {"READ": "Read", "WRITE": "Write", "DESCRIBE": "Describe"}


def take_part(kafka: KafkaSettings, party: Party, spared: Collection[str] = ()) -> None:
    """Make the party's topics that are missing, and look whether it may use all that it needs.

    Parameters
        spared: topics by their name in the table that this one does not use, by its settings.

    Raises
        Unavailable: Kafka does not answer.
        AccessDenied: this user lacks a right; the message names every one.
        SettingsError: the topics cannot be made.
    """
    used = [topic for topic, _ in topics_of(party) if topic.name not in spared]
    names = {topic_name(topic, kafka.prefix) for topic in used}
    rights = [right for right in kafka_rights(party, kafka.prefix) if right.kind != "topic" or right.name in names]
    _refuse_missing(kafka, party, rights)
    if ensure_topics(kafka, topics=used):
        _refuse_missing(kafka, party, rights)  # of a topic that is not there, nobody tells


def _refuse_missing(kafka: KafkaSettings, party: Party, rights: list[Right]) -> None:
    missing = _missing(kafka, rights)
    if missing:
        named = "; ".join(f"{right.operation} on {right.kind} {right.name}" for right in missing)
        raise AccessDenied(
            f"Kafka at {kafka.bootstrap} does not allow {whoami(kafka)}: {named}. Allow it: `headwater acls --kafka "
            f"--for {party.name}{f' --prefix {kafka.prefix}' if kafka.prefix else ''}` prints the commands"
        )


def _missing(kafka: KafkaSettings, rights: list[Right]) -> list[Right]:
    with closing(admin_client(kafka)) as admin:
        topics = sorted({right.name for right in rights if right.kind == "topic"})
        allowed: dict[tuple[str, str], set[str] | None] = {
            ("topic", one["name"]): _allowed(one) for one in admin.describe_topics(topics)
        }
        for group in {right.name for right in rights if right.kind == "group"}:
            allowed["group", group] = _allowed_in_group(admin, group)
    found = []
    for right in rights:
        may = allowed.get((right.kind, right.name))
        if may is not None and right.operation not in may:
            found.append(right)
    return found


def _allowed_in_group(admin: Any, group: str) -> set[str] | None:
    from kafka.errors import GroupAuthorizationFailedError

    try:
        described = group_description(admin, group)
    except GroupAuthorizationFailedError:  # already its coordinator is not told
        return set()
    return None if described is None else _allowed(described)


def _allowed(described: dict[str, Any]) -> set[str] | None:
    """What a broker lets us do; None where it does not tell."""
    from kafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

    if described.get("error_code") == TopicAuthorizationFailedError.errno:
        return set()
    if GroupAuthorizationFailedError.__name__ in str(described.get("error")):
        return set()
    names = described.get("authorized_operations")
    return {ASKED[name] for name in names if name in ASKED} if names else None
