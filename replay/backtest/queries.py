"""What a backtest asks of every ranker: one stream of queries, numbered as it comes, and the duties of a peer.

Before: `streams.features.recording` makes examples as the streams worker does. After: `replay.backtest` asks our model
and every `Peer` the same queries. Knows nothing of weights. Numbers are given by first appearance, so none comes from
the future.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Example, Kind
from headwater.recommendations import ALL_TYPES, AUTO
from headwater.signals import Meaning, Signals
from models.exclusion import ReturnRate, disliked, left_out, returning_types
from models.taught.teaching import TeachingLimit

__all__ = ["Peer", "Queries", "Query", "Rule", "told_to_peers"]


class Query(NamedTuple):
    """One example of the stream, in numbers. Rankers score the items [0, known); `asked` says whether it counts.

    What is no event, a list that was shown or an event that is taken back, has no item: -1.
    """

    place: int  # index of the event in the stream
    example: Example  # as the streams worker makes it: the history is what was known before the event
    user: int
    item: int  # the target; equal to `known` when it was never seen before
    history: list[int]  # item numbers of example.history, oldest first
    known: int  # items seen before this event
    asked: bool  # after warm-up, user and item seen before, and the rule does not forbid the target
    against: bool = False  # asked, of an event that speaks against its item: better not named
    positive: bool = True  # the event speaks for its item
    taught: bool = True  # its user has not taught enough already

    @property
    def is_event(self) -> bool:
        """Whether a user did something: else it is only for our learner."""
        return self.example.kind is Kind.EVENT


class Peer(Protocol):
    """A recommender that is asked what we are asked, and then told what happened."""

    name: str
    random: bool  # whether the seed it was made with matters: only then is it run again for further seeds

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) finite, higher is better. Called for asked queries only, before `learn` of the same query."""
        ...

    def learn(self, query: Query) -> None:
        """Take in one event that speaks for its item: each of the stream, in order.

        `query.user` and `query.item` may be new numbers, and lower ones may be new as well: users who have only turned
        down something so far, and the items of such events.
        """
        ...


class Rule:
    """Which items of a history are not recommended again, as learner and serving have it.

    `types` are a rule of `models.exclusion`; what `auto` leaves out is counted from what has happened so far. What a
    user has turned down, by `meanings`, is left out whatever the rule.
    """

    def __init__(self, types: Collection[str], max_types: int = 32, meanings: Signals | None = None) -> None:
        self.types = frozenset(types)
        self.auto = AUTO in self.types
        self.meanings = meanings or Signals()
        self._rate = ReturnRate(max_types)
        self._max_types = max_types
        self._index: dict[str, int] = {}

    def forbids(self, query: Query) -> list[int]:
        """Numbers of the items that must not be ranked."""
        entries = list(zip(query.history, query.example.history, strict=True))
        seen = [(number, entry[1]) for number, entry in entries]
        returning = self.returning() if self.auto else ()
        out = left_out(self.types, seen, dict(seen), returning, self.meanings.turned_down)
        return list(out | disliked(entries, self.meanings, query.example.target.time_ms))

    def learn(self, query: Query) -> None:
        """Take in one event: every event of the stream, in order, after it was asked about."""
        if not (self.auto and query.taught):
            return
        kind, index = query.example.target.type, self._index
        if kind not in index and len(index) < self._max_types:
            index[kind] = len(index) + 1
        if query.positive:
            self._rate.count(*self._kinds(query.example))

    def take_back(self, undone: Example) -> None:
        """Take off an event that spoke for its item and is undone."""
        if self.auto:
            self._rate.take_back(*self._kinds(undone))

    def _kinds(self, example: Example) -> tuple[int, int | None]:
        """The index of an event's type, and of that of the item's newest entry before it, if any."""
        item, index = example.target.item_id, self._index
        before = next((entry.type for entry in reversed(example.history) if entry[0] == item), None)
        return index.get(example.target.type, 0), None if before is None else index.get(before, 0)

    def returning(self) -> frozenset[str]:
        """Under `auto`, the types after which users come back."""
        return returning_types(self._rate.share, self._index)

    def described(self) -> list[str]:
        """The types whose items are not shown again; under `auto` as it is now, `*` when it is all that were seen."""
        if not self.auto:
            return sorted(self.types)
        known = self._index.keys() - self.meanings.turned_down
        seldom = sorted(known - self.returning())
        return [ALL_TYPES] if len(seldom) == len(known) else seldom


def told_to_peers(query: Query, meanings: Signals) -> Query:
    """A query as peers have it, which know of votes only: without what does not speak for its item."""
    entries = list(zip(query.history, query.example.history, strict=True))
    kept = [(n, one) for n, one in entries if meanings.meaning(one.type, one.value) is Meaning.POSITIVE]
    if len(kept) == len(entries):
        return query
    example = query.example._replace(history=[one for _, one in kept])
    return query._replace(history=[number for number, _ in kept], example=example)


class Queries:
    """Makes queries of examples, in stream order, and counts what is not asked, by reason."""

    def __init__(self, warm_up: int, rule: Rule, teach_per_minute: int = 0) -> None:
        self.warm_up = warm_up
        self.rule = rule
        self.limit = TeachingLimit(teach_per_minute)
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.place = 0
        self.excluded = Counter({"no_history": 0, "new_item": 0, "seen": 0})

    def next(self, example: Example) -> Query:
        """The query of the next example. Each example is handed over once; the numbers then know its ids."""
        if example.kind is not Kind.EVENT:
            return self._no_event(example)
        known = len(self.items)
        target = example.target.item_id
        query = Query(
            place=self.place,
            example=example,
            user=self.users.setdefault(example.user_id, len(self.users)),
            item=self.items.setdefault(target, known),
            history=[self.items[entry[0]] for entry in example.history],
            known=known,
            asked=False,
        )
        self.place += 1
        taught = self.limit.allows(example.user_id, example.target.time_ms)
        meaning = self.rule.meanings.meaning(example.target.type, example.target.value)
        query = query._replace(positive=meaning is Meaning.POSITIVE, taught=taught)
        if query.place < self.warm_up:
            return query
        if not query.positive:
            self.excluded["not_positive"] += 1
            against = meaning is Meaning.NEGATIVE and query.history and query.item < known
            return query._replace(against=bool(against) and taught and query.item not in self.rule.forbids(query))
        if not taught:
            self.excluded["capped"] += 1
        elif not query.history:
            self.excluded["no_history"] += 1
        elif query.item == known:
            self.excluded["new_item"] += 1
        elif query.item in self.rule.forbids(query):
            self.excluded["seen"] += 1
        else:
            return query._replace(asked=True)
        return query

    def _no_event(self, example: Example) -> Query:
        """A list that was shown makes no item known: it tells nobody but our learner."""
        user = self.users.setdefault(example.user_id, len(self.users))
        query = Query(self.place, example, user, -1, [], len(self.items), asked=False, positive=False)
        if example.kind is Kind.UNDONE:
            counted, target = self.limit.takes_back(example.user_id), example.target
            if counted and self.rule.meanings.speaks(target.type, target.value) > 0:
                self.rule.take_back(example)
        self.place += 1
        if query.place >= self.warm_up:
            self.excluded[example.kind.value] += 1
        return query
