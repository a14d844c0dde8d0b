"""Apps that speak HTTP: what they send to the gateways, and what a gateway's answer promises.

Before: the gateways of a stack, which die, stand still, come and go as other workers do. After: the ledger has what was
said 202 to, which lists were given or streamed, and each call that was neither answered nor refused in time. What Kafka
was away for (503, 504), or nobody heard, is sent again with the same ids, as a careful app does. Who brings no key gets
in at no moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from itertools import islice
from typing import Any, NamedTuple

import orjson

from chaos.ledger import GivenList, LoadLedger, Promised
from chaos.load.records import GUESTS, Writer, asker
from chaos.stack import CampaignWorker
from gateway.tokens import After
from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.topics import EVENTS
from headwater.wire import decode_recommendation

__all__ = ["HttpApp", "messages_of", "run_http_app"]

SEND_S, ASK_S = 50.0, 30.0
"""A call has to be over within: 25 s and 2.5 s of the gateway's own, 8 that it may be held, and a crowded machine."""
SETTLE_S = 0.5
"""After a connection has broken, who has ended is known to have."""
DEADLINE_MS = 2_000
AWAY = (503, 504)
"""A refusal for now."""
END_S = 90.0
WATCHED = 3
"""Messages of a stream after which it is left."""
JSON, LINES = "application/json", "application/x-ndjson"
ASKS = ("ask", "watch")


class HttpCall(NamedTuple):
    """One call, and what its answer means.

    Fields
        what: `events`, `events, not waited for`, `tracker`, `refused`, `no key`, `link`, `erasure`, `ask` or `watch`.
        status: of the answer where all is well.
        ids: of its events in their order; of a link both; whom an erasure is of; of a question its request_id.
        after: of a question, what the answer is to know of.
    """

    what: str
    method: str
    path: str
    body: bytes | None
    status: int
    ids: tuple[str, ...]
    kind: str = JSON
    after: After = After()
    began_ms: int = 0

    @property
    def within_s(self) -> float:
        """Longest time until its answer."""
        return ASK_S if self.what in ASKS else SEND_S


def run_http_app(app: HttpApp, rate: float, done: threading.Event) -> int:
    """Use a gateway until `done`, then until all that has to be taken is; how many calls are not."""
    due = time.monotonic()
    while not done.wait(max(0.0, due - time.monotonic())):
        due = max(due + 1 / rate, time.monotonic() - 1.0)
        app.act()
    return app.finish()


