"""Consumer groups: members, generations and rebalances, and the offsets that groups commit.

Knows no topic and no record.
"""

from embedded.groups.committed_offsets import Committed, CommittedOffsets
from embedded.groups.consumer_group import COMPLETING, EMPTY, Group
from embedded.groups.members import Joined, JoinRequest, Synced

__all__ = ["COMPLETING", "EMPTY", "Committed", "CommittedOffsets", "Group", "JoinRequest", "Joined", "Synced"]
