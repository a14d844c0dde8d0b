"""A partition: segments in a row, the rules for appending, and lookups by offset and time.

Knows nothing of topics' names, groups or the wire. A batch is in the operating system's hands before `append` returns,
so an acknowledged record survives kill -9 of this process. It does not wait for the disk: a power cut may lose the last
seconds.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from embedded.log import batch
from embedded.log.batch import Header, LogRecord
from embedded.log.producers import Producers
from embedded.log.segment import LogSegment
from embedded.log.topic_settings import TopicConfig
from embedded.protocol import Code

_PLACE = struct.Struct(">qii")  # what the broker assigns: base offset, (length,) leader epoch
CHECKPOINT_EVERY_BYTES = 32 << 20  # bounds what a restart reads again


class Appended(NamedTuple):
    """Outcome of an append; `base_offset` and `time_ms` are -1 where they do not apply."""

    code: Code
    base_offset: int = -1
    time_ms: int = -1


class PartitionLog:
    """One partition's records on disk."""

    def __init__(self, folder: Path, config: TopicConfig) -> None:
        self.folder = folder
        self.config = config
        self.segments: list[LogSegment] = []
        self.producers = Producers()
        self.start_offset = 0
        self.end_offset = 0
        self.cleaned_offset = 0  # compaction has seen everything below
        self.next_horizon_ms: int | None = (
            None  # when the earliest waiting tombstone may go, once compaction has looked
        )
        self.watchers: set[Callable[[int], None]] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._recover()

    # --- append

    def append(self, data: batch.Buffer, now_ms: int) -> Appended:
        """Appends one batch as a producer sent it, or says why not.

        Duplicates of idempotent producers are acknowledged again.
        """
        try:
            header = batch.parse(data)
        except struct.error:
            return Appended(Code.CORRUPT_MESSAGE)
        refusal = self._refusal(header, data, now_ms)
        if refusal is not Code.NONE:
            return Appended(refusal)
        if header.producer_id >= 0:
            code, duplicate_of = self.producers.check(header)
            if code is not Code.NONE or duplicate_of is not None:
                return Appended(code, -1 if duplicate_of is None else duplicate_of)
        time_ms = -1
        if self.config.log_append_time:
            header, data = batch.stamped(header, data, now_ms)
            time_ms = now_ms
        header = header._replace(base_offset=self.end_offset, leader_epoch=0)
        place = _PLACE.pack(header.base_offset, header.length, 0)
        try:
            self._segment_for(header, now_ms).append(header, [place, memoryview(data)[_PLACE.size :]])
        except OSError:
            return Appended(Code.KAFKA_STORAGE_ERROR)
        self._note(header, now_ms)
        for watcher in tuple(self.watchers):
            watcher(header.size)
        return Appended(Code.NONE, header.base_offset, time_ms)

    def _refusal(self, header: Header, data: batch.Buffer, now_ms: int) -> Code:
        config = self.config
        if header.magic != 2:
            return Code.UNSUPPORTED_FOR_MESSAGE_FORMAT if header.magic in (0, 1) else Code.CORRUPT_MESSAGE
        if header.length < batch.HEADER_BYTES - batch.PREFIX_BYTES or header.size > len(data):
            return Code.CORRUPT_MESSAGE
        if header.size < len(data):
            return Code.INVALID_RECORD  # since produce v3 a request carries one batch per partition
        if header.size > config.max_message_bytes:
            return Code.MESSAGE_TOO_LARGE
        if header.size > config.segment_bytes:
            return Code.RECORD_LIST_TOO_LARGE
        if not batch.checksum_ok(header, data):
            return Code.CORRUPT_MESSAGE
        if header.records < 1 or header.last_offset_delta != header.records - 1:
            return Code.INVALID_RECORD
        if (
            header.attributes & (batch.CONTROL | batch.TRANSACTIONAL)
            or header.attributes & batch.CODEC_MASK not in batch.CODECS
        ):
            return Code.INVALID_RECORD
        if not config.log_append_time and (
            header.max_timestamp > now_ms + config.timestamp_after_max_ms
            or header.first_timestamp < now_ms - config.timestamp_before_max_ms
        ):
            return Code.INVALID_TIMESTAMP
        if config.compact:
            try:
                if batch.lacks_key(header, data):
                    return Code.INVALID_RECORD
            except Exception:  # noqa: BLE001 - a codec's own errors have no common base; whatever it was, the batch cannot be read
                return Code.CORRUPT_MESSAGE
        return Code.NONE

    def _segment_for(self, header: Header, now_ms: int) -> LogSegment:
        active = self.segments[-1]
        limit_ms = self.config.segment_ms
        if self.config.compact:
            limit_ms = min(limit_ms, self.config.max_compaction_lag_ms)
        newest = now_ms if self.config.log_append_time else header.max_timestamp
        if active.size and (
            active.size + header.size > self.config.segment_bytes or 0 <= active.first_timestamp < newest - limit_ms
        ):
            return self.roll()
        return active

    def _note(self, header: Header, now_ms: int) -> None:
        self.end_offset = header.last_offset + 1
        if header.producer_id >= 0:
            self.producers.note(header, now_ms)

    def roll(self) -> LogSegment:
        """Closes the active segment and begins an empty one."""
        if self.segments:
            self.checkpoint()
            self.segments[-1].close()
        self.segments.append(LogSegment(self.folder, self.end_offset).create())
        return self.segments[-1]

    # --- read

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool) -> bytes:
        """Batches from the one that holds `offset`, cut at `max_bytes` as Kafka cuts them: the last may be torn.

        With `at_least_one` the first batch comes whole, whatever its size.
        """
        for segment in self.segments[self._segment_index(offset) :]:
            found = segment.find(offset)
            if found is not None:
                position, header = found
                if header.size > max_bytes:
                    return segment.read(position, header.size) if at_least_one else b""
                return segment.read(position, max_bytes)
        return b""

    def _segment_index(self, offset: int) -> int:
        if offset >= self.segments[-1].base:  # the usual case: readers are near the end
            return len(self.segments) - 1
        low, high = 0, len(self.segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.segments[middle].base <= offset:
                low = middle
            else:
                high = middle - 1
        return low

    def first_since(self, timestamp: int) -> tuple[int, int]:
        """Offset and timestamp of the first record at or after `timestamp`; (-1, -1) if there is none."""
        for segment in self.segments:
            for position, header in segment.since(timestamp):
                for record in self._records(segment, position, header):
                    if record.timestamp >= timestamp and record.offset >= self.start_offset:
                        return record.offset, record.timestamp
        return -1, -1

    def newest(self) -> tuple[int, int]:
        """Offset and timestamp of the record with the greatest timestamp; (-1, -1) if the log is empty."""
        greatest = max(segment.max_timestamp for segment in self.segments)
        return (-1, -1) if greatest < 0 else self.first_since(greatest)

    def _records(self, segment: LogSegment, position: int, header: Header) -> Iterator[LogRecord]:
        return batch.records(header, segment.read(position, header.size))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self.segments)

    # --- what goes away

    def delete_before(self, offset: int) -> None:
        """Moves the start offset up for good; whole segments below it leave the disk."""
        offset = min(offset, self.end_offset)
        if offset <= self.start_offset:
            return
        temporary = self.folder / "start.new"
        temporary.write_text(str(offset))
        temporary.replace(self.folder / "start")
        self.start_offset = offset
        self._drop_dead_segments()

    def retain(self, now_ms: int) -> None:
        """Deletes the segments that retention.ms or retention.bytes lets go, the active one too if all of it is too
        old.
        """
        self.producers.expire(now_ms)
        if not self.config.delete:
            return
        age, room = self.config.retention_ms, self.config.retention_bytes
        if age >= 0 and self.segments[-1].size and all(now_ms - s.newest_ms > age for s in self.segments):
            self.roll()
        surplus = self.size - room if room >= 0 else -1
        while len(self.segments) > 1:
            oldest = self.segments[0]
            surplus -= oldest.size
            if not (age >= 0 and now_ms - oldest.newest_ms > age) and surplus < 0:
                break
            self.start_offset = max(self.start_offset, self.segments[1].base)
            self._drop_dead_segments()

    def _drop_dead_segments(self) -> None:
        if self.start_offset == self.end_offset and self.segments[-1].size:
            self.roll()
        while len(self.segments) > 1 and self.segments[1].base <= self.start_offset:
            self.segments.pop(0).delete()

    # --- recovery, checkpoints, closing

    def _recover(self) -> None:
        for leftover in [*self.folder.glob("*.cleaned"), *self.folder.glob("*.new")]:
            leftover.unlink()
        for path in sorted(self.folder.glob("*.log")):
            segment = LogSegment(self.folder, int(path.stem))
            if self.segments and segment.base <= self.segments[-1].last_offset:
                segment.delete()  # merged into the one before it by a compaction that was killed before its end
                continue
            self.segments.append(segment)
            segment.recover(self._restore, self._replay)
            self.end_offset = max(self.end_offset, segment.last_offset + 1, segment.base)
        self.close_inactive()
        if not self.segments:
            self.segments.append(LogSegment(self.folder, 0).create())
        marker = self.folder / "start"
        moved = int(marker.read_text()) if marker.exists() else 0
        self.start_offset = min(max(self.segments[0].base, moved), self.end_offset)

    def _replay(self, header: Header) -> None:
        if header.producer_id >= 0:
            self.producers.note(header, header.max_timestamp)

    def _restore(self, state: dict[str, Any]) -> None:
        self.producers.load(state["producers"])
        self.cleaned_offset = max(self.cleaned_offset, state["cleaned"])

    def checkpoint(self, at_least: int = 1) -> None:
        """Saves the active segment's index if it has grown by `at_least` bytes, so that a restart reads little."""
        active = self.segments[-1]
        if active.size - active.checkpointed >= at_least:
            active.checkpoint(self.state())

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the index."""
        return {"producers": self.producers.dump(), "cleaned": self.cleaned_offset}

    def close_inactive(self) -> None:
        """Closes the files of all but the active segment; a later read opens them again."""
        for segment in self.segments[:-1]:
            segment.close()

    def close(self) -> None:
        """Checkpoints and closes all files."""
        self.checkpoint()
        for segment in self.segments:
            segment.close()
