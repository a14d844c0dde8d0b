"""A world made again of a backup: values first, and the marks that speak of them last.

Before: `recovery.backup` made it; no worker of the world runs. After: the workers start, and read their logs again
from where store and checkpoint are. Where Kafka was lost, too, its topics begin anew: what is kept for ever is sent
again, and the marks of the logs that are gone are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from headwater.errors import HeadwaterError, SettingsError
from headwater.kafka import BoundedReader, ensure_topics, producer
from headwater.kafka.groups import commit_offsets, committed_offsets, group_runs
from headwater.settings import KafkaSettings, Settings
from headwater.topics import DEAD_LETTERS, EXAMPLES, TOPICS, Topic, topic_name
from models.files import sync_directory
from models.published.layout import unpack_bundle
from models.published.stores import open_store
from recovery.backup import fingerprint
from recovery.sealed import BackupError, SealedBackup, unpacked
from streams.features.store import Copied, FeatureStore
from streams.refill import GROUP, GROUP_READ
from trainer.checkpoints import Checkpoints
from trainer.gap import accept_gap

__all__ = ["Restored", "restore"]

KINDS = ("store", "topic", "checkpoint", "bundle", "bundle-end")
"""Of frames."""

log = logging.getLogger("headwater")


@dataclass
class Restored:
    """What was restored.

    Fields
        keys: of the store.
        records: sent again, by topic.
        checkpoint, bundles: as in the backup.
        anew: topics that were gone: their logs begin anew.
        notes: what a person should know.
    """

    keys: int = 0
    records: dict[str, int] = field(default_factory=dict)
    checkpoint: str | None = None
    bundles: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def restore(
    backup: SealedBackup,
    settings: Settings,
    *,
    clear: bool = False,
    from_world: str | None = None,
    logs: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Make a world again.

    Parameters
        backup: of which.
        settings: of the world that it is restored into; it must be empty.
        clear: take away first what its store holds.
        from_world: the prefix of the world that the backup is of, where that is another.
        logs: also what Kafka has; without, only store, checkpoint and bundles are made, with all marks as they were.
        progress: told what is done.

    Raises
        BackupError: the backup is damaged, of another world, or of other logs than Kafka has.
        HeadwaterError: the world is not empty, or its workers run.
        SettingsError: `redis.shards` is another, or a trainer runs.
    """
    told = backup.told
    _refuse_other(told, settings, from_world)
    kafka = settings.kafka
    if logs and group_runs(kafka, GROUP):
        raise HeadwaterError(
            f"streams workers run (the group {kafka.prefix}{GROUP} has members): stop all workers first"
        )
    done = Restored(anew=_new_logs(kafka, told["logs"]) if logs else [])
    for kind, _ in backup.frames():  # all of it is whole before anything is written
        if kind.partition(":")[0] not in KINDS:
            raise BackupError(f"backup {backup.name} holds {kind:.40!r}, which this release does not know")
    progress("every chunk is what was written")
    with closing(FeatureStore(settings.redis, kafka.prefix)) as store:
        if clear:
            store.erase()
        if not store.is_empty():
            raise HeadwaterError(
                f"the store at {store.address} is not empty: {kafka.prefix!r} has keys there. Restore into an empty "
                "one, or take away first what is there, --clear"
            )
        with closing(_Files(settings, done)) as files, closing(_Topics(kafka, done)) as topics:
            marks: list[Copied] = []
            for kind, body in backup.frames():
                if kind == "store":
                    marks += _put(store, body, done, told["world"], kafka.prefix)
                elif kind.startswith("topic:"):
                    topics.take(kind.removeprefix("topic:"), body)
                else:
                    files.take(kind, body)
            files.finish()
            topics.finish()
            store.put_copied(marks)
        for topic in GROUP_READ:
            if topic.name in done.anew:
                store.forget_marks(topic, [int(number) for number in told["logs"][topic.name]])
    progress(f"{done.keys:,} keys of the store; {sum(done.records.values()):,} records sent again")
    if logs:
        _offsets(kafka, told["offsets"], done)
    if done.checkpoint and EXAMPLES.name in done.anew:
        accept_gap(settings.trainer.directory)
        done.notes.append("the topic of examples is new: the trainer goes on with what it knows, behind a gap")
    return done


def _refuse_other(told: Mapping[str, Any], settings: Settings, from_world: str | None) -> None:
    world, prefix = told["world"], settings.kafka.prefix
    if world not in (prefix, from_world):
        raise BackupError(
            f"the backup is of the world {world!r}, and kafka.prefix is {prefix!r}. Set HEADWATER_KAFKA__PREFIX, or "
            f"say that this is meant: --from-world {world or repr('')}"
        )
    if told["shards"] != settings.redis.shards:
        raise SettingsError(
            f"the backup is of a store of {told['shards']} slots, and redis.shards is {settings.redis.shards}: set "
            f"HEADWATER_REDIS__SHARDS={told['shards']}"
        )


