"""Reads `items`, `surfaces` and `erasures` in one thread, `model` and `model-deltas` in another that also watches that
`requests` are finished.

Before: the topics. After: the catalogue, the surfaces and the scorer's model, which these threads alone write.
Knows nothing of requests but how far they are finished.

Why threads: reading a bundle takes 20 ms at 1,700 items and seconds at 100,000, nearly all of it in file reads, hashing
and array copies that release the interpreter's lock; between two batches it would stall requests. Why two: an item that
is taken down waits for no bundle and no delta.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from headwater.errors import InvalidMessage
from headwater.kafka import consumer
from headwater.privacy import Erasure, digest_of, read_erasure
from headwater.process import Operations, Stopped
from headwater.settings import Settings
from headwater.topics import ERASURES, ITEMS, MODEL, MODEL_DELTAS, REQUESTS, SURFACES, Topic, topic_name
from headwater.wire import decode_catalogue_record, decode_surface_record
from serving.catalogue import Catalogue
from serving.model_follower import ModelFollower
from serving.serving_metrics import ServingMetrics
from serving.surfaces import Surfaces

__all__ = ["CatalogueFollower", "ModelTopicsFollower", "TopicFollower"]

WATCH_EVERY_S = 2.0
WATCH_FIRST_S = 0.2
ANSWER_WITHIN_MS = 5000
Offsets = dict[TopicPartition, int]


class TopicFollower(threading.Thread, ABC):
    """A thread with a consumer of its own.

    `caught_up` is set when all is as the topics had it at the start, `turned` with each poll that came back. `error` is
    what ended the thread, if anything did: the worker raises it.
    """

    def __init__(self, name: str, settings: Settings, operations: Operations) -> None:
        super().__init__(name=name, daemon=True)
        self.caught_up = threading.Event()
        self.turned = threading.Event()
        self.error: Exception | None = None
        self._settings = settings
        self._operations = operations

    def run(self) -> None:
        """Until the process stops."""
        kafka = self._settings.kafka
        try:
            reader = self._operations.retry.open("kafka", lambda: consumer(kafka, max_partition_fetch_bytes=4 << 20))
            try:
                self._follow(reader)
            finally:
                reader.close()
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; the worker's loop raises it
            self.error = error

    @abstractmethod
    def _follow(self, reader: KafkaConsumer) -> None: ...

    def _partitions(self, reader: KafkaConsumer, topic: Topic) -> list[TopicPartition]:
        name = topic_name(topic, self._settings.kafka.prefix)
        return [TopicPartition(name, number) for number in sorted(reader.partitions_for_topic(name) or {0})]

    def _poll(self, reader: KafkaConsumer) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        polled: Mapping[TopicPartition, Sequence[ConsumerRecord]] = reader.poll(timeout_ms=200, max_records=500)
        self.turned.set()
        if polled and not self.caught_up.is_set():
            self._operations.progress()
        return polled


class CatalogueFollower(TopicFollower):
    """`items` into the catalogue, `surfaces` to those that requests may name, `erasures` into `forgotten`: digests of
    users, for the worker to take out.
    """

    def __init__(
        self,
        settings: Settings,
        operations: Operations,
        metrics: ServingMetrics,
        catalogue: Catalogue,
        surfaces: Surfaces,
    ) -> None:
        super().__init__("catalogue-follower", settings, operations)
        self.forgotten: deque[str] = deque()
        self._metrics = metrics
        self._catalogue = catalogue
        self._surfaces = surfaces

    def _follow(self, reader: KafkaConsumer) -> None:
        items, surfaces = self._partitions(reader, ITEMS), self._partitions(reader, SURFACES)
        erasures = self._partitions(reader, ERASURES)
        reader.assign(items + surfaces + erasures)
        reader.seek_to_beginning(*items, *surfaces)
        reader.seek_to_end(*erasures)  # nothing is kept of anybody yet
        awaited = reader.end_offsets(items + surfaces, timeout_ms=ANSWER_WITHIN_MS)
        while not self._operations.stopping.is_set():
            for partition, records in self._poll(reader).items():
                if partition in items:
                    self._put_items(records)
                elif partition in erasures:
                    self._forget_users(records)
                else:
                    self._put_surfaces(records)
            if not self.caught_up.is_set() and _reached(reader, awaited):
                self.caught_up.set()

    def _put_items(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            at = f"items[{record.partition}]@{record.offset}"
            try:
                item_id, item = decode_catalogue_record(record.key, record.value, at)
                with self._catalogue.lock:
                    if item is None:
                        self._catalogue.remove(item_id)
                    else:
                        self._catalogue.put(item, record.timestamp)
                    self._catalogue.offsets[str(record.partition)] = record.offset
            except InvalidMessage:  # the streams worker makes it a dead letter
                self._metrics.items_refused.inc()
            except Exception:  # a fault of ours; the topic keeps the record and it would end every process
                self._metrics.items_failed.inc()
                self._operations.log.exception("%s: skipped; the catalogue keeps what it had", at)
        self._metrics.catalogue_items.set(len(self._catalogue))

    def _put_surfaces(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            at = f"surfaces[{record.partition}]@{record.offset}"
            try:
                name, surface = decode_surface_record(record.key, record.value, at)
            except InvalidMessage as error:
                self._metrics.surfaces_refused.inc()
                self._operations.log.error("%s. The last good one stays; `headwater surfaces list` tells.", str(error))
                continue
            if surface is None:
                self._surfaces.remove(name)
            else:
                self._surfaces.put(name, surface)

    def _forget_users(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                found = read_erasure(record.key, record.value, _place(record))
            except InvalidMessage:
                continue  # the streams worker makes it a dead letter
            if isinstance(found, Erasure):
                self.forgotten.append(digest_of(found.user_id))
            elif found is not None:
                self.forgotten.append(found.digest)


class ModelTopicsFollower(TopicFollower):
    """`model` and `model-deltas` into the scorer.

    `finished` tells, for each partition of `requests` that the worker owns, the offset below which all is answered
    and acknowledged; None when the worker's loop, or the thread that follows the catalogue, has not turned since it was
    last asked. `ready` is set by the worker: it is watched less often from then on.
    """

    def __init__(
        self,
        settings: Settings,
        operations: Operations,
        metrics: ServingMetrics,
        model: ModelFollower,
        finished: Callable[[], Mapping[int, int] | None],
    ) -> None:
        super().__init__("model-follower", settings, operations)
        self.ready = threading.Event()
        self._metrics = metrics
        self._model = model
        self._finished = finished
        self._deltas: list[TopicPartition] = []
        self._before: dict[int, int] = {}
        self._watch_at = 0.0

    def _follow(self, reader: KafkaConsumer) -> None:
        model, self._deltas = self._partitions(reader, MODEL), self._partitions(reader, MODEL_DELTAS)
        reader.assign(model + self._deltas)
        reader.seek_to_beginning(*model, *self._deltas)
        reader.pause(*self._deltas)  # until a bundle says from where
        awaited = reader.end_offsets(model, timeout_ms=ANSWER_WITHIN_MS)
        while not self._operations.stopping.is_set():
            for partition, records in self._poll(reader).items():
                if partition in model:
                    for record in records:
                        self._model.announce(record.key, record.value, _place(record), record.headers)
                else:
                    self._apply(records)
            reached = _reached(reader, awaited)
            if reached or self.caught_up.is_set():  # of many announcements only the newest is worth a load
                self._load(reader)
            if reached and not self.caught_up.is_set():
                awaited = self._await_deltas(reader, awaited)
            self._watch(reader)

    def _await_deltas(self, reader: KafkaConsumer, awaited: Offsets) -> Offsets:
        """After the model, the deltas that follow the bundle; then all is as it was at the start."""
        if awaited.keys() & set(self._deltas) or reader.paused():
            self.caught_up.set()
            return {}
        ends: Offsets = reader.end_offsets(self._deltas, timeout_ms=ANSWER_WITHIN_MS)
        return ends

    def _load(self, reader: KafkaConsumer) -> None:
        first = self._model.scorer.version is None  # its session is made and its loops are compiled
        with self._operations.starting() if first else contextlib.nullcontext():
            follow_from = self._model.load()
        if follow_from is not None:
            for partition in self._deltas:
                reader.seek(partition, follow_from)
            reader.resume(*self._deltas)
            gc.collect()
            gc.freeze()  # a collection of the oldest generation would walk all item ids: 30 ms at 100,000

    def _apply(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if self._model.delta(record.headers, record.value, _place(record), record.key):
                self._metrics.deltas_applied.inc()

    def _watch(self, reader: KafkaConsumer) -> None:
        """Progress is: the broker answers, the worker's loop turns, and each partition is finished or has advanced."""
        if time.monotonic() < self._watch_at:
            return
        self._watch_at = time.monotonic() + (WATCH_EVERY_S if self.ready.is_set() else WATCH_FIRST_S)
        finished = self._finished()
        topic = topic_name(REQUESTS, self._settings.kafka.prefix)
        owned = [TopicPartition(topic, number) for number in finished or ()]
        ends = reader.end_offsets(owned or self._deltas, timeout_ms=ANSWER_WITHIN_MS)
        if finished is None:
            return
        lag = {partition.partition: ends[partition] - finished[partition.partition] for partition in owned}
        self._metrics.lag.set(sum(lag.values()))
        if all(behind <= 0 or finished[number] > self._before.get(number, -1) for number, behind in lag.items()):
            self._operations.progress()
        self._before = dict(finished)


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"


def _reached(reader: KafkaConsumer, awaited: Offsets) -> bool:
    return all((reader.position(partition) or 0) >= end for partition, end in awaited.items())
