"""A member of a consumer group, what it asks when it joins, and the answers that members get.

Knows no rules.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from embedded.protocol import Code

Protocols = list[tuple[str, bytes]]


@dataclass(frozen=True, kw_only=True)
class JoinRequest:
    """What a member asks; `member_id` is empty the first time, `instance` is None for a dynamic member.

    `id_required`: the client knows that it must come again with the id it is given. `may_skip`: it knows that a leader
    may be told to assign nothing.
    """

    member_id: str
    instance: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: Protocols
    id_required: bool
    may_skip: bool


@dataclass(frozen=True)
class Joined:
    """Answer to a join: for the leader `members` holds (id, instance, metadata) of everyone."""

    code: Code
    member_id: str
    generation: int = -1
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    skip_assignment: bool = False


@dataclass(frozen=True)
class Synced:
    """Answer to a sync."""

    code: Code
    assignment: bytes = b""


@dataclass(eq=False)
class Member:
    """A member as the coordinator sees it; `expires` is on the event loop's clock."""

    id: str
    instance: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocols: Protocols
    assignment: bytes = b""
    expires: float = 0.0
    joining: "asyncio.Future[Joined] | None" = None
    syncing: "asyncio.Future[Synced] | None" = None

    @property
    def waiting(self) -> bool:
        """True while the member waits for us, and so cannot be late itself."""
        return any(future is not None and not future.done() for future in (self.joining, self.syncing))

    @property
    def has_joined(self) -> bool:
        """True while its join waits for the rebalance to complete."""
        return self.joining is not None and not self.joining.done()

    def metadata(self, protocol: str | None) -> bytes:
        """What it sent for the chosen protocol."""
        return dict(self.protocols).get(protocol or "", b"")

    def refuse(self, code: Code) -> None:
        """Answers whatever it waits for with an error."""
        if self.joining is not None and not self.joining.done():
            self.joining.set_result(Joined(code, self.id))
        if self.syncing is not None and not self.syncing.done():
            self.syncing.set_result(Synced(code))

    def facts(self) -> list[Any]:
        """What should outlive the process, as JSON types."""
        return [
            self.id,
            self.instance,
            self.client_id,
            self.client_host,
            self.session_ms,
            self.rebalance_ms,
            [[name, data.hex()] for name, data in self.protocols],
            self.assignment.hex(),
        ]

    @classmethod
    def from_facts(cls, facts: list[Any]) -> "Member":
        """The member whose facts these are."""
        i, instance, client_id, client_host, session_ms, rebalance_ms, protocols, assignment = facts
        return cls(
            i,
            instance,
            client_id,
            client_host,
            session_ms,
            rebalance_ms,
            [(name, bytes.fromhex(data)) for name, data in protocols],
            bytes.fromhex(assignment),
        )
