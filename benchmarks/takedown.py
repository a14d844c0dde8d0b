"""From a tombstone to its effect, beside the load of benchmarks/latency.py with all workers up.

    python -m benchmarks.takedown                       embedded broker
    python -m benchmarks.takedown --broker kafka        Apache Kafka from ../shared/kafka

One item after another is removed, and put back. Measured from before `send` of the tombstone to
  effect: an answer in the consumer whose receipt names the tombstone's offset. It is asked for again and again, so one
    request's way there and back is in it: "reply" is what that takes by itself,
  known: that answer's `answered_time`, in whole milliseconds.
No answer that names the offset may hold the item: how many did is "listed", which has to be 0.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.latency import echoing, options, percentiles, run
from benchmarks.traffic import ITEMS_COUNT, USERS, Measured, send_load, warm
from console.local.supervisor import Supervisor
from headwater.client import Client
from headwater.events import Item
from headwater.settings import Settings
from replay.audits import audit_takedown

PAUSE_S = 0.1


def measured(arguments: argparse.Namespace, settings: Settings, supervisor: Supervisor) -> dict[str, Any]:
    """Take items down while the load goes on."""
    warm(settings, supervisor, arguments.warm_events)
    rates = (arguments.events_per_s, arguments.requests_per_s)
    with echoing(settings) as (source, _), Client(settings=settings.kafka, source="takedown") as client:
        load = threading.Thread(
            target=send_load, args=(Measured(), settings, source, arguments.settle_s + arguments.seconds, rates)
        )
        load.start()
        time.sleep(arguments.settle_s)  # caches get warm; not counted
        taken = list(take_down(client, time.monotonic() + arguments.seconds - 1))
        load.join()
    audited = audit_takedown(settings.kafka)
    effect, known, reply = (np.array(column) for column in zip(*[one[:3] for one in taken], strict=True))
    return {
        "broker": arguments.kafka or arguments.broker,
        "takedowns": len(taken),
        "effect_ms": {**percentiles(effect), "max": round(float(effect.max()), 2)},
        "known_ms": percentiles(known),
        "reply_ms": percentiles(reply),
        "answers_asked_for": sum(one[3] for one in taken),
        "listed": sum(one[4] for one in taken),
        "audit": {"answers": audited.answers, "taken_down": audited.taken_down, "offences": audited.offences_found},
    }


def take_down(client: Client, until_s: float) -> Iterator[tuple[float, float, float, int, int]]:
    """For each takedown: ms to the effect, ms until it was known, ms of a reply just before it, answers asked for, and
    whether one listed it.
    """
    number = 0
    while time.monotonic() < until_s:
        number += 1
        user = f"user-{number % USERS}"
        asked_at = time.perf_counter()
        item = client.recommend(user).items[0].item_id
        reply_ms = (time.perf_counter() - asked_at) * 1000
        begun, begun_ms = time.perf_counter(), time.time() * 1000
        position = client.remove_item(item).result(10)
        asked, known = 0, -1
        while known < position.offset:
            answer = client.recommend(user)
            asked, known = asked + 1, answer.receipt.catalogue_offsets.get(str(position.partition), -1)
        effect_ms = (time.perf_counter() - begun) * 1000
        listed = item in [one.item_id for one in answer.items]
        yield effect_ms, max(answer.answered_time - begun_ms, 0.0), reply_ms, asked, int(listed)
        shelf = int(item.removeprefix("item-")) % ITEMS_COUNT % 20
        client.put_items([Item(item_id=item, title=item, categories=(f"shelf-{shelf}",))]).result(10)
        time.sleep(PAUSE_S)


def main() -> None:
    """Measure and print."""
    result, arguments = run(options(__doc__), measured)
    if arguments.json:
        print(json.dumps(result))
        return
    effect, known, reply = result["effect_ms"], result["known_ms"], result["reply_ms"]
    print(
        f"{result['broker']}: {result['takedowns']} takedowns, effect p50 {effect['p50']} p99 {effect['p99']} max "
        f"{effect['max']} ms; known to the worker p50 {known['p50']} p99 {known['p99']} ms; a reply p50 {reply['p50']} "
        f"p99 {reply['p99']} ms; {result['listed']} listed"
    )
    print(f"audit: {result['audit']}")


if __name__ == "__main__":
    main()
