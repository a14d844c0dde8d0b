"""Two backtests side by side: may they be compared, what was set differently, what changed.

Before: two results, read from their files. After: a terminal (`render`) or a page (`replay.report.compare_page`). Two
runs may be compared only when they asked the same queries: same source, same warm-up, same events excluded. A result
does not hold its single queries, so no interval of a difference between runs is known: only the seeds tell of chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from headwater.errors import SourceError
from replay.report.verdict import METRIC, OURS, is_peer, of, part, value
from replay.report.wording import DASH, flat, label, number, percent, plain, score, signed, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["SPEEDS", "compare", "read_result", "render"]

FORMAT = 1

SPEEDS = {
    "seconds": "Whole backtest, s",
    "events_per_s": "All rankers, events/s",
    "learner_events_per_s": "Learner, events/s",
    "peak_rss_mb": "Memory, MB",
}

NEEDED = {"source": dict, "settings": dict, "results": dict, "events": int, "warm_up": int, "queries": int}


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file that `headwater replay backtest --out` wrote. Raises SourceError with the remedy."""
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    except orjson.JSONDecodeError as error:
        raise SourceError(f"{path}: is no JSON ({error}). Give a file that --out of a backtest wrote") from error
    remedy = "Give a file that `headwater replay backtest --out FILE` wrote"
    if not isinstance(found, dict) or "format" not in found:
        raise SourceError(f"{path}: JSON, but no result of a backtest (it has no format). {remedy}")
    if found["format"] != FORMAT:
        raise SourceError(
            f"{path}: format {found['format']!r}, this version reads {FORMAT}. Run the backtest again, or read it with "
            f"the version that wrote it ({part(found, 'versions').get('headwater', 'unknown')})"
        )
    wrong = [key for key, kind in NEEDED.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise SourceError(f"{path}: is not whole: {', '.join(wrong)} missing or of another kind. {remedy}")
    return found


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """What differs between two results; JSON-able.

    `comparable` with `reasons` against it; `verdict`, one sentence on Headwater; `same_weights` (None: not known);
    `settings` and `versions` that differ, {name: [a, b]}; `results` {ranker: {measure: [a, b, b - a]}} of the rankers
    that both have, `only_a` and `only_b` the others; `by_seed` of ours; `speed` {key: [a, b, b / a]}.
    """
    reasons = _reasons(a, b)
    shared = [name for name in part(a, "results") if name in part(b, "results")]
    shared.sort(key=lambda name: (name != OURS, not is_peer(name), -(value(a, name) or 0.0), name))
    digests = (a.get("digest"), b.get("digest"))
    return {
        "comparable": not reasons,
        "reasons": reasons,
        "verdict": _verdict(a, b, reasons),
        "same_weights": None if None in digests else digests[0] == digests[1],
        "settings": _differing(part(a, "settings"), part(b, "settings")),
        "versions": _differing(part(a, "versions"), part(b, "versions")),
        "results": {name: _measures(a, b, name) for name in shared},
        "only_a": sorted(part(a, "results").keys() - part(b, "results").keys()),
        "only_b": sorted(part(b, "results").keys() - part(a, "results").keys()),
        "by_seed": [_seeds(a), _seeds(b)],
        "speed": {key: _ratio(a.get(key), b.get(key)) for key in SPEEDS},
    }


def _reasons(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Why the two runs asked different queries. Where the source's digest is known, its name does not matter."""
    found = []
    first, second = part(a, "source"), part(b, "source")
    for key, words in (("events", "events"), ("rows", "rows"), ("time_unit", "units of time")):
        if first.get(key) != second.get(key):
            found.append(f"other source: {words} {_told(first.get(key))} and {_told(second.get(key))}")
    if first.get("bad", {}) != second.get("bad", {}):
        found.append("other source: other rows were refused")
    digests = (first.get("digest"), second.get("digest"))
    if None not in digests:
        if digests[0] != digests[1]:
            found.append("other source: other events, or in another order")
    elif Path(str(first.get("name"))).name != Path(str(second.get("name"))).name:
        found.append(f"other source: {first.get('name')} and {second.get('name')}")
    for key, words in (("events", "events"), ("warm_up", "warm-up"), ("queries", "queries")):
        if a.get(key) != b.get(key):
            found.append(f"{words}: {_told(a.get(key))} and {_told(b.get(key))}")
    if part(a, "excluded") != part(b, "excluded"):
        found.append("other events were excluded")
    if part(a, "settings").get("rule") != part(b, "settings").get("rule"):
        found.append("other rules for items already seen, so other items were ranked")
    if not found and _other_events(a, b):
        found.append("other events behind the same numbers: types, groups or times of windows differ")
    return found


def _other_events(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether counts and times that follow from the stream alone, whoever ranks, give two streams away."""
    for key in ("by_type", "groups"):
        first, second = part(a, key), part(b, key)
        if any(part(first, each).get("queries") != part(second, each).get("queries") for each in {*first, *second}):
            return True
    ends = [{str(row.get("events")): row.get("time") for row in of(result, "curve")} for result in (a, b)]
    return any(ends[0][each] != ends[1][each] for each in ends[0].keys() & ends[1].keys())


def _told(given: Any) -> str:
    return whole(given) if plain(given) is not None else str(given)


def _verdict(a: Mapping[str, Any], b: Mapping[str, Any], reasons: list[str]) -> str:
    if reasons:
        return (
            "The two runs cannot be compared: they did not ask the same queries. The numbers stand side by side only."
        )
    first, second = value(a, OURS), value(b, OURS)
    if first is None or second is None:
        return "Headwater was not measured in both runs."
    both = f"NDCG@10 {score(first)} in A, {score(second)} in B"
    if first == second:
        same = a.get("digest") is not None and a.get("digest") == b.get("digest")
        return f"Headwater ranks alike in both{', with the same weights' if same else ''} ({both})."
    better, lower, higher = ("B", first, second) if second > first else ("A", second, first)
    gain = f"{percent(higher / lower - 1)} better" if lower else "better"
    seeds_a, seeds_b = _seeds(a), _seeds(b)
    if min(len(seeds_a), len(seeds_b)) < 2:
        return f"{better} ranks {gain} ({both}). One run has only one seed: whether chance explains it is not known."
    top, bottom = (seeds_b, seeds_a) if better == "B" else (seeds_a, seeds_b)
    if min(top) > max(bottom):
        return f"{better} ranks {gain} ({both}), and each of its seeds is above each seed of the other."
    return f"The two runs cannot be told apart: {both}, and their seeds overlap."


def _seeds(result: Mapping[str, Any]) -> list[float]:
    raw = part(result, "by_seed", OURS).get(METRIC)
    return [found for each in raw if (found := plain(each)) is not None] if isinstance(raw, list) else []


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[str]]:
    first, second = dict(flat(a)), dict(flat(b))
    names = sorted(first.keys() | second.keys())
    return {n: [first.get(n, DASH), second.get(n, DASH)] for n in names if first.get(n) != second.get(n)}


def _measures(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for measure in part(a, "results", name) or [METRIC]:  # a ranker without figures keeps its row
        first, second = value(a, name, measure), value(b, name, measure)
        moved = None if first is None or second is None else round(second - first, 6)
        found[measure] = [first, second, moved]
    return found


def _ratio(a: Any, b: Any) -> list[float | None]:
    first, second = plain(a), plain(b)
    return [first, second, second / first if first and second is not None else None]


def render(comparison: dict[str, Any]) -> RenderableType:
    """The comparison for a terminal: the verdict first, then what differs."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def made(title: str, *heads: str) -> Table:
        table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place else "left", overflow="fold")
        return table

    parts: list[RenderableType] = [
        Text(comparison["verdict"], style="bold" if comparison["comparable"] else "bold red")
    ]
    parts += [Text(f"  {reason}") for reason in comparison["reasons"]]
    results = made("NDCG@10", "ranker", "A", "B", "B - A", "HR@10 B - A")
    for name, measures in comparison["results"].items():
        first, second, moved = measures.get(METRIC, [None] * 3)
        hits = measures.get("hr@10", [None] * 3)[2]
        results.add_row(Text(label(name)), score(first), score(second), signed(moved), signed(hits))
    parts += [Text(), results]
    for key, title in (("only_a", "Only in A"), ("only_b", "Only in B")):
        if comparison[key]:
            parts.append(Text(f"{title}: {', '.join(label(name) for name in comparison[key])}"))
    for key in ("settings", "versions"):
        if comparison[key]:
            differing = made(f"{key.capitalize()} that differ", "name", "A", "B")
            for name, (first, second) in comparison[key].items():
                differing.add_row(Text(name), Text(first), Text(second))
            parts += [Text(), differing]
        else:
            parts.append(Text(f"No {key} differ."))
    speed = made("Speed and memory", "", "A", "B", "B / A")
    for key, (first, second, ratio) in comparison["speed"].items():
        speed.add_row(SPEEDS[key], number(first), number(second), DASH if ratio is None else f"{ratio:.2f}")
    return Group(*parts, Text(), speed)
