"""What the demo prints for good: the opening, the newcomer's lists, the summary with the next commands.

Plain text when the output is no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from console.demonstration.newcomer import TAKEDOWN, Act, shown_title
from console.demonstration.summary import Summary
from console.demonstration.view import ms, ndcg
from headwater.events import Item
from headwater.recommendations import Receipt, Recommendation, RecommendedItem

__all__ = ["Pages"]

MOST_TITLE = 46
"""Characters of a title in a list."""


ACTS = {
    "dismiss": ("She dismisses", "bold red"),
    TAKEDOWN: ("Taken down, for everybody:", "bold red"),
}


class Pages:
    """Prints the demo's pages; `program` is how the person calls us."""

    def __init__(self, out: Console, program: str) -> None:
        self._out = out
        self._program = program

    def opening(self) -> None:
        """The title."""
        self._out.print()
        self._out.print("[bold]Headwater[/]  events in, recommendations out, learning all the while")
        self._out.print()

    def step(self, name: str, text: str) -> None:
        """One line of what was done."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(style="dim", width=10)
        grid.add_column()
        grid.add_row(name, Text(text))
        self._out.print(Padding(grid, (0, 0, 0, 2)))

    def newcomer(self, user: str, first: Recommendation, catalogue: Mapping[str, Item]) -> None:
        """Her list before any click."""
        self._out.print()
        self._out.print(f"[bold]A visitor nobody has seen before[/]  [dim]{user}")
        why = "what is popular" if first.receipt.fallback else "personal already"
        self._out.print()
        self._out.print(Text("  Her list before the first click: ").append(why, style="yellow"))
        self._list(first.items, catalogue)
        self._receipt(first.receipt)

    def reaction(self, reaction: Act, catalogue: Mapping[str, Item]) -> None:
        """What she did, and the list that followed."""
        dismissed = reaction.type == "dismiss"
        self._out.print()
        said, style = ACTS.get(reaction.type, ("She clicks", "bold cyan"))
        line = Text(f"  {said} ").append(shown_title(reaction.item, catalogue), style=style).append(". ")
        if reaction.ms is None:
            line.append("Her list stayed as it was.", style="red")
        else:
            line.append("Her list is another one ").append(f"{reaction.ms:.0f} ms", style="bold green").append(" later")
            line.append(":")
        self._out.print(line)
        self._list(reaction.after.items, catalogue, reaction)
        if dismissed:
            also = [shown_title(item, catalogue) for item in reaction.gone if item != reaction.item]
            told = f"gone for good, for she dismissed it: {shown_title(reaction.item, catalogue)}"
            self._out.print(Text(f"         {told}{'; gone, too: ' if also else ''}{', '.join(also)}", style="red"))
        self._receipt(reaction.after.receipt)

    def rows(self, answer: Recommendation, catalogue: Mapping[str, Item]) -> None:
        """Her home page, row by row."""
        self._out.print()
        self._out.print(Text("  Her home page now has rows (a surface of kind because-you):"))
        for row in answer.rows:
            title = row.title
            item = catalogue.get(row.because or "")
            if item is not None and item.title:
                title = title.replace(item.title, shown_title(item.item_id, catalogue))
            self._out.print(Text(f"  {title}", style="bold"))
            items = answer.items[row.first - 1 : row.first - 1 + row.count]
            told = ", ".join(shown_title(item.item_id, catalogue) for item in items)
            self._out.print(Padding(Text(told), (0, 0, 0, 4)))
        self._receipt(answer.receipt)

    def _reasons(self, reasons: Sequence[str], catalogue: Mapping[str, Item]) -> Text:
        """At most two; titles as people write them."""
        told = "; ".join(reasons[:2]).replace("; because you clicked", " and")
        for item_id, item in catalogue.items():
            if item.title and ", " in item.title and item.title in told:
                undated = item.model_copy(update={"attributes": {}})
                told = told.replace(item.title, shown_title(item_id, {item_id: undated}))
        return Text(told)

    def _list(
        self, items: Sequence[RecommendedItem], catalogue: Mapping[str, Item], reaction: Act | None = None
    ) -> None:
        titles = {item.item_id: shown_title(item.item_id, catalogue)[:MOST_TITLE] for item in items}
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", style="dim", min_width=4)
        table.add_column(min_width=3)
        table.add_column(no_wrap=True, min_width=max(map(len, titles.values()), default=0))
        table.add_column(style="dim")
        for item in items:
            climbed = 0 if reaction is None else reaction.climbed(item)
            title = Text(titles[item.item_id], style="bold" if climbed is None else "")
            table.add_row(str(item.rank), _moved(climbed), title, self._reasons(item.reasons, catalogue))
        self._out.print(Padding(table, (0, 0, 0, 2)))

    def _receipt(self, receipt: Receipt) -> None:
        parts = [f"{receipt.history_length} events of hers"]
        if receipt.model_version is not None and receipt.weight_age_ms is not None:
            parts.append(f"model {receipt.model_version}, weights {receipt.weight_age_ms / 1000:.1f} s old")
        if "total" in receipt.timings_ms:
            parts.append(f"made in {receipt.timings_ms['total']:.1f} ms")
        self._out.print(Text(f"         receipt: {', '.join(parts)}", style="dim"))

    def summary(self, summary: Summary, end: str = "Everything is stopped and nothing is left behind.") -> None:
        """Everything at the end: figures, checks, next commands."""
        ours, theirs = summary.ndcg_at_10["headwater"], summary.ndcg_at_10["popularity"]
        ratio = f"  [bold green]{summary.ratio:.1f} times popularity[/]" if summary.ratio else ""
        clicks = ", ".join(ms(value) for value in summary.click_to_changed_ms) or "-"
        feature, reply = summary.event_to_feature_ms, summary.request_to_reply_ms
        self._out.print()
        self._out.print("[bold]What happened[/]")
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim")
        table.add_column()
        rate = f"{summary.events_per_second:,.0f}/s, each learned as it passed"
        people = f" ({summary.events_of_people:,} of people at the page)" if summary.events_of_people else ""
        told = f"{summary.events_produced:,} produced, {summary.events_applied:,} applied{people}; {rate}"
        table.add_row("events", told)
        table.add_row(
            "quality",
            f"NDCG@10 {ndcg(ours)}, popularity {ndcg(theirs)}, over the last {summary.queries:,} events{ratio}",
        )
        table.add_row("event → feature", f"p50 {ms(feature['p50'])}, p99 {ms(feature['p99'])}")
        asked = f"{summary.requests_answered:,} of {summary.requests_sent:,} answered"
        table.add_row("request → reply", f"p50 {ms(reply['p50'])}, p99 {ms(reply['p99'])}; {asked}")
        table.add_row("click → new list", clicks)
        table.add_row("dismissal → new list", ms(summary.dismissal_to_changed_ms))
        table.add_row("takedown → new list", ms(summary.takedown_to_changed_ms))
        if summary.exposures:
            told = "lists that went out are events, too: what is shown and passed over teaches the model"
            table.add_row("exposures", f"{summary.exposures:,} {told}")
        table.add_row("model", f"{summary.model_versions_published:,} versions published")
        table.add_row("ran on", f"{summary.broker}, {summary.store}")
        self._out.print(Padding(table, (0, 0, 0, 2)))
        self._verdict(summary, end)

    def _verdict(self, summary: Summary, end: str) -> None:
        failures = summary.failures()
        self._out.print()
        if failures:
            self._out.print("[bold red]Not as it should be[/]")
            for failure in failures:
                self._out.print(Text(f"  {failure}", style="red"))
        else:
            self._out.print(
                "  [bold green]Audit ok:[/] every event is in the features exactly once, recomputed from the topic and "
                "compared key by key;\n  every request was answered once; no list holds what its receipt "
                "knew to be taken down; no dead letters."
            )
        self._out.print(Text(f"  {summary.seconds:.0f} s. {end}", style="dim"))

    def stays(self, url: str, directory: Path) -> None:
        """Where the page is, which stays after the end, and how the commands that it gives find this world."""
        self._out.print()
        self._out.print(Text("Try it yourself: ", style="bold").append(url, style="bold green"))
        self._out.print(Text("Everything runs until Ctrl-C. Commands that the page gives, in another terminal:"))
        self._out.print(Text(f"  {self._program} ... --data {directory}", style="cyan"), soft_wrap=True)

    def next_commands(self) -> None:
        """Where to go from here."""
        program = self._program
        self._out.print()
        self._out.print("[bold]Next[/]")
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(style="dim")
        table.add_row(f"{program} demo --page", "this again, with the page in a browser (make demo DEMO=--page)")
        table.add_row(f"{program} up", "run it all, keep the data, and see it in a browser: the page that it prints")
        table.add_row(f"{program} trace", "beside it: one event and one request, hop by hop")
        table.add_row(f"{program} replay stream movielens", "beside it: let a past stream happen again")
        self._out.print(Padding(table, (0, 0, 0, 2)))
        self._out.print()


def _moved(climbed: int | None) -> Text:
    """How an item of a list has moved."""
    if climbed is None:
        return Text("new", style="green")
    if not climbed:
        return Text("")
    return Text(f"{'↑' if climbed > 0 else '↓'}{abs(climbed)}", style="cyan" if climbed > 0 else "red")
