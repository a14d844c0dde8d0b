"""Past events from a parquet, CSV, TSV or JSON Lines file, with a mapping of its columns.

Before: `replay.sources.rows` reads the file. After: `replay.stream`, the backtest. What a row must hold to become an
event is in `replay.sources.source`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import SourceError
from headwater.events import Event
from replay.sources.rows import format_of, rows_of
from replay.sources.source import BadRow, RawRow, SourceReport, events_of

__all__ = ["Columns", "FileSource"]

USUAL = {
    "user": ("user_id", "user", "userId", "visitor_id", "visitorid"),
    "item": ("item_id", "item", "itemId", "itemid", "movie_id", "movieId", "product_id"),
    "time": ("event_time", "time", "timestamp", "ts", "date"),
    "type": ("type", "event", "event_type", "action"),
    "value": ("value", "rating", "weight", "price"),
}
"""Names that a column is looked for under when none is given."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what. None looks for the usual names; `type` may be a fixed word: "=view"."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    type: str | None = None
    value: str | None = None


class FileSource:
    """One file, in time order (stable, about 300 bytes a row of memory), or in its own with `in_file_order`."""

    def __init__(self, path: Path | str, columns: Columns | None = None, *, in_file_order: bool = False) -> None:
        self.path = Path(path)
        self.columns = columns or Columns()
        self.in_file_order = in_file_order
        self.report = SourceReport(str(path))
        if not self.path.is_file():
            raise SourceError(f"{path} is not a file: give a .parquet, .csv, .tsv or .jsonl file")
        format_of(self.path)

    def events(self) -> Iterator[Event]:
        """The events. Raises SourceError for a file that cannot be read or lacks a column."""
        self.report = SourceReport(str(self.path))
        return events_of(self._raw_rows(), self.report, sort=not self.in_file_order)

    def _raw_rows(self) -> Iterator[RawRow | BadRow]:
        chosen: dict[str, str] = {}
        path = str(self.path.resolve())

        def choose(present: list[str]) -> set[str]:
            chosen.update(self._chosen(present))
            return set(chosen.values())

        fixed = (self.columns.type or "")[1:]
        usual = {"value": self.columns.value or "value", "event_id": "event_id"}  # JSON may bring them later
        for number, row in enumerate(rows_of(self.path, choose)):
            if isinstance(row, BadRow):
                yield row
                continue
            names = usual | chosen
            yield RawRow(
                number,
                row.get(names["user"]),
                row.get(names["item"]),
                row.get(names["time"]),
                row.get(names["type"]) if "type" in names else fixed,
                row.get(names["value"]),
                row.get(names["event_id"]),
                path=path,
            )

    def _chosen(self, present: list[str]) -> dict[str, str]:
        """Field -> column. Raises SourceError when a needed column is not there."""
        chosen: dict[str, str] = {}
        for field in USUAL:
            given = getattr(self.columns, field)
            if given is not None and field == "type" and given.startswith("="):
                continue
            usual = next((name for name in USUAL[field] if name in present), None)
            name = usual if given is None else given
            if name in present:
                chosen[field] = name
            elif given is not None or field in ("user", "item", "time", "type"):
                remedy = ' or a fixed word, --type "=view"' if field == "type" else ""
                raise SourceError(
                    f"{self.path} has no column {given or ' or '.join(USUAL[field])}. It has {', '.join(present)}: "
                    f"name one with --{field}{remedy}"
                )
        if "event_id" in present:
            chosen["event_id"] = "event_id"
        return chosen
