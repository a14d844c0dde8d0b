"""What is behind the door: the SDK's Client, called from threads, its handles waited for by asyncio.

Before: decoded bodies. After: Kafka, and the answers of serving workers. Bounded: what is over `gateway.max_waiting` is
refused at once, so that a slow Kafka makes no queue that nobody can see.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.tokens import After
from headwater import tracing
from headwater.client import Client, Delivery, Position
from headwater.consent import Consent
from headwater.errors import DeadlineExceeded, HeadwaterError, InvalidMessage, Unavailable
from headwater.events import Event, Item, now_ms, to_epoch_ms
from headwater.identities import Identity
from headwater.recommendations import Recommendation, Request
from headwater.settings import GatewaySettings
from headwater.users import User
from headwater.wire import encode

__all__ = ["Backend", "Full", "Waits"]

log = logging.getLogger("headwater")

Answer = TypeVar("Answer")

THREADS = 8
SEND_S = 25.0
"""What is sent may take so long, whatever the Client waits for: most callers and balancers give up at 30."""

STOPS = "this gateway stops,"
LAST_S = 1.0
GRACE_S = 0.5
"""After a deadline the Client tells more of why there is no answer, so it gets a little longer."""

LONGEST_MS = 60_000
RECEIPTS = 10_000
"""Of how many answers the receipt is remembered, newest first."""


class Full(HeadwaterError):
    """As much is under way as may be."""


class Waits:
    """Waits of one kind, which can all be ended at once."""

    def __init__(self) -> None:
        self._open = set[asyncio.Timeout]()
        self.ended = False

    @contextlib.asynccontextmanager
    async def within(self, seconds: float | None) -> AsyncIterator[None]:
        """Raises TimeoutError after that time, or at `end`."""
        async with asyncio.timeout(0 if self.ended else seconds) as until:
            self._open.add(until)
            try:
                yield
            finally:
                self._open.discard(until)

    def end(self) -> None:
        """None goes on from here, and none begins."""
        self.ended = True
        for one in self._open:
            one.reschedule(0)


class Backend:
    """One Client. All methods but the constructor are called from one event loop.

    Raises
        Unavailable: no Kafka answers.
    """

    def __init__(self, client: Client, settings: GatewaySettings) -> None:
        self._client = client
        self._settings = settings
        self._sending = ThreadPoolExecutor(THREADS, thread_name_prefix="sending")
        self._asking = ThreadPoolExecutor(THREADS, thread_name_prefix="asking")  # goes on where senders wait for room
        self._receipts: OrderedDict[str, tuple[str | None, bytes]] = OrderedDict()
        self._losing = threading.Lock()
        self.lost = 0
        """Records of calls that did not wait, which Kafka did not take."""
        self.waiting = 0
        self.idle = asyncio.Event()
        self._waits = Waits()
        self.changed: dict[str, set[asyncio.Event]] = {}
        """User -> set when an event of theirs has come through here."""

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        if self.waiting >= self._settings.max_waiting:
            raise Full(f"{self.waiting} requests are under way (gateway.max_waiting): come again")
        self.waiting += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.waiting -= 1
            if not self.waiting:
                self.idle.set()

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Room for something that is sent. What is not acknowledged then may still come to Kafka."""
        with self._room():
            try:
                async with self._waits.within(SEND_S):
                    yield
            except TimeoutError as error:
                if isinstance(error, HeadwaterError):
                    raise
                if self._waits.ended:
                    raise Unavailable(f"{STOPS} and Kafka has not acknowledged what was sent: send it again") from None
                raise Unavailable(f"nothing was acknowledged within {SEND_S:g} s: check Kafka") from None

    async def _call(self, threads: ThreadPoolExecutor, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, tracing.carried(call))

    def check(self, given: Event | Item | User, at: str) -> None:
        """Whether the Client would send it: of several all are taken, or none. Raises InvalidMessage."""
        try:
            self._client.check(given)
        except InvalidMessage as error:
            raise InvalidMessage(error.reason, f"{at}: {error}") from None

    async def track(self, events: Sequence[Event], *, wait: bool = True) -> After:
        """Hand events over, and wait until Kafka has them; where they are then.

        Raises
            InvalidMessage, Unavailable, Full.
        """
        async with self._in_time():
            delivery = await self._call(self._sending, partial(self._client.track_many, events))
            for user in {event.user_id for event in events} & self.changed.keys():
                for one in self.changed[user]:
                    one.set()
            if wait:
                return After.of(await self.acknowledged(delivery.records))
            for record in delivery.records:
                record.add_done_callback(self._told_nobody)
            return After()

    def _told_nobody(self, sent: Future[Position]) -> None:
        if sent.exception() is not None:
            with self._losing:
                self.lost += 1

    async def send(self, verb: str, *given: Any) -> list[Position]:
        """Call one of the Client's verbs that send records, and wait until Kafka has them.

        Raises
            InvalidMessage, Unavailable, Full.
        """
        async with self._in_time():
            sent = await self._call(self._sending, partial(getattr(self._client, verb), *given))
            return await self.acknowledged(sent.records if isinstance(sent, Delivery) else [sent])

    async def identify(self, links: Sequence[Mapping[str, Any]]) -> list[Position]:
        """Link ids, in this order, and wait until Kafka has it.

        Parameters
            links: fields of Identity.

        Raises
            InvalidMessage, Unavailable, Full.
        """
        for one in links:
            _refuse_unknown(Identity, one)
        told = [{"user_id": None, "was": None, **one} for one in links]
        async with self._in_time():
            sent = await self._call(self._sending, lambda: [self._client.identify(**one) for one in told])
            return await self.acknowledged(sent)

    async def set_consent(self, user_id: str, word: Consent) -> None:
        """Say it of a user, and wait until Kafka has it. Raises InvalidMessage, Unavailable, Full."""
        async with self._in_time():
            sent = await self._call(self._sending, lambda: self._client.set_consent(user_id, **word.model_dump()))
            await asyncio.wrap_future(sent)

    async def acknowledged(self, records: Iterable[Any]) -> list[Position]:
        """Wait for handles. Raises what they hold."""
        return list(await asyncio.gather(*(asyncio.wrap_future(one) for one in records)))

    async def recommend(self, fields: Mapping[str, Any]) -> Recommendation:
        """Ask a serving worker and wait for its answer.

        Parameters
            fields: of Request; `after` and `after_identities` by partition.

        Raises
            InvalidMessage, Unavailable, DeadlineExceeded, RequestRefused, Full.
        """
        asked = {name: value for name, value in fields.items() if value is not None}
        deadline_ms = asked.pop("deadline_ms", self._settings.deadline_ms)
        if type(deadline_ms) is not int or not 0 < deadline_ms <= LONGEST_MS:
            raise InvalidMessage("schema", f"deadline_ms: {deadline_ms!r:.40} is not 1 to {LONGEST_MS:,} milliseconds")
        _refuse_unknown(Request, asked)
        _refuse_old(asked.get("request_time"), deadline_ms)
        user_id, k = asked.pop("user_id", None), asked.pop("k", None)
        with self._room():
            try:
                async with self._waits.within(deadline_ms / 1000 + GRACE_S):
                    answer = await self._call(
                        self._asking, lambda: self._client.recommend_async(user_id, k, deadline_ms / 1000, **asked)
                    )
                    found = await asyncio.wrap_future(answer)
            except DeadlineExceeded:
                raise
            except TimeoutError:  # the Client itself waits for Kafka, to read answers or to tell of a topic
                if self._waits.ended:
                    raise Unavailable(f"{STOPS} and nothing has answered: ask again") from None
                raise DeadlineExceeded(f"no answer within {deadline_ms:,} ms: Kafka does not answer in time") from None
        self._receipts[found.request_id] = found.user_id, encode(found.receipt)
        while len(self._receipts) > RECEIPTS:
            self._receipts.popitem(last=False)
        return found

    def called(self, user_id: str) -> str:
        """What a user is called on topics: a pseudonym, where these are set, else the id."""
        return self._client.pseudonym(user_id)

    def names(self, user_id: str) -> tuple[str, ...]:
        """What a user is called on topics, and was under the keys before: whom `forget_user` erases."""
        return self._client.names(user_id)

    def receipt(self, request_id: str) -> tuple[str | None, bytes] | None:
        """Of an answer that went out through here, while it is remembered: whom for, and its receipt as JSON."""
        return self._receipts.get(request_id)

    @contextlib.contextmanager
    def watching(self, user_id: str | None) -> Iterator[asyncio.Event]:
        """An event that is set whenever one of this user comes through here."""
        changed = asyncio.Event()
        if user_id is None:
            yield changed
            return
        watchers = self.changed.setdefault(user_id, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers:
                self.changed.pop(user_id, None)

    def end(self) -> None:
        """Nothing is waited for any more: the worker stops. Who waits is told so."""
        self._waits.end()

    async def drain(self, until_s: float) -> None:
        """Wait until nothing is under way, until then by the loop's clock and for a second at least. Raises
        TimeoutError, Unavailable.
        """
        if self.waiting:
            await asyncio.wait_for(self.idle.wait(), _left_s(until_s))
        try:
            await self._call(self._sending, partial(self._client.flush, _left_s(until_s)))
        except Unavailable as error:  # also of what failed long ago, and was told then
            log.warning("not all that was sent came to Kafka: %s", error)
            await self._call(self._sending, partial(self._client.flush, LAST_S))

    def close(self) -> None:
        for threads in (self._sending, self._asking):
            threads.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(Unavailable):
            self._client.close(LAST_S)  # what was sent is with Kafka by now, or `drain` has waited for it


def _left_s(until_s: float) -> float:
    return max(LAST_S, until_s - asyncio.get_running_loop().time())


def _refuse_unknown(model: type[BaseModel], fields: Mapping[str, Any]) -> None:
    """What is no field could be a parameter of the Client's. Raises InvalidMessage."""
    unknown = sorted(fields.keys() - model.model_fields.keys())
    if unknown:
        raise InvalidMessage("schema", f"{unknown[0]:.40}: is no field of {model.__name__}")


def _refuse_old(request_time: Any, deadline_ms: int) -> None:
    """Serving answers none that is too old when it comes: whose clock is wrong is told that. Raises InvalidMessage."""
    with contextlib.suppress(ValueError):  # what is no time is refused for that
        told_ms = to_epoch_ms(request_time)
        if isinstance(told_ms, int) and told_ms + deadline_ms < now_ms():
            text = (
                f"request_time: {request_time} and deadline_ms are over: leave it out, or mend the clock that says so"
            )
            raise InvalidMessage("schema", text)
