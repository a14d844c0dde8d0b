"""The report of a backtest: one HTML file that a person reads to decide whether to deploy.

Before: `replay.backtest` makes the result. After: a browser, or a printer. The file asks nothing of the network and
runs one small script of its own (the read-out of the curve). The same result makes the same bytes. What a result lacks
(peers, a second seed, queries of a group) is said, not left blank.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replay.report.markup import Child, Markup, page, tag
from replay.report.over_time import curve, weight_age
from replay.report.parts import by_type, cold_and_warm, coverage, results, seeds
from replay.report.tables import key_values, note, section, table
from replay.report.verdict import OURS, Verdict, best_peer, of, part, value, verdict
from replay.report.wording import flat, inline, number, percent, plain, score, time_text, whole

__all__ = ["write_report"]

OUTCOMES = {
    "better": ("▲", "Better than the best peer"),
    "level": ("=", "Cannot be told from the best peer"),
    "worse": ("▼", "Does not beat the best peer"),
    "unmeasured": ("?", "Not decided"),
}

EXCLUDED = {
    "no_history": "the user had no history yet",
    "new_item": "the item had never been seen before",
    "seen": "the rules keep items already seen out of answers",
}


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the page of a result (`"format": 1`). Raises OSError when the file cannot be written."""
    found = verdict(result)
    source = str(part(result, "source").get("name") or "a stream")
    body = (
        _top(result, found, source),
        _measured(result),
        results(result),
        curve(result),
        weight_age(result),
        by_type(result),
        cold_and_warm(result),
        coverage(result),
        seeds(result),
        _speed(result),
        _settings(result),
    )
    path.write_text(page(f"Backtest of {source}", *body), encoding="utf-8")


def _top(result: Mapping[str, Any], found: Verdict, source: str) -> Markup:
    sign, words = OUTCOMES[found.outcome]
    minds = tag("ul", *(tag("li", mind) for mind in found.minds)) if found.minds else None
    version = part(result, "versions").get("headwater")
    days = [day for row in of(result, "curve") if (day := time_text(row.get("time")))]
    until = f", until {days[-1]}" if days else ""
    return tag(
        "header",
        tag("p", "Headwater backtest", f" · version {version}" if version else None, class_="over"),
        tag("h1", "/".join(source.split("/")[-2:])),
        tag("p", f"{whole(result.get('events'))} events{until}", class_="under"),
        tag(
            "div",
            tag("p", tag("span", sign, class_="sign", aria_hidden="true"), words, class_="outcome"),
            tag("p", found.against_peers, class_="sentence"),
            tag("p", found.online, class_="sentence"),
            tag("div", tag("p", "Before you decide", class_="over"), minds, class_="minds") if minds else None,
            class_=f"verdict {found.outcome}",
        ),
        _tiles(result),
    )


def _tiles(result: Mapping[str, Any]) -> Markup:
    hits, ours = value(result, OURS, "hr@10"), value(result, OURS)
    peer = best_peer({name: value(result, name) for name in part(result, "results")})
    theirs = value(result, peer) if peer else None
    lead = percent(ours / theirs - 1, sign=True) if ours is not None and theirs else "–"
    hit_text = "–" if hits is None else f"{hits * 100:.1f} of 100"
    speed = result.get("learner_events_per_s")
    tiles = (
        (score(ours), "NDCG@10 of Headwater: 1 would be the next item always on top"),
        (hit_text, "times the next item was among the first ten"),
        (lead, f"NDCG@10 against {inline(peer)}, the best peer" if peer else "no peer was run"),
        ("–" if plain(speed) is None else f"{number(speed)}/s", "events that the learner takes in on this machine"),
    )
    return tag("ul", *(tag("li", tag("strong", figure), tag("span", told)) for figure, told in tiles), class_="tiles")


