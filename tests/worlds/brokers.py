"""The broker that the tests run against, and Apache Kafka itself as a child process like `embedded.EmbeddedBroker`;
or as three nodes, every node a broker and a controller, and every record on all of them.

HEADWATER_TEST_BROKER chooses: `embedded` (the default) or `kafka`, which takes the launcher `shared/kafka/kafka` beside
the repository and Java 17. Apache Kafka is the truth that the embedded broker is compared with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedded import EmbeddedBroker, ServerProcess, StartFailed, free_port
from tests.worlds.processes import eventually

if TYPE_CHECKING:
    from typing import Self

KIND = os.environ.get("HEADWATER_TEST_BROKER", "embedded")
assert KIND in ("embedded", "kafka"), f"HEADWATER_TEST_BROKER is {KIND!r}: embedded or kafka"
LAUNCHER = Path(__file__).resolve().parents[3] / "shared" / "kafka" / "kafka"

NODES = 3
HEAP_MB = 256
CLUSTER_ID = "SGVhZHdhdGVyLWtyYWZ0Mw"
ON_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "replica.lag.time.max.ms": "5000",
}


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


class KafkaNode(ApacheKafka):
    """One of the three."""

    def __init__(self, folder: Path, number: int, ports: list[int], voters: list[int], **settings: str) -> None:
        quorum = ",".join(f"{one + 1}@127.0.0.1:{port}" for one, port in enumerate(voters))
        own = {"node.id": str(number + 1), "controller.quorum.voters": quorum, **ON_THREE, **settings}
        super().__init__(folder, ports[number], own, ("--heap-mb", str(HEAP_MB)))
        self._controller_port = voters[number]
        if not (folder / "log" / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        """All nodes are of one cluster: the launcher would make one of each."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        config = self.data_dir / "format.properties"
        told = {
            "process.roles": "broker,controller",
            "listeners": f"CLIENT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir.resolve() / "log"),
            **{name: self.settings[name] for name in ("node.id", "controller.quorum.voters")},
        }
        config.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
        jars = str(LAUNCHER.parent / "libs" / "*")
        words = ["java", "-Xmx128m", "-cp", jars, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]
        subprocess.run([*words, str(config)], check=True, capture_output=True)


class KafkaCluster:
    """Three nodes that run."""

    def __init__(self, nodes: list[KafkaNode]) -> None:
        self.nodes = nodes

    @property
    def address(self) -> str:
        """All three, so that any may be away."""
        return ",".join(node.address for node in self.nodes)

    def whole(self) -> bool:
        """Whether every replica of every partition is in sync."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            told = AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=5)
        except KafkaException:
            return False
        partitions = [one for topic in told.topics.values() for one in topic.partitions.values()]
        return len(told.brokers) == NODES and all(len(one.isrs) == len(one.replicas) for one in partitions)

    def restart(self, node: KafkaNode, *, crash: bool = False) -> None:
        """Stop one in order, or kill it; start it again; return when all is on three again."""
        if crash:
            node.kill()
        else:
            node.stop(60)
        node.start()
        eventually(self.whole, 120, "every replica is in sync")


@contextmanager
def kafka_cluster(folder: Path, **settings: str) -> Iterator[KafkaCluster]:
    """A cluster whose nodes all answer; no process is left of it."""
    ports, voters = ([free_port() for _ in range(NODES)] for _ in range(2))
    with ExitStack() as stack:
        nodes = [KafkaNode(folder / f"kafka-{one + 1}", one, ports, voters, **settings) for one in range(NODES)]
        for node in nodes:
            stack.callback(node.stop)
        starting = [threading.Thread(target=node.start) for node in nodes]  # one alone has no majority
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        made = KafkaCluster(nodes)
        eventually(lambda: all(node.running for node in nodes) and made.whole(), 60, "three nodes")
        yield made
