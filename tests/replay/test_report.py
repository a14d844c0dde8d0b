"""The backtest's report: what a person is told follows from the numbers, whatever they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from replay.backtest import Result
from replay.backtest.result import REQUIRED
from replay.report import write_comparison, write_report
from replay.report.verdict import Verdict, verdict
from replay.report.wording import printable
from tests.worlds.report_reading import SCORES, Strict, result

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e&\"'\x07"


def written(found: dict[str, Any], folder: Path) -> tuple[str, Strict]:
    path = folder / "report.html"
    write_report(Result.read(found), path)
    page = path.read_text("utf-8")
    return page, Strict(page)


def told(found: dict[str, Any]) -> Verdict:
    return verdict(Result.read(found))


def test_the_page_is_whole_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    page, read = written(result(), tmp_path)
    assert page.startswith("<!doctype html>")
    assert read.links == []
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    assert "default-src 'none'" in page
    heads = [text.strip() for text in re.findall(r"<h2[^>]*>([^<]*)", page)]
    assert heads == [
        "What was measured",
        "Results",
        "NDCG@10 over time",
        "Accuracy against the age of the weights",
        "By type of event",
        "What was turned down",
        "What was shown, and what was reacted to",
        "What the model goes by",
        "Cold against warm",
        "Coverage and novelty",
        "Folds over time",
        "Seeds",
        "Speed and memory",
        "Settings and versions",
    ]
    assert page.count("<svg") == 2 * 13  # each chart for a desk and for a phone
    assert page.count('role="img"') == page.count("<desc") == page.count("<svg")


def test_the_numbers_are_on_the_page(tmp_path: Path) -> None:
    _, read = written(result(), tmp_path)
    numbers = ("0.1200", "0.1000", "3,000", "1,800", "3,010", "10 no_user", "10%", "1,500 events/s", "512 MB", "8.12")
    for number in (*numbers, "+0.0160 to +0.0240", "99.2%", "24.0 of 100", "2017-07-14", "0.1190 to 0.1210", "1.2.3"):
        assert number in read.text, number


def test_the_page_tells_meanings_classification_and_folds(tmp_path: Path) -> None:
    _, read = written(result(), tmp_path)
    meant = (
        "positive >= 4, negative <= 2, else context",
        "77% positive, 15% negative, 7.7% context",
        "1,500 items shown",
    )
    turned_down = ("80 events spoke against an item", "80 rating", "▲ −0.1250", "0.7100")
    shown = ("1,500 items in 300 lists were shown to 80 users", "0.7800", "▲ +0.1100", "1,340", "Item's own rate")
    folds = ("in 2 equal spans", "± 0.0007, 0.1195 to 0.1205", "with everything before it learned")
    for words in (*meant, "positive, weight 3 (nobody named it)", *turned_down, *shown, *folds):
        assert words in " ".join(read.text.split()), words


def test_the_same_result_makes_the_same_bytes(tmp_path: Path) -> None:
    first, _ = written(result(), tmp_path)
    again, _ = written(json.loads(json.dumps(result())), tmp_path)
    assert first == again


def test_names_of_the_data_are_only_ever_text(tmp_path: Path) -> None:
    found = result()
    found["source"] |= {"name": HOSTILE, "bad": {HOSTILE: 2}, "first_bad": [HOSTILE], "time_unit": HOSTILE}
    found["by_type"][HOSTILE] = found["by_type"]["view"]
    found["groups"][HOSTILE] = found["groups"]["new_users"]
    found["excluded"][HOSTILE] = 3
    found["settings"][HOSTILE] = {HOSTILE: HOSTILE}
    found["versions"]["machine"] = found["digest"] = HOSTILE
    for part in (found["results"], found["differences"], found["by_seed"]):
        part[HOSTILE] = part["popularity"]
    for row in found["curve"]:
        row["ndcg@10"][HOSTILE] = 0.5
    found["meanings"][HOSTILE] = {"events": {HOSTILE: 1}, "signal": {"means": HOSTILE, "undoes": [HOSTILE]}}
    found["negatives"]["by_type"][HOSTILE] = 1
    found["classification"]["scorers"][HOSTILE] = found["classification"]["scorers"]["shown order"]
    found["classification"]["chosen_on"] = HOSTILE
    found["fold_spread"][HOSTILE] = found["fold_spread"]["headwater"]
    page, read = written(found, tmp_path)
    assert "img" not in read.tags
    assert read.tags.count("script") == 1
    assert not {"\u202e", "\x07"} & set(page)
    assert read.text.count("<img src=x onerror=alert(1)>") > 10
    write_comparison(Result.read(found), Result.read(result()), tmp_path / "both.html")
    assert "img" not in Strict((tmp_path / "both.html").read_text("utf-8")).tags


def test_a_file_whose_name_is_no_text_has_a_page_and_json(tmp_path: Path) -> None:
    found = result()
    found["source"]["name"] = "shop-\udcff.csv"
    page, _ = written(found, tmp_path)
    assert "shop-?.csv" in page
    assert b"shop-?.csv" in orjson.dumps(Result.read(found).as_json())
    assert printable("a\ud800b") == "a\ufffdb"


BETTER = (
    "Headwater ranks the next item 20% better than the best peer, item-item (NDCG@10 0.1200 against 0.1000), and the "
    "95% interval of the difference, +0.0160 to +0.0240, excludes zero."
)
LEVEL = (
    "Headwater cannot be told from the best peer, item-item: NDCG@10 0.1200 against 0.1190, and the 95% interval of "
    "the difference, −0.0030 to +0.0050, contains zero."
)
WORSE = (
    "Headwater does not beat the best peer: item-item ranks the next item 25% better (NDCG@10 0.1200 against 0.1500), "
    "and the 95% interval of the difference, −0.0340 to −0.0260, excludes zero."
)


@pytest.mark.parametrize(
    ("theirs", "outcome", "says"), [(0.1, "better", BETTER), (0.119, "level", LEVEL), (0.15, "worse", WORSE)]
)
def test_the_verdict_says_what_the_interval_says(theirs: float, outcome: str, says: str, tmp_path: Path) -> None:
    found = result(item_item=theirs)
    says_so = told(found)
    assert (says_so.outcome, says_so.against_peers) == (outcome, says)
    assert says in written(found, tmp_path)[1].text


def test_the_verdict_names_what_learning_online_is_worth() -> None:
    assert told(result()).online == (
        "Learning online is worth 33% over the same model frozen at the end of the warm-up (NDCG@10 0.1200 against "
        "0.0900), and the 95% interval of the difference, +0.0260 to +0.0340, excludes zero."
    )
    assert told(result(frozen=0.15)).online.startswith("Learning online loses 20% against the same model frozen")
    assert told(result(frozen=0.121)).online.startswith("Learning online cannot be told from the same model frozen")
    assert "was not measured" in told(result(frozen=None)).online


def test_a_verdict_without_peers_or_intervals_claims_nothing() -> None:
    alone = told(result(item_item=None, popularity=None, popularity_1d=None))
    assert (alone.outcome, alone.against_peers) == (
        "unmeasured",
        "No peer was run, so NDCG@10 0.1200 of Headwater has nothing to be compared with.",
    )
    bare = result()
    bare["differences"] = {}
    assert told(bare).outcome == "unmeasured"
    assert "it may be chance" in told(bare).against_peers


def test_the_head_warns_of_what_the_verdict_leaves_out() -> None:
    assert told(result()).concerns == ()
    found = result()
    found |= {"queries": 120, "excluded": {"new_item": 80, "shown": 900}, "by_seed": {"headwater": {"ndcg@10": [0.12]}}}
    found["source"]["bad"] = {"no_user": 310}
    found["groups"]["new_users"]["ndcg@10"] = {"headwater": 0.05, "popularity": 0.11}
    found["differences"]["item-item"]["hr@10"] = [-0.01, 0.001, 0.01]
    concerns = " ".join(told(found).concerns)
    plain = ("Only 120 queries", "40% of events", "10% of the source's rows were refused", "One seed")
    elsewhere = ("By HR@10 Headwater cannot be told from item-item", "for new users (0.0500, popularity 0.1100)")
    for words in (*plain, *elsewhere):
        assert words in concerns, words


def test_a_part_that_does_as_well_as_the_whole_is_named() -> None:
    assert any(
        concern.startswith("Memory alone cannot be told from") for concern in told(result(memory=0.1195)).concerns
    )
    assert not told(result(memory=0.1)).concerns
    assert any("ranks better than the whole here: memory alone" in one for one in told(result(memory=0.13)).concerns)


def test_seeds_that_disagree_are_named() -> None:
    found = result()
    found["by_seed"]["headwater"]["ndcg@10"] = [0.12, 0.09]
    assert told(found).concerns == ("Seeds disagree: Headwater has 0.0900 to 0.1200, item-item 0.1000.",)


def blanked(tree: Any) -> Any:
    """Every number of a result null."""
    if isinstance(tree, dict):
        return {key: blanked(each) for key, each in tree.items()}
    if isinstance(tree, list):
        return [blanked(each) for each in tree]
    return tree if isinstance(tree, str) else None


@pytest.mark.parametrize("key", sorted(result().keys() - set(REQUIRED)))
def test_a_part_that_is_missing_null_or_empty_leaves_a_page(key: str, tmp_path: Path) -> None:
    whole = result()
    written({name: each for name, each in whole.items() if name != key}, tmp_path)
    written(whole | {key: None}, tmp_path)
    written(whole | {key: blanked(whole[key])}, tmp_path)
    written(whole | {key: type(whole[key])()}, tmp_path)


@pytest.mark.parametrize("key", REQUIRED)
def test_without_what_makes_it_a_result_there_is_none_but_its_parts_may_be_empty(key: str, tmp_path: Path) -> None:
    whole = result()
    for wrong in ({name: each for name, each in whole.items() if name != key}, whole | {key: None}):
        with pytest.raises(ValidationError, match=key):
            Result.read(wrong)
    written(whole | {key: type(whole[key])()}, tmp_path)
    if isinstance(whole[key], dict):
        written(whole | {key: blanked(whole[key])}, tmp_path)


def test_a_result_of_nothing_but_nulls_leaves_a_page(tmp_path: Path) -> None:
    needed = {"source": {}, "settings": {}, "results": {}, "events": 0, "warm_up": 0, "queries": 0}
    for found in (blanked(result()) | dict.fromkeys(("events", "warm_up", "queries"), 0), needed):
        _, read = written(found, tmp_path)
        assert "Headwater was not measured" in read.text
        assert "None" not in read.text
        assert "nan" not in read.text


def test_one_window_one_type_and_equal_scores_leave_a_page(tmp_path: Path) -> None:
    found = result(**dict.fromkeys(("frozen", "popularity"), 0.12))
    found["curve"] = found["curve"][:1]
    found["by_type"] = {"view": found["by_type"]["view"]}
    found["groups"]["new_items"] = {"queries": 0, "ndcg@10": dict.fromkeys(SCORES)}
    _, read = written(found, tmp_path)
    assert "All 900 queries are of one type: view." in read.text
    assert "not measured" in read.text


def test_the_head_tells_of_a_catalogue_and_of_a_cadence_that_never_came() -> None:
    found = result()
    found["settings"] |= {"catalogue": 500, "publish_every": [100, 1000, 5000]}
    found |= {"events": 3000, "warm_up": 2400}
    assert told(found).concerns[:2] == (
        "A catalogue of 500 items was known to Headwater before the first event, and to no peer: what was written into "
        "it later tells of the future (--no-catalogue leaves it out).",
        "Too short for every 1,000 events and every 5,000 events: nothing was published after the warm-up, so that is "
        "the frozen model.",
    )
