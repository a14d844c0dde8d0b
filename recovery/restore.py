"""A world made again of a backup: values first, and the marks that speak of them last.

Before: `recovery.backup` made it; no worker of the world runs, and none starts before this has ended: the store and
the trainer's directory say so. After: the workers start, and read their logs again from where store and checkpoint
are. Where Kafka was lost, too, its topics begin anew: what is kept for ever is sent again, and the marks of the logs
that are gone are left out. What a restore that was killed has begun a file in the trainer's directory says: the next
one of the same backup does it again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from headwater.errors import HeadwaterError, SettingsError
from headwater.kafka import BoundedReader, ensure_topics, read_topic
from headwater.kafka.groups import commit_offsets, committed_offsets, group_runs
from headwater.kafka.sending import ManyRecords
from headwater.privacy import ErasureFact
from headwater.privacy.audit_log import write_audit
from headwater.settings import KafkaSettings, Settings
from headwater.topics import AUDIT, CONSENTS, DEAD_LETTERS, ERASURES, EVENTS, EXAMPLES, TOPICS, Topic, topic_name
from models.files import sync_directory, write_synced
from models.published.layout import unpack_bundle
from models.published.signing.trust import UntrustedBundleError, trust_of
from models.published.stores import open_store
from recovery.backup import fingerprint
from recovery.forgotten import Forgotten, forget_places, known_facts, without_place
from recovery.sealed import BackupError, SealedBackup, unpacked
from streams.features.store import Copied, FeatureStore
from streams.refill import GROUP, GROUP_READ
from trainer.checkpoints import UNDER_WAY, Checkpoints
from trainer.gap import Leave, accept_gap

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
        forgotten: ids that were forgotten after the backup was made: what it knows of them was left out.
        notes: what a person should know.
    """

    keys: int = 0
    records: dict[str, int] = field(default_factory=dict)
    checkpoint: str | None = None
    bundles: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)
    forgotten: int = 0
    notes: list[str] = field(default_factory=list)


