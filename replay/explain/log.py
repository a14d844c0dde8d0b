"""What an answer was made from, found again in the logs: the answer, its request, the user's events, the catalogue.

Before: a receipt. After: `replay.explain` scores anew. Reads topics only, and touches no consumer group and no store.
Where retention or compaction took what is needed, a SourceError says what is missing and since when.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from headwater.errors import InvalidMessage, RequestRefused, SourceError
from headwater.experiments import Dealt
from headwater.kafka import existing_topic, read_partitions, read_topic
from headwater.privacy import Erased
from headwater.recommendations import Receipt, Recommendation, Request
from headwater.settings import Settings
from headwater.topics import EVENTS, ITEMS, RECOMMENDATIONS, REQUESTS, USERS, as_kept
from headwater.wire import (
    EventRow,
    decode_catalogue_record,
    decode_recommendation,
    decode_request,
    decode_user_record,
)
from serving.catalogue import Catalogue
from serving.popular import POPULAR_ITEMS, Popular
from serving.surfaces import Surfaces
from serving.surfaces.records import surface_records
from streams.audit import read_as_folded, refused_places
from streams.erasing import erased_users
from streams.features.decay import Decay, ItemStatistics
from streams.features.fold import Ghost, KnownBeside, Limits, fold_batch
from streams.features.identity import as_one, attributes_as_one
from streams.features.state import EMPTY, UserState

__all__ = ["attributes_at", "catalogue_at", "find_recommendation", "find_request", "fold_asker", "fold_popularity"]
__all__ += ["fold_user", "surfaces_at"]

DAY_MS = 86_400_000
_PLACE = re.compile(r"^[^\[]+\[(\d{1,9})\]@(\d{1,18})$")


class Place(NamedTuple):
    """A record's partition and offset."""

    partition: int
    offset: int


def place_of(text: str) -> Place:
    """From `requests[1]@55`. Raises SourceError."""
    found = _PLACE.match(text)
    if found is None:
        raise SourceError(f"{text!r:.80} in the receipt is no topic[partition]@offset")
    return Place(int(found[1]), int(found[2]))


def _ends(offsets: Mapping[str, int]) -> dict[int, int]:
    """Partition -> the offset after the last that was known. Raises SourceError."""
    if not all(re.fullmatch("[0-9]{1,9}", partition) for partition in offsets):
        raise SourceError(f"{dict(offsets)!r:.80} in the receipt are no offsets by partition")
    return {int(partition): offset + 1 for partition, offset in offsets.items()}


def find_recommendation(settings: Settings, request_id: str) -> Recommendation:
    """The first answer to a request in the exposure log. Raises SourceError."""
    name = existing_topic(settings.kafka, RECOMMENDATIONS)
    correlation, since, read = request_id.encode(), None, 0
    for record in read_topic(settings.kafka, RECOMMENDATIONS):
        read += 1
        since = record.timestamp if since is None else min(since, record.timestamp)
        if dict(record.headers).get("correlation-id") != correlation and correlation not in (record.value or b""):
            continue
        try:
            found = decode_recommendation(record.value)
        except InvalidMessage:
            continue
        if found.request_id == request_id:
            return found
    held = f"it holds {read:,} answers since {_when(since)}" if since is not None else "it is empty"
    raise SourceError(f"{name}: no answer to request {request_id!r}; {held}. Give its JSON, if you kept it.")


def find_request(settings: Settings, answer: Recommendation) -> Request:
    """The request of an answer, by the place in its receipt. Raises SourceError."""
    at = answer.receipt.request_at
    if at is None:
        raise SourceError(
            f"the receipt of {answer.request_id!r} does not say where its request is: an older release wrote it, or a "
            "program without Kafka"
        )
    place = place_of(at)
    first, end = {place.partition: place.offset}, {place.partition: place.offset + 1}
    for span, records in read_partitions(settings.kafka, REQUESTS, first, end):
        if span.oldest > place.offset:
            raise SourceError(
                f"{at} is gone: that partition now begins at offset {span.oldest}, {_since(settings, span.partition)} "
                f"(requests are kept for {as_kept(REQUESTS, settings.kafka.retention_days).kept}). Without it nothing "
                "can be asked again."
            )
        for record in records:
            request = decode_request(record.value, record.timestamp)
            if request.request_id == answer.request_id:
                return request
    raise SourceError(f"{at} does not hold request {answer.request_id!r}: is this the world that answered it?")


def fold_asker(settings: Settings, request: Request, receipt: Receipt) -> tuple[UserState, str]:
    """The features that a request was answered from: of one id, or of all those that the receipt says are one person.

    Raises
        SourceError: the log no longer holds their events.
    """
    if not receipt.people:
        ids = _ids(request, receipt)
        return fold_user(settings, ids[0], receipt) if ids else (EMPTY, "nothing: the request tells all")
    states: list[UserState] = []
    for one, events in sorted(receipt.people.items()):
        of_one = receipt.model_copy(update={"history_at": None, "history_events": events})
        states.append(fold_user(settings, one, of_one, most=events)[0])
    return as_one(states, Limits.of(settings)), f"{receipt.history_events:,} events of {len(states)} ids of one person"


