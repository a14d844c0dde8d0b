"""A catalogue from a file: what items are about, for streams whose source does not say.

Before: a .jsonl, .csv, .tsv or .parquet file with one item a row. After: `replay.backtest`. Knows nothing of Kafka.

`item_id` (or `item`), `title`, `categories`, `text`, `available`, `published_time` and `attributes` are the fields of
an Item; any other column becomes an attribute. Categories in one text are separated by `|`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import Item
from replay.sources.rows import Row, rows_of
from replay.sources.source import BadRow, as_id

__all__ = ["catalogue_from"]

IDS = ("item_id", "item", "itemId", "itemid", "id")
FIELDS = {"title", "categories", "text", "available", "published_time", "attributes"}


def catalogue_from(path: Path) -> list[Item]:
    """The items of a file; the last row of an id counts. Raises SourceError, naming the row."""
    if not path.is_file():
        raise SourceError(f"{path} is not a file: give a .jsonl, .csv, .tsv or .parquet file of items")
    items: dict[str, Item] = {}
    for number, row in enumerate(rows_of(path, short_rows=True)):
        where = f"{path} row {number}"
        if isinstance(row, BadRow):
            raise SourceError(f"{where}: {row}") from row
        item = _item(row, where)
        items[item.item_id] = item
    if not items:
        raise SourceError(f"{path} has no items: a column {' or '.join(IDS)} is needed, and a row for each")
    return list(items.values())


def _item(row: Row, where: str) -> Item:
    given = {name: value for name, value in row.items() if not _is_missing(value)}
    name = next((name for name in IDS if name in given), None)
    if name is None:
        raise SourceError(f"{where} has no id: a column {' or '.join(IDS)} is needed")
    try:
        fields: dict[str, Any] = {"item_id": as_id(given.pop(name), "item")}
    except BadRow as error:
        raise SourceError(f"{where}: {error}") from error
    attributes = given.pop("attributes", {})
    if not isinstance(attributes, dict):
        raise SourceError(f"{where}: attributes {attributes!r:.80} are no object: give each its own column")
    attributes = dict(attributes)
    for field, value in given.items():
        if field in FIELDS:
            fields[field] = value
        else:
            attributes[field] = value
    if isinstance(fields.get("categories"), str):
        fields["categories"] = [part.strip() for part in fields["categories"].split("|") if part.strip()]
    try:
        return Item(**fields, attributes=attributes)
    except ValidationError as error:
        problem = error.errors()[0]
        raise SourceError(f"{where}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
