"""What was acknowledged is there; what was refused has its dead letter, and nothing else; an event has its example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson

from chaos.promises.aftermath import Aftermath, expected
from headwater.errors import InvalidMessage
from headwater.examples import Example, unpack
from headwater.topics import DEAD_LETTERS, EVENTS, EXAMPLES, IDENTITIES, REQUESTS, topic_name
from headwater.wire import read_letter

__all__ = ["are_kept", "examples_are_complete", "good_events", "letters_are_complete"]

Place = tuple[int, int, int]

ALWAYS = {"view", "click", "purchase", "dislike"}
"""Types of which each event is an example."""
UNDONE = {"like", "unlike"}
"""Types that take each other back."""


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
            if (said is None or said[place] == "ok") and at not in aftermath.refused_by_clock:
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


def examples_are_complete(aftermath: Aftermath) -> Iterator[str]:
    """Each event of a user counts for the trainer once: at its first place, and in the order of its partition.

    Whether a like or what takes it back is an example hangs on who is known to be the same person when it is read: of
    ids that were ever linked, a store that is filled again may send one that was none before, and the trainer skips it.
    """
    first: dict[tuple[object, object], tuple[Place, dict[str, object]]] = {}
    for at, event in good_events(aftermath):
        first.setdefault((event["user_id"], event.get("event_id")), (at, event))
    wanted = {at for at, _ in first.values()}
    linked = _linked(aftermath)
    undone = {at for at, event in first.values() if event["type"] in UNDONE and event["user_id"] in linked}
    seen: Counter[Place] = Counter()
    marks: dict[int, tuple[int, int]] = {}
    skipped: list[Place] = []
    for record in aftermath.records(EXAMPLES):
        try:
            entries = list(unpack(record.value or b""))
        except InvalidMessage:
            continue
        for entry in entries:
            if not isinstance(entry, Example):
                continue
            at = (entry.partition, *entry.position)
            seen[at] += 1
            if marks.get(entry.partition, (-1, -1)) < entry.position:
                marks[entry.partition] = entry.position
            elif seen[at] == 1:
                skipped.append(at)
    aftermath.figures |= {"events": len(wanted), "examples": len(seen), "examples sent": sum(seen.values())}
    for at in sorted(seen.keys() - wanted)[:5]:
        yield f"events[{at[0]}]@{at[1]}, event {at[2]}: an example of what was refused, or had been before"
    aftermath.figures["examples of linked ids that only a second reading sent"] = len(undone.intersection(skipped))
    for at, event in first.values():
        if event["type"] in ALWAYS and not seen[at]:
            yield f"events[{at[0]}]@{at[1]}, event {at[2]}: no example of this {event['type']}"
    for at in [at for at in skipped if at not in undone]:
        yield f"events[{at[0]}]@{at[1]}, event {at[2]}: its example comes after a later one's: it is skipped"


def _linked(aftermath: Aftermath) -> set[object]:
    """Ids that were ever told to be somebody's."""
    found: set[object] = set()
    for record in aftermath.records(IDENTITIES):
        try:
            body = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        if isinstance(body, dict):
            found |= {body.get("user_id"), body.get("was")}
    return found
