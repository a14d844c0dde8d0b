"""The newest event ids of a user, by which duplicates are found: 64 bits of each, packed.

Before: `streams.features.fold` adds an id for each event. After: `streams.features.packed` stores the bytes as they
are. As a list 128 of them took 5 KB of memory and 8 us an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from struct import pack, unpack
from typing import Any, overload

__all__ = ["SIZE", "Hashes", "event_digest", "event_hash"]

SIZE = 8
"""Bytes of each."""


def event_digest(event_id: str) -> bytes:
    """64 bits of an event id. Two of one user's newest 128 ids collide once in 10**15 users."""
    return blake2b(event_id.encode(), digest_size=SIZE).digest()


def event_hash(event_id: str) -> int:
    """The same as a number."""
    return int.from_bytes(event_digest(event_id), "little")


class Hashes(Sequence[int]):
    """Some, in order of arrival.

    Parameters
        data: `event_digest` of each, one after another.

    >>> Hashes.of([7, 9]), Hashes(event_digest("e0") + event_digest("e1")).has(event_digest("e1"))
    ([7, 9], True)
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    @classmethod
    def of(cls, some: Iterable[int]) -> Hashes:
        """These numbers. Raises struct.error for one of more than 64 bits."""
        if type(some) is Hashes:
            return some
        numbers = [*some]
        return cls(pack(f"<{len(numbers)}Q", *numbers))

    def newest(self, limit: int) -> Hashes:
        """The last `limit`."""
        beyond = len(self.data) - SIZE * limit
        return self if beyond <= 0 else Hashes(self.data[beyond:])

    def grown(self, digest: bytes, limit: int) -> Hashes:
        """The last `limit` with one more."""
        beyond = len(self.data) - SIZE * (limit - 1)
        return Hashes((self.data if beyond <= 0 else self.data[beyond:]) + digest)

    def has(self, digest: bytes) -> bool:
        """Whether an id with this digest is among them."""
        at = self.data.find(digest)
        while at > 0 and at % SIZE:  # across two of them
            at = self.data.find(digest, at + 1)
        return at >= 0

    def __len__(self) -> int:
        return len(self.data) // SIZE

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return self._numbers()[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers())

    def __eq__(self, other: object) -> bool:
        if type(other) is Hashes:
            return self.data == other.data
        return self._numbers() == tuple(other) if isinstance(other, (list, tuple)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([*self._numbers()])

    def _numbers(self) -> tuple[int, ...]:
        return unpack(f"<{len(self)}Q", self.data)