def _ids(request: Request, receipt: Receipt) -> list[str]:
    """Who the request is for, by every id that was known."""
    return list(receipt.people) or [one for one in (request.whose, request.was) if one is not None]


def attributes_at(settings: Settings, request: Request, receipt: Receipt) -> tuple[dict[str, Any], str]:
    """What had been told of whom a request is for, as of the receipt's offsets; and, empty or in words, of whom nobody
    can say any more: what was told then, if anything, has been told otherwise since and compaction has taken it.
    """
    ids, ends = set(_ids(request, receipt)), _ends(receipt.user_offsets)
    keys = {one.encode() for one in ids}
    told: dict[str, dict[str, Any]] = {}
    later, gone = set[str](), 0
    for span, records in read_partitions(settings.kafka, USERS) if ids and ends else ():
        end, below = ends.get(span.partition, 0), 0
        for record in records:
            known = record.offset < end
            below += known
            if record.key not in keys:
                continue
            try:
                user_id, user = decode_user_record(record.key, record.value, USERS.name)
            except InvalidMessage:
                continue
            if known:
                told[user_id] = {} if user is None else user.attributes
            else:
                later.add(user_id)
        gone += end - below
    lost = sorted(later - told.keys()) if gone else []
    return attributes_as_one(ids, told), ", ".join(map(repr, lost))


def fold_user(settings: Settings, user_id: str, receipt: Receipt, most: int | None = None) -> tuple[UserState, str]:
    """The user's features as they were read, folded anew from `events`; and what was folded. Raises SourceError.

    Parameters
        user_id: whose.
        receipt: says how far the log was folded, and how many events that gave.
        most: how many events, where the offsets are those of another slot of the store, too, which may be further.
    """
    state, begin, since = _as_read(settings, user_id, receipt, most, {})
    if state.events != receipt.history_events and (known := erased_users(settings).get(user_id)) is not None:
        # a store that was filled again knew of an erasure before it came to its place in the log
        of_erased = _as_read(settings, user_id, receipt, most, {user_id: known})
        if of_erased[0].events == receipt.history_events:
            state, begin, since = of_erased
    limits = Limits.of(settings)
    found, wanted = state.events, receipt.history_events
    if found == wanted or (begin and limits.history <= found < wanted):
        up_to = f" up to {receipt.history_at}" if receipt.history_at is not None else ""
        return state, f"{found:,} events{up_to}" if found else "no events"
    if begin:
        raise SourceError(
            f"events: of the {wanted:,} events of {user_id!r} that were folded, {found:,} are left. The log begins at "
            f"offset {begin}, {_when(since)} (retention); what is older cannot be folded again."
        )
    raise SourceError(
        f"events: {found:,} events of {user_id!r} up to the receipt's offsets, and {wanted:,} were folded. Is this "
        "the world that answered it, with its streams.dedupe_window?"
    )


def _as_read(
    settings: Settings, user_id: str, receipt: Receipt, most: int | None, erased: Mapping[str, Erased]
) -> tuple[UserState, int, int | None]:
    """As `_folded`, up to where a receipt says. `erased`: what was known of users whom the log forgets further on."""
    ends = _ends(receipt.feature_offsets)
    if receipt.history_at is not None:
        partition, offset = place_of(receipt.history_at)
        found = _folded(settings, user_id, {partition: offset + 1}, erased)
        if found[0].events == receipt.history_events or found[1]:
            return found  # else the user has events in more than one partition
        most = None
    return _folded(settings, user_id, ends, erased, most)


def _folded(
    settings: Settings, user_id: str, ends: Mapping[int, int], erased: Mapping[str, Erased], most: int | None = None
) -> tuple[UserState, int, int | None]:
    """The user's state from the partitions named, as it last was with so many events; the highest offset that one of
    them begins at, and its time.
    """
    limits = Limits.of(settings)
    states: dict[str, UserState] = {}
    known, ghosts = dict(erased), dict[str, Ghost]()
    wanted, begin, since = EMPTY, 0, None
    for partition, first, rows, time_ms in _rows(settings, ends, limits):
        ours = [row for row in rows if row.user_id == user_id]
        for part in [ours] if most is None else [[row] for row in ours]:
            beside = KnownBeside(erased=known, ghosts=ghosts)
            one = fold_batch(states, part, limits, Decay(0, 1.0), partition, beside=beside, teaches=False)
            states |= one.states
            one.carry(ghosts)
            known |= {user: at for user, at in one.forgotten.items() if at.outlasts(known.get(user))}
            after = states.get(user_id, EMPTY)
            if most is None or after.events == most or wanted.events != most >= after.events:
                wanted = after
        if first > begin:
            begin, since = first, time_ms
    return wanted, begin, since


