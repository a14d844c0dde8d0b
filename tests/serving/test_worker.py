"""The serving worker as a process, on a real broker and a real store: every request gets its one answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from typer.testing import CliRunner

from console.cli import app
from headwater.events import Item, new_id
from headwater.kafka import consumer
from headwater.kafka.groups import commit_offsets
from headwater.recommendations import AFTER_NOT_REACHED, EXACT
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, REQUESTS, topic_name
from headwater.wire import IdentityRow
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.serving import CATALOGUE, World, clicked, items_of, put_trained_model, trained, walk
from tests.worlds.topic_reading import everything

Start = Callable[..., LiveWorker]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    one = World(settings)
    one.put_items(CATALOGUE)
    yield one
    one.close()


@pytest.fixture
def serving(world: World, worker: Start) -> LiveWorker:
    put_trained_model(world)
    return worker("serving.worker")


@pytest.mark.usefixtures("serving")
def test_a_user_gets_what_follows_her_history_with_a_full_receipt(world: World) -> None:
    answer = world.recommend(k=3, explain=True, why_not="film-2")
    assert items_of(answer)[0] == "film-4"
    assert not set(items_of(answer)) & {"film-2", "film-3"}
    assert [item.rank for item in answer.items] == [1, 2, 3]
    assert any("because you clicked Film-" in reason for reason in answer.items[0].reasons)
    assert {one.item_id for one in answer.items[0].because} == {"film-2", "film-3"}
    assert all(math.fsum(item.contributions.values()) == pytest.approx(item.score, rel=1e-14) for item in answer.items)
    assert answer.why_not is not None
    assert (answer.why_not.item_id, answer.why_not.stage) == ("film-2", "excluded")
    kafka, redis = world.settings.kafka, world.settings.redis
    where = ["--kafka", kafka.bootstrap, "--redis", redis.url.get_secret_value(), "--prefix", kafka.prefix]
    told = CliRunner().invoke(app, ["recommend", "ann", "-k", "3", "--explain", "--why-not", "film-9", *where])
    assert told.exit_code == 0, told.output
    assert "film-9: It ranks " in told.output
    assert "the list's last item has more of: memory" in told.output
    receipt = answer.receipt
    assert (receipt.model_version, receipt.history_length, receipt.fallback) == (1, 2, None)
    assert receipt.model_digest
    assert receipt.feature_offsets == {"0": 0}
    assert receipt.feature_age_ms is not None
    assert receipt.feature_age_ms >= 0
    assert receipt.weight_age_ms is not None
    assert receipt.weight_age_ms >= 0
    assert receipt.learned_age_ms is not None
    assert receipt.counted_age_ms == receipt.learned_age_ms - 1
    assert receipt.timings_ms.keys() == {"queue", "features", "score", "rules", "total"}


@pytest.mark.usefixtures("serving")
def test_a_user_without_history_gets_popular_items_and_the_receipt_says_so(world: World) -> None:
    answer = world.recommend("nobody", k=4)
    assert set(items_of(answer)[:2]) == {"film-2", "film-3"}  # the only items that the store has counted
    assert len(answer.items) == 4
    assert answer.receipt.fallback == "no_history"


@pytest.mark.usefixtures("serving")
def test_a_user_of_whose_items_the_model_knows_none_gets_what_is_popular_now_and_the_receipt_says_so(
    world: World,
) -> None:
    world.put_history("dora", clicked("novelty-1"))
    world.put_history("emil", clicked("novelty-2"))
    answer = world.recommend("dora", k=5, exclude_seen=["*"])  # the first request of all: nothing is cached
    assert items_of(answer)[0] in {"novelty-2", "film-2", "film-3"}
    assert "novelty-2" in items_of(answer)
    assert "novelty-1" not in items_of(answer)
    assert (answer.receipt.fallback, answer.receipt.history_length) == ("unknown_history", 1)
    assert answer.receipt.popular_offsets == {"0": 2}
    world.put_history("fay", clicked("novelty-3"))
    eventually(lambda: "novelty-3" in items_of(world.recommend("dora", k=5)), what="popularity read again")


def test_a_shop_opens_with_the_newest_of_its_catalogue_and_goes_on_with_what_is_popular(
    world: World, worker: Start
) -> None:
    world.put_items([Item(item_id="a-new"), Item(item_id="older", published_time=1)])
    worker("serving.worker")
    first = world.recommend("bob", k=100, explain=True)
    assert (items_of(first)[0], items_of(first)[-1], len(first.items)) == ("a-new", "older", len(CATALOGUE) + 2)
    assert (first.receipt.fallback, first.items[0].reasons) == ("no_events", ("in the catalogue",))
    world.put_history("ann", clicked("film-5"))
    odd = {"categories": "odd"}
    eventually(lambda: items_of(world.recommend("bob", k=3, filters=odd))[0] == "film-5", what="popularity read")
    assert world.recommend("bob", k=3).receipt.fallback == "no_model"
    assert items_of(world.recommend("ann", k=1)) != ["film-5"]


@pytest.mark.usefixtures("serving")
def test_the_reply_goes_where_the_asker_listens_with_its_correlation_id(world: World) -> None:
    headers = [("reply-partition", b"5"), ("correlation-id", b"mine")]
    for wanted in (headers, [("reply-partition", b"99")], [("reply-partition", b"x")]):
        world.answer(world.ask(headers=wanted))
    assert world.partitions[0] == 5
    assert world.headers[0]["correlation-id"] == b"mine"
    assert world.headers[1]["correlation-id"].decode() == world.answers[1].request_id


@pytest.mark.usefixtures("serving")
def test_bad_requests_are_refused_by_name_and_the_worker_lives(world: World) -> None:
    expected = {
        world.ask(k=0): ("schema", "greater than or equal to 1"),
        world.ask(k=10**9): ("schema", "less than or equal to 1000"),
        world.ask(filters={"yaer": 1990}): ("unknown_field", "Known fields: categories, year"),
        world.ask(filters={"year": {"above": 1990}}): ("bad_filter", "gte"),
        world.ask(deadline_ms=5, request_time=int(time.time() * 1000) - 60_000): ("expired", "deadline_ms is 5"),
        world.ask(after={"first": 1}): ("schema", "after.first"),
        world.ask(colour="red"): ("schema", "colour"),
    }
    for request_id, (code, text) in expected.items():
        error = world.answer(request_id).error
        assert error is not None
        assert error.code == code
        assert text in error.message
    assert items_of(world.recommend(k=1)) == ["film-4"]


def test_undecodable_requests_are_dead_letters_and_their_asker_is_told(world: World, serving: LiveWorker) -> None:
    world.send(REQUESTS, b"\xff\x00 no json", b"ann", [("correlation-id", b"lost-one")])
    world.send(REQUESTS, b"[1]", None)
    world.send(REQUESTS, None, b"ann")
    world.send(REQUESTS, b'{"user_id": "ann", "request_id": ""}', b"ann")
    error = world.answer("lost-one").error
    assert error is not None
    assert error.code == "undecodable"
    eventually(lambda: serving.metric("headwater_dead_letters_total") == 4, what="four dead letters")
    from headwater.kafka import consumer

    letters = consumer(world.settings.kafka)
    try:
        letters.subscribe([world.topic(DEAD_LETTERS)])
        found: list[str] = []

        def all_there() -> bool:
            for records in letters.poll(timeout_ms=100).values():
                found.extend(dict(record.headers)["reason"].decode() for record in records)
            return len(found) == 4

        eventually(all_there)
        assert sorted(found) == ["null_value", "schema", "schema", "undecodable"]
    finally:
        letters.close()
    assert items_of(world.recommend(k=1)) == ["film-4"]


def test_requests_that_are_refused_again_after_a_redrive_are_not_sent_a_third_time(
    world: World, serving: LiveWorker
) -> None:
    world.send(REQUESTS, b"\xff\x00 no json", b"ann", [("correlation-id", b"lost-one"), ("reply-partition", b"1")])
    world.send(REQUESTS, b"[1]", b"ann")
    eventually(lambda: serving.metric("headwater_dead_letters_total") == 2, what="two dead letters")
    where = ["--kafka", world.settings.kafka.bootstrap, "--prefix", world.settings.kafka.prefix]
    done = CliRunner().invoke(app, ["dead-letters", "redrive", *where])
    assert "2 dead letters sent again" in done.output, done.output
    eventually(lambda: serving.metric("headwater_dead_letters_total") == 4, what="four dead letters")
    again = CliRunner().invoke(app, ["dead-letters", "redrive", *where])
    assert "0 dead letters to send again" in again.output, again.output
    assert "2 left out: sent again before and refused again" in again.output
    first, _, *newer = everything(world.settings.kafka, "dead-letters")
    had = dict(first.headers)
    (kept,) = [kept for kept in (dict(letter.headers) for letter in newer) if "correlation-id" in kept]
    assert (kept["correlation-id"], kept["reply-partition"]) == (b"lost-one", b"1")
    asked = {(one.partition, one.offset): one.timestamp for one in everything(world.settings.kafka, "requests")}
    place = int(had["source-partition"]), int(had["source-offset"])
    assert had["source-timestamp"] == str(asked[place]).encode()


@pytest.mark.usefixtures("serving")
def test_context_recent_events_and_candidates_count_for_one_answer_and_a_link_until_it_is_taken_away(
    world: World,
) -> None:
    assert items_of(world.recommend("new", k=1, context_item="film-7", exclude_seen=[])) == ["film-8"]
    strange = world.recommend("new", context_item="never seen")
    assert (strange.receipt.fallback, len(strange.items)) == ("unknown_history", 10)
    event = {"user_id": "new", "item_id": "film-5", "type": "click", "event_time": 1_700_000_000_000}
    recent = world.recommend("new", k=1, recent_events=[event])
    assert (items_of(recent), recent.receipt.history_length) == (["film-6"], 1)
    assert world.recommend("new", k=1).receipt.history_length == 0
    assert set(items_of(world.recommend(candidates=["film-9", "film-1", "unheard of"]))) == {"film-1", "film-9"}
    guest = [{**event, "user_id": "guest-7"}]
    merged = world.recommend("new", k=1, recent_events=guest, was="guest-7")
    assert (items_of(merged), merged.receipt.fallback) == (["film-6"], None)
    refusal = world.recommend("new", recent_events=guest).error
    assert refusal is not None
    assert (refusal.code, "say was: 'guest-7'" in refusal.message) == ("schema", True)

    world.put_history("guest-7", clicked("film-4"))
    at_once = world.recommend("new", k=1, was="guest-7")
    assert (items_of(at_once), at_once.receipt.people) == (["film-5"], {"guest-7": 1, "new": 0})
    assert world.recommend("new", k=1).receipt.history_length == 0
    word = IdentityRow("new", "guest-7", True, 1, 0, 3)
    world.store.put_links([word], 0, 3)
    for user in ("new", "guest-7"):
        answer = world.recommend(user, k=1, after_identities={"0": 3})
        assert (items_of(answer), answer.receipt.history_events, answer.user_id) == (["film-5"], 1, user)
        assert answer.receipt.people == {"guest-7": 1, "new": 0}
    assert "after=not_reached" in world.recommend("new", after_identities={"0": 4}, deadline_ms=60_000).receipt.policy
    world.store.put_links([word._replace(linked=False, time_ms=2, offset=4)], 0, 4)
    assert (receipt := world.recommend("new").receipt).history_length == 0
    assert receipt.people == {}

    click = {"item_id": "film-4", "type": "click"}
    alone = world.answer(world.ask(None, recent_events=[click], k=1))
    assert (items_of(alone), alone.user_id, alone.receipt.fallback) == (["film-5"], None, None)
    session = world.answer(world.ask(None, session_id="guest-7", k=1))
    assert (items_of(session), session.user_id, session.receipt.history_events) == (["film-5"], "guest-7", 1)
    page = world.answer(world.ask(None, context_item="film-4", k=1))
    assert (items_of(page), page.user_id) == (["film-5"], None)
    nobody = world.answer(world.ask(None)).error
    assert nobody is not None
    assert "session_id" in nobody.message


@pytest.mark.usefixtures("serving")
def test_an_item_is_in_everybodys_next_answer_before_anybody_has_touched_it(world: World) -> None:
    assert world.recommend().receipt.fallback is None
    world.put_items([Item(item_id="premiere", categories=("breaking",), attributes={"live": True})])
    breaking = {"categories": "breaking", "live": "true"}

    def found() -> bool:
        answer = world.recommend("nobody", filters=breaking)
        return answer.error is None and items_of(answer) == ["premiere"]

    eventually(found, what="the item in the catalogue")
    for user in ("ann", "nobody"):
        assert items_of(world.recommend(user, filters=breaking)) == ["premiere"]
        assert set(items_of(world.recommend(user, candidates=["premiere", "film-9"]))) == {"premiere", "film-9"}
    assert items_of(world.recommend("ann", k=100))[-1] == "premiere"


def test_a_request_waits_for_its_own_events_and_holds_up_nobody(
    world: World, serving: LiveWorker, worker: Start
) -> None:
    patient = world.settings.model_copy(
        update={"serving": world.settings.serving.model_copy(update={"after_wait_ms": 20_000})}
    )
    serving.stop()
    worker("serving.worker", given=patient)
    waiting = world.ask(k=1, after={"0": 1})
    assert items_of(world.recommend(k=1)) == ["film-4"]
    assert not [answer for answer in world.answers if answer.request_id == waiting]
    assert world.put_history("ann", clicked("film-6", "film-7", "film-8")) == 1
    answer = world.answer(waiting)
    assert items_of(answer) == ["film-9"]
    assert answer.receipt.feature_offsets == {"0": 1}
    assert answer.receipt.policy == (EXACT,)


@pytest.mark.usefixtures("serving")
def test_a_wait_that_is_in_vain_ends_in_an_answer_that_says_so(world: World) -> None:
    answer = world.recommend(k=1, after={"0": 99, "7": 1})
    assert items_of(answer) == ["film-4"]
    assert AFTER_NOT_REACHED in answer.receipt.policy
    assert answer.receipt.timings_ms["queue"] >= world.settings.serving.after_wait_ms * 0.9


def test_a_request_sent_twice_has_one_effective_answer(world: World, serving: LiveWorker) -> None:
    request_id = new_id()
    for _ in range(2):
        world.ask(request_id=request_id, k=5)
    world.answer(request_id)
    world.put_history("ann", clicked("film-2", "film-3", "film-8"))
    world.ask(request_id=request_id, k=5)

    def three() -> bool:
        world.poll()
        return len(world.answers) == 3

    eventually(three)
    assert len({answer.model_dump_json() for answer in world.answers}) == 1
    assert serving.metric("headwater_duplicate_requests_total") == 2
    assert not serving.has_loaded("libtorch"), "it costs a second of every start and 200 MB"


def test_what_another_process_answered_and_did_not_commit_goes_out_again_as_it_was(
    world: World, serving: LiveWorker, worker: Start
) -> None:
    asked = [world.ask(k=5, user="ann" if n % 2 else "stranger") for n in range(20)]
    first = {request_id: world.answer(request_id).model_dump_json() for request_id in asked}
    assert serving.stop() == 0
    world.put_history("ann", clicked("film-2", "film-3", "film-8"))
    with closing(consumer(world.settings.kafka)) as reader:
        begin = dict.fromkeys(reader.partitions_for_topic(topic_name(REQUESTS, world.settings.kafka.prefix)) or (), 0)
    commit_offsets(world.settings.kafka, "serving", {REQUESTS.name: begin})  # as if it had been killed
    world.answers.clear()
    second = worker("serving.worker")
    new = world.ask(k=5)

    def again() -> bool:
        world.poll()
        return len(world.answers) == len(asked) + 1

    eventually(again)
    assert {one.request_id: one.model_dump_json() for one in world.answers if one.request_id != new} == first
    assert second.metric("headwater_duplicate_requests_total") == len(asked)


def test_deltas_change_the_answers_and_a_corrupt_bundle_changes_nothing(world: World, serving: LiveWorker) -> None:
    learner = trained()
    world.announce(learner.publish(created_ms=1))  # the same version again: nothing to load
    for number in range(30):
        walk(learner, f"jumper-{number}", ["film-3", "film-11", "film-3", "film-11"], 9000 + number * 10)
    world.publish_delta(learner.publish(created_ms=2))
    eventually(lambda: serving.metric("headwater_model_version") == 2, what="the delta applied")
    assert world.recommend(k=1).receipt.model_version == 2
    assert items_of(world.recommend(k=1)) == ["film-11"]
    world.announce(learner.publish(created_ms=3, full=True), corrupt="weights")
    eventually(lambda: serving.metric("headwater_model_refused_total") == 1, what="the bundle refused")
    assert world.recommend(k=1).receipt.model_version == 2
    world.announce(learner.publish(created_ms=4, full=True))
    eventually(lambda: serving.metric("headwater_model_version") == 4, what="the next bundle loaded")
