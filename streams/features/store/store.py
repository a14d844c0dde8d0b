"""The whole store: all its parts on one connection."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from streams.features.store.batches import BatchWrites
from streams.features.store.server import StoreCall
from streams.features.store.slots import escaped
from streams.features.store.statistics import ItemReads
from streams.features.store.told import ToldWrites
from streams.features.store.users import UserReads

__all__ = ["FeatureStore"]


class FeatureStore(UserReads, ItemReads, BatchWrites, ToldWrites):
    """Reads and writes features under one prefix. Parameters and errors are those of `MarkedStore`."""

    def ids(self, kind: Literal["u", "w", "i", "item"]) -> Iterator[str]:
        """Every user (`u`), id with links (`w`), item with statistics (`i`) or item of the catalogue (`item`) under the
        prefix, in no order; with several slots an item may come several times.
        """
        for key in self._server.keys(self.slots.pattern(kind)):
            yield self.slots.id_of(key.decode(), kind)

    def erase(self) -> None:
        """Take away all keys under the prefix."""
        keys = iter(list(self._server.keys(f"{escaped(self.prefix)}*")))
        while some := list(islice(keys, 1000)):
            self._server.run([StoreCall("UNLINK", [key.decode()]) for key in some])
