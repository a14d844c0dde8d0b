"""One file of a partition's log, with a sparse index over it.

Knows nothing of topics, producers or retention. An index entry stands every 4 KiB, so a gigabyte costs 6 MB of memory
however small its batches are, and a lookup walks the headers of at most one interval.
"""

import json
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from embedded.log import batch
from embedded.log.batch import HEADER_BYTES, Header

INDEX_INTERVAL_BYTES = 4096
_WALK_WINDOW = INDEX_INTERVAL_BYTES + HEADER_BYTES
_RECOVERY_WINDOW = 1 << 20


class LogSegment:
    """Batches from `base` on, in `<base>.log`.

    `<base>.index` is a checkpoint of the index; the truth never needs it.
    """

    def __init__(self, folder: Path, base: int, suffix: str = ".log") -> None:
        self.base = base
        self.path = folder / f"{base:020d}{suffix}"
        self.index_path = self.path.with_suffix(".index" if suffix == ".log" else f"{suffix}-index")
        self.size = 0
        self.last_offset = base - 1
        self.first_timestamp = -1
        self.max_timestamp = -1
        self.checkpointed = 0  # bytes that the index file covers
        self._offsets = array("q")
        self._positions = array("q")
        self._times = array("q")  # the greatest timestamp BEFORE the entry's position
        self._fd = -1

    @property
    def fd(self) -> int:
        """The open file, opened when first needed; OSError once it is deleted."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        return self._fd

    def create(self) -> "LogSegment":
        """Begins the file, empty."""
        self.index_path.unlink(missing_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        return self

    def close(self) -> None:
        """Closes the file; a later read opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def delete(self) -> None:
        """Removes log and index from the disk."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.index_path.unlink(missing_ok=True)

    def replace(self, other: "LogSegment") -> None:
        """Takes the place of `other` on disk in one step."""
        other.close()
        other.index_path.unlink(missing_ok=True)  # it describes the file that goes
        os.replace(self.path, other.path)
        self.path, self.index_path = other.path, other.index_path

    @property
    def newest_ms(self) -> int:
        """Greatest timestamp; the file's own time where records carry none."""
        return self.max_timestamp if self.max_timestamp >= 0 else int(os.fstat(self.fd).st_mtime * 1000)

    def append(self, header: Header, parts: list[batch.Buffer]) -> None:
        """Writes one batch whose header carries its final offsets.

        OSError, with the file as before, if the disk refuses.
        """
        try:
            written = os.writev(self.fd, parts)
            if written != header.size:
                raise OSError(f"{self.path}: wrote {written} of {header.size} bytes (disk full?)")
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.note(header)

    def note(self, header: Header) -> None:
        """Takes a batch that stands at the end of the file into the index."""
        if not self._positions or self.size - self._positions[-1] >= INDEX_INTERVAL_BYTES:
            self._offsets.append(header.base_offset)
            self._positions.append(self.size)
            self._times.append(self.max_timestamp)
        if self.first_timestamp < 0:
            self.first_timestamp = header.first_timestamp
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)
        self.last_offset = header.last_offset
        self.size += header.size

    def find(self, offset: int) -> tuple[int, Header] | None:
        """Position and header of the first batch that ends at or after `offset`."""
        if offset > self.last_offset or not self._positions:
            return None
        entry = max(bisect_right(self._offsets, offset) - 1, 0)
        for position, header in self.walk(self._positions[entry]):
            if header.base_offset + header.last_offset_delta >= offset:
                return position, header
        return None

    def since(self, timestamp: int) -> Iterator[tuple[int, Header]]:
        """Positions and headers of the batches that hold a record of `timestamp` or later."""
        if self.max_timestamp < timestamp or not self._positions:
            return
        entry = max(bisect_left(self._times, timestamp) - 1, 0)
        for position, header in self.walk(self._positions[entry]):
            if header.max_timestamp >= timestamp:
                yield position, header

    def walk(self, position: int = 0) -> Iterator[tuple[int, Header]]:
        """Every batch from `position` on, headers only."""
        window, start = b"", position
        while position < self.size:
            if position - start + HEADER_BYTES > len(window):
                window, start = os.pread(self.fd, _WALK_WINDOW, position), position
            header = batch.parse(window, position - start)
            yield position, header
            position += header.length + batch.PREFIX_BYTES

    def read(self, position: int, size: int) -> bytes:
        """Bytes of the file, never past its valid end."""
        return os.pread(self.fd, min(size, self.size - position), position)

    def recover(self, restore: Callable[[dict[str, Any]], None], seen: Callable[[Header], None]) -> None:
        """Reads the file as a crash left it: takes the checkpoint, verifies what came later, cuts a torn tail off.

        `restore` gets the state stored with the checkpoint, if there is one; then `seen` gets each header behind it.
        """
        length = os.fstat(self.fd).st_size
        state = self._load_checkpoint(length)
        if state is not None:
            restore(state)
        window, start = b"", self.size
        while self.size + HEADER_BYTES <= length:
            at = self.size - start
            if at + HEADER_BYTES > len(window):
                window, start, at = os.pread(self.fd, _RECOVERY_WINDOW, self.size), self.size, 0
            header = batch.parse(window, at)
            if (
                header.magic != 2
                or header.length < HEADER_BYTES - batch.PREFIX_BYTES
                or self.size + header.size > length
            ):
                break
            if at + header.size > len(window):
                window, start, at = os.pread(self.fd, max(_RECOVERY_WINDOW, header.size), self.size), self.size, 0
            if header.base_offset <= self.last_offset or not batch.checksum_ok(header, window, at):
                break
            self.note(header)
            seen(header)
        if self.size < length:
            os.ftruncate(self.fd, self.size)

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Writes the index and `state` beside the log, so that a restart need not read the file again."""
        facts = {
            "size": self.size,
            "last_offset": self.last_offset,
            "first_timestamp": self.first_timestamp,
            "max_timestamp": self.max_timestamp,
            "entries": len(self._offsets),
            "state": state,
        }
        temporary = self.index_path.with_suffix(".index.new")
        with temporary.open("wb") as out:
            out.write(json.dumps(facts).encode() + b"\n")
            for column in (self._offsets, self._positions, self._times):
                column.tofile(out)
        os.replace(temporary, self.index_path)
        self.checkpointed = self.size

    def _load_checkpoint(self, length: int) -> dict[str, Any] | None:
        try:
            with self.index_path.open("rb") as source:
                facts = json.loads(source.readline())
                columns = [array("q") for _ in range(3)]
                for column in columns:
                    column.fromfile(source, facts["entries"])
        except (FileNotFoundError, ValueError, EOFError, KeyError):
            return None
        if facts["size"] > length:
            return None
        self.size = self.checkpointed = facts["size"]
        self.last_offset, self.first_timestamp = facts["last_offset"], facts["first_timestamp"]
        self.max_timestamp = facts["max_timestamp"]
        self._offsets, self._positions, self._times = columns
        state: dict[str, Any] = facts["state"]
        return state
