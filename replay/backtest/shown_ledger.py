"""What was shown and what became of it, as the learner tells: taken down item by item.

Before: `replay.backtest.run` hands over the learner's records. After: `replay.backtest.classified` makes figures of
them. An item of a list stands once: a later record, of a reaction that came late or was taken back, corrects it.
"""

from __future__ import annotations

from array import array

import numpy as np

from models.quality import Judged
from replay.backtest.classified import OURS, ShownItems

__all__ = ["ShownLedger"]

UNREVISED, IN_FULL = "ranking without ranker", "ranking by lists"

ITEMS = 2**32
"""More than there are items: a list and an item of it make one number."""


class ShownLedger:
    """Every item of every list, once."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._lists: dict[tuple[str, str], int] = {}
        self._items: dict[str, int] = {}
        self._rows: dict[int, int] = {}
        self._time_ms, self._user, self._list = array("q"), array("i"), array("i")
        self._place, self._rank, self._unrevised, self._in_full = (array("i") for _ in range(4))
        self._chance, self._rate = array("d"), array("d")
        self._reacted = array("b")
        self._by_type: dict[str, tuple[int, array[float], array[int]]] = {}  # from which row on; chance, came

    def __len__(self) -> int:
        return len(self._reacted)

    def take(self, one: Judged) -> None:
        """Take down what became of an item."""
        number = self._lists.setdefault((one.user_id, one.list_id), len(self._lists))
        name = number * ITEMS + self._items.setdefault(one.item_id, len(self._items))
        row = self._rows.setdefault(name, len(self._rows))
        self._take_types(one, row)
        if row < len(self._reacted):
            self._reacted[row] = one.reacted
            return
        self._time_ms.append(one.time_ms)
        self._user.append(self._users.setdefault(one.user_id, len(self._users)))
        self._list.append(number)
        self._place.append(one.place)
        self._rank.append(one.rank)
        self._unrevised.append(one.unrevised)
        self._in_full.append(one.in_full)
        self._chance.append(one.chance)
        self._rate.append(one.item_rate)
        self._reacted.append(one.reacted)

    def _take_types(self, one: Judged, row: int) -> None:
        known = len(self._reacted)
        for kind, chance, came in one.by_type:
            first, chances, happened = self._by_type.setdefault(kind, (known, array("d"), array("b")))
            if row == known:
                chances.append(chance)
                happened.append(came)
            elif row >= first:
                happened[row - first] = came

    def items(self) -> ShownItems:
        """All of it, by time.

        Single items have no ranking. Those without the ranker, and with what lists taught in full, are scorers where
        somebody told them and they differ. The order as shown is no scorer where no two places are known; an item
        without a place stands behind those with one.
        """
        time_ms, lists, place = (np.array(each, np.int64) for each in (self._time_ms, self._list, self._place))
        rank = np.array(self._rank, np.float64)
        without, in_full = (np.array(each, np.float64) for each in (self._unrevised, self._in_full))
        scores = {OURS: np.array(self._chance)}
        if (rank > 1).any():
            scores["ranking"] = -rank
        if (without > 1).any():
            scores[UNREVISED] = -without
        if (in_full > 1).any() and (in_full != rank).any():
            scores[IN_FULL] = -in_full
        scores["item rate"] = np.array(self._rate)
        if len(place) and place.max() > 1:
            scores["shown order"] = -np.where(place > 0, place, place.max() + 1.0)
        found = ShownItems(
            time_ms=time_ms,
            user=np.array(self._user, np.int64),
            list=lists,
            reacted=np.array(self._reacted, np.bool_),
            scores=scores,
            chances=frozenset({OURS, "item rate"}),
            by_type={
                kind: (np.array([np.nan] * first + chances.tolist()), np.array([0] * first + came.tolist(), np.bool_))
                for kind, (first, chances, came) in self._by_type.items()
            },
        )
        return found.where(np.lexsort((lists, time_ms)))
