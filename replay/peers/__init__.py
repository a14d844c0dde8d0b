"""Peers that our model is measured against in a backtest, by name. Each is imported only when it is asked for.

Before: `replay.backtest` names peers and gives each a seed. After: each answers the very queries that our model does.
Knows nothing of our model. Defaults were chosen on slices before the last fifth of a data set; docs/lab-book.md has the
figures. Rules were best everywhere, but not with the same numbers: `rules` are for films, `rules-now` for news, which
live for hours, `rules-own` for shops, whose visitors come back to what they looked at. A name may carry other numbers,
as JSON: `rules:half_life_h=3:reach=5`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any, cast

from headwater.errors import SettingsError
from replay.backtest.queries import Peer

__all__ = ["PEERS", "USUAL", "Peers", "named", "peer"]

_MADE_BY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "popularity": ("popularity", "AllTimePopularity", {}),
    "popularity-15m": ("popularity", "WindowedPopularity", {"window_h": 0.25}),
    "popularity-1h": ("popularity", "WindowedPopularity", {"window_h": 1}),
    "popularity-1d": ("popularity", "WindowedPopularity", {"window_h": 24}),
    "popularity-7d": ("popularity", "WindowedPopularity", {"window_h": 168}),
    "recent": ("recent", "RecentItems", {}),
    "rules": ("rules", "SequentialRules", {}),
    "rules-symmetric": ("rules", "SequentialRules", {"reach": 30, "symmetric": True, "target_power": 0.4}),
    "rules-now": ("rules", "SequentialRules", {"reach": 1, "half_life_h": 0.5, "prior": 10.0, "window_h": 0.25}),
    "rules-own": ("rules", "SequentialRules", {"own": 3.0}),
    "item-item": ("item_item", "ItemItemCosine", {}),
    "als": ("als", "LiveALS", {}),
    "bpr": ("bpr", "RefittedBPR", {}),
    "isgd": ("isgd", "ISGD", {}),
    "raisgd": ("isgd", "RAISGD", {}),
}


LARGEST = 1e9
"""No number of a peer comes near."""


def peer(name: str, seed: int = 0, **numbers: Any) -> Peer:
    """A fresh peer by its name, which may carry numbers; `numbers` go before those.

    Raises SettingsError for a name that is none and for a number that the peer does not have.

    >>> peer("rules:reach=3:half_life_h=2.5").reach
    3
    """
    kind, *given = name.split(":")
    if kind not in _MADE_BY:
        raise SettingsError(f"there is no peer {kind!r}: choose of {', '.join(_MADE_BY)}")
    module, made_by, usual = _MADE_BY[kind]
    try:
        told: dict[str, Any] = {field: json.loads(value) for field, value in (pair.split("=", 1) for pair in given)}
        maker = getattr(import_module(f"replay.peers.{module}"), made_by)
        _check(maker, told | numbers)
        made = maker(seed=seed, **(usual | told | numbers))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"peer {name!r}: {error}. Write {kind}:FIELD=NUMBER, fields as {made_by} has them"
        ) from error
    made.name = name
    return cast(Peer, made)


def _check(maker: Callable[..., Peer], numbers: Mapping[str, Any]) -> None:
    """Raises ValueError for what is no number of its field's kind, from 1 on if whole, else from 0 on."""
    fields = signature(maker).parameters
    for field, value in numbers.items():
        kind = str(fields[field].annotation) if field in fields else ""
        if not kind or (value is None and "None" in kind) or (kind == "bool" and isinstance(value, bool)):
            continue  # a field that is not there, the maker refuses itself
        wanted, least = ((int,), 1) if kind.startswith("int") else ((int, float), 0)
        if kind == "bool" or type(value) not in wanted or not least <= value < LARGEST:
            raise ValueError(f"{field}={json.dumps(value)} is no {kind.partition(' ')[0]} from {least} on")


def named(kind: str, numbers: Mapping[str, Any]) -> str:
    """The name of a peer that carries these numbers.

    >>> named("rules", {"reach": 3, "symmetric": True})
    'rules:reach=3:symmetric=true'
    """
    return ":".join([kind, *(f"{field}={json.dumps(value)}" for field, value in numbers.items())])


class Peers(Mapping[str, Callable[[int], Peer]]):
    """Name -> what makes the peer of a seed. It lists the plain names and also answers to names with numbers."""

    def __getitem__(self, name: str) -> Callable[[int], Peer]:
        if name.split(":")[0] not in _MADE_BY:
            raise KeyError(name)
        return partial(peer, name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MADE_BY)

    def __len__(self) -> int:
        return len(_MADE_BY)


PEERS = Peers()

USUAL = ("popularity", "popularity-1h", "recent", "rules", "rules-now", "rules-own", "item-item")
"""Who is asked unless others are named: cheap, and for each kind of stream one that is strong there."""
