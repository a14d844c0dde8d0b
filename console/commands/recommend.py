"""`headwater recommend USER`: asks for a list and shows it with titles, reasons and receipt."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions, json_fields
from console.policy_notes import notes_in_words, unheard_of
from console.printing import printer
from console.times import weights_age

if TYPE_CHECKING:
    from rich.table import Table

    from headwater.recommendations import Receipt, Recommendation, WhyNot
    from headwater.settings import Settings

LEAST_SHOWN, MOST_SHOWN = 0.005, 6
"""Smallest part of a score that a terminal shows, and most parts of one."""


@dataclass(frozen=True)
class AskerOptions:
    """What is told of whom the list is for."""

    session_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The session that is going on; without USER, whom for.")
    ] = None
    context_item: Annotated[str | None, typer.Option(help="The item on the page.")] = None
    was: Annotated[str | None, typer.Option(metavar="ID", help="The id that USER had before: both count.")] = None
    request_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Of the request; default: a new one. What is drawn by chance goes by it."),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Of a request."""
        own = {"session_id": self.session_id, "context_item": self.context_item, "was": self.was}
        return own if self.request_id is None else {**own, "request_id": self.request_id}


@dataclass(frozen=True)
class PlaceOptions:
    """Which place on the page the list is for, and how many items."""

    k: Annotated[
        int | None, typer.Option("--k", "-k", help="How many items. Default: as the surface says, else 10.")
    ] = None
    surface: Annotated[
        str | None, typer.Option(metavar="NAME", help="By the policy of this place: `headwater surfaces list`.")
    ] = None
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=JSON", help="Otherwise than it says: diversity=0.3.")
    ] = None
    context: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the moment: device=phone. May be given again.")
    ] = None

    def fields(self) -> dict[str, Any]:
        """Of a request."""
        overrides = json_fields(self.override or (), "--set", words=True)
        context = json_fields(self.context or (), "--context", words=True)
        return {"k": self.k, "surface": self.surface, "overrides": overrides, "context": context}


@dataclass(frozen=True)
class Whys:
    """What is told of items beside their place."""

    explain: Annotated[
        bool, typer.Option("--explain", help="Say why each item is in the list, in words and in numbers.")
    ] = False
    why_not: Annotated[
        str | None, typer.Option(metavar="ITEM", help="Say where this item was lost, or its place in the list.")
    ] = None


