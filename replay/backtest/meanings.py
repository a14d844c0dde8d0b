"""Which types of event a stream has, and what they meant in a backtest.

Before: a source's events, counted while they are read. After: `Result.meanings`, by which a page says what was measured
and a comparison sees that two runs measured something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from headwater.events import Event
from headwater.signals import Meaning, Signal, Signals
from replay.backtest.result import TypeMeaning

__all__ = ["TypesCounted"]


class TypesCounted:
    """Counts events by type and meaning as they pass."""

    def __init__(self, meanings: Signals) -> None:
        self._meanings = meanings
        self._events: Counter[tuple[str, Meaning]] = Counter()
        self._items: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._events.total()

    def counting(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events themselves."""
        for event in events:
            meaning = self._meanings.meaning(event.type, event.value)
            self._events[event.type, meaning] += 1
            if meaning is Meaning.EXPOSURE:
                self._items[event.type] += len(event.items or (event.item_id,))
            yield event

    def meant(self) -> dict[str, TypeMeaning]:
        """What each type meant, the most frequent first."""
        totals: Counter[str] = Counter()
        for (kind, _), count in self._events.items():
            totals[kind] += count
        found = {}
        for kind, _ in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0])):
            told: dict[str, Any] = {
                "events": {one.value: self._events[kind, one] for one in Meaning if self._events[kind, one]},
                "signal": _told(self._meanings.of(kind)),
            }
            if kind in self._items:
                told["items"] = self._items[kind]
            if not self._meanings.knows(kind):
                told["known"] = False
            found[kind] = TypeMeaning(**told)
        return found


def _told(signal: Signal) -> dict[str, Any]:
    """A signal as the settings have it, without what is as usual; its meaning always, unless the value decides."""
    given = signal.model_dump(mode="json", exclude_defaults=True)
    return given if signal.by_value else {"means": signal.means.value, **given}
