"""Which past stream a command reads: the argument and options that commands share, and the source they name.

Light: imported at start. After: `replay.open_source` or a Kafka range.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headwater.events import Item
    from headwater.settings import KafkaSettings
    from replay import Source

__all__ = [
    "Catalogue",
    "FileOptions",
    "Limit",
    "RangeOptions",
    "SourceName",
    "SourceOptions",
    "catalogue_of",
    "opened_source",
    "tell_refused_items",
]

SourceName = Annotated[
    str,
    typer.Argument(
        help="A file (.parquet, .csv, .tsv, .jsonl), `gorse:PATH`, `metarank:PATH`, `movielens`, or `kafka` for "
        "recorded events."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")]
Catalogue = Annotated[bool, typer.Option(help="Take in the source's items first, where it has any.")]


@dataclass(frozen=True)
class RangeOptions:
    """Which part of the recorded events of a Kafka."""

    from_prefix: Annotated[str, typer.Option(help="For kafka: the world to read.")] = ""
    start: Annotated[list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="For kafka: where to begin.")] = (
        None
    )
    end: Annotated[list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="For kafka: where to end.")] = None
    since: Annotated[str | None, typer.Option(metavar="TIME", help="For kafka: from this time, RFC 3339.")] = None
    until: Annotated[str | None, typer.Option(metavar="TIME", help="For kafka: before this time, RFC 3339.")] = None


@dataclass(frozen=True)
class FileOptions:
    """How to read a file of events."""

    user: Annotated[str | None, typer.Option(help="For files: column of the user.")] = None
    item: Annotated[str | None, typer.Option(help="For files: column of the item.")] = None
    time: Annotated[str | None, typer.Option(help="For files: column of the time.")] = None
    type: Annotated[str | None, typer.Option(help="For files: column of the type, or =view for all.")] = None
    value: Annotated[str | None, typer.Option(help="For files: column of the value.")] = None
    in_file_order: Annotated[bool, typer.Option("--in-file-order", help="For files: do not sort by time.")] = False


@dataclass(frozen=True)
class SourceOptions:
    """All that says how a source is read, whatever it is."""

    part: RangeOptions = RangeOptions()
    file: FileOptions = FileOptions()
    impressions: Annotated[bool, typer.Option("--impressions", help="For metarank: rankings as impressions.")] = False


def opened_source(source: str, kafka: KafkaSettings, options: SourceOptions) -> Source:
    """The source that a command names. Raises SourceError, typer.BadParameter."""
    import replay

    part, file = options.part, options.file
    given = (file.user, file.item, file.time, file.type, file.value)
    columns = replay.Columns(*given) if any(column is not None for column in given) else None
    if source == "kafka":
        if columns is not None or file.in_file_order or options.impressions:
            raise typer.BadParameter("columns, --in-file-order and --impressions are for files: kafka has none of them")
        return replay.KafkaRange(
            kafka.model_copy(update={"prefix": part.from_prefix}),
            start=_offsets(part.start),
            end=_offsets(part.end),
            start_ms=_epoch_ms(part.since),
            end_ms=_epoch_ms(part.until),
        )
    if part.from_prefix or part.start or part.end or part.since or part.until:
        raise typer.BadParameter(
            "--from-prefix, --start, --end, --since and --until are for kafka: cut a file yourself"
        )
    return replay.open_source(source, columns, in_file_order=file.in_file_order, impressions=options.impressions)


def catalogue_of(source: Source) -> list[Item]:
    """The items that a source knows of, [] where it knows none; refused ones are told on stderr. Raises SourceError."""
    from replay import Catalogued

    if not isinstance(source, Catalogued):
        return []
    items = source.items()
    tell_refused_items(source)
    return items


def tell_refused_items(source: Source) -> None:
    """Say on stderr which items of a source's catalogue could not be read, if any."""
    told = getattr(source, "item_report", None)
    if told is not None and told.bad:
        print(f"items: {told.bad_text}", file=sys.stderr)


def _offsets(given: list[str] | None) -> dict[int, int]:
    """From `2:1000`, once for each partition."""
    found = {}
    for text in given or ():
        partition, _, offset = text.partition(":")
        if not (partition.isdigit() and offset.isdigit()):
            raise typer.BadParameter(f"{text!r} is not PARTITION:OFFSET")
        found[int(partition)] = int(offset)
    return found


def _epoch_ms(given: str | None) -> int | None:
    from headwater.events import to_epoch_ms

    if given is None:
        return None
    try:
        made = to_epoch_ms(int(given) if given.isdigit() else given)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r}: {error}") from error
    assert isinstance(made, int)
    return made
