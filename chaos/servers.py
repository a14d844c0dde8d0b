"""Broker, store and object storage of a campaign: started here and then ours to break, or somebody's and left alone.

Before: what the command line says. After: `chaos.stack`. Clients reach a server that was started here through its
proxy; of Kafka that runs elsewhere only its own address is any good, since it tells its clients where to connect.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.proxy import Proxy
from headwater.errors import SettingsError

if TYPE_CHECKING:
    from chaos.store_cluster import StoreCluster
    from embedded import ServerProcess

__all__ = ["ServerUnderTest", "kafka_server", "object_server", "store_server"]

NODE_TIMEOUT_MS = 1500
"""A machine that a campaign keeps busy answers late: shorter, and nodes that are well are taken for dead."""


@dataclass
class ServerUnderTest:
    """Where clients connect, and what there is to break.

    Fields
        address: for clients.
        processes: those that were started here: one, or the nodes of a cluster.
        proxies: in front of each of them, in the same order.
        breakable: whether commands may be given to it that hurt others, such as FLUSHALL.
        cluster: what the nodes are, where they are one.
        switches: of object storage, whose answers can be chosen.
    """

    address: str
    processes: tuple[ServerProcess, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    breakable: bool = False
    cluster: StoreCluster | None = None
    switches: Any = None

    @property
    def ours(self) -> bool:
        """Whether it was started here."""
        return bool(self.proxies)

    @property
    def primaries(self) -> list[str]:
        """Past the proxy, the address of everybody who takes writes now."""
        if self.cluster is not None:
            return [node.address for node in self.cluster.primaries()]
        return [one.address for one in self.processes] or [self.address]

    def running(self, chance: random.Random) -> ServerProcess | None:
        """One of its processes that run."""
        found = [one for one in self.processes if one.running]
        return chance.choice(found) if found else None


@contextlib.contextmanager
def kafka_server(asked: str, folder: Path, breakable: bool) -> Iterator[ServerUnderTest]:
    """`embedded`, `apache` (of a checkout, beside ../shared/kafka), or the HOST:PORT of one that runs."""
    if asked not in ("embedded", "apache"):
        if ":" not in asked:
            raise SettingsError(f"--kafka {asked}: give embedded, apache, or the HOST:PORT of one that runs")
        yield ServerUnderTest(asked, breakable=breakable)
        return
    with contextlib.closing(Proxy()) as proxy:
        process: ServerProcess
        if asked == "embedded":
            from embedded import EmbeddedBroker

            process = EmbeddedBroker(folder, options=("--advertised-port", str(proxy.port)))
        else:
            from tests.worlds.brokers import ApacheKafka

            process = ApacheKafka(folder, settings={"advertised.listeners": f"CLIENT://127.0.0.1:{proxy.port}"})
        with process:
            proxy.target = ("127.0.0.1", process.port)
            yield ServerUnderTest(f"127.0.0.1:{proxy.port}", (process,), (proxy,), True)


@contextlib.contextmanager
def store_server(asked: str, folder: Path, breakable: bool) -> Iterator[ServerUnderTest]:
    """`embedded`; `cluster`: six nodes; or the URL of one that runs."""
    if asked == "cluster":
        from chaos.store_cluster import ClusterNode, started

        with ExitStack() as stack:
            nodes = [ClusterNode(folder / f"node-{number}", NODE_TIMEOUT_MS) for number in range(6)]
            proxies = [stack.enter_context(contextlib.closing(Proxy(node.port))) for node in nodes]
            for node, proxy in zip(nodes, proxies, strict=True):
                node.announced = proxy.port  # replicas copy through it, too; votes and pings go by a port of their own
            cluster = started(nodes, stack)
            yield ServerUnderTest(cluster.address, tuple(nodes), tuple(proxies), True, cluster)
        return
    if asked != "embedded":
        if "://" not in asked:
            raise SettingsError(f"--redis {asked}: give embedded, cluster, or the URL of one that runs")
        yield ServerUnderTest(asked, breakable=breakable)
        return
    from embedded import EmbeddedStore

    with EmbeddedStore(folder) as process, contextlib.closing(Proxy(process.port)) as one:
        yield ServerUnderTest(f"redis://127.0.0.1:{one.port}/0", (process,), (one,), True)


@contextlib.contextmanager
def object_server(asked: str) -> Iterator[ServerUnderTest | None]:
    """`folder`: none; `s3` (of a checkout): S3's protocol by moto; or the URL of a bucket that is there."""
    if asked == "folder":
        yield None
        return
    if asked != "s3":
        if "://" not in asked:
            raise SettingsError(f"--bundles {asked}: give folder, s3, or the URL of a bucket, as s3://BUCKET/PREFIX")
        yield ServerUnderTest(asked)
        return
    from tests.worlds.object_storage import Bucket, SwitchedServer

    with contextlib.closing(SwitchedServer()) as server, contextlib.closing(Proxy(server.port)) as proxy:
        bucket = Bucket(server, f"campaign-{os.getpid()}")
        found = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "AWS_ACCESS_KEY_ID": "campaign",
            "AWS_SECRET_ACCESS_KEY": "campaign",
            "AWS_REGION": "us-east-1",
        }
        before = {name: os.environ.get(name) for name in found}
        os.environ |= found
        try:
            yield ServerUnderTest(bucket.url, proxies=(proxy,), switches=server)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value
