"""`headwater recommend USER`: asks for a list and shows it with titles, reasons and receipt."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from console.printing import printer

if TYPE_CHECKING:
    from headwater.recommendations import Receipt
    from headwater.settings import Settings


@dataclass(frozen=True)
class AskerOptions:
    """What is told of whom the list is for."""

    context_item: Annotated[str | None, typer.Option(help="The item on the page.")] = None
    was: Annotated[str | None, typer.Option(metavar="ID", help="The id that USER had before: both count.")] = None


@grouped
def command(
    *,
    user: Annotated[str, typer.Argument(help="Whom to recommend to. Nobody we know gets what is popular.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many items.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each item is in the list.")] = False,
    asker: AskerOptions,
    filters: Annotated[str | None, typer.Option("--filter", help='JSON, such as {"categories": ["Comedy"]}.')] = None,
    deadline_s: Annotated[float, typer.Option(min=0.01, help="Longest wait for the answer.")] = 5.0,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Ask for recommendations, through Kafka as any app does."""
    import orjson
    from rich.markup import escape
    from rich.table import Table

    from headwater.client import Client

    try:
        wanted = orjson.loads(filters) if filters else {}
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--filter is not JSON: {error}") from error
    settings = servers.settings()
    with Client(settings=settings.kafka, source="console") as client:
        answer = client.recommend(user, k=k, deadline_s=deadline_s, explain=explain, filters=wanted, **asdict(asker))
    if as_json:
        print(orjson.dumps(answer.model_dump(mode="json")).decode())
        return
    titles = item_titles(settings, [item.item_id for item in answer.items])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("item", style="cyan")
    table.add_column("title")
    table.add_column("score", justify="right", style="dim")
    if explain:
        table.add_column("because", style="green")
    for item in answer.items:
        row = [str(item.rank), item.item_id, escape(titles.get(item.item_id, "")), f"{item.score:.3f}"]
        table.add_row(*row, *([escape("; ".join(item.reasons))] if explain else []))
    out = printer()
    if answer.items:
        out.print(table)
    else:
        out.print(why_empty(answer.receipt, bool(wanted)))
    if answer.receipt.fallback == "no_history":
        out.print(f"[yellow]No event of user {escape(repr(user))} is known: is the id right?")
    out.print(f"[dim]{receipt_line(answer.receipt)}")


def why_empty(receipt: Receipt, filtered: bool) -> str:
    """Why a list holds nothing, and what to do."""
    if filtered:
        return "No item of the catalogue meets --filter, or the user has seen those that do."
    if not receipt.catalogue_offsets and receipt.fallback == "no_events":
        return "No item yet: the catalogue is empty and no event has arrived. Send items to the topic `items`."
    return "No item is left: all are seen (`exclude_seen`), unavailable or removed."


def receipt_line(receipt: Receipt) -> str:
    """How fresh an answer is, in one line."""
    from headwater.recommendations import COLD

    parts = [f"history {receipt.history_length}"]
    if receipt.people:
        parts.append(f"of {len(receipt.people)} ids: {', '.join(receipt.people)}")
    if receipt.feature_age_ms is not None:
        parts.append(f"features {receipt.feature_age_ms / 1000:,.1f} s old")
    if receipt.model_version is not None:
        parts.append(f"model {receipt.model_version}")
    if receipt.weight_age_ms is not None:
        parts.append(f"weights {receipt.weight_age_ms / 1000:,.1f} s old")
    if receipt.fallback:
        instead = "the newest of the catalogue" if receipt.fallback == "no_events" else "what is popular"
        parts.append(f"fallback: {receipt.fallback.replace('_', ' ')}, so {instead}")
    parts += [
        f"the last {note.removeprefix(COLD)} new to the model" for note in receipt.policy if note.startswith(COLD)
    ]
    if "total" in receipt.timings_ms:
        parts.append(f"answered in {receipt.timings_ms['total']:.1f} ms")
    return "; ".join(parts)


def item_titles(settings: Settings, items: list[str]) -> dict[str, str]:
    """Item id -> title, as the store has it; items without one are left out, all of them when no store answers."""
    import orjson

    from headwater.errors import Unavailable
    from streams.features.store import FeatureStore

    store = FeatureStore(settings.redis, settings.kafka.prefix)
    try:
        bodies = store.read_items(items)
    except Unavailable:
        return {}
    finally:
        store.close()
    found = {item: orjson.loads(body) for item, body in zip(items, bodies, strict=True) if body}
    return {item: body["title"] for item, body in found.items() if body.get("title")}
