"""A catalogue from a file: what items are about, for streams whose source does not say.

Before: a file of any format that `reading` knows, one item a row. After: `replay.backtest`. Knows nothing of Kafka.

Names count without case and style. The id is `item_id`, `id` or another usual name of an item. `title` (or `name`),
`categories` (or `genres`), `text` (or `description`), `available`, `published_time` and `attributes` are the fields of
an Item; any other column becomes an attribute. Categories in one text are separated by `|`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import Item
from replay.sources.columns import CATEGORIES, ITEMS, TEXTS, TITLES, is_known_name, plain, untyped
from replay.sources.ids import IdColumn, choose_ids, is_missing
from replay.sources.raw import BadRow
from replay.sources.reading import FileFormat, objects_of
from replay.sources.source import SourceReport
from replay.sources.times import TimeColumn, TimeOptions, choose_time_column

__all__ = ["catalogue_from"]

IDS = ("itemid", "item", "id", *ITEMS)
PUBLISHED = ("publishedtime", "publishedat", "creationtimestamp", "releasedate", "publishdate")
FIELDS = {
    "title": TITLES,
    "categories": CATEGORIES,
    "text": TEXTS,
    "available": ("available",),
    "published_time": PUBLISHED,
    "attributes": ("attributes",),
}
SAMPLE = 2000
ANY_AGE = TimeOptions(oldest_ms=-(10**14), newest_ms=4_102_444_800_000)
"""Items may be older than any event, and not be out yet; what is older than 1970 counts as of 1970."""


def catalogue_from(
    path: Path, *, form: FileFormat | None = None, report: SourceReport | None = None, most_bad: float = 0.01
) -> list[Item]:
    """The items of a file; the last row of an id counts.

    Parameters
        path: the file.
        form: what is known of how it is written.
        report: filled in: bad rows by reason.
        most_bad: the largest share of rows that may be bad.

    Raises
        SourceError: no item, or more bad rows; it names the first.
    """
    if not path.is_file():
        raise SourceError(f"{path} is not a file: give a file of items, of any format that events may have")
    report = SourceReport(str(path)) if report is None else report
    known = [*objects_of(path, _is_header, form=form, short_rows=True)]
    sample = [row[1] for row in known[:SAMPLE] if not isinstance(row, BadRow)]
    times = _times(sample)
    ids = choose_ids(filter(None, map(_id_in, sample)), "item")
    items: dict[str, Item] = {}
    for row in known:
        report.rows += 1
        try:
            if isinstance(row, BadRow):
                raise row
            item = _item(row[1], ids, times)
            items[item.item_id] = item
            report.events += 1
        except BadRow as error:
            report.refuse("" if isinstance(row, BadRow) else f"{path} line {row[0]}", error)
    if not items:
        told = f". {report.bad_text}" if report.bad else ""
        raise SourceError(f"{path} has no items: a column item_id or id is needed, and a row for each{told}")
    if report.bad_share > most_bad:
        raise SourceError(f"{path}: {report.bad_share:.1%} of its rows are no items (--max-bad). {report.bad_text}")
    return list(items.values())


def _is_header(name: str) -> bool:
    return is_known_name(name) or plain(name) == "id"


def _times(rows: list[dict[str, Any]]) -> tuple[str, TimeColumn] | None:
    """The column of the time of publication, and how it is read; None where there is none that can be read."""
    names = {plain(name): name for row in rows for name in row}
    for word in PUBLISHED:
        if word in names:
            try:
                column = choose_time_column({names[word]: [row.get(names[word]) for row in rows]}, ANY_AGE)
            except SourceError:
                continue
            return None if column.undecided else (names[word], column)
    return None


def _id_in(row: dict[str, Any]) -> Any:
    """The id as it is written, None where there is none."""
    names = {plain(name): name for name in reversed(row) if not is_missing(row[name])}
    return next((row[names[word]] for word in IDS if word in names), None)


def _item(row: dict[str, Any], ids: IdColumn, times: tuple[str, TimeColumn] | None) -> Item:
    """Raises BadRow."""
    given = {name: value for name, value in untyped(row).items() if not is_missing(value)}
    names = {plain(name): name for name in reversed(given)}
    name = next((names[word] for word in IDS if word in names), None)
    if name is None:
        raise BadRow("no_item", "has no id: a column item_id, id or another usual name of an item is needed")
    fields: dict[str, Any] = {"item_id": ids.read(given.pop(name))}
    for field, words in FIELDS.items():
        column = next((names[word] for word in words if word in names and names[word] in given), None)
        if column is not None and (field != "published_time" or (times and times[0] == column)):
            fields[field] = given.pop(column)
    for field in ("title", "text"):
        if isinstance(fields.get(field), list):
            fields[field] = " ".join(map(str, fields[field]))
    if times and "published_time" in fields:
        fields["published_time"] = max(0, times[1].read(fields["published_time"]))
    attributes = fields.pop("attributes", {})
    if not isinstance(attributes, dict):
        raise BadRow("attributes", f"attributes {attributes!r:.80} are no object: give each its own column")
    if isinstance(fields.get("categories"), str):
        fields["categories"] = [part.strip() for part in fields["categories"].split("|") if part.strip()]
    try:
        return Item(**fields, attributes={**attributes, **given})
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadRow(str(problem["loc"][0]), f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
