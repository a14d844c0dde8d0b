"""The verdict sees what is wrong: a world that is well breaks no promise, and each harm breaks its own."""

from __future__ import annotations

import io
from collections.abc import Callable
from http.client import HTTPResponse
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from kafka import KafkaProducer

from chaos.ledger import LoadLedger, Promised
from chaos.load.over_http import messages_of
from chaos.load.records import Outgoing, Writer, poison
from chaos.promises import Aftermath, consents, examples, features, front_door, records
from chaos.stack import CampaignWorker, Stack
from headwater.events import now_ms
from headwater.settings import Settings
from headwater.topics import CONSENTS, EVENTS
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import asking, end_marks, folded_all, producing, storing

Start = Callable[..., LiveWorker]
SEVERAL = 40


def put(producer: KafkaProducer, ledger: LoadLedger, prefix: str, record: Outgoing) -> None:
    sent = producer.send(prefix + record.topic, record.value, record.key, record.headers, record.partition).get(30)
    ledger.acknowledged(record.what, record.topic, (sent.partition, sent.offset), record.value, "test", None)


def test_a_world_that_is_well_breaks_no_promise_and_each_harm_breaks_its_own(settings: Settings, worker: Start) -> None:
    settings = asking(settings)
    streams = worker("streams.worker", given=settings)
    ledger, writer, prefix = LoadLedger(), Writer("t", 1, EVENTS.partitions), settings.kafka.prefix

    def aftermath() -> Aftermath:
        stack, load = SimpleNamespace(settings=settings, removed={}), SimpleNamespace(unsent=0, failures=[])
        return Aftermath(stack, ledger, load, 1)  # type: ignore[arg-type]  # no more of them is looked at

    with producing(settings) as producer:
        put(producer, ledger, prefix, over_http := writer.single(now_ms()))
        for number in range(SEVERAL):
            put(producer, ledger, prefix, writer.packed(now_ms()))
            put(producer, ledger, prefix, poison(writer, now_ms(), number))
            put(producer, ledger, prefix, writer.word(now_ms()))
    with storing(settings) as store:
        eventually(lambda: store.marks_of(CONSENTS) == end_marks(settings, CONSENTS), what="words are told")
    assert folded_all(settings).ok
    judged = (
        records.are_kept, records.letters_are_complete, examples.are_complete,
        features.are_exact, features.are_counted, front_door.are_in_time, front_door.are_there,
        consents.are_told, consents.are_learned_by, consents.are_kept_to,
    )  # fmt: skip
    first = orjson.loads(over_http.value or b"")["event_id"]
    ledger.promise(Promised("event", (first,), {"0": 10**6, "1": 10**6, "2": 10**6, "3": 10**6}, 0))
    assert not [found for promise in judged for found in promise(aftermath())]

    with producing(settings) as producer:  # a refusal that no worker has reason for, and an acknowledgement of nothing
        put(producer, ledger, prefix, writer.single(now_ms())._replace(expect=("schema",)))
    ledger.acknowledged("event", EVENTS.name, (0, 10**6), b"x", "test")
    ledger.promise(Promised("event", ("never",), {}, 0))
    ledger.promise(Promised("event", (first,), {"0": -1}, 0))
    ledger.promise(Promised("link", ("u1", "guest1"), {}, 0))
    ledger.refused_ids.add(first)
    ledger.broken("gateway-1 hangs")
    folded_all(settings)
    said = ["event never: a gateway said 202", f"event {first}: it is at", "link u1 was guest1", "a gateway refused it"]
    assert all(want in found for want, found in zip(said, front_door.are_there(aftermath()), strict=True))
    assert list(front_door.are_in_time(aftermath())) == ["gateway-1 hangs"]
    assert "is not there" in next(records.are_kept(aftermath()))
    assert "dead-letters has none" in next(records.letters_are_complete(aftermath()))
    assert "an example of what was refused" in next(examples.are_complete(aftermath()))
    assert streams.stop() == 0
    with storing(settings) as store:
        store.erase()
    assert next(features.are_exact(aftermath()))
    assert "0 events are remembered" in next(features.are_counted(aftermath()))


def test_who_watches_a_list_hears_also_that_it_stays() -> None:
    stream = io.BytesIO(b'event: list\ndata: {"items":[]}\n\n' + 2 * b": same\n\n")
    assert list(islice(messages_of(cast(HTTPResponse, stream)), 3)) == [("list", {"items": []}), *[("same", {})] * 2]


@pytest.mark.parametrize(("role", "is_wrong"), [("gateway", False), ("serving", True)])
def test_a_gateway_whose_door_was_taken_since_it_was_drawn_gets_another(role: str, is_wrong: bool) -> None:
    said = "cannot listen on 127.0.0.1:14653 (Address already in use)"
    process = SimpleNamespace(exit_code=lambda: 2, log_tail=lambda _: said)
    part = CampaignWorker("one-1", role, cast(Any, process), Path("clock"))
    stack = SimpleNamespace(endings=[], wrong=[], _began_s=0.0)
    Stack._again(cast(Stack, stack), part)
    assert bool(stack.wrong) == is_wrong
    assert part.due_s is not None, "it is started again"
