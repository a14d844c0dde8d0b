"""Users who were forgotten: `p:<digest>` says since when, in the slot of the user, and names nobody. That may lie
beyond the marks; `q:<digest>` says where the log forgot them last up to these, and moves with them.

Before: `streams.rounds` meets the place at which a log forgets its user. After: an event from before is known by it,
whenever it arrives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from headwater.privacy import Erased, ErasureFact, digest_of, fact_of
from headwater.topics import ERASURES
from headwater.wire import IdentityRow
from streams.features.identity import Links, from_before_erasure
from streams.features.store.server import Script, StoreCall
from streams.features.store.slots import PRIVATE
from streams.features.store.standing import StoreStanding
from streams.features.store.told import ToldWrites, Written
from streams.features.store.users import UserReads
from streams.features.store.values import erased_of, erased_text

__all__ = ["ErasureWrites"]

FORGET, UNLINK = Script("forget"), Script("unlink")


class ErasureWrites(UserReads, ToldWrites):
    """The part of the store that forgets. All of it may be repeated."""

    def forget_users(self, erased: Mapping[str, Erased]) -> None:
        """Remember that these users are forgotten, and take away links and attributes that were told of them until
        then, or until a later erasure that is known already: of both ids of a link at once, for who is forgotten there
        has no links left that would tell of the other. Their states, which the version guards, are the round's to
        remove.
        """
        ids = list(erased)
        self.keep_erased(fact_of(one, since) for one, since in erased.items())  # so that nothing more of before comes
        known = self.erased(ids)
        latest = {one: since if since.outlasts(known.get(one)) else known[one] for one, since in erased.items()}
        for other, gone in _linked(ids, self.read_links(ids)).items():
            until = [part for one in gone for part in (one, latest[one].time_ms)]
            self._server.run([StoreCall(UNLINK, [self.slots.user("w", other)], until)])
        calls = []
        for slot, some in self.slots.grouped(ids).items():
            key = self.slots.key
            keys = [key(slot, PRIVATE), *(key(slot, f"p:{digest_of(one)}") for one in some)]
            keys += [key(slot, f"{kind}:{one}") for one in some for kind in "wa"]
            calls.append(StoreCall(FORGET, keys, [len(some), *(erased_text(latest[one]) for one in some)]))
        self._server.run(calls)
        for one in ids:
            (self._people or {}).pop(one, None)

    def put_links(
        self, rows: Sequence[IdentityRow], partition: int, offset: int, standing: StoreStanding | None = None
    ) -> Written:
        """As `ToldWrites` does, but for words from before one of the two was forgotten."""
        ids = list({one for row in rows for one in (row.user_id, row.was)})
        erased = self.erased(ids)
        told = [row for row in rows if not from_before_erasure(row, erased)]
        written = super().put_links(told, partition, offset, standing)
        if told and self.slots.count > 1:  # a script sees one slot, and somebody may have been forgotten meanwhile
            erased = self.erased(ids)
            for row in told:
                if from_before_erasure(row, erased):
                    calls = [(row.user_id, row.was), (row.was, row.user_id)]
                    self._server.run(
                        [StoreCall(UNLINK, [self.slots.user("w", own)], [other, row.time_ms]) for own, other in calls]
                    )
        return written

    def put_erased(
        self, facts: Sequence[ErasureFact], partition: int, offset: int, standing: StoreStanding | None = None
    ) -> Written:
        """Remember what the topic `erasures` says of some who were forgotten, in their slots: one that is lost is told
        of them again.

        Parameters
            facts: of one partition.
            partition, offset, standing: as in `put_items`.
        """
        self.keep_erased(facts)
        slots = {fact.crc % self.slots.count for fact in facts}
        return self._put(ERASURES, "p", {}, partition, offset, standing, slots)

    def keep_erased(self, facts: Iterable[ErasureFact]) -> None:
        """The same without a place in the topic."""
        calls = []
        for fact in facts:
            slot = fact.crc % self.slots.count
            keys = [self.slots.key(slot, PRIVATE), self.slots.key(slot, f"p:{fact.digest}")]
            calls.append(StoreCall(FORGET, keys, [1, erased_text(fact.erased)]))
        self._server.run(calls)

    def forget_places(self) -> None:
        """Of whoever is forgotten only since when is known from here on, for the log that forgot them is gone: a place
        in it would hide what another log holds. For whoever writes alone.
        """
        keys = [*self._keys_of("p")]
        values = self._server.run([StoreCall("GET", [key]) for key in keys], may_be_odd=True)
        known = {key: erased_of(value) for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}
        self._server.run([StoreCall("UNLINK", [key]) for key in self._keys_of("q")])
        placeless = {key: erased_text(Erased(one.time_ms)) for key, one in known.items() if one is not None}
        self._server.run([StoreCall("SET", [key], [text]) for key, text in placeless.items()])

    def take_away(self, erased: Mapping[str, Erased]) -> None:
        """Remember that these users are forgotten, and take away all that is known of them, their states, too. For
        whoever writes alone.
        """
        self.forget_users(erased)
        keys = [self.slots.user(kind, one) for one in erased for kind in "utwa"]
        self._server.run([StoreCall("UNLINK", [key]) for key in keys])

    def erased(self, ids: Sequence[str]) -> dict[str, Erased]:
        """Since when these are forgotten, of those who are."""
        return self._places(ids, "p:")

    def last_erased(self, ids: Collection[str]) -> dict[str, Erased]:
        """Where the log forgot these last up to the marks, of those whom it did."""
        return self._places(ids, "q:")

    def _places(self, ids: Collection[str], kind: str) -> dict[str, Erased]:
        keys = [f"{self.slots.key(self.slots.of(one), kind)}{digest_of(one)}" for one in ids]
        values = self._server.run([StoreCall("GET", [key]) for key in keys], may_be_odd=True)
        found = {one: erased_of(value) for one, value in zip(ids, values, strict=True) if isinstance(value, bytes)}
        return {one: erased for one, erased in found.items() if erased is not None}


def _linked(ids: Sequence[str], links: Sequence[Links]) -> dict[str, list[str]]:
    """Whoever is linked with any of these -> with which."""
    found: dict[str, list[str]] = {}
    for one, told in zip(ids, links, strict=True):
        for other in {*told.users, *told.guests}:
            found.setdefault(other, []).append(one)
    return found
