"""`replay explain`: past answers are rebuilt from the logs byte for byte, and what differs or is missing is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from typer.testing import CliRunner

from console.cli import app
from headwater.errors import SourceError, Unavailable
from headwater.events import Item
from headwater.examples import Example, unpack
from headwater.identities import Identity
from headwater.recommendations import Receipt, Recommendation
from headwater.settings import Settings
from headwater.surfaces import Surface, SurfaceKind
from headwater.topics import IDENTITIES, SURFACES, USERS
from headwater.users import User
from headwater.wire import encode
from models.config import model_config
from models.learner import Learner
from replay.explain.answer import Explanation, explain_answer, explain_id, read_answer
from replay.explain.log import attributes_at, find_request
from replay.explain.model import PASSED_OVER, from_deltas, learned_anew
from tests.worlds.example_logs import SMALL_MODEL, append, ring_examples, ring_records
from tests.worlds.processes import environment, eventually
from tests.worlds.replay import Replayed, replayed, walks
from trainer.examples_log import Progress

EVENTS = 900
NOW: dict[str, Any] = {"type": "click", "event_time": 1_700_000_900_000}

DRAWN: dict[str, Any] = {"explore": {"temperature": 0.5, "epsilon": 0.1, "new_items": 0.2}, "diversity": 0.3}
PINNED = Surface.model_validate({**DRAWN, "max_per": {"categories": 4}, "pins": [{"item_id": "film-3", "place": 2}]})

QUESTIONS: dict[str, dict[str, Any]] = {
    "plain": {"user": "user-1"},
    "reasons": {"user": "user-2", "explain": True, "k": 5},
    "filters": {"user": "user-3", "filters": {"categories": "odd", "year": {"gte": 1995}}, "explain": True},
    "candidates": {"user": "user-4", "candidates": ["film-1", "film-2", "film-3", "nothing"], "exclude": ["film-2"]},
    "context": {"user": "user-5", "context_item": "film-7", "explain": True},
    "seen": {"user": "user-6", "exclude_seen": ["rating"], "k": 24},
    "stranger": {"user": "nobody", "explain": True},
    "everything": {"user": "nobody", "k": 100, "filters": {"categories": "even"}},
    "unknown": {"user": "nobody", "context_item": "nothing", "explain": True},
    "recent": {"user": "nobody", "recent_events": [{"user_id": "nobody", "item_id": "film-3", **NOW}]},
    "guest": {"user": "nobody", "was": "guest", "recent_events": [{"user_id": "guest", "item_id": "film-3", **NOW}]},
    "login": {"user": "user-3", "was": "user-4"},
    "one person": {"user": "user-9", "explain": True},
    "no id": {"user": None, "recent_events": [{"item_id": "film-3", **NOW}, {"item_id": "film-4", **NOW}]},
    "session": {"user": None, "session_id": "user-11"},
    "no times": {"user": "user-8", "recent_events": [{"item_id": "film-3", "type": "click"}]},
    "cold": {"user": "user-7", "k": 100, "explain": True},
    "drawn": {"user": "user-1", "overrides": {**DRAWN, "shares": [{"filters": {"categories": "even"}, "least": 0.5}]}},
    "surface": {"user": "user-2", "surface": "home", "overrides": {"k": 7, "diversity": 0.4}, "explain": True},
    "by draws": {"user": "user-1", "overrides": {"explore": {"by": "thompson", "temperature": 9}, "diversity": 0.2}},
    "drawn cold": {"user": "nobody", "overrides": DRAWN, "k": 60},
    "cold filter": {"user": "user-8", "filters": {"categories": {"not": ["odd", "even"]}}, "exclude_seen_days": 3},
    **{f"kind {kind}": {"user": "user-2", "surface": kind, "explain": True} for kind in get_args(SurfaceKind)},
    "by nobody": {"user": "nobody", "surface": "because-you"},
    **{f"dealt {user}": {"user": user, "surface": "tried"} for user in ("user-1", "user-2", "user-3")},
    "page": {"user": None, "context_item": "film-5", "surface": "similar", "overrides": {"diversity": 0.4}},
    "drawn rows": {"user": "user-4", "surface": "because-you", "overrides": {"explore": {"temperature": 1}, "k": 3}},
}
REBUILT = {"no events", "no model", "kind popular 0", "kind popular 1"}
REBUILT |= {f"{name} {place % 2}" for place, name in enumerate(QUESTIONS)}
"""Of each question the answer of one turn; of the surface that is changed between them, both."""

BY_KIND = {kind: Surface(kind=kind, k=6, filters={"year": {"gte": 1992}}) for kind in get_args(SurfaceKind)}
TRIED = Surface.model_validate(
    {"k": 4, "experiment": {"name": "x", "variants": {"long": {"share": 0.5, "overrides": {"k": 8}}}}}
)
COLD = [Item(item_id=f"cold-{n}", title=f"Film {n}", categories=("odd",) if n == 1 else ("new",)) for n in range(3)]


@pytest.fixture(scope="module")
def world(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    """A world that has answered every question twice while events flowed, and once before it had a model."""
    folder = tmp_path_factory.mktemp("explained")
    with replayed(kafka_address, redis_url, folder, publish_every_s=0.1, snapshot_every_s=2.0) as made:
        made.start("streams", "serving")
        made.put_catalogue()
        made.world.put_items(COLD)
        made.world.send(SURFACES, encode(PINNED), b"home")
        made.world.send(IDENTITIES, encode(Identity(user_id="user-9", was="user-10")), b"user-9")
        made.world.send(USERS, encode(User(user_id="user-2", attributes={"plan": "family", "born": 1990})), b"user-2")
        made.world.send(USERS, encode(User(user_id="user-10", attributes={"plan": "lone"})), b"user-10")
        events = walks(EVENTS)
        made.answers = {"no events": made.world.recommend("user-1", explain=True, k=50)}
        made.send(events[:100])
        made.answers["no model"] = eventually(
            lambda: next(filter(_without_model, [made.world.recommend("user-1", explain=True)]), None)
        )
        made.start("trainer")
        eventually(lambda: made.world.recommend("user-1").receipt.model_examples, 60, "a model that has learned")
        sending = threading.Thread(target=lambda: made.send(events[100:], "100/s"))
        sending.start()
        for name, surface in BY_KIND.items():
            made.world.send(SURFACES, encode(surface), name.encode())
        made.world.send(SURFACES, b'{"kind": "nonsense"}', b"new")
        made.world.send(SURFACES, encode(TRIED), b"tried")
        for name in (*BY_KIND, "tried"):
            eventually(lambda name=name: made.world.recommend("user-1", surface=name).error is None, what=name)
        for turn in range(2):  # asked at once, so answered in batches
            asked = {name: made.world.ask(**fields) for name, fields in QUESTIONS.items()}
            made.answers |= {f"{name} {turn}": made.world.answer(request_id) for name, request_id in asked.items()}
            shorter = BY_KIND["popular"].changed({"k": 2})
            made.world.send(SURFACES, encode(shorter), b"popular")
            eventually(lambda: len(made.world.recommend("user-1", surface="popular").items) == 2, what="a change")
        sending.join()
        learned = EVENTS - 100
        eventually(lambda: (made.world.recommend("user-1").receipt.model_examples or 0) > learned, 60, "a ranker")
        made.answers["told"] = made.world.recommend("user-2", explain=True)
        made.world.send(USERS, encode(User(user_id="user-2", attributes={"plan": "none"})), b"user-2")
        made.world.send(USERS, None, b"user-10")
        yield made


def _without_model(answer: Recommendation) -> bool:
    return answer.receipt.fallback == "no_model"


def test_every_answer_is_rebuilt_byte_for_byte(world: Replayed) -> None:
    versions = {answer.receipt.model_version for answer in world.answers.values()}
    assert len(versions) >= 2, versions
    for name in REBUILT:
        answer = world.answers[name]
        found = explain_answer(world.settings, answer)
        assert found.identical, (name, found.difference, found.model)
        assert encode(found.rebuilt) == encode(answer)
    for name, answer in world.answers.items():
        if name.startswith(("kind", "by nobody", "page", "drawn rows")):
            assert answer.receipt.surface in BY_KIND, name
            assert answer.items, name
        if name.startswith("dealt"):
            variant = answer.receipt.variant
            assert explain_answer(world.settings, answer).surface.endswith(f"variant {variant} of experiment x"), name
    assert {one.receipt.variant for one in world.answers.values()} == {None, "control", "long"}
    assert len(world.answers["kind popular 0"].items) == 6
    assert len(world.answers["kind popular 1"].items) == 2
    assert [row.because is not None for row in world.answers["kind because-you 1"].rows] == [True] * 3
    assert world.answers["no events"].receipt.fallback == "no_events"
    assert world.answers["stranger 0"].receipt.fallback == "no_history"
    for name in ("cold 1", "cold filter 1"):
        assert {item.item_id for item in world.answers[name].items} >= {"cold-0", "cold-2"}
        assert "cold=" in world.answers[name].receipt.policy[-1]
    assert world.answers["unknown 0"].receipt.fallback == "unknown_history"
    assert world.answers["plain 0"].receipt.fallback is None
    people = world.answers["one person 1"].receipt.people
    assert (people.keys(), min(people.values()) > 0) == ({"user-10", "user-9"}, True)
    assert world.answers["one person 1"].receipt.history_events == sum(people.values())
    assert world.answers["login 1"].receipt.people.keys() == {"user-3", "user-4"}
    assert world.answers["no id 1"].user_id is None


def test_an_answer_is_rebuilt_with_what_had_been_told_of_its_user_by_then(world: Replayed) -> None:
    for name, told in (("told", {"plan": "family", "born": 1990.0}), ("one person 1", {"plan": "lone"})):
        answer = world.answers[name]
        assert answer.receipt.user_offsets == {"0": 1}
        request = find_request(world.settings, answer)
        assert attributes_at(world.settings, request, answer.receipt) == (told, "")
        now = answer.receipt.model_copy(update={"user_offsets": {"0": 3}})
        assert attributes_at(world.settings, request, now) == ({"plan": "none"} if name == "told" else {}, "")
    now = world.answers["told"].receipt.model_copy(update={"user_offsets": {"0": 3}})
    assert explain_answer(world.settings, world.answers["told"].model_copy(update={"receipt": now})).difference


def test_what_was_drawn_by_chance_is_drawn_again_and_told(world: Replayed) -> None:
    for name in ("drawn 1", "surface 1", "drawn cold 1"):
        answer = world.answers[name]
        assert min(item.propensity for item in answer.items) < 1, name
        assert "drawn by chance, from the request's id" in explain_answer(world.settings, answer).surface
    answer = world.answers["surface 1"]
    assert answer.items[1].item_id == "film-3"
    said = f"home {answer.receipt.surface_version}, of the topic surfaces; "
    assert explain_answer(world.settings, answer).surface.startswith(said)
    world.world.send(SURFACES, encode(PINNED.changed({"diversity": 0.1})), b"home")
    assert explain_answer(world.settings, answer).identical
    dealt = world.answers["dealt user-1 1"]
    told = f"variant {dealt.receipt.variant} of experiment"
    of_before = dealt.receipt.model_copy(update={"experiment": "before"})
    with pytest.raises(SourceError, match=f"{told} before and is no longer.* {told} x"):
        explain_answer(world.settings, dealt.model_copy(update={"receipt": of_before}))
    receipt = answer.receipt.model_copy(update={"surface_version": "000000000000"})
    with pytest.raises(SourceError, match="version 000000000000 and is no longer"):
        explain_answer(world.settings, answer.model_copy(update={"receipt": receipt}))
    assert explain_answer(world.settings, world.answers["plain 1"]).surface == ""


def test_the_model_comes_from_deltas_or_is_learned_anew_where_no_bundle_is_left(
    world: Replayed, tmp_path: Path
) -> None:
    receipt = world.answers["plain 1"].receipt
    trainer = world.settings.trainer.model_copy(update={"bundles": tmp_path / "none", "directory": tmp_path / "none"})
    bare = world.settings.model_copy(update={"trainer": trainer})
    tried: list[str] = []
    for way, told in ((from_deltas, "the untrained model and "), (learned_anew, "learned anew")):
        found = way(bare, receipt, tried)
        assert found is not None, tried
        assert found[0].digest == receipt.model_digest
        assert told in found[1]


def test_a_record_that_is_no_surface_changes_nothing_and_is_told(
    world: Replayed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.answers["kind new 1"].receipt.surface_version == BY_KIND["new"].version
    for name, value in environment(world.settings).items():
        if name.startswith("HEADWATER_"):
            monkeypatch.setenv(name, value)
    run, path = CliRunner(), tmp_path / "short.toml"
    done = run.invoke(app, ["surfaces", "list", "--json"])
    told = orjson.loads(done.stdout)
    assert done.exit_code == 1
    assert ("surfaces[0]@" in told["refused"][0], "kind" in told["refused"][0]) == (True, True)
    assert told["surfaces"]["again"]["version"] == BY_KIND["again"].version
    path.write_text('k = 3\nkind = "popular"')
    done = run.invoke(app, ["surfaces", "set", str(path)])
    assert f"short: popular, version {Surface(kind='popular', k=3).version}, live" in done.output, done.output
    eventually(lambda: world.world.recommend("user-1", surface="short").items, what="a surface that was set")
    assert run.invoke(app, ["surfaces", "show", "short"]).output.count('"k": 3') == 1
    assert run.invoke(app, ["surfaces", "remove", "short"]).exit_code == 0
    request_ids: list[str] = []

    def is_gone() -> bool:
        request_ids.append(world.world.ask("user-1", surface="short"))
        error = world.world.answer(request_ids[-1]).error
        return error is not None and error.code == "unknown_surface"

    eventually(is_gone, what="a surface that was removed")
    path.write_text('kind = "nonsense"')
    assert "kind" in str(run.invoke(app, ["surfaces", "set", str(path)]).exception)
    for name, body in (("[/broken]", b'{"kind": "nonsense"}'), ("[/red]", b"{}"), ("x" * 300, b"{}")):
        world.world.send(SURFACES, body, name.encode())
        told = name if len(name) < 60 else "the key has 300 characters"
        assert told in run.invoke(app, ["surfaces", "list"]).output  # names are no markup of the terminal
        assert run.invoke(app, ["surfaces", "remove", name]).exit_code == 0
        assert told not in run.invoke(app, ["surfaces", "list"]).output


def test_an_answer_is_found_by_its_request_id(world: Replayed) -> None:
    answer = world.answers["context 1"]
    found: Explanation = explain_id(world.settings, answer.request_id)
    assert (found.identical, found.logged) == (True, answer)
    with pytest.raises(SourceError, match=r"no answer to request 'unheard-of'; it holds .* answers since 20"):
        explain_id(world.settings, "unheard-of")


@pytest.mark.parametrize("policy", ["exact", "exact after=not_reached", "exact after=not_reached reasons=left_out"])
def test_an_answer_of_an_older_release_is_rebuilt(world: Replayed, policy: str) -> None:
    body = world.answers["reasons 1"].model_dump(mode="json", exclude_none=True)
    body["receipt"]["policy"] = policy
    for item in body["items"]:
        item["propensity"] = 1.0
        if "left_out" in policy:
            item |= {"reasons": [], "contributions": {}, "because": []}
    found = explain_answer(world.settings, read_answer(orjson.dumps(body)))
    assert found.identical, found.difference
    assert found.rebuilt.receipt.policy == tuple(policy.split(" "))


def test_a_changed_answer_is_told_with_its_first_difference(world: Replayed) -> None:
    answer = world.answers["plain 1"]
    items = list(answer.items)
    items[2] = items[2].model_copy(update={"item_id": "film-other"})
    found = explain_answer(world.settings, answer.model_copy(update={"items": tuple(items)}))
    assert found.difference == (f'items[2].item_id: the log has "film-other", rebuilt is "{answer.items[2].item_id}"')


def test_what_is_missing_is_named(world: Replayed) -> None:
    answer = world.answers["plain 1"]

    def with_receipt(**fields: Any) -> Recommendation:
        return answer.model_copy(update={"receipt": answer.receipt.model_copy(update=fields)})

    with pytest.raises(SourceError, match=r"model .* cannot be rebuilt: .*learned anew give digest"):
        explain_answer(world.settings, with_receipt(model_digest="f" * 64))
    with pytest.raises(SourceError, match="does not say where its request is"):
        explain_answer(world.settings, with_receipt(request_at=None))
    with pytest.raises(SourceError, match="is this the world that answered it"):
        explain_answer(world.settings, answer.model_copy(update={"request_id": "another"}))
    with pytest.raises(SourceError, match="no offsets by partition"):
        explain_answer(world.settings, with_receipt(catalogue_offsets={"first": 3}))
    with pytest.raises(SourceError, match=r"5,000 were folded"):
        explain_answer(world.settings, with_receipt(history_events=5000))
    refused = world.world.answer(world.world.ask("user-1", filters={"colour": "red"}))
    with pytest.raises(SourceError, match=r"was refused \(unknown_field"):
        explain_answer(world.settings, refused)


def test_the_command_says_identical_or_what_differs(
    world: Replayed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(world.settings).items():
        if name.startswith("HEADWATER_"):
            monkeypatch.setenv(name, value)
    answer = world.answers["reasons 1"]
    run = CliRunner()
    done = run.invoke(app, ["replay", "explain", answer.request_id])
    assert done.exit_code == 0, done.output
    assert "identical" in done.output
    assert answer.items[0].item_id in done.output
    body = answer.model_dump(mode="json", exclude_none=True)
    body["items"][0]["score"] += 0.5
    (tmp_path / "receipt.json").write_bytes(orjson.dumps(body))
    done = run.invoke(app, ["replay", "explain", str(tmp_path / "receipt.json"), "--json"])
    assert done.exit_code == 1
    told = orjson.loads(done.stdout)
    assert (told["identical"], told["difference"].split(":")[0]) == (False, "items[0].score")
    done = run.invoke(app, ["replay", "explain", "-"], input=encode(answer).decode())
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("receipt", ["", "folder"])
def test_what_is_no_receipt_is_refused_before_kafka_is_asked(
    receipt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["replay", "explain", receipt, "--kafka", "127.0.0.1:1"])
    assert (done.exit_code, "request id" in " ".join(done.stderr.split())) == (2, True)


def test_a_request_id_may_be_longer_than_a_file_name() -> None:
    done = CliRunner().invoke(app, ["replay", "explain", "r" * 256, "--kafka", "127.0.0.1:1"])
    assert isinstance(done.exception, Unavailable)


def test_a_model_is_not_learned_anew_over_what_the_trainer_passed_over(settings: Settings) -> None:
    """The log has it again: a broker that was killed may forget that it was removed."""
    model = settings.model.model_copy(update={"overrides": SMALL_MODEL})
    small = settings.model_copy(update={"model": model})
    records = ring_records(100)
    append(small, records)
    receipts: list[Receipt] = []
    learner = Learner(model_config(model.given, settings.signals), settings.trainer.seed)
    for place in (0, 1, 3):
        learner.learn([entry for entry in unpack(records[place]) if isinstance(entry, Example)])
        made = learner.publish(created_ms=0, full=True)
        receipts.append(
            Receipt(model_version=place + 1, model_examples=learner.examples_seen, model_digest=made.digest)
        )
    later = settings.trainer.directory / "checkpoint-00000000000000000004.ckpt"
    later.parent.mkdir(parents=True, exist_ok=True)
    tried: list[str] = []
    for gap, known in (([2, 3, 0], 2), ([7, 0, 0], 0)):  # of this log; of one that was there before
        learner.learn(ring_examples(5))
        learner.save(later, {"progress": Progress(4, gaps=[gap]).to_json()})
        for receipt in receipts[:known]:
            found = learned_anew(small, receipt, tried)
            assert found is not None, tried
            assert found[0].digest == receipt.model_digest
        for receipt in receipts[known:]:
            assert learned_anew(small, receipt, tried) is None
            assert tried.pop().startswith(f"{PASSED_OVER} and went on at examples[0]@{gap[1]} instead of {gap[0]}, ")
