"""What a backtest settles about a recorded stream before it begins: how much is warm-up, and what is never shown again.

Before: `streams.features.recording` has read the source. After: `replay.backtest` asks and learns.
"""

from __future__ import annotations

from headwater.errors import SettingsError

__all__ = ["warm_up_events"]


def warm_up_events(asked: float, events: int) -> int:
    """Events that are learned before the first query: a share below 1, else a number. Raises SettingsError."""
    found = int(asked * events) if 0 <= asked < 1 else int(asked)
    if asked < 0 or found >= events:
        raise SettingsError(
            f"a warm-up of {asked:,.10g} leaves nothing to ask: the stream has {events:,} events. Give a share below "
            "1 or fewer events (--warm-up)"
        )
    return found
