"""Where the servers are: what `headwater up` wrote down, and the settings that a command works with.

Before: flags, environment, file. After: `headwater.settings`. Starts no process.

Order for each address: the flag, the environment or settings file, the addresses of a running `headwater up` in the
data folder, the default.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from console.local import DEFAULT_DATA
from headwater.errors import SettingsError
from headwater.settings import Settings, load_settings

if TYPE_CHECKING:
    from console.local.supervisor import Supervisor

__all__ = [
    "GATEWAY",
    "Addresses",
    "Servers",
    "addresses_file",
    "addresses_of",
    "http_of",
    "keep_written",
    "located_settings",
    "running_addresses",
    "servers_to_run",
    "trainer_directory",
    "usual_port",
    "with_page",
    "workers_of",
]

FILE_NAME = "addresses.json"
GATEWAY = "gateway"


@dataclass(frozen=True)
class Addresses:
    """What a running `headwater up` listens on. `workers` is worker name -> URL of its /metrics, /healthz, /readyz;
    `shards` are those of its store; `gateway` is where HTTP is spoken.
    """

    pid: int
    kafka: str
    redis: str
    prefix: str
    broker: str
    store: str
    data: str
    bundles: str
    checkpoints: str
    workers: dict[str, str] = field(default_factory=dict)
    shards: int = 1
    gateway: str = ""

    def serves(self, settings: Settings) -> bool:
        """Whether these workers are those of the world that the settings name."""
        return (self.kafka, self.prefix) == (settings.kafka.bootstrap, settings.kafka.prefix)

    def write(self, directory: Path) -> Path:
        """Put this in the folder for other commands, readable by its owner only: a URL may hold a password."""
        path = addresses_file(directory)
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(path)
        return path

    @staticmethod
    def remove(directory: Path) -> None:
        """Take the file away: nothing runs here any more."""
        (directory / FILE_NAME).unlink(missing_ok=True)


def addresses_file(directory: Path) -> Path:
    """Where a running `headwater up` of this folder writes where everything is."""
    return directory / FILE_NAME


def running_addresses(directory: Path) -> Addresses | None:
    """What the `headwater up` of this folder listens on; None when none runs."""
    try:
        found = Addresses(**json.loads((directory / FILE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # somebody else's process of that number: alive
        pass
    return found


def workers_of(settings: Settings, directory: Path) -> dict[str, str]:
    """Worker -> URL of the `headwater up` of this folder; empty where none runs, or for another world than that of the
    settings.
    """
    running = running_addresses(directory)
    return running.workers if running is not None and running.serves(settings) else {}


def trainer_directory(data: Path) -> Path:
    """Where the trainer of the `headwater up` of this folder has its checkpoints, running or not; what the settings
    name comes before. Raises SettingsError.
    """
    plain = load_settings().trainer
    if "directory" in plain.model_fields_set:
        return plain.directory
    running = running_addresses(data)
    return data / "trainer" if running is None else Path(running.checkpoints)


def _refuse_login(kafka: str | None, redis: str | None) -> None:
    """A command line is no place for a password: everybody on the machine sees it."""
    if kafka is not None and "@" in kafka:
        raise SettingsError(
            "--kafka has a login in it, which `ps` shows to everybody here. Give host:port, and set "
            "kafka.security_protocol, kafka.sasl_username and kafka.sasl_password_file "
            "(HEADWATER_KAFKA__SASL_USERNAME, HEADWATER_KAFKA__SASL_PASSWORD_FILE)"
        )
    if redis is not None and ":" in redis.partition("://")[2].rpartition("@")[0]:
        raise SettingsError(
            "--redis has a password in it, which `ps` shows to everybody here. Leave it out, and set redis.username "
            "and redis.password_file (HEADWATER_REDIS__USERNAME, HEADWATER_REDIS__PASSWORD_FILE)"
        )


def located_settings(kafka: str | None, redis: str | None, prefix: str | None, data: Path) -> Settings:
    """The settings that a command works with, its servers found as the module says. Raises SettingsError."""
    _refuse_login(kafka, redis)
    given: dict[str, dict[str, Any]] = {"kafka": {}, "redis": {}, "trainer": {}, "serving": {}}
    plain = load_settings()
    running = running_addresses(data)
    if running is None and data != DEFAULT_DATA and kafka is None and "bootstrap" not in plain.kafka.model_fields_set:
        raise SettingsError(
            f"nothing runs in {data}. Start it with `headwater up --data {data}` (with --servers-only for a restore, "
            "rebuild or unlearn), or name a broker with --kafka."
        )
    if running is not None and kafka is None and "bootstrap" not in plain.kafka.model_fields_set:
        given["kafka"]["bootstrap"] = running.kafka
        if "prefix" not in plain.kafka.model_fields_set:
            given["kafka"]["prefix"] = running.prefix
        if "url" not in plain.redis.model_fields_set:
            given["redis"]["url"] = running.redis
            if redis is None and "shards" not in plain.redis.model_fields_set:
                given["redis"]["shards"] = running.shards
        for section in ("trainer", "serving"):
            if "bundles" not in getattr(plain, section).model_fields_set:
                given[section]["bundles"] = running.bundles
        if "directory" not in plain.trainer.model_fields_set:
            given["trainer"]["directory"] = running.checkpoints
    for section, name, value in (
        ("kafka", "bootstrap", kafka),
        ("kafka", "prefix", prefix),
        ("redis", "url", redis),
    ):
        if value is not None:
            given[section][name] = value
    return load_settings(**{section: values for section, values in given.items() if values})


class Servers(NamedTuple):
    """The settings to run workers with, and whether broker and store are the embedded ones."""

    settings: Settings
    embedded_kafka: bool
    embedded_redis: bool


def servers_to_run(
    data: Path, kafka: str | None = None, redis: str | None = None, prefix: str | None = None
) -> Servers:
    """What `headwater up` runs with: the embedded servers, but for those that flags, environment or file name.

    What the trainer writes goes into `data`, unless it has another place. Raises SettingsError.
    """
    _refuse_login(kafka, redis)
    plain = load_settings()
    given: dict[str, dict[str, Any]] = {"kafka": {}, "redis": {}, "trainer": {}, "serving": {}}
    if kafka is not None:
        given["kafka"]["bootstrap"] = kafka
    if prefix is not None:
        given["kafka"]["prefix"] = prefix
    if redis is not None:
        given["redis"]["url"] = redis
    if "directory" not in plain.trainer.model_fields_set:
        given["trainer"]["directory"] = data / "trainer"
    set_for = [one.bundles for one in (plain.trainer, plain.serving) if "bundles" in one.model_fields_set]
    for section in ("trainer", "serving"):
        if "bundles" not in getattr(plain, section).model_fields_set:
            given[section]["bundles"] = set_for[0] if set_for else data / "models"
    settings = load_settings(**{section: values for section, values in given.items() if values})
    embedded_kafka = "bootstrap" not in settings.kafka.model_fields_set
    return Servers(settings, embedded_kafka, "url" not in settings.redis.model_fields_set)


def addresses_of(supervisor: Supervisor, servers: Servers) -> Addresses:
    """Where all that this process supervises listens now."""
    settings = supervisor.settings
    return Addresses(
        pid=os.getpid(),
        kafka=settings.kafka.bootstrap,
        redis=settings.redis.url.get_secret_value(),
        prefix=settings.kafka.prefix,
        broker="embedded" if servers.embedded_kafka else "given",
        store="embedded" if servers.embedded_redis else "given",
        data=str(supervisor.directory),
        bundles=str(settings.trainer.bundles),
        checkpoints=str(settings.trainer.directory),
        workers={name: worker.url for name, worker in supervisor.workers.items()},
        shards=settings.redis.shards,
        gateway=http_of(supervisor),
    )


def http_of(supervisor: Supervisor) -> str:
    """URL of the gateway; empty where none is supervised."""
    own = supervisor.settings.gateway
    return f"http://{own.host}:{own.port}" if GATEWAY in supervisor.workers else ""


def keep_written(supervisor: Supervisor, servers: Servers, stopping: threading.Event) -> None:
    """Write `addresses.json`, and again whenever a restarted worker has a new port, until told to stop."""
    written: Addresses | None = None
    while True:
        now = addresses_of(supervisor, servers)
        if now != written:
            written = now
            written.write(supervisor.directory)
        if stopping.wait(0.5):
            return


def with_page(settings: Settings, data: Path) -> Settings:
    """The gateway's port where it is free, else another: known before it starts, and kept when it starts again. It has
    the page, which finds the workers by what is written into the data folder."""
    from embedded import free_port

    own = settings.gateway
    update: dict[str, object] = {"port": usual_port(own.port) or free_port()}
    if "page" not in own.model_fields_set:
        update |= {"page": True, "workers_file": own.workers_file or addresses_file(data)}
        update["backtests"] = own.backtests or data / "backtests"
    return settings.model_copy(update={"gateway": own.model_copy(update=update)})


def usual_port(port: int) -> int:
    """The port when it is free, else 0, which takes any free one."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
