"""The model that answered, built again: from a bundle, from a bundle and deltas, or by learning the log anew.

Before: a receipt's version, digest and number of examples. After: `replay.explain` scores with it. What is rebuilt is
what answered or nothing: its digest, over every weight, must be the receipt's. Reads files and topics, writes none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headwater.errors import BundleError, CheckpointError, InvalidMessage, SourceError, Unavailable
from headwater.examples import CatalogueEntry, Example, unpack
from headwater.kafka import end_offsets, read_partitions, read_topic
from headwater.recommendations import Receipt
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES, MODEL_DELTAS, as_kept
from models.config import model_config
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler
from models.published.layout import parse_name
from models.published.signing.records import read_delta
from models.published.signing.trust import Trust, trust_of
from models.published.stores import BundleStore, open_store
from trainer.examples_log import Progress, refuse_beyond
from trainer.shares import EntryPlace, Shares, read_shares

__all__ = ["PASSED_OVER", "from_deltas", "learn_log", "learned_anew", "rebuild_model"]

FAR = EntryPlace(sys.maxsize, 0)

PASSED_OVER = "the trainer was given leave to pass over examples (--accept-gap)"
"""How the reason begins where the log still has, or has again, what was not learned."""


def rebuild_model(settings: Settings, receipt: Receipt) -> tuple[Bundle | None, str]:
    """The receipt's model (None: there was none yet) and how it was come by: what costs least is tried first.

    Raises SourceError, which names what is missing for each way.
    """
    if receipt.model_version is None:
        return None, "no model yet"
    tried: list[str] = []
    for way in (from_disk, from_deltas, learned_anew):
        found = way(settings, receipt, tried)
        if found is not None:
            bundle, how = found
            extra = {**bundle.extra, "examples_seen": receipt.model_examples}
            return replace(bundle, version=receipt.model_version, extra=extra), how
    raise SourceError(f"model {receipt.model_version} ({_short(receipt)}) cannot be rebuilt: {'; '.join(tried)}.")


def _short(receipt: Receipt) -> str:
    return (receipt.model_digest or "")[:16]


def _bundles(store: BundleStore) -> list[tuple[int, str, str]]:
    """Version, start of the digest and name of every bundle that is kept, newest first."""
    return [(*said, name) for name in reversed(store.names()) if (said := parse_name(name))]


def from_disk(settings: Settings, receipt: Receipt, tried: list[str]) -> tuple[Bundle, str] | None:
    """The bundle itself, whatever version it was published under; what stands in the way is added to `tried`."""
    store = open_store(settings.trainer.bundles, trust_of(settings))
    try:
        for version, digest, name in _bundles(store):
            if not _short(receipt).startswith(digest):
                continue
            try:
                bundle = store.read(name)
            except BundleError as error:
                tried.append(str(error))
            else:
                if bundle.digest == receipt.model_digest:
                    return bundle, f"bundle {version} on disk"
    except Unavailable as error:
        tried.append(str(error))
    return None


def from_deltas(settings: Settings, receipt: Receipt, tried: list[str]) -> tuple[Bundle, str] | None:
    """A bundle before it, or the untrained model, and the deltas in between."""
    wanted = receipt.model_version or 0
    before, offsets = _chain(settings, wanted)
    if wanted not in before:
        kept = as_kept(MODEL_DELTAS, settings.kafka.retention_days).kept
        tried.append(f"delta {wanted} is not in the log of deltas (kept for {kept})")
        return None
    links = [wanted]  # versions that a delta leads to, newest first; each follows on the next
    while before[links[-1]] in before:
        links.append(before[links[-1]])
    oldest = before[links[-1]]
    store = open_store(settings.trainer.bundles, trust_of(settings))
    try:
        bundles = _bundles(store)
    except Unavailable as error:
        bundles = []
        tried.append(str(error))
    for version, name in [*((v, name) for v, _, name in bundles), (oldest, None)]:
        follow = next((link for link in links if before[link] == version), None)
        if follow is None:
            continue
        try:
            bundle = _untrained(settings, version) if name is None else store.read(name)
            _apply(settings, bundle, wanted, offsets[follow])
        except (BundleError, Unavailable) as error:
            if name is not None or isinstance(error, Unavailable):  # of the untrained one the last line tells enough
                tried.append(str(error))
            continue
        if bundle.digest == receipt.model_digest:
            what = "the untrained model" if name is None else f"bundle {version} on disk"
            return bundle, f"{what} and {links.index(follow) + 1} deltas up to version {wanted}"
    tried.append(
        f"the deltas lead back to version {oldest}, which is not the untrained model of these settings, and no bundle "
        "since then is left on disk"
    )
    return None


def _chain(settings: Settings, newest: int) -> tuple[dict[int, int], dict[int, int]]:
    """Of each delta up to a version, by version: the version that it follows, and the offset of its first part."""
    before: dict[int, int] = {}
    offsets: dict[int, int] = {}
    trust = trust_of(settings, any_world=True)
    for record in read_topic(settings.kafka, MODEL_DELTAS):
        try:
            headers = read_delta(trust, record.key, record.value, record.headers)
        except InvalidMessage:
            continue
        if headers.parent < headers.version <= newest:  # anything else leads round in a circle
            before[headers.version] = headers.parent
            offsets.setdefault(headers.version, record.offset)
    return before, offsets


def _apply(settings: Settings, bundle: Bundle, wanted: int, offset: int) -> None:
    """Apply the deltas from an offset on until the bundle is the version wanted. Raises BundleError."""
    assembler, trust = DeltaAssembler(), trust_of(settings, any_world=True)
    for _, records in read_partitions(settings.kafka, MODEL_DELTAS, {0: offset}):
        for record in records:
            delta = _collected(assembler, record, wanted, trust)
            if delta is not None and delta.version > bundle.version:
                bundle.apply(delta)
            if bundle.version == wanted:
                return


def _collected(assembler: DeltaAssembler, record: Any, wanted: int, trust: Trust) -> Delta | None:
    """The delta that a record completes; what no trainer wrote is passed over, as serving does."""
    try:
        said = read_delta(trust, record.key, record.value, record.headers)
        return assembler.add(record.value or b"", said) if said.version <= wanted else None
    except (InvalidMessage, BundleError):
        return None


def _untrained(settings: Settings, version: int) -> Bundle:
    """What a trainer publishes before its first example."""
    config = model_config(settings.model.given, settings.signals)
    made = Learner(config, settings.trainer.seed).publish(created_ms=0)
    assert isinstance(made, Bundle)
    made.version = version
    return made


def learned_anew(settings: Settings, receipt: Receipt, tried: list[str]) -> tuple[Bundle, str] | None:
    """The newest checkpoint before it, or nothing at all, and the examples in between, on as many threads as then."""
    torch.set_num_threads(settings.trainer.threads)
    wanted = receipt.model_examples
    if wanted is None:
        tried.append("the receipt does not say how many examples the model had learned")
        return None
    begin = next((span.oldest for span, _ in read_partitions(settings.kafka, EXAMPLES)), 0)
    learner, progress, what, gap = _start(settings, wanted, begin)
    if progress.offset < begin:
        tried.append(
            f"the log of examples begins at offset {begin} (retention), and no checkpoint in "
            f"{settings.trainer.directory} lies between there and example {wanted:,}"
        )
        return None
    _learn_from(settings, learner, progress, wanted, end=_end_before(gap))
    if gap is not None and learner.examples_seen < wanted:
        tried.append(
            f"{PASSED_OVER} and went on at examples[0]@{gap[1]} instead of {gap[0]}, and no checkpoint in "
            f"{settings.trainer.directory} lies between there and example {wanted:,}"
        )
        return None
    if learner.examples_seen != wanted:
        tried.append(f"the log of examples has {learner.examples_seen:,} of the {wanted:,} that it had learned")
        return None
    bundle = learner.publish(created_ms=0, full=True)
    assert isinstance(bundle, Bundle)
    if bundle.digest == receipt.model_digest:
        return bundle, f"{what} and the examples up to number {wanted:,}, learned anew"
    tried.append(
        f"{wanted:,} examples learned anew give digest {bundle.digest[:16]}: other settings (model.overrides, "
        "trainer.seed), a device other than the CPU or another processor learned it"
        + (", or it had learned what the trainer has passed over since (--accept-gap)" if progress.gaps else "")
    )
    return None


def _start(settings: Settings, wanted: int, begin: int) -> tuple[Learner, Progress, str, list[int] | None]:
    """Where learning anew begins, what that is, and the first gap behind it that the trainer went on over."""
    gaps: list[list[int]] = []
    for path in sorted(settings.trainer.directory.glob("checkpoint-*.ckpt"), reverse=True):
        try:
            learner, extra = Learner.load(path, "cpu")
            progress = Progress.from_json(extra["progress"])
        except (CheckpointError, KeyError):
            continue
        gaps = gaps or progress.gaps
        if learner.examples_seen <= wanted and progress.offset >= begin:
            return learner, progress, f"checkpoint {path.name}", next(iter(gaps[len(progress.gaps) :]), None)
    learner = Learner(model_config(settings.model.given, settings.signals), settings.trainer.seed)
    return learner, Progress(), "the untrained model", next(iter(gaps), None)


def _end_before(gap: list[int] | None) -> EntryPlace:
    """How far the log is what the trainer learned; not at all where it is another one since."""
    if gap is None:
        return FAR
    before, after, _ = gap
    return EntryPlace(before if before < after else 0, 0)


def learn_log(
    settings: Settings,
    begin: Path | None = None,
    records: Iterable[Any] | None = None,
    end: EntryPlace = FAR,
) -> tuple[Learner, Progress]:
    """What a trainer has that nothing ever disturbed: all of `examples`, learned in one go.

    Parameters
        settings: Kafka, the model and the trainer's.
        begin: a checkpoint, where not from the first record on with an untrained model.
        records: of the log, where it no longer holds all of them.
        end: where to stop.

    Raises
        Unavailable: Kafka or the topic is not there.
        CheckpointError: there is no such checkpoint.
    """
    torch.set_num_threads(settings.trainer.threads)
    if begin is None:
        learner = Learner(model_config(settings.model.given, settings.signals), settings.trainer.seed)
        progress = Progress()
    else:
        learner, extra = Learner.load(begin, "cpu")
        progress = Progress.from_json(extra["progress"])
    _learn_from(settings, learner, progress, sys.maxsize, records, end)
    return learner, progress


def _learn_from(
    settings: Settings,
    learner: Learner,
    progress: Progress,
    wanted: int,
    records: Iterable[Any] | None = None,
    end: EntryPlace = FAR,
) -> None:
    """Learn on from where a learner stands in the log, until it has learned as many examples as wanted."""
    ends = end_offsets(settings.kafka, EVENTS)
    shares, _ = read_shares(settings.kafka, logging.getLogger("headwater"))
    for record in _records_from(settings, progress.offset) if records is None else records:
        if learner.examples_seen >= wanted or EntryPlace(record.offset, 0) >= end:
            return
        if record.offset < progress.offset:
            continue
        skip = progress.taken if record.offset == progress.offset else 0
        last = end.entry if record.offset == end.offset else None
        entries = _entries(record.value, ends)[skip:last]
        _learn(learner, entries, progress, wanted, EntryPlace(record.offset, skip), shares)


def _records_from(settings: Settings, offset: int) -> Iterator[Any]:
    for _, records in read_partitions(settings.kafka, EXAMPLES, {0: offset}):
        yield from records


def _entries(value: bytes | None, ends: Mapping[int, int]) -> list[Example | CatalogueEntry]:
    """Those of one record; none where the trainer made it a dead letter."""
    try:
        entries = list(unpack(value or b""))
        refuse_beyond(entries, ends)
    except InvalidMessage:
        return []
    return entries


def _learn(
    learner: Learner,
    entries: list[Example | CatalogueEntry],
    progress: Progress,
    wanted: int,
    first: EntryPlace,
    shares: Shares,
) -> None:
    """Learn as the trainer did, under the shares that it decided on, and not beyond the example that is wanted."""
    for i, entry in enumerate(entries):
        if learner.examples_seen >= wanted:
            return
        learner.pace.share = shares.at(first._replace(entry=first.entry + i), learner.pace.share)
        for fresh in progress.take([entry]):
            if isinstance(fresh, Example):
                learner.learn([fresh])
            else:
                learner.observe_item(fresh)
