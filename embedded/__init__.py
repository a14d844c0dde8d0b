"""A broker and a store for a laptop and the tests: real protocols, real files, one machine.

Before it: nothing. After it: console and tests, which start these as child processes. The engine never imports this
package; to it they are a Kafka address and a Redis URL like any other. Not for production.
"""

from embedded.process import EmbeddedBroker, ServerProcess, StartFailed
from embedded.store import EmbeddedStore, NoStore

__all__ = ["EmbeddedBroker", "EmbeddedStore", "NoStore", "ServerProcess", "StartFailed"]
