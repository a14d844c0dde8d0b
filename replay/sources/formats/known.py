"""Files of systems whose format is known from their own documentation: what each record of theirs becomes here.

Before: `reading` gives records; `segment`, `google_analytics` and `snowplow` say what one means. After:
`replay.stream`, the backtest, `headwater look`. A record names what happened, by whom, when, and the products that it
was about: one product is an event, several are an event each, those of a list that was shown are one event together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from headwater.errors import SourceError
from headwater.events import Event
from headwater.signals import DEFAULTS, Meaning
from replay.sources.columns import ITEMS, RATINGS, Columns, is_known_name, plain
from replay.sources.ids import is_missing
from replay.sources.kinds import Kinds
from replay.sources.raw import BadRow, LeftOut, RawRow
from replay.sources.reading import Begin, begin_of, objects_of, parts_of, value_of
from replay.sources.source import RowOptions, SourceReport, events_of
from replay.sources.times import number_of

__all__ = ["Format", "Happening", "JsonFormat", "KnownFile", "Record", "id_in"]

Record = dict[str, Any]

IDS = tuple(name for name in ITEMS if name.endswith(("id", "sku", "asin", "isbn")))
PRICES = ("price", "unitprice")
PLACES = ("position", "index", "itemlistindex")
"""Where a product stood in a list."""


class Happening(NamedTuple):
    """What a record tells.

    Fields
        word: what happened, in the system's own word.
        user, guest: who; the guest is what the user was before a login, and the user again where there is no other.
        products: what it was about, an object each.
        order: the id of an order, by which a refund of all of it knows its products.
        nobody: what a record without a user is counted under, where the system has such by design.
        is_page: whether it is the view of a page, which has an item only where a person named one (`--map item=...`).
    """

    word: Any
    user: Any
    guest: Any
    time: Any
    products: Sequence[Any] = ()
    event_id: Any = None
    session: Any = None
    request: Any = None
    order: Any = None
    nobody: str = ""
    is_page: bool = False


class Format(Protocol):
    """One system's files.

    Fields
        name: how a person names it, before the path.
        told: what its files are, in words.
    """

    name: str
    told: str

    def is_here(self, begin: Begin) -> bool:
        """Whether a file that begins so is of it."""
        ...

    def records(self, path: Path) -> Iterator[tuple[int, Record] | BadRow]:
        """The number and content of each record of a file; a bad one says where it stands. Raises SourceError."""
        ...

    def happening(self, record: Record) -> Happening | LeftOut:
        """What a record tells. Raises BadRow."""
        ...


class JsonFormat:
    """What formats of JSON (or parquet) have in common: an object is a record."""

    def records(self, path: Path) -> Iterator[tuple[int, Record] | BadRow]:
        """The objects of a file."""
        return objects_of(path, is_known_name)


class KnownFile:
    """Files of one format, in time order (stable), or in their own with `in_file_order`.

    Parameters
        names: a file, a folder of parts, a glob, or several of them.
        form: of which format.
        columns: names in a record that a person gave, which come before what the format has; and words for types.
        options: how rows become events.
    """

    def __init__(
        self,
        names: Sequence[str | Path],
        form: Format,
        columns: Columns | None = None,
        *,
        options: RowOptions | None = None,
        in_file_order: bool = False,
    ) -> None:
        self.name = str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        self.form = form
        self._columns, self._options, self._in_file_order = columns or Columns(), options, in_file_order
        if not self._columns.timed:
            raise SourceError(f"{self.name}: {form.told} have times: leave out --no-time")
        self._parts = [part.path for name in dict.fromkeys(names) for part in parts_of(name)]
        self.report = SourceReport(self.name)

    @property
    def files(self) -> int:
        """How many files it is."""
        return len(self._parts)

    @property
    def size_bytes(self) -> int:
        """Of all files, as they lie there."""
        return sum(path.stat().st_size for path in self._parts)

    def events(self) -> Iterator[Event]:
        """The events. Raises SourceError."""
        told = self.form.told + (f", {self.files:,} files" if self.files > 1 else "")
        self.report = SourceReport(self.name, read_as=told)
        if not self.form.is_here(begin_of(self._parts[0])):
            self.report.notes.append(f"{self._parts[0]} does not begin as {self.form.told} do")
        return self._some(events_of(self._rows(), self.report, sort=not self._in_file_order, options=self._options))

    def _some(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events. Raises SourceError at the end where there was no record."""
        yield from events
        if not self.report.rows:
            raise SourceError(f"{self.name} is empty: it has no record of {self.form.told}")

    def _rows(self) -> Iterator[RawRow | BadRow | LeftOut]:
        kinds = Kinds(self._columns.types, foreign=True)
        self.report.made_types = kinds.made
        maker = _Maker(kinds, self._columns)
        for path in self._parts:
            whole, made = str(path.absolute()), 0
            for record in self.form.records(path):
                if isinstance(record, BadRow):
                    yield record
                    continue
                number, body = record
                try:
                    told = self.form.happening(body)
                    if isinstance(told, LeftOut):
                        yield told._replace(number=number, path=whole)
                        continue
                    for row in maker.rows(number, body, told):
                        made += 1  # rows of one line have numbers of their own, for ids by path
                        one = row._replace(number=made, path=whole)
                        yield one._replace(place=f"{path} line {number}") if isinstance(one, RawRow) else one
                except BadRow as error:
                    yield BadRow(error.reason, str(error), f"{path} line {number}")
        if kinds.unmet:
            self.report.notes.append(f"--types names {', '.join(kinds.unmet)}, which no record has")
        for what, name in maker.unmet.items():
            self.report.notes.append(f"{what} was to be {name}, which no record has")


