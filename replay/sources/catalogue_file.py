"""A catalogue from a file: what items are about, for streams whose source does not say.

Before: a file of any format that `reading` knows, one item a row. After: `replay.backtest`. Knows nothing of Kafka.

Names count without case and style. The id is `item_id`, `id` or another usual name of an item; `title`, `categories`,
`text`, `available`, `published_time` and `attributes` are the fields of an Item; any other column becomes an attribute.
Categories in one text are separated by `|`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import Item
from replay.sources.columns import ITEMS, is_known_name, plain
from replay.sources.ids import as_id
from replay.sources.raw import BadRow
from replay.sources.reading import objects_of

__all__ = ["catalogue_from"]

IDS = ("itemid", "item", "id", *ITEMS)
FIELDS = {plain(name): name for name in ("title", "categories", "text", "available", "published_time", "attributes")}


def catalogue_from(path: Path) -> list[Item]:
    """The items of a file; the last row of an id counts. Raises SourceError, naming the row."""
    if not path.is_file():
        raise SourceError(f"{path} is not a file: give a .jsonl, .csv, .tsv or .parquet file of items")
    items: dict[str, Item] = {}
    for row in objects_of(path, lambda name: is_known_name(name) or plain(name) == "id", short_rows=True):
        if isinstance(row, BadRow):
            raise SourceError(f"{row.place}: {row}") from row
        number, fields = row
        item = _item(fields, f"{path} line {number}")
        items[item.item_id] = item
    if not items:
        raise SourceError(f"{path} has no items: a column item_id or another usual name is needed, and a row for each")
    return list(items.values())


def _item(row: dict[str, Any], where: str) -> Item:
    given = {name: value for name, value in row.items() if not _is_missing(value)}
    names = {plain(name): name for name in reversed(given)}
    name = next((names[word] for word in IDS if word in names), None)
    if name is None:
        raise SourceError(f"{where} has no id: a column item_id, id or another usual name of an item is needed")
    try:
        fields: dict[str, Any] = {"item_id": as_id(given.pop(name), "item")}
    except BadRow as error:
        raise SourceError(f"{where}: {error}") from error
    attributes = given.pop(names.get("attributes", ""), {})
    if not isinstance(attributes, dict):
        raise SourceError(f"{where}: attributes {attributes!r:.80} are no object: give each its own column")
    attributes = dict(attributes)
    for column, value in given.items():
        field = FIELDS.get(plain(column))
        if field is not None and names.get(plain(column)) == column:
            fields[field] = value
        else:
            attributes[column] = value
    if isinstance(fields.get("categories"), str):
        fields["categories"] = [part.strip() for part in fields["categories"].split("|") if part.strip()]
    try:
        return Item(**fields, attributes=attributes)
    except ValidationError as error:
        problem = error.errors()[0]
        raise SourceError(f"{where}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
