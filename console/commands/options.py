"""Options that many commands share, spelled once. Light: imported by every command module at start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.local import DEFAULT_DATA

if TYPE_CHECKING:
    from headwater.settings import Settings

__all__ = ["Data", "Days", "Json", "Kafka", "KafkaOptions", "Prefix", "ServerOptions", "Utc", "json_fields", "since_ms"]

DAY_MS = 86_400_000

Kafka = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Kafka to use. Default: settings, else what `headwater up` runs."),
]
Redis = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Redis or Valkey to use. Default: settings, else what `headwater up` runs."),
]
Prefix = Annotated[str | None, typer.Option(help="World: what stands before topics, groups and Redis keys.")]
Data = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the `headwater up` to talk to.")]
Days = Annotated[
    float | None, typer.Option(min=0.01, max=36_500, help="Only so many days back. Default: all of the log.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Utc = Annotated[bool, typer.Option("--utc", help="Times in UTC. Default: the zone of this machine, with its offset.")]


@dataclass(frozen=True)
class KafkaOptions:
    """Which running Headwater a command talks to, through Kafka."""

    kafka: Kafka = None
    prefix: Prefix = None
    data: Data = DEFAULT_DATA

    def settings(self) -> Settings:
        """The settings to work with. Raises SettingsError."""
        from console.local.addresses import located_settings

        return located_settings(self.kafka, None, self.prefix, self.data)


@dataclass(frozen=True)
class ServerOptions:
    """Which running Headwater a command talks to, through Kafka and Redis."""

    kafka: Kafka = None
    redis: Redis = None
    prefix: Prefix = None
    data: Data = DEFAULT_DATA

    def settings(self) -> Settings:
        """The settings to work with. Raises SettingsError."""
        from console.local.addresses import located_settings

        return located_settings(self.kafka, self.redis, self.prefix, self.data)


def json_fields(given: Sequence[str], option: str, *, words: bool = False) -> dict[str, Any]:
    """Of an option that is given again and again, `FIELD=JSON`: value by field.

    Parameters
        words: whether a value that is no JSON is the text that it is, `kind=again`.

    >>> json_fields(["diversity=0.3", "kind=again"], "--set", words=True)
    {'diversity': 0.3, 'kind': 'again'}
    """
    import orjson

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            if words and equals and value[:1].isalnum():
                found[name.strip()] = value
                continue
            remedy = "a text needs quotes within" if equals else "write FIELD=JSON"
            raise typer.BadParameter(f"{option} {text!r}: {remedy} ({error})") from error
    return found


def since_ms(days: float | None) -> int:
    """From when on events count, epoch ms, where only so many days back are asked for."""
    from headwater.events import now_ms

    return 0 if days is None else max(0, round(now_ms() - days * DAY_MS))
