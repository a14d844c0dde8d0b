"""A program that answers requests with plain kafka-python and the documented JSON, as any language's client could."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from headwater.settings import KafkaSettings

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


def ranked(request: dict[str, Any]) -> dict[str, Any]:
    """k items named after their rank."""
    items = [
        {"item_id": f"item-{rank}", "rank": rank, "score": 1 / rank} for rank in range(1, request.get("k", 10) + 1)
    ]
    return {"request_id": request["request_id"], "user_id": request["user_id"], "items": items}


class ScriptedAnswers:
    """Answers each request on its reply partition with what `answer` makes of it; None is silence."""

    def __init__(self, kafka: KafkaSettings, answer: Answer = ranked, times: int = 1) -> None:
        self.kafka = kafka
        self.answer = answer
        self.times = times
        self.seen: list[dict[str, Any]] = []
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        server = self.kafka.bootstrap
        consumer = KafkaConsumer(bootstrap_servers=server, auto_offset_reset="earliest", reconnect_backoff_max_ms=500)
        producer = KafkaProducer(bootstrap_servers=server, reconnect_backoff_max_ms=500)
        consumer.subscribe([self.kafka.prefix + "requests"])
        while not self._stopping.is_set():
            for records in consumer.poll(timeout_ms=50).values():
                for record in records:
                    request = json.loads(record.value)
                    self.seen.append(request)
                    headers = dict(record.headers)  # of which a plain client may send none
                    place = headers.get("reply-partition")
                    answer = self.answer(request)
                    for _ in range(self.times if answer is not None else 0):
                        producer.send(
                            self.kafka.prefix + "recommendations",
                            json.dumps(answer).encode(),
                            key=record.key,
                            headers=[(name, one) for name, one in headers.items() if name == "correlation-id"],
                            partition=None if place is None else int(place),
                        )
            if consumer.assignment():  # of a topic that was made just now, a broker may not know the leaders yet
                self._ready.set()
        consumer.close()
        producer.close()

    def __enter__(self) -> ScriptedAnswers:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
