"""What each operation does: from an HTTP request to a call of the backend, and back.

Before: `gateway.app`, which has found out who asks. After: `gateway.backend`. Errors are raised as they are, and become
statuses in one place (`gateway.app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from gateway.access import Caller, Denied, Keys, RateLimits
from gateway.admin_log import AdminLog
from gateway.backend import Backend
from gateway.bodies import Bodies, decoded, is_stream, line_pieces
from gateway.open_streams import OpenStreams
from gateway.openapi import document
from gateway.refusals import words
from gateway.tokens import After, Speaker, TokenAsked, signed
from gateway.tracking import TrackerSays, read_call
from headwater.consent import Consent
from headwater.errors import HeadwaterError, InvalidMessage
from headwater.events import Event, Item, now_ms
from headwater.identities import Identity
from headwater.privacy import Erasure
from headwater.process import Operations
from headwater.recommendations import Recommendation
from headwater.settings import GatewaySettings
from headwater.users import User
from headwater.wire import encode, validated

__all__ = ["AFTER_COOKIE", "AFTER_HEADER", "Doors", "RefusedLine", "answer"]

AFTER_HEADER = "headwater-after"
AFTER_COOKIE = "headwater_after"
BATCH = 500
"""Lines of a stream that are handed over together."""
MOST_CALLS = 1_000
"""In one batch of a tracker."""
LEAST_EVERY_MS, EVERY_MS, MOST_EVERY_MS = 500, 2_000, 60_000
SETTLE_S = 0.2
"""After an event a stream waits so long: features have it by then, and a flood of events asks five times a second."""
LOOK_S = 0.5
"""Between two looks of a stream whether the worker is told to stop."""
ASKED = ("k", "surface", "context_item", "after")
ANEW = dict.fromkeys(("after", "after_identities", "request_id", "request_time"))
"""Of a request that a stream asks again."""
OF_THE_ENGINE = "headwater."
"""How types of events begin that streams workers write, and act on: they forget, and go by another word of consent."""


class RefusedLine(Exception):
    """Why a stream ended before its end, and how many events were taken until then."""

    def __init__(self, error: Exception, accepted: int) -> None:
        super().__init__(str(error))
        self.error, self.accepted = error, accepted


def answer(body: Any, status: int = 200) -> Response:
    """A body as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


