"""States of the users seen last, kept in memory so that a busy user costs no read.

Before: a round that was written puts its states here. After: the next round takes them. A stale state does no harm: the
store's script compares counts, refuses the batch, and the round starts over from what is stored. The script compares
the marks that these states were written with, too: a count alone could come back by chance after the store lost it.

Our own: cachetools knows one bound a cache, not users and entries, and takes 0.59 us for a get and a put (0.33).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from headwater.histories import PackedHistory
from streams.features.state import EMPTY, UserState

__all__ = ["HotUsers"]

ENTRIES_PER_USER = 25
"""Long histories count: no more than this many entries per allowed user, or about 3.5 kB each."""

ENTRY_BYTES = 140
"""An entry takes so much memory; what is packed counts by its bytes."""


class HotUsers:
    """A least-recently-used map of user states, bounded by users and by the entries they hold.

    >>> hot = HotUsers(1)
    >>> hot.put({"ada": UserState(count=1), "bob": UserState(count=2)})
    >>> hot.get("ada"), hot.get("bob").count
    (None, 2)
    """

    def __init__(self, max_users: int) -> None:
        self._max_users = max_users
        self._max_entries = max_users * ENTRIES_PER_USER
        self._states: OrderedDict[str, tuple[UserState, int]] = OrderedDict()  # with its entries when it came
        self._entries = 0

    def get(self, user_id: str) -> UserState | None:
        """The state, now the most recently used; None if it must be read."""
        found = self._states.get(user_id)
        if found is None:
            return None
        self._states.move_to_end(user_id)
        return found[0]

    def put(self, states: Mapping[str, UserState]) -> None:
        """Remember these, and forget the least recently used beyond the bounds."""
        for user_id, state in states.items():
            old, entries = self._states.pop(user_id, None), _entries(state)
            self._entries += entries - (old[1] if old else 0)
            self._states[user_id] = state, entries
        while self._states and (len(self._states) > self._max_users or self._entries > self._max_entries):
            self._entries -= self._states.popitem(last=False)[1][1]

    def forget(self, user_ids: Iterable[str]) -> None:
        """Forget these."""
        for user_id in user_ids:
            self._entries -= self._states.pop(user_id, (EMPTY, 0))[1]

    def clear(self) -> None:
        """Forget all."""
        self._states.clear()
        self._entries = 0


def _entries(state: UserState) -> int:
    history = state.history
    known = len(history)
    for one in history.packed if isinstance(history, PackedHistory) else ():
        known += 0 if one.is_unpacked else len(one.data) // ENTRY_BYTES - one.size
    return known + len(state.shown) + len(state.reacted) + len(state.undos) + len(state.undone)
