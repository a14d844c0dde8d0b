"""A visitor nobody has seen before clicks three items and dismisses one, and one is taken down; her list is asked for
before and after each.

What is measured is what she would feel: from what she does to a list that is another one, her own event read by the
answer (`after`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.client import Client
from headwater.events import Item, new_id
from headwater.recommendations import Recommendation, RecommendedItem
from viewing.titles import spoken_title

__all__ = ["TAKEDOWN", "Act", "Newcomer", "choose_three", "shown_title"]

THEMES = (
    ("Aladdin", "Lion King, The", "Beauty and the Beast"),
    ("Star Wars", "Empire Strikes Back, The", "Raiders of the Lost Ark"),
)
"""Three films that say at once what she likes; the first theme that the catalogue has is taken."""

TAKEDOWN = "takedown"
"""The type of an act that is none of hers: the catalogue lets go of an item."""

LIST_LENGTH = 6
HOME = {"kind": "because-you", "rows": 2, "k": 4}
"""What her home page sets otherwise than a plain surface; a shop has it under a name, in its settings."""

DEADLINE_S = 5.0
CHANGED_WITHIN_S = 15.0


@dataclass(frozen=True)
class Act:
    """One thing that she did: what the list became and how long that took.

    Fields
        type, item: of her event, or TAKEDOWN.
        before: the list that she had.
        after: the answer that followed.
        ms: from the event to another list; None when it did not change in time.
    """

    type: str
    item: str
    before: tuple[RecommendedItem, ...]
    after: Recommendation
    ms: float | None

    @property
    def gone(self) -> list[str]:
        """What was in the list before and is not after."""
        return [item_id for item_id in _ids(self.before) if item_id not in _ids(self.after.items)]

    def climbed(self, item: RecommendedItem) -> int | None:
        """By how many places an item of the list now stands higher than it did; None for one that is new."""
        before = _ids(self.before)
        return before.index(item.item_id) + 1 - item.rank if item.item_id in before else None


def _ids(items: Sequence[RecommendedItem]) -> list[str]:
    return [item.item_id for item in items]


class Newcomer:
    """She has an id that no event has carried.

    Fields
        asked, answered: her requests, and those with an answer.
        lists: answers with a list.
        events: that she made.
    """

    def __init__(self, client: Client) -> None:
        self.user = f"newcomer-{new_id()[:8]}"
        self.asked = 0
        self.answered = 0
        self.lists = 0
        self.events = 0
        self._client = client

    def first_list(self) -> Recommendation:
        """What she is shown before her first click."""
        return self._ask()

    def clicks(self, items: Sequence[str], before: Recommendation) -> Iterator[Act]:
        """One click after the other, each with the list that followed. Raises HeadwaterError when no answer comes."""
        for item in items:
            reaction = self._reacts("click", item, before)
            yield reaction
            before = reaction.after

    def dismisses(self, before: Recommendation) -> Act:
        """She turns down the first film of her list. Raises HeadwaterError when no answer comes."""
        return self._reacts("dismiss", before.items[0].item_id, before)

    def rows(self) -> Recommendation:
        """Her home page: a row for each of the newest films of hers. Raises HeadwaterError when no answer comes."""
        return self._ask(k=None, overrides=HOME)

    def sees_taken_down(self, before: Recommendation) -> Act:
        """The first film of her list is removed from the catalogue. Raises HeadwaterError when no answer comes."""
        item = before.items[0].item_id
        started = time.perf_counter()
        self._client.remove_item(item).result(DEADLINE_S)
        answer, ms = before, None
        while ms is None and time.perf_counter() - started < CHANGED_WITHIN_S:
            answer = self._ask()
            if item not in _ids(answer.items):
                ms = (time.perf_counter() - started) * 1000
        return Act(TAKEDOWN, item, before.items, answer, ms)

    def _reacts(self, kind: str, item: str, before: Recommendation) -> Act:
        started = time.perf_counter()
        handle = self._client.track(self.user, item, kind)
        self.events += 1
        answer, ms = before, None
        while time.perf_counter() - started < CHANGED_WITHIN_S:
            answer = self._ask(after=handle)
            if _ids(answer.items) != _ids(before.items):
                ms = (time.perf_counter() - started) * 1000
                break
        return Act(kind, item, before.items, answer, ms)

    def _ask(self, **fields: object) -> Recommendation:
        self.asked += 1
        asked: dict[str, Any] = {"k": LIST_LENGTH, "explain": True, **fields}
        answer = self._client.recommend(self.user, deadline_s=DEADLINE_S, **asked)
        self.answered += 1
        self.lists += bool(answer.items)
        return answer


def choose_three(catalogue: Mapping[str, Item], by_frequency: Sequence[str]) -> list[str]:
    """Three items of one theme, by title; without such titles, three that are often chosen but not the most."""
    by_title = {item.title: item_id for item_id, item in catalogue.items() if item.title}
    for theme in THEMES:
        if all(title in by_title for title in theme):
            return [by_title[title] for title in theme]
    return list(by_frequency[2:5]) or list(by_frequency[:3])


def shown_title(item_id: str, catalogue: Mapping[str, Item]) -> str:
    """Title and year as people write them; the id of an item without a title.

    >>> shown_title("71", {"71": Item(item_id="71", title="Lion King, The", attributes={"year": 1994})})
    'The Lion King (1994)'
    """
    item = catalogue.get(item_id)
    return item_id if item is None else spoken_title(item)