def _new_logs(kafka: KafkaSettings, logs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Topics that have nothing although the backup knew some. Raises BackupError where one is another log."""
    anew = []
    for topic in TOPICS:
        knew = {int(number): one for number, one in logs.get(topic.name, {}).items() if one["end"] > 0}
        if not knew:
            continue
        with BoundedReader(kafka, topic) as reader:
            spans = {span.partition: span for span in reader.spans()} if reader.exists() else {}
            if not any(span.end for span in spans.values()):
                anew.append(topic.name)
                continue
            for number, one in knew.items():
                span = spans.get(number)
                found = None if span is None else fingerprint(reader, span, one["end"] - 1)
                if span is None or span.end < one["end"] or (found and one["last"] and found != one["last"]):
                    ends = "is not there" if span is None else f"ends at {span.end}"
                    raise BackupError(
                        f"{reader.name}[{number}] is not the log that the backup knew: it {ends}, and ended at "
                        f"{one['end']} then, or other records are in it. Bring that log back, or restore into a world "
                        "whose topics are empty"
                    )
    return anew


def _put(store: FeatureStore, body: bytes, done: Restored, world: str, prefix: str) -> list[Copied]:
    """Write values; the marks, which are to come last."""
    values: list[Copied] = []
    marks: list[Copied] = []
    for one in unpacked(body):
        name, kind, *rest = [part or b"" for part in unpacked(one or b"")]
        copied = Copied(name.decode(), kind.decode(), rest)
        if copied.name.endswith("marks:dead") and world != prefix:
            was, now = (topic_name(DEAD_LETTERS, one).encode() for one in (world, prefix))
            copied = copied._replace(values=[part.replace(was, now, 1) for part in rest])
        (marks if copied.is_mark else values).append(copied)
    store.put_copied(values)
    done.keys += len(values) + len(marks)
    return marks


class _Topics:
    """Sends records again to topics whose logs are gone."""

    def __init__(self, kafka: KafkaSettings, done: Restored) -> None:
        self._kafka = kafka
        self._done = done
        self._partitions: dict[str, int] = {}
        self._client: Any = None

    def take(self, topic: str, body: bytes) -> None:
        if topic not in self._done.anew:
            return
        if self._client is None:
            ensure_topics(self._kafka)
            self._client = producer(self._kafka)
        name = topic_name(topic, self._kafka.prefix)
        for one in unpacked(body):
            told, key, value, *headers = unpacked(one or b"")
            partition, stamp = orjson.loads(told or b"")
            pairs = [((n or b"").decode(), v) for n, v in zip(headers[::2], headers[1::2], strict=True)]
            partitions = self._client.partitions_for(name) or {0}
            self._client.send(name, value, key, pairs, partition if partition in partitions else None, stamp)
            self._done.records[topic] = self._done.records.get(topic, 0) + 1

    def finish(self) -> None:
        if self._client is not None:
            self._client.flush()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class _Files:
    """Writes checkpoint and bundles."""

    def __init__(self, settings: Settings, done: Restored) -> None:
        self._directory = settings.trainer.directory
        self._bundles = open_store(settings.trainer.bundles)
        self._done = done
        self._files: dict[str, bytearray] = {}
        self._checkpoint: Any = None
        self._lock = Checkpoints(self._directory, log)  # no trainer has it, or gets it meanwhile
        if files := self._lock.files():
            self._lock.close()
            raise HeadwaterError(
                f"{self._directory} is not empty: it has {files[0].name}. Move it away, or set "
                "HEADWATER_TRAINER__DIRECTORY to an empty one"
            )

    def take(self, kind: str, body: bytes) -> None:
        name, *rest = [part or b"" for part in unpacked(body)]
        if kind == "checkpoint":
            if self._checkpoint is None:
                self._done.checkpoint = _safe(name.decode())
                self._checkpoint = self._writing(self._done.checkpoint).open("wb")
            self._checkpoint.write(rest[0])
        elif kind == "bundle":
            self._files.setdefault(rest[0].decode(), bytearray()).extend(rest[1])
        else:
            self._done.bundles.append(self._bundles.write(unpack_bundle(name.decode(), self._chunks)))
            self._files = {}

    def _chunks(self, file: str) -> Any:
        if file not in self._files:
            raise FileNotFoundError(file)
        yield memoryview(self._files[file])

    def _writing(self, name: str) -> Path:
        return self._directory / f".{name}.writing"

    def finish(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()
            name = self._done.checkpoint or ""
            self._writing(name).replace(self._directory / name)
            sync_directory(self._directory)

    def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()
        self._lock.close()


def _safe(name: str) -> str:
    """A file's name, and no path. Raises BackupError."""
    if Path(name).name != name or not name.startswith("checkpoint-"):
        raise BackupError(f"the backup names its checkpoint {name:.80!r}: that is no name of one")
    return name


def _offsets(kafka: KafkaSettings, offsets: Mapping[str, Mapping[str, Mapping[str, int]]], done: Restored) -> None:
    """Where Kafka has kept the logs and forgotten the groups, these go on where they were."""
    by_name: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
    for group, topics in offsets.items():
        kept = {name: several for name, several in topics.items() if several and name not in done.anew}
        known = committed_offsets(kafka, group, [by_name[name] for name in kept])
        wanted = {
            name: {int(number): offset for number, offset in several.items()}
            for name, several in kept.items()
            if not known.get(name)
        }
        commit_offsets(kafka, group, wanted)
