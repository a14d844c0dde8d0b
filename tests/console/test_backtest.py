"""`headwater replay backtest` and `compare` as a person or a script runs them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from console.cli import app
from headwater.errors import HeadwaterError, SettingsError, SourceError
from headwater.events import Item
from replay.sources import FileFormat, SourceReport, catalogue_from

RUN = CliRunner()

QUICK = ["--set", "width=8", "--set", "block=8", "--set", "replay_windows=2", "--set", "initial_capacity=32"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A CSV of 120 visits with columns of its own, two of them bad."""
    path = tmp_path / "shop.csv"
    rows = [f"u{n % 4},i{n // 4 % 5},{1_700_000_000 + n},{'look' if n % 3 else 'buy'}" for n in range(118)]
    path.write_text("\n".join(["who,what,at,how", *rows, ",i1,1700000500,look", "u1,i1,soon,look"]) + "\n")
    return path


def ran(*words: str | Path) -> str:
    done = RUN.invoke(app, ["replay", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


COLUMNS = ["--user", "who", "--item", "what", "--time", "at", "--type", "how", "--max-bad", "2%"]


def test_a_file_with_columns_of_its_own_is_measured_and_written(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    told = ran(
        "backtest", shop, *COLUMNS, *QUICK, "--peers", "popularity,rules", "--publish-every", "8,16", "--out", out
    )
    assert "118 events of 120 rows" in told
    assert "1 no_user" in told
    assert "line 121: time 'soon'" in " ".join(told.split())
    result = orjson.loads(out.read_bytes())
    assert set(result["results"]) == {
        "headwater", "memory", "slow", "headwater@8", "headwater@16", "frozen", "popularity", "rules",
    }  # fmt: skip
    for name in result["results"]:
        assert name in told
    assert result["settings"]["overrides"]["width"] == 8


def test_a_script_gets_json_and_nothing_else(shop: Path) -> None:
    alone = ("--peers", "none", "--no-frozen", "--publish-every", "none")
    told = ran("backtest", shop, *COLUMNS, *QUICK, *alone, "--json", "--exclude-seen", "none")
    result = orjson.loads(told)
    assert (result["format"], list(result["results"])) == (1, ["headwater", "memory", "slow"])
    assert (result["settings"]["rule"], result["queries"]) == ([], 24)


def test_meanings_are_tried_without_touching_the_settings_and_folds_are_told(shop: Path, tmp_path: Path) -> None:
    meanings = tmp_path / "signals.toml"
    meanings.write_text('[signals.buy]\nmeans = "negative"\n[signals.stare]\nweight = 2\n[kafka]\nprefix = "x."\n')
    alone = ("--peers", "popularity", "--no-frozen", "--publish-every", "none", "--exclude-seen", "none")
    words = ("backtest", shop, *COLUMNS, *QUICK, *alone, "--warm-up", "0.5", "--signals", meanings, "--folds", "2")
    told = " ".join(ran(*words).split())
    assert "40 buy: negative" in told
    assert "types that this stream does not have: stare" in told
    assert "Mean of 2 folds" in told
    result = orjson.loads(ran(*words, "--signal", "buy=context", "--signal", "look={weight=2.5}", "--json"))
    assert result["meanings"]["buy"]["signal"] == {"means": "context"}
    assert result["meanings"]["look"] == {"events": {"positive": 78}, "signal": {"means": "positive", "weight": 2.5}}
    assert len(result["folds"]) == result["settings"]["folds"] == 2


def test_by_default_there_are_strong_peers_older_weights_and_on_demand_an_ablation(shop: Path) -> None:
    result = orjson.loads(ran("backtest", shop, *COLUMNS, *QUICK, "--json", "--exclude-seen", "none", "--ablation"))
    assert set(result["results"]) >= {
        "popularity", "popularity-1h", "recent", "rules", "rules-now", "rules-own", "item-item", "frozen",
        "headwater@1000", "headwater@5000", "without memory", "without encoder",
    }  # fmt: skip


def test_the_catalogue_of_a_file_is_taken_in(shop: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item,title,categories,colour\n" + "".join(f"i{n},Thing {n},a|b,red\n" for n in range(5)))
    first = catalogue_from(items)[0]
    assert (first.item_id, first.title, first.categories, first.attributes) == (
        "i0",
        "Thing 0",
        ("a", "b"),
        {"colour": "red"},
    )
    quiet = ["--peers", "none", "--no-frozen", "--json", "--exclude-seen", "none"]
    with_items = orjson.loads(ran("backtest", shop, *COLUMNS, *QUICK, *quiet, "--items", items))
    without = orjson.loads(ran("backtest", shop, *COLUMNS, *QUICK, *quiet))
    assert with_items["queries"] == without["queries"]


def test_a_catalogue_row_without_an_id_costs_that_row_and_is_named(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"item_id": "a"}\n{"title": "b"}\n')
    with pytest.raises(SourceError, match=r"50\.0% of its rows are no items \(--max-bad\).*line 2: has no id"):
        catalogue_from(items)
    report = SourceReport("items")
    assert [item.item_id for item in catalogue_from(items, report=report, most_bad=0.5)] == ["a"]
    assert dict(report.bad) == {"no_item": 1}


def test_a_catalogue_may_be_written_as_events_may(tmp_path: Path) -> None:
    items = tmp_path / "products.txt"
    text = "Product ID;Name;Genres;CREATION_TIMESTAMP;Colour\n7;Hüt;hat|wool;1570003267;red\n"
    items.write_bytes(text.encode("cp1252"))
    with pytest.raises(SourceError, match="--encoding cp1252"):
        catalogue_from(items)
    assert catalogue_from(items, form=FileFormat(encoding="cp1252")) == [
        Item(
            item_id="7", title="Hüt", categories=("hat", "wool"), published_time=1_570_003_267_000,
            attributes={"Colour": "red"},
        )
    ]  # fmt: skip


def test_recboles_items_are_a_catalogue(tmp_path: Path) -> None:
    items = tmp_path / "ml.item"
    items.write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:float\tgenre:token_seq\n"
        "7\tTwelve Monkeys\t1995\tDrama Sci-Fi\n"
    )
    assert catalogue_from(items) == [
        Item(item_id="7", title="Twelve Monkeys", categories=("Drama", "Sci-Fi"), attributes={"release_year": 1995})
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--peers", "nobody"], "choose of popularity"),
        (["--set", "depth=3"], "depth"),
        (["--warm-up", "500"], "118 events"),
        (["--warm-up", "inf"], "neither a share"),
        (["--warm-up", "1.5"], "neither a share"),
        (["--seeds", ""], "give one or more"),
        (["--seeds", "99999999999999999999999"], "give one or more"),
        (["--publish-every", "0"], "from 1 on"),
        (["--device", "banana"], "choose of cpu"),
        (["--exclude-seen", "bye"], "it has buy, look"),
        (["--exclude-seen", "auto,look"], "of type auto"),
        (["--folds", "1"], "give 2 or more"),
        (["--signals", "/nowhere.toml"], r"/nowhere.toml cannot be read.*\[signals.NAME\]"),
        (["--signal", "look=up"], r"--signal look=up: signals.look.means: .*'negative'"),
        (["--signal", "Look=negative"], "'Look' is no type of event"),
        (["--signal", 'look={positive="4"}'], r"signals.look.positive: .*is no threshold"),
        (["--peers", "rules:reach=-1"], "no int from 1 on"),
        (["--peers", "rules:reach=1e9"], "no int from 1 on"),
        (["--peers", "als:alpha=NaN"], "no float from 0 on"),
    ],
)
def test_errors_end_the_command_with_a_remedy(shop: Path, words: list[str], told: str) -> None:
    with pytest.raises(HeadwaterError, match=told):
        RUN.invoke(app, ["replay", "backtest", str(shop), *COLUMNS, *words], catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "width"], "FIELD=JSON"),
        (["--signal", "look"], "write TYPE=MEANING"),
        (["--publish-every", "often"], "whole numbers"),
        (["--out", "/nowhere/at/all.json"], "not a folder"),
        (["--report", "/tmp"], "is a folder"),
        (["--out", "both.json", "--report", "both.json"], "give another name"),
        (["--seeds", "\N{SUPERSCRIPT TWO}"], "whole numbers"),
        (["--exclude-seen", ","], "types of events"),
        (["--since", "2026-01-01T00:00:00Z"], "are for kafka"),
    ],
)
def test_words_that_cannot_be_understood_are_refused_at_once(shop: Path, words: list[str], told: str) -> None:
    done = RUN.invoke(app, ["replay", "backtest", str(shop), *COLUMNS, *words])
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_a_result_never_takes_the_place_of_what_it_was_made_of(shop: Path) -> None:
    before = shop.read_bytes()
    done = RUN.invoke(app, ["replay", "backtest", str(shop), *COLUMNS, "--out", str(shop.parent / "." / shop.name)])
    assert (done.exit_code, shop.read_bytes()) == (2, before)


