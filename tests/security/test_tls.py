"""Servers that want TLS and a certificate of ours, or a token: workers, the SDK and commands get in by settings."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from embedded import EmbeddedStore, free_port
from embedded.store import find_binary
from headwater import AccessDenied, Client, Unavailable
from headwater.errors import HeadwaterError
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


@pytest.mark.any_broker
@pytest.mark.timeout(180)
@real_kafka
def test_tokens_from_a_file_let_a_worker_and_an_app_in(tmp_path: Path, redis_url: str) -> None:
    login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
    token_file = tmp_path / "token"
    broker = ListeningKafka(
        tmp_path / "kafka",
        settings={
            "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "sasl.mechanism.inter.broker.protocol": "OAUTHBEARER",
            "listener.name.client.oauthbearer.sasl.jaas.config": f'{login} unsecuredLoginStringClaim_sub="broker";',
        },
    )
    with broker:
        kafka = KafkaSettings(
            bootstrap=broker.address, session_timeout_ms=3000, security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER", sasl_token_file=token_file, prefix="tokens.",
        )  # fmt: skip
        token_file.write_text(unsecured("streams", lasts_s=-60))
        refused = eventually(lambda: isinstance(one := tried(kafka), AccessDenied) and one, 60)
        assert "refuses our token (OAUTHBEARER" in str(refused)
        token_file.write_text(unsecured("streams", lasts_s=600))
        eventually(lambda: topics_made(kafka), 60)
        folds_an_event(load_settings(kafka=kafka, redis={"url": redis_url}), tmp_path)


def topics_made(kafka: KafkaSettings) -> bool:
    """Whether they are: its port is open before a broker answers."""
    try:
        ensure_topics(kafka)
    except Unavailable:
        return False
    return True


def tried(kafka: KafkaSettings) -> HeadwaterError | None:
    try:
        admin_client(kafka).close()
    except HeadwaterError as error:
        return error
    return None


def unsecured(user: str, lasts_s: float) -> str:
    """A token that nobody has signed: Kafka takes it where it is told of no key."""
    now = time.time()
    parts = [{"alg": "none"}, {"sub": user, "iat": now + min(0.0, lasts_s) - 1, "exp": now + lasts_s}]
    encoded = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts]
    return ".".join([*encoded, ""])


def folds_an_event(settings: Settings, folder: Path) -> None:
    """The streams worker (Faust, kafka-python, redis-py) and an app get in, and an event comes out as an example."""
    with LiveWorker("streams.worker", settings, folder / "streams.log") as worker:
        with Client(settings=settings.kafka) as app:
            app.track("ann", "film-1", "click").result()
        eventually(lambda: sum(end_offsets(settings.kafka, EXAMPLES).values()) > 0, 30, worker.tail)
        assert worker.stop() == 0, worker.tail()


class ListeningKafka(ApacheKafka):
    """Ready as soon as its port is open: who is let in is the test's."""

    def ready(self) -> bool:
        return SecuredKafka.ready(self)  # type: ignore[arg-type]
