"""What the newest records themselves say: refusals, times of another century, ids that repeat, records that nobody of
ours wrote.

Each topic is read from near its end: some hundred records, of the last day.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from console.look.cluster import TopicState
from console.look.finding import Finding, ago, named_places, spelled
from console.look.redriven import redriven
from console.look.signal_census import census
from console.look.signal_remarks import remarks
from console.times import shown_time
from headwater.errors import InvalidMessage
from headwater.events import likely_unit
from headwater.examples import Example, unpack
from headwater.kafka import BoundedReader, Span
from headwater.settings import KafkaSettings, Settings
from headwater.signals import Signals
from headwater.topics import EVENTS, EXAMPLES, MODEL_DELTAS, Topic
from headwater.wire import EventRow, read_letter, read_past_events
from models.published.signing.records import read_delta
from models.published.signing.trust import trust_of

__all__ = ["newest_deltas", "newest_events", "newest_examples", "newest_rows", "refusals"]

MOST_RECORDS = 100
"""Read of a partition, at most."""

MOST_LETTERS, MOST_DELTAS = 2000, 30
MOST_EVENTS = 5000
RECENT_S = 3600.0
"""A message that was refused within this time makes doctor exit with 1; an older one is a note."""

DAY_S = 86_400.0
MANY_REPEATED, MOST_REPEATED = 0.4, 0.8
"""Share of the newest events whose id the same user had before: a note, and wrong. A file that is replayed twice makes
half of them repeats, and does no harm."""

FEW = 20
"""Fewer events than this say nothing about shares."""

MOST_NAMED = 3


def newest(kafka: KafkaSettings, state: TopicState, most: int, since_s: float = DAY_S) -> Iterator[Any]:
    """The newest records of a topic, at most so many of a partition, none older than `since_s`."""
    if not state.records:
        return
    with BoundedReader(kafka, state.topic) as reader:
        for span in reader.spans(first_ms=int((time.time() - since_s) * 1000)):
            yield from reader.records(Span(span.partition, span.oldest, max(span.first, span.end - most), span.end))


def refusals(kafka: KafkaSettings, state: TopicState) -> Finding:
    """What workers have refused within the last hour, by reason, with the newest of each in words; and before.

    What a redrive has sent again since is a note: if that was in vain, there is a newer letter of it.
    """
    from kafka.errors import GroupAuthorizationFailedError

    counts: Counter[str] = Counter()
    told: dict[str, str] = {}
    newest_ms = sent_again = 0
    done = -1
    if state.records:
        with contextlib.suppress(GroupAuthorizationFailedError):  # then every letter counts
            done = redriven(kafka)
    for record in newest(kafka, state, MOST_LETTERS, RECENT_S):
        if record.offset <= done:
            sent_again += 1
            continue
        letter = read_letter(record.headers)
        reason = "unknown" if letter is None else letter.reason
        counts[reason] += 1
        told[reason] = (dict(record.headers or ()).get("error") or b"no worker wrote it").decode(errors="replace")
        newest_ms = max(newest_ms, record.timestamp)
    detail: dict[str, Any] = {"last_hour": dict(counts), "sent_again": sent_again, "kept": state.records}
    if not counts:
        if not state.records:
            return Finding("refusals", "ok", "none", detail=detail)
        again = f"the {sent_again:,} of it were sent again" if sent_again else "none"
        text = f"of the last hour: {again}; {state.records - sent_again:,} older ones are kept"
        return Finding("refusals", "note", text, "`headwater dead-letters list` shows them", detail)
    text = f"{counts.total():,} refused within the last hour: {spelled(counts)}; the newest {ago_ms(newest_ms)} ago"
    cause = "; ".join(told[reason] for reason, _ in counts.most_common(MOST_NAMED))
    remedy = "`headwater dead-letters list` shows them; mend who sends them, then `headwater dead-letters redrive`"
    return Finding("refusals", "wrong", text, remedy, detail, cause)


def ago_ms(then_ms: float) -> str:
    """How long ago a moment was, for people."""
    return ago(max(0.0, time.time() - then_ms / 1000))


def newest_events(settings: Settings, state: TopicState) -> Iterator[Finding]:
    """Times that cannot be, ids that repeat, and types that nobody has given a meaning, among the newest events."""
    rows: list[EventRow] = []
    homes: dict[str, set[int]] = {}
    for record in newest(settings.kafka, state, MOST_RECORDS):
        found = [row for row in read_past_events(record) if isinstance(row, EventRow)]
        for row in found:
            homes.setdefault(row.user_id, set()).add(record.partition)
        rows += found
        if len(rows) >= MOST_EVENTS:
            break
    yield from _spread(homes)
    detail: dict[str, Any] = {"looked_at": len(rows)}
    oldest_ms = settings.streams.oldest_ms
    old = [row for row in rows if row.time_ms < oldest_ms]
    if old:
        row = old[-1]
        unit = likely_unit(row.time_ms)
        yield Finding(
            "event times",
            "wrong",
            f"{len(old):,} of the newest {len(rows):,} events lie before {shown_time(oldest_ms, utc=True)[:10]} "
            f"(streams.oldest), such as {shown_time(row.time_ms, utc=True)} of user {row.user_id!r:.80}",
            "send event_time in milliseconds since 1970, or as RFC 3339 text",
            {**detail, "too_old": len(old)},
            f"event_time {row.time_ms} is a time of our days in {unit}; it is read as milliseconds" if unit else "",
        )
    repeats = len(rows) - len({(row.user_id, row.event_id) for row in rows})
    detail["repeated"] = repeats
    share = repeats / len(rows) if len(rows) >= FEW else 0.0
    if share >= MANY_REPEATED:
        yield Finding(
            "duplicates",
            "wrong" if share >= MOST_REPEATED else "note",
            f"{repeats:,} of the newest {len(rows):,} events repeat an event_id of the same user: they change nothing",
            "give each event an event_id of its own, or none",
            detail,
            "a file replayed again does no harm; a producer that sends the same id for different events loses them",
        )
    yield from _meanings(settings, rows)
    if share < MANY_REPEATED and not old:
        yield Finding("events", "ok", f"times and ids of the newest {len(rows):,} events are plausible", detail=detail)


def _spread(homes: Mapping[str, set[int]]) -> Iterator[Finding]:
    """Users whose events come from several partitions: producers that do not choose alike, or a changed number."""
    spread = {user: partitions for user, partitions in homes.items() if len(partitions) > 1}
    if spread:
        user, partitions = next(iter(spread.items()))
        yield Finding(
            "partitions of users",
            "note",
            f"{len(spread):,} of {len(homes):,} users have newest events in several partitions of events, such as "
            f"{user!r:.80} in {', '.join(map(str, sorted(partitions)))}",
            "let every producer choose the partition of a user as Java's client and the SDK do (murmur2 of the id; "
            "librdkafka: partitioner=murmur2_random)",
            {"users": len(spread), "looked_at": len(homes)},
            "features are right all the same; events of one user that lie in two partitions may be folded in another "
            "order than they were sent in, and cost a second attempt where two workers fold them at once",
        )


def _meanings(settings: Settings, rows: list[EventRow]) -> Iterator[Finding]:
    """What looks wrong about the meaning of the newest events' types; no more than a note here."""
    found = remarks(census(rows, Signals(settings.signals)), settings.signals, served=settings.serving.exposures)
    if found:
        told = [f"{one.type}: {one.text}" if one.type else one.text for one in found[:MOST_NAMED]]
        more = f"; and {len(found) - len(told)} more" if len(found) > len(told) else ""
        yield Finding(
            "signals",
            "note",
            f"of the newest {len(rows):,} events: {'; '.join(told)}{more}",
            "`headwater signals` shows what each type means and has, and the settings to write (docs/signals.md)",
            {one.type: one.text for one in found},
        )


