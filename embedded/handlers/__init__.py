"""What the broker answers, by API key, and the state that it answers from (`node`).

Before: `broker` reads a Call. After: a response object, ready bytes, None (no answer is due), or a coroutine that gives
one of them. Each other module has one family of requests.
"""

from collections.abc import Callable
from typing import Any

from embedded.handlers import cluster, groups, offsets, records, topic_configs, topics
from embedded.handlers.node import BrokerOptions, Node
from embedded.handlers.records import CloseConnection
from embedded.protocol import Call

__all__ = ["HANDLERS", "BrokerOptions", "CloseConnection", "Handler", "Node"]

Handler = Callable[[Node, Call], Any]

HANDLERS: dict[int, Handler] = {
    **records.HANDLERS,
    **cluster.HANDLERS,
    **topics.HANDLERS,
    **topic_configs.HANDLERS,
    **groups.HANDLERS,
    **offsets.HANDLERS,
}
