"""Processor time of all processes for 1,000 events and for 1,000 answers, from the first topic to the last."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.ruler import Row, Setup
from benchmarks.ruler.turns import cpu_seconds
from benchmarks.ruler.worlds import applied, fill, learned, paced, process_ids, wait, world, writer
from console.local.supervisor import Supervisor
from console.look.cluster import topic_states
from headwater.events import Event
from headwater.recommendations import Request
from headwater.topics import EVENTS, REQUESTS, topic_name
from headwater.wire import encode

ITEMS, USERS = 1700, 900
EVENTS_PER_S, REQUESTS_PER_S = 300, 100
CPU = "ms of processor time"
TOPICS = (("events", "events"), ("events", "examples"), ("answers", "requests"), ("answers", "recommendations"))
"""What each load adds to which topic."""


def measured(setup: Setup) -> list[Row]:
    """At a steady rate of events, then of requests; what an idle second costs is taken off, and told."""
    seconds = setup.pick(10.0, 2.0)
    counts = {"events": EVENTS_PER_S * seconds, "answers": REQUESTS_PER_S * seconds}
    spent: dict[str, list[dict[str, float]]] = {"idle": [], "events": [], "answers": []}
    with world(setup, serving={"exposures": False}) as made:
        fill(made, items=ITEMS, events=setup.pick(10_000, 500), users=USERS)
        sizes = [_sizes(made)]
        for _ in range(setup.few):
            spent["idle"].append(_spent(made, lambda: time.sleep(seconds)))
            spent["events"].append(_spent(made, lambda: _events(made, seconds)))
            spent["answers"].append(_spent(made, lambda: _requests(made, seconds)))
        sizes.append(_sizes(made))
    if "broker" not in spent["idle"][0]:
        setup.left("the broker's processor time is not in it: its command line names no port, or it is elsewhere")
    rows = []
    for name, count in counts.items():
        parts = {
            part: [
                max(busy[part] - idle[part], 0) / count * 1e6
                for busy, idle in zip(spent[name], spent["idle"], strict=True)
            ]
            for part in spent[name][0]
        }
        rows.append(Row(f"1,000 {name}", CPU, "less", [sum(turn) for turn in zip(*parts.values(), strict=True)]))
        rows += [Row(f"1,000 {name}, {part}", CPU, "less", found) for part, found in parts.items()]
    idle = [sum(one.values()) / seconds * 1000 for one in spent["idle"]]
    rows.append(Row("an idle second", CPU, "less", idle))
    for name, topic in TOPICS:
        grown = (sizes[1][topic] - sizes[0][topic]) / counts[name] / setup.few
        rows.append(Row(f"one of {name} in the topic {topic}", "bytes", "less", [grown]))
    return rows


def _sizes(made: Supervisor) -> dict[str, int]:
    """Bytes of each topic, as the broker keeps it."""
    return {state.topic.name: state.bytes or 0 for state in topic_states(made.settings.kafka)}


def _spent(made: Supervisor, load: object) -> dict[str, float]:
    """Processor seconds of each process while a load runs."""
    found = process_ids(made)
    before = {name: cpu_seconds(pid) for name, pid in found.items()}
    load()  # type: ignore[operator]
    return {name: cpu_seconds(pid) - before[name] for name, pid in found.items()}


def _events(made: Supervisor, seconds: float) -> None:
    kafka, chance, out = made.settings.kafka, np.random.default_rng(1), writer(made.settings.kafka)
    topic, count = topic_name(EVENTS, kafka.prefix), int(EVENTS_PER_S * seconds)
    want, want_learned = applied(made) + count, learned(made) + count

    def send(number: int) -> None:
        user = f"user-{number % USERS}"
        out.produce(topic, encode(Event(user_id=user, item_id=f"item-{chance.integers(0, ITEMS)}", type="view")), user)
        out.poll(0)

    paced(EVENTS_PER_S, seconds, send)
    out.flush()
    wait(
        lambda: applied(made) >= want and learned(made) >= want_learned,
        lambda: learned(made) + applied(made),
        "the events are applied and learned",
    )


def _requests(made: Supervisor, seconds: float) -> None:
    kafka, chance, out = made.settings.kafka, np.random.default_rng(1), writer(made.settings.kafka)
    topic = topic_name(REQUESTS, kafka.prefix)

    def answered() -> float:
        return made.workers["serving"].metrics().total("headwater_requests_answered_total")

    want = answered() + int(REQUESTS_PER_S * seconds)

    def send(_: int) -> None:
        user = f"user-{chance.integers(0, USERS)}"
        out.produce(topic, encode(Request(user_id=user)), user, headers=[("reply-partition", b"0")])
        out.poll(0)

    paced(REQUESTS_PER_S, seconds, send)
    out.flush()
    wait(lambda: answered() >= want, answered, "the requests are answered")
