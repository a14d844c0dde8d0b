"""Past streams: read from files, from Kafka, from MovieLens or from other engines' exports, they happen again."""

from pathlib import Path

from headwater.errors import SourceError
from replay.sources import (
    Catalogued,
    Columns,
    FileSource,
    Gorse,
    KafkaRange,
    Metarank,
    MovieLens,
    Source,
    SourceReport,
)
from replay.stream import ReplayReport, Speed, stream

__all__ = [
    "Catalogued",
    "Columns",
    "FileSource",
    "Gorse",
    "KafkaRange",
    "Metarank",
    "MovieLens",
    "ReplayReport",
    "Source",
    "SourceReport",
    "Speed",
    "open_source",
    "stream",
]


def open_source(
    path: Path | str, columns: Columns | None = None, *, in_file_order: bool = False, impressions: bool = False
) -> Source:
    """The source that a path names.

    Parameters
        path: `movielens`, `gorse:PATH`, `metarank:PATH`, or a path by what it holds: MovieLens-100K is known by its
            file names, exports of gorse and metarank by their first line; all else is a parquet, CSV, TSV or JSON Lines
            file.
        columns: the names of its columns, for such a file.
        in_file_order: leave such a file unsorted.
        impressions: also make events of metarank's rankings.

    Raises
        SourceError: no such source, or options that it does not take; it says what to do.
    """
    kind, colon, rest = str(path).partition(":")
    named = kind if colon and kind in ("gorse", "metarank") else None
    path = Path(rest if named else path)
    if (named or str(path) == "movielens" or MovieLens.is_here(path)) and (columns or in_file_order):
        raise SourceError(f"{path}: its columns and order are known: leave out --user, --item, ... and --in-file-order")
    if named == "metarank" or (named is None and columns is None and Metarank.is_here(path)):
        return Metarank(path, impressions=impressions)
    if impressions:
        raise SourceError(f"{path}: only metarank's files have rankings to make impressions of")
    if named == "gorse" or (named is None and columns is None and Gorse.is_here(path)):
        return Gorse(path)
    if MovieLens.is_here(path):
        return MovieLens(path)
    if str(path) == "movielens" and not path.exists():
        return MovieLens()
    return FileSource(path, columns or Columns(), in_file_order=in_file_order)