@grouped
def command(
    *,
    user: Annotated[
        str | None,
        typer.Argument(help="Whom to recommend to. Without: somebody without an id (--surface, --context-item, ...)."),
    ] = None,
    place: PlaceOptions,
    why: Whys,
    asker: AskerOptions,
    filters: Annotated[str | None, typer.Option("--filter", help='JSON, such as {"categories": ["Comedy"]}.')] = None,
    deadline_s: Annotated[float, typer.Option(min=0.01, help="Longest wait for the answer.")] = 5.0,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Ask for recommendations, through Kafka as any app does."""
    import orjson
    from rich.markup import escape

    from headwater.client import Client

    try:
        wanted = orjson.loads(filters) if filters else {}
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--filter is not JSON: {error}") from error
    settings = servers.settings()
    with Client(settings=settings, source="console") as client:
        asked = {"filters": wanted, **asker.fields(), **asdict(why), **place.fields()}
        answer = client.recommend(user, deadline_s=deadline_s, **asked)
    if as_json:
        print(orjson.dumps(answer.model_dump(mode="json")).decode())
        return
    named = [item.item_id for item in answer.items] + [one.item_id for item in answer.items for one in item.because]
    titles = item_titles(settings, list(dict.fromkeys(named + ([why.why_not] if why.why_not else []))))
    out = printer()
    if answer.items:
        out.print(listed(answer, titles, explain=why.explain))
    else:
        out.print(escape(why_empty(answer.receipt, bool(wanted))))
    if answer.why_not is not None:
        for line in why_not_lines(answer.why_not, titles):
            out.print(escape(line))
    if answer.receipt.fallback == "no_history" and user is not None:
        out.print(f"[yellow]No event of user {escape(repr(user))} is known: is the id right?")
    types = event_types(settings)
    for note in notes_in_words(answer.receipt.policy, types) + unheard_of(answer.receipt.exclude_seen or (), types):
        out.print(f"[yellow]{escape(note)}")
    out.print(f"[dim]{escape(receipt_line(answer.receipt))}")
    out.print(f"[dim]`headwater replay explain {escape(answer.request_id)}` makes it again")


def listed(answer: Recommendation, titles: dict[str, str], *, explain: bool) -> Table:
    """The list as a table; `titles` by item id."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("item", style="cyan")
    table.add_column("title")
    table.add_column("score", justify="right", style="dim")
    drawn = any(item.propensity < 1 for item in answer.items)
    if drawn:
        table.add_column("propensity", justify="right", style="dim")
    if explain:
        table.add_column("because", style="green")
        table.add_column("which is", style="dim")
    begins = {row.first: row.title for row in answer.rows}
    for item in answer.items:
        if item.rank in begins:
            table.add_row("", "", f"[bold]{escape(begins[item.rank])}")
        cells = [str(item.rank), item.item_id, titles.get(item.item_id, ""), f"{item.score:.3f}"]
        if drawn:
            cells.append(f"{item.propensity:.3g}")
        if explain:
            entries = [f"{one.share:+.2f} {one.type} {titles.get(one.item_id, one.item_id)}" for one in item.because]
            cells.append("\n".join(["; ".join(item.reasons), *entries]))
            cells.append(parts_text(item.contributions, "\n"))
        table.add_row(*map(escape, cells))
    return table


def parts_text(parts: dict[str, float], between: str = ", ") -> str:
    """Parts of a score, the largest first; those too small to show are one.

    >>> parts_text({"memory": 1.25, "popularity": -0.5, "slow": 0.004, "fatigue": 0.003})
    'memory +1.25, popularity -0.50, 2 others +0.01'
    """
    shown = sorted((one for one in parts.items() if abs(one[1]) >= LEAST_SHOWN), key=lambda one: -abs(one[1]))
    shown = shown[:MOST_SHOWN]
    told = [f"{name} {part:+.2f}" for name, part in shown]
    if len(shown) < len(parts):
        others = [part for name, part in parts.items() if name not in dict(shown)]
        told.append(f"{len(others)} other{'s' * (len(others) > 1)} {sum(others):+.2f}")
    return between.join(told)


def why_not_lines(said: WhyNot, titles: dict[str, str]) -> list[str]:
    """Where an item was lost, in a few lines."""
    title = titles.get(said.item_id)
    lines = [f"{said.item_id}{f' ({title})' if title else ''}: {said.text}"]
    if said.contributions:
        score = "" if said.score is None else f"{said.score:.3f} = "
        lines.append(f"  its score: {score}{parts_text(said.contributions)}")
    if said.behind:
        lines.append(f"  the list's last item has more of: {parts_text(said.behind)}")
    return lines


def why_empty(receipt: Receipt, filtered: bool) -> str:
    """Why a list holds nothing, and what to do."""
    if filtered:
        return "No item of the catalogue meets --filter, or the user has seen those that do."
    if not receipt.catalogue_offsets and receipt.fallback == "no_events":
        return "No item yet: the catalogue is empty and no event has arrived. Send items to the topic `items`."
    if receipt.surface_version:
        name = receipt.surface or "NAME"
        return (
            f"No item is left: nothing is of its kind or meets its filters (`headwater surfaces show {name}`), or all "
            "are seen (`exclude_seen`), unavailable or removed. --why-not ITEM tells of one."
        )
    return "No item is left: all are seen (`exclude_seen`), unavailable or removed."


def receipt_line(receipt: Receipt) -> str:
    """How fresh an answer is, in one line."""
    parts = [f"history {receipt.history_length}"]
    if receipt.surface_version:
        dealt = f", variant {receipt.variant} of {receipt.experiment}" if receipt.experiment else ""
        parts.insert(0, f"surface {receipt.surface or 'as --set says'}, version {receipt.surface_version}{dealt}")
    if receipt.people:
        parts.append(f"of {len(receipt.people)} ids: {', '.join(receipt.people)}")
    if receipt.feature_age_ms is not None:
        parts.append(f"features {receipt.feature_age_ms / 1000:,.1f} s old")
    if receipt.model_version is not None:
        parts.append(f"model {receipt.model_version}")
    if receipt.weight_age_ms is not None:
        parts.append(weights_age(receipt))
    if receipt.fallback:
        instead = "the newest of the catalogue" if receipt.fallback == "no_events" else "what is popular"
        parts.append(f"fallback: {receipt.fallback.replace('_', ' ')}{'' if receipt.surface else f', so {instead}'}")
    if "total" in receipt.timings_ms:
        parts.append(f"answered in {receipt.timings_ms['total']:.1f} ms")
    return "; ".join(parts)


def event_types(settings: Settings) -> list[str]:
    """Types of event that have been counted; none where no store answers."""
    from headwater.errors import Unavailable
    from streams.features.store import FeatureStore

    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        return list(store.totals().counts)
    except Unavailable:
        return []
    finally:
        store.close()


def item_titles(settings: Settings, items: list[str]) -> dict[str, str]:
    """Item id -> title, as the store has it; items without one are left out, all of them when no store answers."""
    import orjson

    from headwater.errors import Unavailable
    from streams.features.store import FeatureStore

    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        bodies = store.read_items(items)
    except Unavailable:
        return {}
    finally:
        store.close()
    found = {item: orjson.loads(body) for item, body in zip(items, bodies, strict=True) if body}
    return {item: body["title"] for item, body in found.items() if body.get("title")}