def _rows(
    settings: Settings, ends: Mapping[int, int], limits: Limits
) -> Iterator[tuple[int, int, list[EventRow], int | None]]:
    """Of each partition of `events`: number, first offset, events below the end as the worker saw them, first time."""
    refused = refused_places(settings)
    for span, records in read_partitions(settings.kafka, EVENTS, end=ends):
        rows: list[EventRow] = []
        first_ms: int | None = None
        for record in records:
            first_ms = record.timestamp if first_ms is None else first_ms
            found = read_as_folded(record, refused, limits.meanings)
            rows += [row for row in found if isinstance(row, EventRow)]
        yield span.partition, span.oldest, rows, first_ms


def fold_popularity(settings: Settings, receipt: Receipt) -> Popular:
    """What popularity was when it was read, from all of `events` below the receipt's offsets. Raises SourceError."""
    ends = _ends(receipt.popular_offsets)
    limits = Limits.of(settings)
    states: dict[str, UserState] = {}
    statistics: dict[str, ItemStatistics] = {}
    decay: Decay | None = None
    for partition, begin, rows, since in _rows(settings, ends, limits):
        if begin:
            raise SourceError(
                f"events[{partition}] begins at offset {begin}, {_when(since)} (retention): popularity counts what is "
                "older too, so this fallback answer cannot be rebuilt."
            )
        if decay is None and rows:
            decay = Decay(rows[0].time_ms, settings.streams.popularity_half_life_days * DAY_MS)
        folded = fold_batch(states, rows, limits, decay or Decay(0, 1.0), partition)
        states |= folded.states
        for item, counted in folded.items.items():
            if item in statistics:
                statistics[item].merge(counted)
            else:
                statistics[item] = counted
    weights = [(one.settled().log2_sum, item) for item, one in statistics.items()]
    counted_items = [(log2_sum, item) for log2_sum, item in weights if log2_sum > float("-inf")]
    best = [(item, log2_sum) for log2_sum, item in sorted(counted_items, reverse=True)[:POPULAR_ITEMS]]
    offsets = {int(partition): offset for partition, offset in receipt.popular_offsets.items()}
    return Popular.of(best, decay, receipt.popular_time or 0, offsets)


def catalogue_at(settings: Settings, receipt: Receipt) -> tuple[Catalogue, int]:
    """The catalogue as the answer knew it; and how many older records compaction has taken away since."""
    catalogue, gone = Catalogue(), 0
    ends = _ends(receipt.catalogue_offsets)
    for (partition, _, _, end), records in read_partitions(settings.kafka, ITEMS, end=ends):
        found = 0
        for record in records:
            found += 1
            try:
                at = f"{ITEMS.name}[{partition}]@{record.offset}"
                item_id, item = decode_catalogue_record(record.key, record.value, at)
            except InvalidMessage:
                continue
            if item is None:
                catalogue.remove(item_id)
            else:
                catalogue.put(item, record.timestamp)
        gone += max(end - found, 0)
    catalogue.offsets = dict(receipt.catalogue_offsets)
    return catalogue, gone


def surfaces_at(settings: Settings, request: Request, receipt: Receipt) -> tuple[Surfaces, str]:
    """The surface that a request was answered by, as it was then: of the topic, or of the settings; and whose it is.

    Raises
        SourceError: neither has that version any more.
    """
    name, version = request.surface, receipt.surface_version
    if name is None:
        return Surfaces(), "by the request's overrides" if request.overrides else ""
    put = [one.surface for one in surface_records(settings) if one.name == name]
    found = [(surface, "of the topic surfaces") for surface in put if surface is not None]
    if name in settings.surfaces:
        found.append((settings.surfaces[name], "of the settings"))
    then = Dealt(receipt.experiment, str(receipt.variant)) if receipt.experiment else None
    versions: list[str] = []
    for surface, whose in found:
        surfaces = Surfaces({name: surface})
        try:
            answers, dealt = surfaces.of(request)
        except RequestRefused:
            continue
        versions.append(f"{answers.version}{_dealt(dealt)}")
        if (answers.version, dealt) == (version, then):
            return surfaces, f"{whose}{_dealt(dealt)}"
    held = f"there are {', '.join(dict.fromkeys(versions))}" if versions else "there is none"
    raise SourceError(
        f"surface {name!r:.80} was version {version}{_dealt(then)} and is no longer: of the topic surfaces, which "
        f"keeps the newest of a name, and of the settings {held}. Put that version back to explain what it answered."
    )


def _dealt(dealt: Dealt | None) -> str:
    return "" if dealt is None else f", variant {dealt.variant} of experiment {dealt.experiment}"


def _since(settings: Settings, partition: int) -> str:
    """The time of the first request that a partition still holds."""
    for span, records in read_partitions(settings.kafka, REQUESTS):
        if span.partition == partition:
            return _when(next((record.timestamp for record in records), None))
    return _when(None)


def _when(time_ms: int | None) -> str:
    return "now empty" if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
