"""Settings into what a connection needs: TLS, a login, or a source of tokens.

Contradictions are refused here: what is set and cannot be used would be taken for protection that is not there.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import SettingsError
from headwater.security.secrets import read_secret, variable_of
from headwater.security.tls import TlsFiles, tls_context
from headwater.security.tokens import Tokens
from headwater.settings import KafkaSettings, RedisSettings

__all__ = ["KafkaLogin", "RedisLogin", "kafka_login", "redis_login"]

BY_TOKEN = ("OAUTHBEARER", "AWS_MSK_IAM")
TOKEN_SETTINGS = (
    "sasl_token", "sasl_token_file", "sasl_token_url", "sasl_token_cafile", "sasl_client_id", "sasl_client_secret",
    "sasl_client_secret_file", "sasl_scope",
)  # fmt: skip
PASSWORD_SETTINGS = ("sasl_username", "sasl_password", "sasl_password_file")
TLS_SETTINGS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password", "ssl_keyfile_password_file")


@dataclass(frozen=True)
class KafkaLogin:
    """How a client of Kafka shows who it is.

    Fields
        context: TLS; None speaks none.
        mechanism: of SASL, as on the wire; None does not log in.
        username, password: of PLAIN and SCRAM.
        tokens: of OAUTHBEARER.
    """

    context: ssl.SSLContext | None = None
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tokens: Tokens | None = field(default=None, repr=False)


def kafka_login(kafka: KafkaSettings) -> KafkaLogin:
    """What these settings say.

    Raises
        SettingsError: they contradict one another, lack something, or name a file that cannot be used.
    """
    _refuse_unused(kafka)
    context = None
    if kafka.security_protocol.endswith("SSL"):
        context = tls_context(_files("kafka", kafka))
    if not kafka.security_protocol.startswith("SASL"):
        return KafkaLogin(context)
    if kafka.sasl_mechanism in BY_TOKEN:
        return KafkaLogin(context, "OAUTHBEARER", tokens=Tokens(kafka))
    password = read_secret("kafka", kafka, "sasl_password")
    wanted = {"sasl_mechanism": kafka.sasl_mechanism, "sasl_username": kafka.sasl_username, "sasl_password": password}
    missing = [f"kafka.{name}" for name, value in wanted.items() if value is None]
    if missing:
        raise SettingsError(
            f"kafka.security_protocol is {kafka.security_protocol}, and nothing is set for {', '.join(missing)}. Set "
            f"{', '.join(map(variable_of, missing))}, or another security_protocol."
        )
    return KafkaLogin(context, kafka.sasl_mechanism, kafka.sasl_username, password)


def _refuse_unused(kafka: KafkaSettings) -> None:
    """Raises SettingsError for what is set and would not be used."""
    protocol, mechanism = kafka.security_protocol, kafka.sasl_mechanism

    def given(names: tuple[str, ...]) -> list[str]:
        return [f"kafka.{name}" for name in names if getattr(kafka, name) is not None]

    if not protocol.endswith("SSL"):
        ours = given(TLS_SETTINGS)
        if ours:
            raise SettingsError(
                f"{', '.join(ours)} is set, and kafka.security_protocol is {protocol}, which speaks no TLS. Set it to "
                f"{'SASL_SSL' if protocol.startswith('SASL') else 'SSL'}, or unset {', '.join(map(variable_of, ours))}"
            )
    if not protocol.startswith("SASL"):
        ours = given(("sasl_mechanism", *PASSWORD_SETTINGS, *TOKEN_SETTINGS))
        if ours:
            raise SettingsError(
                f"{', '.join(ours)} is set, and kafka.security_protocol is {protocol}, which logs nobody in. Set it to "
                f"{'SASL_SSL' if protocol == 'SSL' else 'SASL_SSL or SASL_PLAINTEXT'}, or unset "
                f"{', '.join(map(variable_of, ours))}"
            )
    elif mechanism in BY_TOKEN:
        ours = given(PASSWORD_SETTINGS + (TOKEN_SETTINGS if mechanism == "AWS_MSK_IAM" else ()))
        if ours:
            raise SettingsError(
                f"kafka.sasl_mechanism is {mechanism}, which takes no {', '.join(ours)}: unset one of the two"
            )
        if mechanism == "AWS_MSK_IAM" and protocol != "SASL_SSL":
            raise SettingsError(
                f"kafka.sasl_mechanism is AWS_MSK_IAM: set kafka.security_protocol to SASL_SSL (now {protocol})"
            )
    else:
        ours = given(TOKEN_SETTINGS)
        if ours:
            raise SettingsError(
                f"kafka.sasl_mechanism is {mechanism}, and {', '.join(ours)} belongs to OAUTHBEARER: set that, or "
                f"unset "
                f"{', '.join(map(variable_of, ours))}"
            )
    if kafka.aws_region is not None and mechanism != "AWS_MSK_IAM":
        raise SettingsError(f"kafka.aws_region is set, and kafka.sasl_mechanism is {mechanism}: set it to AWS_MSK_IAM")


def _files(section: str, settings: KafkaSettings | RedisSettings) -> TlsFiles:
    return TlsFiles(
        section,
        settings.ssl_cafile,
        settings.ssl_certfile,
        settings.ssl_keyfile,
        read_secret(section, settings, "ssl_keyfile_password"),
        settings.ssl_check_hostname,
    )


@dataclass(frozen=True)
class RedisLogin:
    """How a client of Redis shows who it is.

    Fields
        arguments: of redis-py's clients, single, cluster, and of the master that sentinels name.
        sentinel: arguments of the connections to the sentinels themselves; of use where `redis.sentinel` is set.
        context: TLS as these settings say it; None where the URL speaks none.
    """

    arguments: dict[str, Any] = field(repr=False)
    sentinel: dict[str, Any] = field(repr=False)
    context: ssl.SSLContext | None = None


def redis_login(redis: RedisSettings) -> RedisLogin:
    """What these settings say, beside the URL's own login.

    Raises
        SettingsError: they contradict one another or the URL, or name a file that cannot be used.
    """
    url = redis.url.get_secret_value()
    arguments: dict[str, Any] = {}
    password = read_secret("redis", redis, "password")
    if password is not None or redis.username is not None:
        if "@" in url:
            raise SettingsError(
                "redis.url has a login, and redis.username or redis.password is set, too: take it out of "
                f"{variable_of('redis.url')}"
            )
        if password is None:
            raise SettingsError(
                f"redis.username is set, and redis.password is not: set {variable_of('redis.password')}, or "
                f"{variable_of('redis.password_file')}"
            )
        arguments = {"username": redis.username, "password": password}
    tls, context = _redis_tls(redis, url)
    theirs = read_secret("redis", redis, "sentinel_password")
    if redis.sentinel is None and (theirs is not None or redis.sentinel_username is not None):
        raise SettingsError(
            "redis.sentinel_username or redis.sentinel_password is set, and redis.sentinel is not: set it to the name "
            "of the master"
        )
    named = {"username": redis.sentinel_username, "password": theirs} if theirs is not None else {}
    return RedisLogin(arguments | tls, named | tls | ({"ssl": True} if context else {}), context)


def _redis_tls(redis: RedisSettings, url: str) -> tuple[dict[str, Any], ssl.SSLContext | None]:
    if not url.startswith("rediss:"):
        ours = [f"redis.{name}" for name in TLS_SETTINGS if getattr(redis, name) is not None]
        if ours:
            raise SettingsError(
                f"{', '.join(ours)} is set, and redis.url begins with redis://, which speaks no TLS: write rediss://"
            )
        return {}, None
    files = _files("redis", redis)
    given = {
        "ssl_ca_certs": files.cafile,
        "ssl_certfile": files.certfile,
        "ssl_keyfile": files.keyfile or files.certfile,
        "ssl_password": files.key_password,
    }
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    named |= {"ssl_check_hostname": files.check_hostname, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
    return named, tls_context(files)
