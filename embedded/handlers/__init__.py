"""What the broker answers, by API key.

Before it: a Call from the wire. After it: a response object, ready bytes, None (no answer is due), or a coroutine that
gives one of them. Each module holds one family of requests.
"""

from collections.abc import Callable
from typing import Any

from embedded.broker.node import Node
from embedded.broker.wire import Call
from embedded.handlers import admin, cluster, configs, data, groups, offsets

Handler = Callable[[Node, Call], Any]

HANDLERS: dict[int, Handler] = {
    **data.HANDLERS,
    **cluster.HANDLERS,
    **admin.HANDLERS,
    **configs.HANDLERS,
    **groups.HANDLERS,
    **offsets.HANDLERS,
}
