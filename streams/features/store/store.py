"""The whole store: all its parts on one connection."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from streams.features.store.batches import BatchWrites
from streams.features.store.copies import StoreCopies
from streams.features.store.erasures import ErasureWrites
from streams.features.store.reseal import SealWrites
from streams.features.store.server import StoreCall
from streams.features.store.statistics import ItemReads
from streams.features.store.words import WordWrites

__all__ = ["FeatureStore"]

TOLD_S = 60
"""A rebuild that was killed is one no more after so long."""


class FeatureStore(ItemReads, BatchWrites, ErasureWrites, WordWrites, SealWrites, StoreCopies):
    """Reads and writes features under one prefix. Parameters and errors are those of `MarkedStore`."""

    def ids(self, kind: Literal["u", "w", "a", "i", "item"]) -> Iterator[str]:
        """Every user (`u`), id with links (`w`) or attributes (`a`), item with statistics (`i`) or item of the
        catalogue (`item`) under the prefix, in no order; with several slots an item may come several times.
        """
        for key in self._keys_of(kind):
            yield self.slots.id_of(key, kind)

    def erase(self, slot: int | None = None, *, restoring: bool = False) -> None:
        """Take away all keys of this world, or those of one slot, with its marks; but the word that a restore is under
        way where it is. Until all are gone the store says so, for marks may outlive what they speak of.
        """
        self._server.run([StoreCall("SET", [self._clearing], ["" if slot is None else slot])])
        stay = {self._clearing, *([self._restoring] if restoring else ())}
        keys = (key for key in self.own_keys(slot) if key not in stay)
        while some := list(islice(keys, 1000)):
            self._server.run([StoreCall("UNLINK", [key]) for key in some])
        self._server.run([StoreCall("DEL", [self._clearing])])

    def tell_rebuilding(self, told: str | None) -> None:
        """Let whoever looks know that the features are being made again, and how far that is; None: it is over."""
        key = self.slots.home("rebuilding")
        self._server.run([StoreCall("DEL", [key]) if told is None else StoreCall("SET", [key], [told, "EX", TOLD_S])])

    def rebuilding(self) -> str | None:
        """What was told of it within the last minute."""
        found = self._server.run([StoreCall("GET", [self.slots.home("rebuilding")])], may_be_odd=True)[0]
        return found.decode(errors="replace") if isinstance(found, bytes) else None
