"""`headwater look`: what a file of events is taken for, what is in it, and the commands that replay and backtest it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from console.commands.option_groups import given_options, grouped
from console.commands.options import Data, Json, Kafka
from console.commands.source_options import SourceNames, SourceOptions, catalogue_of, opened_source, too_many_bad
from console.local import DEFAULT_DATA
from console.printing import printer

if TYPE_CHECKING:
    from rich.console import Console

    from replay import FileSource, Source
    from replay.overview import Overview

__all__ = ["command"]

SHOWN_COLUMNS = 30
SHOWN_TYPES = 8
SHOWN_REASONS = 20
SHOWN_VALUES = 56
"""Characters of the values of a column."""
DAY_MS = 86_400_000


@grouped
def command(
    *,
    sources: SourceNames,
    reading: SourceOptions,
    kafka: Kafka = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Look at a file before it is used: its columns and what each is taken for, ranges, types, bad rows.

    It reads as `replay stream` and `replay backtest` do, all of it, and prints their command lines. Nothing is sent.
    """
    from console.local.addresses import located_settings
    from headwater.errors import SourceError
    from replay import FileSource
    from replay.overview import overview

    chosen = opened_source(sources, located_settings(kafka, None, None, data), reading)
    out = printer()
    try:
        if isinstance(chosen, FileSource):
            chosen.plan()
        found = _counted(lambda: overview(chosen), as_json)
    except SourceError:
        if isinstance(chosen, FileSource) and not as_json:
            out.print(f"[bold]{_escaped(chosen.report.name)}[/]{_size(chosen)}")
            _print_columns(out, chosen)
        raise
    commands = _commands(sources, reading)
    if as_json:
        import orjson

        print(orjson.dumps(_body(chosen, found, commands)).decode())
    else:
        out.print(f"[bold]{_escaped(chosen.report.name)}[/]{_size(chosen)}")
        if isinstance(chosen, FileSource):
            _print_columns(out, chosen)
        elif chosen.report.read_as:
            out.print(f"[dim]read as[/]   {_escaped(chosen.report.read_as)}")
        _print_content(out, chosen, found, len(catalogue_of(chosen)))
        _print_signals(out, chosen)
        _print_commands(out, commands)
    raise typer.Exit(too_many_bad(chosen, reading))


def _counted(count: Any, quiet: bool) -> Overview:
    out = printer(stderr=True)
    if quiet or not out.is_terminal:
        return count()  # type: ignore[no-any-return]
    with out.status("reading ..."):
        return count()  # type: ignore[no-any-return]


def _commands(sources: list[str], reading: SourceOptions) -> dict[str, str]:
    """What to run next, with the options that were given here."""
    same = [shlex.quote(word) for word in (*sources, *given_options(reading))]
    name = Path(sources[0].partition(":")[2] or sources[0]).name.partition(".")[0].strip("*?[]-_ ") or "report"
    report = shlex.quote(f"{name}.html")
    return {
        "backtest": " ".join(["headwater replay backtest", *same, "--report", report]),
        "stream": " ".join(["headwater replay stream", *same]),
    }


def _print_columns(out: Console, source: FileSource) -> None:
    from rich.table import Table

    columns, read_as, taken = source.columns_seen()
    out.print(f"[dim]read as[/]   {_escaped(read_as)}")
    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 3, 0, 0))
    table.add_column("column", style="cyan", no_wrap=True, max_width=32, overflow="ellipsis")
    table.add_column("taken for", style="bold", no_wrap=True)
    table.add_column("in the first rows", no_wrap=True, max_width=SHOWN_VALUES, overflow="ellipsis")
    shown = sorted(columns, key=lambda name: name not in taken)[:SHOWN_COLUMNS]
    for name in (name for name in columns if name in shown):
        table.add_row(_escaped(name), taken.get(name, ""), _escaped(" · ".join(_first(columns[name]))))
    out.print()
    out.print(table)
    if len(columns) > len(shown):
        out.print(f"[dim]and {len(columns) - len(shown)} columns more")
    out.print()


def _first(values: Sequence[Any], most: int = 4) -> list[str]:
    """A few different values of a column, short."""
    found: dict[str, None] = {}
    for value in values:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if value is not None and text.strip():
            found[" ".join(text.split())[:30]] = None
        if len(found) == most:
            break
    return list(found)


def _print_content(out: Console, source: Source, found: Overview, known_items: int) -> None:
    from rich.table import Table

    report = source.report
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _lines(source, found):
        grid.add_row(name, _escaped(text))
    if known_items:
        grid.add_row("catalogue", f"{known_items:,} items")
    if report.bad:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in report.bad.most_common())
        grid.add_row("refused", f"[yellow]{_escaped(counts)}[/]")
        for text in report.first_bad:
            grid.add_row("", _escaped(text))
    out.print(grid)
    out.print()


