"""What the demo replays: MovieLens-100K, or the events of a file at hand.

Events are read once and kept: the demo shows how far it is, and 100,000 of them take 100 MB for a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from headwater.errors import SourceError
from headwater.events import Event, Item
from replay import MovieLens, open_source

__all__ = ["DemoData", "read_data"]


@dataclass(frozen=True)
class DemoData:
    """Events in time order and the catalogue by item id (empty when the source has none)."""

    name: str
    events: Sequence[Event]
    catalogue: dict[str, Item]

    @property
    def total(self) -> int:
        """How many events."""
        return len(self.events)

    def describe(self) -> str:
        """One line."""
        users = len({event.user_id for event in self.events})
        items = len({event.item_id for event in self.events})
        first, last = (
            datetime.fromtimestamp(event.event_time / 1000, UTC).strftime("%b %Y")
            for event in (self.events[0], self.events[-1])
        )
        return f"{self.name}: {self.total:,} events of {users:,} people and {items:,} items, {first} to {last}"


def read_data(path: Path | None, limit: int | None) -> DemoData:
    """MovieLens-100K when no file is named. Raises SourceError with the remedy."""
    source = MovieLens() if path is None else open_source(path)
    events = list(islice(source.events(), limit))
    if not events:
        raise SourceError(f"{source.report.name} has no events")
    catalogue = {item.item_id: item for item in source.items()} if isinstance(source, MovieLens) else {}
    return DemoData(source.report.name, events, catalogue)
