"""From a gradient to the answer that is made with it, while events and requests come.

A delta that was cut at C and is first seen in an answer at T brings what was learned since the cut before: so a
gradient at g waits T - g. Of each version, moments are taken evenly between the two cuts.
"""

from __future__ import annotations

import json
import threading

import numpy as np

from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.worlds import Replies, fill, paced, world, writer
from headwater.events import Event
from headwater.recommendations import Request
from headwater.topics import EVENTS, MODEL_DELTAS, REQUESTS, topic_name
from headwater.wire import encode
from models.published.announcement import read_delta_headers

ITEMS, USERS = 1700, 900
EVENTS_PER_S, REQUESTS_PER_S = 300, 50
MOMENTS = 50


def measured(setup: Setup) -> list[Row]:
    """All workers up; versions by the headers of deltas, and by the receipts of answers."""
    turns, seconds = setup.few, setup.pick(12.0, 4.0)
    with world(setup, serving={"exposures": False}) as made:
        fill(made, items=ITEMS, events=setup.pick(10_000, 500), users=USERS)
        kafka = made.settings.kafka
        events, requests = (topic_name(topic, kafka.prefix) for topic in (EVENTS, REQUESTS))
        out, chance = writer(kafka), np.random.default_rng(1)
        answers, deltas = Replies(kafka), Replies(kafka, topic_name(MODEL_DELTAS, kafka.prefix))
        served: dict[int, float] = {}
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                for _, value, _ in answers.read(0.05):
                    said = json.loads(value)
                    version, at = said["receipt"].get("model_version") or 0, float(said["answered_time"])
                    served[version] = min(at, served.get(version, at))

        def send(number: int) -> None:
            user, item = f"user-{number % USERS}", f"item-{chance.integers(0, ITEMS)}"
            out.produce(events, encode(Event(user_id=user, item_id=item, type="view")), user)
            if number % (EVENTS_PER_S // REQUESTS_PER_S) == 0:
                out.produce(requests, encode(Request(user_id=user)), user, headers=[("reply-partition", b"0")])
            out.poll(0)

        listener = threading.Thread(target=listen)
        listener.start()
        found: list[list[float]] = []
        propagation: list[float] = []
        cut: dict[int, float] = {}
        for _ in range(turns):
            before = set(served)
            paced(EVENTS_PER_S, seconds, send)
            said = [read_delta_headers(list(headers.items())) for _, _, headers in deltas.read_for(0.5)]
            cut |= {one.version: float(one.published_ms) for one in said}
            newer = {version: at for version, at in dict(served).items() if version not in before}
            waits, alone = waits_of(cut, newer, [one.version for one in said if one.part == 0])
            found.append(waits)
            propagation += alone
        out.flush()
        done.set()
        listener.join()
        answers.close()
        deltas.close()
    p50, p99 = ([float(np.percentile(one, at)) / 1000 for one in found if one] for at in (50, 99))
    every = made.settings.trainer.publish_every_s
    others = [Beside("Ekko", "published", [2.4]), Beside("TorchEasyRec", "published", [60.0])]
    note = f"a delta every {every:g} s; from its cut to an answer p50 {np.percentile(propagation, 50):.0f} ms"
    return [
        Row("p50 from a gradient to an answer", "s", "less", p50, others, [Bar(2.4, 0.3)], note),
        Row("p99 from a gradient to an answer", "s", "less", p99, others, [Bar(2.4)]),
    ]


def waits_of(cut: dict[int, float], served: dict[int, float], versions: list[int]) -> tuple[list[float], list[float]]:
    """Milliseconds that moments between two cuts wait for an answer; and those from a cut to its answer."""
    waits: list[float] = []
    alone: list[float] = []
    for version in versions:
        first = [at for newer, at in served.items() if newer >= version]
        if version - 1 in cut and first:
            moments = np.linspace(cut[version - 1], cut[version], MOMENTS, endpoint=False) + 1
            waits += (min(first) - moments).tolist()
            alone.append(min(first) - cut[version])
    return waits, alone
