"""grpc.health.v1, which needs no key: who watches waits for a change, and costs nothing until one comes.

Before: `headwater.process.Operations`, looked at once for all. After: balancers and clients.

Source
    grpc.health.v1 (health checking protocol).
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from gateway.rpc.methods import SERVICE
from headwater.process import Operations

__all__ = ["HEALTH", "Health"]

HEALTH = "grpc.health.v1.Health"
LOOK_S = 0.5
"""Between two looks whether it is another."""

_Answer = health_pb2.HealthCheckResponse


class Health:
    """Of one process, in its event loop."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._was = self._is_well()
        self._turned = asyncio.Event()

    def _is_well(self) -> bool:
        return self._operations.stalled() is None

    def look(self) -> None:
        """Wake those who watch where it is another now, or the end."""
        if self._is_well() != self._was or self._operations.stopping.is_set():
            self._was = self._is_well()
            self._turned.set()
            self._turned = asyncio.Event()

    async def follow(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def handlers(self) -> Any:
        """As a server of gRPC takes them."""
        own = (health_pb2.HealthCheckRequest.FromString, _Answer.SerializeToString)
        return grpc.method_handlers_generic_handler(
            HEALTH,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, *own),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, *own),
            },
        )

    def _status(self, name: str) -> int:
        if name not in ("", SERVICE):
            return int(_Answer.SERVICE_UNKNOWN)
        return int(_Answer.SERVING if self._is_well() else _Answer.NOT_SERVING)

    async def _check(self, asked: Any, context: Any) -> Any:
        found = self._status(asked.service)
        if found == _Answer.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no such service: {SERVICE}, or none named")
        return _Answer(status=found)

    async def _watch(self, asked: Any, context: Any) -> None:
        before = None
        while True:
            turned, found = self._turned, self._status(asked.service)
            if found != before:
                await context.write(_Answer(status=found))
                before = found
            if self._operations.stopping.is_set():
                return
            await turned.wait()
