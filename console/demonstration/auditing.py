"""The demo's audit: events against features, requests against answers, answers against what was taken down."""

from __future__ import annotations

from collections import Counter

from console.demonstration.summary import Summary
from headwater.kafka import read_topic
from headwater.settings import KafkaSettings, Settings
from headwater.topics import RECOMMENDATIONS
from headwater.wire import decode_recommendation

__all__ = ["audit_all"]


def audit_all(settings: Settings, summary: Summary, *, alone: bool) -> str:
    """So many events and exposures, in the features exactly once, key by key; so many requests, each answered exactly
    once; and no list with an item that it knew to be taken down.

    Parameters
        alone: whether nobody else sends and asks, a person at the page say. Else there may be more of all of them, at
            any moment.
    """
    from replay.audits import audit_takedown

    wrong = _all_in_features(settings, summary) if alone else _each_in_features(settings)
    if wrong is not None:
        return wrong
    requests, counted = summary.requests_sent, answers(settings.kafka)
    twice = [request_id for request_id, times in counted.items() if times > 1]
    if twice:
        return f"request {twice[0]} was answered {counted[twice[0]]} times, {len(twice)} requests more than once"
    if len(counted) < requests or (alone and len(counted) > requests):
        return f"{requests:,} requests were sent and {len(counted):,} have an answer"
    takedown = audit_takedown(settings.kafka)
    return "ok" if takedown.ok else f"{takedown.offences[0]}, {takedown.offences_found:,} such items in all"


def _all_in_features(settings: Settings, summary: Summary) -> str | None:
    """What is wrong in a world that stands still."""
    from streams.audit import audit

    found = audit(settings)
    if not found.ok:
        return found.first_difference or "the features differ from the topic"
    if found.events_produced == summary.events_produced + summary.exposures:
        return None
    return (
        f"{summary.events_produced:,} events were produced and {summary.exposures:,} lists shown, and the topic has "
        f"{found.events_produced:,}"
    )


def _each_in_features(settings: Settings) -> str | None:
    """What is wrong in a world that goes on."""
    from streams.running_audit import audit_running

    found = audit_running(settings)
    if found.ok:
        return None
    return found.differences[0] if found.differences else f"the store lacks records of {', '.join(found.lacking)}"


def answers(kafka: KafkaSettings) -> Counter[str]:
    """request_id -> answers on the topic, read from its beginning to its end now."""
    return Counter(decode_recommendation(record.value).request_id for record in read_topic(kafka, RECOMMENDATIONS))
