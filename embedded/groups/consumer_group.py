"""One consumer group: generations and rebalances of its roster. The classic protocol, with static members.

Knows nothing of topics, offsets or the wire; time comes from the event loop. The states and the answers in them are
those of Apache Kafka's group coordinator:

    Empty -> PreparingRebalance -> CompletingRebalance -> Stable -> PreparingRebalance ... -> Empty
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from embedded.groups.members import Joined, JoinRequest, Member, Synced
from embedded.groups.roster import Roster
from embedded.protocol import Code

EMPTY, PREPARING, COMPLETING, STABLE = "Empty", "PreparingRebalance", "CompletingRebalance", "Stable"


@dataclass
class Group(Roster):
    """A group. `changed` is called when generation and assignments should outlive the process."""

    id: str
    initial_delay_s: float
    changed: Callable[["Group"], None]
    state: str = EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str | None = None
    pending: dict[str, float] = field(default_factory=dict)  # ids given and not joined yet -> when they expire
    _timer: asyncio.TimerHandle | None = None
    _initial: bool = False
    _newcomer: bool = False

    # --- join

    def join(self, request: JoinRequest) -> "Joined | asyncio.Future[Joined]":
        """A member asks to be in the next generation; the answer may have to wait for the others."""
        member_id, instance, protocol_type = request.member_id, request.instance, request.protocol_type
        if self.members and (
            protocol_type != self.protocol_type or not self._supported({name for name, _ in request.protocols})
        ):
            return Joined(Code.INCONSISTENT_GROUP_PROTOCOL, member_id)
        if not request.protocols or not protocol_type:
            return Joined(Code.INCONSISTENT_GROUP_PROTOCOL, member_id)
        fresh = Member(
            member_id,
            instance,
            request.client_id,
            request.client_host,
            request.session_ms,
            request.rebalance_ms,
            request.protocols,
        )
        if not member_id:
            fresh.id = f"{instance or request.client_id}-{uuid.uuid4()}"
            if instance is not None and instance in self.instances:
                return self._replace_static(fresh, request.may_skip)
            if request.id_required and instance is None:
                self.pending[fresh.id] = _now() + request.session_ms / 1000
                return Joined(Code.MEMBER_ID_REQUIRED, fresh.id)
            return self._add(fresh, protocol_type)
        if member_id in self.pending:
            return self._add(fresh, protocol_type)
        refusal = self._unknown(member_id, instance)
        if refusal is not Code.NONE:
            return Joined(refusal, member_id)
        return self._rejoin(self.members[member_id], fresh)

    def _add(self, member: Member, protocol_type: str) -> "asyncio.Future[Joined]":
        self.pending.pop(member.id, None)
        self.protocol_type = protocol_type
        self._insert(member)
        self._newcomer = True
        return self._await_rebalance(member)

    def _rejoin(self, member: Member, fresh: Member) -> "Joined | asyncio.Future[Joined]":
        same = member.protocols == fresh.protocols
        self.beat(member)
        if same and (self.state == COMPLETING or (self.state == STABLE and member.id != self.leader)):
            return self._current(member)
        member.protocols = fresh.protocols
        member.session_ms, member.rebalance_ms = fresh.session_ms, fresh.rebalance_ms
        return self._await_rebalance(member)

    def _replace_static(self, fresh: Member, may_skip: bool) -> "Joined | asyncio.Future[Joined]":
        old = self.members[self.instances[fresh.instance or ""]]
        leader_before = self.leader
        old.refuse(Code.FENCED_INSTANCE_ID)
        self._replace(old, fresh)
        self.beat(fresh)
        if self.state != STABLE or self._choose_protocol() != self.protocol:
            return self._await_rebalance(fresh)
        self.changed(self)
        answer = self._current(fresh)
        if leader_before != old.id:
            return answer
        if not may_skip:  # clients before join v9: a leader id that is not its own keeps it from assigning
            return Joined(Code.NONE, fresh.id, self.generation, self.protocol, leader_before)
        return replace(answer, skip_assignment=True)

    def _await_rebalance(self, member: Member) -> "asyncio.Future[Joined]":
        if member.joining is not None and not member.joining.done():
            member.joining.set_result(Joined(Code.REBALANCE_IN_PROGRESS, member.id))
        member.joining = asyncio.get_running_loop().create_future()
        future = member.joining
        self.beat(member)
        if self.state != PREPARING:
            self._prepare()
        self._complete_if_all_joined()
        return future

    def _prepare(self) -> None:
        for member in self.members.values():
            if member.syncing is not None and not member.syncing.done():
                member.syncing.set_result(Synced(Code.REBALANCE_IN_PROGRESS))
        self._initial = self.state == EMPTY
        self.state = PREPARING
        if self._initial:
            self._newcomer = False
            self._after(self.initial_delay_s, self._initial_delay_over)
        else:
            self._after(self._rebalance_s(), self._complete)

    def _initial_delay_over(self) -> None:
        if self._newcomer:  # someone came while we waited: more may follow
            self._newcomer = False
            self._after(self.initial_delay_s, self._initial_delay_over)
            return
        self._initial = False
        self._complete()

    def _complete_if_all_joined(self) -> None:
        if (
            self.state == PREPARING
            and not self._initial
            and not self.pending
            and all(m.has_joined for m in self.members.values())
        ):
            self._complete()

    def _complete(self) -> None:
        self._stop_timer()
        for member in [m for m in self.members.values() if not m.has_joined and m.instance is None]:
            self._drop(member)
        joined = [member.id for member in self.members.values() if member.has_joined]
        if self.members and not joined:  # only static members that are away: give them until their sessions end
            self._after(self._rebalance_s(), self._complete)
            return
        if self.leader not in joined:
            self.leader = joined[0] if joined else None
        self.generation += 1
        if not self.members:
            self.state, self.protocol = EMPTY, None
            self.changed(self)
            return
        self.state, self.protocol = COMPLETING, self._choose_protocol()
        for member in self.members.values():
            member.syncing = None
            if member.joining is not None and not member.joining.done():
                self.beat(member)
                member.joining.set_result(self._current(member))
        self._after(self._rebalance_s(), self._drop_unsynced)

    def _drop_unsynced(self) -> None:
        late = [member for member in self.members.values() if member.syncing is None]
        if self.state == COMPLETING:
            for member in late:
                self.remove(member)

    def _current(self, member: Member) -> Joined:
        members: tuple[tuple[str, str | None, bytes], ...] = ()
        if member.id == self.leader:
            members = tuple((m.id, m.instance, m.metadata(self.protocol)) for m in self.members.values())
        return Joined(Code.NONE, member.id, self.generation, self.protocol, self.leader or "", members)

    # --- sync, heartbeat, leave

    def sync(
        self,
        member_id: str,
        instance: str | None,
        generation: int,
        protocol_type: str | None,
        protocol: str | None,
        assignments: dict[str, bytes],
    ) -> "Synced | asyncio.Future[Synced]":
        """A member asks for its share; the leader's request carries everyone's."""
        code = self.check(member_id, instance, generation)
        if code is not Code.NONE:
            return Synced(code)
        if protocol_type not in (None, self.protocol_type) or protocol not in (None, self.protocol):
            return Synced(Code.INCONSISTENT_GROUP_PROTOCOL)
        member = self.members[member_id]
        self.beat(member)
        if self.state == PREPARING:
            return Synced(Code.REBALANCE_IN_PROGRESS)
        if self.state == STABLE:
            return Synced(Code.NONE, member.assignment)
        member.syncing = asyncio.get_running_loop().create_future()
        future = member.syncing
        if member_id == self.leader:
            self._become_stable(assignments)
        return future

    def _become_stable(self, assignments: dict[str, bytes]) -> None:
        self._stop_timer()
        self.state = STABLE
        for member in self.members.values():
            member.assignment = assignments.get(member.id, b"")
        self.changed(self)
        for member in self.members.values():
            if member.syncing is not None and not member.syncing.done():
                self.beat(member)
                member.syncing.set_result(Synced(Code.NONE, member.assignment))

    def heartbeat(self, member_id: str, instance: str | None, generation: int) -> Code:
        """Extends a member's session, and says whether it must join again."""
        code = self.check(member_id, instance, generation)
        if code is Code.NONE:
            self.beat(self.members[member_id])
            if self.state == PREPARING:
                return Code.REBALANCE_IN_PROGRESS
        return code

    def leave(self, member_id: str, instance: str | None) -> Code:
        """A member goes; a static one may be named by its instance alone."""
        if member_id in self.pending:
            del self.pending[member_id]
            self._complete_if_all_joined()
            return Code.NONE
        if not member_id and instance is not None:
            member_id = self.instances.get(instance, "")
        code = self._unknown(member_id, instance)
        if code is Code.NONE:
            self.remove(self.members[member_id])
        return code

    def check(self, member_id: str, instance: str | None, generation: int) -> Code:
        """NONE if the member belongs to this generation."""
        code = self._unknown(member_id, instance)
        return Code.ILLEGAL_GENERATION if code is Code.NONE and generation != self.generation else code

    def remove(self, member: Member) -> None:
        """Takes a member out and lets the others share its partitions."""
        self._drop(member)
        if self.state in (STABLE, COMPLETING):
            if self.members:
                self._prepare()
                self._complete_if_all_joined()
            else:
                self._prepare()
                self._initial = False
                self._complete()
        elif not self.members and not self.pending:
            self._initial = False
            self._complete()
        else:
            self._complete_if_all_joined()

    def _drop(self, member: Member) -> None:
        self._remove(member)
        member.refuse(Code.UNKNOWN_MEMBER_ID)

    # --- time

    def beat(self, member: Member) -> None:
        """Gives the member another session."""
        member.expires = _now() + member.session_ms / 1000

    def expire(self) -> None:
        """Removes members whose session is over and ids that were never used."""
        now = _now()
        for member_id in [i for i, expires in self.pending.items() if expires < now]:
            del self.pending[member_id]
            self._complete_if_all_joined()
        for member in [m for m in self.members.values() if m.expires < now and not m.waiting]:
            self.remove(member)

    def _rebalance_s(self) -> float:
        return max((member.rebalance_ms for member in self.members.values()), default=0) / 1000

    def _after(self, delay_s: float, then: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- over restarts

    def facts(self) -> dict[str, Any]:
        """Generation and members as JSON types."""
        return {
            "generation": self.generation,
            "protocol_type": self.protocol_type,
            "protocol": self.protocol,
            "leader": self.leader,
            "members": [member.facts() for member in self.members.values()],
        }

    def resume(self, facts: dict[str, Any]) -> None:
        """Goes on where an earlier process stopped; each member has one session to be heard from."""
        self.generation, self.protocol_type = facts["generation"], facts["protocol_type"]
        self.protocol = facts["protocol"]
        for member in map(Member.from_facts, facts["members"]):
            self._insert(member)
            self.beat(member)
        self.leader = facts["leader"]
        self.state = STABLE if self.members else EMPTY


def _now() -> float:
    return asyncio.get_running_loop().time()
