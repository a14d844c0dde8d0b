"""Past events from a parquet, CSV, TSV or JSON Lines file, with a mapping of its columns.

Before: a file, optionally gzipped for the text formats. After: `replay.stream`. Knows nothing of Kafka. What a row must
hold to become an event is in `replay.sources`.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from headwater.errors import SourceError
from headwater.events import Event
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
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        self._zipped = suffixes[-1:] == [".gz"]
        self._format = "".join(suffixes[-2:-1] if self._zipped else suffixes[-1:])
        if self._format not in {".parquet", ".csv", ".tsv", ".jsonl", ".ndjson"} or (
            self._zipped and self._format == ".parquet"
        ):
            raise SourceError(
                f"{path}: unknown kind of file {self._format!r}; .parquet, .csv, .tsv and .jsonl are read"
            )

    def events(self) -> Iterator[Event]:
        """The events. Raises SourceError for a file that cannot be read or lacks a column."""
        self.report = SourceReport(str(self.path))
        rows = {".parquet": self._parquet, ".csv": self._csv, ".tsv": self._csv}.get(self._format, self._json_lines)()
        name = self.path.name.split(".")[0][:100]
        return events_of(rows, self.report, name, sort=not self.in_file_order)

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

    def _raw(self, number: int, get: Any, chosen: dict[str, str]) -> RawRow:
        fixed = (self.columns.type or "")[1:]
        values = {field: get(name) for field, name in chosen.items()}
        return RawRow(
            number, values["user"], values["item"], values["time"], values.get("type", fixed), values.get("value"),
            values.get("event_id"),
        )  # fmt: skip

    def _parquet(self) -> Iterator[RawRow]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                schema = file.schema_arrow
                chosen = self._chosen(schema.names)
                number = 0
                for batch in file.iter_batches(columns=sorted(set(chosen.values()))):
                    columns = {}
                    for name in batch.schema.names:
                        column = batch.column(name)
                        if pa.types.is_timestamp(column.type):
                            column = column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
                        elif pa.types.is_date(column.type):
                            column = column.cast(pa.timestamp("ms")).cast(pa.int64())
                        columns[name] = column.to_pylist()
                    for place in range(batch.num_rows):
                        yield self._raw(number, lambda name: columns[name][place], chosen)  # noqa: B023
                        number += 1
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.path} cannot be read as parquet ({error}): is it complete?") from error

    def _csv(self) -> Iterator[RawRow | BadRow]:
        with self._text() as file:
            try:
                reader = csv.reader(file, delimiter="\t" if self._format == ".tsv" else ",", strict=True)
                header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
                if not header:
                    raise SourceError(
                        f"{self.path} is empty: the first line of a {self._format[1:]} file names columns"
                    )
                chosen = self._chosen(header)
                places = {name: header.index(name) for name in chosen.values()}
                for number, fields in enumerate(reader):
                    if len(fields) != len(header):
                        yield BadRow("columns", f"{len(fields)} fields where the header has {len(header)}")
                    else:
                        yield self._raw(number, lambda name: fields[places[name]], chosen)  # noqa: B023
            except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
                raise SourceError(f"{self.path} cannot be read as CSV in UTF-8 ({error})") from error

    def _json_lines(self) -> Iterator[RawRow | BadRow]:
        chosen: dict[str, str] | None = None
        with self._bytes() as file:
            try:
                for number, line in enumerate(file):
                    try:
                        row = orjson.loads(line)
                    except orjson.JSONDecodeError as error:
                        yield BadRow("undecodable", f"not JSON ({error})")
                        continue
                    if not isinstance(row, dict):
                        yield BadRow("undecodable", f"a {type(row).__name__}, not an object")
                        continue
                    if chosen is None:
                        chosen = self._chosen(list(row))
                        chosen.setdefault("value", self.columns.value or "value")
                        chosen.setdefault("event_id", "event_id")
                    yield self._raw(number, row.get, chosen)
            except (OSError, EOFError, zlib.error) as error:
                raise SourceError(f"{self.path} cannot be read ({error})") from error

    def _bytes(self) -> IO[bytes]:
        return cast(IO[bytes], gzip.open(self.path) if self._zipped else self.path.open("rb"))

    def _text(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self._bytes(), encoding="utf-8", newline="")
