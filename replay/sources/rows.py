"""Rows of a CSV, TSV, JSON Lines or parquet file, gzipped or not: its columns by name, or why it is none.

Before: a path. After: `files`, `gorse`, `metarank` and `catalogue_file`, which say what the columns mean.

CSV and JSON are read by Python's csv and by orjson, not by pyarrow: its JSON reader ends at the first bad line, its CSV
reader gives bad rows apart from the good ones, and neither is faster once a row is a Python mapping.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import orjson

from headwater.errors import SourceError
from replay.sources.source import BadRow

__all__ = ["Row", "csv_rows", "first_line", "format_of", "json_rows", "rows_of"]

Row = dict[str, Any]

Choose = Callable[[list[str]], Collection[str]]
"""Told the columns before the first row; names those that are wanted, or raises SourceError for one that lacks."""

FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError)
LONGEST_LINE = 1 << 20


def format_of(path: Path) -> str:
    """`parquet`, `csv`, `tsv` or `jsonl`, by the ending of the name. Raises SourceError for any other."""
    zipped = path.name.lower().endswith(".gz")
    ending = Path(path.name[:-3]).suffix.lower() if zipped else path.suffix.lower()
    if ending not in FORMATS or (zipped and ending == ".parquet"):
        raise SourceError(f"{path}: unknown kind of file {ending!r}; .parquet, .csv, .tsv and .jsonl are read")
    return FORMATS[ending]


def rows_of(path: Path, choose: Choose = list, *, short_rows: bool = False) -> Iterator[Row | BadRow]:
    """The rows of a file in its order. `choose` as in `Choose`; only parquet leaves out what is not wanted.

    With `short_rows` a CSV row may end early, and an empty line is no row. Times of parquet are epoch milliseconds.
    Raises SourceError for a file that cannot be read.
    """
    kind = format_of(path)
    if kind == "parquet":
        return _parquet_rows(path, choose)
    if kind == "jsonl":
        return json_rows(path, choose)
    return csv_rows(path, choose, separator="\t" if kind == "tsv" else ",", short_rows=short_rows)


def csv_rows(
    path: Path, choose: Choose = list, *, separator: str = ",", short_rows: bool = False
) -> Iterator[Row | BadRow]:
    """As `rows_of`, for a CSV whatever its name. Values are texts. Raises SourceError."""
    with _opened(path, "CSV in UTF-8") as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        try:
            reader = csv.reader(text, delimiter=separator, strict=True)
            header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
            if not header:
                raise SourceError(f"{path} is empty: no items or events, nor the first line, which names the columns")
            choose(header)
            for fields in reader:
                if short_rows and len(fields) < len(header):
                    if fields:
                        yield dict(zip(header, fields, strict=False))
                elif len(fields) != len(header):
                    yield BadRow("columns", f"{len(fields)} fields where the header has {len(header)}")
                else:
                    yield dict(zip(header, fields, strict=True))
        except csv.Error as error:
            raise SourceError(f"{path} cannot be read as CSV in UTF-8 ({error})") from error


def json_rows(path: Path, choose: Choose = list) -> Iterator[Row | BadRow]:
    """As `rows_of`, for JSON Lines whatever the file's name; the columns are those of its first object."""
    first = True
    with _opened(path, "JSON Lines") as file:
        for line in file:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield BadRow("undecodable", f"not JSON ({error})")
                continue
            if not isinstance(row, dict):
                yield BadRow("undecodable", f"a {type(row).__name__}, not an object")
                continue
            if first:
                choose(list(row))
                first = False
            yield row


def first_line(path: Path) -> bytes:
    """The first line of a file, as far as one looks to tell formats apart; empty where it cannot be read."""
    try:
        with _unzipped(path) as file:
            return file.readline(LONGEST_LINE)
    except BROKEN:
        return b""


def _parquet_rows(path: Path, choose: Choose) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=sorted(set(choose(file.schema_arrow.names)))):
                columns = [_plain(column).to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield dict(zip(batch.schema.names, values, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} cannot be read as parquet ({error}): is it complete?") from error


def _plain(column: Any) -> Any:
    """A column of times as whole epoch milliseconds, any other as it is."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_date(column.type):
        return column.cast(pa.timestamp("ms")).cast(pa.int64())
    return column


@contextmanager
def _opened(path: Path, what: str) -> Iterator[IO[bytes]]:
    try:
        with _unzipped(path) as file:
            yield file
    except BROKEN as error:
        raise SourceError(f"{path} cannot be read as {what} ({error})") from error


def _unzipped(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))
