"""Servers that let in whom they know: Apache Kafka with SCRAM users and its authorizer, a store with ACL users."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from console.acls_printed import redis_lines
from embedded import EmbeddedStore
from headwater.kafka import admin_client
from headwater.security.parties import PARTIES, Party, Right
from headwater.settings import KafkaSettings, RedisSettings
from tests.worlds.brokers import ApacheKafka

__all__ = ["PREFIX", "GuardedStore", "SecuredKafka", "as_party", "everybody", "grant", "in_store", "revoke"]

PREFIX = "shop."
OWNER = "broker"


class SecuredKafka(ApacheKafka):
    """With SCRAM users: its own, and one for each party with the password `pw-NAME`."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        users = [word for name in (OWNER, *(one.name for one in PARTIES)) for word in ("--scram", f"{name}:pw-{name}")]
        super().__init__(data_dir, options=(*users, *options))

    def ready(self) -> bool:
        """True once its owner is let in."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def as_party(broker: ApacheKafka, name: str, **more: Any) -> KafkaSettings:
    """How a party logs in there."""
    return KafkaSettings(
        **{
            "bootstrap": broker.address,
            "prefix": PREFIX,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": name,
            "sasl_password": SecretStr(f"pw-{name}"),
            **more,
        }
    )


def _acl(party: str, right: Right) -> Any:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    operation = "".join(f"_{one}" if one.isupper() else one for one in right.operation).lstrip("_").upper()
    pattern = ResourcePattern(ResourceType[right.kind.upper()], right.name)
    return ACL(f"User:{party}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)


def grant(owner: KafkaSettings, party: Party, rights: Iterable[Right]) -> None:
    """Allow a party that much."""
    admin = admin_client(owner)
    try:
        done = admin.create_acls([_acl(party.name, right) for right in rights])
        assert not done["failed"], done
    finally:
        admin.close()


def revoke(owner: KafkaSettings, party: Party, right: Right) -> None:
    """Take one right away."""
    from kafka.admin import ACLFilter

    admin = admin_client(owner)
    one = _acl(party.name, right)
    try:
        admin.delete_acls(
            [ACLFilter(one.principal, one.host, one.operation, one.permission_type, one.resource_pattern)]
        )
    finally:
        admin.close()


def everybody(principal: str) -> Any:
    """A filter of all that a principal is allowed."""
    from kafka.admin import (
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePatternFilter,
        ResourceType,
    )

    anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    return ACLFilter(principal, None, ACLOperation.ANY, ACLPermissionType.ANY, anything)


class GuardedStore(EmbeddedStore):
    """With the users of `headwater acls --redis`, each with the password `pw-NAME`."""

    def command(self) -> list[str]:
        users = self.data_dir / "users.acl"
        lines = [*redis_lines(PARTIES, PREFIX, "pw-{}"), "user owner on >pw-owner ~* +@all"]
        users.write_text("\n".join(lines) + "\n")
        return [*super().command(), "--aclfile", str(users)]

    def ready(self) -> bool:
        """True once it answers, if only that it wants to know who asks."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"-NOAUTH")
        except OSError:
            return False


def in_store(store: EmbeddedStore, name: str) -> RedisSettings:
    """How a party logs in there."""
    return RedisSettings(url=SecretStr(store.address), username=name, password=SecretStr(f"pw-{name}"))
