"""What no waiting mends is told in the server's own words, at once, with the setting to correct, and ends with 2."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, SaslAuthenticationFailedError
from pydantic import SecretStr

from embedded import free_port
from headwater import AccessDenied, Client, SettingsError, Unavailable
from headwater.kafka import admin_client, denied_topics, ensure_topics, existing_topic, producer
from headwater.process import EXIT_STALLED, EXIT_WRONG, passes, refusal
from headwater.settings import KafkaSettings, RedisSettings, Settings
from headwater.topics import EVENTS
from streams.features.store import FeatureStore
from tests.worlds.brokers import KIND, ApacheKafka
from tests.worlds.processes import ROOT

SCRAM = {
    "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ada",
    "sasl_password": "secret",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({**SCRAM, "sasl_mechanism": None}, r"kafka\.sasl_mechanism. Set HEADWATER_KAFKA__SASL_MECHANISM"),
        ({**SCRAM, "sasl_username": None, "sasl_password": None}, r"kafka\.sasl_username, kafka\.sasl_password\. Set"),
        ({"security_protocol": "SSL", "ssl_cafile": "/nowhere/ca.pem"}, r"/nowhere/ca\.pem: No such file"),
        ({"security_protocol": "SSL", "ssl_cafile": str(Path(__file__))}, "holds no certificates in PEM form"),
        ({"security_protocol": "SSL", "ssl_cafile": "/"}, "kafka.ssl_cafile /: "),
    ],
)
def test_settings_that_cannot_work_are_told_before_any_server_is_asked(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        producer(KafkaSettings(bootstrap="127.0.0.1:1", **given))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and its certificate for this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    key, made, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {made} -subj /CN=kafka".split()
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    both.write_text(key.read_text() + made.read_text())
    return both


@pytest.fixture
def tls_port(certificate: Path) -> Iterator[int]:
    """A port that speaks TLS and no Kafka."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    link, _ = listening.accept()
                except OSError:
                    return
                secured = context.wrap_socket(link, server_side=True, do_handshake_on_connect=False)
                with secured, contextlib.suppress(OSError):
                    try:
                        secured.do_handshake()
                    finally:  # what it says of a failure arrives only where all was read before the end
                        secured.shutdown(socket.SHUT_WR)
                        while socket.socket.recv(secured, 4096):
                            pass

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_a_certificate_that_is_not_trusted_is_told_with_its_reason(tls_port: int, certificate: Path) -> None:
    kafka = KafkaSettings(bootstrap=f"127.0.0.1:{tls_port}", security_protocol="SSL")
    with pytest.raises(AccessDenied, match=r"is not trusted \(self.signed certificate.*Set kafka\.ssl_cafile"):
        producer(kafka)
    by_name = kafka.model_copy(update={"ssl_cafile": str(certificate), "bootstrap": f"localhost:{tls_port}"})
    with pytest.raises(AccessDenied, match="Hostname mismatch"):
        producer(by_name)


def test_a_stores_certificate_that_is_not_trusted_or_found_is_told_with_its_reason(tls_port: int) -> None:
    for options, told in (("", "self.signed certificate"), ("?ssl_ca_certs=/nowhere.pem", "No such file")):
        url = SecretStr(f"rediss://127.0.0.1:{tls_port}/0{options}")
        with pytest.raises(AccessDenied, match=rf"refuses us .*{told}.*redis\.ssl_cafile"):
            FeatureStore(RedisSettings(url=url)).ping()


def test_a_port_that_speaks_tls_is_told_apart_from_none(tls_port: int) -> None:
    with pytest.raises(SettingsError, match=r"speaks TLS on that port\. Set kafka\.security_protocol to SASL_SSL"):
        admin_client(KafkaSettings(bootstrap=f"127.0.0.1:{tls_port}", **SCRAM))


def test_a_plain_port_is_told_to_who_speaks_tls(settings: Settings) -> None:
    with pytest.raises(AccessDenied, match="does not take part in TLS"):
        admin_client(settings.kafka.model_copy(update={"security_protocol": "SSL"}))


def test_a_port_that_nobody_listens_on_may_be_there_later() -> None:
    with pytest.raises(Unavailable, match="no Kafka answers at "):
        producer(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}", **SCRAM))


