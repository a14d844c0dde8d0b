"""A broker and a store for a laptop and the tests: real protocols, real files, one machine.

Before: console and tests start these as child processes. After: their clients. The engine never imports this package;
to it they are a Kafka address and a Redis URL like any other. Not for production.

Rooms, each of which imports only those before it: `protocol`, `log`, `groups`, `handlers`, `broker`.
"""

from embedded.process import EmbeddedBroker, ServerProcess, StartFailed, free_port
from embedded.store import EmbeddedStore, NoStore

__all__ = ["EmbeddedBroker", "EmbeddedStore", "NoStore", "ServerProcess", "StartFailed", "free_port"]
