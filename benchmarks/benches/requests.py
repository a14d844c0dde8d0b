"""From a request to its reply at a steady rate, beside a worker that echoes the same records unread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.latency import echoing
from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.worlds import Replies, fill, paced, world, writer
from console.local.supervisor import Supervisor
from headwater.recommendations import Request
from headwater.topics import REQUESTS, topic_name
from headwater.wire import encode

USERS = 2000
LATE_S = 10.0
"""How long after the last request a reply is waited for."""


def measured(setup: Setup) -> Iterator[Row]:
    """At each size of the catalogue and each rate; ours and the echo in turns."""
    for items in setup.pick((10_000, 100_000), (500,)):
        with world(replace(setup, directory=setup.directory / str(items)), serving={"exposures": False}) as made:
            fill(made, items=items, events=setup.pick(30_000, 500), users=USERS)
            with echoing(made.settings) as (source, target):
                for rate in setup.pick((100, 500, 1000), (50,)):
                    yield from _at(setup, made, (source, target), items, rate)


def _at(setup: Setup, made: Supervisor, echo: tuple[str, str], items: int, rate: int) -> list[Row]:
    kafka, seconds = made.settings.kafka, setup.pick(6.0, 2.0)
    ways: dict[str, tuple[str, str | None]] = {
        "ours": (topic_name(REQUESTS, kafka.prefix), None),
        "echo": echo,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    unanswered = 0
    for turn in range(setup.few + 1):
        for name, (source, target) in ways.items():
            took, lost = _one_way(made, source, target, rate, seconds, f"{items}-{rate}-{turn}-{name}")
            if turn:  # the first warms caches
                p50, p99 = np.percentile(took, [50, 99]) if took else (LATE_S * 1000,) * 2
                found[name].append((float(p50), float(p99)))
                unanswered += lost if name == "ours" else 0
    rows = []
    for place, percentile in enumerate(("p50", "p99")):
        ours, theirs = ([one[place] for one in found[name]] for name in ("ours", "echo"))
        bars = [Bar(2.0, against="echo")] if percentile == "p99" else []
        if percentile == "p99" and rate == 500:
            bars.append(Bar(15.0))
        note = f"{unanswered} unanswered" if unanswered and place else ""
        case = f"{percentile}, {rate:,} a second, {items:,} items"
        rows.append(Row(case, "ms", "less", ours, [Beside("echo", "floor", theirs)], bars, note))
    return rows


def _one_way(
    made: Supervisor, source: str, target: str | None, rate: int, seconds: float, turn: str
) -> tuple[list[float], int]:
    """Milliseconds of each answer, and how many never came."""
    kafka, chance = made.settings.kafka, np.random.default_rng(len(turn))
    replies, out = Replies(kafka, target), writer(kafka)
    users = chance.integers(0, USERS, int(rate * seconds)).tolist()
    asked = [Request(user_id=f"user-{user}", request_id=f"{turn}-{n}") for n, user in enumerate(users)]
    values = [encode(one) for one in asked]
    sent: dict[str, float] = {}
    took: list[float] = []
    done = threading.Event()

    def listen(id_of: Callable[[bytes | None, bytes], str]) -> None:
        deadline = float("inf")
        while time.monotonic() < deadline and not (done.is_set() and not sent):
            for key, value, _ in replies.read(0.05):
                now = time.perf_counter()
                began = sent.pop(id_of(key, value), None)
                if began is not None:
                    took.append((now - began) * 1000)
            if done.is_set() and deadline == float("inf"):
                deadline = time.monotonic() + LATE_S

    def send(number: int) -> None:
        sent[asked[number].request_id] = time.perf_counter()
        key = asked[number].request_id if target else asked[number].user_id
        out.produce(source, values[number], key, headers=[] if target else [("reply-partition", b"0")])
        out.poll(0)

    by_key: Callable[[bytes | None, bytes], str] = lambda key, _: (key or b"").decode()  # noqa: E731
    by_body: Callable[[bytes | None, bytes], str] = lambda _, value: str(json.loads(value)["request_id"])  # noqa: E731
    listener = threading.Thread(target=listen, args=(by_key if target else by_body,))
    listener.start()
    paced(rate, seconds, send)
    out.flush()
    done.set()
    listener.join()
    replies.close()
    return took, len(sent)