def _measured(result: Mapping[str, Any]) -> Markup:
    source, excluded = part(result, "source"), part(result, "excluded")
    events, warm = plain(result.get("events")), plain(result.get("warm_up"))
    asked = None if events is None or warm is None else events - warm
    bad = part(source, "bad")
    refused = "none" if not bad else "; ".join(f"{whole(bad[reason])} {reason}" for reason in sorted(bad))
    limited = ", the limit that was set" if part(result, "settings").get("limit") else ""
    first = source.get("first_bad")
    quoted = [tag("span", str(each), class_="about") for each in first] if isinstance(first, list) else []
    rows: list[list[Child]] = [
        [f"Not asked: {EXCLUDED.get(reason, reason)}", whole(count), _share(count, asked)]
        for reason, count in excluded.items()
    ]
    return section(
        "measured",
        "What was measured",
        tag(
            "p",
            "Every event after the warm-up is a question: given what was known just before it, where in its ranking of "
            "all items does each ranker place the item that came next? Only then does it learn from the event. Every "
            "ranker is asked the same queries; items with equal scores count against the ranker.",
        ),
        key_values(
            [
                ("Source", str(source.get("name") or "–")),
                (
                    "Rows read",
                    f"{whole(source.get('rows'))}, of which {whole(source.get('events'))} became events{limited}",
                ),
                ("Repeated event ids", f"{whole(source.get('duplicates'))}: each event counts once"),
                ("Rows refused", [refused, *quoted]),
                ("Times given in", str(source.get("time_unit") or "–")),
                ("Events", whole(events)),
                ("Warm-up", f"the first {whole(warm)} events: learned from, not asked about"),
                ("Queries", whole(result.get("queries"))),
            ]
        ),
        table(
            "Events after the warm-up",
            ("", "Events", "Share"),
            [
                ["Asked: the queries", whole(result.get("queries")), _share(result.get("queries"), asked)],
                *rows,
                ["Not asked, together", whole(_total(excluded)), percent(result.get("excluded_share"))],
            ],
        ),
        note("A share is of the events after the warm-up. An excluded event is still learned from."),
    )


def _share(count: Any, whole_of: float | None) -> str:
    found = plain(count)
    return "–" if found is None or not whole_of else percent(found / whole_of)


def _total(counts: Mapping[str, Any]) -> float | None:
    found = [each for count in counts.values() if (each := plain(count)) is not None]
    return sum(found) if found else None


def _speed(result: Mapping[str, Any]) -> Markup:
    told = [
        ("Whole backtest", f"{number(result.get('seconds'))} s"),
        ("All rankers together", f"{number(result.get('events_per_s'))} events/s"),
        ("Headwater's learner alone", f"{number(result.get('learner_events_per_s'))} events/s, scoring each first"),
        ("Memory at most", f"{number(result.get('peak_rss_mb'))} MB, all rankers in one process"),
    ]
    rate, learner = _stream_rate(result), plain(result.get("learner_events_per_s"))
    if rate and learner:
        pace = f"{number(rate)} events/s" if rate >= 1 else f"{number(rate * 86400)} events a day"
        room = "more than 1,000" if learner / rate > 1000 else number(learner / rate)
        told.append(("The stream itself", f"{pace} on average; the learner takes {room} times that"))
    machine = part(result, "versions").get("machine")
    return section("speed", "Speed and memory", key_values(told), note(f"Measured on {machine}.") if machine else None)


def _stream_rate(result: Mapping[str, Any]) -> float | None:
    """Events per second of the stream's own clock, between the ends of the curve's windows."""
    ends = [(plain(row.get("events")), plain(row.get("time"))) for row in of(result, "curve")]
    known = [(events, time) for events, time in ends if events is not None and time is not None]
    if len(known) < 2 or known[-1][1] <= known[0][1]:
        return None
    return 1000 * (known[-1][0] - known[0][0]) / (known[-1][1] - known[0][1])


def _settings(result: Mapping[str, Any]) -> Markup:
    settings = [[name, tag("code", told)] for name, told in flat(part(result, "settings"))]
    versions = [[name, tag("code", told)] for name, told in flat(part(result, "versions"))]
    digest = result.get("digest")
    return section(
        "settings",
        "Settings and versions",
        tag(
            "details",
            tag("summary", f"{len(settings)} settings"),
            table("Settings", ("Setting", "Value"), settings, words=True),
        ),
        tag(
            "details",
            tag("summary", f"{len(versions)} versions"),
            table("Versions", ("What", "Version"), versions, words=True),
        ),
        note("Weights at the end: ", tag("code", str(digest)), ". The same stream and settings give the same weights.")
        if digest
        else None,
    )
