"""Settings into logins: what contradicts itself, or would not be used, is told in one sentence before a server is
asked; secrets come from files, too, and tokens from whoever gives them."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from headwater import AccessDenied, SettingsError, Unavailable
from headwater.security import kafka_login, redis_login
from headwater.settings import KafkaSettings, RedisSettings

PLAIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "ann"}
TOKEN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key, the same encrypted with `open`, its certificate, and a key of somebody else."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("pair")
    kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2"
    for words in (
        f"req {kind} -nodes -keyout key.pem -out cert.pem -subj /CN=ann",
        f"req {kind} -nodes -keyout other.pem -out /dev/null -subj /CN=bob",
        "pkcs8 -topk8 -in key.pem -out locked.pem -passout pass:open",
    ):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sasl_username": "ann"}, "sasl_username is set, and .* is PLAINTEXT, which logs nobody in"),
        ({"ssl_cafile": "ca.pem"}, "ssl_cafile is set, and .* speaks no TLS. Set it to SSL, or unset HEADWATER"),
        ({**PLAIN, "ssl_certfile": "c.pem"}, "speaks no TLS. Set it to SASL_SSL"),
        ({**PLAIN, "sasl_password": "x", "sasl_token": "t"}, "PLAIN, and kafka.sasl_token belongs to OAUTHBEARER"),
        ({**PLAIN, "sasl_password": "x", "sasl_password_file": "f"}, "sasl_password and .*_file are both set"),
        ({**PLAIN, "sasl_password_file": "/nowhere/pw"}, r"/nowhere/pw: No such file.* or set HEADWATER_"),
        ({**TOKEN, "sasl_username": "ann", "sasl_token": "t"}, "OAUTHBEARER, which takes no kafka.sasl_username"),
        (TOKEN, "OAUTHBEARER, and no token is named: set one of kafka.sasl_token, kafka.sasl_token_file"),
        ({**TOKEN, "sasl_token": "t", "sasl_token_file": "f"}, "sasl_token and kafka.sasl_token_file are set"),
        ({**TOKEN, "sasl_token_file": "/nowhere/token"}, "sasl_token_file /nowhere/token: No such file"),
        ({**TOKEN, "sasl_token_url": "http://idp.example/token"}, "no https:// URL: the secret would go over"),
        ({**TOKEN, "sasl_token_url": "https://idp.example/token"}, "sasl_client_id or kafka.sasl_client_secret is not"),
        ({**TOKEN, "sasl_mechanism": "AWS_MSK_IAM"}, "AWS_MSK_IAM: set kafka.security_protocol to SASL_SSL"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "AWS_MSK_IAM"}, "aws_region is not set: set HEADWATER"),
        ({"aws_region": "eu-west-1"}, "aws_region is set, and kafka.sasl_mechanism is None"),
        ({"security_protocol": "SSL", "ssl_keyfile": "k.pem"}, "ssl_certfile is not: a key is of no use without"),
        ({"security_protocol": "SSL", "ssl_certfile": "/nowhere.pem"}, "ssl_certfile /nowhere.pem: No such file"),
    ],
)  # fmt: skip
def test_settings_of_kafka_that_cannot_be_meant_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        kafka_login(KafkaSettings(**given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"username": "ann"}, "username is set, and redis.password is not"),
        ({"url": "redis://a:b@h:1", "password": "c"}, "url has a login, and redis.username or redis.password"),
        ({"ssl_cafile": "ca.pem"}, "begins with redis://, which speaks no TLS: write rediss://"),
        ({"url": "rediss://h:1", "ssl_cafile": "/nowhere.pem"}, "redis.ssl_cafile /nowhere.pem: No such file"),
        ({"url": "rediss://h:1", "ssl_keyfile": "k.pem"}, "redis.ssl_certfile is not: a key is of no use"),
        ({"sentinel_username": "ann"}, "redis.sentinel is not: set it to the name of the master"),
        ({"password_file": "/"}, "redis.password_file /: Is a directory"),
    ],
)
def test_settings_of_redis_that_cannot_be_meant_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        redis_login(RedisSettings(**given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ssl_certfile": "cert.pem"}, "ssl_certfile .*cert.pem holds no key in PEM form: name the certificate's own"),
        ({"ssl_certfile": "key.pem"}, "ssl_certfile .*key.pem holds no certificate in PEM form"),
        ({"ssl_certfile": "cert.pem", "ssl_keyfile": "other.pem"}, "other.pem is not the key of .*cert.pem"),
        ({"ssl_certfile": "cert.pem", "ssl_keyfile": "locked.pem"}, "encrypted, and .*_password is not set"),
        (
            {"ssl_certfile": "cert.pem", "ssl_keyfile": "locked.pem", "ssl_keyfile_password": "wrong"},
            "is encrypted, and kafka.ssl_keyfile_password does not open it",
        ),
    ],
)  # fmt: skip
def test_a_certificate_that_cannot_be_used_says_why(pair: Path, given: dict[str, Any], told: str) -> None:
    placed = {name: str(pair / text) if text.endswith(".pem") else text for name, text in given.items()}
    with pytest.raises(SettingsError, match=told) as error:
        kafka_login(KafkaSettings(security_protocol="SSL", **placed))
    assert "wrong" not in str(error.value)


def test_a_key_that_is_encrypted_is_opened_by_a_password_in_a_file(pair: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("open\n")
    named = {"ssl_certfile": str(pair / "cert.pem"), "ssl_keyfile": str(pair / "locked.pem")}
    named["ssl_keyfile_password_file"] = str(tmp_path / "pw")
    assert kafka_login(KafkaSettings(security_protocol="SSL", **named)).context is not None
    given = redis_login(RedisSettings(url=SecretStr("rediss://h:1"), **named)).arguments
    assert (given["ssl_password"], given["ssl_check_hostname"]) == ("open", True)


def test_a_password_is_read_anew_from_its_file_and_shown_by_nobody(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = KafkaSettings(**PLAIN, sasl_password_file=file)
    for written, read in (("first", "first"), ("second \n", "second "), ("third\r\n", "third")):
        file.write_text(written)
        login = kafka_login(settings)
        assert login.password == read
        assert read not in repr(login)
    for held in (b"", b"\n", b"\xff\xfe", b"x" * 100_000):
        file.write_bytes(held)
        with pytest.raises(SettingsError, match="it should hold the secret alone"):
            kafka_login(settings)


class TokenGiver(http.server.BaseHTTPRequestHandler):
    """Gives tokens to who brings the secret; what it was asked is in `asked`."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 - emptied by each test
    answer: tuple[int, Any] = (200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append((base64.b64decode(self.headers["Authorization"].split()[1]).decode(), body))
        status, said = self.answer
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(json.dumps(said).encode() if not isinstance(said, bytes) else said)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def giver() -> Iterator[str]:
    TokenGiver.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenGiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
        server.shutdown()


def asks(url: str) -> KafkaSettings:
    return KafkaSettings(
        **TOKEN, sasl_token_url=url, sasl_client_id="shop", sasl_client_secret=SecretStr("hush/1"), sasl_scope="kafka"
    )


def test_a_token_of_client_credentials_is_asked_for_once_while_it_is_valid(giver: str) -> None:
    TokenGiver.answer = (200, {"access_token": "t1", "expires_in": 600})
    tokens = kafka_login(asks(giver)).tokens
    assert tokens is not None
    assert [tokens.token(), tokens.token()] == ["t1", "t1"]
    assert TokenGiver.asked == [("shop:hush%2F1", "grant_type=client_credentials&scope=kafka")]
    TokenGiver.answer = (200, {"access_token": "t2", "expires_in": 0})
    short = kafka_login(asks(giver)).tokens
    assert short is not None
    short.token(), short.token()
    assert len(TokenGiver.asked) == 3


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        ((401, {"error": "invalid_client"}), AccessDenied, "HTTP 401, invalid_client. Correct kafka.sasl_client_id"),
        ((400, b"you sent hush/1"), AccessDenied, "HTTP 400. Correct"),
        ((302, {}), AccessDenied, "HTTP 302"),
        ((503, {}), Unavailable, "HTTP 503. Try again later"),
        ((200, {"token": "x"}), AccessDenied, "without an access_token"),
        ((200, b"<html>"), AccessDenied, "without an access_token"),
        ((200, {"access_token": 5}), AccessDenied, "without an access_token"),
    ],
)
def test_who_gives_no_token_is_told_of_without_the_secret(
    giver: str, answer: tuple[int, Any], error: type[Exception], told: str
) -> None:
    TokenGiver.answer = answer
    tokens = kafka_login(asks(giver)).tokens
    assert tokens is not None
    with pytest.raises(error, match=told) as raised:
        tokens.token()
    assert "hush" not in str(raised.value)


def test_a_token_for_amazon_msk_is_signed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aws_msk_iam_sasl_signer")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    login = kafka_login(
        KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM", aws_region="eu-west-1")
    )
    assert login.mechanism == "OAUTHBEARER"
    assert login.tokens is not None
    token = login.tokens.token()
    signed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert signed.startswith("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect")
    assert "hush" not in signed


def test_nobody_waits_for_a_token_from_a_port_that_is_closed() -> None:
    tokens = kafka_login(asks("http://127.0.0.1:1/token")).tokens
    with contextlib.suppress(AttributeError), pytest.raises(Unavailable, match="does not answer"):
        tokens.token()  # type: ignore[union-attr]
