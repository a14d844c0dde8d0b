"""The load of a campaign: apps that send events, items, users, logins and requests, and note what is acknowledged.

One of them uses the SDK, two speak HTTP with gateways; the others are Kafka clients that know nothing of ours. Faults
that are in the load itself (poison, duplicates, late events) are handed in through `also`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from chaos.ledger import LoadLedger
from chaos.load.app import run_app
from chaos.load.over_http import HttpApp, run_http_app
from chaos.load.records import CATALOGUE, Outgoing, Writer
from chaos.load.senders import KafkaPython, Librdkafka, Sender, confluent_kafka_is_here
from chaos.stack import CampaignWorker
from headwater.events import now_ms
from headwater.settings import Settings
from headwater.topics import EVENTS

__all__ = ["Apps"]

END_S = 120.0
HTTP_APPS = 2
"""One waits where the other goes on: a gateway may be held."""


class Apps:
    """All apps of a campaign; a context manager. `unsent` counts what was never acknowledged.

    Parameters
        rate: records a second, of all of them.
        seed: of what they send.
        doors: the gateways that there are.
        key: of their API.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: LoadLedger,
        rate: float,
        seed: int,
        doors: Callable[[], Sequence[CampaignWorker]],
        key: str,
    ) -> None:
        self.ledger = ledger
        self.unsent = 0
        self.failures: list[str] = []
        self._settings = settings
        self._done = threading.Event()
        self._also: queue.SimpleQueue[Outgoing] = queue.SimpleQueue()
        self._poisoner = Writer(f"c{seed}.also", seed, EVENTS.partitions)
        senders: dict[str, type[KafkaPython] | type[Librdkafka]] = {"kafka-python": KafkaPython}
        if confluent_kafka_is_here():
            senders["confluent-kafka"] = Librdkafka
        share = rate / (len(senders) + 2)
        self._threads = [
            threading.Thread(target=self._send, args=(name, made, share, seed), name=name, daemon=True)
            for name, made in senders.items()
        ]
        app = (settings, ledger, share, seed, self._done)
        self._threads.append(threading.Thread(target=self._run, args=(run_app, *app), name="app", daemon=True))
        self._threads += [
            threading.Thread(
                target=self._run, args=(self._call, made, share / HTTP_APPS), name=f"http {n}", daemon=True
            )
            for n, made in enumerate(HttpApp(ledger, doors, f"c{seed}.http{n}", seed, key) for n in range(HTTP_APPS))
        ]

    @property
    def writer(self) -> Writer:
        """Draws the records of faults; used by the thread of the campaign alone."""
        return self._poisoner

    def also(self, records: Iterable[Outgoing]) -> int:
        """Have these sent, too; how many they are."""
        count = 0
        for record in records:
            self._also.put(record)
            count += 1
        return count

    def __enter__(self) -> Apps:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Send no more, and wait until all is acknowledged."""
        self._done.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(END_S)
            if thread.is_alive():
                self.failures.append(f"the producer {thread.name} did not end within {END_S:.0f} s")

    def _run(self, work: object, *given: object) -> None:
        try:
            work(*given)  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001  # whatever ends a producer is told at the end
            self.failures.append(f"{threading.current_thread().name}: {error!r}")

    def _call(self, app: HttpApp, rate: float) -> None:
        self.unsent += run_http_app(app, rate, self._done)

    def _send(self, name: str, made: type[KafkaPython] | type[Librdkafka], rate: float, seed: int) -> None:
        self._run(self._send_by, made(self._settings.kafka, self.ledger, name), name, rate, seed)

    def _send_by(self, sender: Sender, name: str, rate: float, seed: int) -> None:
        writer = Writer(f"c{seed}.{name}", seed, EVENTS.partitions)
        if name == "kafka-python":
            for number in range(CATALOGUE):
                sender.send(writer.item(now_ms(), number))
        due = time.monotonic()
        while not self._done.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / rate, time.monotonic() - 1.0)
            sender.send(writer.next(now_ms()))
            while name == "kafka-python" and not self._also.empty():
                sender.send(self._also.get())
            sender.work()
        self.unsent += sender.finish()
