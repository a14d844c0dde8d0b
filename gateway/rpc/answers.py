"""What each method of gRPC is: from messages to a call, and back to messages.

Before: `gateway.rpc.server`, which has found out who asks. After: `gateway.calls`. Errors are raised as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

import orjson
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from gateway.access import Caller, Denied
from gateway.backend import LONGEST_MS
from gateway.bodies import Hold, refuse_many
from gateway.calls import AGAIN_S, BATCH, EVERY_MS, Calls, TakenIn
from gateway.refusals import ToldError
from gateway.rpc.messages import fields_of, message_of, read_message
from gateway.tokens import After
from headwater.errors import InvalidMessage
from headwater.recommendations import Recommendation

__all__ = ["Answers", "RpcAsked", "Wire"]

HELD_BYTES = 262_144
"""Of a stream that are read ahead, while those before are on their way to Kafka; and one message more."""


class Wire(Protocol):
    """What gRPC gives of one call."""

    async def next(self) -> bytes | None:
        """The next message; None after the last."""

    async def send(self, value: bytes) -> None:
        """Send a message."""


class _Come:
    """Messages that have come and are not taken yet: a few, whatever their size."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ended = False
        self._some: list[bytes] = []
        self._more, self._room = asyncio.Event(), asyncio.Event()

    async def read(self) -> None:
        """Until the last. Raises what `Wire.next` does."""
        held = 0
        try:
            while (value := await self._wire.next()) is not None:
                held = len(value) + (held if self._some else 0)
                self._some.append(value)
                self._more.set()
                if len(self._some) >= BATCH or held >= HELD_BYTES:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._more.set()

    async def taken(self) -> list[bytes]:
        """All of them; none after the last."""
        await self._more.wait()
        some, self._some = self._some, []
        if not self._ended:
            self._more.clear()
        self._room.set()
        return some


class RpcAsked:
    """One call.

    Parameters
        deadline_ms: how long the caller waits; None: as long as it takes.
        still: raises Denied where the caller may not go on.
        hold: told of the bytes of a message that is the whole of a call.
    """

    def __init__(
        self,
        method: MethodDescriptor,
        wire: Wire,
        caller: Caller,
        deadline_ms: int | None,
        still: Callable[[], None],
        hold: Hold,
    ) -> None:
        self.caller = caller
        self.still = still
        self.deadline_ms = deadline_ms
        self._method = method
        self._wire = wire
        self._hold = hold
        self._held = 0

    async def message(self) -> Any:
        """The one message of a call that has one. Raises InvalidMessage; Full, Denied where too much is under way."""
        value = await self._wire.next()
        if value is None:
            raise InvalidMessage("schema", f"{self._method.name} takes a message: {self._method.input_type.name}")
        self._hold(len(value))
        self._held += len(value)
        return self.read(value, "the message")

    def let_go(self) -> None:
        """The message is not needed any more, and the call goes on."""
        self._hold(-self._held)
        self._held = 0

    def read(self, value: bytes, at: str) -> Message:
        """A message of the kind that the method takes. Raises InvalidMessage."""
        return read_message(self._method.input_type, value, at)

    async def pieces(self) -> AsyncGenerator[list[tuple[str, bytes]], None]:
        """The messages of a stream with what errors call them, as many at a time as have come."""
        come = _Come(self._wire)
        reading = asyncio.create_task(come.read())
        number = 0
        try:
            while some := await come.taken():
                yield [(f"message {number + place}", one) for place, one in enumerate(some, 1)]
                number += len(some)
            await reading  # raises why it ended
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def answer(self, **fields: Any) -> None:
        """Send a message of the kind that the method gives."""
        await self._wire.send(message_of(self._method.output_type, fields).SerializeToString())

    async def accepted(self, taken: TakenIn) -> None:
        """Send an Accepted."""
        await self.answer(accepted=taken.accepted, after=taken.after.text())