class HttpApp:
    """One thing after another, drawn by chance. Used by one thread.

    Parameters
        doors: the gateways there are, also one that is held.
        who: makes its ids its own.
        key: of the API, for all scopes.
    """

    def __init__(
        self, ledger: LoadLedger, doors: Callable[[], Sequence[CampaignWorker]], who: str, seed: int, key: str
    ) -> None:
        self._ledger = ledger
        self._key = key
        self._doors = doors
        self._writer = Writer(who, seed, EVENTS.partitions)
        self._chance = random.Random(f"{seed}-{who}-calls")
        self._heard: set[tuple[str, int]] = set()
        """Gateways, by start, that have taken a connection."""
        self._after: dict[str, After] = {}
        self._asked: HttpCall | None = None
        self._failed: deque[HttpCall] = deque()

    def act(self) -> None:
        """Do the next thing, or again what was in vain."""
        self._do(self._failed.popleft() if self._failed and self._chance.random() < 0.3 else self._drawn())

    def finish(self) -> int:
        """Until all is taken that has to be; how many are not."""
        deadline = time.monotonic() + END_S
        while self._failed and time.monotonic() < deadline:
            self._do(self._failed.popleft())
            if self._failed:
                time.sleep(0.2)
        return len(self._failed)

    def _drawn(self) -> HttpCall:
        draw, writer = self._chance.random(), self._writer
        if draw < 0.15:
            return self._ask()
        if draw < 0.18:
            guest = self._chance.randrange(GUESTS)
            link_ids = (f"u{guest * 2}", f"guest{guest}")
            link = {"user_id": link_ids[0], "was": link_ids[1], "event_time": now_ms()}
            return HttpCall("link", "POST", "/v1/identify", orjson.dumps(link), 202, link_ids)
        if draw < 0.19:
            user = writer.user()
            return HttpCall("erasure", "DELETE", f"/v1/users/{user}", None, 202, (user,), began_ms=now_ms())
        if draw < 0.24:
            return self._bad()
        if draw < 0.26:
            return self._ask(watch=True)
        several = [writer.event(now_ms(), writer.user()) for _ in range(self._chance.randint(1, 6))]
        ids = tuple(str(one["event_id"]) for one in several)
        if draw < 0.28:
            return HttpCall("no key", "POST", "/v1/events", orjson.dumps(several), 401, ids)
        if draw < 0.38 and all("item_id" in one for one in several):
            batch = orjson.dumps({"batch": [_as_tracked(one) for one in several]})
            return HttpCall("tracker", "POST", "/v1/batch", batch, 202, ids)
        if draw < 0.46:
            body = orjson.dumps(several)
            return HttpCall("events, not waited for", "POST", "/v1/events?wait=no", body, 202, ids)
        if draw < 0.64:
            body = b"\n".join(map(orjson.dumps, several))
            return HttpCall("events", "POST", "/v1/events", body, 202, ids, LINES)
        return HttpCall("events", "POST", "/v1/events?wait=acked", orjson.dumps(several), 202, ids)

    def _ask(self, *, watch: bool = False) -> HttpCall:
        """For lists that know of what this app has sent of that user; now and then once more by the same id."""
        if self._asked is not None and not watch and self._chance.random() < 0.2:
            return self._asked
        user, request = asker(self._chance), self._writer.new_id()
        after = self._after.get(user, After())
        body = {
            "request_id": request,
            "user_id": user,
            "k": self._chance.choice([1, 5, 10]),
            "deadline_ms": DEADLINE_MS,
        }
        body |= {"after": after.text()} if after.text() else {}
        given = orjson.dumps(body), 200, (request,)
        if watch:
            return HttpCall("watch", "POST", "/v1/recommendations/stream", *given, after=after)
        self._asked = HttpCall("ask", "POST", "/v1/recommendations", *given, after=after)
        return self._asked

    def _bad(self) -> HttpCall:
        """One event of some is none: of a list nothing is taken, of lines what came before it."""
        events = [self._writer.event(now_ms(), self._writer.user()) for _ in range(4)]
        ids = tuple(str(one["event_id"]) for one in events)
        place = self._chance.randrange(len(events))
        events[place] |= {"type": "No Type!"}
        if self._chance.random() < 0.5:
            return HttpCall("refused", "POST", "/v1/events", orjson.dumps(events), 400, ids)
        return HttpCall("refused", "POST", "/v1/events", b"\n".join(map(orjson.dumps, events)), 400, ids, LINES)

    def _do(self, call: HttpCall) -> None:
        told = self._answer(call)
        if told is None:
            self._again(call)
            return
        status, body = told
        self._ledger.count(f"HTTP {status}: {call.what}")
        if status in AWAY:
            self._promised(call, call.ids[: _accepted(body)], After())
            self._again(call)
        elif status != call.status:
            self._ledger.broken(f"{call.method} {call.path}, {call.what}: {status} {orjson.dumps(body)[:300]!r}")
        elif call.what == "ask":
            self._given(call, body, call.ids[0])
        elif call.what == "watch":
            self._watched(call, body)
        elif call.what in ("refused", "no key"):
            taken = _accepted(body)
            self._promised(call, call.ids[:taken], After())
            self._ledger.refused_ids.update(call.ids[taken:])
        elif call.what != "events, not waited for":
            self._promised(call, call.ids, self._read_after(call, body))

    def _again(self, call: HttpCall) -> None:
        if call.what not in ASKS:
            self._failed.append(call)

    def _read_after(self, call: HttpCall, body: Any) -> After:
        """What the answer to events or to a link has to hold."""
        try:
            after = After.read(body.get("after"))
        except InvalidMessage as error:
            self._ledger.broken(f"{call.path}: {error}")
            return After()
        if call.what in ("events", "tracker") and body.get("accepted") != len(call.ids):
            self._ledger.broken(f"{call.path}: of {len(call.ids)} events {body} says another number")
        if call.what == "events":
            for one in orjson.loads(call.body or b"") if call.kind == JSON else ():
                self._after[str(one["user_id"])] = after
        return after

    def _promised(self, call: HttpCall, ids: tuple[str, ...], after: After) -> None:
        kind = "event" if call.what in ("events", "tracker", "refused") else call.what
        if ids and kind in ("event", "link", "erasure"):
            told = after.links if kind == "link" else after.events
            self._ledger.promise(Promised(kind, ids, dict(told), call.began_ms))

    def _given(self, call: HttpCall, body: Any, request: str) -> None:
        try:
            found = decode_recommendation(orjson.dumps(body))
        except InvalidMessage as error:
            self._ledger.broken(f"{call.path}: the answer to {request} is none: {error}")
            return
        self._ledger.give(GivenList(request, found, dict(call.after.events)))

    def _watched(self, call: HttpCall, messages: Sequence[tuple[str, Any]]) -> None:
        """A stream begins with the list that was asked for; those after it have requests of their own."""
        for number, (kind, body) in enumerate(messages):
            self._ledger.count(f"streamed: {kind}")
            if kind == "list":
                self._given(call, body, str(body.get("request_id")) if number else call.ids[0])
            elif not number:
                self._ledger.broken(f"{call.path} begins with {kind}: {orjson.dumps(body)[:300]!r}")

    def _answer(self, call: HttpCall) -> tuple[int, Any] | None:
        """Status and body; None where nobody heard it to the end, and somebody who has ended is why."""
        doors = self._doors()
        if not doors:
            time.sleep(SETTLE_S)
            return None
        part = self._chance.choice(doors)
        start = (part.name, part.process.starts)
        connection = HTTPConnection("127.0.0.1", part.door, timeout=call.within_s)
        try:
            connection.connect()
            self._heard.add(start)
            key = {} if call.what == "no key" else {"authorization": f"Bearer {self._key}"}
            connection.request(call.method, call.path, call.body, {"content-type": call.kind, **key})
            found = connection.getresponse()
            if call.what == "watch" and found.status == call.status:
                return found.status, list(islice(messages_of(found), WATCHED))
            return found.status, orjson.loads(found.read())
        except TimeoutError:
            self._ledger.broken(f"{part.name}: {call.method} {call.path} hangs: no answer in {call.within_s:.0f} s")
        except (OSError, HTTPException, orjson.JSONDecodeError) as error:
            time.sleep(SETTLE_S)
            if start in self._heard and part.goes_on_since(start[1]):
                self._ledger.broken(f"{part.name} goes on, and {call.method} {call.path} broke: {error!r}")
            self._ledger.count("HTTP: the gateway ended")
        finally:
            connection.close()
        return None


def _accepted(refusal: Any) -> int:
    """Of lines, how many before what was refused."""
    return int(refusal.get("error", {}).get("accepted", 0))


def _as_tracked(event: dict[str, Any]) -> dict[str, Any]:
    """An event as trackers of the analytics.js kind say it."""
    properties = {"product_id": event["item_id"]} | ({"value": event["value"]} if "value" in event else {})
    return {
        "type": "track",
        "userId": event["user_id"],
        "event": event["type"],
        "messageId": event["event_id"],
        "timestamp": datetime.fromtimestamp(event["event_time"] / 1000, UTC).isoformat(),
        "properties": properties,
    }


def messages_of(stream: HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Of server-sent events the kind and the body of each; `same` is a comment. Raises IncompleteRead where the stream
    ends."""
    kind = ""
    while line := stream.readline():
        name, _, rest = line.decode().strip().partition(":")
        if name == "event":
            kind = rest.strip()
        elif name == "data":
            yield kind, orjson.loads(rest)
        elif not name and rest:
            yield "same", {}
    raise IncompleteRead(b"")
