"""Compaction: of the records with one key the last one stays, offsets stay, tombstones go after their time.

Knows nothing of clients. It works in slices of two milliseconds on the broker's own loop and holds at most MAX_KEYS
keys at once; a log with more keys is cleaned over several passes, as Apache Kafka does when its offset map is full.

A crash at any point leaves a readable log: the cleaned file replaces the first segment of its group by one rename, then
the others are removed from the oldest on, and recovery drops those that the rename had already covered. Oldest first
matters: a tombstone must not leave the disk before the value that it deletes.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator

from embedded.log import batch
from embedded.log.batch import DELETE_HORIZON, Header, LogRecord
from embedded.log.partition import PartitionLog
from embedded.log.segment import LogSegment

MAX_KEYS = 250_000
SLICE_S = 0.002


class _Slices:
    """Gives the loop back whenever a slice of work is used up."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE_S

    async def pause(self) -> None:
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + SLICE_S


def due(log: PartitionLog, now_ms: int) -> bool:
    """True if the log has enough superseded or expired bytes to be worth a pass."""
    config = log.config
    closed = _cleanable(log, now_ms)
    if not config.compact or not any(segment.size for segment in closed):
        return False
    if log.next_horizon_ms is None:
        log.next_horizon_ms = min(
            (
                header.first_timestamp
                for segment in closed
                for _, header in segment.walk()
                if header.attributes & DELETE_HORIZON
            ),
            default=-1,
        )
    dirty = [segment for segment in closed if segment.size and segment.last_offset >= log.cleaned_offset]
    if dirty:
        ratio = sum(segment.size for segment in dirty) / max(sum(segment.size for segment in closed), 1)
        if ratio > config.min_cleanable_dirty_ratio or dirty[0].first_timestamp < now_ms - config.max_compaction_lag_ms:
            return True
    return 0 <= log.next_horizon_ms <= now_ms


async def compact(log: PartitionLog, now_ms: int) -> None:
    """One pass over the closed segments. OSError if the log is deleted meanwhile; nothing is lost then."""
    slices = _Slices()
    closed = _cleanable(log, now_ms)
    latest, mapped_to = await _latest_offsets(log, closed, slices)
    log.next_horizon_ms = -1
    for group in _groups(closed, log.config.segment_bytes):
        await _rewrite(log, group, latest, mapped_to, now_ms, slices)
    log.cleaned_offset = max(log.cleaned_offset, mapped_to)


def _cleanable(log: PartitionLog, now_ms: int) -> list[LogSegment]:
    lag = log.config.min_compaction_lag_ms
    closed = []
    for segment in log.segments[:-1]:
        if lag and segment.newest_ms > now_ms - lag:
            break
        closed.append(segment)
    return closed


async def _latest_offsets(log: PartitionLog, closed: list[LogSegment], slices: _Slices) -> tuple[dict[bytes, int], int]:
    latest: dict[bytes, int] = {}
    mapped_to = log.cleaned_offset
    for segment in closed:
        if segment.last_offset < log.cleaned_offset:
            continue
        for position, header in segment.walk():
            if len(latest) >= MAX_KEYS:
                return latest, mapped_to
            for record in batch.records(header, segment.read(position, header.size)):
                if record.key is not None and record.offset >= log.cleaned_offset:
                    latest[_short(record.key)] = record.offset
                await slices.pause()
            mapped_to = header.last_offset + 1
        mapped_to = max(mapped_to, segment.last_offset + 1)
    return latest, mapped_to


def _short(key: bytes) -> bytes:
    return key if len(key) <= 16 else hashlib.blake2b(key, digest_size=17).digest()


def _groups(closed: list[LogSegment], limit: int) -> Iterator[list[LogSegment]]:
    group: list[LogSegment] = []
    size = 0
    for segment in closed:
        if group and size + segment.size > limit:
            yield group
            group, size = [], 0
        group.append(segment)
        size += segment.size
    if group:
        yield group


async def _rewrite(
    log: PartitionLog, group: list[LogSegment], latest: dict[bytes, int], mapped_to: int, now_ms: int, slices: _Slices
) -> None:
    cleaned = LogSegment(log.folder, group[0].base, ".cleaned").create()
    horizons: list[int] = []
    for segment in group:
        for position, header in segment.walk():
            data = segment.read(position, header.size)
            result: tuple[Header, bytes] | None = (header, data)
            if header.base_offset < mapped_to:
                result = await _filtered(header, data, latest, log, now_ms, slices)
            if result is not None:
                cleaned.append(result[0], [result[1]])
                if result[0].attributes & DELETE_HORIZON:
                    horizons.append(result[0].first_timestamp)
            await slices.pause()
    at = log.segments.index(group[0]) if group[0] in log.segments else len(log.segments)
    if log.segments[at : at + len(group)] != group:  # DeleteRecords or retention took them meanwhile
        cleaned.delete()
        return
    cleaned.replace(group[0])
    log.segments[at : at + len(group)] = [cleaned]
    for segment in group[1:]:
        segment.delete()
    cleaned.checkpoint({**log.state(), "cleaned": min(mapped_to, cleaned.last_offset + 1)})
    cleaned.close()
    if horizons:
        known = log.next_horizon_ms if log.next_horizon_ms is not None else -1
        log.next_horizon_ms = min(horizons) if known < 0 else min(known, *horizons)


async def _filtered(
    header: Header, data: bytes, latest: dict[bytes, int], log: PartitionLog, now_ms: int, slices: _Slices
) -> tuple[Header, bytes] | None:
    marked = bool(header.attributes & DELETE_HORIZON)
    expired = marked and header.first_timestamp <= now_ms
    kept: list[LogRecord] = []
    tombstones = False
    for record in batch.records(header, data):
        await slices.pause()
        if (
            record.key is None
            or record.offset < latest.get(_short(record.key), -1)
            or (expired and not record.has_value)
        ):
            continue
        tombstones |= not record.has_value
        kept.append(record)
    if not kept:
        return None
    horizon = now_ms + log.config.delete_retention_ms if tombstones and not marked else None
    if len(kept) == header.records and horizon is None:
        return header, data
    return batch.rebuilt(header, kept, horizon)
