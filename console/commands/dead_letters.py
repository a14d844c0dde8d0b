"""`headwater dead-letters`: what was refused and why, and sending it again once the cause is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions, Utc
from console.printing import printer
from console.sending import end_of_sending, waited

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

    from headwater.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Refused messages: list them, send them again.")

REASONS: tuple[str, ...] = (
    "undecodable",
    "schema",
    "unknown_version",
    "event_time_ahead",
    "event_time_unit",
    "items_not_exposure",
    "position_ahead",
    "null_key",
    "key_mismatch",
    "null_value",
)
REASONS += ("too_large", "too_deep", "internal", "unknown")

Reason = Annotated[str | None, typer.Option(help=f"Only those refused for this reason: {', '.join(REASONS)}.")]


@app.command("list")
@grouped
def list_command(
    *,
    reason: Reason = None,
    servers: KafkaOptions,
    utc: Utc = False,
    as_json: Json = False,
) -> None:
    """Every dead letter: when and where it came from, why it was refused, and what it says."""
    import orjson
    from rich.text import Text

    from console.commands.tail import record_fields
    from console.times import shown_time

    out = printer(soft_wrap=True)
    count = 0
    for record in _letters(servers.settings(), reason):
        fields = record_fields(record)
        headers = fields["headers"]
        count += 1
        if as_json:
            print(orjson.dumps(fields).decode())
            continue
        source = f"{headers.get('source-topic')}[{headers.get('source-partition')}]@{headers.get('source-offset')}"
        line = Text(f"@{record.offset}  {shown_time(record.timestamp, utc=utc)}  ", style="dim")
        line.append(f"{headers.get('reason') or 'unknown'!s:<18}", style="red").append(f" {source}  ", style="cyan")
        line.append(str(headers.get("error") or "not a dead letter of a Headwater worker"))
        out.print(line)
    if not as_json:
        of = f" of reason {reason}" if reason else ""
        out.print(
            f"[dim]{count} dead letters{of}."
            + (" Send them again with `headwater dead-letters redrive`." if count else "")
        )


@app.command("redrive")
@grouped
def redrive_command(
    *,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent again before.")] = False,
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """Send refused messages to the topic they came from, with the key and value they had; of a packed record the event.

    Harmless when repeated: an event that was applied since is recognised by its event_id. Messages that were sent again
    by an earlier redrive (of all reasons), and those that were refused once more after one, are left out, unless
    --again. Left out always: letters that were cut because they were too large, packed records that were refused whole,
    and records on dead-letters that no worker wrote. Exit code 1 when a worker refuses one again.
    """
    import orjson

    from console.look.cluster import must_exist
    from console.look.redriven import mark_redriven, redriven
    from console.look.refusals import RefusalWatch
    from headwater.topics import DEAD_LETTERS

    settings = servers.settings()
    must_exist(settings.kafka, DEAD_LETTERS)  # a consumer that names a missing topic has the broker make it
    done = -1 if again else redriven(settings.kafka)
    letters = [record for record in _letters(settings, reason) if record.offset > done]
    left_out = Counter(why for record in letters if (why := _why_not(record, settings, again=again)))
    to_send = [record for record in letters if not _why_not(record, settings, again=again)]
    said = "".join(f"\n{count} left out: {why}" for why, count in sorted(left_out.items()))
    told = {"to_send": len(to_send), "sent": 0, "left_out": dict(left_out)}
    if dry_run or not to_send:
        print(orjson.dumps(told).decode() if as_json else f"{len(to_send)} dead letters to send again{said}")
        return
    watch = RefusalWatch(settings.kafka)
    sent = _send_again(settings, to_send)
    if reason is None:
        mark_redriven(settings.kafka, letters[-1].offset)
    text = f"{len(to_send)} dead letters sent again. A message that is refused again becomes a new dead letter.{said}"
    end_of_sending(text, {**told, "sent": len(to_send)}, waited(watch, sent, as_json), as_json)


def _send_again(settings: Settings, letters: list[ConsumerRecord]) -> dict[int, list[int]]:
    """Send them; the offsets of those that went to `events`, by partition. Raises Unavailable with how many arrived."""
    from kafka.errors import KafkaError

    from headwater.errors import Unavailable
    from headwater.kafka import producer
    from headwater.topics import EVENTS, topic_name

    events: dict[int, list[int]] = {}
    arrived = 0
    sender = producer(settings.kafka)
    try:
        sent = []
        for record in letters:
            topic, headers, told_ms = _redriving(record, settings.kafka.prefix)
            sent.append(sender.send(topic, key=record.key, value=record.value, headers=headers, timestamp_ms=told_ms))
        sender.flush()
        for future in sent:
            at = future.get(30)
            arrived += 1
            if at.topic == topic_name(EVENTS, settings.kafka.prefix):
                events.setdefault(at.partition, []).append(at.offset)
    except KafkaError as error:
        raise Unavailable(
            f"{arrived} of {len(letters)} dead letters were sent again, then Kafka took none ({error!r}). Run the same "
            "command again: an event that was applied is known by its event_id."
        ) from error
    finally:
        sender.close()
    return events


def _why_not(record: ConsumerRecord, settings: Settings, *, again: bool) -> str | None:
    """Why a letter is not sent again; None when it is."""
    from headwater.topics import EVENTS, TOPICS, topic_name
    from headwater.wire import read_letter

    headers = dict(record.headers or ())
    letter = read_letter(record.headers)
    if letter is None or letter.topic not in {topic_name(topic, settings.kafka.prefix) for topic in TOPICS}:
        return "not a dead letter of a worker of this world"
    if {"truncated", "truncated-key", "truncated-headers"} & headers.keys():
        return "cut because it was too large; send it again from its source"
    if letter.topic == topic_name(EVENTS, settings.kafka.prefix) and (record.value or b"").lstrip()[:1] == b"[":
        return "a packed record that was refused whole; send its events again from their source"
    if "redriven-from" in headers and not again:
        return "sent again before and refused again; --again sends them once more"
    return None


def _redriving(record: ConsumerRecord, prefix: str) -> tuple[str, list[tuple[str, bytes]], int | None]:
    """Topic; headers: what it had, where it was refused first, and the event_id and time that it had there; and the
    time of the record, None for now.

    An event that names neither has them from its record, and a record that is sent again has another place and time.
    What other topics tell of a person counts by the time of its record: told as of now, attributes and links of before
    an erasure, or a word that was taken back since, would count once more.
    """
    from datetime import UTC, datetime

    from headwater.topics import CONSENTS, ERASURES, IDENTITIES, USERS, topic_name
    from headwater.wire import is_kept_header, read_letter

    letter = read_letter(record.headers)
    assert letter is not None
    had = dict(record.headers)
    place = f"{letter.topic}/{letter.partition}/{letter.offset}/{letter.place}".encode()
    headers = {name: content for name, content in had.items() if is_kept_header(name) and content is not None}
    headers.setdefault("ce_id", f"{letter.partition}-{letter.offset}-{letter.place}".encode())
    try:
        at_ms = int(had["source-timestamp"])
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        at_ms = record.timestamp
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    headers.setdefault("ce_time", at.isoformat().encode())
    is_of_person = letter.topic in {topic_name(one, prefix) for one in (USERS, IDENTITIES, CONSENTS, ERASURES)}
    told_ms = max(0, min(at_ms, record.timestamp)) if is_of_person else None  # no later than it was refused
    return letter.topic, [("redriven-from", place), *headers.items()], told_ms


def _reason(record: ConsumerRecord) -> str:
    return (dict(record.headers or ()).get("reason") or b"unknown").decode(errors="replace")


def _letters(settings: Settings, reason: str | None) -> Iterator[ConsumerRecord]:
    """Every dead letter up to now, oldest first.

    Anyone can write to the topic, and another release may have other reasons: so the letters are asked, too.

    Raises
        Unavailable: there is no such topic, or no Kafka answers.
        SettingsError: a reason that neither we nor any letter has.
    """
    from console.look.cluster import must_exist
    from headwater.errors import SettingsError
    from headwater.kafka import read_topic
    from headwater.topics import DEAD_LETTERS

    must_exist(settings.kafka, DEAD_LETTERS)
    found = False
    for record in read_topic(settings.kafka, DEAD_LETTERS):
        if reason in (None, _reason(record)):
            found = True
            yield record
    if not (found or reason is None or reason in REASONS):
        raise SettingsError(
            f"--reason {reason!r}: no message is refused for that, and no dead letter has it. Reasons: "
            f"{', '.join(REASONS)}"
        )
