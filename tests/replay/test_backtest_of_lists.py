"""Backtests of streams that tell what was shown, and of what is taken back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headwater.events import Event
from models.quality import Judged
from replay import SourceReport
from replay.backtest import Options, Result, backtest
from replay.backtest.classified import classified
from replay.backtest.shown_ledger import ShownLedger
from replay.report import write_report
from tests.worlds.report_reading import Strict
from tests.worlds.tastes import START_MS

SMALL = {"width": 8, "block": 8, "replay_windows": 2, "replay_targets": 16, "initial_capacity": 32}


class ToldSource:
    """Events as they are given."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.report = SourceReport("told")
        self._events = events

    def events(self) -> Iterator[Event]:
        yield from self._events


def measured(events: Sequence[Event], **given: Any) -> Result:
    return backtest(ToldSource(events), Options(**{"warm_up": 0.5, "exclude_seen": (), "overrides": SMALL} | given))


def lists_of_tastes(rounds: int) -> list[Event]:
    """Everybody is shown two items of each kind, in any order, and clicks one of the own kind most of the time."""
    choose = random.Random(0)
    events = []
    for turn in range(rounds):
        user = turn % 24
        own, other = ("a", "b") if user % 2 else ("b", "a")
        shown = [f"{kind}{number}" for kind in (own, other) for number in choose.sample(range(6), 2)]
        chosen, name, at = shown[0], f"list-{turn}", START_MS + 3_600_000 * turn
        choose.shuffle(shown)
        told = {"user_id": f"u{user}", "request_id": name}
        events.append(Event(**told, type="impression", items=tuple(shown), event_time=at))
        if choose.random() < 0.8:
            events.append(Event(**told, type="click", item_id=chosen, event_time=at + 1000))
    return events


