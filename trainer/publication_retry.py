"""When what Kafka or the store of bundles did not take is tried again, and when /readyz tells of it.

Before: what the publisher says of its newest try. After: the worker's loop. Learning goes on meanwhile and is kept in
checkpoints, so that ending the process would only cost; but serving's model grows old, and that has to show.
"""

from __future__ import annotations

from headwater.process import Backoff

__all__ = ["PublicationRetry"]


class PublicationRetry:
    """Twice the wait after each failure, up to half of `stall_s`; a trouble once tries have failed for `stall_s`.

    >>> retry = PublicationRetry(every_s=1.0, stall_s=30.0)
    >>> retry.tried("refused", failures=1, now_s=100.0)
    >>> retry.due(101.9), retry.due(102.0), retry.trouble(130.0), retry.trouble(131.0)
    (False, True, None, 'nothing could be published for 31 s: refused')
    >>> retry.tried(None, failures=1, now_s=131.0)
    >>> retry.due(131.0), retry.trouble(131.0)
    (True, None)
    """

    def __init__(self, every_s: float, stall_s: float, what: str = "nothing could be published") -> None:
        self._what = what
        self._backoff = Backoff(every_s, stall_s / 2)
        self._stall_s = stall_s
        self._since_s: float | None = None
        self._next_s = 0.0
        self._error = ""

    def tried(self, error: str | None, failures: int, now_s: float) -> None:
        """A publication was tried: why it failed, or None, and how many have lately."""
        if error is None:
            self._since_s, self._next_s = None, now_s
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        self._next_s = now_s + self._backoff.pause_s(failures)
        self._error = error

    def due(self, now_s: float) -> bool:
        """Whether a next try may be made."""
        return now_s >= self._next_s

    def trouble(self, now_s: float) -> str | None:
        """What /readyz has to tell, or None."""
        if self._since_s is None or now_s - self._since_s <= self._stall_s:
            return None
        return f"{self._what} for {now_s - self._since_s:.0f} s: {self._error}"
