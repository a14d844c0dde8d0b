"""`headwater look`: it shows what replay does, its commands keep its options, its exit code tells good from bad."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from console.cli import app
from headwater import SourceError

AT = 1_700_000_000


def look(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["look", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Half an hour and more between sessions, one row twice, a type with capitals; semicolons and a mark."""
    rows = [f"u{n % 3};i{n % 4};{'Add To Cart' if n % 5 else 'view'};{AT + n * 1000};1,5;x" for n in range(30)]
    path = tmp_path / "shop.csv"
    path.write_bytes("\n".join(["User ID;SKU;Action;TS;Price;Colour", *rows, rows[-1], ""]).encode("utf-8-sig"))
    return path


def test_a_file_is_shown_with_what_its_columns_are_taken_for(shop: Path) -> None:
    found = look(shop)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert "read as   CSV, ';', UTF-8 with BOM, header" in lines
    taken = {line.split("   ")[0].strip(): line.split()[-1 - line.count("·") * 2 :] for line in lines if "·" in line}
    assert {"User ID", "SKU", "TS"} <= taken.keys()
    for told in (
        "31 of 31 rows; 1 equal to another of the same moment",
        "column TS, seconds, 2023-11-14",
        "3, 10.3 events each",
        "add_to_cart 25 (80.6%), view 6 (19.4%)",
        "'Add To Cart' is add_to_cart",
        "31, 1.5 .. 1.5",
        "longest without any event 17 minutes",
    ):
        assert told in found.stdout
    assert max(len(line) for line in lines if str(shop) not in line) <= 120


def test_the_commands_that_it_prints_keep_its_options(shop: Path) -> None:
    given = [
        "--type",
        "=view",
        "--value",
        "Price",
        "--types",
        "a=b",
        "--no-header",
        "--columns",
        "User ID,item,_,TS,Price,_",
    ]
    commands = json.loads(look(shop, *given, "--header", "--max-bad", "7%", "--json").stdout)["commands"]
    words = shlex.split(commands["stream"])
    assert words[:4] == ["headwater", "replay", "stream", str(shop)]
    assert words[4:] == [
        "--type", "=view", "--value", "Price", "--types", "a=b", "--header", "--columns", "User ID,item,_,TS,Price,_",
        "--max-bad", "7%",
    ]  # fmt: skip
    backtest = shlex.split(json.loads(look(shop, "--json").stdout)["commands"]["backtest"])
    assert backtest == ["headwater", "replay", "backtest", str(shop), "--report", "shop.html"]
    options = {word for word in words if word.startswith("--")}
    for name in ("stream", "backtest"):
        shown = CliRunner().invoke(app, ["replay", name, "--help"], env={"COLUMNS": "200"}).stdout
        assert all(option in shown for option in options), name


def test_scripts_get_the_same_as_json(shop: Path) -> None:
    body = json.loads(look(shop, "--json").stdout)
    assert (body["rows"], body["events"], body["users"], body["items"], body["equal"]) == (31, 31, 3, 4, 1)
    assert body["sessions"] == 30  # a user's events are 50 minutes apart
    assert body["columns"]["SKU"]["taken_for"] == "item"
    assert body["columns"]["Colour"]["taken_for"] is None


def test_more_bad_rows_than_allowed_are_exit_code_1(shop: Path) -> None:
    with shop.open("a") as file:
        file.write("u1;i1;view;soon;1;x\n")
    found = look(shop)
    assert found.exit_code == 1
    assert "shop.csvline33:time'soon'cannotberead" in "".join(found.stdout.split()), "wherever the lines break"
    assert "1 of 32 rows were refused, 3.1%, more than 1.0% (--max-bad)" in found.stderr
    assert look(shop, "--max-bad", "5%").exit_code == 0
    assert look(shop, "--max-bad", "0.05").exit_code == 0
    assert look(shop, "--max-bad", "many").exit_code == 2


def test_a_file_that_lacks_something_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "sold.csv"
    path.write_text("t_dat,customer_id,article_id,price\n2018-09-20,00ab,0663713001,0.05\n")
    with pytest.raises(SourceError, match=r"has no column type .* --type =purchase"):
        look(path)
    found = CliRunner().invoke(app, ["look", str(path)])
    assert [line.split()[:2] for line in found.stdout.splitlines() if "0" in line][1:] == [
        ["t_dat", "time"],
        ["customer_id", "user"],
        ["article_id", "item"],
        ["price", "value"],
    ]


def test_an_export_of_another_engine_is_shown_with_its_catalogue(tmp_path: Path) -> None:
    (tmp_path / "feedback.csv").write_text(
        "feedback_type,user_id,item_id,time_stamp\nstar,ann,a,2020-01-01 01:01:02 +0000 UTC\n"
    )
    (tmp_path / "items.csv").write_text("item_id,is_hidden,categories,time_stamp,labels,description\na,false,x,,,\n")
    found = look(f"gorse:{tmp_path}")
    assert (found.exit_code, "gorse's feedback" in found.stdout, "1 items" in found.stdout) == (0, True, True)
    assert f"headwater replay stream gorse:{tmp_path}" in found.stdout


def test_lists_that_were_shown_and_guests_are_told(tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv"
    rows = [f"u,s{n % 2},a{n},View,{AT + n},a{n}|b|c" for n in range(4)]
    path.write_text(
        "\n".join(["USER_ID,SESSION_ID,ITEM_ID,EVENT_TYPE,TIMESTAMP,IMPRESSION", *rows, f",s1,b,View,{AT + 9},"])
    )
    shown = look(path, "--map", "user=USER_ID,SESSION_ID")
    for told in (
        "5 of 5 rows",
        "4 lists, 3.0 items each; 4 came with another event of their row",
        "; 2 by their ids",
        "a guest logged in later",
    ):
        assert told in shown.stdout
    body = json.loads(look(path, "--no-impressions", "--json").stdout)
    assert (body["types"], body["lists"], body["bad"]) == ({"view": 4}, 0, {"no_user": 1})
    assert "--no-impressions" in body["commands"]["stream"]
