"""No secret and no user id where it does not belong: canaries go in, and every log, message and metric is searched."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

import pytest
import redis
from pydantic import SecretStr
from typer.testing import CliRunner

from console.cli import app
from headwater import Client
from headwater.errors import InvalidMessage, SettingsError
from headwater.kafka import producer
from headwater.process.masks import UserMask, error_text, show_user_ids, traceback_text
from headwater.settings import KafkaSettings, Settings, load_settings
from headwater.topics import EVENTS, REQUESTS, topic_name
from tests.worlds.processes import LiveWorker, eventually

SECRET = "canary-pw:/?#@1"
USER = "canary-user-7f3a"


@pytest.mark.timeout(180)
def test_no_log_and_no_metric_of_a_worker_names_a_user(
    settings: Settings, worker: Callable[..., LiveWorker], redis_url: str
) -> None:
    streams, serving = worker("streams.worker", wait=False), worker("serving.worker", wait=False)
    events, requests = (topic_name(topic, settings.kafka.prefix) for topic in (EVENTS, REQUESTS))
    with Client(settings=settings.kafka) as client, producer(settings.kafka) as raw:
        client.track(USER, "film-1", "click").result()
        for value in (
            f'{{"user_id": "{USER}", "item_id": 5, "type": "click"}}',
            f'{{"user_id": "{USER}", "item_id": "a", "type": "{USER}!", "event_time": "{USER}"}}',
            f'[{{"user_id": "{USER}"}}, 7]',
            f"{USER} is no JSON",
        ):
            raw.send(events, value.encode(), key=USER.encode())
        raw.send(events, b'{"user_id": "bob", "item_id": "a", "type": "click"}', key=USER.encode())
        for value in (f'{{"user_id": "{USER}", "k": "{USER}"}}', f'{{"user_id": "{USER}", "surface": "{USER}"}}', USER):
            raw.send(requests, value.encode(), key=USER.encode())
        raw.flush()
        eventually(lambda: streams.metric("headwater_dead_letters_total") >= 5, 60, streams.tail)
        eventually(lambda: serving.metric("headwater_dead_letters_total") >= 2, 60, serving.tail)
        with redis.Redis.from_url(redis_url) as store:
            held = list(store.scan_iter(f"{settings.kafka.prefix}*{USER}*"))
            assert held, "the canary has a state"
            for key in held:
                store.set(key, b"junk of another program")
        client.recommend(USER, deadline_ms=20_000)
        client.track(USER, "film-2", "click").result()
        eventually(lambda: streams.metric("headwater_damaged_keys_total") >= 1, 30, streams.tail)
    for one in (streams, serving):
        metrics = one.get("/metrics")[1] + one.get("/readyz")[1]
        assert one.stop() == 0, one.tail()
        log = one.log.read_text()
        assert "dead letter" in log or one is streams
        for line in (log + metrics).splitlines():
            assert USER not in line, line
        assert '"key": "' not in log or ":user-" in log


def test_a_user_is_the_same_in_all_lines_of_a_process_and_another_in_the_next() -> None:
    one, other = UserMask(), UserMask()
    assert one("ann") == one("ann") != one("bob")
    assert one("ann") != other("ann")
    assert one("a\ud800b").startswith("user-")
    one.shown = True
    assert one("ann") == "ann"


def test_what_an_error_quotes_is_left_out_with_its_causes_unless_asked_for() -> None:
    try:
        try:
            {}[USER]
        except KeyError as error:
            raise InvalidMessage("schema", f"events[1]@2: key b'{USER}' is not user_id") from error
    except InvalidMessage as found:
        raised = found
    told = traceback_text(raised)
    assert USER not in told
    assert "KeyError: " in told
    assert "InvalidMessage: events[1]@2: key " in told
    show_user_ids(True)
    try:
        assert USER in error_text(raised)
    finally:
        show_user_ids(False)
    assert error_text(FileNotFoundError(2, "No such file", "/a")) == "[Errno 2] No such file: '/a'"


REFUSED = {
    "password": {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "ann"},
    "token": {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER", "sasl_token": SECRET},
    "both": {"sasl_token": SECRET},
    "unknown": {"sasl_pasword": SECRET},
    "malformed": {"ssl_keyfile_password": SECRET, "linger_ms": "x"},
}


@pytest.mark.parametrize(
    ("words", "how"),
    [*((["topics"], how) for how in REFUSED), (["tail", "events"], "password"), (["doctor"], "password")],
    ids=str,
)
def test_no_command_that_fails_to_get_in_tells_the_secret(
    words: list[str], how: str, kafka_address: str, redis_url: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    given = {"sasl_password": SECRET, **REFUSED[how]} if how != "token" else REFUSED[how]
    for name, value in given.items():
        monkeypatch.setenv(f"HEADWATER_KAFKA__{name.upper()}", value)
    monkeypatch.setenv("HEADWATER_KAFKA__BOOTSTRAP", kafka_address)
    monkeypatch.setenv("HEADWATER_REDIS__URL", redis_url)
    monkeypatch.setenv("HEADWATER_REDIS__PASSWORD", SECRET)
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    told = done.output + caplog.text
    if done.exception is not None:
        told += "".join(traceback.format_exception(done.exception))
    assert "canary" not in told
    assert done.exception is not None or done.output


@pytest.mark.parametrize("module", ["streams.worker", "serving.worker"])
def test_no_worker_that_fails_to_get_in_tells_the_secret(
    module: str, settings: Settings, worker: Callable[..., LiveWorker]
) -> None:
    redis_too = settings.redis.model_copy(update={"password": SecretStr(SECRET), "username": "ann"})
    one = worker(module, given=settings.model_copy(update={"redis": redis_too}), wait=False)
    assert one.process is not None
    eventually(lambda: one.process is not None and one.process.poll() is not None, 60, one.tail)
    assert one.process.poll() == 2, one.tail()
    assert "refuses us" in one.tail()
    assert "canary" not in one.log.read_text()


def test_settings_that_are_printed_show_no_secret() -> None:
    secrets = dict.fromkeys(("sasl_password", "sasl_token", "sasl_client_secret", "ssl_keyfile_password"), SECRET)
    kafka = KafkaSettings(**secrets)
    made = load_settings(kafka=kafka, redis={"url": f"redis://ann:{SECRET}@h:1", "sentinel_password": SECRET})
    for told in (repr(made), str(made), made.model_dump_json(), repr(made.kafka.model_dump())):
        assert "canary" not in told


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (("backup", "make", "s3://k:canary@b/x"), {}),
        (("backup", "make", "az://c/x?sig=canary"), {}),
        (("backup", "list", "https://user:canary/#@h/x"), {}),
        (("topics", "--kafka", "SASL://bob:canary@h:9092"), {}),
        (("topics",), {"HEADWATER_KAFKA__BOOTSTRAP": "h:1,SASL://bob:canary,x@h:9092"}),
    ],
    ids=str,
)
def test_an_address_with_a_login_is_refused_and_not_shown(
    words: tuple[str, ...], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SettingsError)
    assert "canary" not in done.output + "".join(traceback.format_exception(done.exception))


def test_a_password_on_a_command_line_is_refused() -> None:
    done = CliRunner().invoke(app, ["doctor", "--redis", "redis://ann:canary@127.0.0.1:1/0"])
    assert "which `ps` shows to everybody here" in str(done.exception)
    assert "canary" not in str(done.exception)