def test_what_was_shown_is_judged_beside_its_order_and_the_items_own_rate(tmp_path: Path) -> None:
    events = lists_of_tastes(300)
    result = measured(events, frozen=False)
    assert (result.events, result.warm_up) == (len(events), len(events) // 2)
    clicks = sum(event.type == "click" for event in events[result.warm_up :])
    assert result.events == result.warm_up + result.queries + sum(result.excluded.values())
    assert result.excluded["shown"] == result.events - result.warm_up - clicks
    assert result.meanings["impression"].events == {"exposure": 300}
    assert result.meanings["impression"].items == 1200
    told = result.classification
    assert told is not None
    assert (told.lists, told.items, told.reacted) == (result.excluded["shown"], 4 * result.excluded["shown"], clicks)
    assert list(told.scorers) == ["headwater", "ranking", "ranking without ranker", "item rate", "shown order"]
    ours, order = told.scorers["headwater"], told.scorers["shown order"]
    assert ours.auc is not None
    assert ours.auc.value > 0.65
    assert order.auc is not None
    assert order.auc.value < 0.6
    assert order.auc_lead is not None
    assert order.auc_lead.says == "better"
    assert order.at_threshold is not None
    assert order.at_threshold.threshold < 0  # so many of each list
    write_report(result, tmp_path / "page.html")
    page = " ".join(Strict((tmp_path / "page.html").read_text("utf-8")).text.split())
    assert f"{told.items:,} items in {told.lists} lists were shown to 24 users" in page
    assert "Headwater's chances tell what was reacted to from the rest with a ROC-AUC of 0." in page
    assert f"first {-order.at_threshold.threshold:.0f}" in page


def test_what_is_taken_back_was_a_query_and_every_event_is_accounted_for() -> None:
    events = [
        Event(user_id=f"u{n % 6}", item_id=f"i{n % 7}", type="like", event_time=START_MS + n * 1000) for n in range(60)
    ]
    end = START_MS + 60_000
    events += [
        Event(user_id="u0", item_id="i3", type="like", event_time=end),
        Event(user_id="u0", item_id="i3", type="unlike", event_time=end + 1),
        Event(user_id="u1", item_id="never", type="unlike", event_time=end + 2),
        Event(user_id="u1", item_id="i1", items=("i1", "i2"), type="like", event_time=end + 3),
        Event(user_id="u2", item_id="i3", type="like", event_time=end + 4),
    ]
    events.append(Event(user_id="u3", items=("i1", "i2"), type="impression", event_time=end + 5))
    others = {"publish_every": (20,), "hourly": True, "retrained": True, "ablation": True, "peers": ("popularity",)}
    result = measured(events, **others)
    assert result.source.without_example == {"misplaced_list": 1, "undo_of_nothing": 1}
    assert result.events == 60 + 4
    assert (result.excluded["undone"], result.excluded["shown"]) == (1, 1)
    assert result.events == result.warm_up + result.queries + sum(result.excluded.values())
    assert result.queries == 30  # both of the likes at the end, too
    assert result.meanings["unlike"].signal["undoes"] == ["like", "love"]


def test_what_was_shown_is_judged_where_nothing_can_be_asked(tmp_path: Path) -> None:
    events = []
    for n in range(80):  # everybody comes once
        told, at = {"user_id": f"u{n}"}, START_MS + n * 1000
        events.append(Event(**told, type="impression", items=("a", "b"), event_time=at))
        events.append(Event(**told, type="click", item_id="a" if n % 4 else "b", event_time=at + 1))
    result = measured(events, peers=("popularity",), folds=2)
    assert (result.queries, result.results) == (0, {})
    assert result.classification is not None
    assert result.classification.reacted == 40
    write_report(result, tmp_path / "page.html")
    page = Strict((tmp_path / "page.html").read_text("utf-8")).text
    assert "Headwater was not measured: no event of this stream could be asked about." in page
    assert "nan" not in page


def test_a_reaction_that_came_late_corrects_what_was_said_of_its_item() -> None:
    ledger = ShownLedger()
    first = Judged("list", "ann", "film", 1000, 2, 0.3, 0.1, 1, reacted=False)
    for one in (
        first,
        first._replace(item_id="song", place=0, rank=2),
        first._replace(list_id="other", time_ms=500),
        first._replace(reacted=True, corrected=True),
        first._replace(user_id="bob", reacted=True),  # lists of two people may have one name
    ):
        ledger.take(one)
    found = ledger.items()
    assert found.time_ms.tolist() == [500, 1000, 1000, 1000]
    assert found.reacted.tolist() == [False, True, False, True]
    assert found.scores["shown order"].tolist() == [-2.0, -2.0, -3.0, -2.0]  # where none is known, it is behind
    assert len(ledger) == 4
    told = classified(found, begin_ms=0)
    assert told is not None
    unplaced, single = ShownLedger(), ShownLedger()
    for place in (1, 2):
        unplaced.take(first._replace(item_id=f"i{place}", rank=place, place=0))
        single.take(first._replace(list_id=f"list {place}", place=place))
    assert list(unplaced.items().scores) == ["headwater", "ranking", "item rate"]
    assert list(single.items().scores) == ["headwater", "item rate", "shown order"]


def test_each_type_of_reaction_has_figures_of_its_own(tmp_path: Path) -> None:
    events = []
    for event in lists_of_tastes(240):
        events.append(event)
        if event.type == "click" and event.event_time // 3_600_000 % 3 == 0:
            events.append(event.model_copy(update={"event_id": f"b{len(events)}", "type": "purchase"}))
    result = measured(events, frozen=False)
    assert result.classification is not None
    told = result.classification.by_type
    assert sorted(told) == ["click", "purchase"]
    assert told["click"].reacted == result.classification.reacted > told["purchase"].reacted > 0
    assert all(one.auc is not None and one.log_loss is not None and one.mrr is not None for one in told.values())
    write_report(result, tmp_path / "report.html")
    assert "Each type of reaction" in (tmp_path / "report.html").read_text()
    assert Result.model_validate_json(result.model_dump_json(by_alias=True)) == result
    clicks = measured(lists_of_tastes(60), frozen=False).classification
    assert clicks is not None
    assert not clicks.by_type
