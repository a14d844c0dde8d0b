"""A world for a bench: the broker that was asked for, a store, the workers, a catalogue and a past; and loads on it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from kafka.partitioner.default import murmur2

from benchmarks.ruler.registry import Setup
from benchmarks.traffic import librdkafka
from console.local.supervisor import WORKERS, Supervisor
from headwater.events import Event, Item, now_ms
from headwater.settings import KafkaSettings, load_settings
from headwater.topics import EVENTS, ITEMS, RECOMMENDATIONS, topic_name
from headwater.wire import encode, encode_packed

__all__ = [
    "Replies",
    "broker",
    "fill",
    "newest_bundle",
    "paced",
    "partition_of",
    "process_ids",
    "wait",
    "world",
    "writer",
    "zipf",
]

STALLED_S = 400.0
PACK = 100
OF_A_SHELF = 50
QUIET = {"log_level": 0}
"""A broker ends before its clients do; librdkafka would tell of each connection."""


@contextlib.contextmanager
def broker(setup: Setup) -> Iterator[str]:
    """Address of the broker that was asked for; ours, or Apache Kafka, lives as long as this."""
    if setup.broker == "embedded":
        from embedded import EmbeddedBroker

        with EmbeddedBroker(setup.directory / "kafka") as ours:
            yield ours.address
    elif setup.broker == "kafka":
        from tests.worlds.brokers import ApacheKafka

        with ApacheKafka(setup.directory / "kafka") as apache:
            yield apache.address
    else:
        yield setup.broker


@contextlib.contextmanager
def world(setup: Setup, names: tuple[str, ...] = WORKERS, **sections: dict[str, Any]) -> Iterator[Supervisor]:
    """Workers that are ready, with a store of their own, in a world of their own on the broker.

    Parameters
        names: which workers.
        sections: of the settings.
    """
    directory = setup.directory
    bundles = directory / "models"
    trainer = {"directory": directory / "trainer", "bundles": bundles, **sections.pop("trainer", {})}
    linger = {"linger_ms": 0} if setup.broker == "embedded" else {}
    with broker(setup) as address:
        settings = load_settings(
            kafka={"bootstrap": address, "prefix": f"bench{os.getpid()}.", **linger},
            trainer=trainer,
            serving={"bundles": bundles, **sections.pop("serving", {})},
            **sections,
        )
        with Supervisor(
            directory,
            settings,
            embedded_kafka=False,
            embedded_redis=True,
            say=lambda line: print(line, file=sys.stderr),
            names=names,
        ) as made:
            yield made


def writer(kafka: KafkaSettings) -> Producer:
    """A producer that partitions as everybody does here, and takes all it is given."""
    said = {"linger.ms": kafka.linger_ms, "enable.idempotence": True, "partitioner": "murmur2"}
    return Producer({**librdkafka(kafka), **QUIET, **said, "queue.buffering.max.messages": 2_000_000})


def partition_of(user: str) -> int:
    """Where the events of a user are."""
    return int(murmur2(user.encode()) & 0x7FFFFFFF) % EVENTS.partitions


def zipf(items: int, count: int, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    """Items by number, drawn as people choose them: the one of rank r about 1 / (r + 10) of the time."""
    share = 1 / (np.arange(items) + 10.0)
    return np.searchsorted(np.cumsum(share / share.sum()), chance.random(count)).clip(max=items - 1)


def fill(made: Supervisor, *, items: int, events: int, users: int) -> None:
    """A catalogue, a past in which each item has an event and `events` more are as `zipf` has them; all learned."""
    kafka, chance = made.settings.kafka, np.random.default_rng(0)
    out, shelves = writer(kafka), max(items // OF_A_SHELF, 20)
    for number in range(items):
        item = Item(item_id=f"item-{number}", title=f"Item {number}", categories=(f"shelf-{number % shelves}",))
        out.produce(topic_name(ITEMS, kafka.prefix), key=item.item_id, value=encode(item))
    chosen = np.concatenate([chance.permutation(items), zipf(items, events, chance)])
    of_users = chance.integers(0, users, len(chosen))
    begin = now_ms() - 86_400_000
    told = (
        (f"user-{user}", f"item-{item}", begin + 10 * n)
        for n, (user, item) in enumerate(zip(of_users, chosen, strict=True))
    )
    packed(out, kafka, told)
    out.flush()
    if "trainer" in made.workers:
        wait(lambda: learned(made) >= len(chosen), lambda: learned(made), f"{len(chosen):,} examples are learned")
    else:
        wait(lambda: applied(made) >= len(chosen), lambda: applied(made), f"{len(chosen):,} events are applied")


def packed(out: Producer, kafka: KafkaSettings, told: Iterator[tuple[str, str, int]]) -> None:
    """Write views of (user, item, when), many a record."""
    waiting: dict[int, list[Event]] = {}
    topic = topic_name(EVENTS, kafka.prefix)
    for user, item, when in told:
        partition = partition_of(user)
        several = waiting.setdefault(partition, [])
        several.append(Event(user_id=user, item_id=item, type="view", event_time=when))
        if len(several) == PACK:
            out.produce(topic, value=encode_packed(several), partition=partition)
            several.clear()
            out.poll(0)
    for partition, several in waiting.items():
        if several:
            out.produce(topic, value=encode_packed(several), partition=partition)


def learned(made: Supervisor) -> float:
    """Examples that the trainer has learned."""
    return made.workers["trainer"].metrics().total("headwater_examples_learned_total")


def applied(made: Supervisor) -> float:
    """Events that the streams worker has folded."""
    return made.workers["streams"].metrics().total("headwater_events_applied_total")


def newest_bundle(made: Supervisor, beyond: int = 0) -> Path:
    """The folder of the newest full bundle, of one of a later version than `beyond`."""
    folder = Path(made.settings.trainer.bundles)

    def written() -> list[tuple[int, Path]]:
        found = [(int(path.name[1:].split("-")[0]), path) for path in folder.glob("v*")]
        return [one for one in found if one[0] > beyond]

    wait(lambda: bool(written()), lambda: None, "a bundle is written")
    return max(written())[1]


def wait(done: Callable[[], bool], progress: Callable[[], object], what: str) -> None:
    """Until it is done; a TimeoutError where nothing moves for `STALLED_S`."""
    last, since = progress(), time.monotonic()
    while not done():
        if (now := progress()) != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > STALLED_S:
            raise TimeoutError(f"not yet: {what}; nothing moved for {STALLED_S:.0f} s (at {last})")
        time.sleep(0.2)


def process_ids(made: Supervisor) -> dict[str, int]:
    """Of the workers, and of broker and store where their command lines name the port; Linux tells."""
    found = {name: worker.pid for name, worker in made.workers.items() if worker.pid is not None}
    kafka, redis = made.settings.kafka.bootstrap, made.settings.redis.url.get_secret_value()
    ports = {"broker": kafka.rpartition(":")[2], "store": redis.rpartition(":")[2].partition("/")[0]}
    ours = {os.getpid(), *found.values()}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if int(entry.name) in ours or words.startswith("sh "):  # a shell guards each server
                continue
            found |= {name: int(entry.name) for name, port in ports.items() if re.search(rf"\b{port}\b", words)}
    return found


def paced(rate: float, seconds: float, send: Callable[[int], None]) -> float:
    """Call `send(n)` on a fixed schedule, late or not (no coordinated omission); when it began, on the clock."""
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        if (left := began + number / rate - time.perf_counter()) > 0:
            time.sleep(left)
        send(number)
    return began


Answered = tuple[bytes | None, bytes, dict[str, bytes]]


def _answered(record: Message) -> Answered:
    if record.error():
        raise RuntimeError(str(record.error()))
    return record.key(), record.value() or b"", dict(record.headers() or [])


class Replies:
    """Reads what comes from now on in partition 0 of a topic."""

    def __init__(self, kafka: KafkaSettings, topic: str | None = None) -> None:
        name = topic or topic_name(RECOMMENDATIONS, kafka.prefix)
        self._reader = Consumer(
            {**librdkafka(kafka), **QUIET, "group.id": f"{kafka.prefix}{name}", "enable.auto.commit": False}
        )
        end = self._reader.get_watermark_offsets(TopicPartition(name, 0), timeout=30)[1]
        self._reader.assign([TopicPartition(name, 0, end)])

    def read(self, within_s: float) -> Sequence[Answered]:
        """Key, value and headers of what is there, as soon as there is any; none where none comes within the time."""
        first = self._reader.poll(within_s)
        return [] if first is None else [_answered(one) for one in (first, *self._reader.consume(1000, 0))]

    def read_for(self, seconds: float) -> Sequence[Answered]:
        """Key, value and headers of all that comes within so long."""
        return [_answered(one) for one in self._reader.consume(1_000_000, seconds)]

    def close(self) -> None:
        """Let go."""
        self._reader.close()
