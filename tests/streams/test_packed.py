"""States as bytes: what comes back is what was written, and what nobody wrote is named."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from headwater.errors import InvalidMessage, NewerFormat
from headwater.examples import Entry, Shown, pack_segments, plain_entries, unpack
from headwater.histories import PackedEntries
from headwater.settings import Settings
from headwater.wire import EventRow
from streams import outbox
from streams.features.decay import Decay
from streams.features.fold import Limits, fold, fold_batch
from streams.features.identity import as_one
from streams.features.packed import change, decode, encode
from streams.features.state import EMPTY, UserState
from tests.worlds.streams import server_of, storing

IDS = st.one_of(
    st.sampled_from(["film-1", "film-2", "film-03", "7", "007", "a,b", ",", "", 'é\x00"\\', "\ud800", "x" * 300]),
    st.text(max_size=8),
)
NUMBERS = st.one_of(st.integers(-(10**12), 10**13), st.sampled_from([0, -1, 2**63, -(2**63), 2**64, 10**30]))
VALUES = st.one_of(
    st.none(), st.sampled_from([1.0, 4.5, -0.0, 1e300, 0.1]), st.floats(allow_nan=False, allow_infinity=False)
)
ENTRIES = st.lists(
    st.builds(Entry, IDS, st.sampled_from(["click", "like", ","]), NUMBERS, VALUES, st.none() | NUMBERS), max_size=9
)
SHOWN = st.lists(st.builds(Shown, IDS, NUMBERS, st.integers(0, 10_000), IDS), max_size=6).map(tuple)
HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=5)


@st.composite
def states(draw: st.DrawFn) -> UserState:
    past = {"history": draw(ENTRIES), "undos": tuple(draw(ENTRIES)), "undone": tuple(draw(ENTRIES))}
    more = {"shown": draw(SHOWN), "reacted": draw(SHOWN), "recent": draw(HASHES)}
    counts = {name: draw(NUMBERS) for name in ("partition", "offset", "folded_ms", "exposures")}
    return UserState(count=draw(st.integers(1, 10**20)), **past, **more, **counts)  # type: ignore[arg-type]


def many(n: int) -> UserState:
    history = [Entry(f"film-{i * 7 % 90}", "click", 10**12 + i * 900, float(i % 5), i // 9) for i in range(n)]
    return UserState(history, list(range(n))[-128:], n, 1, 2 * n, 10**12)


def as_json(state: UserState) -> bytes:
    """As releases before wrote it."""
    body: dict[str, Any] = {name: getattr(state, name) for name in ("count", "partition", "offset", "folded_ms")}
    body |= {"recent": state.recent, "history": plain_entries(state.history), "shown": list(map(tuple, state.shown))}
    body |= {"undos": plain_entries(state.undos), "exposures": state.exposures}
    return orjson.dumps(body)


@examples(max_examples=40)
@given(states())
def test_what_is_written_comes_back(state: UserState) -> None:
    found = decode(encode(state))
    assert found == state
    assert repr(found) == repr(state)  # -0.0 is 0.0, and not the same
    assert found.stored == state.stored


@examples(max_examples=40)
@given(ENTRIES.filter(bool), ENTRIES)
def test_what_is_packed_grows_to_the_same_bytes_as_if_it_were_packed_at_once(
    past: list[Entry], came: list[Entry]
) -> None:
    at_once = PackedEntries.of([*past, *came])
    read = PackedEntries(PackedEntries.of(past).data, len(past), past[-1].time_ms)
    for packed in (PackedEntries.of(past), read, PackedEntries.held(read.columns)):
        grown = packed.grown(came)
        assert grown.plain() == plain_entries(grown.entries) == plain_entries([*past, *came])
        assert (grown.data, grown.size, grown.newest_ms) == (at_once.data, at_once.size, at_once.newest_ms)


def test_long_histories_come_back_and_are_small() -> None:
    for n in (0, 1, 200, 1000):
        value = encode(many(n))
        assert decode(value) == many(n)
        assert len(value) < 200 + 14 * n
    assert decode(None) is EMPTY
    assert type(as_one([decode(encode(replace(many(200))))], Limits()).history) is list


@examples(max_examples=40)
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


@pytest.mark.parametrize("as_theirs", [lambda body: dict(reversed(body.items())), lambda body: {**body, "count": "2"}])
def test_json_of_which_the_stores_script_finds_no_version_is_no_state(as_theirs: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidMessage):
        decode(orjson.dumps(as_theirs(orjson.loads(as_json(UserState(count=2))))))


def test_a_state_of_a_later_release_is_left_alone_and_told(settings: Settings) -> None:
    theirs = b"\x0312:what nobody knows"
    with pytest.raises(NewerFormat, match=r"format 3.*later release"):
        decode(theirs)
    with storing(settings) as store, server_of(settings) as server:
        server.set(f"{store.prefix}u:ada", theirs)
        reading = store.read_users(["ada", "bob"])
        assert reading.states == {"bob": EMPTY}
        assert list(reading.newer) == ["ada"]
        assert not reading.damaged


KNOWN = many(150)
NEWEST = KNOWN.history[-1].time_ms
LIMITS = Limits(history=155, dedupe=128, shown=6)


@st.composite
def goings_on(draw: st.DrawFn) -> list[EventRow]:
    """What comes after a long past, some of it late, undone or twice."""
    rows = []
    for n in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["click", "click", "like", "impression", "impression", "unlike"]))
        items = tuple(draw(st.lists(st.sampled_from(["a", "b", "c", "film-7"]), min_size=1, max_size=3, unique=True)))
        late = draw(st.sampled_from([0, 0, 0, 0, 0, 3, 10**9]))
        rows.append(
            EventRow(
                "ada", items[0], kind, NEWEST + 2 * n - late, draw(VALUES), f"e{n}",
                draw(st.sampled_from(["r1", "r2"])), n, 0, None, items if kind == "impression" else (),
            )
        )  # fmt: skip
    return rows


@examples(max_examples=40)
@given(goings_on(), st.lists(st.integers(0, 12), max_size=6), st.booleans())
def test_a_base_and_the_tail_that_was_added_are_the_state(rows: list[EventRow], cuts: list[int], hot: bool) -> None:
    state = replace(KNOWN)
    base, tail, plain = encode(state), b"", replace(KNOWN)
    ends = sorted({*(cut for cut in cuts if 0 < cut < len(rows)), len(rows)})
    for begin, end in zip([0, *ends], ends, strict=False):
        before = state if hot else decode(base, tail)
        made = fold_batch({"ada": before}, rows[begin:end], LIMITS, Decay(0, 1e9))
        expected = fold_batch({"ada": plain}, rows[begin:end], LIMITS, Decay(0, 1e9))
        plain = expected.states.get("ada", plain)
        assert list(unpack(pack_segments(0, made.segments))) == list(unpack(pack_segments(0, expected.segments)))
        state = made.states.get("ada", before)
        if state is not before:
            record = change(before, state)
            base, tail = (encode(state), b"") if record is None else (base, tail + record)
        found = decode(base, tail)
        assert found == state == plain
        assert found.stored == state.stored
        assert version(base, tail) == state.count


def version(base: bytes, tail: bytes) -> int:
    """As the store's script finds it."""
    found = re.search(rb":(\d+)$", tail[-32:]) if tail else re.match(rb"[\x01-\x1f](\d+):", base[:32])
    assert found is not None
    return int(found[1])


