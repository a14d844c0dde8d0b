"""The audit of takedowns finds each answer that knew better, and accuses none that did not."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from console.cli import app
from headwater.events import Item
from headwater.kafka import producer
from headwater.recommendations import Receipt, Recommendation, RecommendedItem
from headwater.settings import Settings
from headwater.topics import ITEMS, RECOMMENDATIONS, topic_name
from headwater.wire import encode
from replay.audits import TakedownAudit, Takedowns

NOW_MS = 1_764_000_000_000
Said = tuple[str, Item | None]


def put(item_id: str, **fields: object) -> Said:
    return item_id, Item.model_validate({"item_id": item_id, **fields})


def answer(known: int | None, *items: str, at_ms: int = NOW_MS) -> bytes:
    listed = tuple(RecommendedItem(item_id=one, rank=rank + 1, score=1.0) for rank, one in enumerate(items))
    receipt = Receipt(catalogue_offsets={} if known is None else {"0": known})
    return encode(Recommendation(request_id="r1", user_id="ann", items=listed, answered_time=at_ms, receipt=receipt))


def audited(items: list[Said], *answers: bytes | None, written_ms: int = NOW_MS) -> TakedownAudit:
    takedowns = Takedowns()
    for offset, (item_id, item) in enumerate(items):
        takedowns.read_item(0, offset, written_ms, item_id.encode(), None if item is None else encode(item))
    for offset, value in enumerate(answers):
        takedowns.read_answer(3, offset, value)
    return takedowns.found


def test_an_answer_may_hold_what_was_taken_down_after_what_it_knew() -> None:
    items: list[Said] = [put("a"), put("b"), ("a", None), put("b", available=False), put("a"), put("b")]
    fine = [(0, "a"), (1, "a", "b"), (2, "b"), (3,), (4, "a"), (5, "a", "b"), (None, "a")]
    assert audited(items, *(answer(*one) for one in fine)).ok
    for known, item_id, told in ((2, "a", "removed by items[0]@2"), (3, "b", "made unavailable by items[0]@3")):
        found = audited(items, answer(1, "a", "b"), answer(known, "x", item_id))
        assert (found.ok, found.offences_found, found.answers, found.listed) == (False, 1, 2, 4)
        assert str(found.offences[0]) == (
            f"recommendations[3]@1, request 'r1' for 'ann': '{item_id}' at 2, {told}; the receipt names offset {known}"
        )


def test_what_expires_may_be_listed_until_then() -> None:
    items = [put("a", expires_time=NOW_MS), put("b", attributes={"expires_time": "2099-01-01T00:00:00Z"})]
    assert audited(items, answer(1, "a", "b", at_ms=NOW_MS - 1)).ok
    found = audited(items, answer(1, "a", "b", at_ms=NOW_MS))
    assert [(one.item_id, one.why) for one in found.offences] == [
        ("a", f"expired since {NOW_MS} by items[0]@0; the receipt names offset 1")
    ]


def test_what_the_logs_do_not_tell_is_counted_and_accuses_nobody() -> None:
    assert audited([("a", None)], answer(9, "a")).not_judged == {
        "the receipt names an offset that items does not have": 1
    }
    older = audited([("a", None)], answer(0, "a"), written_ms=NOW_MS + 3_600_000)
    assert (older.ok, older.not_judged) == (True, {"the answer is older than items": 1})
    takedowns = Takedowns()
    takedowns.read_item(0, 0, NOW_MS, b"a", None)
    takedowns.read_item(1, 0, NOW_MS, *(one.encode() for one in ("a", '{"item_id": "a"}')))
    takedowns.read_answer(0, 0, answer(0, "a"))
    assert takedowns.found.not_judged == {"its records are in several partitions of items": 1}


def test_bad_records_change_nothing_and_are_counted() -> None:
    takedowns = Takedowns()
    records = [(b"a", None), (b"a", b'{"item_id": "a", "what": 1}'), (None, b"{}"), (b"\xff", None)]
    for offset, (key, value) in enumerate(records):
        takedowns.read_item(0, offset, NOW_MS, key, value)
    for value in (None, b"no json", b"[]", answer(3, "a")):
        takedowns.read_answer(0, 0, value)
    found = takedowns.found
    assert (found.unreadable_items, found.unreadable, found.offences_found) == (3, 3, 1)
    assert "removed by items[0]@0" in found.offences[0].why


@pytest.mark.any_broker
def test_the_command_names_the_answer_and_exits_with_1(settings: Settings) -> None:
    kafka = settings.kafka
    where = ["audit", "takedown", "--kafka", kafka.bootstrap, "--prefix", kafka.prefix]
    with_items, with_answers = (topic_name(topic, kafka.prefix) for topic in (ITEMS, RECOMMENDATIONS))
    sender = producer(kafka, linger_ms=0)
    sender.send(with_items, encode(Item(item_id="a")), key=b"a", partition=0)
    sender.send(with_answers, answer(0, "a"), partition=2)
    sender.flush()
    told = CliRunner().invoke(app, where)
    assert (told.exit_code, told.output) == (
        0, "1 answers with 1 items; 0 items were removed, unavailable or due to expire at some time: ok\n",
    )  # fmt: skip
    sender.send(with_items, None, key=b"a", partition=0)
    sender.send(with_answers, answer(1, "b", "a", at_ms=int(time.time() * 1000)), partition=2)
    sender.close()
    told = CliRunner().invoke(app, where)
    assert told.exit_code == 1
    assert "recommendations[2]@1, request 'r1' for 'ann': 'a' at 2, removed by items[0]@1; the receipt" in told.output
    (named,) = json.loads(CliRunner().invoke(app, [*where, "--json"]).output)["named"]
    assert (named["item_id"], named["rank"], named["answer_at"]) == ("a", 2, "recommendations[2]@1")
