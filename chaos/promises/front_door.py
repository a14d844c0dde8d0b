"""What gateways promise: each call is answered or refused in time, 202 is kept, and a list is that of the topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from chaos.ledger import Promised
from chaos.promises.aftermath import Aftermath
from headwater.recommendations import AFTER_NOT_REACHED
from headwater.topics import EVENTS, IDENTITIES, Topic

__all__ = ["are_in_time", "are_the_same", "are_there"]

Places = dict[str, list[tuple[int, int]]]
"""What a record is called -> where it is."""


def are_in_time(aftermath: Aftermath) -> Iterator[str]:
    """None hangs, or breaks while its gateway goes on; none is refused but as it has to be, or with 503 or 504."""
    counts = aftermath.ledger.counts
    aftermath.figures["calls over HTTP"] = sum(n for what, n in counts.items() if what.startswith("HTTP "))
    aftermath.figures["of these refused for now"] = sum(
        n for what, n in counts.items() if what.startswith(("HTTP 503", "HTTP 504"))
    )
    yield from aftermath.ledger.wrong


def are_there(aftermath: Aftermath) -> Iterator[str]:
    """Every event and link that was acknowledged over HTTP is on its topic, not behind the place that the answer told,
    and no event that was refused: so that what holds for what is on the topic, holds for them. Erasures are judged with
    all others.
    """
    promises = aftermath.ledger.promises
    events = _places(aftermath, EVENTS, lambda body: str(body.get("event_id")))
    links = _places(aftermath, IDENTITIES, lambda body: f"{body.get('user_id')} was {body.get('was')}")
    for one in promises:
        places, named = (links, [" was ".join(one.said)]) if one.what == "link" else (events, one.said)
        for said in named if one.what != "erasure" else ():
            found = places.get(said, [])
            if not found:
                yield f"{one.what} {said}: a gateway said 202, and no topic holds it"
            elif not _as_told(one, found):
                yield f"{one.what} {said}: it is at {found}, and the answer told {dict(one.after)}"
    for refused in sorted(aftermath.ledger.refused_ids & events.keys()):
        yield f"event {refused}: a gateway refused it, and it is at {events[refused]}"
    aftermath.figures["events promised over HTTP"] = sum(len(one.said) for one in promises if one.what == "event")
    aftermath.figures["events refused over HTTP"] = len(aftermath.ledger.refused_ids)


def _as_told(one: Promised, found: list[tuple[int, int]]) -> bool:
    return not one.after or any(offset <= one.after.get(str(partition), -1) for partition, offset in found)


def _places(aftermath: Aftermath, topic: Topic, name: Callable[[Mapping[str, Any]], str]) -> Places:
    """Where what is called so is, by other code than the engine's."""
    found: Places = {}
    for record in aftermath.records(topic):
        try:
            body = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        for one in body if isinstance(body, list) else [body]:
            if isinstance(one, dict):
                found.setdefault(name(one), []).append((record.partition, record.offset))
    return found


def are_the_same(aftermath: Aftermath) -> Iterator[str]:
    """What was given over HTTP is one of the answers of the topic, whole, and so all that is promised of these holds
    for it; and it knows of the events that the app had sent before, or says that it does not.
    """
    given = aftermath.ledger.given
    reached = 0
    for one in given:
        if one.answer not in aftermath.answers.get(one.request, []):
            yield f"{one.request}: no answer of the topic is the list that a gateway gave"
        receipt = one.answer.receipt
        if AFTER_NOT_REACHED in receipt.policy:
            continue
        reached += bool(one.after)
        behind = {at: offset for at, offset in one.after.items() if receipt.feature_offsets.get(at, -1) < offset}
        if behind:
            yield f"{one.request} was to know of {behind}, says nothing of it, and knows {receipt.feature_offsets}"
    aftermath.figures["lists over HTTP"] = len(given)
    aftermath.figures["of these that knew what they had to"] = reached
