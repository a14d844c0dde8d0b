"""Which guest is which user: ids of one person that a source names together.

Before: rows with two ids, and records that say who somebody is. After: `replay.stream`, which tells a live world
(`Client.identify`), and `headwater look`. A backtest leaves the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from headwater.events import MAX_ID_LENGTH

__all__ = ["Login", "Logins"]


class Login(NamedTuple):
    """A guest, the user that it is, and since when that is known (epoch ms)."""

    guest: str
    user: str
    time_ms: int


@dataclass
class Logins:
    """What was met. A link is of a guest that did something, or was said to be one; a guest id that was several users
    is a shared device, and no one's.

    Fields
        users: of each guest, when each of its users was first met.
        acted: guests that did something before a login, or without one.
        too_long: links of ids that are too long for one.
    """

    users: dict[str, dict[str, int]] = field(default_factory=dict)
    acted: set[str] = field(default_factory=set)
    too_long: int = 0

    def met(self, guest: str, user: str, time_ms: int, *, said: bool = False) -> None:
        """Take down that a guest is a user, or by one id for both that somebody acted as a guest.

        `said`: the record says that the two are one, whatever the guest did.
        """
        if max(len(guest), len(user)) > MAX_ID_LENGTH:
            self.too_long += 1
            return
        if said or guest == user:
            self.acted.add(guest)
        if guest != user:
            known = self.users.setdefault(guest, {})
            known[user] = min(time_ms, known.get(user, time_ms))

    def __iter__(self) -> Iterator[Login]:
        for guest, users in self.users.items():
            if len(users) == 1 and guest in self.acted:
                for user, time_ms in users.items():
                    yield Login(guest, user, time_ms)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def notes(self) -> list[str]:
        """What a person should know."""
        told = []
        if count := len(self):
            guests = "a guest" if count == 1 else f"{count:,} guests"
            told.append(
                f"{guests} logged in later: replay stream tells who it was, a backtest leaves the two ids apart"
            )
        if shared := sum(len(users) > 1 and guest in self.acted for guest, users in self.users.items()):
            told.append(
                f"guests who were several users, as on a shared device, and are taken for none of them: {shared:,}"
            )
        if self.too_long:
            told.append(
                f"logins with an id of more than {MAX_ID_LENGTH} characters, which are not told: {self.too_long:,}"
            )
        return told
