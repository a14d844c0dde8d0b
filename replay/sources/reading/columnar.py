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
            columns = {name: _plain(batch.column(name)).to_pylist() for name in wanted}
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