def newest_rows(settings: Settings, most: int) -> list[EventRow | InvalidMessage]:
    """The newest events of the topic, of each partition as many, whatever their age; a bad one is why it is none.

    Raises
        Unavailable, AccessDenied: the topic cannot be read.
    """
    found: list[EventRow | InvalidMessage] = []
    with BoundedReader(settings.kafka, EVENTS) as reader:
        spans = [span for span in reader.spans() if span.first < span.end]
        for span in spans:
            share, back = -(-most // len(spans)), MOST_RECORDS
            rows: list[EventRow | InvalidMessage] = []
            while len(rows) < share:
                first = max(span.first, span.end - back)
                rows = [
                    row for record in reader.records(span._replace(first=first)) for row in read_past_events(record)
                ]
                if first == span.first:
                    break
                back *= 4  # records hold one event or hundreds
            found += rows[-share:]
    return found


def newest_examples(settings: Settings, state: TopicState, events: TopicState) -> Iterator[Finding]:
    """Records on `examples` that no streams worker wrote, or that name events which are not there."""
    foreign = []
    for record in newest(settings.kafka, state, MOST_RECORDS):
        why = _not_an_example(record.value, events.partitions)
        if why:
            foreign.append(f"{record.topic}[{record.partition}]@{record.offset} ({why})")
    if foreign:
        yield _foreign(EXAMPLES, foreign, "the trainer takes later examples for ones that it has learned")


def _not_an_example(value: bytes | None, ends: Mapping[int, tuple[int, int]]) -> str:
    if value is None:
        return "no value"
    try:
        for entry in unpack(value):
            if isinstance(entry, Example) and entry.position.offset >= ends.get(entry.partition, (0, 0))[1]:
                end = ends.get(entry.partition, (0, 0))[1]
                return f"of events[{entry.partition}]@{entry.position.offset}, which ends at {end}"
    except InvalidMessage as error:
        return str(error)
    return ""


def newest_deltas(settings: Settings, state: TopicState) -> tuple[int, list[Finding]]:
    """When the newest delta was published (epoch ms, 0 for none), and records that no trainer wrote."""
    trust, published_ms, foreign = trust_of(settings), 0, []
    for record in newest(settings.kafka, state, MOST_DELTAS):
        try:
            published_ms = max(published_ms, read_delta(trust, record.key, record.value, record.headers).published_ms)
        except InvalidMessage as error:
            foreign.append(f"{record.topic}[{record.partition}]@{record.offset} ({error})")
    found = [_foreign(MODEL_DELTAS, foreign, "serving passes them over")] if foreign else []
    return published_ms, found


def _foreign(topic: Topic, places: list[str], harm: str) -> Finding:
    named = named_places(places, MOST_NAMED)
    return Finding(
        topic.name,
        "wrong" if topic is EXAMPLES else "note",
        f"{len(places):,} of the newest records are none of ours: {named:.400}",
        f"find out who writes there and take that right away; the topic is for the {topic.written_by} worker alone",
        {"foreign": places},
        f"somebody else writes to {topic.name}: {harm}",
    )
