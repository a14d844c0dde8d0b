"""Which guest is which user: ids of one person that a source names together.

Before: rows with two ids. After: whoever says it to a live world, and `headwater look`. Nothing is merged here: a past
stream is asked as it was, and knew the user only from the login on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Link", "Links"]


class Link(NamedTuple):
    """A guest, the user that it is, and since when that is known (epoch ms)."""

    guest: str
    user: str
    time_ms: int


@dataclass
class Links:
    """What was met; a guest id that was several users is a shared device and stands for none of them.

    Fields
        users: of each guest, when each of its users was first met.
        clashes: guests of several users.
    """

    users: dict[str, dict[str, int]] = field(default_factory=dict)
    clashes: int = 0

    def met(self, guest: str, user: str, time_ms: int) -> None:
        """Take down that two ids are of one person."""
        if guest == user:
            return
        known = self.users.setdefault(guest, {})
        if user not in known and len(known) == 1:
            self.clashes += 1
        known[user] = min(time_ms, known.get(user, time_ms))

    def __iter__(self) -> Iterator[Link]:
        for guest, users in self.users.items():
            if len(users) == 1:
                for user, time_ms in users.items():
                    yield Link(guest, user, time_ms)

    def __len__(self) -> int:
        return len(self.users) - self.clashes

    @property
    def notes(self) -> list[str]:
        """What a person should know."""
        told = []
        if len(self):
            users = len({link.user for link in self})
            told.append(
                f"{len(self):,} guests are {users:,} users who logged in: what they did before is their guest's"
            )
        if self.clashes:
            told.append(f"{self.clashes:,} guest ids were several users (shared devices): no one's")
        return told
