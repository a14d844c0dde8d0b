"""States as bytes: what comes back is what was written, and what nobody wrote is named."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InvalidMessage, NewerFormat
from headwater.examples import Entry, Shown, plain_entries
from headwater.settings import Settings
from streams.features.packed import decode, encode
from streams.features.state import EMPTY, UserState
from tests.worlds.streams import server_of, storing

IDS = st.one_of(
    st.sampled_from(["film-1", "film-2", "film-03", "7", "007", "a,b", ",", "", 'é\x00"\\', "\ud800", "x" * 300]),
    st.text(max_size=8),
)
NUMBERS = st.one_of(st.integers(-(10**12), 10**13), st.sampled_from([0, -1, 2**63, -(2**63), 2**64, 10**30]))
VALUES = st.one_of(st.none(), st.sampled_from([1.0, 4.5, -0.0, 1e300, 0.1]), st.floats(allow_nan=False))
ENTRIES = st.lists(
    st.builds(Entry, IDS, st.sampled_from(["click", "like", ","]), NUMBERS, VALUES, st.none() | NUMBERS), max_size=9
)
SHOWN = st.lists(st.builds(Shown, IDS, NUMBERS, st.integers(0, 10_000), IDS), max_size=6).map(tuple)
HASHES = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([-1, 2**64])), max_size=5)


@st.composite
def states(draw: st.DrawFn) -> UserState:
    past = {"history": draw(ENTRIES), "undos": tuple(draw(ENTRIES)), "undone": tuple(draw(ENTRIES))}
    more = {"shown": draw(SHOWN), "reacted": draw(SHOWN), "recent": draw(HASHES)}
    counts = {name: draw(NUMBERS) for name in ("partition", "offset", "folded_ms", "exposures")}
    return UserState(count=draw(st.integers(1, 10**20)), **past, **more, **counts)  # type: ignore[arg-type]


def many(n: int) -> UserState:
    history = [Entry(f"film-{i * 7 % 90}", "click", 10**12 + i * 900, float(i % 5), i // 9) for i in range(n)]
    return UserState(history, list(range(n)), n, 1, 2 * n, 10**12)


def as_json(state: UserState) -> bytes:
    """As releases before wrote it."""
    body: dict[str, Any] = {name: getattr(state, name) for name in ("count", "partition", "offset", "folded_ms")}
    body |= {"recent": state.recent, "history": plain_entries(state.history), "shown": list(map(tuple, state.shown))}
    body |= {"undos": plain_entries(state.undos), "exposures": state.exposures}
    return orjson.dumps(body)


@given(states())
def test_what_is_written_comes_back(state: UserState) -> None:
    found = decode(encode(state))
    assert found == state
    assert repr(found) == repr(state)  # -0.0 is 0.0, and not the same
    assert found.stored == state.stored


def test_long_histories_come_back_and_are_small() -> None:
    for n in (0, 1, 200, 1000):
        value = encode(many(n))
        assert decode(value) == many(n)
        assert len(value) < 200 + 14 * n
    assert decode(None) is EMPTY


@given(states(), st.data())
def test_what_is_cut_off_or_changed_is_named(state: UserState, data: st.DataObject) -> None:
    value = encode(state)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    place, bit = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, 7))
    flipped = value[:place] + bytes([value[place] ^ 1 << bit]) + value[place + 1 :]
    for odd in (cut, flipped, value + b"x", b""):
        with pytest.raises((InvalidMessage, NewerFormat)) as error:
            decode(odd)
        assert isinstance(error.value, InvalidMessage) or odd is flipped


@given(st.binary(max_size=60))
def test_any_bytes_are_a_state_or_named(value: bytes) -> None:
    for odd in (value, b"\x01" + value, b"\x011:" + value, b"{" + value):
        with pytest.raises((InvalidMessage, NewerFormat)):
            decode(odd)


def test_the_json_of_releases_before_is_read_and_packed_when_it_is_written_again() -> None:
    state = UserState([Entry("a", "click", -5, 4.5, 3)], [7], 2, 0, 42, 9, (Shown("b", 1, 2, "r"),), exposures=1)
    assert decode(as_json(state)) == state
    assert decode(encode(decode(as_json(state)))) == state
    assert encode(decode(as_json(state)))[:3] == b"\x012:"


def test_a_state_of_a_later_release_is_left_alone_and_told(settings: Settings) -> None:
    theirs = b"\x0212:what nobody knows"
    with pytest.raises(NewerFormat, match=r"format 2.*later release"):
        decode(theirs)
    with storing(settings) as store, server_of(settings) as server:
        server.set(f"{store.prefix}u:ada", theirs)
        reading = store.read_users(["ada", "bob"])
        assert reading.states == {"bob": EMPTY}
        assert list(reading.newer) == ["ada"]
        assert not reading.damaged