class Answers:
    """One method for each of the table."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def _message(self, asked: RpcAsked) -> Any:
        with self._calls.reading(asked.caller):
            return await asked.message()

    async def _fields(self, asked: RpcAsked) -> dict[str, Any]:
        with self._calls.reading(asked.caller):
            return fields_of(await asked.message(), "the message")

    async def _several(self, asked: RpcAsked, one: str) -> tuple[Any, list[dict[str, Any]]]:
        """A message that holds many, and what each of them says; `one`: what one is called."""
        with self._calls.reading(asked.caller):
            told = await asked.message()
            several = getattr(told, f"{one}s")
            refuse_many(len(several), f"{one}s")
            return told, [fields_of(each, f"{one} {place}") for place, each in enumerate(several)]

    async def send_events(self, asked: RpcAsked) -> None:
        """SendEvents"""
        told, given = await self._several(asked, "event")
        await asked.accepted(await self._calls.events(asked.caller, given, wait=not told.no_wait))

    async def stream_events(self, asked: RpcAsked) -> None:
        """StreamEvents"""
        read = lambda value, at: fields_of(asked.read(value, at), at)  # noqa: E731
        async with contextlib.aclosing(asked.pieces()) as pieces:
            await asked.accepted(await self._calls.lines(asked.caller, pieces, asked.still, read))

    async def identify(self, asked: RpcAsked) -> None:
        """Identify"""
        await asked.accepted(await self._calls.identify(asked.caller, await self._fields(asked)))

    async def recommend(self, asked: RpcAsked) -> None:
        """Recommend"""
        await self._recommend(asked, await self._fields(asked))

    async def similar(self, asked: RpcAsked) -> None:
        """Similar"""
        told = await self._fields(asked)
        await self._recommend(asked, {"context_item": told.pop("item_id", None), **told})

    async def _recommend(self, asked: RpcAsked, fields: dict[str, Any]) -> None:
        with self._calls.reading(asked.caller):
            brought = _brought(fields)
        if asked.deadline_ms is not None:
            fields["deadline_ms"] = min(asked.deadline_ms, LONGEST_MS)
        found = await self._calls.recommend(asked.caller, fields, brought)
        await asked.answer(**found.model_dump())

    async def stream_recommendations(self, asked: RpcAsked) -> None:
        """StreamRecommendations"""
        with self._calls.reading(asked.caller):
            told = await asked.message()
            fields = fields_of(told.request, "request")
            brought = _brought(fields)
        every_ms = told.every_ms if told.HasField("every_ms") else EVERY_MS
        lists = await self._calls.watch(asked.caller, fields, brought, asked.still, every_ms)
        asked.let_go()
        async with contextlib.aclosing(lists):
            async for one in lists:
                if isinstance(one, Recommendation):
                    await asked.answer(**one.model_dump())
                elif isinstance(one, ToldError):
                    await asked.answer(error={"code": one.code, "message": one.message})
        raise Denied(503, "stopping", "this gateway stops: ask again", AGAIN_S)

    async def get_receipt(self, asked: RpcAsked) -> None:
        """GetReceipt"""
        told = await self._message(asked)
        await asked.answer(**orjson.loads(self._calls.receipt(asked.caller, told.request_id)))

    async def put_items(self, asked: RpcAsked) -> None:
        """PutItems"""
        _, given = await self._several(asked, "item")
        await asked.accepted(await self._calls.put_items(asked.caller, given))

    async def remove_item(self, asked: RpcAsked) -> None:
        """RemoveItem"""
        told = await self._message(asked)
        await asked.accepted(await self._calls.remove_item(asked.caller, told.item_id))

    async def put_users(self, asked: RpcAsked) -> None:
        """PutUsers"""
        _, given = await self._several(asked, "user")
        await asked.accepted(await self._calls.put_users(asked.caller, given))

    async def set_consent(self, asked: RpcAsked) -> None:
        """SetConsent"""
        told = await self._message(asked)
        self._calls.check_consent(asked.caller, told.user_id)
        await asked.accepted(await self._calls.set_consent(told.user_id, fields_of(told.consent, "consent")))

    async def forget_user(self, asked: RpcAsked) -> None:
        """ForgetUser"""
        told = await self._message(asked)
        await asked.accepted(await self._calls.forget_user(asked.caller, told.user_id))

    async def create_token(self, asked: RpcAsked) -> None:
        """CreateToken"""
        await asked.answer(**self._calls.token(asked.caller, await self._fields(asked)))


def _brought(fields: dict[str, Any]) -> After:
    """How far the client's own events have come: all that it has kept of it. Raises InvalidMessage."""
    brought = After()
    for one in fields.pop("after", ()):
        brought = brought.merged(After.read(one))
    return brought
