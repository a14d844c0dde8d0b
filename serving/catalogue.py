"""What can be recommended: titles, availability, age and filterable fields of every item, in memory.

Before: the `items` topic, read from its beginning. After: `serving.rules` (masks), `serving.cold_items` (the newest),
`serving.reasons` (titles). Knows nothing of Kafka or of model rows: each item id gets a slot, for good, the first time
it is named; masks are over slots.

The threads that follow the topics write and the one that answers reads; one lock, held for microseconds, joins them.
What an answer asks for is kept as items come and go, so that no answer walks through the catalogue item by item.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.events import Item
from headwater.filters import read_filters
from models.content import FEATURES, features_of
from serving.filters import Fields, Instant, KeptMask, Mask, Scalar, fields_of, filter_key

__all__ = ["Catalogue"]

KEPT_FILTERS = 256
NEVER_MS = np.inf
FIRST_CAPACITY = 1024

Slots = npt.NDArray[np.int64]


class _Ranks:
    """The place of each slot in the order of ids. New ids are merged into it at the next look."""

    def __init__(self) -> None:
        self._ids = np.zeros(0, object)  # sorted
        self._slots = np.zeros(0, np.int64)  # in the order of `_ids`
        self._ranks = np.zeros(0, np.int64)

    def of(self, ids: list[str]) -> Slots:
        """(slots,) int64; `ids` by slot, which only grow."""
        held = len(self._slots)
        if held < len(ids):
            fresh = np.array(sorted(range(held, len(ids)), key=ids.__getitem__), np.int64)
            names = np.array([ids[slot] for slot in fresh.tolist()], object)
            places = np.searchsorted(self._ids, names)
            self._ids = np.insert(self._ids, places, names)
            self._slots = np.insert(self._slots, places, fresh)
            self._ranks = np.empty(len(ids), np.int64)
            self._ranks[self._slots] = np.arange(len(ids))
        return self._ranks


class Catalogue:
    """Items by id and by slot. `changes` counts what may have altered a mask; `lock` guards every member.

    `offsets` (items partition -> offset of the last record taken in) is written by whoever reads the topic, under the
    lock, so that an answer can say what it knew.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.lock = threading.RLock()
        self.changes = 0
        self.offsets: dict[str, int] = {}
        self.ids: list[str] = []
        self.slots: dict[str, int] = {}
        self._items: list[Item | None] = []
        self._fields = Fields()
        self._kept: OrderedDict[bytes, KeptMask] = OrderedDict()  # by filter, until an item changes
        self._known = np.zeros(FIRST_CAPACITY, bool)  # by slot, with room to grow: what the catalogue has
        self._blocked = np.zeros(FIRST_CAPACITY, bool)  # unavailable or removed
        self._gone_ms = np.full(FIRST_CAPACITY, NEVER_MS)  # when it expires
        self._expiring = 0  # how many ever do
        self._written_ms = np.zeros(FIRST_CAPACITY, np.int64)
        self._published_ms = np.zeros(FIRST_CAPACITY, np.int64)
        self._ranks = _Ranks()
        self._contents: dict[int, npt.NDArray[np.int64]] = {}
        self._read: dict[int, dict[str, list[Scalar]]] = {}  # the fields of items that lists were picked from
        self._size = 0
        for item in items:
            self.put(item)

    def __len__(self) -> int:
        return self._size

    def slot(self, item_id: str) -> int:
        """The item's slot; a new one when the id was never named before."""
        found = self.slots.get(item_id)
        if found is not None:
            return found
        with self.lock:
            if item_id not in self.slots:
                self._items.append(None)
                self.ids.append(item_id)
                self.slots[item_id] = len(self.ids) - 1
                if len(self.ids) > len(self._known):
                    self._known, self._blocked = map(_doubled, (self._known, self._blocked))
                    self._gone_ms = _doubled(self._gone_ms, NEVER_MS)
                    self._written_ms, self._published_ms = map(_doubled, (self._written_ms, self._published_ms))
                self.changes += 1
            return self.slots[item_id]

    def put(self, item: Item, written_ms: int = 0) -> None:
        """An item as it is from now on.

        Parameters
            item: replaces what was there under its id.
            written_ms: when its record was written, epoch ms. That is how new it is, where it has no `published_time`
                or one that is yet to come.
        """
        fields = fields_of(item)
        with self.lock:
            slot = self.slot(item.item_id)
            self._forget(slot)
            self._items[slot] = item.model_copy(update={"vectors": {}}) if item.vectors else item  # for the learner
            self._size += 1
            self._fields.add(slot, fields)
            self._known[slot] = True
            self._blocked[slot] = not item.available
            self._gone_ms[slot] = NEVER_MS if item.gone_ms is None else item.gone_ms
            self._expiring += item.gone_ms is not None
            self._written_ms[slot] = written_ms
            self._published_ms[slot] = written_ms if item.published_time is None else item.published_time
            self.changes += 1

    def remove(self, item_id: str) -> None:
        """An item that left the catalogue: never recommended again, unless it is put back."""
        with self.lock:
            slot = self.slot(item_id)
            self._forget(slot)
            self._blocked[slot] = True
            self.changes += 1

    def get(self, item_id: str) -> Item | None:
        """The item, or None for one that is not in the catalogue."""
        slot = self.slots.get(item_id)
        return None if slot is None else self._items[slot]

    def title(self, item_id: str) -> str:
        """The item's title, or its id where it has none."""
        item = self.get(item_id)
        return item.title if item is not None and item.title else item_id

    def blocked(self, now_ms: int) -> KeptMask:
        """Over slots: unavailable, removed, or expired at an instant (epoch ms). Items that only events have named are
        not blocked.
        """
        with self.lock:
            count = len(self.ids)
            mask, instant = self._blocked[:count].copy(), Instant(now_ms)
            if self._expiring:
                gone_ms = self._gone_ms[:count]
                mask |= gone_ms <= now_ms
                instant.changes_at(gone_ms)
            return KeptMask(mask, instant.after_ms, instant.before_ms)

    def listed(self) -> Mask:
        """Over slots: in the catalogue, and available."""
        with self.lock:
            count = len(self.ids)
            return np.asarray(self._known[:count] & ~self._blocked[:count])

    def matching_all(
        self, filters: Mapping[str, Any], now_ms: int, place: str = "filters", *, unknown_ok: bool = False
    ) -> KeptMask:
        """The items that meet a filter. What is not in the catalogue meets none.

        Parameters
            filters: see `headwater.filters`. A field that holds a list (`categories` does) meets a value when the list
                has it.
            now_ms: what `now` means in it, epoch ms.
            place: where it stands, for a refusal.
            unknown_ok: of a field that no item has just now, no item meets a condition, and nothing is refused.

        Returns
            A mask over slots, (slots,) bool, and for how long it is right.

        Raises
            RequestRefused: `unknown_field` when no item has a field, `bad_filter` when a condition means nothing, or
                nothing for what its field holds.
        """
        key = filter_key(filters, place, unknown_ok=unknown_ok)
        with self.lock:
            kept = self._kept.get(key)
            if kept is None or not kept.holds(now_ms):
                tree = read_filters(filters, place)
                kept = self._kept[key] = self._fields.matching(
                    tree, self._known[: len(self.ids)], now_ms, unknown_ok=unknown_ok
                )
                if len(self._kept) > KEPT_FILTERS:
                    self._kept.popitem(last=False)
            elif len(kept.mask) < len(self.ids):  # of ids that only events have named since
                grown = np.zeros(len(self.ids), bool)
                grown[: len(kept.mask)] = kept.mask
                kept = self._kept[key] = kept._replace(mask=grown)
            self._kept.move_to_end(key)
            return kept

    def newest(
        self, slots: Slots, count: int, now_ms: int, first_ms: npt.NDArray[np.floating[Any]] | None = None
    ) -> Slots:
        """Of some slots the `count` newest, newest first, and by item id where they are equally new.

        What is to be published after `now_ms` (epoch) is as new as its record; what the catalogue has no time of, as
        `first_ms` says, (all slots,).
        """
        with self.lock:
            times = self._published_ms[slots]
            times = np.where(times > now_ms, self._written_ms[slots], times)
            if first_ms is not None:
                times = np.where(times > 0, times, first_ms[slots])
            ranks = self._ranks.of(self.ids)[slots]
            if 0 < count < len(slots):
                last = np.partition(times, len(times) - count)[len(times) - count]
                newer, equal = np.flatnonzero(times > last), np.flatnonzero(times == last)
                room = count - len(newer)
                kept = np.concatenate([newer, equal[np.argpartition(ranks[equal], room - 1)[:room]]])
                slots, times, ranks = slots[kept], times[kept], ranks[kept]
            return np.asarray(slots[np.lexsort((ranks, -times))][:count])

    def has_field(self, name: str) -> bool:
        """Whether any item has a field of this name."""
        with self.lock:
            return name in self._fields

    def values(self, name: str, slots: Iterable[int]) -> list[Sequence[Scalar]]:
        """Each item's values of a field, as filters read them; none where it has none."""
        with self.lock:
            return [self._values(slot).get(name, ()) for slot in slots]

    def contents(self, slots: Iterable[int]) -> npt.NDArray[np.int64]:
        """What items are about (`models.content`): (n, FEATURES), padded with 0, which is no feature."""
        with self.lock:
            rows = [self._content(slot) for slot in slots]
        return np.array(rows, np.int64).reshape(len(rows), FEATURES)

    def _values(self, slot: int) -> dict[str, list[Scalar]]:
        found = self._read.get(slot)
        if found is None:
            item = self._items[slot]
            found = self._read[slot] = {} if item is None else fields_of(item)
        return found

    def _content(self, slot: int) -> npt.NDArray[np.int64]:
        found = self._contents.get(slot)
        if found is None:
            item = self._items[slot]
            features = [] if item is None else features_of({name: getattr(item, name) for name in CONTENT_FIELDS})
            found = np.array(features + [0] * (FEATURES - len(features)), np.int64)
            self._contents[slot] = found
        return found

    def _forget(self, slot: int) -> None:
        self._contents.pop(slot, None)
        self._read.pop(slot, None)
        self._kept.clear()
        item = self._items[slot]
        if item is None:
            return
        self._fields.discard(slot, fields_of(item))
        self._expiring -= item.gone_ms is not None
        self._gone_ms[slot] = NEVER_MS
        self._items[slot] = None
        self._known[slot] = False
        self._size -= 1


CONTENT_FIELDS = ("title", "categories", "text", "attributes")


def _doubled(column: npt.NDArray[Any], fill: float = 0) -> npt.NDArray[Any]:
    return np.concatenate([column, np.full_like(column, fill)])
