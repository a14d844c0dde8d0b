"""Past streams: read from files, from Kafka, from MovieLens or from other engines' exports, they happen again."""

from collections.abc import Sequence
from pathlib import Path

from headwater.errors import SourceError
from replay.sources import (
    Catalogued,
    Columns,
    FileFormat,
    FileSource,
    Gorse,
    KafkaRange,
    Metarank,
    MovieLens,
    RowOptions,
    Source,
    SourceReport,
)
from replay.stream import ReplayReport, Speed, stream

__all__ = [
    "Catalogued",
    "Columns",
    "FileFormat",
    "FileSource",
    "Gorse",
    "KafkaRange",
    "Metarank",
    "MovieLens",
    "ReplayReport",
    "RowOptions",
    "Source",
    "SourceReport",
    "Speed",
    "open_source",
    "stream",
]


def open_source(
    path: Path | str | Sequence[str],
    columns: Columns | None = None,
    *,
    form: FileFormat | None = None,
    options: RowOptions | None = None,
    in_file_order: bool = False,
    impressions: bool = False,
) -> Source:
    """The source that a path names.

    Parameters
        path: `movielens`, `gorse:PATH`, `metarank:PATH`, or a path by what it holds: MovieLens-100K is known by its
            file names, exports of gorse and metarank by their first line; all else is a file, a folder of parts or a
            glob, or several, of parquet, delimited text or JSON.
        columns: what is known of its columns, for such a file.
        form: what is known of how it is written.
        options: how its rows become events.
        in_file_order: leave such a file unsorted.
        impressions: also make events of metarank's rankings.

    Raises
        SourceError: no such source, or options that it does not take; it says what to do.
    """
    if not isinstance(path, str | Path):
        if len(path) > 1:
            return FileSource(path, columns, form=form, options=options, in_file_order=in_file_order)
        path = path[0]
    kind, colon, rest = str(path).partition(":")
    named = kind if colon and kind in ("gorse", "metarank") else None
    path = Path(rest if named else path)
    told = columns is not None or form is not None
    if (named or str(path) == "movielens" or MovieLens.is_here(path)) and (told or in_file_order):
        raise SourceError(f"{path}: its columns and order are known: leave out --user, --item, ... and --in-file-order")
    if named == "metarank" or (named is None and not told and Metarank.is_here(path)):
        return Metarank(path, impressions=impressions, options=options)
    if impressions:
        raise SourceError(f"{path}: only metarank's files have rankings to make impressions of")
    if named == "gorse" or (named is None and not told and Gorse.is_here(path)):
        return Gorse(path, options)
    if MovieLens.is_here(path):
        return MovieLens(path)
    if str(path) == "movielens" and not path.exists():
        return MovieLens()
    return FileSource(path, columns, form=form, options=options, in_file_order=in_file_order)
