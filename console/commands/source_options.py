"""Which past stream a command reads: the argument and options that commands share, and the source they name.

Light: imported at start. After: `replay.open_source` or a Kafka range.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headwater.events import Item
    from headwater.settings import Settings
    from replay import Columns, Source
    from replay.sources import FileFormat, RowOptions

__all__ = [
    "Catalogue",
    "FileOptions",
    "Limit",
    "RangeOptions",
    "RowsOptions",
    "SourceNames",
    "SourceOptions",
    "catalogue_of",
    "opened_source",
    "share_of",
    "tell_refused_items",
    "too_many_bad",
]

SourceNames = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Files, a folder of parts or a glob in quotes (parquet, CSV, TSV, JSON Lines, JSON; zipped or not), "
        "`movielens`, or `kafka` for recorded events. Exports of other systems are known by what they hold, or named: "
        "`gorse:PATH`, metarank, personalize, segment, rudderstack, ga4, snowplow; `file:PATH` goes by columns alone.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")]
Catalogue = Annotated[bool, typer.Option(help="Take in the source's items first, where it has any.")]


KAFKA, COLUMNS, FORMAT, ROWS = "Recorded events (kafka)", "Columns of files", "How files are written", "Times and ids"


@dataclass(frozen=True)
class RangeOptions:
    """Which part of the recorded events of a Kafka."""

    from_prefix: Annotated[str, typer.Option(rich_help_panel=KAFKA, help="The world to read.")] = ""
    start: Annotated[
        list[str] | None, typer.Option(rich_help_panel=KAFKA, metavar="PARTITION:OFFSET", help="Where to begin.")
    ] = None
    end: Annotated[
        list[str] | None, typer.Option(rich_help_panel=KAFKA, metavar="PARTITION:OFFSET", help="Where to end.")
    ] = None
    since: Annotated[
        str | None, typer.Option(rich_help_panel=KAFKA, metavar="TIME", help="From this time: a date, RFC 3339.")
    ] = None
    until: Annotated[str | None, typer.Option(rich_help_panel=KAFKA, metavar="TIME", help="Before this time.")] = None


@dataclass(frozen=True)
class MeaningOptions:
    """Which column of a file means what, by name or by place from 1; usual names are found."""

    user: Annotated[str | None, typer.Option(rich_help_panel=COLUMNS, help="The user. A,B: B where A is empty.")] = None
    item: Annotated[str | None, typer.Option(rich_help_panel=COLUMNS, help="The item.")] = None
    time: Annotated[str | None, typer.Option(rich_help_panel=COLUMNS, help="The time. DAY+CLOCK: of two.")] = None
    type: Annotated[str | None, typer.Option(rich_help_panel=COLUMNS, help="The type, or =view for all.")] = None
    value: Annotated[
        str | None, typer.Option(rich_help_panel=COLUMNS, help="The value: stars, plays, seconds, a price.")
    ] = None
    types: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=COLUMNS, metavar="WORD=TYPE,...", help="What words of the type mean; WORD= is left out."
        ),
    ] = None
    map: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=COLUMNS, metavar="FIELD=COLUMN,...",
            help="The same for any field: user, item, time, type, value, event_id, session, request, shown.",
        ),
    ] = None  # fmt: skip
    no_time: Annotated[
        bool, typer.Option("--no-time", rich_help_panel=COLUMNS, help="There are no times: the order is the time.")
    ] = False


@dataclass(frozen=True)
class FormatOptions:
    """How a file is written, where that cannot be found out or is found wrongly."""

    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", rich_help_panel=FORMAT, help="Whether the first line names the columns."),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(rich_help_panel=FORMAT, metavar="NAME,NAME", help="Names of the columns by place, _ for none."),
    ] = None
    delimiter: Annotated[
        str | None, typer.Option(rich_help_panel=FORMAT, help="Between fields: tab, space, ';', ...")
    ] = None
    encoding: Annotated[
        str | None, typer.Option(rich_help_panel=FORMAT, help="Of the text: cp1252, latin-1, gb18030, ...")
    ] = None
    explode: Annotated[
        str | None,
        typer.Option(rich_help_panel=FORMAT, metavar="COLUMN", help="A list of which each element is a row."),
    ] = None


@dataclass(frozen=True)
class FileOptions:
    """How to read files of events."""

    column: MeaningOptions = MeaningOptions()
    form: FormatOptions = FormatOptions()
    in_file_order: Annotated[
        bool, typer.Option("--in-file-order", rich_help_panel=FORMAT, help="Do not sort by time.")
    ] = False


@dataclass(frozen=True)
class RowsOptions:
    """How times and ids of rows are read, where their columns say too little."""

    time_format: Annotated[
        str | None,
        typer.Option(rich_help_panel=ROWS, metavar="FORMAT", help='Of dates, as of strptime: "%d/%m/%Y %H:%M".'),
    ] = None
    time_unit: Annotated[
        str | None,
        typer.Option(rich_help_panel=ROWS, metavar="UNIT", help="Of numbers: s, ms, us, ns, days, excel."),
    ] = None
    time_zone: Annotated[
        str | None,
        typer.Option(rich_help_panel=ROWS, metavar="ZONE", help="Of dates without one: Europe/Berlin. Default: UTC."),
    ] = None
    ids_of: Annotated[
        str,
        typer.Option(rich_help_panel=ROWS, metavar="content|path", help="What rows without an event id get one of."),
    ] = "content"
    keep_missing_words: Annotated[
        bool, typer.Option("--keep-missing-words", rich_help_panel=ROWS, help="nan, None, NULL are ids like others.")
    ] = False


MaxBad = Annotated[
    str,
    typer.Option(rich_help_panel=ROWS, metavar="SHARE", help="Exit code 1 when more rows are refused: 1%, 0.05, ..."),
]


@dataclass(frozen=True)
class SourceOptions:
    """All that says how a source is read, whatever it is."""

    part: RangeOptions = RangeOptions()
    file: FileOptions = FileOptions()
    rows: RowsOptions = RowsOptions()
    impressions: Annotated[
        bool, typer.Option("--impressions/--no-impressions", help="Whether lists that were shown are events, too.")
    ] = True
    max_bad: MaxBad = "1%"


def opened_source(sources: Sequence[str], settings: Settings, options: SourceOptions) -> Source:
    """The source that a command names: one of any kind, or several files. Raises SourceError, typer.BadParameter."""
    import replay

    part, file = options.part, options.file
    share_of(options.max_bad)
    alone = {"kafka", "movielens"} & set(sources)
    if alone and len(sources) > 1:
        raise typer.BadParameter(f"{', '.join(alone)} stands alone: only files are read together")
    if "kafka" in sources:
        if file != FileOptions() or not options.impressions:
            raise typer.BadParameter(
                "columns, formats, --in-file-order and --no-impressions are for files, not for kafka"
            )
        return replay.KafkaRange(
            settings.kafka.model_copy(update={"prefix": part.from_prefix}),
            start=_offsets(part.start),
            end=_offsets(part.end),
            start_ms=_epoch_ms(part.since, "--since"),
            end_ms=_epoch_ms(part.until, "--until"),
            oldest_ms=settings.streams.oldest_ms,
        )
    if part.from_prefix or part.start or part.end or part.since or part.until:
        raise typer.BadParameter(
            "--from-prefix, --start, --end, --since and --until are for kafka: cut a file yourself"
        )
    return replay.open_source(
        sources,
        _columns(file.column),
        form=_form(file.form),
        options=_row_options(options.rows, settings.streams.oldest_ms),
        in_file_order=file.in_file_order,
        impressions=options.impressions,
    )


def _columns(given: MeaningOptions) -> Columns | None:
    """What was said of the columns, None for nothing. Raises typer.BadParameter."""
    from replay.sources import Columns, columns_named, kinds_named

    if given == MeaningOptions():
        return None
    alone = Columns(given.user, given.item, given.time, given.type, given.value).named
    mapped = columns_named(given.map or ())
    if twice := sorted(alone.keys() & mapped.keys()):
        raise typer.BadParameter(f"--{twice[0]} and --map {twice[0]}= say the same: give one")
    return Columns(**alone, **mapped, types=kinds_named(given.types or ()), timed=not given.no_time)


def _form(given: FormatOptions) -> FileFormat | None:
    """What was said of the format, None for nothing."""
    from replay.sources import FileFormat

    if given == FormatOptions():
        return None
    names = tuple(name.strip() for name in (given.columns or "").split(",")) if given.columns else ()
    return FileFormat(given.encoding, given.delimiter, given.header, names, given.explode)


def _row_options(given: RowsOptions, oldest_ms: int) -> RowOptions:
    """How rows become events. Raises typer.BadParameter."""
    from replay.sources import RowOptions, TimeOptions

    if given.ids_of not in ("content", "path"):
        raise typer.BadParameter(f"--ids-of {given.ids_of!r}: choose content or path")
    times = TimeOptions(given.time_format, given.time_unit, given.time_zone, oldest_ms)
    return RowOptions(times, "path" if given.ids_of == "path" else "content", given.keep_missing_words)


def share_of(given: str) -> float:
    """A share that a person wrote: 1%, 0.01. Raises typer.BadParameter."""
    text = given.strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"--max-bad {given!r}: write a share, as 1% or 0.01")
    return share


def too_many_bad(source: Source, options: SourceOptions) -> bool:
    """Whether more rows were refused than `--max-bad` allows, which then is told on stderr: exit code 1."""
    report, most = source.report, share_of(options.max_bad)
    if report.bad_share <= most:
        return False
    counts = ", ".join(f"{count:,} {reason}" for reason, count in report.bad.most_common(5))
    print(
        f"headwater: {report.bad.total():,} of {report.rows:,} rows were refused, {report.bad_share:.1%}, more than "
        f"{most:.1%} (--max-bad): {counts}. `headwater look` shows how they are read",
        file=sys.stderr,
    )
    return True


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


def _epoch_ms(given: str | None, option: str) -> int | None:
    from headwater.errors import SourceError
    from replay.sources import moment_ms

    try:
        return None if given is None else moment_ms(given, option)
    except SourceError as error:
        raise typer.BadParameter(str(error)) from error
