"""From an event to the feature, and from a request to its reply, with all workers up and the trainer learning."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.latency import figures
from benchmarks.ruler import Bar, Beside, Row, Setup

WAYS = {"event_to_feature_ms": "event to feature", "request_to_reply_ms": "request to reply"}


def measured(setup: Setup) -> Iterator[Row]:
    """Beside an echo of the same records at the same time; the work is benchmarks/latency.py's."""
    on = ["--broker", setup.broker] if setup.broker in ("embedded", "kafka") else ["--kafka", setup.broker]
    for events, requests in setup.pick(((300, 30), (1000, 100)), ((100, 20),)):
        words = ["--events-per-s", str(events), "--requests-per-s", str(requests)]
        words += ["--seconds", "5", "--settle-s", "1", "--warm-events", "500"] if setup.quick else []
        found = figures(*on, *words)
        for key, way in WAYS.items():
            said = found[key]
            note = ""
            if key.startswith("request"):
                told = ("fallbacks", "unanswered", "unseen_features", "examples_learned")
                note = ", ".join(f"{found[name]:,} {name.replace('_', ' ')}" for name in told)
            case = f"{way}, {events:,} events/s and {requests:,} requests/s"
            p50 = [Beside("echo", "floor", [said["echo"]["p50"]])]
            yield Row(f"p50 of {case}", "ms", "less", [said["p50"]], p50, note=note)
            slices = said["p99_of_slices"]
            bars = [Bar(2.0, 1.3, against="echo")]
            tails = f"the whole run: {said['p99']:.1f} ms and {said['echo']['p99']:.1f} of the echo"
            tails = f"by {len(slices['ours'])} slices of the run; {tails}"
            beside = [Beside("echo", "floor", slices["echo"])]
            yield Row(f"p99 of {case}", "ms", "less", slices["ours"], beside, bars, tails)
