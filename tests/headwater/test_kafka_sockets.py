"""Every socket to Kafka asks, when nothing has come for a while, whether the other machine is there."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from headwater.kafka import admin_client, consumer, producer
from headwater.kafka.sockets import IDLE_S
from headwater.settings import Settings
from headwater.topics import EVENTS, topic_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds its sockets in /proc")


def idle_times(settings: Settings) -> dict[str, int]:
    """Of each of this process's connections to Kafka, seconds without a word after which it asks; 0: never."""
    port, found = int(settings.kafka.bootstrap.rsplit(":")[-1]), {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as one:
            if one.family != socket.AF_UNIX and one.getpeername()[1] == port:
                asks = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle_s = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                found[os.readlink(f"/proc/self/fd/{name}")] = asks and idle_s
    return found


def of_new(settings: Settings, before: dict[str, int]) -> set[int]:
    return {idle_s for one, idle_s in idle_times(settings).items() if one not in before}


ASK: dict[Callable[..., Any], Callable[[Any, str], object]] = {
    admin_client: lambda made, _: made.list_topics(),
    consumer: lambda made, _: made.topics(),
    producer: lambda made, topic: made.partitions_for(topic),
}


@pytest.mark.parametrize("client", ASK)
def test_those_of_kafka_python_do(settings: Settings, client: Callable[..., Any]) -> None:
    before = idle_times(settings)
    made = client(settings.kafka)
    try:
        ASK[client](made, topic_name(EVENTS, settings.kafka.prefix))
        assert of_new(settings, before) == {IDLE_S}
    finally:
        made.close()


def test_those_of_aiokafka_do(settings: Settings) -> None:
    made = pytest.importorskip("aiokafka.client", reason="only streams has it")
    importlib.import_module("streams.faust_internals")  # mends it

    async def asked() -> set[int]:
        before = idle_times(settings)
        client = made.AIOKafkaClient(bootstrap_servers=settings.kafka.bootstrap)
        await client.bootstrap()
        try:
            return of_new(settings, before)
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asked()) == {IDLE_S}
