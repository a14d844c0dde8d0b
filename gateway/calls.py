"""What each operation does, whatever it was asked by: from who asks and decoded fields to a call of the backend.

Before: `gateway.doors` (HTTP), `gateway.sockets` (WebSocket) and `gateway.rpc` (gRPC), for who was found to ask. After:
`gateway.backend`. Errors are raised as they are; what is told of them stands in `gateway.refusals`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gateway.access import Caller, Denied, Keys, RateLimits
from gateway.admin_log import AdminLog
from gateway.backend import Backend, Waits
from gateway.bodies import TooLarge, TooSlow, decoded, refuse_many
from gateway.open_streams import OpenStreams
from gateway.refusals import RefusedLine, ToldError, told
from gateway.tokens import After, Speaker, TokenAsked, signed
from gateway.tracking import TrackerSays
from headwater.consent import Consent
from headwater.errors import HeadwaterError, InvalidMessage
from headwater.events import Event, Item, now_ms
from headwater.identities import Identity
from headwater.privacy import Erasure
from headwater.process import Operations
from headwater.recommendations import Recommendation
from headwater.settings import GatewaySettings
from headwater.users import User
from headwater.wire import OWN_TYPES, validated

__all__ = ["EVERY_MS", "LEAST_EVERY_MS", "MOST_EVERY_MS", "Calls", "Lists", "TakenIn"]

BATCH = 500
"""Events of a call that are looked at before others have their turn, and lines that are handed over together."""
LEAST_EVERY_MS, EVERY_MS, MOST_EVERY_MS = 500, 2_000, 60_000
SETTLE_S = 0.2
"""After an event a stream waits so long: features have it by then, and a flood of events asks five times a second."""
LOOK_S = 0.5
"""Between two looks of a stream whether the worker is told to stop."""
ANEW = dict.fromkeys(("request_id", "request_time"))
"""Of a request that a stream asks again."""

AGAIN_S = 1.0

Piece = list[tuple[str, bytes]]
"""Lines that have come together, with what errors call them."""

Lists = AsyncGenerator[Recommendation | ToldError | None, None]
"""What a stream has to say: a list, why there is none, or that it is the same."""


class TakenIn(NamedTuple):
    """What was sent is with Kafka.

    Fields
        accepted: records, or events of them.
        after: where they are.
        ignored: of calls of trackers that say nothing of an item, why.
    """

    accepted: int
    after: After = After()
    ignored: tuple[str, ...] = ()


class Calls:
    """One of each process, for all its doors.

    Parameters
        takes_consent: whether words of consent count in this world.
    """

    def __init__(
        self,
        backend: Backend,
        keys: Keys,
        rates: RateLimits,
        operations: Operations,
        settings: GatewaySettings,
        takes_consent: bool,
        admin_log: AdminLog,
    ) -> None:
        self._backend = backend
        self._keys = keys
        self._rates = rates
        self._stopping = operations.stopping
        self._more_lines = Waits()
        self._takes_consent = takes_consent
        self._admin_log = admin_log
        self._streams = OpenStreams(settings.max_waiting)
        self._coming = OpenStreams(settings.max_waiting)
        self.sockets = OpenStreams(settings.max_waiting)
        """Also those that have asked for nothing yet: each may hold a message that has not ended."""

    async def events(self, caller: Caller, given: Sequence[Any], *, wait: bool = True) -> TakenIn:
        """Send events: all, or none.

        Parameters
            given: fields of Event, of each.
            wait: until Kafka has them; else nothing is known of where they are.

        Raises
            InvalidMessage, Unavailable, Full, Denied.
        """
        with self.reading(caller):
            refuse_many(len(given), "events")
        self._rates.take(caller, max(1, len(given)))
        events = await self._events(caller, [(f"event {place}", one) for place, one in enumerate(given)])
        return TakenIn(len(events), await self._backend.track(events, wait=wait))

    async def _events(self, caller: Caller, given: Sequence[tuple[str, Any]]) -> list[Event]:
        """Of bodies, with what errors call them. Raises InvalidMessage, Denied."""
        events: list[Event] = []
        for begin in range(0, len(given), BATCH):
            events += [self._event(one, caller, at) for at, one in given[begin : begin + BATCH]]
            await asyncio.sleep(0)  # a large body holds nobody else up
        return events

    async def lines(
        self,
        caller: Caller,
        pieces: AsyncIterator[Piece],
        still: Callable[[], None],
        read: Callable[[bytes, str], Any] = decoded,
    ) -> TakenIn:
        """Send events of lines as they come; what comes before a line that is refused, or before `end`, is taken.

        Parameters
            pieces: lines, with what errors call them.
            still: raises Denied where the caller may not go on.
            read: fields of Event, of a line and what it is called; raises InvalidMessage. Without, lines are JSON.

        Raises
            RefusedLine
        """
        accepted, after, paid = 0, After(), 1
        try:
            with self._coming.one(caller):
                self._rates.take(caller, paid)  # also a stream of nothing, or of one bad line
                while (lines := await self._more(pieces)) is not None:
                    still()
                    events, refused = self._events_of(lines, caller, read)
                    for begin in range(0, len(events), BATCH):
                        some = events[begin : begin + BATCH]
                        if len(some) > paid:
                            self._rates.take(caller, len(some) - paid)
                        paid = 0
                        after = after.merged(await self._backend.track(some))
                        accepted += len(some)
                    if refused is not None:
                        raise refused
        except (HeadwaterError, Denied, TooSlow) as error:
            raise RefusedLine(error, accepted) from error
        return TakenIn(accepted, after)

    def end(self) -> None:
        """No stream of events goes on from here: the worker stops, and what was taken needs its time."""
        self._more_lines.end()

    async def _more(self, pieces: AsyncIterator[Piece]) -> Piece | None:
        """The next; None after the last. Raises Denied after `end`."""
        try:
            async with self._more_lines.within(None):
                return await anext(pieces, None)
        except TimeoutError:
            text = "this gateway stops: send what was not accepted to the next"
            raise Denied(503, "stopping", text, AGAIN_S) from None

    def _events_of(
        self, lines: list[tuple[str, bytes]], caller: Caller, read: Callable[[bytes, str], Any]
    ) -> tuple[list[Event], HeadwaterError | Denied | None]:
        """The events up to the first line that is refused, and why that is."""
        found: list[Event] = []
        try:
            for at, line in lines:
                found.append(self._event(read(line, at), caller, at))
        except (HeadwaterError, Denied) as error:
            return found, error
        return found, None

    def _event(self, body: Any, caller: Caller, at: str) -> Event:
        if caller.user_id is not None and isinstance(body, dict):
            body.setdefault("user_id", caller.user_id)
            caller.speaks_for(body["user_id"])
        event = validated(Event, body, at)
        if event.type.startswith(OWN_TYPES):
            raise InvalidMessage(
                "reserved_type",
                f"{at}: type: {event.type} is the engine's own. DELETE /v1/users/{{user_id}} forgets, "
                "PUT /v1/users/{user_id}/consent says what is consented to; call an event of yours otherwise",
            )
        self._backend.check(event, at)
        return event

    async def tracked(self, caller: Caller, calls: Sequence[TrackerSays]) -> TakenIn:
        """Send what calls of a tracker say: all of it, or nothing. Raises InvalidMessage, Unavailable, Full, Denied."""
        given = [(call.at, one) for call in calls for one in call.events]
        refuse_many(len(given), "events")
        self._rates.take(caller, max(1, len(calls), len(given)))
        events = await self._events(caller, given)
        links = [one for call in calls for one in call.links if validated(Identity, one, call.at)]
        users = [validated(User, one, call.at) for call in calls for one in call.users]
        for one in links:
            caller.speaks_for(one["user_id"], one["was"])
        if users and caller.user_id is not None:
            raise Denied(403, "scope", "a browser may not tell attributes: have your server do it (PUT /v1/users)")
        after = After.of(await self._backend.identify(links)) if links else After()
        if users:
            await self._backend.send("put_users", users)
        if events:
            after = after.merged(await self._backend.track(events))
        ignored = tuple(call.ignored for call in calls if call.ignored is not None)
        return TakenIn(len(events) + len(links) + len(users), after, ignored)

    async def identify(self, caller: Caller, body: Any) -> TakenIn:
        """Send one Identity. Raises InvalidMessage, Unavailable, Full, Denied."""
        self._rates.take(caller)
        if not isinstance(body, dict):
            raise InvalidMessage("schema", "give one Identity: user_id and was")
        caller.speaks_for(body.get("user_id"), body.get("was"))
        return TakenIn(1, After.of(await self._backend.identify([body])))

    async def recommend(self, caller: Caller, asked: Any, brought: After) -> Recommendation:
        """Ask for a list.

        Parameters
            asked: fields of Request; `after` may be a text.
            brought: how far the client's own events have come, as it kept it beside the request.

        Raises
            InvalidMessage, Unavailable, DeadlineExceeded, RequestRefused, Full, Denied.
        """
        self._rates.take(caller)
        return await self._backend.recommend(_fields(caller, asked, brought))

    async def watch(
        self, caller: Caller, asked: Any, brought: After, still: Callable[[], None], every_ms: int = EVERY_MS
    ) -> Lists:
        """Ask for a list, and for those that take its place as the user goes on.

        Parameters
            asked, brought: of `recommend`.
            still: raises Denied where the caller may not go on.
            every_ms: look so often, also where no event of the user comes through here.

        Returns
            Lists as they change; in between why there was none, and None where it is the same. It ends when the worker
            is told to stop, and raises Denied where `still` does.

        Raises
            What `recommend` does: what is wrong with the request is known before there is a stream.
        """
        self._rates.take(caller)
        if not LEAST_EVERY_MS <= every_ms <= MOST_EVERY_MS:
            raise InvalidMessage("schema", f"every_ms: {every_ms} is not {LEAST_EVERY_MS} to {MOST_EVERY_MS:,}")
        lists = self._lists(caller, _fields(caller, asked, brought), every_ms / 1000, still)
        await anext(lists)  # what is refused is refused here
        return lists

    async def _lists(self, caller: Caller, fields: dict[str, Any], every_s: float, still: Callable[[], None]) -> Lists:
        """None where nothing is wrong with what is asked, then what there is to say."""
        with self._streams.one(caller), self._backend.watching(fields.get("user_id")) as changed:
            shown = await self._backend.recommend(fields)
            yield None
            yield shown
            while await self._waited(changed, every_s):
                still()
                try:
                    self._rates.take(caller)
                    found = await self._backend.recommend({**fields, **ANEW})
                except (HeadwaterError, Denied) as error:
                    yield told(error)
                    continue
                if [one.item_id for one in found.items] != [one.item_id for one in shown.items]:
                    shown = found
                    yield found
                else:
                    yield None

    async def _waited(self, changed: asyncio.Event, every_s: float) -> bool:
        """Until its time has come, or that user's next event has; whether to go on."""
        until_s = time.monotonic() + every_s
        while not self._stopping.is_set() and (left_s := until_s - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left_s, LOOK_S))
                changed.clear()
                await asyncio.sleep(SETTLE_S)
                break
        return not self._stopping.is_set()

    @contextlib.contextmanager
    def reading(self, caller: Caller) -> Iterator[None]:
        """What is read within and is no call counts as one. Raises Denied in its place where that is too many."""
        try:
            yield
        except (InvalidMessage, TooLarge, TooSlow):
            self._rates.take(caller)
            raise

    def receipt(self, caller: Caller, request_id: str) -> bytes:
        """The receipt of an answer, as JSON. Raises Denied (404) where none of that id is remembered here."""
        found = self._backend.receipt(request_id)
        if found is None or (caller.user_id is not None and found[0] != caller.user_id):
            text = "no answer of this id went out through this process lately: `headwater trace` finds older ones"
            raise Denied(404, "unknown", text)
        return found[1]

    async def put_items(self, caller: Caller, given: Sequence[Any]) -> TakenIn:
        """Publish items: all, or none. Raises InvalidMessage, Unavailable, Full, Denied."""
        return await self._put(caller, given, "put_items", Item)

    async def put_users(self, caller: Caller, given: Sequence[Any]) -> TakenIn:
        """Tell attributes of users: of all, or of none. Raises InvalidMessage, Unavailable, Full, Denied."""
        return await self._put(caller, given, "put_users", User)

    async def _put(self, caller: Caller, given: Sequence[Any], verb: str, model: type[Item | User]) -> TakenIn:
        name = model.__name__.lower()
        with self.reading(caller):
            refuse_many(len(given), f"{name}s")
        self._rates.take(caller, max(1, len(given)))
        made = []
        for place, one in enumerate(given):
            made.append(validated(model, one, f"{name} {place}"))
            self._backend.check(made[-1], f"{name} {place}")
            if not place % BATCH:
                await asyncio.sleep(0)
        await self._backend.send(verb, made)
        return TakenIn(len(made))

    async def remove_item(self, caller: Caller, item_id: str) -> TakenIn:
        """Take an item out. Raises InvalidMessage, Unavailable, Full, Denied."""
        self._rates.take(caller)
        await self._backend.send("remove_item", item_id)
        return TakenIn(1)

    def check_consent(self, caller: Caller, user_id: str) -> None:
        """Whether the caller may say it of this user, and whether it would count. Raises Denied."""
        caller.speaks_for(user_id)
        self._rates.take(caller)
        if not self._takes_consent:
            text = "no word of consent counts in this world: set privacy.consent for streams workers and gateways"
            raise Denied(409, "consent_off", text)

    async def set_consent(self, user_id: str, word: Any) -> TakenIn:
        """Say a word of consent of a user, after `check_consent`. Raises InvalidMessage, Unavailable, Full."""
        await self._backend.set_consent(user_id, validated(Consent, word, "consent"))
        return TakenIn(1)

    async def forget_user(self, caller: Caller, user_id: str) -> TakenIn:
        """Erase an id, after it was written into the audit log. Raises InvalidMessage, Unavailable, Full, Denied."""
        self._rates.take(caller)
        user_id = validated(Erasure, {"user_id": user_id}, "the path").user_id
        await self._admin_log.write("forget", user_id, caller)
        await self._backend.send("forget_user", user_id)
        return TakenIn(1)

    def token(self, caller: Caller, body: Any) -> dict[str, Any]:
        """A browser's token, and until when it holds. Raises InvalidMessage, Denied."""
        self._rates.take(caller)
        secret = self._keys.token_secret
        if secret is None:
            text = "no tokens are given here: set gateway.token_secret, the same in every gateway"
            raise Denied(409, "no_secret", text)
        asked = validated(TokenAsked, body, "token")
        speaker = Speaker(asked.user_id, now_ms() + asked.ttl_s * 1000, asked.was)
        return {"token": signed(secret, speaker), "expires_time": speaker.expires_time}


def _fields(caller: Caller, asked: Any, brought: After) -> dict[str, Any]:
    """Fields of a Request that this caller may ask, with how far its own events have come."""
    if not isinstance(asked, dict):
        raise InvalidMessage("schema", f"give one Request; this is a {type(asked).__name__}")
    if caller.user_id is not None:
        caller.speaks_for(asked.setdefault("user_id", caller.user_id), asked.get("was"))
        if "request_id" in asked:  # answers and receipts go by it: it could be somebody else's
            raise Denied(403, "request_id", "a browser's request gets its request_id here: leave it out")
    given = asked.get("after")
    if isinstance(given, str) or given is None:
        after = After.read(given).merged(brought)
        asked["after"] = dict(after.events) or None
        if after.links:
            asked["after_identities"] = dict(after.links)
    return asked
