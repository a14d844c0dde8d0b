"""What was acknowledged is there; what was refused has its dead letter, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from chaos.promises.aftermath import Aftermath, expected
from headwater.topics import DEAD_LETTERS, EVENTS, REQUESTS, topic_name
from headwater.wire import read_letter

__all__ = ["Place", "are_kept", "good_events", "letters_are_complete"]

Place = tuple[int, int, int]


def are_kept(aftermath: Aftermath) -> Iterator[str]:
    """Every record that the broker has acknowledged is where it said, with what was sent."""
    kept = {
        (topic.name, record.partition, record.offset): record.value
        for topic in (EVENTS, REQUESTS)
        for record in aftermath.records(topic)
    }
    rows = [row for row in aftermath.ledger.rows if row.topic in (EVENTS.name, REQUESTS.name)]
    aftermath.figures["acknowledged"] = len(rows)
    for row in rows:
        at = f"{row.topic}[{row.partition}]@{row.offset}"
        if (row.topic, row.partition, row.offset) not in kept:
            yield f"{at}, acknowledged to {row.who}, is not there"
            continue
        value = kept[row.topic, row.partition, row.offset]
        if (row.holds is None) != (value is None) or (row.holds is not None and row.holds not in value):
            yield f"{at}, acknowledged to {row.who}, holds something else"
    if aftermath.load.unsent:
        yield f"{aftermath.load.unsent} records were never acknowledged although all is well again"
    yield from aftermath.load.failures


def good_events(aftermath: Aftermath) -> Iterator[tuple[Place, dict[str, object]]]:
    """Every event that nobody may refuse, by place: read by other code than the engine's."""
    for record in aftermath.records(EVENTS):
        said = expected(record)
        if said is not None and "ok" not in said:
            continue
        body = orjson.loads(record.value)
        several = body if isinstance(body, list) else [body]
        for place, event in enumerate(several):
            at = (record.partition, record.offset, place)
            if at not in aftermath.refused_by_clock and (said is None or said[place] == "ok"):
                yield at, event


def letters_are_complete(aftermath: Aftermath) -> Iterator[str]:
    """Produced is applied, dead-lettered or a duplicate: every refused event has a letter with its reason."""
    wanted: dict[tuple[str, Place], str] = {}
    for topic in (EVENTS, REQUESTS):
        for record in aftermath.records(topic):
            for place, reason in enumerate(expected(record) or ()):
                if reason != "ok":
                    wanted[topic.name, (record.partition, record.offset, place)] = reason
    prefix = aftermath.settings.kafka.prefix
    names = {topic_name(topic, prefix): topic.name for topic in (EVENTS, REQUESTS)}
    found: dict[tuple[str, Place], set[str]] = {}
    count = 0
    for record in aftermath.records(DEAD_LETTERS):
        letter = read_letter(record.headers)
        if letter is not None and letter.topic in names:
            count += 1
            where = (names[letter.topic], (letter.partition, letter.offset, letter.place))
            found.setdefault(where, set()).add(letter.reason)
    aftermath.figures |= {"refused": len(wanted), "dead letters": count}
    for (topic_of, at), reason in wanted.items():
        reasons = found.get((topic_of, at), set())
        accepted = reason in reasons or (topic_of == REQUESTS.name and bool(reasons))
        accepted = accepted or (topic_of == EVENTS.name and at in aftermath.refused_by_clock)  # which comes first
        if not accepted:
            has = reasons or "none"
            yield f"{topic_of}[{at[0]}]@{at[1]}, event {at[2]}: refused as {reason}, dead-letters has {has}"
    by_clock = 0
    for (topic_of, at), reasons in found.items():
        if topic_of == EVENTS.name and at in aftermath.refused_by_clock:
            by_clock += 1
        elif (topic_of, at) not in wanted and reasons != {"expired"}:
            yield f"{topic_of}[{at[0]}]@{at[1]}, event {at[2]}: it is good, and dead-letters has {reasons}"
    aftermath.figures["refused by a clock"] = by_clock
