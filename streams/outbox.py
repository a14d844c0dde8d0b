"""Sends what a round makes: examples, catalogue entries and dead letters. A send is done when the broker has it.

Before: `streams.rounds`. After: the topics `examples` and `dead-letters`. Knows nothing of Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from headwater import tracing
from headwater.errors import InvalidMessage, Unavailable
from headwater.examples import CatalogueEntry, Segment, pack_items, pack_segments
from headwater.histories import LEAST_APART, PackedHistory
from headwater.topics import DEAD_LETTERS, EXAMPLES, Topic, topic_name
from headwater.wire import DeadLetter, RefusedRecord, cut_letter, dead_letter
from streams.features.fold import Limits

__all__ = ["ExamplesOutbox", "RefusedMessage", "cut", "packed"]

MAX_RECORD_BYTES = 900_000
"""Largest record of examples: below the 1,048,588 bytes that a broker takes by default."""

GROUP_LETTERS = 500
GROUP_BYTES = 4 << 20
"""Dead letters that wait for their acknowledgement at the same time."""


class RefusedMessage(NamedTuple):
    """A record as aiokafka gave it, the place of the refused event in it, and why."""

    message: Any
    place: int
    error: InvalidMessage

    def letter(self) -> DeadLetter:
        """Its dead letter, with all that a redrive needs."""
        one = self.message
        at_ms = one.timestamp
        record = RefusedRecord(one.topic, one.partition, one.offset, at_ms, one.key, one.value, one.headers)
        return dead_letter(self.error, record, self.place)


class ExamplesOutbox:
    """Sends through the app's own producer and waits for acks=all. Raises Unavailable when the broker does not ack."""

    def __init__(self, app: Any, prefix: str, example_partitions: int) -> None:
        self._app = app
        self._prefix = prefix
        self._examples = topic_name(EXAMPLES, prefix)
        self._dead_letters = topic_name(DEAD_LETTERS, prefix)
        self._partitions = example_partitions
        self._alone = asyncio.Lock()

    async def send_segments(self, partition: int, segments: Sequence[Segment], limits: Limits) -> None:
        """The examples of one source partition, in order, all in one partition."""
        with tracing.joined("send examples", kind="producer", of=len(segments)):
            told = tracing.headers() or None
            for value in packed(partition, segments, limits):
                try:
                    await self._send(self._examples, None, value, partition % self._partitions, told)
                except _TooLarge:  # it may be the batch that is too large, with records of other source partitions
                    async with self._alone:
                        await self._send(self._examples, None, value, partition % self._partitions, told)

    async def send_items(self, entries: Sequence[CatalogueEntry]) -> None:
        """Catalogue entries, to every partition."""
        for value in _packed_items(entries):
            for partition in range(self._partitions):
                await self._send(self._examples, None, value, partition, None)

    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> Any:
        """One record of another topic; where it lies then, as aiokafka says it."""
        return await self._send(topic_name(topic, self._prefix), key, value, None, None)

    async def send_dead_letters(self, refusals: list[RefusedMessage]) -> None:
        """A letter for each refusal, in order. What the broker has acknowledged is taken off the list, even when
        others fail: call again with what is left.

        A letter that is too large for the topic (its limit was lowered) is sent alone and then, if need be, cut.
        """
        while refusals:
            group = _first_group(refusals)
            answers = await asyncio.gather(
                *(self._send_letter(refusal.letter()) for refusal in group), return_exceptions=True
            )
            left: list[RefusedMessage] = []
            failed: BaseException | None = None
            for refusal, answer in zip(group, answers, strict=True):
                error: BaseException | None = answer
                if isinstance(answer, _TooLarge) and failed is None:
                    error = await self._send_alone(refusal)
                if error is not None:
                    left.append(refusal)
                    failed = failed or error
            refusals[: len(group)] = left
            if failed is not None:
                raise failed

    async def _send_alone(self, refusal: RefusedMessage) -> Unavailable | None:
        """The error that remains, if any."""
        last: Unavailable | None = None
        whole = refusal.letter()
        for letter in (whole, cut_letter(whole)):
            try:
                await self._send_letter(letter)
            except _TooLarge as error:
                last = error
            except Unavailable as error:
                return error
            else:
                return None
        return last

    async def _send_letter(self, letter: DeadLetter) -> None:
        await self._send(self._dead_letters, letter.key, letter.value, None, letter.headers)

    async def _send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None, headers: Any
    ) -> Any:
        try:
            return await self._app.producer.send_and_wait(topic, key, value, partition, None, headers)
        except (KafkaError, ProducerSendError) as error:
            text = f"{topic}: the broker did not take a record of {len(value or b''):,} bytes ({error!r})"
            if isinstance(error, MessageSizeTooLargeError) or isinstance(error.__cause__, MessageSizeTooLargeError):
                raise _TooLarge(text) from error
            raise Unavailable(text) from error


class _TooLarge(Unavailable):
    """The broker takes no record of this size: waiting does not help, sending less does."""


