"""Nobody is forgotten for not having been seen by a store that does not know yet who was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from console.privacy import inactivity
from console.privacy.inactivity import forget_inactive
from headwater.errors import AnotherLog, HeadwaterError
from headwater.settings import Settings
from headwater.topics import ERASURES, EVENTS, IDENTITIES
from streams.features.store import FeatureStore
from tests.privacy.test_past_ghosts import rounds
from tests.worlds.streams import event, records, send, send_raw, storing


def fold(settings: Settings, store: FeatureStore, messages: list[Any]) -> None:
    async def run() -> None:
        one = rounds(settings, store)
        await one.positions()
        assert await one.run(messages) is None

    asyncio.run(run())


def test_a_store_that_lacks_some_of_the_log_has_nobody_forgotten(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inactivity, "FOLDED_WITHIN_S", 0.0)
    begun = list[bool]()

    def looked() -> int:
        return forget_inactive(settings, event(50).event_time, dry=False, begin=lambda: begun.append(True)).forgotten

    with storing(settings) as store:
        store.claim()
        send(settings, [event(0)])
        fold(settings, store, records(settings, EVENTS))
        send(settings, [event(60), event(61)])
        with pytest.raises(HeadwaterError, match=r"lacks 2 records of .*events: .* run this again"):
            looked()
        fold(settings, store, records(settings, EVENTS)[1:])
        send_raw(settings, b"{}", IDENTITIES, key=b"ada")
        with pytest.raises(HeadwaterError, match=r"lacks 1 records of .*identities"):
            looked()
        last = records(settings, IDENTITIES)[0]
        store.put_links([], last.partition, last.offset)
        for told, why in ((store.tell_rebuilding, "are being made again"), (store.tell_restoring, "a restore of")):
            told("w1")
            with pytest.raises(HeadwaterError, match=why):
                looked()
            told(None)
        assert (records(settings, ERASURES), begun) == ([], [])
        assert (looked(), begun) == (0, [True])
        store.forget_marks(EVENTS, list(store.marks()))
        with pytest.raises(HeadwaterError, match="lacks 3 records"):
            looked()


def test_a_store_of_another_log_has_nobody_forgotten(settings: Settings) -> None:
    with storing(settings) as store:
        store.claim()
        send(settings, [event(0)])
        (only,) = records(settings, EVENTS)
        fold(settings, store, [only._replace(offset=7)])  # of a log that was longer
        with pytest.raises(AnotherLog):
            forget_inactive(settings, event(50).event_time, dry=False)
    assert records(settings, ERASURES) == []
