"""Rows of a parquet file, by columns of a batch.

Before: a path. After: `table`. Texts that were written as bytes are left to `source`; times of parquet are made whole
epoch milliseconds here, where their unit is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater.errors import SourceError
from replay.sources.raw import LocalStamp, Stamp

__all__ = ["parquet_names", "parquet_rows"]


def parquet_names(path: Path) -> list[str]:
    """The columns at the top of a parquet file. Raises SourceError."""
    with _file(path) as file:
        return list(file.schema_arrow.names)


def parquet_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The number of each row, from 1, and its values of some columns, in that order. Raises SourceError."""
    number = 0
    wanted = list(dict.fromkeys(names))
    with _file(path) as file:
        for batch in file.iter_batches(columns=wanted):
            columns = {name: _plain(batch.column(name)) for name in wanted}
            for values in zip(*(columns[name] for name in names), strict=True):
                number += 1
                yield number, values


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise SourceError(f"{path} cannot be read as parquet ({error}): is it complete?") from error


def _plain(column: Any) -> list[Any]:
    """The values of a column; times as whole epoch milliseconds that say whether their zone is known."""
    import pyarrow as pa

    stamp: type[Stamp] = LocalStamp
    if pa.types.is_timestamp(column.type):
        stamp = LocalStamp if column.type.tz is None else Stamp
        column = column.cast(pa.timestamp("ms", column.type.tz), safe=False)
    elif pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    else:
        return column.to_pylist()  # type: ignore[no-any-return]
    return [None if value is None else stamp(value) for value in column.cast(pa.int64()).to_pylist()]
