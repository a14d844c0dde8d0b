"""Proof that a backup can be restored: it is, into an empty world beside the real one, and looked at.

Before: a backup. After: the world of the drill is gone again. Three looks: the features are those that the log makes
(the audit), the checkpoint is one that a trainer goes on from, and a past answer, made again with the restored model,
is the answer of then, byte for byte.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from headwater.errors import HeadwaterError, InvalidMessage, SourceError
from headwater.events import now_ms
from headwater.kafka import BoundedReader
from headwater.privacy import ErasureFact
from headwater.recommendations import Recommendation
from headwater.settings import Settings
from headwater.topics import EVENTS, RECOMMENDATIONS
from headwater.wire import decode_recommendation
from models.learner import Learner
from models.published.layout import parse_name
from recovery.forgotten import known_facts
from recovery.restore import Restored, restore
from recovery.sealed import SealedBackup
from replay.explain import explain_answer
from streams.audit import audit
from streams.features.store import FeatureStore
from trainer.checkpoints import state_digest

__all__ = ["Drill", "drill"]

LOOKED_AT = 500
"""Of the newest answers of a partition, so many are looked at for one that the restored model made."""

TRIED = 3

LEFT_S = 6 * 3600
"""A drill that was begun so long ago was killed: the next one takes away what it left."""

OF_DRILL = re.compile(r"drill([0-9a-f]{8})[0-9a-f]{8}\.$")
"""The end of a drill's prefix: when it began, in seconds, and a word of its own."""


@dataclass
class Drill:
    """What a drill found.

    Fields
        restored: what the backup held.
        failed: what is wrong; a good backup has none.
        passed: what was proven.
        open: what could not be looked at, and why.
        seconds: by step.
    """

    restored: Restored = field(default_factory=Restored)
    failed: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def drill(backup: SealedBackup, settings: Settings, progress: Callable[[str], None] = lambda _: None) -> Drill:
    """Restore a backup into an empty world, look at it, and take it away again.

    Parameters
        backup: of the world of the settings.
        settings: of the world. Its store's server holds the drill's keys meanwhile, under a prefix of their own.
        progress: told what is done.

    Raises
        BackupError: it is damaged.
        Unavailable: a server is away.
    """
    done = Drill()
    world, now_s = settings.kafka.prefix, now_ms() // 1000
    _take_away_what_was_left(settings, now_s)
    prefix = f"{world}drill{now_s:08x}{secrets.token_hex(4)}."  # what may be written under the world's, may under this
    with TemporaryDirectory(prefix="headwater-drill-") as name:
        folder = Path(name)
        drilled = settings.model_copy(
            update={
                "kafka": settings.kafka.model_copy(update={"prefix": prefix}),
                "trainer": settings.trainer.model_copy(
                    update={"directory": folder / "trainer", "bundles": folder / "models"}
                ),
            }
        )
        with closing(FeatureStore(settings.redis, prefix, privacy=settings.privacy)) as store:
            steps: dict[str, Callable[[], None]] = {
                "restore": lambda: _restore(backup, drilled, known_facts(settings, [world]), done, progress),
                "audit": lambda: _audit(settings, store, done),
                "checkpoint": lambda: _checkpoint(folder / "trainer", done),
                "explain": lambda: _explain(settings, folder / "models", done),
            }
            try:
                for step, look in steps.items():
                    began = now_ms()
                    look()
                    done.seconds[step] = (now_ms() - began) / 1000
                    progress(f"{step}: {done.seconds[step]:.1f} s")
            finally:
                store.erase()
    return done


def _take_away_what_was_left(settings: Settings, now_s: int) -> None:
    """By drills that were killed: it is known of people."""
    with closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as store:
        prefixes = store.prefixes("drill")
    for prefix in sorted(prefixes):
        found = OF_DRILL.search(prefix)
        if found is not None and int(found[1], 16) < now_s - LEFT_S:
            with closing(FeatureStore(settings.redis, prefix, privacy=settings.privacy)) as left:
                left.erase()


def _restore(
    backup: SealedBackup,
    drilled: Settings,
    facts: Mapping[str, ErasureFact],
    done: Drill,
    progress: Callable[[str], None],
) -> None:
    world = backup.told["world"]
    done.restored = restore(backup, drilled, from_world=world, logs=False, facts=facts, progress=progress)
    wanted = backup.told["keys"]
    if done.restored.keys != wanted:
        done.failed.append(f"{done.restored.keys:,} keys came back, and the backup counted {wanted:,}")


def _audit(settings: Settings, store: FeatureStore, done: Drill) -> None:
    if not store.standing(EVENTS).highest():
        done.open.append("audit: the store of the backup had folded nothing")
        return
    found = audit(settings, store)
    why = found.first_difference or ""
    if found.ok:
        done.passed.append(f"audit: {found.events_applied:,} events are in the features exactly once")
    elif store.knows_earlier_log():
        done.open.append("audit: the store has events of a log that was before this one, so the log does not make it")
    elif "nothing to compare with" in why:
        done.open.append(f"audit: {why} (retention), so the features cannot be made again from it")
    else:
        done.failed.append(f"audit: {why}")


def _checkpoint(directory: Path, done: Drill) -> None:
    if done.restored.checkpoint is None:
        done.open.append("checkpoint: the backup has none")
        return
    path = directory / done.restored.checkpoint
    try:
        learner, _ = Learner.load(path, "cpu")
    except HeadwaterError as error:
        done.failed.append(f"checkpoint: {error}")
    else:
        done.passed.append(
            f"checkpoint: {learner.examples_seen:,} examples learned, state {state_digest(path)[:16]} ({path.name})"
        )


def _explain(settings: Settings, bundles: Path, done: Drill) -> None:
    """One answer that the restored model made, or that the deltas behind it made, made again."""
    if not done.restored.bundles:
        done.open.append("explain: the backup has no bundle")
        return
    with_them = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"bundles": bundles})})
    known = {said.digest: said.version for name in done.restored.bundles if (said := parse_name(name))}
    answers = [one for one in _answers(settings) if one.receipt.model_version is not None]
    of_bundle = [one for one in answers if any((one.receipt.model_digest or "").startswith(digest) for digest in known)]
    later = [one for one in answers if (one.receipt.model_version or 0) > min(known.values())]
    why = "no answer in the log was made with it, or with deltas behind it"
    for logged in [*of_bundle[-TRIED:], *later[-1:]]:
        try:
            found = explain_answer(with_them, logged)
        except SourceError as error:
            why = str(error)
            continue
        if found.identical:
            done.passed.append(f"explain: request {logged.request_id} answered again, byte for byte ({found.model})")
        else:
            done.failed.append(f"explain: request {logged.request_id}: {found.difference}")
        return
    done.open.append(f"explain: {why}")


def _answers(settings: Settings) -> Iterator[Recommendation]:
    with BoundedReader(settings.kafka, RECOMMENDATIONS) as reader:
        for span in reader.spans() if reader.exists() else ():
            for record in reader.records(span._replace(first=max(span.first, span.end - LOOKED_AT))):
                try:
                    said = decode_recommendation(record.value)
                except InvalidMessage:
                    continue
                if said.error is None:
                    yield said
