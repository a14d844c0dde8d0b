"""Broker and store of a campaign: started here and then ours to break, or somebody's and left alone, behind proxies.

Before: what the command line says. After: `chaos.stack`. Clients reach a server that was started here through its
proxy; of Kafka that runs elsewhere only its own address is any good, since it tells its clients where to connect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.proxy import Proxy
from headwater.errors import SettingsError

if TYPE_CHECKING:
    from embedded import ServerProcess

__all__ = ["ServerUnderTest", "kafka_server", "store_server"]


@dataclass
class ServerUnderTest:
    """Where clients connect, and what there is to break.

    Fields
        address: for clients.
        process: where it was started here.
        proxy: in front of it.
        breakable: whether commands may be given to it that hurt others, such as FLUSHALL.
        direct: its own port, past the proxy.
    """

    address: str
    process: ServerProcess | None = None
    proxy: Proxy | None = None
    breakable: bool = False

    @property
    def direct(self) -> str:
        """Its own address, past the proxy."""
        return self.address if self.process is None else self.process.address


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
            yield ServerUnderTest(f"127.0.0.1:{proxy.port}", process, proxy, True)


@contextlib.contextmanager
def store_server(asked: str, folder: Path, breakable: bool) -> Iterator[ServerUnderTest]:
    """`embedded`, or the URL of one that runs: a single server on this machine gets a proxy, any other does not."""
    if asked != "embedded":
        yield ServerUnderTest(asked, breakable=breakable)
        return
    from embedded import EmbeddedStore

    with EmbeddedStore(folder) as process, contextlib.closing(Proxy(process.port)) as proxy:
        yield ServerUnderTest(f"redis://127.0.0.1:{proxy.port}/0", process, proxy, True)
