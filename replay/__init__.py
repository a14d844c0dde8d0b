"""Past streams: read from files, from Kafka, from MovieLens or from other engines' exports, they happen again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headwater.errors import SourceError
from replay.sources import (
    FORMATS,
    Catalogued,
    Columns,
    FileFormat,
    FileSource,
    Gorse,
    KafkaRange,
    KnownFile,
    Metarank,
    MovieLens,
    RowOptions,
    Source,
    SourceReport,
    format_of,
)
from replay.stream import ReplayReport, Speed, stream

__all__ = [
    "Catalogued",
    "Columns",
    "FileFormat",
    "FileSource",
    "Gorse",
    "KafkaRange",
    "KnownFile",
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


OTHERS = ("gorse", "metarank", "personalize", "file")
"""What may stand before a path, beside the names of `FORMATS`; `file` goes by columns, whatever it looks like."""


def open_source(
    path: Path | str | Sequence[str],
    columns: Columns | None = None,
    *,
    form: FileFormat | None = None,
    options: RowOptions | None = None,
    in_file_order: bool = False,
    impressions: bool = True,
) -> Source:
    """The source that a path names.

    Parameters
        path: `movielens`; a file, a folder of parts or a glob, or several; with the kind of its files before it
            (`gorse:`, `metarank:`, `personalize:`, `segment:`, `rudderstack:`, `ga4:`, `snowplow:`, `file:`), else that
            is found by what they hold: MovieLens-100K by its file names, the others by their first lines; all else is
            read by its columns.
        columns: what is known of its columns or fields.
        form: what is known of how it is written.
        options: how its rows become events.
        in_file_order: leave such a file unsorted.
        impressions: whether lists that were shown are events.

    Raises
        SourceError: no such source, or options that it does not take; it says what to do.
    """
    options = options or RowOptions()
    if not impressions:
        options = replace(options, impressions=False)
    kind, names = _kind_and_names([path] if isinstance(path, str | Path) else path)
    told = (columns is not None and columns != Columns(types=columns.types)) or form is not None
    if len(names) == 1 and (kind is None or kind in ("gorse", "metarank")):
        alone = _one_of_a_kind(kind, Path(names[0]), columns, options, told=told or in_file_order)
        if alone is not None:
            return alone
    known = FORMATS.get(kind or "")
    if known is not None and form is not None:
        raise SourceError(
            f"{names[0]}: how {known.told} are written is known: leave out --explode, --header, --encoding ..."
        )
    if kind is None and form is None:
        known = format_of(names)
    if known is not None:
        return KnownFile(names, known, columns, options=options, in_file_order=in_file_order)
    return FileSource(names, columns, form=form, options=options, in_file_order=in_file_order)


def _kind_and_names(given: Sequence[str | Path]) -> tuple[str | None, list[str]]:
    """The kind that stands before one or all of several names, and the names without it. Raises SourceError."""
    kinds: set[str] = set()
    names = []
    for name in map(str, given):
        kind, colon, rest = name.partition(":")
        known = colon and kind in (*FORMATS, *OTHERS)
        kinds |= {kind} if known else set()
        names.append(rest if known else name)
    if len(kinds) > 1:
        raise SourceError(f"{' and '.join(sorted(kinds))} are not read together: give files of one kind")
    return next(iter(kinds), None), names


def _one_of_a_kind(
    kind: str | None, path: Path, columns: Columns | None, options: RowOptions, *, told: bool
) -> Source | None:
    """A source that is one path and has a catalogue of its own; None for another. Raises SourceError.

    `told`: whether a person said of columns or of the form what is known of these.
    """
    films = kind is None and (str(path) == "movielens" or MovieLens.is_here(path))
    if told and (films or kind is not None):
        raise SourceError(f"{path}: its columns and order are known: leave out --user, --item, ... and --in-file-order")
    types = columns.types if columns is not None else {}
    if kind == "metarank" or (kind is None and not told and Metarank.is_here(path)):
        return Metarank(path, options, types)
    if kind == "gorse" or (kind is None and not told and Gorse.is_here(path)):
        return Gorse(path, options, types)
    if films:
        return MovieLens(path if path.exists() or MovieLens.is_here(path) else None)
    return None
