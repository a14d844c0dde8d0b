"""What was recommended was shown: each list that goes out is an event `served` on the topic `events`.

Before: `serving.replies` has handed a batch of answers to the producer. After: the streams worker folds the event as it
does any app's impression, and the learner hears what was shown beside what followed. The event is as an app would send
it: keyed by user_id, so in the user's partition; `request_id` joins it with what follows; `event_id` is made of the
request's, so that a request which is answered again, here or by another worker, shows its list once.

A request is finished when its reply and its exposure are acknowledged. No reply waits for an exposure, and a topic that
takes none holds nothing up: after HELD_S the request is finished without, and what was lost is counted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaError

from headwater.context import named
from headwater.events import MAX_SHOWN, Event
from headwater.experiments import TOLD_AS
from headwater.recommendations import Receipt, Recommendation, Request
from headwater.topics import EVENTS, topic_name
from headwater.wire import cloudevent_headers, encode
from serving.serving_metrics import ServingMetrics

if TYPE_CHECKING:
    from kafka import KafkaProducer

__all__ = ["SERVED", "ExposureSender", "Place", "exposure_of"]

Place = tuple[int, int]
"""Partition and offset of a request."""

SERVED = "served"
"""The type of these events."""

SOURCE = "headwater-serving"

HELD_S = 5.0
"""Longest that a request waits for its exposure to be acknowledged. Below `operations.stall_s`, so that a topic
`events` which is away ends no worker."""

MOST_UNDER_WAY = 10_000
"""Exposures that wait for acknowledgement; above this new ones are dropped. One of ten items takes 0.5 KB."""

log = logging.getLogger("headwater")


def exposure_of(request: Request, answer: Recommendation) -> Event:
    """The event that says that a list was shown to whom it was made for, who has an id. Of more items than an event may
    have, which rows can add up to, the first.

    >>> from headwater.recommendations import RecommendedItem
    >>> items = [RecommendedItem(item_id=f"film-{rank}", rank=rank, score=0) for rank in (1, 2)]
    >>> answer = Recommendation(request_id="r1", user_id="ann", items=items, answered_time=7)
    >>> event = exposure_of(Request(request_id="r1", user_id="ann"), answer)
    >>> event.user_id, event.type, event.items, event.request_id, event.event_time
    ('ann', 'served', ('film-1', 'film-2'), 'r1', 7)
    """
    assert request.whose is not None
    items = answer.items[:MAX_SHOWN]
    chances = tuple(item.propensity for item in items)
    return Event(
        event_id=f"{SERVED}-{blake2b(request.request_id.encode(), digest_size=12).hexdigest()}",
        user_id=request.whose,
        item_id=items[0].item_id,
        items=tuple(item.item_id for item in items),
        propensities=chances if min(chances) < 1 else None,
        type=SERVED,
        event_time=answer.answered_time,
        session_id=request.session_id,
        request_id=request.request_id,
        properties=_properties(request, answer.receipt) or None,
    )


def _properties(request: Request, receipt: Receipt) -> dict[str, Any]:
    """The context of the request, its texts cut: an app's may be long; and of an experiment which variant it was."""
    context: dict[str, Any] = dict(named(request.context, tuple(request.context)))
    if receipt.experiment is not None:
        context[TOLD_AS] = {"name": receipt.experiment, "variant": receipt.variant}
    return context


class ExposureSender:
    """Hands the lists that went out to the producer. One thread calls it; the producer's only fills `_ended`."""

    def __init__(self, producer: KafkaProducer, metrics: ServingMetrics, prefix: str) -> None:
        self._producer = producer
        self._metrics = metrics
        self._topic = topic_name(EVENTS, prefix)
        self._held: dict[Place, float] = {}  # until when, monotonic; in the order of these times
        self._ended: deque[tuple[Place, BaseException | None]] = deque()
        self._under_way = 0
        self._failing = False

    def send(
        self, request: Request, answer: Recommendation, place: Place, trace: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Send the exposure of an answer to the request, which is at `place`; `trace` are headers of the answer's.
        Never raises what Kafka does."""
        if self._under_way >= MOST_UNDER_WAY:
            self._metrics.exposures.labels("dropped").inc()
            return
        self._under_way += 1
        self._held[place] = time.monotonic() + HELD_S
        event = exposure_of(request, answer)
        ended = partial(self._end, place)
        try:
            headers = [*cloudevent_headers(event, SOURCE), *trace]
            sent: Any = self._producer.send(self._topic, encode(event), key=event.user_id.encode(), headers=headers)
        except KafkaError as error:
            ended(error)
        else:
            sent.add_callback(lambda _: ended(None))
            sent.add_errback(ended)

    def holds(self, place: Place) -> bool:
        """Whether the request at `place` still waits for its exposure."""
        return place in self._held

    def let_go(self) -> Iterator[Place]:
        """The requests that no longer wait for theirs, each once."""
        while self._ended:
            place, error = self._ended.popleft()
            self._under_way -= 1
            self._count(error)
            if self._held.pop(place, None) is not None:
                yield place
        now = time.monotonic()
        while self._held:
            place, until = next(iter(self._held.items()))
            if until > now:
                break
            del self._held[place]
            yield place

    def _end(self, place: Place, error: BaseException | None) -> None:
        self._ended.append((place, error))

    def _count(self, error: BaseException | None) -> None:
        self._metrics.exposures.labels("sent" if error is None else "lost").inc()
        if error is not None and not self._failing:
            text = "%s takes no exposures (%r); requests are answered as before, what is lost is counted in /metrics"
            log.error(text, self._topic, error)
        self._failing = error is not None