def _lines(source: Source, found: Overview) -> Iterator[tuple[str, str]]:
    """What is in a source, in words."""
    report = source.report
    total = max(found.events, 1)
    yield "events", f"{found.events - report.shown.beside:,} of {report.rows:,} rows{_odd(found)}"
    yield "time", report.time_text
    yield "users", f"{found.users:,}, {found.events / max(found.users, 1):.1f} events each; {found.once:,} have one"
    done = max(found.events - found.lists, 1)
    yield "items", f"{found.items:,}; {found.again / done:.1%} of events are with an item that the user had met before"
    types = [f"{kind} {count:,} ({count / total:.1%})" for kind, count in found.types.most_common(SHOWN_TYPES)]
    yield (
        "types",
        ", ".join(types) + (f", and {len(found.types) - SHOWN_TYPES} more" if len(found.types) > SHOWN_TYPES else ""),
    )
    if report.made_types:
        words = [f"'{word}' is {kind}" for word, kind in list(report.made_types.items())[:SHOWN_TYPES]]
        more = len(report.made_types) - len(words)
        yield "", ", ".join(words) + (f", and {more} more" if more else "")
    if found.lists:
        beside = f"; {report.shown.beside:,} came with another event of their row" if report.shown.beside else ""
        yield "shown", f"{found.lists:,} lists, {found.shown / found.lists:.1f} items each{beside}"
    if found.values:
        yield "values", f"{found.values:,}, {found.lowest:g} .. {found.highest:g}"
    yield (
        "sessions",
        f"{found.sessions:,} by half an hour of silence, {found.events / max(found.sessions, 1):.1f} events each"
        + (f"; {found.session_ids:,} by their ids" if found.session_ids else ""),
    )
    if found.silence_ms > 60_000 and found.silence_from_ms is not None:
        yield "gap", f"longest without any event {_span(found.silence_ms)}, from {_moment(found.silence_from_ms)}"
    if report.left_out:
        more = len(report.left_out) - SHOWN_REASONS
        told = ", ".join(f"{count:,} {what}" for what, count in report.left_out.most_common(SHOWN_REASONS))
        yield "left out", told + (f", and {more} names more" if more > 0 else "")
    for note in report.remarks:
        yield "note", note


def _odd(found: Overview) -> str:
    told = f"; {found.equal:,} equal to another of the same moment" if found.equal else ""
    return told + (f"; {found.repeated_ids:,} repeat an event id and count once" if found.repeated_ids else "")


def _span(ms: int) -> str:
    if ms >= 2 * DAY_MS:
        return f"{ms / DAY_MS:.1f} days"
    return f"{ms / 3_600_000:.1f} hours" if ms >= 7_200_000 else f"{ms / 60_000:.0f} minutes"


def _moment(at_ms: int) -> str:
    from console.times import shown_time

    return shown_time(at_ms, utc=True)[:16]


def _print_signals(out: Console, source: Source) -> None:
    """What the source's own system says of its types, to be copied into the settings."""
    from replay.sources import tables_of

    if source.report.signals:
        out.print("[dim]# what its configuration says of these types, for headwater.toml")
        out.print(f"[green]{_escaped(tables_of(source.report.signals))}", soft_wrap=True)
        out.print()


def _print_commands(out: Console, commands: Mapping[str, str]) -> None:
    for told, name in (
        ("how good would it have been", "backtest"),
        ("let it happen again, in what `headwater up` runs", "stream"),
    ):
        out.print(f"[dim]# {told}")
        out.print(f"[green]{_escaped(commands[name])}", soft_wrap=True)


def _body(source: Source, found: Overview, commands: Mapping[str, str]) -> dict[str, Any]:
    from replay import FileSource

    report = source.report
    counts = {**vars(found), "types": dict(found.types)}
    if not found.values:
        counts |= {"lowest": None, "highest": None}
    body: dict[str, Any] = {
        "source": report.name,
        "read_as": report.read_as,
        "time": {"column": report.time_column, "unit": report.time_unit},
        "rows": report.rows,
        "bad": dict(report.bad),
        "first_bad": report.first_bad,
        "left_out": dict(report.left_out),
        "notes": report.remarks,
        "made_types": report.made_types,
        "lists_beside": report.shown.beside,
        "guests": len(report.logins),
        "signals": {
            kind: signal.model_dump(mode="json", exclude_unset=True) for kind, signal in report.signals.items()
        },
        **counts,
        "commands": dict(commands),
    }
    if isinstance(source, FileSource):
        columns, _, taken = source.columns_seen()
        body["columns"] = {name: {"taken_for": taken.get(name), "first": _first(columns[name])} for name in columns}
    return body


def _size(source: Source) -> str:
    from replay import FileSource, KnownFile

    if not isinstance(source, FileSource | KnownFile):
        return ""
    size, count = float(source.size_bytes), source.files
    unit = "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"[dim]  {size:.3g} {unit}" + (f" in {count:,} files" if count > 1 else "")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
