"""The catalogue as the topic `items` tells it, by id and by words of a title. Follows the topic in a thread."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Iterable

from headwater.errors import InvalidMessage
from headwater.events import Item
from headwater.kafka import BoundedReader
from headwater.settings import KafkaSettings
from headwater.topics import ITEMS
from headwater.wire import decode_catalogue_record
from viewing.titles import spoken_title
from viewing.written import printable

__all__ = ["TitleCatalogue"]

log = logging.getLogger("headwater")

LOOK_S = 1.0
MOST_FOUND = 24
MOST_ITEMS = 200_000
"""That are kept for people to search in, some 300 MB; those that come later have their ids for titles."""


class TitleCatalogue:
    """What is in it now. `follow` in a thread of its own; the rest from any."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._items: dict[str, tuple[Item, str, str]] = {}
        """Id -> the item without its long text, its title as people write it, and what is searched in."""
        self._next: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def follow(self, stopping: threading.Event) -> None:
        """Read all that there is, and what comes, until told to stop."""
        while not stopping.is_set():
            try:
                with BoundedReader(self._kafka, ITEMS) as reader:
                    while not stopping.is_set():
                        self._read(reader)
                        stopping.wait(LOOK_S)
            except Exception as error:
                log.warning("the page does not follow the catalogue", exc_info=error)
                stopping.wait(LOOK_S)

    def _read(self, reader: BoundedReader) -> None:
        for span in reader.spans(first=self._next):
            for record in reader.records(span):
                try:
                    self._take(*decode_catalogue_record(record.key, record.value, ""))
                except InvalidMessage:  # serving counts it, and its letter says why
                    continue
            self._next[span.partition] = span.end

    def _take(self, item_id: str, item: Item | None) -> None:
        if item is None:
            self._items.pop(item_id, None)
            return
        if len(self._items) >= MOST_ITEMS and item_id not in self._items:
            return
        title = str(printable(spoken_title(item)))
        words = " ".join((title, item_id, *item.categories)).casefold()
        self._items[item_id] = item.model_copy(update={"text": None, "vectors": {}}), title, words

    def item(self, item_id: str) -> Item | None:
        """What is known of it, but for its text and vectors."""
        found = self._items.get(item_id)
        return None if found is None else found[0]

    def known(self) -> dict[str, Item]:
        """All items by id, as `item` tells them."""
        return {item_id: item for item_id, (item, _, _) in list(self._items.items())}

    def titles(self, item_ids: Iterable[str]) -> dict[str, str]:
        """Of those that have one."""
        return {one: self._items[one][1] for one in item_ids if one in self._items}

    def search(self, text: str) -> list[dict[str, str]]:
        """Items that have all these words, those whose title begins so first; the first of all for no words."""
        words = text.casefold().split()
        hits = (
            (not title.casefold().startswith(text.casefold().strip()), place, item_id, title, item)
            for place, (item_id, (item, title, searched)) in enumerate(list(self._items.items()))
            if all(word in searched for word in words)
        )
        return [
            {"item_id": item_id, "title": title, "categories": ", ".join(item.categories[:3])}
            for _, _, item_id, title, item in heapq.nsmallest(MOST_FOUND, hits, key=lambda hit: hit[:2])
        ]
