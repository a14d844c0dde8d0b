"""A quality benchmark of a stream: the backtest with all peers, and whether the bar is met.

Before: a data set's module names it. After: figures on the terminal, or JSON. What is measured is `replay.backtest`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.quality.data_sets import DATA_SETS, DataSet
from headwater.errors import HeadwaterError
from headwater.events import Item
from replay import open_source
from replay.backtest import BacktestProgress, Options, Result, backtest
from replay.peers import PEERS, named
from replay.report import best_peer
from replay.report.wording import score, whole

__all__ = ["common_parser", "events_file", "main", "means_of", "measure", "options_parser", "overrides_of"]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

PROGRESS_EVERY_S = 30.0


def common_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Options that every quality benchmark has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.quality {name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=Path, help="the events file, where it is not in ../shared/data")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a field of ModelConfig")
    parser.add_argument("--json", action="store_true")
    return parser


def options_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Options of the benchmarks that are backtests of a stream."""
    parser = common_parser(name, doc)
    parser.add_argument("--seed", "--seeds", type=int, nargs="+", default=[0], dest="seeds", metavar="N")
    parser.add_argument(
        "--stop", type=int, metavar="N", help="only the first N events, the last quarter asked: to choose numbers on"
    )
    parser.add_argument("--warm-up", type=float, help="learned before the first query: a share below 1, or events")
    parser.add_argument(
        "--peers", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; none to time the learner alone"
    )
    parser.add_argument("--ablation", action="store_true", help="also ours without each of its parts")
    return parser


def overrides_of(pairs: Sequence[str]) -> dict[str, Any]:
    """FIELD=JSON options as fields."""
    return {field: json.loads(value) for field, value in (pair.split("=", 1) for pair in pairs)}


def events_file(name: str, given: Path | None) -> Path:
    """The events of a data set. Exits with what to do when they are not there."""
    path = given or DATA / name / "events.parquet"
    if not path.is_file():
        sys.exit(f"{path} is not there: the data is no part of this project. Name yours with --events FILE.")
    return path


def items_beside(events: Path) -> list[Item]:
    """The catalogue beside an events file, if there is one: title, and genres as categories."""
    import pyarrow.parquet

    path = events.with_name("items.parquet")
    if not path.is_file():
        return []
    return [
        Item(
            item_id=str(row["item"]),
            title=row.get("title"),
            categories=tuple(dict.fromkeys((row.get("genres") or "").split())),
        )
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]


def measure(data_set: DataSet, given: argparse.Namespace, **changes: Any) -> Result:
    """The backtest's result; `changes` replace fields of its options."""
    path = events_file(data_set.name, given.events)
    peers = given.peers if given.peers is not None else list(PEERS)
    options = {
        "warm_up": given.warm_up if given.warm_up is not None else 0.75 if given.stop else 0.8,
        "exclude_seen": data_set.exclude_seen,
        "peers": tuple(named(peer, data_set.peers.get(peer, {})) for peer in peers),
        "frozen": False,
        "ablation": given.ablation,
        "seeds": tuple(given.seeds),
        "limit": given.stop,
        "overrides": data_set.model | overrides_of(given.set),
    }
    told_s = time.monotonic()

    def tell(progress: BacktestProgress) -> None:
        nonlocal told_s
        if time.monotonic() - told_s < PROGRESS_EVERY_S:
            return
        told_s = time.monotonic()
        best = ", ".join(f"{one.split(':')[0]} {value:.4f}" for one, value in progress.ndcg.items())
        print(f"{progress.phase}: {progress.events:,} events, {progress.events_per_s:.0f}/s  {best}", file=sys.stderr)

    try:
        return backtest(open_source(path), Options(**(options | changes)), items=items_beside(path), on_progress=tell)
    except HeadwaterError as error:
        sys.exit(str(error))


def means_of(result: Result) -> dict[str, float]:
    """NDCG@10 of every ranker, the mean of its seeds."""
    return {name: fmean(result.seeds(name)) for name in result.by_seed}


def verdict(data_set: DataSet, result: Result) -> dict[str, Any]:
    """The bar of a data set against a result: the mean of our seeds, and of the best peer's."""
    means = means_of(result)
    ours = means["headwater"]
    found: dict[str, Any] = {"ndcg@10": ours}
    best = best_peer(means)
    if best is not None:
        found |= {"best_peer": best, "best_peer_ndcg@10": means[best], "times_best": ours / means[best]}
    measured, bar, aim = (
        (ours, data_set.bar, data_set.aim)
        if data_set.bar is not None
        else (found.get("times_best"), data_set.times_best, data_set.aim_times_best)
    )
    if measured is not None and bar is not None:
        found |= {"bar": bar, "met": measured >= bar, "aim": aim, "aim_met": aim is not None and measured >= aim}
    return found


def show(name: str, result: Result, bar: dict[str, Any]) -> None:
    """Print the figures."""
    excluded = ", ".join(f"{count:,} {reason}" for reason, count in result.excluded.items())
    print(f"{name}: {result.events:,} events, the first {result.warm_up:,} learned only; {result.queries:,} queries")
    print(f"  not asked: {result.excluded_share or 0:.1%} of the rest ({excluded})")
    for ranker, found in sorted(result.results.items(), key=lambda pair: -(pair[1].ndcg_10 or 0.0)):
        lead = result.lead(ranker)
        below = "" if lead is None else f"  ours is above by {lead.low:+.4f} to {lead.high:+.4f}"
        figures = (("NDCG@10", found.ndcg_10), ("HR@10", found.hr_10), ("MRR@10", found.mrr_10), ("HR@20", found.hr_20))
        print(f"  {ranker:<24} {'  '.join(f'{head} {score(value)}' for head, value in figures)}{below}")
    for ranker in result.by_seed:
        if len(seeds := result.seeds(ranker)) > 1:
            print(f"  by seed, {ranker}: {' '.join(f'{value:.4f}' for value in seeds)}")
    if "best_peer" in bar:
        print(f"  {bar['times_best']:.3f} x the best peer, {bar['best_peer']}")
    if "bar" in bar:
        print(f"  bar {bar['bar']}: {'met' if bar['met'] else 'NOT met'}; aim {bar['aim']}: "
              f"{'met' if bar['aim_met'] else 'not met'}")  # fmt: skip
    print(
        f"  learner {whole(result.learner_events_per_s)} events/s, scoring included; the whole run "
        f"{whole(result.events_per_s)}/s; peak {whole(result.peak_rss_mb)} MB"
    )
    versions = result.versions
    print(f"  seeds {result.settings.seeds}, commit {versions.get('commit', 'unknown')}, {versions['machine']}")


def main(name: str, arguments: Sequence[str], doc: str | None) -> int:
    """Measure, print, and 1 when the bar is missed on the whole stream."""
    given = options_parser(name, doc).parse_args(arguments)
    data_set = DATA_SETS[name]
    result = measure(data_set, given)
    bar = verdict(data_set, result)
    if given.json:
        print(json.dumps({"benchmark": name, "bar": bar, "chosen_on": data_set.chosen_on, **result.as_json()}))
    else:
        show(name, result, bar)
        print(f"  numbers chosen on {data_set.chosen_on}")
    return int(given.stop is None and not bar.get("met", True))
