"""The broker that the tests run against, and Apache Kafka itself as a child process like `embedded.EmbeddedBroker`.

HEADWATER_TEST_BROKER chooses: `embedded` (the default) or `kafka`, which takes the launcher `shared/kafka/kafka` beside
the repository and Java 17. Apache Kafka is the truth that the embedded broker is compared with.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedded import EmbeddedBroker, ServerProcess, StartFailed, free_port

if TYPE_CHECKING:
    from typing import Self

KIND = os.environ.get("HEADWATER_TEST_BROKER", "embedded")
assert KIND in ("embedded", "kafka"), f"HEADWATER_TEST_BROKER is {KIND!r}: embedded or kafka"
LAUNCHER = Path(__file__).resolve().parents[3] / "shared" / "kafka" / "kafka"


class ApacheKafka(ServerProcess):
    """One KRaft node on loopback; `settings` are broker properties, `options` words of the launcher."""

    name = "Apache Kafka"
    start_timeout_s = 90.0

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        port: int = 0,
        settings: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(data_dir, port)
        self.options = options
        self.settings = settings or {}
        self._controller_port = free_port()

    def start(self) -> Self:
        """As any server; once more where the launcher has drawn a cluster id that Kafka takes for an option."""
        try:
            return super().start()
        except StartFailed as error:  # one id in 64 begins with a dash
            if "--cluster-id" not in str(error):
                raise
            return super().start()

    @property
    def log_path(self) -> Path:
        return self.data_dir / "kafka.out"

    def command(self) -> list[str]:
        assert LAUNCHER.exists(), f"HEADWATER_TEST_BROKER=kafka needs {LAUNCHER}; without it use the embedded broker"
        pairs = [word for name, value in self.settings.items() for word in ("--set", f"{name}={value}")]
        return [
            *(sys.executable, str(LAUNCHER), "run", "--port", str(self.port)),
            *("--controller-port", str(self._controller_port), "--data", str(self.data_dir), *pairs, *self.options),
        ]

    def ready(self) -> bool:
        """True once metadata can be had; the port opens a little earlier."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        quiet: dict[str, Any] = {"bootstrap.servers": self.address, "log_level": 0, "logger": None}
        try:
            return bool(AdminClient({k: v for k, v in quiet.items() if v is not None}).list_topics(timeout=2).brokers)
        except KafkaException:
            return False


def chosen_broker(folder: Path) -> ServerProcess:
    """The broker that HEADWATER_TEST_BROKER names, not started yet."""
    return ApacheKafka(folder) if KIND == "kafka" else EmbeddedBroker(folder)
