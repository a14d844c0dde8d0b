"""A type of event that nobody has given a meaning is told in the worker's log, once."""

from __future__ import annotations

import pytest

from headwater.signals import Signal, Signals
from headwater.wire import EventRow
from streams import unknown_types
from streams.unknown_types import UnknownTypes


def rows(*kinds: str) -> list[EventRow]:
    return [EventRow("ann", "i", kind, 1, None, f"e{n}", None, n, 0) for n, kind in enumerate(kinds)]


def test_each_unknown_type_is_told_once_and_a_flood_of_them_fills_no_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_types, "MOST_TOLD", 3)
    types = UnknownTypes(Signals({"ours": Signal()}))
    types.look(rows("view", "poke", "ours", "poke"))
    types.look(rows("poke", "wave"))
    assert [record.__dict__["type"] for record in caplog.records] == ["poke", "wave"]
    assert "[signals.poke]" in caplog.messages[0]
    types.look(rows(*(f"made_up_{n}" for n in range(100))))
    assert len(caplog.records) == 3
