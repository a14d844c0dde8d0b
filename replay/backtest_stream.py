"""What a backtest settles about a recorded stream before it begins: how much is warm-up, and what is never shown again.

Before: `streams.recording` has read the source. After: `replay.backtest` asks and learns.
"""

from __future__ import annotations

from headwater.errors import SettingsError
from models.returns import PRIOR, RARE
from replay.protocol import ALL_TYPES
from streams.recording import Recording

__all__ = ["auto_rule", "warm_up_events"]


def auto_rule(recording: Recording, warm_up: int) -> tuple[str, ...]:
    """The types whose items are not shown again: after fewer than 1% of their events the user came back to it.

    Only the first `warm_up` events are looked at. All types of them: `("*",)`.
    """
    events, returns = recording.returns(warm_up)
    present = [name for name, i in recording.types.items() if events[i]]
    rare = [name for name, i in recording.types.items() if events[i] and returns[i] < RARE * (events[i] + PRIOR)]
    return (ALL_TYPES,) if len(rare) == len(present) else tuple(rare)


def warm_up_events(asked: float, events: int) -> int:
    """Events that are learned before the first query: a share below 1, else a number. Raises SettingsError."""
    found = int(asked * events) if 0 <= asked < 1 else int(asked)
    if asked < 0 or found >= events:
        raise SettingsError(
            f"a warm-up of {asked:,.10g} leaves nothing to ask: the stream has {events:,} events. Give a share below "
            "1 or fewer events (--warm-up)"
        )
    return found
