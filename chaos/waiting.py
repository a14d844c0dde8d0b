"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait"]


def wait(condition: Callable[[], object], timeout_s: float, what: Callable[[], str], every_s: float = 0.2) -> None:
    """Until a condition holds. Raises TimeoutError, with what `what` says."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what()}")
        time.sleep(every_s)
