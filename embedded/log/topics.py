"""The topics: their names, settings and partitions, and the folder that keeps them.

Before: admin requests and automatic creation. After: logs, one folder each under `topics/`. It knows nothing of
the wire or of groups. `topics.json` is the truth about what exists: it is replaced in one step, before folders of a new
topic are used and before those of a deleted one go, so a crash leaves at most folders that nobody lists; the next start
removes them.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from embedded.log import topic_settings
from embedded.log.partition import PartitionLog
from embedded.protocol import Code

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
PRODUCER_ID_BLOCK = 1000  # ids handed out between two writes of topics.json


class AdminRefused(Exception):
    """A request that this broker will not do: `code` for programs, the text for people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BrokerTopic:
    """A topic with its open logs."""

    def __init__(self, name: str, overrides: dict[str, str | None], folder: Path, partitions: int) -> None:
        self.name = name
        self.folder = folder
        self.overrides = overrides
        self.config = topic_settings.parse(overrides)
        self.partitions: list[PartitionLog] = []
        self.grow(partitions)

    def grow(self, count: int) -> None:
        """Adds partitions until there are `count`."""
        for index in range(len(self.partitions), count):
            self.partitions.append(PartitionLog(self.folder / f"{self.name}-{index}", self.config))

    def configure(self, overrides: dict[str, str | None]) -> None:
        """Replaces the settings, for the open logs too."""
        self.config = topic_settings.parse(overrides)
        self.overrides = overrides
        for log in self.partitions:
            log.config = self.config


class Topics:
    """All topics of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "topics"
        self._table = data_dir / "topics.json"
        self._topics: dict[str, BrokerTopic] = {}
        self._next_producer_id = 0
        self._producer_ids_end = 0
        self.cluster_id = ""
        self._load()

    def __iter__(self) -> Iterator[BrokerTopic]:
        return iter(list(self._topics.values()))

    def get(self, name: str) -> BrokerTopic | None:
        """The topic, or None."""
        return self._topics.get(name)

    def log(self, name: str, index: int) -> PartitionLog | None:
        """The partition's log, or None."""
        topic = self._topics.get(name)
        return topic.partitions[index] if topic is not None and 0 <= index < len(topic.partitions) else None

    def check_new(self, name: str, partitions: int, overrides: dict[str, str | None]) -> None:
        """Raises AdminRefused unless such a topic could be created."""
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise AdminRefused(
                Code.INVALID_TOPIC_EXCEPTION,
                f"topic name {name[:260]!r}: 1 to 249 letters, digits, '.', '_' and '-', but not '.' or '..'",
            )
        if name in self._topics:
            raise AdminRefused(Code.TOPIC_ALREADY_EXISTS, f"topic {name} already exists")
        if partitions < 1:
            raise AdminRefused(Code.INVALID_PARTITIONS, f"topic {name}: {partitions} partitions; at least 1 is needed")
        for other in self._topics:
            if other.replace(".", "_") == name.replace(".", "_"):
                raise AdminRefused(
                    Code.INVALID_TOPIC_EXCEPTION, f"topic name {name} collides with {other}: '.' and '_' count as one"
                )
        try:
            topic_settings.parse(overrides)
        except ValueError as problem:
            raise AdminRefused(Code.INVALID_CONFIG, f"topic {name}: {problem}") from problem

    def create(self, name: str, partitions: int, overrides: dict[str, str | None]) -> BrokerTopic:
        """Creates a topic; AdminRefused if name, partitions or settings are wrong."""
        self.check_new(name, partitions, overrides)
        self._save({name: (partitions, overrides)})
        self._topics[name] = BrokerTopic(name, overrides, self.folder, partitions)
        return self._topics[name]

    def delete(self, name: str) -> None:
        """Deletes topic and data; wakes readers so that they learn of it. KeyError if there is none."""
        topic = self._topics.pop(name)
        self._save()
        for log in topic.partitions:
            for segment in log.segments:
                segment.close()
            shutil.rmtree(log.folder, ignore_errors=True)
            for watcher in tuple(log.watchers):
                watcher(1 << 31)

    def grow(self, topic: BrokerTopic, count: int) -> None:
        """Adds partitions to a topic."""
        self._save({topic.name: (count, topic.overrides)})
        topic.grow(count)

    def configure(self, topic: BrokerTopic, overrides: dict[str, str | None]) -> None:
        """Replaces a topic's settings; ValueError, and nothing changed, if one is wrong."""
        topic_settings.parse(overrides)
        self._save({topic.name: (len(topic.partitions), overrides)})
        topic.configure(overrides)

    def new_producer_id(self) -> int:
        """An id that no producer has had, also after a crash."""
        if self._next_producer_id >= self._producer_ids_end:
            self._producer_ids_end += PRODUCER_ID_BLOCK
            self._save()
        self._next_producer_id += 1
        return self._next_producer_id - 1

    def close(self) -> None:
        """Checkpoints every log."""
        for topic in self._topics.values():
            for log in topic.partitions:
                log.close()

    def _save(self, changed: dict[str, tuple[int, dict[str, str | None]]] | None = None) -> None:
        table = {name: (len(topic.partitions), topic.overrides) for name, topic in self._topics.items()}
        table.update(changed or {})
        temporary = self._table.with_suffix(".new")
        with temporary.open("w") as out:
            json.dump({"cluster_id": self.cluster_id, "producer_ids_end": self._producer_ids_end, "topics": table}, out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, self._table)

    def _load(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._table.exists():
            if any(self.folder.iterdir()):
                raise SystemExit(
                    f"{self._table} is missing but {self.folder} holds data: restore the file or move the folder away"
                )
            self.cluster_id = "embedded-" + os.urandom(6).hex()
            self._save()
            return
        facts = json.loads(self._table.read_text())
        self.cluster_id = facts["cluster_id"]
        self._next_producer_id = self._producer_ids_end = facts["producer_ids_end"]
        listed = {f"{name}-{i}" for name, (count, _) in facts["topics"].items() for i in range(count)}
        for folder in self.folder.iterdir():
            if folder.name not in listed:
                shutil.rmtree(folder)
        for name, (count, overrides) in facts["topics"].items():
            self._topics[name] = BrokerTopic(name, overrides, self.folder, count)
