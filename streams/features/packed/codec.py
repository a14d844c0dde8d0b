"""`encode`, `change` and `decode`."""

from __future__ import annotations

import re

from headwater.errors import InvalidMessage, NewerFormat
from streams.features.state import EMPTY, UserState, decode_state, encode_state

__all__ = ["change", "decode", "encode"]

FORMAT = 1
HEAD = re.compile(rb"([\x01-\x1f])(\d+):")


def encode(state: UserState) -> bytes:
    """The whole state as a base.

    >>> encode(UserState(count=12))[:4]
    b'\\x0112:'
    """
    return b"%c%d:" % (FORMAT, state.count) + encode_state(state)


def change(before: UserState, after: UserState) -> bytes | None:  # noqa: ARG001 - none yet
    """What to append to the tail that `before` is stored with, so that it holds `after`; None where the base must be
    written anew: after a late event, an undo, a merge, or when the tail has become long.
    """
    return None


def decode(base: bytes | None, tail: bytes | None = None) -> UserState:
    """A state from what is stored of it; `EMPTY` for a user who is not there. Reads the JSON of releases before.

    Raises
        InvalidMessage: it is none (`undecodable`, `schema`).
        NewerFormat: a later release wrote it: it may not be written over.
    """
    if base is None:
        if tail:
            raise InvalidMessage("undecodable", f"a user state has a tail and no base: {tail[:80]!r}")
        return EMPTY
    if base[:1] == b"{":
        return decode_state(base)
    head = HEAD.match(base)
    if head is None:
        raise InvalidMessage("undecodable", f"a user state is neither packed nor JSON: {base[:80]!r}")
    if head[1][0] > FORMAT:
        raise NewerFormat(
            f"a user state is of format {head[1][0]}, this release reads up to {FORMAT}: {base[:80]!r}. A later "
            "release of Headwater wrote it: run that one, or restore the store from before it ran."
        )
    return decode_state(base[head.end() :])
