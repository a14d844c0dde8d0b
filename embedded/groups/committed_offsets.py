"""Committed offsets and the memberships of groups, kept in one append-only file.

It knows no protocol and no clocks. A change is in the operating system's hands before it is acknowledged; the file is
rewritten when most of it is history.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

REWRITE_ABOVE_BYTES = 1 << 20
Partition = tuple[str, int]


class Committed(NamedTuple):
    """One committed position."""

    offset: int
    leader_epoch: int
    metadata: str
    time_ms: int


class CommittedOffsets:
    """The file and what it says now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._live_bytes = 0
        self.commits: dict[str, dict[Partition, Committed]] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self._load()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._fd).st_size

    def commit(self, group: str, positions: dict[Partition, Committed]) -> None:
        """Stores positions of a group."""
        self._write([["commit", group, *partition, *committed] for partition, committed in positions.items()])
        self.commits.setdefault(group, {}).update(positions)

    def remember(self, group: str, facts: dict[str, Any]) -> None:
        """Stores a group's generation and members, so that they outlive the broker process."""
        self._write([["group", group, facts]])
        self.groups[group] = facts

    def forget(self, group: str) -> None:
        """Removes a group with everything it committed."""
        self._write([["forget", group]])
        self.commits.pop(group, None)
        self.groups.pop(group, None)

    def forget_partitions(self, group: str, partitions: list[Partition]) -> None:
        """Removes single positions, of expired commits or deleted topics."""
        self._write([["drop", group, *partition] for partition in partitions])
        for partition in partitions:
            self.commits[group].pop(partition, None)

    def forget_topic(self, topic: str) -> None:
        """Removes what all groups committed for a topic."""
        for group, positions in list(self.commits.items()):
            gone = [partition for partition in positions if partition[0] == topic]
            if gone:
                self.forget_partitions(group, gone)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)

    def _write(self, changes: list[list[Any]]) -> None:
        data = "".join(json.dumps(change, separators=(",", ":")) + "\n" for change in changes).encode()
        if os.write(self._fd, data) != len(data):
            os.ftruncate(self._fd, self._size)
            raise OSError(f"{self._path}: short write (disk full?)")
        self._size += len(data)

    def shrink(self) -> None:
        """Rewrites the file without history once it is four times the size of what is true now."""
        if self._size < max(REWRITE_ABOVE_BYTES, 4 * self._live_bytes):
            return
        changes: list[list[Any]] = [["group", group, facts] for group, facts in self.groups.items()]
        changes += [
            ["commit", group, *partition, *committed]
            for group, positions in self.commits.items()
            for partition, committed in positions.items()
        ]
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(json.dumps(change, separators=(",", ":")) + "\n" for change in changes))
        fd = os.open(temporary, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.fsync(fd)
        os.replace(temporary, self._path)
        os.close(self._fd)
        self._fd = fd
        self._live_bytes = self._size = os.fstat(fd).st_size

    def _load(self) -> None:
        if not self._path.exists():
            return
        valid = 0
        with self._path.open("rb") as source:
            for line in source:
                try:
                    kind, group, *rest = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                valid += len(line)
                if kind == "commit":
                    self.commits.setdefault(group, {})[rest[0], rest[1]] = Committed(*rest[2:])
                elif kind == "group":
                    self.groups[group] = rest[0]
                elif kind == "drop":
                    self.commits.get(group, {}).pop((rest[0], rest[1]), None)
                else:
                    self.commits.pop(group, None)
                    self.groups.pop(group, None)
        os.truncate(self._path, valid)  # a torn last line was never acknowledged