def in_order(n: int, begin: int = NEWEST) -> list[EventRow]:
    return [EventRow("ada", f"new-{i}", "click", begin + i, None, f"e{i}", None, i, 0) for i in range(n)]


def test_a_write_costs_what_changed_and_a_base_is_written_anew_now_and_then() -> None:
    state, tails, bases = replace(many(1000)), 0, 1
    size = len(encode(state))
    for row in in_order(200, 10**13):
        before, state = state, fold(state, row, Limits())
        record = change(before, state)
        if record is None:
            bases += 1
            encode(state)
        else:
            tails += 1
            assert len(record) < 120
    assert len(state.history) == 1000
    assert 3 < bases < 40
    assert tails > 160
    assert size < 4000


@examples(max_examples=40)
@given(st.data())
def test_a_tail_that_is_cut_off_or_changed_is_named(data: st.DataObject) -> None:
    state = replace(KNOWN)
    base, tail = encode(state), b""
    for row in in_order(3):
        before, state = state, fold(state, row, LIMITS)
        tail += change(before, state) or b""
    place, bit = data.draw(st.integers(0, len(tail) - 1)), data.draw(st.integers(0, 7))
    flipped = tail[:place] + bytes([tail[place] ^ 1 << bit]) + tail[place + 1 :]
    second = tail[len(tail) // 3 :]
    for odd in (tail[:-1], flipped, tail + b"x", second, tail + tail):
        with pytest.raises(InvalidMessage):
            decode(base, odd)
    with pytest.raises(InvalidMessage):
        decode(None, tail)


def test_a_long_history_is_sent_as_it_is_stored() -> None:
    base = encode(replace(many(300)))
    made = fold_batch({"ada": decode(base)}, in_order(2, 10**13), Limits(), Decay(0, 1e9))
    plain = fold_batch({"ada": many(300)}, in_order(2, 10**13), Limits(), Decay(0, 1e9))
    sent, as_before = pack_segments(0, made.segments, 1000), pack_segments(0, plain.segments, 1000)
    assert list(unpack(sent)) == list(unpack(as_before))
    assert len(sent) * 3 < len(as_before)
    assert orjson.loads(as_before)["format"] == 1
    halves = [made.segments[0].part(0, 1), made.segments[0].part(1, 2)]
    assert list(unpack(pack_segments(0, halves, 1000))) == list(unpack(as_before))


ODD = [
    b"[]",
    b"",
    b"x\x9c",
    b"{}",
    b'["a",0,"click",0,[-5],0,0]',
    b'["a",0,"click",0,[5],[true],0]',
    b'["a",0,"",0,[5],0,0]',
]
ODD += [b'["a",0,"click",0,[5],0,[-1]]', zlib.compress(b'["a",0,"click",0,[5],0,0]')[:-3]]
ODD += [zlib.compress(b'["a",0,"click",0,[5' + b",0" * n + b"],0,0]") for n in (30_000, 3_000_000)]
PAST = {"packed": [b64encode(b'["a",0,"click",0,[5],0,0]').decode()], "skipped": 0, "newer": []}


@pytest.mark.parametrize(
    "past",
    [
        *({**PAST, "packed": [b64encode(one).decode()]} for one in ODD),
        {**PAST, "packed": ["!"]},
        {**PAST, "skipped": 2},
    ],
)
def test_a_packed_history_that_nobody_packed_is_refused(past: dict[str, Any]) -> None:
    segment: dict[str, Any] = {
        "user": "ada",
        "history": PAST | past,
        "targets": [["b", "click", 9, None]],
        "at": [[0, 0]],
    }
    record: dict[str, Any] = {"format": 2, "partition": 0, "limit": 9, "segments": [segment]}
    with pytest.raises(InvalidMessage) as error:
        list(unpack(orjson.dumps(record)))
    assert error.value.reason == "schema"
    record["segments"] = [segment | {"history": PAST}]
    assert len(list(unpack(orjson.dumps(record)))) == 1


@pytest.mark.parametrize("place", [4, 6])
def test_texts_in_the_place_of_times_are_refused_before_they_are_joined_into_gigabytes(place: int) -> None:
    columns: list[Any] = ["a", 0, "click", 0, [5] * 1000, 0, [7] * 1000]
    columns[place] = ["x" * 400] * 1000
    history = {**PAST, "packed": [b64encode(zlib.compress(orjson.dumps(columns))).decode()]}
    segment = {"user": "ada", "history": history, "targets": [["b", "click", 9, None]], "at": [[0, 0]]}
    value = orjson.dumps({"format": 2, "partition": 0, "limit": 9, "segments": [segment]})
    tracemalloc.start()
    try:
        with pytest.raises(InvalidMessage) as error:
            list(unpack(value))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.value.reason == "schema"
    assert most < 20 << 20


def test_a_record_whose_small_pieces_would_take_gigabytes_together_is_refused_whether_they_are_known_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headwater.examples.MOST_OF_RECORD", 1 << 20)
    columns: list[Any] = [[f"{n:0200}" for n in range(500)], 0, "click", 0, [5] * 500, 0, 0]  # 150 KB of 2
    history = {**PAST, "packed": [b64encode(zlib.compress(orjson.dumps(columns))).decode()]}
    segment = {"user": "ada", "history": history, "targets": [["b", "click", 9, None]], "at": [[0, 0]]}
    record: dict[str, Any] = {"format": 2, "partition": 0, "limit": 9, "segments": [segment] * 6}
    assert len(list(unpack(orjson.dumps(record)))) == 6
    with pytest.raises(InvalidMessage, match="take more than 1 MB"):
        list(unpack(orjson.dumps({**record, "segments": [segment] * 8})))


def test_examples_that_need_several_records_are_cut_and_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 30_000
    monkeypatch.setattr(outbox, "MAX_RECORD_BYTES", most)
    known = {f"user-{n}": replace(KNOWN) for n in range(150)}
    for state in known.values():
        encode(state)
    users = [*known, *known]
    rows = [one._replace(user_id=user, offset=n) for n, user in enumerate(users) for one in in_order(1)]
    rows = [one._replace(event_id=f"e{n}", time_ms=NEWEST + n) for n, one in enumerate(rows)]
    segments = fold_batch(known, rows, Limits(), Decay(0, 1e9)).segments
    whole = list(unpack(pack_segments(0, segments, 1000, 100)))
    records = list(outbox.packed(0, segments, Limits()))
    assert 2 < len(records) < 4 * sum(map(len, records)) / most
    assert all(len(one) <= most for one in records)
    assert [example for one in records for example in unpack(one)] == whole


@pytest.mark.parametrize("limit", [1, 10, 25, 26, 90, 140, 150])
def test_a_limit_that_was_lowered_holds_for_what_is_packed(limit: int) -> None:
    limits = Limits(history=limit, dedupe=4)
    base, plain = encode(replace(KNOWN)), replace(KNOWN)
    state, tail = decode(base), b""
    for row in in_order(5):
        before, state, plain = state, fold(state, row, limits), fold(plain, row, limits)
        record = change(before, state)
        base, tail = (encode(state), b"") if record is None else (base, tail + record)
        assert decode(base, tail) == state == plain
        assert len(state.history) == limit
