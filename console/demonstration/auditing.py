"""The demo's audit: events against features, requests against answers, answers against what was taken down."""

from __future__ import annotations

from collections import Counter

from console.demonstration.summary import Summary
from headwater.kafka import read_topic
from headwater.settings import KafkaSettings, Settings
from headwater.topics import RECOMMENDATIONS
from headwater.wire import decode_recommendation

__all__ = ["audit_all"]


def audit_all(settings: Settings, summary: Summary) -> str:
    """So many events and exposures, in the features exactly once, key by key; so many requests, each answered exactly
    once; and no list with an item that it knew to be taken down.
    """
    from replay.audits import audit_takedown
    from streams.audit import audit

    found = audit(settings)
    if not found.ok:
        return found.first_difference or "the features differ from the topic"
    events, exposures, requests = summary.events_produced, summary.exposures, summary.requests_sent
    if found.events_produced != events + exposures:
        return (
            f"{events:,} events were produced and {exposures:,} lists shown, and the topic has "
            f"{found.events_produced:,}"
        )
    counted = answers(settings.kafka)
    twice = [request_id for request_id, times in counted.items() if times > 1]
    if twice:
        return f"request {twice[0]} was answered {counted[twice[0]]} times, {len(twice)} requests more than once"
    if len(counted) != requests:
        return f"{requests:,} requests were sent and {len(counted):,} have an answer"
    takedown = audit_takedown(settings.kafka)
    return "ok" if takedown.ok else f"{takedown.offences[0]}, {takedown.offences_found:,} such items in all"


def answers(kafka: KafkaSettings) -> Counter[str]:
    """request_id -> answers on the topic, read from its beginning to its end now."""
    return Counter(decode_recommendation(record.value).request_id for record in read_topic(kafka, RECOMMENDATIONS))
