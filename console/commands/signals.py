"""`headwater signals`: what each type of event means, what a stream really has of it, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from console.commands.source_options import SourceOptions, opened_source, too_many_bad
from console.printing import printer

if TYPE_CHECKING:
    from rich.console import Console

    from console.look.signal_census import TypeSeen
    from console.look.signal_remarks import Remark
    from headwater.settings import Settings
    from headwater.signals import Signal, Signals

__all__ = ["command"]

NEWEST = 10_000
EXIT_WRONG = 1
MARKS = {"note": "[yellow]note[/] ", "wrong": "[red]wrong[/]"}

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]",
        help="Files, a folder or a glob, as for `look`; `kafka` for a range of recorded events. Default: the newest "
        "events of the topic.",
    ),
]


@grouped
def command(
    *,
    sources: Sources = None,
    newest: Annotated[int, typer.Option(min=1, metavar="N", help="So many of the topic's newest events.")] = NEWEST,
    counted: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Tell also what the store has counted of this item. May be given again."),
    ] = None,
    servers: ServerOptions,
    reading: SourceOptions,
    as_json: Json = False,
) -> None:
    """Show what types of event mean, what the stream has of each, and what looks wrong, with the settings to write.

    Exit code 1: something is learned the wrong way round or not at all; 2: the events could not be read; 0: neither.
    """
    import orjson

    from console.look.signal_census import census
    from console.look.signal_remarks import remarks, toml_of
    from headwater.signals import Signals

    settings = servers.settings()
    signals = Signals(settings.signals)
    bad = False
    if sources:
        source = opened_source(sources, settings, reading)
        stream = census(source.events(), signals)
        name, bad = source.report.name, too_many_bad(source, reading)
    else:
        name, rows = _newest(settings, newest)
        stream = census(rows, signals)
    items = _items(settings, counted or [])
    found = remarks(stream, settings.signals, served=settings.serving.exposures)
    if as_json:
        body = {
            "source": name,
            "events": sum(seen.events for seen in stream.values()),
            "types": {kind: _body(kind, settings, signals, stream.get(kind)) for kind in _kinds(signals, stream)},
            "remarks": [asdict(remark) for remark in found],
            "settings": toml_of(found),
            **({"items": items} if items else {}),
        }
        print(orjson.dumps(body).decode())
    else:
        out = printer()
        _print_table(out, name, stream, settings, signals)
        _print_items(out, items)
        _print_remarks(out, found, toml_of(found))
    raise typer.Exit(EXIT_WRONG if bad or any(remark.state == "wrong" for remark in found) else 0)


def _newest(settings: Settings, most: int) -> tuple[str, list[Any]]:
    from console.look.newest import newest_rows
    from headwater.topics import EVENTS, topic_name
    from headwater.wire import EventRow

    found = newest_rows(settings, most)
    rows = [row for row in found if isinstance(row, EventRow)]
    name = topic_name(EVENTS, settings.kafka.prefix)
    refused = f", {len(found) - len(rows):,} refused" if len(found) > len(rows) else ""
    return f"the newest {len(rows):,} events of {name} at {settings.kafka.bootstrap}{refused}", rows


def _items(settings: Settings, item_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not item_ids:
        return {}
    from console.look.item_counts import counted

    return counted(settings, list(dict.fromkeys(item_ids)))


def _print_items(out: Console, items: Mapping[str, dict[str, Any]]) -> None:
    from rich.markup import escape

    from console.look.item_counts import told

    for item_id, body in items.items():
        out.print()
        out.print(escape(told(item_id, body)), soft_wrap=True)


def _kinds(signals: Signals, stream: Mapping[str, TypeSeen]) -> list[str]:
    return list(dict.fromkeys([*stream, *signals.table]))


def _origin(kind: str, settings: Settings, signals: Signals) -> str:
    if kind in settings.signals:
        return "settings"
    return "default" if signals.knows(kind) else "unknown"


def _means(signal: Signal) -> str:
    """What a type means, in words."""
    days = f" for {signal.negative_for_days:g} days" if signal.negative_for_days else ""
    if signal.undoes:
        return f"undoes {', '.join(signal.undoes)}"
    if not signal.by_value:
        return signal.means.value + days
    parts = [f"positive {signal.positive}"] if signal.positive else []
    parts += [f"negative {signal.negative}{days}"] if signal.negative else []
    return ", ".join(parts)


def _weight(signal: Signal) -> str:
    from headwater.signals import Meaning

    if not signal.by_value and signal.means not in (Meaning.POSITIVE, Meaning.NEGATIVE):
        return ""
    if signal.weight is None and isinstance(signal.reward, str):
        return signal.reward
    return f"{signal.force:g}"


def _body(kind: str, settings: Settings, signals: Signals, seen: TypeSeen | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        **dict(signals.of(kind)),
        "from": _origin(kind, settings, signals),
        "events": 0 if seen is None else seen.events,
    }
    if seen is not None:
        quantiles = {f"p{round(100 * q)}": seen.quantile(q) for q in (0.1, 0.5, 0.9)}
        body |= {
            "meanings": {meaning.value: count for meaning, count in seen.means.items()},
            "lists": seen.lists,
            "with_request_id": seen.joined,
            "values": {"count": seen.valued, "lowest": seen.lowest, "highest": seen.highest, **quantiles}
            if seen.valued
            else None,
        }
    return body


def _print_table(out: Console, name: str, stream: Mapping[str, TypeSeen], settings: Settings, signals: Signals) -> None:
    from rich.markup import escape
    from rich.table import Table

    out.print(f"[bold]{escape(name)}")
    out.print()
    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("type", style="cyan", no_wrap=True, max_width=28, overflow="ellipsis")
    table.add_column("means", max_width=34)
    table.add_column("weight", no_wrap=True, justify="right")
    table.add_column("from", style="dim", no_wrap=True)
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("of these", max_width=40)
    total = sum(seen.events for seen in stream.values())
    for kind in [*stream, *(kind for kind in settings.signals if kind not in stream)]:
        seen, signal, origin = stream.get(kind), signals.of(kind), _origin(kind, settings, signals)
        counts = (
            ("0", "", "") if seen is None else (f"{seen.events:,}", f"{seen.events / total:.1%}", _told(seen, signal))
        )
        style = "yellow" if origin == "unknown" else ""
        table.add_row(escape(kind), escape(_means(signal)), _weight(signal), origin, *counts, style=style)
    out.print(table)
    others = [kind for kind in signals.table if kind not in stream and kind not in settings.signals]
    out.print()
    out.print("[dim]By default, and not in this stream:")
    groups: dict[str, list[str]] = {}
    for kind in others:
        signal = signals.of(kind)
        groups.setdefault("undo" if signal.undoes else signal.means.value, []).append(kind)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="dim")
    for group, kinds in groups.items():
        grid.add_row(f"  {group}", ", ".join(kinds))
    grid.add_row("  any other", "positive, with weight 1")
    out.print(grid)


def _told(seen: TypeSeen, signal: Signal) -> str:
    """What there is of a type, beside its number, in words."""
    parts = []
    if signal.by_value:
        parts += [f"{seen.share(meaning):.0%} {meaning.value}" for meaning, count in seen.means.most_common() if count]
    if seen.valued:
        some = "" if seen.valued == seen.events else f" in {seen.valued / seen.events:.0%}"
        if seen.lowest == seen.highest:
            parts.append(f"value {seen.lowest:g}{some}")
        else:
            parts.append(f"values {seen.lowest:g} .. {seen.highest:g}, median {seen.quantile(0.5):g}{some}")
    if seen.lists:
        parts.append(f"{seen.lists:,} lists")
    if seen.joined:
        parts.append(f"{seen.joined / seen.events:.0%} name their request")
    return "; ".join(parts)


def _print_remarks(out: Console, found: Sequence[Remark], write: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    out.print()
    if not found:
        out.print("[green bold]Nothing looks wrong.")
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for remark in found:
        table.add_row(MARKS[remark.state], f"[bold]{escape(remark.type) or 'all'}", escape(remark.text))
    out.print(table)
    if write:
        out.print()
        out.print("[dim]# what would mend it where it is true, to write into headwater.toml (HEADWATER_CONFIG)")
        out.print("[dim]# a model that has learned other meanings has to be trained anew: docs/signals.md")
        out.print(f"[green]{escape(write)}", soft_wrap=True)
