"""An event is learned from once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson

from chaos.promises.aftermath import Aftermath
from chaos.promises.lives import AsForgotten, lives_of
from chaos.promises.records import Place
from headwater.errors import InvalidMessage
from headwater.examples import Example, Kind, unpack
from headwater.topics import EXAMPLES, IDENTITIES

__all__ = ["are_complete", "learned"]

ALWAYS = {"view", "click", "purchase", "dislike"}
"""Types of which each event is an example, unless its user is forgotten before it is folded, or train is denied."""
UNDONE = {"like", "unlike"}
"""Types that take each other back."""


def are_complete(aftermath: Aftermath) -> Iterator[str]:
    """Each event of a user counts for the trainer once: at its first place, and in the order of its partition.

    Whether a like or what takes it back is an example hangs on who is known to be the same person when it is read: of
    ids that were ever linked, a store that is filled again may send one that was none before, and the trainer skips it.
    The same holds of events from before an erasure, by whether it was known when they were read.
    """
    lives = lives_of(aftermath)
    first: dict[tuple[object, object, int], AsForgotten] = {}
    for one in lives.events:
        if not one.late:
            first.setdefault((one.event["user_id"], one.event["event_id"], one.life), one)
    wanted = {one.at for one in first.values()}  # of which some may not be learned from: `consents` looks
    linked = _linked(aftermath)
    undone = {one.at for one in first.values() if one.event["type"] in UNDONE and one.event["user_id"] in linked}
    undone |= {one.at for one in first.values() if one.life < lives.number(one.event["user_id"])}
    seen: Counter[Place] = Counter()
    marks: dict[int, tuple[int, int]] = {}
    skipped: list[Place] = []
    for entry in learned(aftermath):
        at = (entry.partition, *entry.position)
        seen[at] += 1
        if marks.get(entry.partition, (-1, -1)) < entry.position:
            marks[entry.partition] = entry.position
        elif seen[at] == 1:
            skipped.append(at)
    aftermath.figures |= {"events": len(wanted), "examples": len(seen), "examples sent": sum(seen.values())}
    for at in sorted(seen.keys() - wanted)[:5]:
        yield f"events[{at[0]}]@{at[1]}, event {at[2]}: an example of what was refused, or had been before"
    aftermath.figures["examples that only a second reading sent"] = len(undone.intersection(skipped))
    for at, event, life, _, teaches in first.values():
        if event["type"] in ALWAYS and teaches and not seen[at] and life == lives.number(event["user_id"]):
            yield f"events[{at[0]}]@{at[1]}, event {at[2]}: no example of this {event['type']}"
    for at in [at for at in skipped if at not in undone]:
        yield f"events[{at[0]}]@{at[1]}, event {at[2]}: its example comes after a later one's: it is skipped"


def learned(aftermath: Aftermath) -> Iterator[Example]:
    """All that `examples` holds of events, in its order."""
    for record in aftermath.records(EXAMPLES):
        try:
            entries = list(unpack(record.value or b""))
        except InvalidMessage:
            continue
        yield from (one for one in entries if isinstance(one, Example) and one.kind is not Kind.ERASED)


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
