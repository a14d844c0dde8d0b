"""Makes a backup of a world while it runs: each part says by its own offsets how far it is.

Before: a running world. After: `recovery.restore`. The parts need no common moment: the store is behind no mark of
its own, slot by slot; the checkpoint has its place in `examples`; a log that is kept is read again from there. Topics
that are kept for ever are copied to where they end when this begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from headwater.errors import BundleError, HeadwaterError
from headwater.events import now_ms
from headwater.kafka import BoundedReader, Span
from headwater.kafka.groups import committed_offsets, group_runs
from headwater.settings import KafkaSettings, Settings
from headwater.topics import MODEL, REQUESTS, TOPICS, Topic
from models.published.bundle import Bundle
from models.published.layout import METADATA, pack_bundle, pack_metadata
from models.published.signing.records import Announcements
from models.published.signing.trust import trust_of
from models.published.stores import open_store
from recovery.places import BackupPlace
from recovery.sealed import SealedWriter, backups_at, packed, unfinished_at, world_of
from streams.features.store import FeatureStore
from streams.refill import GROUP, GROUP_READ

__all__ = ["BackedUp", "back_up", "fingerprint"]

PIECE_BYTES = 4 << 20
RECORDS_AT_ONCE = 500
UNFINISHED_MS = 86_400_000
"""A backup that was begun so long ago and has not ended was killed."""

log = logging.getLogger("headwater")


@dataclass
class BackedUp:
    """What is in a backup.

    Fields
        name: of it, in its place.
        bytes: that were written.
        keys: of the store.
        records: by topic, of those that are kept for ever.
        checkpoint: name of its file; None where this machine has none.
        bundles: their names.
        removed: older backups that were removed.
        notes: what is not in it, and why.
    """

    name: str = ""
    bytes: int = 0
    keys: int = 0
    records: dict[str, int] = field(default_factory=dict)
    checkpoint: str | None = None
    bundles: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def back_up(
    settings: Settings,
    place: BackupPlace,
    key: bytes | None,
    *,
    keep: int = 0,
    begin: Callable[[], object] = lambda: None,
    progress: Callable[[str], None] = lambda _: None,
) -> BackedUp:
    """Make a backup.

    Parameters
        settings: of the world; `trainer.directory` and `trainer.bundles` where the trainer has them.
        place: where to.
        key: encrypts it; None leaves it readable.
        keep: so many of the newest backups of this world stay, this one among them, and none that was never finished;
            0 keeps all.
        begin: called when nothing is refused any more, and nothing written yet.
        progress: told what is done.

    Raises
        HeadwaterError: the store is too large to be copied beside a running worker, or was written to, or a restore
            into it has not ended.
        Unavailable: a server or the place is away.
        OSError: a disk refuses.
    """
    out = SealedWriter(place, key, now_ms())
    done = BackedUp(out.name)
    runs = group_runs(settings.kafka, GROUP)
    with closing(_store_of(settings)) as store:
        store.refuse_torn()
        if runs:
            store.refuse_many()
    begin()
    logs = _logs(settings.kafka)
    offsets = {
        group: {
            name: {str(number): offset for number, offset in several.items()}
            for name, several in committed_offsets(settings.kafka, group, topics).items()
        }
        for group, topics in ((GROUP, GROUP_READ), ("serving", (REQUESTS,)))
    }
    _store(settings, out, done, live=runs)
    progress(f"{done.keys:,} keys of the store")
    for topic in TOPICS:
        if topic.retention_ms == -1 and topic.name in logs:
            done.records[topic.name] = _topic(settings.kafka, topic, logs[topic.name], out)
    progress(f"{sum(done.records.values()):,} records of topics that are kept for ever")
    _checkpoint(settings.trainer.directory, out, done)
    _bundles(settings, out, done)
    progress(f"checkpoint {done.checkpoint}, bundles {', '.join(done.bundles) or 'none'}")
    out.finish(
        {
            "world": settings.kafka.prefix,
            "shards": settings.redis.shards,
            "logs": logs,
            "offsets": offsets,
            "keys": done.keys,
            "records": done.records,
            "checkpoint": done.checkpoint,
            "bundles": done.bundles,
            "notes": done.notes,
        }
    )
    done.bytes = out.bytes
    if keep > 0:
        done.removed = [*unfinished_at(place, now_ms() - UNFINISHED_MS), *_too_old(place, settings.kafka.prefix, keep)]
        for name in done.removed:
            paths = place.paths(name)
            place.delete([path for path in paths if path.endswith(".json")])
            place.delete([path for path in paths if not path.endswith(".json")])
    return done


def _too_old(place: BackupPlace, world: str, keep: int) -> list[str]:
    return [name for name in backups_at(place) if world_of(place, name) == world][:-keep]


def _logs(kafka: KafkaSettings) -> dict[str, dict[str, dict[str, Any]]]:
    """By topic and partition: where its log begins and ends, and the fingerprint of its last record."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for topic in TOPICS:
        with BoundedReader(kafka, topic) as reader:
            if reader.exists():
                found[topic.name] = {
                    str(span.partition): {
                        "oldest": span.oldest,
                        "end": span.end,
                        "last": fingerprint(reader, span, span.end - 1),
                    }
                    for span in reader.spans()
                }
    return found


