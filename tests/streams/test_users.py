"""Attributes of users from the topic `users` to examples and to whoever reads features; erased with null."""

from __future__ import annotations

from collections.abc import Callable

from headwater import Client
from headwater.examples import Example, unpack
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, EXAMPLES, USERS
from headwater.wire import read_letter
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import event, records, send, send_raw, server_of, storing

Start = Callable[..., LiveWorker]


def taught(settings: Settings, user: str, n: int) -> Example:
    """The example of a user's event, when it is there."""

    def found() -> Example | None:
        every = [one for record in records(settings, EXAMPLES) for one in unpack(record.value)]
        time_ms = event(n).event_time
        return next(
            (one for one in every if isinstance(one, Example) and (one.user_id, one.target.time_ms) == (user, time_ms)),
            None,
        )

    eventually(found, 30, f"the example of event {n} of {user}")
    example = found()
    assert example is not None
    return example


def test_what_was_told_of_a_user_is_in_examples_and_features_until_it_is_erased(
    settings: Settings, worker: Start
) -> None:
    fields = {"context_fields": ("device",), "user_fields": ("plan", "born", "genres")}
    model = settings.model.model_copy(update=fields)
    one = worker("streams.worker", given=settings.model_copy(update={"model": model}))
    with Client(settings=settings.kafka) as client, storing(settings) as store:

        def reaches(user: str, attributes: dict[str, object]) -> None:
            eventually(lambda: store.read_users([user]).attributes_of([user]) == attributes, 30, str(attributes))

        send(settings, [event(0, "ada", properties={"device": "app", "page": 3})])
        first = taught(settings, "ada", 0)
        assert (first.context, first.attributes) == ({"device": "app"}, {})
        client.put_users([{"user_id": "ada", "attributes": {"plan": "family", "genres": ["noir"]}}, {"user_id": "bob"}])
        told = {"plan": "family", "genres": ("noir",)}
        reaches("ada", told)
        send(settings, [event(1, "ada")])
        assert taught(settings, "ada", 1).attributes == told
        assert store.read_users(["bob"]).attributes == {}

        client.put_users([{"user_id": "guest", "attributes": {"plan": "none", "born": 1990}}]).result(30)
        client.identify("ada", was="guest").result(30)
        reaches("ada", {**told, "plan": "none", "born": 1990.0})
        send(settings, [event(2, "guest")])
        assert taught(settings, "guest", 2).attributes == {**told, "plan": "none", "born": 1990.0}

        for value, key in ((b'{"user_id": "ada"}', b"bob"), (b'{"user_id": "ada", "age": 3}', b"ada"), (b"[", b"ada")):
            send_raw(settings, value, USERS, key=key)
        client.delete_users(["ada", "guest"]).result(30)
        reaches("ada", {})
        letters = [read_letter(record.headers) for record in records(settings, DEAD_LETTERS)]
        assert sorted(one.reason for one in letters if one) == ["key_mismatch", "schema", "undecodable"]
        assert one.metric("headwater_users_applied_total") == 5

        with server_of(settings) as server:
            server.set(f"{settings.kafka.prefix}a:ada", "what no worker wrote")
            send(settings, [event(3, "ada")])
            assert taught(settings, "ada", 3).attributes == {}
            eventually(lambda: not server.exists(f"{settings.kafka.prefix}a:ada"), what="the key is removed")
