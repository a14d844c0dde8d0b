"""One frozen tree of settings for every part. Source: environment over file over default.

`HEADWATER_KAFKA__BOOTSTRAP=host:9092` sets `kafka.bootstrap`; the file is TOML, named by `HEADWATER_CONFIG` or
`headwater.toml` in the working directory. Unknown keys are refused in both, secrets are masked when printed.

The table in docs/settings.md is generated from this module.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableSource

from headwater.context import MAX_CONTEXT_CHARS, MAX_CONTEXT_FIELDS
from headwater.errors import SettingsError
from headwater.events import EVENT_TYPE_PATTERN, Id
from headwater.signals import Signal
from headwater.spelling import did_you_mean, problem_text
from headwater.surfaces import Surface
from headwater.topics import refuse_retention

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BundlesAddress", "KafkaSettings", "ModelSettings", "OperationsSettings", "PrivacySettings"]
__all__ += [
    "GatewaySettings",
    "RedisSettings",
    "ReplaySettings",
    "ServingSettings",
    "Settings",
    "SigningSettings",
    "StreamsSettings",
    "TrainerSettings",
    "changed_kafka",
    "load_settings",
]
__all__ += ["read_signals", "read_surfaces", "signals_of", "surfaces_of"]

ENV_PREFIX = "HEADWATER_"
NOT_SETTINGS = ("HEADWATER_CONFIG", "HEADWATER_TEST_", "HEADWATER_CACHE")


NO_TYPE = "is no type of event: a type is lower-case letters, digits, '_', '.' or '-', and begins with a letter"

_HOST_PORT = re.compile(r"(?:[\w.\-]+|\[[0-9a-fA-F:.]+(?:%[\w.\-]+)?\]):([0-9]{1,5})\Z")


_PUBLIC_KEY = re.compile(r"ed25519:[A-Za-z0-9+/]{43}=")

OBJECT_STORAGE = ("s3", "gs", "az", "abfs", "abfss")


def _bundles_address(given: Any) -> Any:
    """A folder as a path, whatever way it is named; a URL of object storage as it is."""
    if not isinstance(given, str):
        return given
    if "://" not in given:
        return Path(given)
    url = urlsplit(given)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return Path(unquote(url.path))
    if url.scheme not in OBJECT_STORAGE or not url.hostname:
        text = "is neither a folder nor file:///FOLDER, s3://BUCKET/PREFIX, gs://, az:// or abfs://"
        raise PydanticCustomError("bundles_address", text)
    if url.password or url.query or url.fragment or (url.username and not url.scheme.startswith("abfs")):
        text = "holds more than bucket and prefix: credentials come from the environment (docs/operations.md)"
        raise PydanticCustomError("bundles_address", text)
    return given.rstrip("/")


BundlesAddress = Annotated[Path | str, BeforeValidator(_bundles_address)]
"""Where bundles are: a folder, or a URL of object storage (str)."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    """Where Kafka is and how clients talk to it."""

    bootstrap: str = Field(
        default="127.0.0.1:9092",
        description="Comma-separated host:port list of Kafka brokers; an IPv6 address in brackets, [::1]:9092.",
    )
    prefix: str = Field(
        default="",
        pattern=r"^[a-zA-Z0-9._\-]{0,100}$",
        description="Put before every topic, group and Redis key: a world.",
    )
    replication: int = Field(default=1, ge=1, description="Replication factor of topics that Headwater creates.")
    retention_days: dict[str, float] = Field(
        default={},
        description="Days that records of a topic are kept, by its name in the table, where not as the table says: "
        '{"events": 90, "requests": 1}. Topics are made so; `headwater topics --make` sets it on those that are there. '
        "The same for every worker.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="As in any Kafka client."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] | None = Field(
        default=None,
        description="As in any Kafka client; AWS_MSK_IAM takes the extra `msk` and the credentials of the AWS SDK.",
    )
    sasl_username: str | None = Field(default=None, description="SASL user: PLAIN and SCRAM.")
    sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    sasl_password_file: Path | None = Field(
        default=None, description="File with the password alone, as Docker and Kubernetes mount secrets."
    )
    sasl_token: SecretStr | None = Field(default=None, description="OAUTHBEARER: the token itself.")
    sasl_token_file: Path | None = Field(
        default=None, description="OAUTHBEARER: file with the token alone, read again at every login."
    )
    sasl_token_url: str | None = Field(
        default=None, description="OAUTHBEARER: where client id and secret are given for a token (client credentials)."
    )
    sasl_token_cafile: str | None = Field(
        default=None, description="PEM file of the authorities that the certificate of sasl_token_url needs."
    )
    sasl_client_id: str | None = Field(default=None, description="OAUTHBEARER: who asks sasl_token_url.")
    sasl_client_secret: SecretStr | None = Field(default=None, description="OAUTHBEARER: its secret.")
    sasl_client_secret_file: Path | None = Field(default=None, description="File with that secret alone.")
    sasl_scope: str | None = Field(default=None, description="OAUTHBEARER: scopes asked for, separated by spaces.")
    aws_region: str | None = Field(default=None, description="AWS_MSK_IAM: region of the cluster.")
    ssl_cafile: str | None = Field(
        default=None, description="PEM file of the authorities that the brokers' certificates need."
    )
    ssl_certfile: str | None = Field(
        default=None, description="PEM file of the client's certificate and its chain, where the brokers want one."
    )
    ssl_keyfile: str | None = Field(
        default=None, description="PEM file of the certificate's key, where it is not in ssl_certfile."
    )
    ssl_keyfile_password: SecretStr | None = Field(default=None, description="What the key is encrypted with.")
    ssl_keyfile_password_file: Path | None = Field(default=None, description="File with that alone.")
    ssl_check_hostname: bool = Field(
        default=True, description="Whether a broker's certificate must name the host that is connected to."
    )
    linger_ms: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="How long producers wait to fill a batch; 0 for the embedded broker, 5 for Apache Kafka.",
    )
    session_timeout_ms: int = Field(
        default=6000, ge=1000, description="A consumer silent for longer loses its partitions."
    )

    def __hash__(self) -> int:
        """Of what tells servers and worlds apart: a dictionary has none."""
        return hash((self.bootstrap, self.prefix, self.sasl_username))

    @field_validator("retention_days")
    @classmethod
    def _of_topics_that_may_be_shortened(cls, days: dict[str, float]) -> dict[str, float]:
        try:
            refuse_retention(days)
        except ValueError as error:
            raise PydanticCustomError("retention_days", "{why}", {"why": str(error)}) from None
        return days

    @field_validator("bootstrap")
    @classmethod
    def _of_hosts_and_ports(cls, bootstrap: str) -> str:
        brokers = [broker.strip() for broker in bootstrap.split(",")]
        for broker in brokers:
            found = _HOST_PORT.match(broker)
            if found is None or not 0 < int(found[1]) < 65_536:
                raise PydanticCustomError(
                    "bootstrap",
                    "{broker} is not host:port. Give host:port of each broker, separated by commas; an IPv6 address in "
                    "brackets, [::1]:9092",
                    {"broker": "a broker that is not shown, for it has an @," if "@" in bootstrap else repr(broker)},
                )
        return ",".join(brokers)


class RedisSettings(_Section):
    """Where the feature store is."""

    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// (TLS) URL; of a cluster any of its nodes, or several: "
        "redis://a:6379,b:6379; with `sentinel`, the sentinels.",
    )
    username: str | None = Field(default=None, description="ACL user, where it is not in the URL.")
    password: SecretStr | None = Field(default=None, description="Password, where it is not in the URL.")
    password_file: Path | None = Field(
        default=None, description="File with the password alone, as Docker and Kubernetes mount secrets."
    )
    sentinel: str | None = Field(
        default=None, min_length=1, description="Name of the master that the sentinels at `url` watch."
    )
    sentinel_username: str | None = Field(default=None, description="ACL user at the sentinels themselves.")
    sentinel_password: SecretStr | None = Field(default=None, description="Password at the sentinels themselves.")
    sentinel_password_file: Path | None = Field(default=None, description="File with that alone.")
    ssl_cafile: str | None = Field(
        default=None, description="PEM file of the authorities that the server's certificate needs."
    )
    ssl_certfile: str | None = Field(
        default=None, description="PEM file of the client's certificate, where the server wants one."
    )
    ssl_keyfile: str | None = Field(
        default=None, description="PEM file of the certificate's key, where it is not in ssl_certfile."
    )
    ssl_keyfile_password: SecretStr | None = Field(default=None, description="What the key is encrypted with.")
    ssl_keyfile_password_file: Path | None = Field(default=None, description="File with that alone.")
    ssl_check_hostname: bool = Field(
        default=True, description="Whether the server's certificate must name the host that is connected to."
    )
    timeout_s: float = Field(default=5.0, gt=0, description="Longest wait for one reply.")
    shards: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Slots that users are spread over: 1 for a single server; for a cluster 16 a "
        "primary, as a power of two. Fixed when a "
        "store is made; equal in all workers.",
    )


class StreamsSettings(_Section):
    """The streams worker: events into features and examples."""

    history_limit: int = Field(default=1000, ge=1, le=10_000, description="Newest events remembered per user.")
    dedupe_window: int = Field(
        default=128, ge=0, le=10_000, description="Newest event ids per user that duplicates are found in."
    )
    shown_limit: int = Field(
        default=100, ge=0, le=10_000, description="Newest items remembered per user that were shown and not reacted to."
    )
    max_ahead_s: float = Field(
        default=60.0, ge=0, description="An event further in the future than this is a dead letter."
    )
    oldest: date = Field(
        default=date(1990, 1, 1),
        ge=date(1970, 1, 1),
        description="An event before this day (UTC) is a dead letter: most are seconds. Earlier for older data.",
    )
    batch_records: int = Field(default=200, ge=1, description="Most records folded in one round.")
    batch_wait_ms: int = Field(
        default=5, ge=1, description="Longest wait for a round to fill, after another: a lone record waits for none."
    )
    hot_users: int = Field(
        default=20_000,
        ge=0,
        description="Room in memory for user states of 3.5 kB; short ones take less. Least recently used out first.",
    )
    popularity_half_life_days: float = Field(
        default=30.0, gt=0, description="Half-life of item popularity, in event time."
    )

    @property
    def oldest_ms(self) -> int:
        """The beginning of `oldest`, epoch ms."""
        return (self.oldest - date(1970, 1, 1)).days * 86_400_000


class ModelSettings(_Section):
    """Overrides of the model's configuration (`models.config.ModelConfig`), by field name."""

    overrides: dict[str, Any] = Field(default_factory=dict, description="Field of ModelConfig -> value.")
    time_zone: str | None = Field(
        default=None,
        description="Where the users are, such as Europe/Berlin: by its clock hour and weekday count. UTC.",
    )
    context_fields: tuple[Annotated[str, Field(min_length=1, max_length=MAX_CONTEXT_CHARS)], ...] = Field(
        default=(),
        max_length=MAX_CONTEXT_FIELDS,
        description="Fields of the `context` of requests, and of the `properties` of events, that count: device, page.",
    )
    user_fields: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(),
        max_length=MAX_CONTEXT_FIELDS,
        description="Attributes of users (topic `users`) that count; others are kept in the store and go no further.",
    )

    @property
    def given(self) -> dict[str, Any]:
        """Fields of ModelConfig that are set, here or among the overrides."""
        own = {"time_zone": self.time_zone, "context_fields": self.context_fields}
        own |= {"user_fields": self.user_fields}
        return {name: value for name, value in own.items() if value} | self.overrides


