"""How many streams may be open at once: of all callers, and of one browser.

Before: `gateway.access`, which tells who asks. After: `gateway.calls`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from gateway.access import Caller, Denied
from gateway.backend import Full

__all__ = ["OpenStreams"]

OF_A_USER = 8
AGAIN_S = 2.0


class OpenStreams:
    """Of one gateway.

    Parameters
        most: of all callers. A browser's token opens few of them, so that it cannot take the room of everybody.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = Counter[str]()

    @contextlib.contextmanager
    def one(self, caller: Caller) -> Iterator[None]:
        """It is open until it is left. Raises Full, Denied where it may not open."""
        if self._open.total() >= self._most:
            raise Full(f"{self._most} streams are open (gateway.max_waiting): come again")
        if caller.user_id is not None and self._open[caller.name] >= OF_A_USER:
            raise Denied(429, "streams", f"{OF_A_USER} streams of this user are open: close one", AGAIN_S)
        self._open[caller.name] += 1
        try:
            yield
        finally:
            self._open[caller.name] -= 1
            if not self._open[caller.name]:
                del self._open[caller.name]
