"""States of the users seen last, kept in memory so that a busy user costs no read.

Before: a round that was written puts its states here. After: the next round takes them. A stale state does no harm: the
store's script compares counts, refuses the batch, and the round starts over from what is stored. The script compares
the marks that these states were written with, too: a count alone could come back by chance after the store lost it.

A short state is kept as the bytes that were written: a hundred of objects would take four times the room, and to fetch
them from a cold cache as long as to make them of the bytes, 3 us.

Our own: cachetools takes 0.59 us for a get and a put (0.33).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from headwater.histories import ENTRY_BYTES, PackedHistory
from streams.features.hashes import SIZE
from streams.features.packed import decode
from streams.features.state import UserState

__all__ = ["HotUsers"]

BYTES_PER_USER = 3500
"""Of memory for each allowed user, be they many with short histories or few with long ones."""

PLACE_BYTES, STATE_BYTES, KEY_BYTES = 350, 900, 250
"""What a place here takes; with a state in it beside its history and its hashes; and where that is sealed."""


class HotUsers:
    """A least-recently-used map of user states, bounded by the memory that they take.

    >>> hot = HotUsers(1)
    >>> hot.put({name: UserState(count=n) for n, name in enumerate("abcde")})
    >>> hot.get("a"), hot.get("e").count
    (None, 4)
    """

    def __init__(self, max_users: int) -> None:
        self._most = max_users * BYTES_PER_USER
        self._states: OrderedDict[str, bytes | tuple[UserState, int]] = OrderedDict()  # with its bytes when it came
        self._bytes = 0

    def get(self, user_id: str) -> UserState | None:
        """The state, now the most recently used; None if it must be read."""
        found = self._states.get(user_id)
        if found is None:
            return None
        self._states.move_to_end(user_id)
        return decode(found) if isinstance(found, bytes) else found[0]

    def put(self, states: Mapping[str, UserState]) -> None:
        """Remember these, and forget the least recently used beyond the bounds."""
        for user_id, state in states.items():
            if (known := self._states.pop(user_id, None)) is not None:
                self._bytes -= _size(known)
            value = state.stored.value if state.stored else None
            self._states[user_id] = held = (state, _bytes(state)) if value is None else value
            self._bytes += _size(held)
        while self._bytes > self._most:
            self._bytes -= _size(self._states.popitem(last=False)[1])

    def forget(self, user_ids: Iterable[str]) -> None:
        """Forget these."""
        for user_id in user_ids:
            self._bytes -= _size(self._states.pop(user_id, None))

    def clear(self) -> None:
        """Forget all."""
        self._states.clear()
        self._bytes = 0


def _size(held: bytes | tuple[UserState, int] | None) -> int:
    if isinstance(held, bytes):
        return PLACE_BYTES + len(held)
    return held[1] if held else 0


def _bytes(state: UserState) -> int:
    """Of memory, about."""
    history, found = state.history, STATE_BYTES + SIZE * len(state.recent)
    if state.stored and state.stored.key:
        found += KEY_BYTES
    if isinstance(history, PackedHistory):
        for one in history.packed:
            found += one.weight
        history = history.newer
    for past in (history, state.shown, state.reacted, state.undos, state.undone):
        if past:
            found += ENTRY_BYTES * len(past)
    return found