def _first_group(refusals: Sequence[RefusedMessage]) -> list[RefusedMessage]:
    """As many as are in flight at once: bounded in number and in bytes, at least one."""
    group: list[RefusedMessage] = []
    size = 0
    for refusal in refusals[:GROUP_LETTERS]:
        message, _, error = refusal
        size += min(len((message.value if error.body is None else error.body) or b""), MAX_RECORD_BYTES)
        if group and size > GROUP_BYTES:
            break
        group.append(refusal)
    return group


def packed(partition: int, segments: Sequence[Segment], limits: Limits) -> Iterator[bytes]:
    """The examples of one batch as record values, none above the limit, cut so that positions only grow.

    The trainer drops what is at or below its mark, so a later record must not hold an earlier position. A single
    example that is too large by itself (a history of very long ids) is sent with the newest half of its past, and a
    list that is too large with its first half.
    """
    for part in _parts(segments, limits.shown):
        yield from _packed_within(partition, part, limits)


def _parts(segments: Sequence[Segment], shown_limit: int) -> Iterator[Sequence[Segment]]:
    """Cut so that each part should be no longer than a record may be: to find out by packing takes as long again for
    each time that all is halved.
    """
    sizes = list(map(_about_bytes, segments))
    if sum(sizes) <= MAX_RECORD_BYTES:
        yield segments
        return
    places = sorted((position, n, i) for n, one in enumerate(segments) for i, position in enumerate(one.positions))
    spans: dict[int, tuple[int, int]] = {}
    size = 0
    for _, n, i in places:
        if n not in spans:
            size += sizes[n]
            if size > MAX_RECORD_BYTES and spans:
                yield [_span(segments[m], *span, shown_limit) for m, span in spans.items()]
                spans, size = {}, sizes[n]
        spans[n] = spans.get(n, (i, i))[0], i + 1
    yield [_span(segments[m], *span, shown_limit) for m, span in spans.items()]


def _span(segment: Segment, begin: int, end: int, shown_limit: int) -> Segment:
    return segment if end - begin == len(segment.targets) else segment.part(begin, end, shown_limit)


def _about_bytes(segment: Segment) -> int:
    """What a segment takes of a record, about."""
    history, older = segment.history, 0
    newer = len(history)
    if newer >= LEAST_APART and isinstance(history, PackedHistory) and history.is_apart:
        newer -= history.older
        older = sum([len(one.text) for one in history.packed])
    lists = sum([len(one.items) for one in segment.lists.values()]) if segment.lists else 0
    return 80 + older + 50 * (newer + len(segment.shown) + lists) + 80 * len(segment.targets)


def _packed_within(partition: int, segments: Sequence[Segment], limits: Limits) -> Iterator[bytes]:
    value = pack_segments(partition, segments, limits.history, limits.shown)
    if len(value) <= MAX_RECORD_BYTES:
        yield value
        return
    positions = sorted(position for segment in segments for position in segment.positions)
    if len(positions) == 1:
        smaller = _smaller(segments[0])
        yield from [value] if smaller is None else _packed_within(partition, [smaller], limits)
        return
    for part in cut(segments, len(positions) // 2, limits.shown):
        yield from _packed_within(partition, part, limits)


def _smaller(segment: Segment) -> Segment | None:
    """A segment of one example with half of what makes it long; None if nothing does."""
    if segment.history or segment.shown:
        known = segment.history[len(segment.history) // 2 + 1 :]
        shown = segment.shown[len(segment.shown) // 2 + 1 :]
        return replace(segment, history=known, shown=shown)
    exposed = segment.lists.get(0)
    if exposed is None or len(exposed.items) == 1:
        return None
    return replace(segment, lists={0: exposed._replace(items=exposed.items[: len(exposed.items) // 2])})


def cut(segments: Sequence[Segment], size: int, shown_limit: int | None = None) -> tuple[list[Segment], list[Segment]]:
    """The examples at the first `size` positions, and the others; a segment across the cut becomes two."""
    positions = sorted(position for segment in segments for position in segment.positions)
    first_of_rest = positions[size]
    first: list[Segment] = []
    rest: list[Segment] = []
    for segment in segments:
        n = sum(position < first_of_rest for position in segment.positions)
        if n:
            first.append(segment.part(0, n, shown_limit))
        if n < len(segment.positions):
            rest.append(segment.part(n, len(segment.positions), shown_limit))
    return first, rest


def _packed_items(entries: Sequence[CatalogueEntry]) -> Iterator[bytes]:
    value = pack_items(entries)
    if len(value) <= MAX_RECORD_BYTES:
        yield value
        return
    if len(entries) == 1:  # the trainer learns from the words; the whole item is in the store
        item_id, content = entries[0]
        words = {name: (content or {}).get(name) for name in ("item_id", "title", "text", "available")}
        yield pack_items([CatalogueEntry(item_id, words)])
        return
    half = len(entries) // 2
    yield from _packed_items(entries[:half])
    yield from _packed_items(entries[half:])
