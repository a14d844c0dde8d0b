"""Two backtests compared: what may be compared, what differs, and files that are no results."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from headwater.errors import SourceError
from replay.backtest import Result, read_result
from replay.report import Comparison, render
from replay.report import compare as compare_results
from replay.report import write_comparison as write_page
from tests.worlds.report_reading import Strict, result


def compare(a: dict[str, Any], b: dict[str, Any]) -> Comparison:
    return compare_results(Result.read(a), Result.read(b))


def write_comparison(a: dict[str, Any], b: dict[str, Any], path: Path) -> None:
    write_page(Result.read(a), Result.read(b), path)


def told(a: dict[str, Any], b: dict[str, Any]) -> str:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as caught:
        console.print(render(compare(a, b)))
    return caught.get()


def test_two_runs_of_the_same_queries_are_compared_by_their_seeds(tmp_path: Path) -> None:
    a, b = result(), result(headwater=0.126)
    b["settings"]["config"]["width"], b["digest"] = 96, "fedcba9876543210"
    found = compare(a, b)
    assert found.comparable
    assert found.reasons == []
    assert found.same_weights is False
    assert found.settings == {"config.width": ("64", "96")}
    assert found.results["headwater"]["ndcg@10"] == (0.12, 0.126, 0.006)
    assert found.verdict == (
        "B ranks 5.0% better (NDCG@10 0.1200 in A, 0.1260 in B), and each of its seeds is above each seed of the other."
    )
    assert compare(b, a).verdict.startswith("A ranks 5.0% better")
    text = told(a, b)
    assert text.index("B ranks 5.0% better") < text.index("config.width") < text.index("Learner, events/s")
    write_comparison(a, b, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text("utf-8")
    assert "B ranks 5.0% better" in Strict(page).text
    assert not re.search(r"https?:|@import|url\(", page)


def test_runs_whose_seeds_overlap_cannot_be_told_apart() -> None:
    assert compare(result(), result(headwater=0.1205)).verdict.startswith("The two runs cannot be told apart")
    single = result(headwater=0.126)
    single["by_seed"]["headwater"]["ndcg@10"] = [0.126]
    assert "only one seed" in compare(result(), single).verdict
    same = compare(result(), result())
    assert same.same_weights
    assert same.verdict.startswith("Headwater ranks alike in both, with the same weights")


@pytest.mark.parametrize("change", [{"warm_up": 1500}, {"queries": 1799}, {"events": 2999}, {"excluded": {"seen": 1}},
                                    {"source": {"name": "other.csv"}}])  # fmt: skip
def test_runs_of_other_queries_are_not_compared_and_it_says_so_first(change: dict[str, Any], tmp_path: Path) -> None:
    a, b = result(), result(headwater=0.5) | change
    found = compare(a, b)
    assert not found.comparable
    assert found.reasons
    assert told(a, b).startswith("The two runs cannot be compared")
    write_comparison(a, b, tmp_path / "both.html")
    text = Strict((tmp_path / "both.html").read_text("utf-8")).text
    assert text.index("Not comparable") < text.index("NDCG@10")


def test_another_stream_behind_the_same_numbers_is_noticed() -> None:
    b = result()
    b["curve"][0]["time"] += 1
    assert compare(result(), b).reasons == [
        "other events behind the same numbers: types, groups or times of windows differ"
    ]
    finer = result()
    finer["curve"].insert(0, finer["curve"][0] | {"events": 1500, "time": 1})
    assert compare(result(), finer).comparable


def test_a_file_that_is_no_result_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(result()))
    assert read_result(path) == Result.read(result())
    assert read_result(path).as_json() == result()
    for content, says in (
        ("{", "is no JSON"),
        ("[1]", "no result of a backtest"),
        ('{"events": 3}', "no result of a backtest"),
        ('{"format": 2, "versions": {"headwater": "9.9"}}', r"format 2, this version reads 1.*9\.9"),
        ('{"format": 1, "source": {}, "settings": {}, "events": 1, "warm_up": "x"}', "results, warm_up, queries"),
    ):
        path.write_text(content)
        with pytest.raises(SourceError, match=says):
            read_result(path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [{"results": {"headwater": 3}}, {"curve": [{"events": [1], "time": 1}]}, {"by_seed": 3, "differences": None}],
)
def test_a_result_that_somebody_changed_by_hand_is_still_compared(change: dict[str, Any], tmp_path: Path) -> None:
    for a, b in ((result() | change, result()), (result(), result() | change)):
        assert told(a, b)
        write_comparison(a, b, tmp_path / "both.html")


def test_runs_under_other_meanings_are_told_as_such(tmp_path: Path) -> None:
    a, b = result(), result()
    b["meanings"]["rating"]["signal"] = {"means": "positive"}
    b["meanings"]["poke"]["signal"] = {"means": "positive", "weight": 5.0}  # the same queries: only a setting differs
    b["meanings"]["new"] = {"events": {"positive": 1}, "signal": {"means": "positive"}}
    found = compare(a, b)
    pair = ("positive >= 4, negative <= 2, else context", "positive")
    assert found.meanings == {"rating": pair}
    assert found.reasons == [
        f"other meanings, so other events were asked about: rating is {pair[0]} in A and {pair[1]} in B"
    ]
    assert "Types of event that meant something else" in told(a, b)
    write_comparison(a, b, tmp_path / "both.html")
    assert pair[0] in Strict((tmp_path / "both.html").read_text("utf-8")).text
    assert not compare(result(), result()).meanings


def test_figures_of_what_was_shown_and_turned_down_are_compared(tmp_path: Path) -> None:
    a, b = result(), result()
    b["classification"]["scorers"]["headwater"]["auc"]["value"] = 0.8
    b["negatives"]["by_ranker"]["headwater"]["in_top_10"] = 0.1
    found = compare(a, b)
    assert found.shown["headwater"]["auc"] == (0.78, 0.8, 0.02)
    assert found.shown["shown order"].keys() == {"auc", "by_user", "mrr", "f1"}  # no chances, so no log loss
    assert found.turned_down["headwater"] == (0.125, 0.1, -0.025)
    assert "Of what was shown: Log loss (less is better)" in told(a, b)
    write_comparison(a, b, tmp_path / "both.html")
    assert "Turned down next, among the first ten" in Strict((tmp_path / "both.html").read_text("utf-8")).text
    del b["classification"], b["negatives"]
    assert (compare(a, b).shown, compare(a, b).turned_down) == ({}, {})


def test_the_digest_of_the_stream_decides_where_both_have_one() -> None:
    a, b = result(), result()
    a["source"] |= {"digest": "01", "name": "a.csv"}
    b["source"] |= {"digest": "01", "name": "b.csv"}
    assert compare(a, b).comparable
    b["source"] |= {"digest": "02", "name": "a.csv"}
    assert compare(a, b).reasons == ["other source: other events, or in another order"]


def test_two_runs_that_knew_other_items_say_so() -> None:
    a, b = result(), result()
    a["settings"]["catalogue"], b["settings"]["catalogue"] = 0, 40
    assert compare(a, b).settings == {"catalogue": ("0", "40")}
