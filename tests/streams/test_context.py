"""The context of moments and attributes of users, on their way through the fold into examples."""

from __future__ import annotations

from typing import Any

from headwater import Event
from headwater.context import named
from headwater.examples import pack_segments, unpack
from headwater.wire import EventRow
from streams.features.fold import Folding, KnownBeside, Limits, example, fold_batch
from streams.features.recording import recorded
from streams.features.state import EMPTY
from tests.streams.test_store import DECAY

PLAIN = EventRow("ann", "film-1", "click", 1_600_000_000_000, None, "e1", None, 0, 0)


def test_context_and_attributes_travel_with_each_example_and_survive_being_cut() -> None:
    limits = Limits(context=("device",))
    rows = [
        PLAIN._replace(event_id=f"e{n}", time_ms=PLAIN.time_ms + n, offset=n, properties=given)
        for n, given in enumerate([{"device": "app", "other": 1}, None, {"device": 7}, {"device": ["no"]}])
    ]
    told = {"ann": {"plan": "family", "genres": ("noir",)}}
    (segment,) = fold_batch({}, rows, limits, DECAY, beside=KnownBeside(attributes=told)).segments
    wanted = [{"device": "app"}, {}, {"device": 7.0}, {}]
    for parts in ([segment], [segment.part(0, 2), segment.part(2, 4)]):
        found = [one for part in parts for one in unpack(pack_segments(0, [part]))]
        assert [one.context for one in found] == wanted
        assert all(one.attributes == told["ann"] for one in found)
    folding = Folding(EMPTY, limits, told["ann"])
    alone = folding.example(folding.change(rows[0]), rows[0])
    assert alone is not None
    assert (alone.context, alone.attributes) == (wanted[0], told["ann"])


def test_a_backtest_sees_the_context_that_the_streams_worker_sends() -> None:
    limits = Limits(context=("device", "page"))
    given: list[dict[str, Any] | None] = [
        None,
        {"device": "app"},
        {"page": 2, "device": "web"},
        None,
        {"device": "app"},
    ]
    events = [
        Event(user_id="ann", item_id="film-1", type="click", event_time=1000 + n, event_id=f"e{n}", properties=one)
        for n, one in enumerate(given)
    ]
    recording = recorded(events, limits)
    wanted = [named(one, limits.context) for one in given]
    assert [one.context for one in recording.examples()] == wanted
    assert recording.digest() != recorded(events, Limits()).digest()
    alone = example(EMPTY, PLAIN._replace(properties=given[2]), limits)
    assert alone is not None
    assert alone.context == {"device": "web", "page": 2.0}
