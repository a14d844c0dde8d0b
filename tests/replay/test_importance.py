"""What the model goes by: in worlds where one knows it, on the page and in the terminal."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from console.cli import app
from replay import FileSource
from replay.backtest import Options, Result, backtest
from replay.report import write_importance, write_report
from tests.worlds.report_reading import Strict, result
from tests.worlds.tastes import ring

SMALL = {"width": 16, "block": 8, "replay_windows": 4, "replay_targets": 32, "initial_capacity": 32}
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody walks around a ring: what comes next follows what was last."""
    path = tmp_path_factory.mktemp("ring") / "stream.jsonl"
    rows = [
        {"user": made.user_id, "item": made.target.item_id, "type": "view", "time": made.target.time_ms}
        for made in ring(500)
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


def test_where_what_comes_next_follows_what_was_last_the_memories_matter_and_popularity_does_not(stream: Path) -> None:
    options = Options(warm_up=0.6, explained=60, overrides=SMALL, exclude_seen=())
    whole = backtest(FileSource(stream), options)
    found = whole.importance
    assert found is not None
    assert found.queries >= 30
    assert found.ndcg_10 is not None
    assert found.ndcg_10 == pytest.approx(whole.ndcg["frozen"], abs=0.1)
    memory = [one for name, one in found.parts.items() if name.startswith("memory")]
    assert max(one.permuted or 0.0 for one in memory) > 0.1
    assert abs(found.parts["popularity"].left_out or 0.0) < 0.05


def test_the_command_tells_it_in_tables_and_writes_a_page(stream: Path, tmp_path: Path) -> None:
    page = tmp_path / "model.html"
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    given = ["explain", "model", str(stream), "--queries", "20", "--limit", "200", "--report", str(page), *sets]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "memory1" in done.output
    assert "left out" in done.output
    assert "What the model goes by" in page.read_text("utf-8")


def with_importance(name: str) -> Result:
    part = {"contribution": 1.5, "apart": 1.0, "left_out": 0.02, "permuted": -0.01}
    told = {
        "queries": 200,
        "ndcg@10": 0.25,
        "parts": {"memory0": part, "ranker": part},
        "facts": {name: part, "age": part},
        "dependence": {name: [[0.0, -0.5], [1.0, 0.0], [3.0, 0.5]], "age": [[-1.0, 0.1], [2.0, -0.1]]},
    }
    return Result.read({**result(), "importance": told})


def test_pages_show_parts_facts_and_dependence_and_no_name_breaks_them(tmp_path: Path) -> None:
    found = with_importance(HOSTILE)
    for number, write in enumerate((write_importance, write_report)):
        path = tmp_path / f"{number}.html"
        write(found, path)
        page = path.read_text("utf-8")
        read = Strict(page)
        assert read.links == []
        assert "<img" not in page
        assert not re.search(r"https?:|@import|url\(", page)
        assert "+0.0200" in page
        assert page.count("What the ranker adds by the value of a fact") == 2  # for a desk and for a phone
    assert found.as_json()["importance"]["dependence"]["age"] == [[-1.0, 0.1], [2.0, -0.1]]
