"""Tables of a report: rankers down, measures across, Headwater first, then the peers, then Headwater's own parts.

Before: `replay.report` and its sections. After: the page. Knows results only as numbers by ranker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from replay.report.chart_parts import QUIET
from replay.report.markup import Child, Markup, joined, tag
from replay.report.verdict import OURS, REDUCED, best_peer, is_peer, part, value
from replay.report.wording import DASH, described, label, plain, score

__all__ = [
    "Column",
    "figure",
    "groups_of_rankers",
    "key_values",
    "note",
    "ranker_cell",
    "ranker_table",
    "section",
    "styles",
    "table",
]


class Column(NamedTuple):
    """A column by ranker: its head, its cells, and the numbers that say which of them is the best."""

    head: str
    cells: Mapping[str, Child]
    best: Mapping[str, Any] = {}


def styles(result: Mapping[str, Any]) -> dict[str, str]:
    """The rankers that get a colour in every chart, in the order of their weight; all others are context."""
    values = {name: value(result, name) for name in part(result, "results")}
    first = best_peer(values)
    second = best_peer({name: each for name, each in values.items() if name != first})
    wanted = [OURS, first, "frozen", "popularity", second]
    chosen: dict[str, str] = {}
    for name in wanted:
        if name in values and name is not None and name not in chosen:
            chosen[name] = f"s{len(chosen)}"
    return chosen


def groups_of_rankers(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(head, names) of ours, the peers, our parts and ours without a part; best first by NDCG@10."""
    names = sorted(part(result, "results"), key=lambda name: (-(value(result, name) or 0.0), name))
    groups = (
        ("Headwater", [name for name in names if name == OURS]),
        ("Peers", [name for name in names if is_peer(name)]),
        (
            "Headwater with older weights, or parts alone",
            [n for n in names if n != OURS and not is_peer(n) and not n.startswith(REDUCED)],
        ),
        ("Headwater without a part", [n for n in names if n.startswith(REDUCED)]),
    )
    return [(head, members) for head, members in groups if members]


def ranker_table(result: Mapping[str, Any], caption: str, columns: Sequence[Column], *, about: bool = False) -> Markup:
    """Rankers down, `columns` across; the best of Headwater and the peers is bold where a column can be compared.

    `about` says under each name what the ranker is.
    """
    bests = [_best(column.best) for column in columns]
    chosen = styles(result)
    bodies = []
    for head, names in groups_of_rankers(result):
        rows = [tag("tr", tag("th", head, colspan=len(columns) + 1, scope="rowgroup"), class_="group")]
        for name in names:
            cells = [
                tag("td", column.cells.get(name, DASH), class_="best" if name in best else None)
                for column, best in zip(columns, bests, strict=True)
            ]
            rows.append(tag("tr", tag("th", ranker_cell(name, chosen, about=about), scope="row"), *cells))
        bodies.append(tag("tbody", rows))
    heads = [tag("th", "Ranker", scope="col"), *(tag("th", column.head, scope="col") for column in columns)]
    return _scrolled(caption, tag("table", tag("caption", caption), tag("thead", tag("tr", heads)), bodies))


def _best(values: Mapping[str, Any]) -> set[str]:
    known = {name: each for name, raw in values.items() if (each := plain(raw)) is not None}
    fair = {name: each for name, each in known.items() if name == OURS or is_peer(name)}
    return {name for name, each in fair.items() if score(each) == score(max(fair.values()))} if len(fair) > 1 else set()


def ranker_cell(name: str, chosen: Mapping[str, str], *, about: bool = False) -> Markup:
    """A ranker's colour and name."""
    told = described(name) if about else ""
    swatch = tag("span", class_=f"swatch {chosen.get(name, QUIET)}", aria_hidden="true")
    return tag("span", swatch, label(name), tag("span", told, class_="about") if told else None, class_="ranker")


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Child]], *, words: bool = False) -> Markup:
    """A plain table; the first cell of a row is its head. `words`: its cells are texts, which wrap."""
    top = tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads)))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return _scrolled(
        caption, tag("table", tag("caption", caption), top, tag("tbody", body), class_="words" if words else None)
    )


def _scrolled(caption: str, content: Markup) -> Markup:
    """What may be wider than a phone scrolls by itself, by keyboard too."""
    return tag("div", content, class_="scroll", role="region", tabindex="0", aria_label=caption)


def figure(charts: Sequence[Markup], caption: Child, *more: Child, readout: str | None = None) -> Markup:
    """A chart in both of its widths."""
    return tag("figure", *charts, *more, tag("figcaption", caption), data_readout=readout)


def key_values(pairs: Sequence[tuple[str, Child]]) -> Markup:
    """A list of terms and what they are."""
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", told)) for term, told in pairs))


def note(*children: Child) -> Markup:
    """A paragraph in small type."""
    return tag("p", *children, class_="note")


def section(key: str, head: str, *children: Child) -> Markup:
    """A part of the page with its heading."""
    return tag("section", tag("h2", head, id=key), joined(*children), aria_labelledby=key)
