"""The quality benchmarks run on a file of one's own, judge by their bars, and say what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality.__main__ import MODULES, main
from benchmarks.quality.data_sets import DATA_SETS
from benchmarks.quality.prequential import verdict
from replay.backtest import Result
from replay.peers import PEERS, named, peer
from tests.worlds.report_reading import result as report
from tests.worlds.tastes import ring


@pytest.fixture
def events(tmp_path: Path) -> Path:
    rows = ["user,item,event,ts"]
    rows += [f"{e.user_id},{e.target.item_id},view,{e.target.time_ms}" for e in ring(600)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_one_command_measures_and_prints_json(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["globo_10d", "--events", str(events), "--peers", "popularity", "rules", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["bar"]["best_peer"].startswith("rules")
    assert code == (0 if result["bar"]["met"] else 1)
    assert result["queries"] > 0
    assert set(result["versions"]) >= {"machine", "torch", "implicit"}


def test_online_is_compared_with_frozen_and_hourly(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["online", "--events", str(events), "--stop", "400"])
    shown = capsys.readouterr().out
    for ranker in ("headwater@64", "hourly", "retrained", "frozen", "online above hourly, retrained and frozen"):
        assert ranker in shown


def test_an_absent_file_or_name_is_an_error_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="--events FILE"):
        main(["--events", "/nowhere/events.parquet"])
    assert main(["netflix"]) == 2
    assert "taobao_bcf" in capsys.readouterr().err


def test_a_bar_is_of_the_means_over_seeds() -> None:
    seeds = {"headwater": [0.12, 0.126], "slow": [0.2, 0.2], "rules:reach=3": [0.1], "popularity": [0.03]}
    by_seed = {name: {"ndcg@10": values} for name, values in seeds.items()}
    result = Result.read(report() | {"by_seed": by_seed})
    found = verdict(DATA_SETS["ml100k"], result)
    assert (found["met"], found["aim_met"], found["best_peer"]) == (True, False, "rules:reach=3")
    found = verdict(DATA_SETS["globo_10d"], result)
    assert found["times_best"] == pytest.approx(1.23)
    assert (found["met"], found["aim_met"]) == (True, False)


def test_the_numbers_of_every_data_set_fit_their_peers() -> None:
    for data_set in DATA_SETS.values():
        assert data_set.name in MODULES
        assert data_set.peers.keys() <= set(PEERS)
        for kind, numbers in data_set.peers.items():
            peer(named(kind, numbers))
