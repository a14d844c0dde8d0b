"""Servers that want TLS and a certificate of ours, or a token: workers, the SDK and commands get in by settings."""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from pydantic import SecretStr

from embedded import EmbeddedStore, free_port
from embedded.store import find_binary
from headwater import AccessDenied, Client, Unavailable
from headwater.kafka import admin_client, end_offsets, ensure_topics
from headwater.settings import KafkaSettings, RedisSettings, Settings, load_settings
from headwater.topics import EXAMPLES
from streams.features.store import FeatureStore
from tests.security.certificates import Authority
from tests.security.servers import SecuredKafka
from tests.worlds.brokers import KIND, ApacheKafka
from tests.worlds.processes import LiveWorker, eventually


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ours", "server", "streams")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "theirs", "streams")


class TlsStore(EmbeddedStore):
    """Speaks TLS alone, to who shows a certificate of the authority."""

    def __init__(self, data_dir: Path, authority: Authority) -> None:
        super().__init__(data_dir)
        self.authority = authority

    @property
    def address(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        files = {"cert-file": "server.pem", "key-file": "server-key.pem", "ca-cert-file": "ca.pem"}
        words = [word for name, file in files.items() for word in (f"--tls-{name}", self.authority[file])]
        plain = super().command()
        plain[plain.index("--port") + 1] = "0"
        return [*plain, "--tls-port", str(self.port), *words]

    def ready(self) -> bool:
        """True once it says so: a connection without TLS tells nothing."""
        return self.announcement in (self.data_dir / "store.out").read_text(errors="replace")


@pytest.fixture(scope="module")
def tls_store(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsStore]:
    binary = find_binary()
    words = [binary, "--port", "0", "--tls-port", str(free_port()), "--save", "", "--tls-cert-file", "/nowhere"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout
    if "Failed to configure TLS" not in told and "Failed to load certificate" not in told:
        pytest.skip(f"{binary} is built without TLS; HEADWATER_TEST_REDIS_SERVER=/usr/bin/redis-server has it")
    with TlsStore(tmp_path_factory.mktemp("tls-store"), authority) as store:
        yield store


@pytest.mark.any_broker
def test_a_store_that_wants_a_certificate_gets_ours_and_tells_who_has_none(
    tls_store: TlsStore, authority: Authority, stranger: Authority
) -> None:
    def asked(**given: str | bool) -> str:
        with closing(FeatureStore(RedisSettings(url=SecretStr(tls_store.address), **given))) as store:
            return store.ping()

    assert asked(**authority.of("streams"))
    with pytest.raises(AccessDenied, match=r"refuses us .*redis\.ssl_certfile"):
        asked(ssl_cafile=authority["ca.pem"])
    with pytest.raises(AccessDenied, match=r"self.signed certificate in|unable to get local issuer"):
        asked(**{**authority.of("streams"), "ssl_cafile": stranger["ca.pem"]})
    by_name = SecretStr(tls_store.address.replace("127.0.0.1", "localhost"))
    named = RedisSettings(url=by_name, **authority.of("streams"))
    with closing(FeatureStore(named)) as store, pytest.raises(AccessDenied, match="Hostname mismatch"):
        store.ping()
    with closing(FeatureStore(named.model_copy(update={"ssl_check_hostname": False}))) as store:
        assert store.ping()


real_kafka = pytest.mark.skipif(KIND != "kafka", reason="the embedded broker speaks no TLS and knows no logins")


@pytest.mark.any_broker
@pytest.mark.timeout(180)
@real_kafka
def test_a_worker_and_an_app_show_their_certificates_to_kafka_and_the_store(
    tmp_path: Path, authority: Authority, stranger: Authority, tls_store: TlsStore
) -> None:
    tls = ("--tls", authority["server-both.pem"], "--ca", authority["ca.pem"], "--client-certificates")
    with ListeningKafka(tmp_path / "kafka", options=tls) as broker:
        ours = KafkaSettings(
            bootstrap=broker.address, session_timeout_ms=3000, security_protocol="SSL", **authority.of("streams")
        )
        eventually(lambda: topics_made(ours), 60)
        redis = RedisSettings(url=SecretStr(tls_store.address), **authority.of("streams"))
        folds_an_event(load_settings(kafka=ours, redis=redis), tmp_path)
        for change, told in (
            ({"ssl_certfile": None, "ssl_keyfile": None}, "wants a certificate of ours. Set kafka.ssl_certfile"),
            (stranger.of("streams") | {"ssl_cafile": authority["ca.pem"]}, "does not trust our certificate, kafka.ssl"),
            ({"ssl_cafile": stranger["ca.pem"]}, "is not trusted"),
            ({"bootstrap": broker.address.replace("127.0.0.1", "localhost")}, "Hostname mismatch"),
        ):
            with pytest.raises(AccessDenied, match=told):
                admin_client(ours.model_copy(update=change))
        lax = {"bootstrap": broker.address.replace("127.0.0.1", "localhost"), "ssl_check_hostname": False}
        admin_client(ours.model_copy(update=lax)).close()


@pytest.mark.any_broker
@pytest.mark.timeout(180)
@real_kafka
def test_a_user_with_a_password_in_a_file_gets_in_over_tls(
    tmp_path: Path, authority: Authority, redis_url: str
) -> None:
    (tmp_path / "password").write_text("pw-streams\n")
    with SecuredKafka(tmp_path / "kafka", "--tls", authority["server-both.pem"], "--ca", authority["ca.pem"]) as broker:
        kafka = KafkaSettings(
            bootstrap=broker.address, session_timeout_ms=3000, security_protocol="SASL_SSL",
            ssl_cafile=authority["ca.pem"], sasl_mechanism="SCRAM-SHA-512", sasl_username="streams",
            sasl_password_file=tmp_path / "password", prefix="tls.",
        )  # fmt: skip
        eventually(lambda: topics_made(kafka), 60)
        folds_an_event(load_settings(kafka=kafka, redis={"url": redis_url}), tmp_path)


class SigningServer(http.server.BaseHTTPRequestHandler):
    """An authorisation server: its key as JWKS, and a token signed by it for who brings the secret."""

    key = rsa.generate_private_key(65537, 2048)

    def do_GET(self) -> None:
        numbers = self.key.public_key().public_numbers()
        n, e = (encoded(one.to_bytes((one.bit_length() + 7) // 8)) for one in (numbers.n, numbers.e))
        self.answer({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "ours", "n": n, "e": e}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        assert base64.b64decode(self.headers["Authorization"].split()[1]) == b"streams:hush"
        self.answer({"access_token": signed(self.key, "streams", lasts_s=600), "expires_in": 600})

    def answer(self, said: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def token_giver(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SigningServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={url}")
        yield url
        server.shutdown()


@pytest.mark.any_broker
@pytest.mark.timeout(180)
@real_kafka
def test_tokens_that_the_broker_checks_plain_passwords_and_scram_256_let_a_worker_and_an_app_in(
    tmp_path: Path, redis_url: str, token_giver: str
) -> None:
    oauth, modules = "listener.name.client.oauthbearer", "org.apache.kafka.common.security"
    passwords = 'username="broker" password="pw-broker" user_broker="pw-broker" user_streams="pw-streams";'
    broker = ListeningKafka(
        tmp_path / "kafka",
        settings={
            "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "OAUTHBEARER,PLAIN,SCRAM-SHA-256",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.client.plain.sasl.jaas.config": f"{modules}.plain.PlainLoginModule required {passwords}",
            "listener.name.client.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            f"{oauth}.sasl.jaas.config": f"{modules}.oauthbearer.OAuthBearerLoginModule required;",
            f"{oauth}.sasl.server.callback.handler.class": f"{modules}.oauthbearer.OAuthBearerValidatorCallbackHandler",
            "sasl.oauthbearer.jwks.endpoint.url": token_giver,
            "sasl.oauthbearer.expected.audience": "kafka",
        },
    )
    with broker:
        common = {"security_protocol": "SASL_PLAINTEXT", "session_timeout_ms": 3000, "prefix": "logins."}
        plain = KafkaSettings(
            bootstrap=broker.address, sasl_mechanism="PLAIN", sasl_username="streams",
            sasl_password=SecretStr("pw-streams"), **common,
        )  # fmt: skip
        eventually(lambda: topics_made(plain), 60)
        folds_an_event(load_settings(kafka=plain, redis={"url": redis_url}), tmp_path)

        hashed = UserScramCredentialUpsertion("ann", ScramMechanism.SCRAM_SHA_256, b"pw-ann")
        with closing(admin_client(plain)) as admin:
            admin.alter_user_scram_credentials([hashed])
        change = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "ann", "sasl_password": SecretStr("pw-ann")}
        with Client(settings=plain.model_copy(update=change)) as app:
            app.track("ann", "film-1", "click").result()

        token_file, token = tmp_path / "token", {"sasl_mechanism": "OAUTHBEARER", **common}
        by_file = KafkaSettings(bootstrap=broker.address, sasl_token_file=token_file, **token)
        for wrong in (
            signed(SigningServer.key, "streams", lasts_s=-60),
            signed(rsa.generate_private_key(65537, 2048), "streams", lasts_s=600),
        ):
            token_file.write_text(wrong)
            with pytest.raises(AccessDenied, match=r"refuses our token \(OAUTHBEARER"):
                admin_client(by_file)
        token_file.write_text(signed(SigningServer.key, "streams", lasts_s=600))
        admin_client(by_file).close()
        by_url = KafkaSettings(
            bootstrap=broker.address, sasl_token_url=token_giver, sasl_client_id="streams",
            sasl_client_secret=SecretStr("hush"), **token,
        )  # fmt: skip
        folds_an_event(load_settings(kafka=by_url, redis={"url": redis_url}), tmp_path)


def topics_made(kafka: KafkaSettings) -> bool:
    """Whether they are: its port is open before a broker answers."""
    try:
        ensure_topics(kafka)
    except Unavailable:
        return False
    return True


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(key: rsa.RSAPrivateKey, user: str, lasts_s: float) -> str:
    """A token (JWT, RS256)."""
    now = time.time()
    head = {"alg": "RS256", "typ": "JWT", "kid": "ours"}
    says = {"sub": user, "aud": "kafka", "scope": "kafka", "iat": now + min(0.0, lasts_s) - 1, "exp": now + lasts_s}
    body = ".".join(encoded(json.dumps(one).encode()) for one in (head, says))
    return f"{body}.{encoded(key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def folds_an_event(settings: Settings, folder: Path) -> None:
    """The streams worker (Faust, kafka-python, redis-py) and an app get in, and an event comes out as an example."""
    before = sum(end_offsets(settings.kafka, EXAMPLES).values())
    with LiveWorker("streams.worker", settings, folder / "streams.log") as worker:
        with Client(settings=settings.kafka) as app:
            app.track("ann", "film-1", "click").result()
        eventually(lambda: sum(end_offsets(settings.kafka, EXAMPLES).values()) > before, 30, worker.tail)
        assert worker.stop() == 0, worker.tail()


class ListeningKafka(ApacheKafka):
    """Ready as soon as its port is open: who is let in is the test's."""

    def ready(self) -> bool:
        return SecuredKafka.ready(self)  # type: ignore[arg-type]