class TrainerSettings(_Section):
    """The trainer: examples into weights."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="cuda asked for and not there is an error."
    )
    seed: int = Field(default=0, ge=0, description="Seeds every random choice of the trainer.")
    threads: int = Field(default=1, ge=1, description="CPU threads of torch.")
    yields: bool = Field(
        default=True,
        description="Run on processor time that nobody else wants; false where the trainer has a machine to itself.",
    )
    directory: Path = Field(default=Path(".headwater/trainer"), description="Checkpoints live here.")
    bundles: BundlesAddress = Field(
        default=Path(".headwater/models"),
        description="Where bundles are published: a folder, or s3://BUCKET/PREFIX, gs://, az:// (docs/operations.md).",
    )
    keep_up_s: float = Field(
        default=0.5,
        ge=0,
        description="How far behind the log learning may fall, in seconds of the stream, before its slow part "
        "(encoder, gate, ranker) learns a share of the blocks only; memories, popularity and counts take every "
        "example. 0: everything is learned in full, however far behind.",
    )
    publish_every_s: float = Field(default=1.0, gt=0, description="Time between deltas.")
    publish_every_examples: int = Field(
        default=0,
        ge=0,
        description="Publish after every so many examples, exactly, and never in between: the log alone decides what "
        "is published. 0 publishes by time.",
    )
    snapshot_every_s: float = Field(default=60.0, gt=0, description="Time between full bundles.")
    checkpoint_every_s: float = Field(default=15.0, gt=0, description="Time between checkpoints.")
    keep_bundles: int = Field(default=3, ge=1, description="Newest bundles kept.")
    anchor_every_s: float = Field(
        default=21_600.0,
        ge=0,
        description="One bundle of each such span is kept as long as the deltas that follow it, so that past answers "
        "can be explained; 0 keeps none.",
    )
    regression_bound: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="A model whose NDCG@10 is lower than that of the one published before by more than this share, on "
        "the same queries and beyond chance, is held back; 1 holds none back.",
    )


class ServingSettings(_Section):
    """The serving worker: requests into recommendations."""

    provider: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="ONNX Runtime provider; cuda not there is an error."
    )
    threads: int = Field(default=1, ge=1, description="Intra-op threads of ONNX Runtime.")
    batch_requests: int = Field(default=32, ge=1, description="Most requests answered in one graph run.")
    exclude_seen: tuple[str, ...] = Field(
        default=("auto",),
        description='Event types whose items are not shown again; ["*"] all, [] none, ["auto"] those after which '
        "users come back to fewer than 1 item in 100 events, as the model has counted. Requests can override.",
    )
    bundles: BundlesAddress = Field(
        default=Path(".headwater/models"), description="Where the trainer publishes bundles: its trainer.bundles."
    )
    exposures: bool = Field(
        default=True,
        description="Send each list that goes out as an event `served` to the topic `events`: what was shown and not "
        "reacted to is learned from. false where the app sends its own impressions.",
    )
    after_wait_ms: int = Field(
        default=500, ge=0, description="Longest wait for the offsets a request names in `after`."
    )


class ReplaySettings(_Section):
    """Replays of past streams."""

    batch_events: int = Field(default=200, ge=1, description="Most events packed into one record.")


class GatewaySettings(_Section):
    """The front door: HTTP for whoever does not speak Kafka (docs/api.md)."""

    host: str = Field(default="127.0.0.1", description="Address that HTTP listens on.")
    needs_keys: bool | None = Field(
        default=None, description="Refuse who has no key, also while there is none. Default: unless host is loopback."
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the same; 0 takes a free one and logs it.")
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for gRPC, on the same address; 0 takes a free one and logs it. Without, none is spoken. "
        "Needs the extra `grpc`.",
    )
    max_body_bytes: int = Field(
        default=5_000_000, ge=1_000, description="Largest body of a request that is no stream; largest message of gRPC."
    )
    max_waiting: int = Field(default=1_000, ge=1, description="Most requests under way; more are answered 503.")
    deadline_ms: int = Field(default=2_000, ge=10, description="How long an answer is waited for, unless told.")
    keep_alive_s: int = Field(
        default=75,
        ge=1,
        description="How long a connection of HTTP is kept open after an answer. Longer than the balancer before it "
        "keeps its own (AWS ALB 60, Google Cloud 600): else it sends requests where nobody is, and answers 502.",
    )
    rate_per_s: float | None = Field(
        default=None, gt=0, description="Most calls a second of each key; an event is one."
    )
    burst: float = Field(default=1_000.0, ge=1, description="How many at once, with rate_per_s.")
    cors_origins: tuple[str, ...] = Field(default=(), description="Origins whose pages may call; * is any.")
    token_secret: SecretStr | None = Field(
        default=None,
        description="By which tokens of browsers are signed: 32 bytes or more. Equal in all gateways. Of several lines "
        "the first signs, and tokens of all hold: so it is changed while browsers have tokens (docs/operations.md).",
    )
    token_secret_file: Path | None = Field(default=None, description="File with that alone.")
    page: bool = Field(
        default=False, description="Show people the page (docs/page.md): it reads topics as `doctor` does."
    )
    workers_file: Path | None = Field(
        default=None,
        description="JSON file whose `workers` has the URL of each worker's /metrics by its name, as `headwater up` "
        "writes it: where the page asks.",
    )
    backtests: Path | None = Field(
        default=None, description="Folder whose results of `headwater replay backtest --out` the page shows."
    )


class OperationsSettings(_Section):
    """What every worker has: health, metrics, logs."""

    host: str = Field(default="127.0.0.1", description="Address that /metrics, /healthz and /readyz listen on.")
    port: int = Field(default=0, ge=0, le=65535, description="Port of the same; 0 takes a free one and logs it.")
    stall_s: float = Field(
        default=30.0, gt=0, description="A worker with work waiting and no progress for this long exits."
    )
    drain_s: float = Field(default=10.0, gt=0, description="After SIGTERM, the longest time to finish what was begun.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged.")
    log_user_ids: bool = Field(
        default=False, description="Write user ids into logs as they are; else a short keyed hash of each."
    )


class PrivacySettings(_Section):
    """What people may ask of what is known of them (docs/privacy.md)."""

    signing_key: Path | None = Field(
        default=None,
        description="PEM file of an Ed25519 private key, by which certificates of erasures are signed; needs the extra "
        "`signing`.",
    )
    pseudonym_keys: SecretStr | None = Field(
        default=None,
        description="Keys by which apps and commands call users in the place of their ids, one a line, newest last "
        "(docs/privacy.md). Without, ids are sent as they are.",
    )
    pseudonym_keys_file: Path | None = Field(default=None, description="File with those alone.")
    user_keys_file: Path | None = Field(
        default=None,
        description="File with a key for each user, by which apps and commands call users in the place of their ids, "
        "and which `headwater forget` destroys (docs/privacy.md); needs a master key and the extra `user-keys`.",
    )
    master_key: SecretStr | None = Field(
        default=None,
        description="64 hexadecimal digits, by which the key of that file, and of a store whose states are sealed, is "
        "wrapped.",
    )
    master_key_file: Path | None = Field(default=None, description="File with those alone.")
    master_key_command: str | None = Field(
        default=None,
        description="Or a program that asks a KMS: run with `wrap` or `unwrap` behind its words, base64 on its stdin "
        "and stdout (docs/privacy.md).",
    )
    seal_states: bool = Field(
        default=False,
        description="Whether histories and attributes are written to Redis sealed, AES-256-GCM by a key of each user, "
        "wrapped by way of the master key (docs/privacy.md); needs the package cryptography. Whatever is said here, "
        "what is sealed is read where the master key is set: give that to all workers first.",
    )
    consent: Literal["off", "opt-out", "opt-in"] = Field(
        default="off",
        description="Whether words on the topic `consents` count. What nobody has said of a user is granted (off, "
        "opt-out), or denied (opt-in). Changed later, a rebuild of the features goes by the new one for the whole log.",
    )


class SigningSettings(_Section):
    """Signatures of what the trainer publishes: bundles, announcements, deltas (SECURITY.md). Off by default."""

    secret_key_file: Path | None = Field(
        default=None,
        description="PEM file of the Ed25519 private key that the trainer, and a rollback, sign with "
        "(`headwater signing make FILE`); needs the extra `signing`.",
    )
    secret_key: SecretStr | None = Field(
        default=None, description="The key itself: that file's text, or its middle line alone."
    )
    public_keys: str = Field(
        default="",
        description="Comma-separated public keys, each ed25519:..., as `headwater signing show` prints them. Where "
        "any are given, what none of them signed for this world is refused. Several: keys are rotated.",
    )

    @field_validator("public_keys")
    @classmethod
    def _of_keys(cls, public_keys: str) -> str:
        keys = [one.strip() for one in public_keys.split(",") if one.strip()]
        for one in keys:
            if not _PUBLIC_KEY.fullmatch(one):
                raise PydanticCustomError(
                    "public_key",
                    "{key} is no public key: give ed25519:..., as `headwater signing show FILE` prints it",
                    {"key": repr(one[:20])},
                )
        return ",".join(dict.fromkeys(keys))


class _Environment(EnvSettingsSource):
    """Variables; one that sets a list may also hold words with commas between them."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            if field is None or get_origin(field.annotation) is not tuple or value.lstrip().startswith("["):
                raise
            return [one.strip() for one in value.split(",") if one.strip()]


class Settings(BaseSettings):
    """All settings. Build it with `load_settings()`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_nested_max_split=1, frozen=True, extra="forbid"
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    streams: StreamsSettings = StreamsSettings()
    model: ModelSettings = ModelSettings()
    trainer: TrainerSettings = TrainerSettings()
    serving: ServingSettings = ServingSettings()
    replay: ReplaySettings = ReplaySettings()
    gateway: GatewaySettings = GatewaySettings()
    operations: OperationsSettings = OperationsSettings()
    privacy: PrivacySettings = PrivacySettings()
    signing: SigningSettings = SigningSettings()
    signals: dict[str, Signal] = Field(
        default_factory=dict, description="What types of event mean, by name: see docs/signals.md."
    )
    surfaces: dict[str, Surface] = Field(
        default_factory=dict,
        description="Places on the page, by name: see docs/surfaces.md. One of the topic `surfaces` takes its place.",
    )

    @field_validator("signals")
    @classmethod
    def _of_types(cls, signals: dict[str, Signal]) -> dict[str, Signal]:
        for name in signals:
            if not re.fullmatch(EVENT_TYPE_PATTERN, name):
                raise PydanticCustomError("type_of_event", "{name} {why}", {"name": repr(name), "why": NO_TYPE})
        return signals

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over file; no dotenv, no secrets folder."""
        file = TomlConfigSettingsSource(settings_cls, Path(os.environ.get("HEADWATER_CONFIG", "headwater.toml")))
        return init_settings, _Environment(settings_cls), file


def load_settings(**given: Any) -> Settings:
    """The settings in force.

    Parameters
        given: section name -> dict or section; wins over environment and file.

    Raises
        SettingsError: an unknown key, a malformed value, or a missing `HEADWATER_CONFIG` file.
    """
    named = os.environ.get("HEADWATER_CONFIG")
    if named and not Path(named).is_file():
        raise SettingsError(f"HEADWATER_CONFIG names {named}, which is not a file: correct it or unset it")
    unknown = [
        name
        for name in os.environ
        if name.startswith(ENV_PREFIX)
        and not name.startswith(NOT_SETTINGS)
        and name.removeprefix(ENV_PREFIX).split("__")[0].lower() not in Settings.model_fields
    ]
    if unknown:
        sections = ", ".join(f"{ENV_PREFIX}{name.upper()}__..." for name in Settings.model_fields)
        raise SettingsError(
            f"unknown setting in the environment: {', '.join(unknown)}. Known: {sections} (docs/settings.md)"
            f"{did_you_mean(unknown[0].removeprefix(ENV_PREFIX).split('__')[0], Settings.model_fields)}"
        )
    try:
        return Settings(**given)
    except ValidationError as error:
        raise _refused(error, Settings) from None  # its text quotes values, which may be secrets
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{named or 'headwater.toml'} is not TOML: {error}") from error
    except UnreadableSource as error:  # its cause quotes the value, which may be a secret
        text = f"{error}. Give JSON, or set single values, such as {ENV_PREFIX}KAFKA__BOOTSTRAP; see docs/settings.md"
        raise SettingsError(text) from None


def read_surfaces(path: Path) -> dict[str, Surface]:
    """Surfaces by name, from a TOML file.

    Parameters
        path: the file: a table `[surfaces.NAME]` for each, as in the settings, or the fields of one surface, whose name
            is then the file's: `home.toml` is `home`.

    Raises
        SettingsError: the file cannot be read, or says no surface.
    """
    return surfaces_of(_toml(path, A_SURFACE), path.stem, str(path))


A_SURFACE = "give the fields of a surface, or a table [surfaces.NAME] for each (docs/surfaces.md)"


def surfaces_of(tree: Mapping[str, Any], stem: str, where: str) -> dict[str, Surface]:
    """Surfaces by name, of TOML's values.

    Parameters
        tree: as the file of `read_surfaces` has it.
        stem: name of a surface whose fields stand alone.
        where: what the error names.

    Raises
        SettingsError: it says no surface.
    """
    named = tree.get("surfaces")
    beside = [name for name in tree if name not in Settings.model_fields]
    if named is None:
        named = {stem: dict(tree)}
    elif beside:
        raise SettingsError(f"{where}: {beside[0]!r} stands beside [surfaces...]: {A_SURFACE}")
    if not tree or not named or not isinstance(named, dict):
        raise SettingsError(f"{where} says no surface: {A_SURFACE}")
    try:
        return TypeAdapter(dict[Id, Surface]).validate_python(named)
    except ValidationError as error:
        raise _refused(error, dict[Id, Surface], "surfaces", where=f"{where}: ") from error


def _toml(path: Path, remedy: str) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML ({error}): {remedy}") from error
    return tree


def read_signals(path: Path) -> dict[str, Signal]:
    """What types of event mean, from a TOML file: a table `[signals.NAME]` or `[NAME]` for each type.

    Parameters
        path: the file; of one with all settings the signals alone are taken.

    Raises
        SettingsError: the file cannot be read, or a table of it is no signal.
    """
    remedy = "give a TOML file with a table [signals.NAME] for each type (docs/signals.md)"
    tree = _toml(path, remedy)
    section = tree.get("signals")
    if isinstance(section, dict) and all(isinstance(one, dict) for one in section.values()):
        beside = [name for name in tree if name not in Settings.model_fields]
        if beside:
            raise SettingsError(f"{path}: [{beside[0]}] stands beside [signals...]: write [signals.{beside[0]}]")
        tree = section
    if not tree:
        raise SettingsError(f"{path} names no type of event: {remedy}")
    return signals_of(tree, str(path))


def signals_of(tree: Mapping[str, Any], where: str) -> dict[str, Signal]:
    """Signals by type, of TOML's values.

    Parameters
        where: what the error names.

    Raises
        SettingsError: a name is no type of event, or a value no signal.
    """
    for name in tree:
        if not re.fullmatch(EVENT_TYPE_PATTERN, name):
            raise SettingsError(f"{where}: {name!r} {NO_TYPE}")
    try:
        return TypeAdapter(dict[str, Signal]).validate_python(tree)
    except ValidationError as error:
        raise _refused(error, dict[str, Signal], "signals", where=f"{where}: ") from error


def changed_kafka(kafka: KafkaSettings, **changed: Any) -> KafkaSettings:
    """The same with other values. Raises SettingsError for a malformed one."""
    try:
        return KafkaSettings(**{**kafka.model_dump(), **changed})
    except ValidationError as error:
        raise _refused(error, KafkaSettings, "kafka") from None


PAGES = {
    "surfaces": "What a surface may say is in docs/surfaces.md",
    "signals": "What a type may mean is in docs/signals.md",
}
"""Where each field of a section is told of, where that is not the table of all settings."""


def _refused(error: ValidationError, told: Any, *section: str, where: str = "") -> SettingsError:
    """`told` is what was validated, a model or an annotation, which stands in this section."""
    problems, pages = [], dict[str, None]()
    for problem in error.errors():
        at = [*section, *map(str, problem["loc"])]
        problems.append(f"{'.'.join(at)}: {problem_text(problem, told)} (given {_masked(problem, at)})")
        pages[PAGES.get(at[0], "Every setting is listed in docs/settings.md") if at else ""] = None
    return SettingsError(f"{where}{'; '.join(problems)}. {'. '.join(filter(None, pages))}")


SECRET_WORDS = ("password", "secret", "token")
"""A setting whose name has one of them is not shown, whatever it is."""


def _masked(problem: Any, at: Sequence[str]) -> str:
    """The value of a problem, unless it may be a secret: by name, because its name is unknown (sasl_pasword), or as an
    address that has a login.
    """
    secret = not {"url", "bundles"}.isdisjoint(at) or any(word in name for name in at for word in SECRET_WORDS)
    if secret or problem["type"] == "extra_forbidden" or len(at) < 2 or "@" in str(problem["input"]):
        return "a value that is not shown"
    return repr(problem["input"])