class _Maker:
    """Rows of what records tell."""

    def __init__(self, kinds: Kinds, columns: Columns) -> None:
        self._kinds = kinds
        self._given = {what: name.split(",") for what, name in columns.named.items() if what != "type"}
        self._type = columns.type
        self._orders: dict[Any, Sequence[Any]] = {}
        self.unmet = dict(columns.named)
        """What a person named, and no record had so far."""

    def rows(self, number: int, body: Record, told: Happening) -> Iterator[RawRow | LeftOut]:
        """The rows of one record. Raises BadRow."""
        word = self._word(body, told)
        if told.nobody and is_missing(told.user) and "user" not in self._given:
            yield LeftOut(told.nobody, number)
            return
        if told.is_page and self._found("item", body) is None:
            yield _left_out(str(told.word)[:64], number, told)
            return
        kind = self._kinds.read("view" if told.is_page else word)
        products = self._products(kind, body, told)
        if not products or not kind:
            lacking = f"{word} without an item" if kind and self._kinds.is_ours(word) else str(word)[:64]
            yield _left_out(lacking, number, told)
            return
        row = RawRow(number, told.user, None, told.time, kind, None, told.event_id, told.session, told.request,
                     guest=told.guest)  # fmt: skip
        if kind in EXPOSURES:
            shown = [one for one in map(self._item, in_order(products)) if not is_missing(one)]
            yield self._overridden(row._replace(shown=shown or None), body, {}, alone=not told.products)
            return
        for place, product in enumerate(products):
            made = row._replace(item=self._item(product), value=value_in(product, kind))
            if len(products) > 1 and not is_missing(told.event_id):
                made = made._replace(event_id=f"{told.event_id}:{place}")
            yield self._overridden(made, body, product, alone=len(products) == 1)

    def _word(self, body: Record, told: Happening) -> Any:
        if self._type is None:
            return told.word
        if self._type.startswith("="):
            self.unmet.pop("type", None)
            return self._type[1:]
        return self._found("type", body, names=[self._type])

    def _products(self, kind: str, body: Record, told: Happening) -> Sequence[Any]:
        """What a record is about: of a refund without products all that the order had."""
        if not is_missing(told.order):
            if kind == "purchase":
                self._orders[str(told.order)] = told.products
            elif kind == "refund" and not told.products:
                return self._orders.get(str(told.order), ())
        if told.products or self._found("item", body) is None:
            return told.products
        return ({},)

    def _item(self, product: Any) -> Any:
        if not isinstance(product, dict):
            return product
        return self._found("item", product) if "item" in self._given else id_in(product, bare=True)

    def _overridden(self, row: RawRow, body: Record, product: Any, *, alone: bool) -> RawRow:
        """A row with what a person named, in the product before the record. Nothing else stands in for it.

        `alone`: whether the item may stand in the record, which is then about no other.
        """
        named: dict[str, Any] = {"guest": None} if "user" in self._given else {}
        for what in self._given:
            if what == "item" and row.shown is not None:
                continue
            found = self._found(what, product) if isinstance(product, dict) else None
            if found is None and (alone or what != "item"):
                found = self._found(what, body)
            named[what] = found
        return row._replace(**named)

    def _found(self, what: str, scope: Record, names: Sequence[str] | None = None) -> Any:
        """What stands under a name that a person gave; of `properties.sku` a product has `sku`."""
        for name in self._given.get(what, ()) if names is None else names:
            for tried in (name.strip(), name.strip().rpartition(".")[2]):
                value = value_of(scope, tried)
                if not is_missing(value):
                    self.unmet.pop(what, None)
                    return value
        return None


def _left_out(what: str, number: int, told: Happening) -> LeftOut:
    """A record that is no event; who did nothing else was no guest."""
    guest = None if told.guest == told.user else told.guest
    return LeftOut(what, number, told.user, guest, told.time)


EXPOSURES = frozenset(name for name, signal in DEFAULTS.items() if signal.means is Meaning.EXPOSURE)


def id_in(record: Record, *, bare: bool = False) -> Any:
    """The id of the item in an object by its usual names, None where there is none; `bare`: also plain `id`."""
    names = {plain(name): value for name, value in record.items() if not isinstance(value, list | dict)}
    usual = (*IDS, "id") if bare else IDS
    return next((names[name] for name in usual if not is_missing(names.get(name))), None)


def value_in(product: Any, kind: str) -> Any:
    """Stars of a review; else what it was sold for, or its price times how many; else its value."""
    if not isinstance(product, dict):
        return None
    names = {plain(name): value for name, value in product.items() if not is_missing(value)}
    usual = RATINGS if kind in ("review", "rating") else ("itemrevenue", "itemrefund")
    found = next((names[name] for name in usual if name in names), None)
    if found is not None:
        return found
    price = next((names[name] for name in PRICES if name in names), None)
    if price is None:
        return names.get("value")
    each, count = number_of(price), number_of(names.get("quantity"))
    return price if each is None or count is None else each * count


def in_order(products: Sequence[Any]) -> Sequence[Any]:
    """Products as they stood in a list, where each says its place; else as they come."""
    for name in PLACES:
        places = [
            number_of(next((value for key, value in one.items() if plain(key) == name), None))
            for one in products
            if isinstance(one, dict)
        ]
        if len(places) == len(products) and None not in places:
            return [one for _, one in sorted(zip(places, products, strict=True), key=lambda pair: pair[0] or 0)]
    return products
