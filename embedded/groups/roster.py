"""Who belongs to a consumer group: its members, the static ones by instance, the leader, the protocols they share.

It knows nothing of generations, states or time.
"""

from dataclasses import dataclass, field

from embedded.groups.members import Member
from embedded.protocol import Code


@dataclass(kw_only=True)
class Roster:
    """The members of one group, in the order in which they came."""

    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)  # group.instance.id -> member id

    def _insert(self, member: Member) -> None:
        """Takes a member in; the first one leads."""
        self.members[member.id] = member
        if member.instance is not None:
            self.instances[member.instance] = member.id
        self.leader = self.leader or member.id

    def _replace(self, old: Member, fresh: Member) -> None:
        """Puts a static member that came back in the place that it had, with its share and its lead."""
        fresh.assignment = old.assignment
        self.members = {fresh.id if i == old.id else i: fresh if i == old.id else m for i, m in self.members.items()}
        self.instances[fresh.instance or ""] = fresh.id
        if self.leader == old.id:
            self.leader = fresh.id

    def _remove(self, member: Member) -> None:
        """Takes a member out; the one that has been here longest leads then."""
        self.members.pop(member.id, None)
        if member.instance is not None and self.instances.get(member.instance) == member.id:
            del self.instances[member.instance]
        if self.leader == member.id:
            self.leader = next(iter(self.members), None)

    def _unknown(self, member_id: str, instance: str | None) -> Code:
        if instance is not None:
            holder = self.instances.get(instance)
            if holder is None:
                return Code.UNKNOWN_MEMBER_ID
            if holder != member_id:
                return Code.FENCED_INSTANCE_ID
        return Code.NONE if member_id in self.members else Code.UNKNOWN_MEMBER_ID

    def _supported(self, offered: set[str]) -> bool:
        return bool(offered.intersection(*({name for name, _ in m.protocols} for m in self.members.values())))

    def _choose_protocol(self) -> str | None:
        common = set.intersection(*({name for name, _ in m.protocols} for m in self.members.values()))
        votes: dict[str, int] = {}
        for member in self.members.values():
            first = next((name for name, _ in member.protocols if name in common), None)
            if first is not None:
                votes[first] = votes.get(first, 0) + 1
        return max(votes, key=lambda name: votes[name]) if votes else None
