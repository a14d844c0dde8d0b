"""A gateway with what stands behind it, as apps meet it."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded import free_port
from headwater.kafka import read_topic
from headwater.settings import GatewaySettings, PrivacySettings, Settings
from headwater.topics import EVENTS, Topic
from tests.worlds.processes import LiveWorker, eventually, world_settings

SECRET = "a secret of thirty-two bytes, or more"


@dataclass
class Front:
    """A gateway, and what stands behind it."""

    settings: Settings
    gateway: LiveWorker

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, decoded body and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.gateway.port, timeout=30)
        with contextlib.closing(connection):
            given = body if isinstance(body, bytes | str | None) else json.dumps(body)
            connection.request(method, path, given, {name.replace("_", "-"): one for name, one in headers.items()})
            answer = connection.getresponse()
            text = answer.read()
            told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(text) if "json" in told.get("content-type", "") else text.decode(), told

    def values(self, topic: Topic) -> list[Any]:
        return [json.loads(one.value) for one in read_topic(self.settings.kafka, topic) if one.value is not None]

    def events_of(self, user: str) -> list[dict[str, Any]]:
        several = (one if isinstance(one, list) else [one] for one in self.values(EVENTS))
        return [event for one in several for event in one if event["user_id"] == user]


@contextlib.contextmanager
def front(kafka: str, redis: str, folder: Path, *others: str, consent: str = "off", **fields: Any) -> Iterator[Front]:
    """A world of its own with a gateway, and other workers by their package.

    Parameters
        fields: of GatewaySettings.
    """
    with world_settings(kafka, redis, folder) as made, contextlib.ExitStack() as stack:
        privacy = PrivacySettings.model_validate({"consent": consent})
        settings = made.model_copy(update={"gateway": GatewaySettings(port=free_port(), **fields), "privacy": privacy})
        workers = [LiveWorker(f"{name}.worker", settings, folder / f"{name}.log") for name in ("gateway", *others)]
        for one in workers:
            stack.callback(one.__exit__)
            one.start(wait=False)
        for one in workers:
            eventually(one.is_ready, 60, lambda one=one: f"{one.module} ready; its log:\n{one.tail()}")
        yield Front(settings, workers[0])


@contextlib.contextmanager
def beside(front: Front, folder: Path, env: Mapping[str, str] | None = None, **fields: Any) -> Iterator[Front]:
    """One more gateway in the world of another.

    Parameters
        env: more variables of its environment.
        fields: of GatewaySettings.
    """
    settings = front.settings.model_copy(update={"gateway": GatewaySettings(port=free_port(), **fields)})
    with LiveWorker("gateway.worker", settings, folder / "beside.log", **(env or {})) as started:
        yield Front(settings, started)
