"""Titles as people write them."""

from __future__ import annotations

import re

from headwater.events import Item

__all__ = ["spoken_title"]

_ARTICLE = re.compile(r"^(.*), (The|A|An|Das|Der|Die|Il|La|Le|Les|Los|El)$")


def spoken_title(item: Item) -> str:
    """Title and year; the id of an item without a title.

    >>> spoken_title(Item(item_id="71", title="Lion King, The", attributes={"year": 1994}))
    'The Lion King (1994)'
    """
    if not item.title:
        return item.item_id
    article = _ARTICLE.match(item.title)
    title = f"{article[2]} {article[1]}" if article else item.title
    year = item.attributes.get("year")
    return f"{title} ({year})" if year else title
