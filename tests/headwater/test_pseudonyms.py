"""Pseudonyms: what a Client sends in the place of its users' ids, and how it goes on when the key is another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from headwater import Client, Event, InvalidMessage, SettingsError, User
from headwater.kafka import read_topic
from headwater.privacy.pseudonyms import PseudonymKey, Pseudonyms, new_key_line, pseudonyms_of, read_keys
from headwater.settings import PrivacySettings, Settings
from headwater.topics import ERASURES, EVENTS, IDENTITIES, REQUESTS, USERS, Topic
from headwater.wire import decode_request

OLD, NEW = f"k1 {'1' * 64}\n", f"k2 {'2' * 64}\n"
SECRETS = ("ann", "guest-7", "session-9")


def with_keys(settings: Settings, text: str) -> Settings:
    return settings.model_copy(update={"privacy": PrivacySettings(pseudonym_keys=text)})


@pytest.fixture
def both(settings: Settings) -> Iterator[tuple[Client, Pseudonyms]]:
    """A client after a rotation, and its pseudonyms."""
    made = with_keys(settings, OLD + NEW)
    with Client(settings=made) as client:
        yield client, pseudonyms_of(made.privacy) or pytest.fail("none")


def said(settings: Settings, topic: Topic) -> list[tuple[str, Any]]:
    return [
        ((record.key or b"").decode(), orjson.loads(record.value or b"null"))
        for record in read_topic(settings.kafka, topic)
    ]


def links(settings: Settings) -> list[tuple[str, str, bool]]:
    return [(body["user_id"], body["was"], body["linked"]) for _, body in said(settings, IDENTITIES)]


def test_a_pseudonym_is_what_any_language_makes_of_the_same_key() -> None:
    import base64
    import hashlib
    import hmac

    key = bytes(range(32))
    mac = hmac.new(key, b"headwater user\0" + "zoë".encode(), hashlib.sha256).digest()[:16]
    text = base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert PseudonymKey("shop1", key).pseudonym("zoë") == f"p.shop1.{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none\n",
        "k1",
        "k1 12",
        f"K1 {'1' * 64}",
        f"k1 {'1' * 62}",
        f"k1 {'x' * 64}",
        OLD + OLD,
        f"k1 {'1' * 64} x",
    ],
)
def test_what_is_no_file_of_keys_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_keys(text, "keys.txt")
    assert "keys.txt" in str(refused.value)
    assert "11111" not in str(refused.value)


def test_a_new_key_is_the_newest_and_its_name_is_free() -> None:
    line = new_key_line(read_keys(f"k2 {'1' * 64}\n", "keys"))
    made = read_keys(f"k2 {'1' * 64}\n{line}", "keys")
    assert [key.key_id for key in made] == ["k2", "k3"]


def test_keys_come_from_a_file_too_and_without_any_nothing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# made in spring\n\n{OLD}")
    found = pseudonyms_of(PrivacySettings(pseudonym_keys_file=file))
    assert found is not None
    assert found.of("ann") == PseudonymKey("k1", b"\x11" * 32).pseudonym("ann")
    assert pseudonyms_of(PrivacySettings()) is None


def test_somebody_is_named_by_the_id_or_by_a_pseudonym() -> None:
    found = Pseudonyms(read_keys(OLD + NEW, "keys"))
    new, old = found.of("ann"), found.former("ann")[0]
    assert found.named("ann") == (new, old)
    assert found.named(old) == (old,)
    stranger = new.replace("k2", "k9")
    assert stranger not in found.named(stranger)


def test_no_id_leaves_the_app(settings: Settings) -> None:
    with Client(settings=with_keys(settings, OLD)) as client:
        ann = client.pseudonym("ann")
        client.track("ann", "film-1", "click", session_id="session-9", event_id="e1")
        client.track_many(
            [
                Event(user_id="ann", item_id="film-2", type="click"),
                {"user_id": "guest-7", "item_id": "i", "type": "view"},
            ]
        )
        client.put_users([User(user_id="ann", attributes={"plan": "family"})])
        client.identify("ann", was="guest-7")
        client.forget_identity("ann", was="guest-7")
        recent = [{"item_id": "film-3", "type": "click"}]
        answers = [client.recommend_async("ann", was="guest-7", session_id="session-9", recent_events=recent)]
        answers += [client.recommend_async(session_id="session-9"), client.recommend_async(recent_events=recent)]
        client.forget_user("ann")
        client.delete_users(["guest-7"])
        client.flush()
    topics = (EVENTS, USERS, IDENTITIES, REQUESTS, ERASURES)
    found = {topic.name: said(settings, topic) for topic in topics}
    raw = [record for topic in topics for record in read_topic(settings.kafka, topic)]
    for record in raw:
        assert not any(one.encode() in (record.key or b"") + (record.value or b"") for one in SECRETS), record
        assert not any(one.encode() in value for one in SECRETS for _, value in record.headers), record
    events = [one for _, body in found[EVENTS.name] for one in (body if isinstance(body, list) else [body])]
    assert [one["user_id"] for one in events].count(ann) == 2
    assert [key for key, _ in found[ERASURES.name]] == [ann]
    asked = {body["user_id"] if "user_id" in body else body.get("session_id"): body for _, body in found[REQUESTS.name]}
    assert asked[ann]["recent_events"][0]["user_id"] == ann
    assert asked[client.pseudonym("session-9")]["session_id"] == events[0]["session_id"]
    assert asked[None]["recent_events"][0]["user_id"] == "guest"


def test_what_is_refused_is_refused_as_it_was(settings: Settings) -> None:
    with Client(settings=with_keys(settings, OLD)) as client:
        for odd in ("", "a" * 257, "\ud800", None, 7):
            with pytest.raises(InvalidMessage):
                client.track(odd, "film-1", "click")  # type: ignore[arg-type]
            with pytest.raises(InvalidMessage):
                client.pseudonym(odd)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessage):
            client.identify("ann", was="ann")
        client.track(b"ann", "film-1", "click").result(30)  # type: ignore[arg-type]  # pydantic takes bytes for text
        assert said(settings, EVENTS)[0][0] == client.pseudonym("ann")


def test_with_another_key_a_user_is_linked_once_and_replaced_and_forgotten_under_all_names(
    settings: Settings, both: tuple[Client, Pseudonyms]
) -> None:
    client, pseudonyms = both
    new, old = pseudonyms.of("ann"), pseudonyms.former("ann")[0]
    client.track_many({"user_id": "ann", "item_id": f"film-{one}", "type": "click"} for one in range(5))
    client.put_users([{"user_id": "ann", "attributes": {"plan": "family"}}])
    client.flush()
    assert links(settings) == [(old, new, True)]
    assert [key for key, _ in said(settings, EVENTS)] == [""]
    assert said(settings, USERS) == [(new, {"user_id": new, "attributes": {"plan": "family"}}), (old, None)]
    client.forget_user("ann")
    client.delete_users(["ann"])
    client.flush()
    assert [key for key, _ in said(settings, ERASURES)] == [new, old]
    assert said(settings, USERS)[2:] == [(new, None), (old, None)]


def test_who_only_asks_says_in_the_request_what_the_user_was_called(
    settings: Settings, both: tuple[Client, Pseudonyms]
) -> None:
    client, pseudonyms = both
    client.recommend_async("ann", request_id="r1")
    client.recommend_async("ann", request_id="r2", was="guest-7")
    client.recommend_async(surface="home", request_id="r3")
    client.recommend_async("guest", request_id="r4", recent_events=[{"item_id": "film-1", "type": "click"}])
    client.flush()
    for record in read_topic(settings.kafka, REQUESTS):
        decode_request(record.value)
    asked = {body["request_id"]: body.get("was") for _, body in said(settings, REQUESTS)}
    assert asked == {
        "r1": pseudonyms.former("ann")[0],
        "r2": pseudonyms.of("guest-7"),
        "r3": None,
        "r4": pseudonyms.former("guest")[0],
    }
    assert links(settings) == []


def test_a_login_after_a_rotation_is_one_of_all_names_and_can_be_taken_back(
    settings: Settings, both: tuple[Client, Pseudonyms]
) -> None:
    client, pseudonyms = both
    ann, guest = ((pseudonyms.of(one), *pseudonyms.former(one)) for one in ("ann", "guest-7"))
    position = client.identify("ann", was="guest-7").result(30)
    told = links(settings)
    assert set(told) == {(ann[1], ann[0], True), (guest[1], guest[0], True)} | {
        (one, other, True) for one in ann for other in guest
    }
    assert told[position.offset] == told[-1] == (ann[0], guest[0], True)
    client.forget_identity("ann", was="guest-7").result(30)
    assert {one[:2] for one in links(settings) if not one[2]} == {(one, other) for one in ann for other in guest}
