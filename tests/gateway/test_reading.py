"""What the gateway makes of what anybody sends: tracker calls, texts that clients keep, rates."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, cast

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.requests import Request as HttpRequest
from starlette.websockets import WebSocket

from gateway.access import Caller, Denied, Keys, RateLimits, credentials_of, refuse_foreign_page
from gateway.admin_log import AdminLog
from gateway.api_keys import key_id_of, new_key, opens
from gateway.app import make_app
from gateway.backend import Backend, Full
from gateway.bodies import Bodies, Room, TooLarge, TooSlow
from gateway.callers import Callers
from gateway.calls import LEAST_EVERY_MS, MOST_EVERY_MS, Calls
from gateway.doors import Doors
from gateway.metrics import GatewayMetrics
from gateway.open_streams import OpenStreams
from gateway.openapi import document
from gateway.operations import OPERATIONS
from gateway.page.views import Views
from gateway.refusals import RefusedLine
from gateway.refusals import told as told_of
from gateway.sockets import Sockets
from gateway.tokens import After, Speaker, read_speaker, signed
from gateway.tracking import read_batch, read_call
from gateway.worker import GatewayWorker
from headwater import Client, InvalidMessage
from headwater.client import Delivery, Position
from headwater.client.outbox import LinkPosition, new_handle, whole_of
from headwater.errors import DeadlineExceeded, SettingsError, Unavailable
from headwater.events import Event, now_ms
from headwater.process import Operations, Stopped
from headwater.recommendations import Receipt, Recommendation
from headwater.settings import GatewaySettings, KafkaSettings, Settings
from headwater.signals import Signals
from headwater.wire import validated
from tests.worlds.processes import has_ipv6

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=12), one, max_size=4),
    max_leaves=6,
)
FIELDS = ("type", "userId", "anonymousId", "event", "properties", "products", "product_id", "messageId", "traits")


def told(event: str, properties: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    body = {"userId": "ann", "event": event, "properties": properties, "messageId": "m-1", **more}
    return read_call(body, "track").events


def test_events_of_the_ecommerce_specification_have_their_types() -> None:
    (viewed,) = told("Product Viewed", {"product_id": "p-1", "price": 9})
    assert viewed == {"user_id": "ann", "type": "view", "item_id": "p-1", "value": 9.0, "event_id": "m-1"}
    bought = told("Order Completed", {"products": [{"sku": "a"}, {"sku": "b", "price": 2.5}], "revenue": 3})
    assert [(one["type"], one["item_id"], one["event_id"]) for one in bought] == [
        ("purchase", "a", "m-1-0"),
        ("purchase", "b", "m-1-1"),
    ]
    (shown,) = told("Product List Viewed", {"products": [{"product_id": "x"}, {"product_id": "y"}]})
    assert (shown["type"], shown["items"]) == ("impression", ["x", "y"])
    (own,) = told("Put On My-Shelf!", {"id": 7}, timestamp="2026-01-02T03:04:05Z")
    assert (own["type"], own["item_id"]) == ("put_on_my-shelf", "7")
    assert validated(Event, own, "event").event_time == 1767323045000


@pytest.mark.parametrize(
    ("event", "kind", "meaning"),
    [
        ("Product Added", "add_to_cart", "positive"),
        ("Product Removed", "remove_from_cart", "context"),
        ("Product Removed from Wishlist", "remove_from_wishlist", "context"),
        ("Order Refunded", "refund", "context"),
        ("Order Cancelled", "refund", "context"),
        ("Product List Filtered", "impression", "exposure"),
    ],
)
def test_what_is_taken_back_or_merely_shown_is_no_vote_for_its_product(event: str, kind: str, meaning: str) -> None:
    products = [{"sku": "a"}, {"sku": "b"}]
    said = told(event, {"products": products})
    assert {one["type"] for one in said} == {kind}
    assert Signals().meaning(kind, None).value == meaning
    assert (len(said) == 1) is (kind == "impression")
    undone = {"remove_from_cart": "add_to_cart", "remove_from_wishlist": "wishlist", "refund": "purchase"}.get(kind)
    assert undone is None or undone in Signals().of(kind).undoes


def test_what_says_nothing_new_of_its_products_is_no_event() -> None:
    for name in ("Cart Viewed", "Order Updated", "Payment Info Entered"):
        call = {"userId": "ann", "event": name, "properties": {"products": [{"sku": "a"}]}}
        assert "nothing new" in str(read_call(call, "track").ignored)


def test_a_trackers_clock_that_is_ahead_loses_no_event() -> None:
    ahead_ms = 600_000

    def said(at_ms: int, sent_ms: int | None, **more: Any) -> int:
        sent = {} if sent_ms is None else {"sentAt": as_text(sent_ms)}
        (event,) = told("Product Viewed", {"product_id": "p"}, timestamp=as_text(at_ms), **sent, **more)
        return validated(Event, event, "event").event_time

    def as_text(ms: int) -> str:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat()

    now = now_ms()
    assert now - 2_000 <= said(now + ahead_ms - 2_000, now + ahead_ms) <= now_ms() - 2_000
    for untouched in (
        (now - 5_000, now - 4_000),  # it is on its way for a while, or behind: nobody can tell
        (now - 5_000, None),
    ):
        assert said(*untouched) == untouched[0]
    # Segment has corrected this one
    assert said(now - 5_000, now + ahead_ms, originalTimestamp=as_text(now + ahead_ms)) == now - 5_000
    call = {"type": "track", "userId": "ann", "event": "Product Viewed", "properties": {"sku": "p"}}
    (one,) = read_batch({"batch": [{**call, "timestamp": as_text(now + ahead_ms)}], "sentAt": as_text(now + ahead_ms)})
    assert validated(Event, one.events[0], "event").event_time <= now_ms()


def test_a_tracker_tells_of_links_and_attributes_and_of_much_that_is_no_event() -> None:
    said = read_call({"type": "identify", "userId": "ann", "anonymousId": "g", "traits": {"plan": "a", "x": {}}})
    assert said.links == [{"user_id": "ann", "was": "g"}]
    assert said.users == [{"user_id": "ann", "attributes": {"plan": "a"}}]
    assert read_call({"type": "alias", "userId": "ann", "previousId": "g"}).links == [{"user_id": "ann", "was": "g"}]
    assert read_call({"type": "alias", "userId": "ann", "previousId": ["g"]}).links == []
    for body in ({"type": "page", "userId": "ann"}, {"type": "track", "userId": "ann", "event": "Signed Up"}):
        assert read_call(body).ignored
    for name in ("2nd Purchase", "Куплено", "x" * 65):  # no name of a type: it must not take its batch with it
        call = {"type": "track", "userId": "ann", "event": name, "properties": {"sku": "a"}}
        assert "no type of event" in str(read_call(call).ignored)
    for odd in ({"traits": ["plan"]}, {"traits": "plan"}, {"type": "track", "event": ["Signed Up"]}, {"type": "track"}):
        with pytest.raises(InvalidMessage, match=r"batch\[3\]: (traits|event): give"):
            read_call({"type": "identify", "userId": "ann", **odd}, at="batch[3]")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6) | JSON, st.sampled_from((None, "track", "identify")))
def test_whatever_a_tracker_sends_is_read_or_refused(body: Any, kind: str | None) -> None:
    try:
        said = read_call(body, kind)
    except InvalidMessage:
        return
    for event in said.events:
        with contextlib.suppress(InvalidMessage):
            validated(Event, event, "event")


def test_analytics_js_and_its_like_find_the_paths_that_they_call() -> None:
    """analytics.js names a path by the first letter of its kind; RudderStack's and Segment's HTTP API by the whole."""
    keys = Keys(KafkaSettings(), GatewaySettings(), needed=False)
    calls = calls_of(RateLimits(None, 1))
    doors = Doors(calls, keys, Bodies(1_000), Operations("gateway", Settings().operations))
    metrics = GatewayMetrics(CollectorRegistry(), lambda: 0, lambda: 0)
    app = make_app(doors, Sockets(calls, keys), Callers(keys, ()), metrics, GatewaySettings())

    def sent(path: str, body: Any) -> Any:
        told = list[Any]()

        async def send(message: Any) -> None:
            told.append(message)

        scope = asked().scope | {
            "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "client": ("127.0.0.1", 1),
        }  # fmt: skip
        asyncio.run(app(scope, asked(orjson.dumps(body)).receive, send))
        assert told[0]["status"] == 202, (path, told)
        return orjson.loads(told[1]["body"])

    call = {"anonymousId": "g", "writeKey": "-", "sentAt": "2026-01-02T03:04:05Z"}
    viewed = {**call, "event": "Product Viewed", "properties": {"product_id": "p"}, "messageId": "m"}
    known = {**call, "userId": "ann", "previousId": "g"}
    for names, body, accepted in (
        (("t", "track"), viewed, 1),
        (("i", "identify"), known, 1),
        (("a", "alias"), known, 1),
        (("p", "page", "s", "screen", "g", "group"), call, 0),
        (("b", "batch"), {"batch": [{**viewed, "type": "track"}]}, 1),
    ):
        for name in names:
            found = sent(f"/v1/{name}", body)
            assert (name, found["accepted"], "ignored" in found) == (name, accepted, not accepted)


def test_positions_survive_as_text_and_add_up() -> None:
    one = After.of([Position(2, 7), Position(2, 5), LinkPosition(0, 3)])
    assert After.read(one.text()) == one == After({"2": 7}, {"0": 3})
    both = one.merged(After({"1": 1, "2": 9}))
    assert both == After({"1": 1, "2": 9}, {"0": 3})
    assert After().text() == ""
    assert After.read(None) == After()


@pytest.mark.parametrize("text", ["x", "e30x", "W10", "eyJlIjpbXX0", "eyJlIjp7IjAiOiJ4In19", "é", "A" * 20_000])
def test_a_text_of_somebody_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidMessage, match="after"):
        After.read(text)


def test_positions_of_many_partitions_are_a_text_that_is_read_again() -> None:
    far = {str(partition): 900_000_000 + partition for partition in range(200)}
    many = After(far, far)
    assert After.read(many.text()) == many


def test_a_token_speaks_for_one_user_until_its_time_is_over() -> None:
    token = signed(b"secret", Speaker("ann", 1000))
    assert read_speaker(b"secret", token, 999) == Speaker("ann", 1000)
    assert read_speaker(b"secret", token, 1000) is None
    assert read_speaker(b"other", token, 0) is None
    body, _, signature = token.removeprefix("hwt_").partition(".")
    for changed in (f"hwt_{body}A.{signature}", f"hwt_{body}", "hwt_", f"hwt_{signature}.{signature}", "hwt_é.é"):
        assert read_speaker(b"secret", changed, 0) is None


def test_a_key_opens_only_itself_and_its_record_does_not_tell_it() -> None:
    made = new_key("shop", ("produce",))
    assert key_id_of(made.text) == made.kept.key_id
    assert opens(made.kept, made.text)
    assert not opens(made.kept, made.text[:-1] + ("A" if made.text[-1] != "A" else "B"))
    assert made.text.split("_", 2)[2] not in made.kept.model_dump_json()
    assert made.kept.hash.startswith("$argon2id$")
    with pytest.raises(InvalidMessage, match="scopes"):
        new_key("shop", ("all",))


def test_where_nobody_is_asked_for_a_key_a_page_of_anybody_is_refused() -> None:
    shop = ["https://shop.example"]
    refuse_foreign_page({}, shop)
    for origin in ("http://localhost:3000", "http://[::1]", "https://shop.example"):
        refuse_foreign_page({"origin": origin, "host": "127.0.0.1:8080", "sec-fetch-site": "cross-site"}, shop)
    refuse_foreign_page({"origin": "https://evil.example", "host": "evil.example"}, ["*"])
    for origin in ("https://evil.example", "null", "http://[", "http://localhost.evil.example"):
        with pytest.raises(Denied, match="cors_origins"):
            refuse_foreign_page({"origin": origin, "host": "127.0.0.1:8080"}, shop)
    refuse_foreign_page({"sec-fetch-site": "same-origin", "host": "localhost"}, shop)
    with pytest.raises(Denied, match="other sites"):
        refuse_foreign_page({"sec-fetch-site": "cross-site", "host": "localhost"}, shop)


def test_a_page_whose_name_was_made_to_point_here_is_not_this_gateway() -> None:
    for host in ("localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "shop.example"):
        refuse_foreign_page({"host": host}, ["https://shop.example"])
    for host in ("evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "user@evil.example"):
        with pytest.raises(Denied, match="not called"):
            refuse_foreign_page({"host": host}, ["https://shop.example"])


@pytest.mark.parametrize("secret", ["", "s" * 31, "s" * 32 + "\n" + "t" * 31, "s" * 32 + "\n\n" + "t" * 32])
def test_a_secret_that_can_be_guessed_signs_no_tokens(secret: str) -> None:
    with pytest.raises(SettingsError, match="32 or more"):
        keys_of(secret)


def keys_of(secret: str) -> Keys:
    return Keys(KafkaSettings(), GatewaySettings.model_validate({"token_secret": secret}), needed=False)


def test_the_secret_of_tokens_is_changed_one_gateway_after_the_other_and_each_token_holds() -> None:
    old, new, speaker = "o" * 32, "n" * 32, Speaker("ann", now_ms() + 60_000)
    steps = [old, f"{old}\n{new}", f"{new}\r\n{old}", new]
    for before, after in pairwise(map(keys_of, steps)):
        for signs in (before, after):
            assert signs.token_secret is not None
            token = signed(signs.token_secret, speaker)
            assert [one.holds(token, "") for one in (before, after)] == [None, None]
    with pytest.raises(Denied):
        keys_of(new).holds(signed(old.encode(), speaker), "")


def test_nobody_waits_behind_a_door_that_cannot_answer_yet() -> None:
    settings = Settings.model_validate({"gateway": {"port": 0}})
    worker = GatewayWorker(settings, Operations("gateway", settings.operations))
    with contextlib.closing(worker), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", worker.port), 5)


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_every_address_is_that_of_either_family() -> None:
    settings = Settings.model_validate({"gateway": {"host": "::", "port": 0}})
    worker = GatewayWorker(settings, Operations("gateway", settings.operations))
    with contextlib.closing(worker), socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("0.0.0.0", worker.port))


def test_a_key_may_come_in_whatever_way_its_sender_knows() -> None:
    for headers in ({"authorization": "Bearer K"}, {"authorization": "Basic Szo="}, {"x-api-key": "K"}):
        assert credentials_of(headers, {}) == "K"
    assert credentials_of({}, {"key": "K"}) == "K"
    assert credentials_of({"authorization": "Basic ?"}, {}) is None


def test_a_caller_over_its_rate_is_told_how_long_to_wait() -> None:
    rates, caller = RateLimits(0.001, 3), Caller("k", frozenset())
    for _ in range(3):
        rates.take(caller)
    with pytest.raises(Denied) as denied:
        rates.take(caller)
    assert denied.value.status == 429
    assert denied.value.retry_after_s == pytest.approx(1000, rel=0.1)
    other = Caller("other", frozenset())
    rates.take(other, 100.0)  # a burst is as much as there is at once
    with pytest.raises(Denied) as denied:
        rates.take(other)
    assert denied.value.retry_after_s == pytest.approx(98_000, rel=0.1)  # what was taken beyond it is waited for


def test_many_first_requests_with_one_key_take_one_hash_and_who_guesses_at_one_is_told_why_she_waits() -> None:
    hashed = list[str]()

    class Slow:
        def known(self, credentials: str | None, _: str) -> Caller | None:
            return Caller("shop", frozenset()) if credentials in hashed else None

        def caller(self, credentials: str) -> Caller:
            hashed.append(credentials)
            return Caller("shop", frozenset())

    async def ask(*keys: str) -> list[Any]:
        callers = Callers(cast(Keys, Slow()), ())
        return await asyncio.gather(*(callers.known(key, "10.0.0.7") for key in keys), return_exceptions=True)

    ours = f"hw_{7:012x}_{'a' * 43}"
    assert {one.name for one in asyncio.run(ask(*[ours] * 80))} == {"shop"}
    assert hashed == [ours]
    theirs = [f"hw_{1:012x}_{number:043}" for number in range(80)]
    *denied, last = asyncio.run(ask(*theirs, f"hw_{2:012x}_{'a' * 43}"))
    assert last.name == "shop", "behind a balancer all have one address"
    denied = [one for one in denied if isinstance(one, Denied)]
    assert denied
    assert {(one.status, one.code) for one in denied} == {(429, "key_tries")}
    assert "rate_per_s" not in str(denied[0])


def asked(*chunks: bytes, ends: bool = True) -> HttpRequest:
    """A request whose body comes in such pieces, and then no more."""
    left = [{"type": "http.request", "body": one, "more_body": True} for one in chunks]

    async def receive() -> Any:
        if left:
            return left.pop(0)
        return {"type": "http.request", "body": b""} if ends else await asyncio.Event().wait()

    return HttpRequest({"type": "http", "headers": []}, receive)


async def whole(bodies: Bodies, request: HttpRequest) -> Any:
    async with bodies.json(request, SHOP) as body:
        return body


def test_a_body_comes_in_within_its_bounds_or_is_refused() -> None:
    bodies = Bodies(limit=10, within_s=0.01)
    assert asyncio.run(whole(bodies, asked(b"[1", b",2]"))) == [1, 2]
    with pytest.raises(TooLarge):
        asyncio.run(whole(bodies, asked(b"[1,2,3", b",4,5]")))
    with pytest.raises(TooSlow):
        asyncio.run(whole(bodies, asked(b"[", ends=False)))

    async def many() -> list[Any]:
        bodies = Bodies(10, 0.2, Room(10))
        return await asyncio.gather(
            *(whole(bodies, asked(b"[" * 9, ends=False)) for _ in range(60)), return_exceptions=True
        )

    assert {type(one) for one in asyncio.run(many())} == {TooSlow, Full}


def test_lines_are_put_together_however_they_are_cut() -> None:
    async def read(*chunks: bytes) -> list[tuple[str, bytes]]:
        return [line async for lines in Bodies(limit=10).lines(asked(*chunks), SHOP) for line in lines]

    whole = b"one\n\nthree\nfour"
    for size in (1, 4, 100):
        cut = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert asyncio.run(read(*cut)) == [("line 1", b"one"), ("line 3", b"three"), ("line 4", b"four")]


def test_a_line_ends_within_its_time_and_what_is_unfinished_of_many_has_one_bound() -> None:
    async def read(bodies: Bodies, *chunks: bytes) -> list[Any]:
        async with contextlib.aclosing(bodies.lines(asked(*chunks, ends=False), SHOP)) as pieces:
            return [one async for one in pieces]

    with pytest.raises(TooSlow, match="line 3: "):
        asyncio.run(read(Bodies(limit=10, within_s=0.01), b"1\n2\n", b"3"))

    async def many() -> None:
        bodies = Bodies(10, 0.2, Room(10))
        unfinished = await asyncio.gather(*(read(bodies, b"1\n", b"2" * 9) for _ in range(60)), return_exceptions=True)
        assert {type(one) for one in unfinished} == {TooSlow, Full}
        assert await whole(bodies, asked(b"[1,2,3,4]")) == [1, 2, 3, 4]  # and there is room again

    asyncio.run(many())


class Takes:
    """What stands behind the door, and takes and answers all at once."""

    def check(self, given: Any, at: str) -> None:
        pass

    async def track(self, events: Sequence[Event], *, wait: bool = True) -> After:
        assert wait
        return After({"0": len(events)})

    def watching(self, _: str | None) -> contextlib.AbstractContextManager[asyncio.Event]:
        return contextlib.nullcontext(asyncio.Event())

    async def send(self, *_: Any) -> list[Position]:
        return []

    async def identify(self, _: Any) -> list[Position]:
        return []

    async def recommend(self, _: Any) -> Recommendation:
        await asyncio.sleep(0)
        return Recommendation(request_id="r", items=(), receipt=Receipt())


def calls_of(rates: RateLimits, behind: Takes | None = None, **fields: Any) -> Calls:
    settings = GatewaySettings.model_validate(fields)
    operations = Operations("gateway", Settings().operations)
    backend = cast(Backend, behind or Takes())
    return Calls(backend, cast(Keys, None), rates, operations, settings, False, cast(AdminLog, None))


LINE = b'{"user_id":"ann","item_id":"i","type":"view"}'
SHOP = Caller("shop", frozenset(("produce", "recommend", "admin")))


async def pieces_of(*lines: bytes, ends: bool = True) -> AsyncGenerator[list[tuple[str, bytes]], None]:
    for line in lines:
        yield [("a line", line)]
    if not ends:
        await asyncio.Event().wait()


def test_a_stream_of_lines_costs_its_length_and_one_of_nothing_costs_something() -> None:
    def sent(calls: Calls, *lines: bytes) -> int:
        return asyncio.run(calls.lines(SHOP, pieces_of(*lines), lambda: None)).accepted

    assert sent(calls_of(RateLimits(0.001, 3)), *[LINE] * 3) == 3
    for lines in ((), (b"{no",)):
        calls = calls_of(RateLimits(0.001, 3))
        for _ in range(3):
            with contextlib.suppress(RefusedLine):
                sent(calls, *lines)
        with pytest.raises(RefusedLine) as refused:
            sent(calls, *lines)
        assert told_of(refused.value).code == "rate"


def test_a_stream_of_events_ends_with_its_gateway_and_is_told_how_many_were_taken() -> None:
    async def sent() -> None:
        calls = calls_of(RateLimits(None, 1))
        sending = asyncio.create_task(calls.lines(SHOP, pieces_of(LINE, LINE, ends=False), lambda: None))
        await asyncio.wait([sending], timeout=0.05)
        calls.end()
        for one, taken in ((sending, 2), (calls.lines(SHOP, pieces_of(ends=False), lambda: None), 0)):
            with pytest.raises(RefusedLine) as refused:
                await one
            said = told_of(refused.value)
            assert (said.status, said.code, said.accepted, said.retry_after_s) == (503, "stopping", taken, 1)

    asyncio.run(asyncio.wait_for(sent(), 20))


def test_one_call_holds_so_many_and_no_more() -> None:
    most = 10_000
    calls = calls_of(RateLimits(None, 1))
    event, track = orjson.loads(LINE), {"type": "track", "userId": "ann", "event": "Order Completed"}

    def order(many: int) -> dict[str, Any]:
        return {**track, "properties": {"products": [{"sku": str(number)} for number in range(many)]}}

    async def batch(*several: dict[str, Any]) -> int:
        operations = Operations("gateway", Settings().operations)
        doors = Doors(calls, cast(Keys, None), Bodies(5_000_000), operations)
        return (await doors.batch(asked(orjson.dumps({"batch": several})), SHOP)).status_code

    assert asyncio.run(calls.events(SHOP, [dict(event) for _ in range(most)])).accepted == most
    assert len(read_call(order(most)).events) == most
    assert asyncio.run(batch(order(most // 2), order(most // 2))) == 202
    for call in (
        lambda: calls.events(SHOP, [event] * (most + 1)),
        lambda: calls.put_items(SHOP, [{"item_id": "i"}] * (most + 1)),
        lambda: calls.put_users(SHOP, [{"user_id": "ann", "attributes": {}}] * (most + 1)),
        lambda: batch(order(most // 2), order(most // 2), order(1)),
        lambda: batch(order(most + 1)),
    ):
        with pytest.raises(InvalidMessage, match="x-ndjson") as refused:
            asyncio.run(call())
        assert refused.value.reason == "too_large"


def test_a_large_call_of_a_tracker_holds_nobody_up_and_costs_its_length_first() -> None:
    products = [{"sku": str(number)} for number in range(5_000)]
    says = read_call({"userId": "ann", "event": "Order Completed", "properties": {"products": products}}, "track")
    turns = list[int]()

    async def others() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def send() -> int:
        beside = asyncio.create_task(others())
        accepted = (await calls_of(RateLimits(None, 1)).tracked(SHOP, [says])).accepted
        beside.cancel()
        return accepted

    assert asyncio.run(send()) == 5_000
    assert len(turns) >= 10
    spent = RateLimits(0.001, 3)
    spent.take(SHOP, 3)
    wrong = says._replace(events=[{"user_id": "ann"}])
    with pytest.raises(Denied, match="rate_per_s"):
        asyncio.run(calls_of(spent).tracked(SHOP, [wrong]))


def test_so_many_streams_are_open_also_where_all_come_at_once() -> None:
    async def come() -> None:
        calls = calls_of(RateLimits(None, 1), max_waiting=3)
        asking = [calls.watch(SHOP, {"user_id": "ann"}, After(), lambda: None) for _ in range(100)]
        lists = await asyncio.gather(*asking, return_exceptions=True)
        assert sorted(type(one).__name__ for one in lists) == ["Full"] * 97 + ["async_generator"] * 3
        (first, *_) = [one for one in lists if not isinstance(one, BaseException)]
        assert isinstance(await anext(first), Recommendation)
        await first.aclose()
        assert await calls.watch(SHOP, {"user_id": "ann"}, After(), lambda: None)

        sending = [calls.lines(SHOP, pieces_of(ends=False), lambda: None) for _ in range(100)]
        done, waiting = await asyncio.wait([asyncio.create_task(one) for one in sending], timeout=0.05)
        refused = [one.exception() for one in done]
        assert {told_of(one).code for one in refused if isinstance(one, RefusedLine)} == {"full"}
        assert len(waiting) == 3
        for one in waiting:
            one.cancel()

    asyncio.run(come())


def test_so_many_look_at_the_figures_of_the_page_also_where_all_come_at_once() -> None:
    keys = Keys(KafkaSettings(), GatewaySettings(), needed=False)
    settings = Settings.model_validate({"gateway": {"max_waiting": 3}})
    views = Views(settings, threading.Event(), str, keys, RateLimits(None, 1))

    async def come() -> list[Any]:
        request = HttpRequest({"type": "http", "headers": [], "query_string": b"", "client": ("127.0.0.1", 1)})
        return await asyncio.gather(*(views.figures(request, SHOP) for _ in range(100)), return_exceptions=True)

    assert sorted(type(one).__name__ for one in asyncio.run(come())) == ["Full"] * 97 + ["StreamingResponse"] * 3


def test_messages_that_cannot_be_decoded_count() -> None:
    came = [{"type": "websocket.connect"}, *[{"type": "websocket.receive", "text": "{no"}] * 4]
    said = list[str]()

    async def receive() -> Any:
        return came.pop(0) if came else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        if "text" in message:
            said.append(orjson.loads(message["text"])["data"]["code"])

    scope = {"type": "websocket", "headers": [], "query_string": b"", "subprotocols": [], "client": ("127.0.0.1", 1)}
    sockets = Sockets(calls_of(RateLimits(0.001, 3)), Keys(KafkaSettings(), GatewaySettings(), needed=False))
    asyncio.run(sockets.stream(WebSocket(scope, receive, send), SHOP, None))
    assert said == ["undecodable"] * 3 + ["rate"]


def test_a_question_ends_at_its_deadline_and_a_drain_whatever_the_client_has_met() -> None:
    stuck, flushed = threading.Event(), list[float]()

    class Stuck:
        def recommend_async(self, *_: Any) -> None:
            stuck.wait(30)

        def track_many(self, events: list[Event]) -> Delivery:
            lost = new_handle()
            lost.set_exception(Unavailable("away"))
            return Delivery(len(events), [lost])

        def flush(self, timeout_s: float) -> None:
            if flushed.append(timeout_s) or len(flushed) == 1:
                raise Unavailable("1 records were not delivered since the last flush")

        def close(self, _: float) -> None:
            stuck.set()

    async def ask() -> None:
        backend = Backend(cast(Client, Stuck()), GatewaySettings())
        several = [backend.recommend({"user_id": "ann", "deadline_ms": 10}) for _ in range(20)]
        for one in await asyncio.gather(*several, return_exceptions=True):
            assert isinstance(one, DeadlineExceeded)
        assert await backend.track([], wait=False) == After()  # events do not stand behind questions
        assert (backend.waiting, backend.lost) == (0, 1)
        await backend.drain(0.0)  # what failed long ago is no reason to end with an error
        backend.close()

    asyncio.run(ask())


def test_who_waits_for_a_kafka_that_says_nothing_is_told_that_the_gateway_stops() -> None:
    class Silent:
        def track_many(self, events: list[Event]) -> Delivery:
            return Delivery(len(events), [new_handle()])

        def recommend_async(self, *_: Any) -> Any:
            return new_handle()

    async def ask() -> None:
        backend = Backend(cast(Client, Silent()), GatewaySettings())
        waits = [asyncio.create_task(backend.track([])), asyncio.create_task(backend.recommend({"user_id": "ann"}))]
        while backend.waiting < len(waits):
            await asyncio.sleep(0.01)
        backend.end()
        for one in [*waits, backend.track([])]:  # also who comes then
            with pytest.raises(Unavailable, match="this gateway stops"):
                await one

    asyncio.run(ask())


def test_a_call_to_a_kafka_that_is_away_ends_with_the_gateway_as_one_that_may_come_again() -> None:
    operations = Operations("gateway", Settings().operations)

    class Away:
        def track_many(self, _: Any) -> Delivery:
            operations.stopping.set()
            raise Unavailable("no Kafka answers at kafka-1.inner:9092")

        def close(self, _: float) -> None:
            pass

    async def send() -> None:
        backend = Backend(operations.retry.open("kafka", lambda: cast(Client, Away())), GatewaySettings())
        with contextlib.closing(backend), pytest.raises(Stopped) as stopped:
            await backend.track([])
        said = told_of(stopped.value)
        assert (said.status, said.code, said.retry_after_s) == (503, "stopping", 1)

    asyncio.run(send())


def test_what_is_said_in_several_records_is_said_when_kafka_has_all() -> None:
    first, second = new_handle(), new_handle()
    whole = whole_of([first, second])
    first.set_result(Position(0, 1))
    assert not whole.done()
    second.set_exception(Unavailable("away"))
    with pytest.raises(Unavailable):
        whole.result(0)
    third, fourth = new_handle(), new_handle()
    whole = whole_of([third, fourth])
    fourth.set_result(Position(1, 9))
    third.set_result(Position(0, 2))
    assert whole.result(0) == Position(0, 2)


def test_a_browser_cannot_take_the_room_of_all_streams() -> None:
    streams, browser, key = OpenStreams(12), Caller("b", frozenset(), "ann"), Caller("k", frozenset())
    with contextlib.ExitStack() as opened:
        for _ in range(8):
            opened.enter_context(streams.one(browser))
        with pytest.raises(Denied, match="of this user"):
            opened.enter_context(streams.one(browser))
        for _ in range(4):
            opened.enter_context(streams.one(key))
        with pytest.raises(Full):
            opened.enter_context(streams.one(key))
    with streams.one(browser):
        pass


def test_a_browser_cannot_take_the_room_of_all_bodies() -> None:
    call = orjson.dumps({"userId": "ann", "event": "Product Viewed", "properties": {"sku": "p"}})

    async def come() -> None:
        operations = Operations("gateway", Settings().operations)
        bodies = Bodies(1_000, room=Room(1_000))
        doors = Doors(calls_of(RateLimits(None, 1)), cast(Keys, None), bodies, operations)

        def unfinished(*callers: Caller) -> list[asyncio.Task[Any]]:
            return [asyncio.create_task(doors.track(asked(b"[" * 1_000, ends=False), one)) for one in callers]

        def browser(user_id: str) -> Caller:
            return Caller(f"browser:{user_id}", frozenset(("produce",)), user_id)

        async def sent(caller: Caller) -> int:
            return (await doors.track(asked(call), caller)).status_code

        of_one = unfinished(*[browser("mallory")] * 20)
        done, waiting = await asyncio.wait(of_one, timeout=0.05)
        assert (await sent(SHOP), await sent(browser("ann"))) == (202, 202)
        assert {told_of(cast(Exception, one.exception())).status for one in done} == {429}
        assert len(waiting) == 1

        of_many = unfinished(*(browser(f"guest-{number}") for number in range(20)))
        done, more = await asyncio.wait(of_many, timeout=0.05)
        assert {told_of(cast(Exception, one.exception())).status for one in done} == {503}
        assert await sent(SHOP) == 202
        for one in (*waiting, *more):
            one.cancel()
        await asyncio.wait((*waiting, *more))
        assert await sent(browser("ann")) == 202

    asyncio.run(come())


def test_what_is_made_of_bodies_is_bounded_until_kafka_has_it() -> None:
    class Away(Takes):
        def __init__(self) -> None:
            self.back = asyncio.Event()

        async def track(self, events: Sequence[Event], *, wait: bool = True) -> After:
            await self.back.wait()
            return await super().track(events, wait=wait)

    async def come() -> None:
        kafka, bodies = Away(), Bodies(10_000, room=Room(10_000))
        doors = Doors(calls_of(RateLimits(None, 1), kafka), cast(Keys, None), bodies, cast(Operations, None))
        large, small = orjson.dumps([orjson.loads(LINE)] * 200), LINE

        def sent(body: bytes) -> asyncio.Task[Any]:
            request = asked(body)
            request.scope["query_string"] = b""
            return asyncio.create_task(doors.events(request, SHOP))

        done, waiting = await asyncio.wait([sent(large) for _ in range(20)], timeout=0.05)
        assert {told_of(cast(Exception, one.exception())).code for one in done} == {"full"}
        assert 1 < len(waiting) <= 5
        more = sent(small)
        with bodies.room.of(SHOP) as hold, pytest.raises(Full):  # as a message of gRPC does
            hold(len(large))
        kafka.back.set()
        assert {one.result().status_code for one in (await asyncio.wait([*waiting, more]))[0]} == {202}
        assert (await sent(large)).status_code == 202

    asyncio.run(come())


def test_what_stands_behind_the_door_is_not_told() -> None:
    for error in (Unavailable("no Kafka at kafka-1.inner:9092"), DeadlineExceeded("late. Ask kafka-1.inner:9092")):
        assert "inner" not in told_of(error).message
    assert "user_id" in told_of(InvalidMessage("schema", "user_id: is missing")).message


def test_the_api_as_openapi_says_what_the_table_says() -> None:
    said = document()
    there = {(method.upper(), path) for path, methods in said["paths"].items() for method in methods}
    assert there == {(one.method, one.path) for one in OPERATIONS}

    (every,) = (one for path in said["paths"].values() for method in path.values()
                for one in method.get("parameters", ()) if one["name"] == "every_ms")  # fmt: skip
    assert (every["schema"]["minimum"], every["schema"]["maximum"]) == (LEAST_EVERY_MS, MOST_EVERY_MS)

    def refs(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(refs(one) for one in node.values()))
        return set().union(*(refs(one) for one in node)) if isinstance(node, list) else set()

    for ref in refs(said):
        assert ref.removeprefix("#/components/schemas/") in said["components"]["schemas"], ref
    for schema in said["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