def test_what_cannot_be_written_at_the_end_costs_no_result(shop: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full is needed")
    words = [
        "replay",
        "backtest",
        str(shop),
        *COLUMNS,
        *QUICK,
        "--peers",
        "none",
        "--no-frozen",
        "--exclude-seen",
        "none",
    ]
    done = RUN.invoke(app, [*words, "--json", "--out", "/dev/full"])
    assert isinstance(done.exception, SettingsError)
    assert "/dev/full cannot be written (No space left" in str(done.exception)
    assert orjson.loads(done.stdout)["queries"] == 24


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "item_id,attributes\ni1,red\n", "no object"),
        ("a.jsonl", '{"item_id": "i1", "attributes": "red"}\n', "no object"),
        ("a.csv", "item_id,title\ni1,a,b,c\n", "line 2: 4 fields where 2 are expected"),
        ("a.jsonl", '{"item_id": ["i1"]}\n', "neither a text nor a number"),
        ("a.csv", "", "no items"),
    ],
)
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=told):
        catalogue_from(tmp_path / name)


def test_ids_of_a_catalogue_are_those_of_events(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"item_id": 42.0}\n{"item_id": 7}\n')
    assert [item.item_id for item in catalogue_from(tmp_path / "a.jsonl")] == ["42", "7"]
