"""`headwater signals` shows what is meant and what is there, and finds what would be learned the wrong way round."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from console.cli import app
from console.look.signal_census import census
from console.look.signal_remarks import Remark, remarks, toml_of
from headwater.client import Client
from headwater.events import Event
from headwater.privacy import FORGET
from headwater.settings import Settings
from headwater.signals import Signal
from headwater.wire import EventRow
from streams.features.decay import Decay
from streams.features.fold import Limits, fold_batch
from streams.features.store import Batch
from tests.worlds.streams import storing

AT_MS = 1_700_000_000_000


def events(*kinds: str | tuple[str, Sequence[float | None]], **fields: Any) -> list[Event]:
    """Events of these types: 30 of each, or one for each of its values."""
    found = []
    item = fields["items"][0] if "items" in fields else "i"
    for one in kinds:
        kind, values = (one, [None] * 30) if isinstance(one, str) else one
        found += [Event(user_id="u", item_id=item, type=kind, value=value, **fields) for value in values]
    return found


def found(stream: list[Event], **given: Signal) -> list[Remark]:
    from headwater.signals import Signals

    return remarks(census(stream, Signals(given)), given)


def only(stream: list[Event], **given: Signal) -> Remark:
    (one,) = found(stream, **given)
    return one


def test_what_is_usual_is_left_alone() -> None:
    shop = events("view", "add_to_cart", "purchase", "remove_from_cart", "search", "dismiss", "some_type_of_ours")
    shop += events("impression", items=("a", "b"))
    assert [(one.type, one.state) for one in found(shop)] == [("some_type_of_ours", "note")]
    assert not found(events(("rating", [3.0, 4.0, 5.0] * 10)))
    assert not found([])


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("product_impression", 'means = "exposure"'),
        ("item.displayed", 'means = "exposure"'),
        ("product_list_viewed", 'means = "exposure"'),
        ("swipe_left", 'means = "negative"'),
        ("video-skipped", 'means = "negative"'),
        ("dont_like", 'means = "negative"'),
        ("do-not-recommend", 'means = "negative"'),
        ("unwatch", 'undoes = ["watch"]'),
        ("remove_from_basket", None),
        ("cancel_purchase", 'undoes = ["purchase"]'),
    ],
)
def test_a_type_that_is_named_otherwise_than_it_means_is_wrong_until_it_is_set(kind: str, write: str | None) -> None:
    stream = events("view", "view", "purchase", "watch", kind)
    one = only(stream)
    assert one.type == kind
    if write is None:
        assert one.state == "note"  # undoes nothing that there is
        return
    assert (one.state, one.write.splitlines()[1]) == ("wrong", write)
    given = {name: Signal(**body) for name, body in tomllib.loads(one.write)["signals"].items()}
    assert not [again for again in found(stream, **given) if again.state == "wrong"]


def test_an_impression_that_the_settings_make_positive_is_wrong() -> None:
    one = only(events("click", "impression"), impression=Signal(means="positive"))
    assert (one.state, one.type) == ("wrong", "impression")


def test_stars_without_thresholds_are_noted_with_thresholds_that_fit_their_scale() -> None:
    five = only(events(("rating", [1.0, 2.0, 3.0, 4.0, 5.0] * 6)))
    assert five.write == '[signals.rating]\npositive = ">= 4"\nnegative = "<= 2"'
    assert "40.0% of its values (1 .. 5) are 2 or less" in five.text
    ten = only(events(("product_rating", [1.0, 5.0, 8.0, 10.0] * 6)), product_rating=Signal())
    assert ten.write == '[signals.product_rating]\npositive = ">= 8"\nnegative = "<= 3"'
    halves = only(events(("stars", [0.5, 2.5, 4.5, 5.0] * 6)), stars=Signal())
    assert halves.write == '[signals.stars]\npositive = ">= 4"\nnegative = "<= 1.5"'
    thumbs = only(events(("vote", [1.0, -1.0] * 10)), vote=Signal())
    assert thumbs.write == '[signals.vote]\npositive = "> 0"\nnegative = "< 0"'


def test_what_nobody_has_given_a_meaning_is_told_in_one_line_and_what_is_done_with_no_item_for_itself() -> None:
    searches, unknown = found(events("view", "look_closer", "zoom", "search_for_poi", FORGET))  # the last is ours
    assert (searches.type, searches.write) == ("search_for_poi", '[signals.search_for_poi]\nmeans = "context"')
    assert unknown.text.startswith("nobody has given a meaning to look_closer (30), zoom (30): each event counts")
    assert toml_of([unknown]) == '[signals.look_closer]\nmeans = "positive"\n\n[signals.zoom]\nmeans = "positive"'


def test_thresholds_and_rewards_that_no_value_meets_are_wrong() -> None:
    rating = Signal(positive=">= 4", negative="<= 2")
    none, nothing = found(events("rating"), rating=rating)
    assert "none of 30 events has one" in none.text
    assert nothing.text == "none of 30 events speaks for its item: nothing is learned"
    shares = found(events("view", "view", ("rating", [0.1, 0.9] * 20)), rating=rating)
    assert [(one.state, one.text.split(":")[0]) for one in shares] == [
        ("wrong", 'no value is positive (">= 4")'),
        ("note", 'every value is negative ("<= 2")'),
    ]
    both = only(events(("rating", [1.0, 3.0, 5.0] * 10)), rating=Signal(positive=">= 3", negative="<= 3"))
    assert "33.3% of its values meet both" in both.text
    some = only(events("view", ("rating", [5.0, 3.0] * 15 + [None] * 10)), rating=Signal(positive=">= 4"))
    assert "25.0% of its events have no value" in some.text
    watch = only(events("view", "watch"), watch=Signal(reward="0.01 * value"))
    assert (watch.state, "none weighs anything" in watch.text) == ("wrong", True)


def test_two_spellings_an_undo_of_nothing_and_lists_on_no_exposure_are_told() -> None:
    assert "add_to_cart 30, addtocart 30" in only(events("add_to_cart", "addtocart")).text
    assert only(events("like", "dis_like"), dis_like=Signal()).type == "dis_like"
    undo = only(events("view", "refund"))
    assert ("of which there is no event" in undo.text, undo.write) == (True, "")
    other = only(events("heart", "unheart"), heart=Signal(), unheart=Signal(undoes=("love",)))
    assert (other.type, other.write) == ("unheart", '[signals.unheart]\nundoes = ["heart"]')
    assert only(events("view", "impression")).text.startswith("its events carry neither a list")
    assert (
        "50% of its are none" in only(events("view", ("shown", [0.0, 1.0] * 15)) + events("shown", request_id="r")).text
    )
    lists = only(events("click", items=("a", "b")))
    assert lists.text.startswith("30 of its events carry a list")
    assert lists.write == '[signals.click]\nmeans = "exposure"'
    few = only(events("click", "click") + events("click", items=("a", "b")))
    assert "one event for each item" in few.text
    assert not few.write  # which would make exposures of all clicks
    assert not found(events("view") + events("impression", request_id="r1"))


def test_a_stream_of_dismissals_and_lists_that_are_told_twice_are_noted() -> None:
    most = only(events("view", ("skip", [None] * 90)))
    assert most.text.startswith("75% of all votes are against their items, most of them skip.")
    served = events("view") + events("served", items=("a",), request_id="r")
    twice = only(served + events("impression", items=("a",)))
    assert twice.write == "[serving]\nexposures = false"
    assert not found(served + events("impression", items=("a",), request_id="r"))


def test_settings_that_no_event_will_meet_are_wrong() -> None:
    shouted = only(events("view", "add_to_cart"), addToCart=Signal())
    assert (shouted.state, shouted.text[-18:]) == ("wrong", " Write add_to_cart")
    known = Signal(means="negative")
    assert not found(events("view", "dismissal"), dismisal=known, dismissal=known)
    near, _ = found(events("view", "swiped_left"), swipe_left=Signal(means="negative"))
    assert "did somebody mean swiped_left?" in near.text


def test_the_settings_that_it_proposes_can_be_read_and_name_each_section_once() -> None:
    stream = events("view", "impressions.v2", "cancel_purchase", "purchase", ("rating", [1.0, 5.0] * 12))
    given = tomllib.loads(toml_of(found(stream)))["signals"]
    assert {name: Signal(**body).meaning(1.0).value for name, body in given.items()} == {
        "impressions.v2": "exposure",
        "cancel_purchase": "context",
        "rating": "negative",
    }


def signals(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["signals", *map(str, words)], catch_exceptions=False)


def test_a_file_is_shown_with_what_is_there_what_is_wrong_and_what_to_write(tmp_path: Path) -> None:
    kinds = ["rating", "ad_impression", "dismiss"] * 40
    rows = [
        {"user_id": "u", "item_id": f"i{n % 7}", "type": kind, "event_time": AT_MS + n * 1000, "value": n % 5 + 1}
        for n, kind in enumerate(kinds)
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = signals(path)
    assert shown.exit_code == 1
    for text in ("ad_impression", "unknown", "33.3%", "wrong", '[signals.ad_impression]\nmeans = "exposure"'):
        assert text in shown.stdout, shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 120
    body = json.loads(signals(path, "--json").stdout)
    assert (body["events"], body["types"]["dismiss"]["events"], body["types"]["dismiss"]["from"]) == (
        120,
        40,
        "default",
    )
    assert body["types"]["rating"]["values"]["p50"] == 3
    assert body["types"]["booking"]["events"] == 0
    assert body["settings"] in shown.stdout


def test_the_newest_events_of_the_topic_are_shown_in_packed_records_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(settings=settings.kafka) as client:
        client.track_many({"user_id": f"u{n}", "item_id": "i", "type": "view"} for n in range(300))
        client.track("u1", "i", "swipe_left")
    monkeypatch.setenv("HEADWATER_KAFKA__BOOTSTRAP", settings.kafka.bootstrap)
    monkeypatch.setenv("HEADWATER_KAFKA__PREFIX", settings.kafka.prefix)
    everything = json.loads(signals("--json").stdout)
    assert (everything["events"], everything["types"]["swipe_left"]["from"]) == (301, "unknown")
    assert [one["type"] for one in everything["remarks"]] == ["swipe_left"]
    assert json.loads(signals("--json", "--newest", "40").stdout)["events"] == 40


def test_an_item_is_told_with_what_the_store_has_counted_of_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"user_id": "u", "item_id": "i", "type": "view", "event_time": AT_MS}) + "\n")
    kinds = ["impression", "like", "dismiss", "like", "unlike", "impression"]
    rows = [EventRow("u", "i", kind, AT_MS + n, None, f"e{n}", None, n, 0) for n, kind in enumerate(kinds)]
    made = fold_batch({}, rows, Limits(), Decay(AT_MS, 1e9))
    with storing(settings) as store:
        assert store.apply(Batch({0: {0: (None, 5)}}, Decay(AT_MS, 1e9), {}, made.states, made.slots)) == "applied"
    monkeypatch.setenv("HEADWATER_REDIS__URL", settings.redis.url.get_secret_value())
    monkeypatch.setenv("HEADWATER_KAFKA__PREFIX", settings.kafka.prefix)
    shown = signals(path, "--counted", "i", "--counted", "never")
    line = "i: 1 positive, 1 negative, 2 exposures (dismiss 1, impression 2, like 1); liked on 50.0% of its occasions"
    assert line in shown.stdout
    assert "never: no event is counted of it" in shown.stdout
    body = json.loads(signals(path, "--counted", "i", "--json").stdout)["items"]["i"]
    assert (body["positive"], body["exposures"], body["positive_rate"]) == (1, 2, 0.5)
