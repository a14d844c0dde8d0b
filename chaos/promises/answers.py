"""Every request has one answer, by weights that were published, of items that may be shown; it can be made again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson

from chaos.promises.aftermath import Aftermath, expected
from chaos.promises.records import good_events
from headwater.errors import HeadwaterError, InvalidMessage
from headwater.kafka import read_topic
from headwater.topics import MODEL_DELTAS, REQUESTS
from models.checkpoint import read_checkpoint
from models.published.announcement import read_delta_headers
from models.published.layout import parse_name
from models.published.stores import open_store
from replay.audits import audit_takedown
from replay.explain import explain_answer
from replay.explain.model import PASSED_OVER
from serving.exposures import SERVED

__all__ = [
    "are_of_published_weights",
    "are_one",
    "are_shown_once",
    "are_there",
    "can_be_rebuilt",
    "hold_nothing_taken_down",
]

REBUILT, MOST_TRIED, NEWEST = 3, 10, 50
"""Answers that are made again, that are drawn for it, and of whose models nothing is gone yet."""
ENOUGH_S = 60.0
"""After so long one is enough: where faults took the bundles, each may learn the whole log anew."""
LOG_GONE = "the log of examples begins at"
"""What is said of a model that takes what retention has taken. A killed Apache Kafka forgets that it was taken:
then it is said that the trainer passed it over."""


def are_there(aftermath: Aftermath) -> Iterator[str]:
    """A request that was acknowledged is answered, and not refused where it was good and named no deadline."""
    asked = 0
    for record in aftermath.records(REQUESTS):
        if expected(record) is not None:
            continue
        body = orjson.loads(record.value)
        asked += 1
        answers = aftermath.answers.get(body["request_id"], [])
        if not answers:
            yield f"requests[{record.partition}]@{record.offset}: {body['request_id']} has no answer"
        elif (error := answers[0].error) is not None and not (error.code == "expired" and "deadline_ms" in body):
            yield f"{body['request_id']} was refused: {error.code}, {error.message[:120]}"
    aftermath.figures |= {"requests": asked, "answers": sum(map(len, aftermath.answers.values()))}


def are_one(aftermath: Aftermath) -> Iterator[str]:
    """Answers come at least once: a worker that takes over may answer anew. What counts as shown is one of them."""
    lists = {
        request: {tuple(item.item_id for item in one.items) for one in several if one.error is None}
        for request, several in aftermath.answers.items()
    }
    aftermath.figures["answered twice"] = sum(len(several) > 1 for several in aftermath.answers.values())
    aftermath.figures["of these with another list"] = sum(len(found) > 1 for found in lists.values())
    for at, event in good_events(aftermath):
        if event["type"] == SERVED and (request := str(event["request_id"])) in lists:
            shown = tuple(map(str, event["items"]))  # type: ignore[call-overload]
            if shown not in lists[request]:
                yield f"events[{at[0]}]@{at[1]}: what was shown for {request} is in none of its answers"


def are_of_published_weights(aftermath: Aftermath) -> Iterator[str]:
    """A version is one set of weights. How many no delta announced is told and breaks nothing: `model` keeps the newest
    bundles alone, so that of an older one nobody can tell any more whether it was announced.
    """
    announced = {0}
    for record in read_topic(aftermath.settings.kafka, MODEL_DELTAS):
        try:
            said = read_delta_headers(record.headers)
        except InvalidMessage:
            continue
        announced |= {said.version, said.parent}
    digests: dict[int, set[str | None]] = {}
    for several in aftermath.answers.values():
        for answer in several:
            if answer.receipt.model_version is not None:
                digests.setdefault(answer.receipt.model_version, set()).add(answer.receipt.model_digest)
    aftermath.figures["versions that answered"] = len(digests)
    for version, found in digests.items():
        if len(found) > 1:
            yield f"version {version} stands for {len(found)} sets of weights"
    unknown = sorted(digests.keys() - announced)
    aftermath.figures["versions known by their bundle alone"] = len(unknown)


def hold_nothing_taken_down(aftermath: Aftermath) -> Iterator[str]:
    """No list holds an item that its receipt knew to be gone."""
    found = audit_takedown(aftermath.settings.kafka)
    aftermath.figures |= {"items listed": found.listed, "items taken down": found.taken_down}
    yield from (str(offence) for offence in found.offences[:5])


def can_be_rebuilt(aftermath: Aftermath) -> Iterator[str]:
    """Some answers, drawn by chance, are made again from the logs; where retention has taken of these what the trainer
    was given leave to pass over, answers by models of which a bundle before them is kept, and that may not have learned
    of it between the trainer's last checkpoint before the gap and its first behind; in the end of the newest.
    """
    once = [several[0] for several in aftermath.answers.values() if len(several) == 1 and several[0].items]
    if aftermath.stack.stretches:
        kept = [
            name.version for one in open_store(aftermath.settings.trainer.bundles).names() if (name := parse_name(one))
        ]
        oldest = min(kept, default=0)
        once = [answer for answer in once if (answer.receipt.model_version or 0) >= oldest]
        for before, behind in aftermath.stack.stretches:
            last, first = (read_checkpoint(file)[1]["version"] for file in (before, behind))
            once = [answer for answer in once if not last < (answer.receipt.model_version or 0) <= first]
    rebuilt, began_s = 0, time.monotonic()
    newest = sorted(once, key=lambda answer: answer.receipt.model_version or 0)[-NEWEST:]
    drawn = aftermath.chance.sample(once, min(MOST_TRIED, len(once)))
    for answer in [*drawn, *aftermath.chance.sample(newest, min(REBUILT, len(newest)))]:
        if rebuilt == REBUILT or (rebuilt and time.monotonic() - began_s > ENOUGH_S):
            break
        try:
            found = explain_answer(aftermath.settings, answer)
        except HeadwaterError as error:
            if not aftermath.stack.stretches or not any(reason in str(error) for reason in (LOG_GONE, PASSED_OVER)):
                yield f"{answer.request_id} cannot be made again: {error}"
            continue
        rebuilt += found.identical
        if not found.identical:
            yield f"{answer.request_id}: {found.difference} ({found.model}; {'; '.join(found.notes)})"
    aftermath.figures["answers made again"] = rebuilt


def are_shown_once(aftermath: Aftermath) -> Iterator[str]:
    """What went out is on `events` at most as one event id, and only what went out."""
    shown: dict[str, set[object]] = {}
    for _, event in good_events(aftermath):
        if event["type"] == SERVED:
            shown.setdefault(str(event["request_id"]), set()).add(event["event_id"])
    aftermath.figures["lists shown"] = len(shown)
    for request, ids in shown.items():
        if len(ids) > 1:
            yield f"{request} is shown as {len(ids)} events"
        if request not in aftermath.answers:
            yield f"{request} is shown, and has no answer"
