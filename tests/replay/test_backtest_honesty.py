"""A backtest seen by one who does not believe it: no ranker knows what comes later, and every row is accounted for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from headwater.events import Item
from models.config import model_config
from replay import FileSource
from replay.backtest import Options, backtest
from replay.backtest.machine import versions
from replay.backtest.run import Run
from replay.peers import PEERS, peer
from replay.report import compare
from streams.features.fold import Limits
from streams.features.recording import Recording, recorded
from tests.worlds.tastes import START_MS

SMALL = {"width": 16, "block": 8, "replay_windows": 4, "replay_targets": 32, "initial_capacity": 32}
SHARED = 99
"""Events that two streams have in common: not the end of a block."""

Line = dict[str, Any]


def lines(seed: int, events: int, start: int = 0, mark: str = "") -> list[Line]:
    """Random visits; `mark` makes users, items and types that no other stream has, beside the common ones."""
    choose = random.Random(seed)
    return [
        {
            "user": f"u{choose.randrange(9)}{choose.choice(['', mark])}",
            "item": f"i{choose.randrange(14)}{choose.choice(['', mark])}",
            "type": choose.choice(["view", "buy", f"view{mark}"]),
            "time": START_MS + 60_000 * (start + place),
            "event_id": f"e{mark}{start + place}",
        }
        for place in range(events)
    ]


def file_of(path: Path, rows: Sequence[Line]) -> FileSource:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return FileSource(path)


def passed(recording: Recording) -> Run:
    options = Options(publish_every=(1, 50), hourly=True, overrides=SMALL)
    config = model_config(SMALL | {"exclude_seen": ()})
    run = Run(config, 0, 40, [peer(name, 0) for name in PEERS], options)
    run.stream(recording, [Item(item_id="i1", categories=("a",))], lambda _progress: None)
    return run


def test_nobody_knows_what_comes_later(tmp_path: Path) -> None:
    """Two streams part after event 99, within a block and between publications: until then all ranks are the same."""
    past = lines(1, SHARED)
    futures = [lines(2, 60, SHARED, "x"), lines(3, 60, SHARED, "y")]
    one, other = (
        passed(recorded(file_of(tmp_path / f"{n}.jsonl", past + future).events(), Limits()))
        for n, future in enumerate(futures)
    )
    asked = sum(place < SHARED for place in one.ledger.place)
    assert asked > 40
    assert one.ledger.place[:asked] == other.ledger.place[:asked]
    for name, ranks in one.ledger.ranks.items():
        assert ranks[:asked] == other.ledger.ranks[name][:asked], name
        assert len(ranks) == one.ledger.queries, name  # each ranker answered each query
    assert one.ledger.ranks["headwater"] != other.ledger.ranks["headwater"]


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows: list[Any] = lines(4, 120)
    rows += rows[:7]  # repeated ids
    rows += [
        {"user": ["a"], "item": "i1", "type": "view", "time": START_MS},
        {"user": True, "item": "i1", "type": "view"},
    ]
    rows += [{"user": "u1", "item": "i1", "type": ["view"], "time": START_MS}, "no object"]
    source = file_of(tmp_path / "stream.jsonl", rows)
    result = backtest(source, Options(warm_up=0.5, frozen=False, overrides=SMALL))
    told = result.source
    assert told.bad == {"user": 1, "no_time": 1, "type": 1, "undecodable": 1}
    assert told.rows is not None
    assert told.events is not None
    assert told.duplicates is not None
    assert told.rows == told.events + sum(told.bad.values())
    assert told.events == result.events + told.duplicates == 127
    assert result.events == result.warm_up + result.queries + sum(result.excluded.values())


def test_one_user_is_no_ground_for_an_interval(tmp_path: Path) -> None:
    rows = [row | {"user": "alone"} for row in lines(5, 80)]
    result = backtest(file_of(tmp_path / "a.jsonl", rows), Options(0.5, (), ("popularity",), overrides=SMALL))
    assert (result.users, result.differences["popularity"].model_dump(exclude_unset=True)) == (1, {})


def test_a_result_knows_its_stream_and_not_its_folder(tmp_path: Path) -> None:
    rows = lines(6, 60)
    moved = [rows[1] | {"time": rows[0]["time"]}, rows[0] | {"time": rows[1]["time"]}, *rows[2:]]
    quiet = Options(0.5, (), frozen=False, overrides=SMALL)
    places = {"a/one.jsonl": rows, "b/two.jsonl": rows, "c/one.jsonl": moved}
    first, same, other = (backtest(file_of(tmp_path / place, each), quiet) for place, each in places.items())
    assert first.source.name == "one.jsonl"
    assert str(tmp_path) not in orjson.dumps(first.as_json()).decode()
    assert compare(first, same).comparable
    assert "other source: other events, or in another order" in compare(first, other).reasons


def test_what_computes_is_named() -> None:
    assert "not installed" not in versions().values()