class Doors:
    """One method for each operation of the table."""

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
        self._operations = operations
        self._bodies = Bodies(settings.max_body_bytes)
        self._takes_consent = takes_consent
        self._admin_log = admin_log
        self._streams = OpenStreams(settings.max_waiting)

    async def events(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/events"""
        waits = request.query_params.get("wait", "acked")
        if waits not in ("acked", "no"):
            raise InvalidMessage("schema", f"wait: {waits!r:.20} is neither acked nor no")
        if is_stream(request):
            return await self._lines(request, caller)
        body = await self._bodies.json(request)
        given = body if isinstance(body, list) else [body]
        self._rates.take(caller, max(1, len(given)))
        events: list[Event] = []
        for begin in range(0, len(given), BATCH):
            some = given[begin : begin + BATCH]
            events += [self._event(one, caller, f"event {begin + place}") for place, one in enumerate(some)]
            await asyncio.sleep(0)  # a large body holds nobody else up
        after = await self._backend.track(events, wait=waits == "acked")
        return _accepted(request, {"accepted": len(events)}, after)

    async def _lines(self, request: HttpRequest, caller: Caller) -> Response:
        """What comes before a line that is refused is taken, and the answer says how much that was."""
        accepted, after = 0, After()
        try:
            async for lines in line_pieces(request):
                self._keys.still(request)
                events, refused = self._events(lines, caller)
                for begin in range(0, len(events), BATCH):
                    some = events[begin : begin + BATCH]
                    self._rates.take(caller, len(some))
                    after = after.merged(await self._backend.track(some))
                    accepted += len(some)
                if refused is not None:
                    raise refused
        except (HeadwaterError, Denied) as error:
            raise RefusedLine(error, accepted) from error
        return _accepted(request, {"accepted": accepted}, after)

    def _event(self, body: Any, caller: Caller, at: str) -> Event:
        if caller.user_id is not None and isinstance(body, dict):
            body.setdefault("user_id", caller.user_id)
            caller.speaks_for(body["user_id"])
        event = validated(Event, body, at)
        if event.type.startswith(OF_THE_ENGINE):
            raise InvalidMessage(
                "reserved_type",
                f"{at}: type: {event.type} is the engine's own. DELETE /v1/users/{{user_id}} forgets, "
                "PUT /v1/users/{user_id}/consent says what is consented to; call an event of yours otherwise",
            )
        self._backend.check(event, at)
        return event

    def _events(
        self, lines: list[tuple[int, bytes]], caller: Caller
    ) -> tuple[list[Event], HeadwaterError | Denied | None]:
        """The events up to the first line that is refused, and why that is."""
        found: list[Event] = []
        try:
            for number, line in lines:
                found.append(self._event(decoded(line, f"line {number}"), caller, f"line {number}"))
        except (HeadwaterError, Denied) as error:
            return found, error
        return found, None

    async def track(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/track"""
        body = await self._bodies.json(request)
        return await self._calls(request, caller, [read_call(body, "track")])

    async def batch(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/batch"""
        body = await self._bodies.json(request)
        calls = body.get("batch") if isinstance(body, dict) else None
        if not isinstance(calls, list) or len(calls) > MOST_CALLS:
            raise InvalidMessage("schema", f"batch: give a list of at most {MOST_CALLS:,} calls")
        told = [read_call(one, at=f"batch[{place}]") for place, one in enumerate(calls)]
        return await self._calls(request, caller, told)

    async def identify(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/identify"""
        body = await self._bodies.json(request)
        if isinstance(body, dict) and ("userId" in body or "anonymousId" in body):
            return await self._calls(request, caller, [read_call(body, "identify")])
        if not isinstance(body, dict):
            raise InvalidMessage("schema", "give one Identity: user_id and was")
        self._rates.take(caller)
        caller.speaks_for(body.get("user_id"), body.get("was"))
        return _accepted(request, {"accepted": 1}, After.of(await self._backend.identify([body])))

    async def _calls(self, request: HttpRequest, caller: Caller, calls: list[TrackerSays]) -> Response:
        events = [self._event(one, caller, told.at) for told in calls for one in told.events]
        links = [one for told in calls for one in told.links if validated(Identity, one, told.at)]
        users = [validated(User, one, told.at) for told in calls for one in told.users]
        for one in links:
            caller.speaks_for(one["user_id"], one["was"])
        if users and caller.user_id is not None:
            raise Denied(403, "scope", "a browser may not tell attributes: have your server do it (PUT /v1/users)")
        self._rates.take(caller, max(1, len(calls), len(events)))
        after = After.of(await self._backend.identify(links)) if links else After()
        if users:
            await self._backend.send("put_users", users)
        if events:
            after = after.merged(await self._backend.track(events))
        ignored = [told.ignored for told in calls if told.ignored is not None]
        body: dict[str, Any] = {"accepted": len(events) + len(links) + len(users)}
        if ignored:
            body |= {"ignored": len(ignored), "why": sorted(set(ignored))[:5]}
        return _accepted(request, body, after)

    async def recommend(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/recommendations"""
        body = await self._bodies.json(request)
        if not isinstance(body, dict):
            raise InvalidMessage("schema", f"give one Request; this is a {type(body).__name__}")
        return await self._asked(request, caller, body)

    async def recommend_by_url(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/users/{user_id}/recommendations"""
        return await self._asked(request, caller, {"user_id": request.path_params["user_id"], **_query(request)})

    async def similar(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/items/{item_id}/similar"""
        asked = {**_query(request), "context_item": request.path_params["item_id"]}
        if caller.user_id is not None:
            asked["user_id"] = caller.user_id
        return await self._asked(request, caller, asked)

    async def _asked(self, request: HttpRequest, caller: Caller, asked: dict[str, Any]) -> Response:
        self._rates.take(caller)
        found = await self._backend.recommend(_request(request, caller, asked))
        return Response(encode(found), media_type="application/json")

    async def stream(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/recommendations/stream"""
        asked = _query(request)
        if "user_id" in request.query_params:
            asked["user_id"] = request.query_params["user_id"]
        every_ms = _whole(request, "every_ms")
        every_ms = EVERY_MS if every_ms is None else every_ms
        if not LEAST_EVERY_MS <= every_ms <= MOST_EVERY_MS:
            raise InvalidMessage("schema", f"every_ms: {every_ms} is not {LEAST_EVERY_MS} to {MOST_EVERY_MS:,}")
        return await self._streamed(request, caller, asked, every_ms)

    async def stream_asked(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/recommendations/stream"""
        body = await self._bodies.json(request)
        if not isinstance(body, dict):
            raise InvalidMessage("schema", f"give one Request; this is a {type(body).__name__}")
        return await self._streamed(request, caller, body, EVERY_MS)

    async def _streamed(self, request: HttpRequest, caller: Caller, asked: dict[str, Any], every_ms: int) -> Response:
        fields = _request(request, caller, asked)
        self._rates.take(caller)
        first = await self._backend.recommend(fields)  # what is wrong with the request is said as a status
        self._streams.room(caller)
        return StreamingResponse(
            self._lists(fields, first, caller, every_ms / 1000, lambda: self._keys.still(request)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _lists(
        self,
        fields: dict[str, Any],
        shown: Recommendation,
        caller: Caller,
        every_s: float,
        still: Callable[[], None],
    ) -> AsyncIterator[bytes]:
        with self._backend.watching(fields.get("user_id")) as changed, self._streams.one(caller):
            yield _sent("list", encode(shown))
            while await self._waited(changed, every_s):
                try:
                    still()
                except Denied as error:
                    yield _sent("problem", orjson.dumps({"message": str(error)}))
                    return
                try:
                    self._rates.take(caller)
                    found = await self._backend.recommend({**fields, **ANEW})
                except (HeadwaterError, Denied) as error:
                    yield _sent("problem", orjson.dumps({"message": words(error)}))
                    continue
                if [one.item_id for one in found.items] != [one.item_id for one in shown.items]:
                    shown = found
                    yield _sent("list", encode(found))
                else:
                    yield b": same\n\n"

    async def _waited(self, changed: asyncio.Event, every_s: float) -> bool:
        """Until its time has come, or that user's next event has; whether to go on."""
        stopping, until_s = self._operations.stopping, time.monotonic() + every_s
        while not stopping.is_set() and (left_s := until_s - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left_s, LOOK_S))
                changed.clear()
                await asyncio.sleep(SETTLE_S)
                break
        return not stopping.is_set()

    async def receipt(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/receipts/{request_id}"""
        found = self._backend.receipt(request.path_params["request_id"])
        if found is None or (caller.user_id is not None and found[0] != caller.user_id):
            text = "no answer of this id went out through this process lately: `headwater trace` finds older ones"
            return answer({"error": {"code": "unknown", "message": text}}, 404)
        return Response(found[1], media_type="application/json")

    async def put_items(self, request: HttpRequest, caller: Caller) -> Response:
        """PUT /v1/items"""
        return await self._put(request, caller, "put_items", Item)

    async def put_users(self, request: HttpRequest, caller: Caller) -> Response:
        """PUT /v1/users"""
        return await self._put(request, caller, "put_users", User)

    async def _put(self, request: HttpRequest, caller: Caller, verb: str, model: type[Item | User]) -> Response:
        """All of them, or none: what is wrong is found before anything is sent."""
        body = await self._bodies.json(request)
        given = body if isinstance(body, list) else [body]
        self._rates.take(caller, max(1, len(given)))
        name = model.__name__.lower()
        made = []
        for place, one in enumerate(given):
            made.append(validated(model, one, f"{name} {place}"))
            self._backend.check(made[-1], f"{name} {place}")
            if not place % BATCH:
                await asyncio.sleep(0)
        await self._backend.send(verb, made)
        return answer({"accepted": len(made)}, 202)

    async def remove_item(self, request: HttpRequest, caller: Caller) -> Response:
        """DELETE /v1/items/{item_id}"""
        self._rates.take(caller)
        await self._backend.send("remove_item", request.path_params["item_id"])
        return answer({"accepted": 1}, 202)

    async def set_consent(self, request: HttpRequest, caller: Caller) -> Response:
        """PUT /v1/users/{user_id}/consent"""
        user_id = request.path_params["user_id"]
        caller.speaks_for(user_id)
        self._rates.take(caller)
        if not self._takes_consent:
            text = "no word of consent counts in this world: set privacy.consent for streams workers and gateways"
            return answer({"error": {"code": "consent_off", "message": text}}, 409)
        word = validated(Consent, await self._bodies.json(request), "consent")
        await self._backend.set_consent(user_id, word)
        return answer({"accepted": 1}, 202)

    async def forget_user(self, request: HttpRequest, caller: Caller) -> Response:
        """DELETE /v1/users/{user_id}"""
        self._rates.take(caller)
        user_id = validated(Erasure, {"user_id": request.path_params["user_id"]}, "the path").user_id
        await self._admin_log.write("forget", user_id, caller)
        await self._backend.send("forget_user", user_id)
        return answer({"accepted": 1}, 202)

    async def token(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/tokens"""
        self._rates.take(caller)
        secret = self._keys.token_secret
        if secret is None:
            text = "no tokens are given here: set gateway.token_secret, the same in every gateway"
            return answer({"error": {"code": "no_secret", "message": text}}, 409)
        body = await self._bodies.json(request)
        asked = validated(TokenAsked, body, "token")
        speaker = Speaker(asked.user_id, now_ms() + asked.ttl_s * 1000, asked.was)
        return answer({"token": signed(secret, speaker), "expires_time": speaker.expires_time})

    async def healthz(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /healthz"""
        return PlainTextResponse("alive\n")

    async def readyz(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /readyz"""
        status = 200 if self._operations.stalled() is None else 503
        return PlainTextResponse(f"{self._operations.readiness()}\n", status)

    async def metrics(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /metrics"""
        return Response(generate_latest(self._operations.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /openapi.json"""
        return answer(document())


def _whole(request: HttpRequest, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise InvalidMessage("schema", f"{name}: {given!r:.20} is no whole number")
    return int(given)


def _query(request: HttpRequest) -> dict[str, Any]:
    found: dict[str, Any] = {name: request.query_params[name] for name in ASKED if name in request.query_params}
    if "k" in found:
        found["k"] = _whole(request, "k")
    return found


def _request(request: HttpRequest, caller: Caller, asked: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Request, with how far its own events have come: as the body, a header or a cookie tells."""
    if caller.user_id is not None:
        caller.speaks_for(asked.setdefault("user_id", caller.user_id), asked.get("was"))
        if "request_id" in asked:  # answers and receipts go by it: it could be somebody else's
            raise Denied(403, "request_id", "a browser's request gets its request_id here: leave it out")
    given = asked.get("after")
    if isinstance(given, str) or given is None:
        after = After.read(given).merged(_after_of(request))
        asked["after"] = dict(after.events) or None
        if after.links:
            asked["after_identities"] = dict(after.links)
    return asked


def _after_of(request: HttpRequest) -> After:
    return After.read(request.headers.get(AFTER_HEADER) or request.cookies.get(AFTER_COOKIE))


def _accepted(request: HttpRequest, body: dict[str, Any], after: After) -> Response:
    text = after.text()
    found = answer({**body, "after": text} if text else body, 202)
    if text:
        with contextlib.suppress(InvalidMessage):  # what the client kept is of another gateway
            text = after.merged(_after_of(request)).text()
        found.headers[AFTER_HEADER] = text
    return found


def _sent(kind: str, data: bytes) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
