"""Words of consent that a log of events does not reach back to: states begin with them.

Before: `streams.consenting` finds them on their topic. After: the fold goes by the word of the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from headwater.consent import Word
from headwater.errors import InvalidMessage
from headwater.topics import CONSENTS
from streams.features.state import EMPTY, UserState
from streams.features.store.server import StoreCall
from streams.features.store.standing import StoreStanding
from streams.features.store.told import ToldWrites, Written
from streams.features.store.users import UserReads

__all__ = ["PlacedWord", "WordWrites", "going_by"]


class PlacedWord(NamedTuple):
    """A word on a user, and the place in `events` at which it stands."""

    word: Word
    partition: int
    offset: int


class WordWrites(UserReads, ToldWrites):
    """The part of the store that knows of words before the fold does."""

    def put_words(self, words: Mapping[str, PlacedWord]) -> int:
        """Let the states of these users go by these words, where they know none as late. A state that somebody writes
        meanwhile stays: that fold met a word itself, or this is done again.

        Returns
            How many states were written.
        """
        users = list(words)
        keys = [self.slots.user(kind, user) for user in users for kind in "ut"]
        values = self._server.run([StoreCall("GET", [key]) for key in keys], may_be_odd=True)
        held: dict[str, bytes | None] = {}
        states: dict[str, UserState] = {}
        for user, base, tail in zip(users, values[::2], values[1::2], strict=True):
            if isinstance(base, Exception) or isinstance(tail, Exception):
                continue  # whoever reads the user mends it
            try:
                state = self._state(user, self.slots.of(user), base, tail)
            except InvalidMessage:
                continue
            after = going_by(state, words[user])
            if after is not state:
                held[user], states[user] = (base or b"") + (tail or b""), after
        return self.mend_users(held, states)

    def put_consents(
        self, partition: int, offset: int, users: Iterable[str], standing: StoreStanding | None = None
    ) -> Written:
        """Remember how far the topic `consents` was told to the log of events, also in the slots of these users: of one
        that is lost it is read again. As `put_items`.
        """
        return self._put(CONSENTS, "c", {}, partition, offset, standing, map(self.slots.of, users))


def going_by(state: UserState, placed: PlacedWord) -> UserState:
    """The state of a user who goes by such a word; the same where it knows one as late."""
    word, partition, offset = placed
    if state.word is not None and state.word.time_ms >= word.time_ms:
        return state
    if word.said.personalise is False:
        after_ms = word.time_ms + 1  # it is of after the user was forgotten, wherever else the same word stands, too
        return UserState(count=1, partition=partition, offset=offset, folded_ms=after_ms, word=word)
    if state.word is not None:
        word = word._replace(unsure_ms=state.word.unsure_ms)
    return replace(state if state.count else EMPTY, count=state.count + 1, word=word, stored=None)
