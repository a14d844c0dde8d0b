"""What comes to the gateway and is no call counts in the rate of who sends it, whatever door it knocks at."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest

from gateway.access import Denied, Keys, RateLimits
from gateway.bodies import Bodies, TooLarge
from gateway.doors import Doors
from gateway.rpc.answers import Answers, RpcAsked, Wire
from gateway.rpc.messages import message_class, service
from headwater.errors import InvalidMessage
from headwater.process import Operations
from headwater.settings import Settings
from tests.gateway.test_reading import SHOP, asked, calls_of

BODIES = {
    "no JSON": ("events", b"{no"),
    "too deep": ("recommend", b'{"a":' * 40 + b"1" + b"}" * 40),
    "too large": ("put_items", b"[" + b"1," * 600 + b"1]"),
    "no call of a tracker": ("track", b'{"userId":"ann"}'),
    "no batch": ("batch", b'{"batch":7}'),
    "an odd call in a batch": ("batch", b'{"batch":[{"type":"page","userId":"ann"},7]}'),
    "no traits": ("identify", b'{"userId":"ann","traits":[1]}'),
    "no Identity": ("identify", b"7"),
}


@pytest.mark.parametrize("how", BODIES)
def test_a_body_that_is_no_call_counts_as_one(how: str) -> None:
    name, body = BODIES[how]
    doors = Doors(
        calls_of(RateLimits(0.001, 3)), cast(Keys, None), Bodies(1_000), Operations("gateway", Settings().operations)
    )

    async def sent() -> type[Exception]:
        request = asked(body)
        request.scope["query_string"] = b""
        with pytest.raises((InvalidMessage, TooLarge, Denied)) as refused:
            await getattr(doors, name)(request, SHOP)
        return refused.type

    kinds = [asyncio.run(sent()) for _ in range(5)]
    assert set(kinds[:3]) & {InvalidMessage, TooLarge} == set(kinds[:3])
    assert kinds[3:] == [Denied, Denied]


def test_a_list_of_more_than_a_call_holds_counts_as_one() -> None:
    calls = calls_of(RateLimits(0.001, 3))
    for _ in range(3):
        with pytest.raises(InvalidMessage, match="in one call"):
            asyncio.run(calls.put_users(SHOP, [{}] * 10_001))
    with pytest.raises(Denied, match="rate_per_s"):
        asyncio.run(calls.events(SHOP, [{}] * 10_001))


MESSAGES: dict[str, tuple[str, bytes | dict[str, Any] | None]] = {
    "no message": ("Recommend", b"\xff\xff"),
    "none at all": ("ForgetUser", None),
    "a number that JSON has not": ("PutItems", {"items": [{"attributes": {"price": float("nan")}}]}),
    "an after of nobody": ("Recommend", {"user_id": "ann", "after": ["nonsense"]}),
    "that of a stream": ("StreamRecommendations", {"request": {"user_id": "ann", "after": ["nonsense"]}}),
}


@pytest.mark.parametrize("how", MESSAGES)
def test_a_message_that_is_no_call_counts_as_one(how: str) -> None:
    name, given = MESSAGES[how]
    method = service().methods_by_name[name]
    value = message_class(method.input_type)(**given).SerializeToString() if isinstance(given, dict) else given
    answers = Answers(calls_of(RateLimits(0.001, 3)))
    answer = getattr(answers, "".join(f"_{one.lower()}" if one.isupper() else one for one in name)[1:])

    class One:
        async def next(self) -> bytes | None:
            return value

    for wanted in (InvalidMessage, InvalidMessage, InvalidMessage, Denied):
        with pytest.raises(wanted):
            asyncio.run(answer(RpcAsked(method, cast(Wire, One()), SHOP, None, lambda: None, lambda _: None)))


def test_a_call_that_is_one_counts_once() -> None:
    doors = Doors(
        calls_of(RateLimits(0.001, 3)), cast(Keys, None), Bodies(1_000), Operations("gateway", Settings().operations)
    )
    body = orjson.dumps({"batch": [{"type": "track", "userId": "ann", "event": "Product Viewed",
                                    "properties": {"sku": str(number)}} for number in range(3)]})  # fmt: skip

    async def sent() -> int:
        return (await doors.batch(asked(body), SHOP)).status_code

    assert asyncio.run(sent()) == 202
    with pytest.raises(Denied):
        asyncio.run(sent())
