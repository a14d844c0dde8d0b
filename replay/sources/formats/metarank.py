"""Events in metarank's JSON Lines: interactions as events, its `item` events as the catalogue.

Before: the file that metarank trains from (https://docs.metarank.ai/reference/event-schema). After: `replay.stream`,
the backtest. Knows nothing of Kafka.

| metarank | here |
|---|---|
| `interaction` | an event; `ranking` becomes its `request_id`, `session` its `session_id` |
| `ranking` | one `impression` of all its items, in their order, with its id, which interactions name, as `request_id` |
| `item` | a catalogue entry: fields of later ones replace those of earlier ones |
| `user` | counted in `left_out`: a user is their history here |

`fields` of interactions and rankings (a search query, a price) and `relevancy` are not read.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import Event, Item
from replay.sources.columns import CATEGORIES, TEXTS, TITLES
from replay.sources.kinds import Kinds
from replay.sources.lists import SHOWN_TYPE
from replay.sources.raw import BadRow, LeftOut, RawRow
from replay.sources.reading import objects_of, start_of
from replay.sources.source import RowOptions, SourceReport, as_id, events_of

__all__ = ["Metarank"]

Row = dict[str, Any]

ENDINGS = tuple(f"{kind}{zipped}" for kind in (".jsonl", ".json", ".ndjson") for zipped in ("", ".gz", ".zst"))
EVENTS = {"interaction", "ranking", "item", "user"}
AVAILABLE = "available"


class Metarank:
    """One file, optionally gzipped. An event without a user is that of its session, as metarank allows.

    Events are stably sorted by time. Raises SourceError.
    """

    def __init__(
        self, path: Path | str, options: RowOptions | None = None, types: Mapping[str, str] | None = None
    ) -> None:
        """`types` are what words of interactions mean, as a person said."""
        self.path = Path(path)
        self._options, self._types = options, types or {}
        if not self.path.is_file():
            raise SourceError(f"{path} is not a file: give metarank's events as JSON Lines")
        self.report = SourceReport(str(path))
        self.item_report = SourceReport(str(path))

    @staticmethod
    def is_here(path: Path | str) -> bool:
        """Whether a file is metarank's, by its first line."""
        path = Path(path)
        if not path.is_file() or not path.name.endswith(ENDINGS):
            return False
        try:
            first = orjson.loads(start_of(path).removeprefix(BOM_UTF8).partition(b"\n")[0])
        except orjson.JSONDecodeError:
            return False
        return isinstance(first, dict) and {"id", "timestamp"} <= first.keys() and _is_known(first.get("event"))

    def events(self) -> Iterator[Event]:
        """Interactions, and the lists that were ranked. Raises SourceError."""
        self.report = SourceReport(str(self.path), read_as="metarank's events")
        return events_of(self._event_rows(), self.report, sort=True, options=self._options)

    def _event_rows(self) -> Iterator[RawRow | BadRow | LeftOut]:
        kinds, path = Kinds(self._types), str(self.path.resolve())
        self.report.made_types = kinds.made
        for row in self._rows():
            if isinstance(row, BadRow):
                yield row
                continue
            number, body = row
            try:
                yield self._made(number, body, kinds)._replace(path=path)
            except BadRow as error:
                yield BadRow(error.reason, str(error), f"{self.path} line {number}")

    def _made(self, number: int, row: Row, kinds: Kinds) -> RawRow | LeftOut:
        """The event of one of metarank's. Raises BadRow."""
        if row["event"] == "interaction":
            kind = kinds.read(row.get("type"))
            if not kind:
                return LeftOut(str(row.get("type")), number)
            return _row(number, row, row.get("item"), kind, row.get("id"), row.get("ranking"))
        if row["event"] != "ranking":
            return LeftOut(row["event"], number)
        shown = row.get("items")
        if not isinstance(shown, list) or not shown or not all(isinstance(one, dict) for one in shown):
            raise BadRow("items", f"items of a ranking are {shown!r:.80}, not a list of objects")
        ranked = _row(number, row, None, SHOWN_TYPE, f"{row.get('id')}:shown", row.get("id"))
        return ranked._replace(shown=[one.get("id") for one in shown])

    def items(self) -> list[Item]:
        """The catalogue after the last `item` event. Bad ones are counted in `item_report`. Raises SourceError."""
        self.item_report = report = SourceReport(str(self.path))
        entries: dict[str, dict[str, Any]] = {}
        made: dict[str, Item] = {}
        for found in self._rows():
            if isinstance(found, BadRow) or found[1]["event"] != "item":
                continue
            number, row = found
            report.rows += 1
            try:
                item_id = as_id(row.get("item"), "item")
                fields = {**entries.get(item_id, {}), **_fields(row.get("fields"))}
                made[item_id] = _item(item_id, fields)
                entries[item_id] = fields
                report.events += 1
            except BadRow as error:
                report.refuse(f"{self.path} line {number}", error)
        return list(made.values())

    def _rows(self) -> Iterator[tuple[int, Row] | BadRow]:
        for row in objects_of(self.path, lambda name: name == "event"):
            if isinstance(row, BadRow) or _is_known(row[1].get("event")):
                yield row
            else:
                told = f"event {row[1].get('event')!r:.80} is none of {', '.join(sorted(EVENTS))}"
                yield BadRow("event", told, f"{self.path} line {row[0]}")


def _is_known(event: Any) -> bool:
    return isinstance(event, str) and event in EVENTS


def _row(number: int, row: Row, item: Any, kind: Any, event_id: Any, request: Any) -> RawRow:
    user = row.get("user") or row.get("session")
    return RawRow(number, user, item, row.get("timestamp"), kind, None, event_id, row.get("session"), request)


def _fields(given: Any) -> dict[str, Any]:
    """`[{"name": n, "value": v}, ...]` as a mapping. Raises BadRow."""
    try:
        return {str(field["name"]): field["value"] for field in given or ()}
    except (TypeError, KeyError) as error:
        raise BadRow("fields", f"fields are {given!r:.80}, not a list of name and value") from error


def _item(item_id: str, fields: dict[str, Any]) -> Item:
    """An item of its fields: the usual names have their places, all else are attributes. Raises BadRow."""
    rest = dict(fields)
    title, text = _first(rest, TITLES), _first(rest, TEXTS)
    categories = _first(rest, CATEGORIES) or ()
    available = rest.pop(AVAILABLE, True)
    try:
        return Item(
            item_id=item_id,
            title=title,
            text=text,
            categories=(categories,) if isinstance(categories, str) else categories,
            available=available,
            attributes=rest,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadRow(str(problem["loc"][0]), f"{problem['loc'][0]}: {problem['msg']}") from error


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first of some names that is there, taken out."""
    name = next((name for name in names if name in fields), None)
    return None if name is None else fields.pop(name)
