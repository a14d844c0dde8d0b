"""The audit log: who did what to a world, each record naming the digests of those before it.

Before: a verb that changes something or shows a person's data. After: `headwater audit log`. Every record carries a
SHA-256 of itself and names the records that no other had named when it was written. One that is taken out or changed is
missed by those that name it; several writers at the same moment name the same, and the next one names them all. Only
the newest, which nobody has named yet, can go unseen: a certificate tells the digest of its own record, and `--head`
asks for one. No record holds an id of a person.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import InvalidMessage
from headwater.events import EpochMs, now_ms
from headwater.kafka import BoundedReader, Span, ensure_topics, read_topic
from headwater.kafka.sending import send_records
from headwater.settings import KafkaSettings
from headwater.topics import AUDIT
from headwater.wire.values import refuse_deep

__all__ = ["AuditCheck", "AuditRecord", "audit_begins", "check_audit", "read_audit", "write_audit"]

NEWEST = 500
"""Records that are looked at for those that nobody has named yet."""


class AuditRecord(BaseModel):
    """One deed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: str = Field(description="The verb: forget, export, rollback, rebuild ...")
    by: str = Field(description="Who: the user of the machine, unless a name was given.")
    audited_time: EpochMs
    target: dict[str, Any] = Field(default_factory=dict, description="To what; a person by the digest of the id.")
    after: tuple[str, ...] = Field(description="Digests of the records that nobody had named before.")
    digest: str = Field(default="", description="SHA-256 of the record without this field.")

    def own_digest(self) -> str:
        """What `digest` has to be."""
        body = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


class AuditCheck(NamedTuple):
    """What a look at the whole log found.

    Fields
        records: how many there are.
        heads: digests of those that nobody names: one, unless several wrote at the same moment.
        begins: offset at which the log does; above 0 some are gone, and what these were is not missed by those that
            name them.
        problems: in words, by place.
    """

    records: int
    heads: tuple[str, ...]
    begins: int
    problems: tuple[str, ...]


def write_audit(kafka: KafkaSettings, action: str, target: Mapping[str, Any], by: str | None = None) -> AuditRecord:
    """Write what was done; returns when Kafka has it.

    Parameters
        kafka: where, and the prefix.
        action, target: what, to what; never an id of a person.
        by: who; None for the user of this machine.

    Raises
        Unavailable: Kafka does not take it: what is not audited must not be done.
    """
    ensure_topics(kafka, topics=[AUDIT])
    heads = _heads(record for _, record in _newest(kafka))
    made = AuditRecord(
        action=action, by=by or getpass.getuser(), audited_time=now_ms(), target=dict(target), after=tuple(heads)
    )
    made = made.model_copy(update={"digest": made.own_digest()})
    send_records(kafka, AUDIT, [(None, orjson.dumps(made.model_dump(mode="json")))])
    return made


def _newest(kafka: KafkaSettings) -> list[tuple[int, AuditRecord | None]]:
    with BoundedReader(kafka, AUDIT) as reader:
        found = []
        for span in reader.spans():
            first = max(span.first, span.end - NEWEST)
            found += [
                (record.offset, read_audit_record(record.value))
                for record in reader.records(Span(span.partition, span.oldest, first, span.end))
            ]
        return found


def _heads(records: Iterable[AuditRecord | None]) -> list[str]:
    """Digests that none of the records names, in their order."""
    heads: dict[str, None] = {}
    for record in records:
        if record is not None:
            for named in record.after:
                heads.pop(named, None)
            heads[record.digest] = None
    return list(heads)


def read_audit_record(value: bytes | None) -> AuditRecord | None:
    """What one record of `audit` says, which anyone may have sent; None of one that is none. Never raises."""
    try:
        body = orjson.loads(value or b"")
        refuse_deep(body, AUDIT.name)  # what is deeper can be read, and not be written for its digest
        return AuditRecord.model_validate(body)
    except (ValidationError, orjson.JSONDecodeError, InvalidMessage):
        return None


def read_audit(kafka: KafkaSettings) -> list[tuple[int, AuditRecord | None]]:
    """Every record with its offset; None of one that is none. Raises Unavailable when there is no such topic."""
    return [(record.offset, read_audit_record(record.value)) for record in read_topic(kafka, AUDIT)]


def audit_begins(kafka: KafkaSettings) -> int:
    """Offset at which the log begins, also where it has no record left. Raises Unavailable when there is no topic."""
    with BoundedReader(kafka, AUDIT) as reader:
        return max(span.oldest for span in reader.spans())


def check_audit(
    found: Iterable[tuple[int, AuditRecord | None]],
    head: str | None = None,
    begins: int | None = None,
    *,
    is_kept: bool = False,
) -> AuditCheck:
    """Whether the log is as it was written.

    Parameters
        found: of `read_audit`.
        head: the digest of a record that must be there, as a certificate or an earlier look told it.
        begins: of `audit_begins`, asked before; None takes the first record that was found.
        is_kept: whether the topic lets no record expire, so that what is gone from its beginning was deleted.
    """
    several = list(found)
    problems: list[str] = []
    if begins is None:
        begins = several[0][0] if several else 0
    if begins and is_kept:
        problems.append(
            f"{AUDIT.name}[0]: begins at offset {begins}, and what came before was deleted by somebody: the topic lets "
            "no record expire, unless that was otherwise for a time"
        )
    known: set[str] = set()
    due = begins
    for offset, record in several:
        at = f"{AUDIT.name}[0]@{offset}"
        if offset > due:
            problems.append(f"{at}: {offset - due} records before it are gone")
        due = offset + 1
        if record is None:
            problems.append(f"{at}: is no record of an audit")
            continue
        if record.digest != record.own_digest():
            problems.append(
                f"{at}: was changed: its digest is {record.digest[:12]}, it makes {record.own_digest()[:12]}"
            )
        missing = [one[:12] for one in record.after if one not in known]
        if missing and not (begins and not known):
            problems.append(f"{at}: names {', '.join(missing)}, which are not before it")
        if not record.after and known:
            problems.append(f"{at}: names nothing although there are records before it")
        known.add(record.digest)
    if head is not None and head not in known:
        problems.append(f"no record has the digest {head[:12]}...: the newest were cut off, or it is another log")
    return AuditCheck(len(several), tuple(_heads(one for _, one in several)), begins, tuple(problems))