def restore(
    backup: SealedBackup,
    settings: Settings,
    *,
    clear: bool = False,
    from_world: str | None = None,
    logs: bool = True,
    facts: Mapping[str, ErasureFact] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Make a world again.

    Parameters
        backup: of which.
        settings: of the world that it is restored into; it must be empty.
        clear: take away first what its store holds.
        from_world: the prefix of the world that the backup is of, where that is another.
        logs: also what Kafka has; without, only store, checkpoint and bundles are made, with all marks as they were.
        facts: who was forgotten, by digest; None asks Kafka, of both worlds.
        progress: told what is done.

    Raises
        BackupError: the backup is damaged, of another world, or of other logs than Kafka has.
        HeadwaterError: the world is not empty, or its workers run.
        SettingsError: `redis.shards` is another, or a trainer runs.
        Unavailable: a server is away, or Kafka does not take a record. Run it again, with `clear`.
    """
    told = backup.told
    _refuse_other(told, settings, from_world)
    kafka = settings.kafka
    if logs and group_runs(kafka, GROUP):
        raise HeadwaterError(
            f"streams workers run (the group {kafka.prefix}{GROUP} has members): stop all workers first (`headwater "
            "up`: stop it, and run `headwater up --servers-only`)"
        )
    for kind, _ in backup.frames():  # all of it is whole before anything is written
        if kind.partition(":")[0] not in KINDS:
            raise BackupError(f"backup {backup.name} holds {kind:.40!r}, which this release does not know")
    progress("every chunk is what was written")
    done = Restored()
    known = known_facts(settings, (kafka.prefix, told["world"])) if facts is None else facts
    with closing(FeatureStore(settings.redis, kafka.prefix, privacy=settings.privacy)) as store:
        if not clear and not store.is_empty():
            raise HeadwaterError(
                f"the store at {store.address} is not empty: {kafka.prefix!r} has keys there. Restore into an empty "
                "one, or take away first what is there, --clear"
            )
        with closing(_Files(settings, backup, done)) as files:
            done.anew = _new_logs(kafka, told["logs"], files.begun or ()) if logs else []
            deed = {"backup": backup.name, "world": told["world"], "clear": clear}
            if logs and AUDIT.name not in done.anew:
                write_audit(kafka, "restore", deed)
            files.begin()
            store.tell_restoring(backup.name)
            store.erase(restoring=True)
            _write(backup, store, files, Forgotten(settings, known), kafka)
            if logs and AUDIT.name in done.anew:  # behind those that were sent again
                write_audit(kafka, "restore", deed)
            progress(f"{done.keys:,} keys of the store; {sum(done.records.values()):,} records sent again")
            if logs:
                _offsets(kafka, told["offsets"], done)
            if done.checkpoint and EXAMPLES.name in done.anew:
                accept_gap(settings.trainer.directory, Leave.ANOTHER_LOG)
                done.notes.append("the topic of examples is new: the trainer goes on with what it knows, behind a gap")
            store.tell_restoring(None)
            files.end()
    return done


def _write(
    backup: SealedBackup, store: FeatureStore, files: _Files, forgotten: Forgotten, kafka: KafkaSettings
) -> None:
    """Store, files and topics; of the store the marks last."""
    told, done = backup.told, files.done
    marks: list[Copied] = []
    with closing(_Topics(kafka, done)) as topics:
        for kind, body in backup.frames():
            if kind == "store":
                marks += _put(store, _copied(body, told["world"], kafka.prefix), done, forgotten)
            elif kind.startswith("topic:"):
                topics.take(kind.removeprefix("topic:"), body, forgotten)
            else:
                files.take(kind, body)
        files.finish()
        topics.finish()
    done.forgotten = forgotten.take_away(store)
    if EVENTS.name in done.anew:  # places in the log of then would hide what comes into this one
        forget_places(kafka, store, forgotten.facts.values())
    store.put_copied(marks)
    for topic in (*GROUP_READ, CONSENTS):
        if topic.name in done.anew:
            store.forget_marks(topic, [int(number) for number in told["logs"][topic.name]])


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


def _new_logs(
    kafka: KafkaSettings, logs: Mapping[str, Mapping[str, Mapping[str, Any]]], begun: Sequence[str]
) -> list[str]:
    """Topics that have nothing although the backup knew some, or had nothing when this was begun. Raises BackupError
    where one is another log.
    """
    anew = []
    for topic in TOPICS:
        knew = {int(number): one for number, one in logs.get(topic.name, {}).items() if one["end"] > 0}
        if not knew:
            continue
        if topic.name in begun:
            anew.append(topic.name)
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


def _copied(body: bytes, world: str, prefix: str) -> Iterator[Copied]:
    """The keys of one frame, as they are called in the world that they are restored into."""
    for one in unpacked(body):
        name, kind, *rest = [part or b"" for part in unpacked(one or b"")]
        copied = Copied(name.decode(), kind.decode(), rest)
        if copied.own == "marks:dead" and world != prefix:
            was, now = (topic_name(DEAD_LETTERS, one).encode() for one in (world, prefix))
            copied = copied._replace(values=[part.replace(was, now, 1) for part in rest])
        yield copied


def _put(store: FeatureStore, keys: Iterator[Copied], done: Restored, forgotten: Forgotten) -> list[Copied]:
    """Write values; the marks, which are to come last."""
    values: list[Copied] = []
    marks: list[Copied] = []
    for copied in keys:
        forgotten.saw(copied)
        (marks if copied.is_mark else values).append(copied)
    store.put_copied(values)
    done.keys += len(values) + len(marks)
    return marks


class _Topics:
    """Sends records again to topics whose logs are gone. One that is sent twice, by a restore that was killed and by
    the next, changes nothing; of those of the audit log each is sent once.
    """

    def __init__(self, kafka: KafkaSettings, done: Restored) -> None:
        self._kafka = kafka
        self._done = done
        self._audited: set[bytes] | None = None  # digests of the records of the audit log that are there
        self._sends: ManyRecords | None = None

    def take(self, topic: str, body: bytes, forgotten: Forgotten) -> None:
        """The records of one frame; what they say of forgotten people also where they are not sent."""
        records = [unpacked(one or b"") for one in unpacked(body)]
        if topic == ERASURES.name:
            for _, key, value, *_headers in records:
                forgotten.told(key, value)
        if topic not in self._done.anew:
            return
        if self._sends is None:
            wanted = [one for one in TOPICS if one.name in self._done.anew or not one.made_when_used]
            ensure_topics(self._kafka, topics=wanted)  # a broker makes one that it lets expire, or none
            self._sends = ManyRecords(self._kafka)
        for told, key, value, *headers in records:
            if topic != AUDIT.name or not self._was_sent(value):
                partition, stamp = orjson.loads(told or b"")
                pairs = [((n or b"").decode(), v) for n, v in zip(headers[::2], headers[1::2], strict=True)]
                if topic == ERASURES.name and EVENTS.name in self._done.anew:
                    value = without_place(key, value)
                self._sends.send(topic, key, value, pairs, partition, stamp)

    def _was_sent(self, value: bytes | None) -> bool:
        """Whether a record of the audit log is there: each has a digest of its own, and no two are alike."""
        if self._audited is None:
            there = read_topic(self._kafka, AUDIT, missing_ok=True)
            self._audited = {sha256(record.value or b"").digest() for record in there}
        return sha256(value or b"").digest() in self._audited

    def finish(self) -> None:
        if self._sends is not None:
            self._sends.finish()
            self._done.records = dict(self._sends.taken)

    def close(self) -> None:
        if self._sends is not None:
            self._sends.close()


class _Files:
    """Writes checkpoint and bundles, and what is under way.

    Fields
        begun: topics that were gone when a restore of this backup was begun that has not ended; None where none was.
    """

    def __init__(self, settings: Settings, backup: SealedBackup, done: Restored) -> None:
        self.done = done
        self._directory = settings.trainer.directory
        self._trust = trust_of(settings)
        self._bundles = open_store(settings.trainer.bundles, self._trust)
        self._of = {"backup": backup.name, "world": settings.kafka.prefix}
        self._files: dict[str, bytearray] = {}
        self._checkpoint: Any = None
        self._lock = Checkpoints(self._directory, log)  # no trainer has it, or gets it meanwhile
        try:
            self.begun = self._begun()
            files = self._lock.files()
            if files and (self.begun is None or files[0].name != backup.told["checkpoint"]):
                raise HeadwaterError(
                    f"{self._directory} is not empty: it has {files[0].name}. Move it away, or set "
                    "HEADWATER_TRAINER__DIRECTORY to an empty one"
                )
        except HeadwaterError:
            self._lock.close()
            raise

    def _begun(self) -> list[str] | None:
        path = self._directory / UNDER_WAY
        try:
            said = orjson.loads(path.read_bytes())
            of, anew = {name: said[name] for name in self._of}, [str(one) for one in said["anew"]]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise HeadwaterError(f"{path} says of no restore ({error!r:.100}): move {self._directory} away") from error
        if of != self._of:
            raise HeadwaterError(
                f"{path}: a restore of backup {of['backup']} into the world {of['world']!r} was begun and has not "
                f"ended. Run that again, --name {of['backup']}; or, to begin with another one, move {self._directory} "
                "away and delete the topics of the world"
            )
        return anew

    def begin(self) -> None:
        """From here on something is written; whoever comes after a kill goes on."""
        path = self._directory / UNDER_WAY
        written = path.with_name(f".{path.name}")
        write_synced(written, [orjson.dumps({**self._of, "anew": self.done.anew})])
        written.replace(path)
        sync_directory(self._directory)

    def end(self) -> None:
        """All of it is there."""
        (self._directory / UNDER_WAY).unlink()

    def take(self, kind: str, body: bytes) -> None:
        name, *rest = [part or b"" for part in unpacked(body)]
        if kind == "checkpoint":
            if self._checkpoint is None:
                self.done.checkpoint = _safe(name.decode())
                self._checkpoint = self._writing(self.done.checkpoint).open("wb")
            self._checkpoint.write(rest[0])
        elif kind == "bundle":
            self._files.setdefault(rest[0].decode(), bytearray()).extend(rest[1])
        else:
            try:
                bundle = unpack_bundle(name.decode(), self._chunks, self._trust)
            except UntrustedBundleError as error:  # a trainer that starts publishes another
                self.done.notes.append(f"bundle {name.decode()} was left out: {error}")
            else:
                self.done.bundles.append(self._bundles.write(bundle))
            self._files = {}

    def _chunks(self, file: str) -> Any:
        if file not in self._files:
            raise FileNotFoundError(file)
        yield memoryview(self._files[file])

    def _writing(self, name: str) -> Path:
        return self._directory / f".{name}.writing"

    def finish(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.flush()
            os.fsync(self._checkpoint.fileno())
            self._checkpoint.close()
            name = self.done.checkpoint or ""
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
