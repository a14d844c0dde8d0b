"""Which past stream a command reads: the argument and options that `replay` commands share, and the source they name.

Light: imported at start. After: `replay.open_source` or a Kafka range.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headwater.events import Item
    from headwater.settings import KafkaSettings
    from replay import Source

__all__ = ["Catalogue", "Columns", "End", "FromPrefix", "Impressions", "InFileOrder", "ItemColumn", "Limit", "Since"]
__all__ += [
    "SourceName",
    "Start",
    "TimeColumn",
    "TypeColumn",
    "Until",
    "UserColumn",
    "ValueColumn",
    "catalogue_of",
    "opened_source",
]
__all__ += ["tell_refused_items"]

SourceName = Annotated[
    str,
    typer.Argument(
        help="A file (.parquet, .csv, .tsv, .jsonl), `gorse:PATH`, `metarank:PATH`, `movielens`, or `kafka` for "
        "recorded events."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")]
FromPrefix = Annotated[str, typer.Option(help="For kafka: the world to read.")]
Start = Annotated[list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="For kafka: where to begin.")]
End = Annotated[list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="For kafka: where to end.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="For kafka: from this time, RFC 3339.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="For kafka: before this time, RFC 3339.")]
UserColumn = Annotated[str | None, typer.Option("--user", help="For files: column of the user.")]
ItemColumn = Annotated[str | None, typer.Option("--item", help="For files: column of the item.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="For files: column of the time.")]
TypeColumn = Annotated[str | None, typer.Option("--type", help="For files: column of the type, or =view for all.")]
ValueColumn = Annotated[str | None, typer.Option("--value", help="For files: column of the value.")]
InFileOrder = Annotated[bool, typer.Option("--in-file-order", help="For files: do not sort by time.")]
Impressions = Annotated[bool, typer.Option("--impressions", help="For metarank: rankings as impressions.")]
Catalogue = Annotated[bool, typer.Option(help="Take in the source's items first, where it has any.")]

Columns = tuple[str | None, str | None, str | None, str | None, str | None]
"""User, item, time, type, value: as given."""


def opened_source(
    source: str,
    kafka: KafkaSettings,
    columns: Columns,
    *,
    from_prefix: str,
    start: list[str] | None,
    end: list[str] | None,
    since: str | None,
    until: str | None,
    in_file_order: bool,
    impressions: bool,
) -> Source:
    """The source that the options name. Raises SourceError, typer.BadParameter."""
    import replay

    named = replay.Columns(*columns) if any(column is not None for column in columns) else None
    if source == "kafka":
        if named is not None or in_file_order or impressions:
            raise typer.BadParameter("columns, --in-file-order and --impressions are for files: kafka has none of them")
        return replay.KafkaRange(
            kafka.model_copy(update={"prefix": from_prefix}),
            start=_offsets(start),
            end=_offsets(end),
            start_ms=_epoch_ms(since),
            end_ms=_epoch_ms(until),
        )
    if from_prefix or start or end or since or until:
        raise typer.BadParameter(
            "--from-prefix, --start, --end, --since and --until are for kafka: cut a file yourself"
        )
    return replay.open_source(source, named, in_file_order=in_file_order, impressions=impressions)


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
        print(f"items: {told.told_bad}", file=sys.stderr)


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