def fingerprint(reader: BoundedReader, span: Span, offset: int) -> str | None:
    """What tells the record at an offset from that of another log; None where there is none any more."""
    if not span.oldest <= offset < span.end:
        return None
    record = next(iter(reader.records(span._replace(first=offset, end=offset + 1))), None)
    if record is None:
        return None
    told = (record.offset, record.timestamp, record.key, record.value)
    return sha256(repr(told).encode()).hexdigest()[:32]


def _store(settings: Settings, out: SealedWriter, done: BackedUp, *, live: bool) -> None:
    with closing(_store_of(settings)) as store:
        for some in store.copied(live=live):
            keys = [packed([one.name.encode(), one.kind.encode(), *one.values]) for one in some]
            out.frame("store", packed(keys))
            done.keys += len(keys)


def _store_of(settings: Settings) -> FeatureStore:
    return FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)


def _topic(kafka: KafkaSettings, topic: Topic, ends: dict[str, dict[str, Any]], out: SealedWriter) -> int:
    """Write the records of a topic, as they came; how many."""
    count = 0
    with BoundedReader(kafka, topic) as reader:
        for span in reader.spans(end={int(number): one["end"] for number, one in ends.items()}):
            some: list[bytes] = []
            for record in reader.records(span):
                headers = [part for name, value in record.headers or () for part in (name.encode(), value)]
                told = orjson.dumps([record.partition, record.timestamp])
                some.append(packed([told, record.key, record.value, *headers]))
                count += 1
                if len(some) == RECORDS_AT_ONCE:
                    out.frame(f"topic:{topic.name}", packed(some))
                    some = []
            out.frame(f"topic:{topic.name}", packed(some))
    return count


def _checkpoint(directory: Path, out: SealedWriter, done: BackedUp) -> None:
    for path in sorted(directory.glob("checkpoint-*.ckpt"), reverse=True):
        try:
            file = path.open("rb")
        except FileNotFoundError:  # the trainer has written a newer one meanwhile, and this is its second oldest
            continue
        with file:
            while piece := file.read(PIECE_BYTES):
                out.frame("checkpoint", packed([path.name.encode(), piece]))
        done.checkpoint = path.name
        return
    done.notes.append(
        f"no checkpoint: {directory} has none. Run this where the trainer's directory is (HEADWATER_TRAINER__DIRECTORY)"
    )


def _bundles(settings: Settings, out: SealedWriter, done: BackedUp) -> None:
    """The live bundle, and the newest: what serving starts from, and what answers of now were made with."""
    store = open_store(settings.trainer.bundles, trust_of(settings))
    names = store.names()
    wanted = dict.fromkeys([*_live(settings), *names[-1:]])
    for name in wanted:
        try:
            bundle = store.read(name)
        except (BundleError, HeadwaterError) as error:
            done.notes.append(f"bundle {name} is not in it: {error}")
            continue
        for file, data in _files(bundle):
            for at in range(0, len(data), PIECE_BYTES):
                out.frame("bundle", packed([name.encode(), file.encode(), data[at : at + PIECE_BYTES]]))
        out.frame("bundle-end", packed([name.encode()]))
        done.bundles.append(name)


def _files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    contents = pack_bundle(bundle)
    yield METADATA, pack_metadata(bundle, contents)
    for file, parts in contents.items():
        yield file, b"".join(parts)


def _live(settings: Settings) -> list[str]:
    """Name of the bundle that is live, if any is."""
    live: list[str] = []
    announcements = Announcements(trust_of(settings))
    with BoundedReader(settings.kafka, MODEL) as reader:
        for span in reader.spans() if reader.exists() else ():
            for record in reader.records(span):
                try:
                    version, said = announcements.read(record.key, record.value, record.headers)
                except HeadwaterError as error:
                    log.warning("a record of %s is none of ours", reader.name, extra={"error": str(error)})
                else:
                    live = [said.bundle] if version == 0 and said is not None else live
    return live