def test_what_is_refused_for_good_is_found_at_the_root_of_an_error() -> None:
    denied = AccessDenied("no")
    outer = Unavailable("the thread ended")
    outer.__cause__ = denied
    assert refusal(outer) is denied
    assert not passes(outer)
    assert passes(Unavailable("away"))
    assert isinstance(refusal(GroupAuthorizationFailedError()), GroupAuthorizationFailedError)
    assert isinstance(refusal(SaslAuthenticationFailedError()), SaslAuthenticationFailedError)
    assert refusal(KafkaConnectionError()) is None
    assert refusal(OSError(29, "Illegal seek")) is None


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        ("AccessDenied('refused: wrong password')", EXIT_WRONG, "refused: wrong password"),
        ("Stalled('a thread ended') from AccessDenied('refused: wrong password')", EXIT_WRONG, "wrong password"),
        ("Stalled('a thread ended') from GroupAuthorizationFailedError()", EXIT_WRONG, "Allow it there"),
        ("Stalled('a thread ended') from ValueError()", EXIT_STALLED, "a fresh process takes over"),
    ],
)
def test_a_worker_that_a_server_refuses_ends_with_2(raised: str, code: int, told: str) -> None:
    program = (
        "from kafka.errors import GroupAuthorizationFailedError\n"
        "from headwater.errors import AccessDenied, Stalled\n"
        "from headwater.process import run_worker\n"
        "class One:\n"
        "    def __init__(self, *_): pass\n"
        f"    def await_servers(self): raise {raised}\n"
        "    def close(self): pass\n"
        "run_worker('tests', One)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert told in done.stderr


def test_a_store_that_refuses_us_is_told_apart_from_one_that_is_away(settings: Settings) -> None:
    url = settings.redis.url.get_secret_value()
    where = url.partition("//")[2]
    admin = redis.Redis.from_url(url)
    admin.acl_setuser("test-ada", enabled=True, passwords=["+right"], commands=["+info", "+ping"])
    try:
        wrong = settings.redis.model_copy(update={"url": SecretStr(f"redis://test-ada:wrong@{where}")})
        with pytest.raises(AccessDenied, match=r"refuses us \(.*WRONGPASS|invalid.*HEADWATER_REDIS__URL"):
            FeatureStore(wrong).ping()
        right = settings.redis.model_copy(update={"url": SecretStr(f"redis://test-ada:right@{where}")})
        assert FeatureStore(right).ping()
        with pytest.raises(AccessDenied, match=r"Allow user 'test-ada' that command.*headwater acls --redis"):
            FeatureStore(right).marks()
    finally:
        admin.acl_deluser("test-ada")
        admin.close()


@pytest.mark.parametrize("url", ["redis://a:6379,b:first/0", "redis://a:6379,b:99999999"])
def test_a_second_address_of_a_cluster_that_is_none_is_named_at_the_start(url: str) -> None:
    with pytest.raises(Unavailable, match=r"redis.url redis://a:6379,b:.*Give redis://host:port/db"):
        FeatureStore(RedisSettings(url=SecretStr(url), shards=64))


@pytest.mark.parametrize("password", ["hush/hush", "hush#hush", "hush?hush"])
def test_a_password_that_breaks_its_url_is_not_in_the_message(password: str) -> None:
    with pytest.raises(Unavailable, match="percent-encoded") as error:
        FeatureStore(RedisSettings(url=SecretStr(f"redis://ada:{password}@somewhere:6379/0")))
    assert "hush" not in str(error.value)


@pytest.mark.any_broker
@pytest.mark.skipif(KIND != "kafka", reason="the embedded broker knows no logins and no permissions")
def test_apache_kafkas_own_reasons_for_a_login_a_mechanism_and_a_permission(tmp_path: Path, certificate: Path) -> None:
    ours = ("--scram", "broker:pw", "--scram", "ada:secret", "--tls", str(certificate), "--ca", str(certificate))
    with _SecuredKafka(tmp_path, options=(*ours, "--acl")) as broker:
        tls = {"security_protocol": "SASL_SSL", "ssl_cafile": str(certificate)}
        good = KafkaSettings(bootstrap=broker.address, **{**SCRAM, **tls})
        for change, told in (
            ({"sasl_password": SecretStr("wrong")}, "refuses user 'ada' .*invalid credentials"),
            ({"sasl_mechanism": "PLAIN"}, "does not know kafka.sasl_mechanism PLAIN; it knows SCRAM-SHA-512"),
            ({"security_protocol": "SSL"}, "which logs nobody in"),
            ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": None}, "speaks TLS on that port"),
        ):
            with pytest.raises((AccessDenied, SettingsError), match=told):
                producer(good.model_copy(update=change))
        with pytest.raises(AccessDenied, match="refuses user"):
            Client(settings=good.model_copy(update={"sasl_password": SecretStr("wrong")}))
        admin_client(good).close()
        assert denied_topics(good, ["events", "nothing"]) == ["events", "nothing"]
        for ask in (lambda: ensure_topics(good), lambda: existing_topic(good, EVENTS)):
            with pytest.raises(AccessDenied, match=r"does not allow user 'ada': Describe on topic .*headwater acls"):
                ask()


class _SecuredKafka(ApacheKafka):
    def ready(self) -> bool:
        """True once somebody listens: the check of what it says is the test's."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
