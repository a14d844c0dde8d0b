"""An export of gorse: its feedback as events, its items as the catalogue.

Before: what gorse's dashboard or `/api/bulk` gives out, CSV (`feedback_type,user_id,item_id,time_stamp`, to 0.4) or
JSON Lines (`FeedbackType, UserId, ItemId, Value, Timestamp`, from 0.5). After: `replay.stream`, the backtest. Knows
nothing of Kafka. Its users file holds labels, which no event carries: it is not read.

gorse keeps one feedback of each (type, user, item), so a repeated view is lost before it comes here. Which types are
positive, negative or only read is in its configuration: a `config.toml` beside the feedback is told as our signals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import Event, Item
from headwater.signals import Meaning
from replay.sources.columns import plain
from replay.sources.dates import read_date, with_zone
from replay.sources.formats.gorse_meanings import meanings_of
from replay.sources.kinds import Kinds
from replay.sources.raw import BadRow, LeftOut, RawRow
from replay.sources.reading import objects_of, start_of
from replay.sources.source import RowOptions, SourceReport, as_id, events_of

__all__ = ["Gorse"]

Row = dict[str, Any]

ENDINGS = tuple(f"{kind}{zipped}" for kind in (".csv", ".jsonl") for zipped in ("", ".gz", ".zst"))
FEEDBACK = {"feedbacktype", "userid", "itemid"}
NO_TIME = "0001-01-01"
"""Go's zero time: the feedback came without one."""


class Gorse:
    """A folder with `feedback` and, where there is one, `items` beside it; or the feedback file itself.

    Events are stably sorted by time. A hidden item is not available. Labels become
    attributes: an object's fields by their names, a list as `labels`. Raises SourceError.
    """

    def __init__(
        self, path: Path | str, options: RowOptions | None = None, types: Mapping[str, str] | None = None
    ) -> None:
        """`types` are what words of feedback mean, as a person said."""
        path = Path(path)
        self._options, self._types = options, types or {}
        found = _beside(path, "feedback") if path.is_dir() else path
        if found is None or not found.is_file():
            raise SourceError(f"{path} has no feedback: give gorse's feedback.csv or .jsonl, or the folder of it")
        self._feedback = found
        self._items = _beside(found.parent, "items")
        config = found.parent / "config.toml"
        self._meanings = meanings_of(config) if config.is_file() else {}
        self.report = SourceReport(str(found))
        self.item_report = SourceReport(str(self._items or "no items"))

    @staticmethod
    def is_here(path: Path | str) -> bool:
        """Whether a path is an export of gorse: by its first line, or a folder with such a feedback file."""
        path = Path(path)
        file = _beside(path, "feedback") if path.is_dir() else path
        if file is None or not file.is_file() or not file.name.endswith(ENDINGS):
            return False
        lines = start_of(file, 1 << 16).decode("utf-8", "replace").splitlines()
        return {plain(word) for word in re.findall(r"\w+", lines[0] if lines else "")} >= FEEDBACK

    def events(self) -> Iterator[Event]:
        """Every feedback as an event. Raises SourceError."""
        self.report = SourceReport(str(self._feedback), read_as="gorse's feedback", signals=self._meanings)
        return events_of(self._rows(), self.report, sort=True, options=self._options)

    def _rows(self) -> Iterator[RawRow | BadRow | LeftOut]:
        kinds = Kinds(self._types)
        self.report.made_types = kinds.made
        path = str(self._feedback.resolve())
        for row in _read(self._feedback, FEEDBACK | {"timestamp"}):
            if isinstance(row, BadRow):
                yield row
                continue
            number, fields = row
            try:
                kind = kinds.read(fields.get("feedbacktype"))
            except BadRow as error:
                yield BadRow(error.reason, str(error), f"{self._feedback} line {number}")
                continue
            if not kind:
                yield LeftOut(str(fields.get("feedbacktype")), number)
                continue
            time, value = _time(fields.get("timestamp")), _value(fields)
            if kind in self._meanings and self._meanings[kind].means is Meaning.EXPOSURE:
                value = None  # of what was shown it would be the place
            yield RawRow(number, fields.get("userid"), fields.get("itemid"), time, kind, value, path=path)

    def items(self) -> list[Item]:
        """The items of the file beside the feedback; [] where there is none. Bad ones are counted in `item_report`."""
        self.item_report = report = SourceReport(str(self._items or "no items"))
        found: dict[str, Item] = {}
        if self._items is None:
            return []
        for row in _read(self._items, {"itemid"}):
            report.rows += 1
            try:
                if isinstance(row, BadRow):
                    raise row
                item = _item(row[1])
                found[item.item_id] = item
                report.events += 1
            except BadRow as error:
                report.refuse("" if isinstance(row, BadRow) else f"{self._items} line {row[0]}", error)
        return list(found.values())


def _item(row: Row) -> Item:
    labels = row.get("labels")
    if isinstance(labels, str):
        labels = _labels(labels)
    attributes = labels if isinstance(labels, dict) else {"labels": labels} if labels else {}
    categories = row.get("categories") or ()
    time = _time(row.get("timestamp"))
    try:
        return Item(
            item_id=as_id(row.get("itemid"), "item"),
            categories=tuple(categories.split("|") if isinstance(categories, str) else categories),
            available=str(row.get("ishidden") or "false").lower() not in {"true", "1"},
            published_time=with_zone(read_date(str(time).strip()), UTC) if time else None,
            text=row.get("description") or row.get("comment") or None,
            attributes=attributes,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadRow(str(problem["loc"][0]), f"{problem['loc'][0]}: {problem['msg']}") from error
    except ValueError as error:
        raise BadRow("time", f"time {time!r:.80} cannot be read ({error})") from error


def _labels(text: str) -> Any:
    """Labels of a CSV: JSON in newer releases, a|b in older ones."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text.split("|") if text else None


def _time(given: Any) -> Any:
    """The time that an export gives; None for none."""
    return None if isinstance(given, str) and given.startswith(NO_TIME) else given


def _value(row: Row) -> Any:
    """gorse 0.5 writes a value with every feedback, 0 where none was given."""
    return row.get("value") or None


def _read(path: Path, needed: set[str]) -> Iterator[tuple[int, Row] | BadRow]:
    """Lines by names without case and style, in which both formats agree. Raises SourceError."""
    checked = False
    for row in objects_of(path, lambda name: plain(name) in needed):
        if isinstance(row, BadRow):
            yield row
            continue
        number, fields = row
        found = {plain(name): value for name, value in fields.items()}
        if not checked and not needed <= found.keys():
            lacks = sorted(needed - found.keys())
            raise SourceError(f"{path} lacks columns of gorse's export: {lacks}; it has {list(fields)}")
        checked = True
        yield number, found


def _beside(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{ending}" for ending in ENDINGS if (folder / f"{name}{ending}").is_file()), None)
