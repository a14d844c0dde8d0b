"""list, show, set and remove: what `headwater surfaces` does, live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions
from console.printing import printer

if TYPE_CHECKING:
    from headwater.settings import Settings
    from headwater.surfaces import Surface
    from serving.surfaces.kept import SurfaceKept

app = typer.Typer(no_args_is_help=True, help="Places on the page and their policies: list, show, set, remove.")

Name = Annotated[str, typer.Argument(help="Of the surface.")]
SENT_WITHIN_S = 10.0


@app.command("list")
@grouped
def list_command(*, servers: KafkaOptions, as_json: Json = False) -> None:
    """Every surface that a request may name. Exit code 1: the topic holds records that are none."""
    import orjson
    from rich.markup import escape
    from rich.table import Table

    from headwater.events import now_ms
    from serving.surfaces.kept import not_now, surfaces_kept

    kept = surfaces_kept(servers.settings())
    if as_json:
        body = {name: {**_body(one.surface), "source": one.source} for name, one in sorted(kept.named.items())}
        print(orjson.dumps({"surfaces": body, "refused": kept.refused}).decode())
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("surface", "kind", "k", "version", "from", "otherwise set"):
            table.add_column(column)
        for name, one in sorted(kept.named.items()):
            said = one.surface
            table.add_row(escape(name), said.kind, str(said.k), said.version, one.source, _set(said))
        out = printer(soft_wrap=True)
        if kept.named:
            out.print(table)
        else:
            out.print("No surface yet: `headwater surfaces set home.toml` makes one (docs/surfaces.md).")
        for name, one in sorted(kept.named.items()):
            for text in not_now(one.surface, now_ms()):
                out.print(f"{name}: {text}", markup=False)
        for text in kept.refused:
            told = f"{escape(text.rstrip('.'))}. The last good one stays; set it anew, or remove it."
            out.print(f"[red]refused[/] {told}", markup=True)
    raise typer.Exit(1 if kept.refused else 0)


@app.command("show")
@grouped
def show_command(*, name: Name, servers: KafkaOptions, as_json: Json = False) -> None:
    """One surface, with what it leaves unsaid, as JSON."""
    import orjson

    one = _one(servers.settings(), name)
    body = {**_body(one.surface), "source": one.source}
    print(orjson.dumps(body, option=0 if as_json else orjson.OPT_INDENT_2).decode())


@app.command("set")
@grouped
def set_command(
    *,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.toml",
            help="The fields of one surface, whose name is the file's, or tables [surfaces.NAME].",
        ),
    ],
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """Answer by this policy from now on: checked before it is sent, live within a second wherever requests name it."""
    import orjson

    from headwater.client import Client
    from headwater.events import now_ms
    from headwater.kafka import existing_topic
    from headwater.settings import read_surfaces
    from headwater.topics import SURFACES
    from serving.surfaces.kept import not_now

    settings, surfaces = servers.settings(), read_surfaces(path)
    existing_topic(settings.kafka, SURFACES)
    with Client(settings=settings.kafka, source="console") as client:
        sent = {name: client.put_surface(name, surface) for name, surface in surfaces.items()}
        places = {name: one.result(SENT_WITHIN_S) for name, one in sent.items()}
    if as_json:
        print(orjson.dumps({name: _body(surface) for name, surface in surfaces.items()}).decode())
        return
    for name, surface in surfaces.items():
        at = f"{SURFACES.name}[{places[name].partition}]@{places[name].offset}"
        print(f"{name}: {surface.kind}, version {surface.version}, live from {at} on")
        for text in not_now(surface, now_ms()):
            print(f"  {text}")


@app.command("remove")
@grouped
def remove_command(*, name: Name, servers: KafkaOptions) -> None:
    """Take a surface off the topic: that of the settings is back, or requests that name it are refused."""
    from headwater.client import Client
    from serving.surfaces.kept import surfaces_kept

    settings = servers.settings()
    refused = name in surfaces_kept(settings).wrong  # a record that is no surface goes, too
    if not refused and _one(settings, name).source == "settings":
        raise typer.BadParameter(f"{name} is from the settings: take [surfaces.{name}] out of them")
    with Client(settings=settings.kafka, source="console") as client:
        client.remove_surface(name).result(SENT_WITHIN_S)
    left = "that of the settings answers" if name in settings.surfaces else "requests that name it are refused"
    print(f"{name}: removed; {left}")


def _one(settings: Settings, name: str) -> SurfaceKept:
    from headwater.errors import SettingsError
    from headwater.spelling import did_you_mean
    from serving.surfaces.kept import surfaces_kept

    kept = surfaces_kept(settings)
    if name not in kept.named:
        known = ", ".join(sorted(kept.named)) or "none yet"
        hint = did_you_mean(name, kept.named)
        raise SettingsError(f"there is no surface {name!r:.80}. There are: {known} (`headwater surfaces list`).{hint}")
    return kept.named[name]


def _body(surface: Surface) -> dict[str, object]:
    return {"version": surface.version, **surface.model_dump(mode="json")}


def _set(surface: Surface) -> str:
    """The fields that say something, beside kind and k."""
    from headwater.surfaces import DEFAULT_SURFACE

    return ", ".join(
        name
        for name in type(surface).model_fields
        if name not in ("kind", "k") and getattr(surface, name) != getattr(DEFAULT_SURFACE, name)
    )
