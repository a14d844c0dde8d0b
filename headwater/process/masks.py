"""What a worker's log does not say: who a user is, unless `operations.log_user_ids`.

A user id becomes a short keyed hash, so that lines about one user are found together by whoever has a line, and nobody
finds out whose it is by trying ids. The key is drawn anew by each process. What a message quotes of a record that was
refused is left out: the dead letter has it.
"""

from __future__ import annotations

import re
import secrets
import traceback
from hashlib import blake2b

from headwater.errors import HeadwaterError, InvalidMessage

__all__ = ["UserMask", "address_text", "error_text", "key_text", "show_user_ids", "traceback_text", "user_text"]

NOT_OF_USERS = ("i", "item", "marks", "low")
"""Kinds of keys of the store whose names hold no user id."""

QUOTING = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, InvalidMessage)
"""Errors whose text may quote a value that somebody sent."""

HIDDEN = "... (values are not shown: operations.log_user_ids)"
MOST_CAUSES = 5


class UserMask:
    """The names of users in one process's log."""

    def __init__(self) -> None:
        self.shown = False
        self._key = secrets.token_bytes(16)

    def __call__(self, user_id: str) -> str:
        if self.shown:
            return user_id
        return f"user-{blake2b(user_id.encode(errors='surrogatepass'), key=self._key, digest_size=6).hexdigest()}"


user_text = UserMask()
"""How a user is named in this process's log."""


def show_user_ids(shown: bool) -> None:
    """Whether this process's log names users as they are."""
    user_text.shown = shown


def address_text(address: str) -> str:
    """A URL as messages may show it: without login and query, which may hold passwords and signatures.

    >>> address_text("s3://key:secret@bucket/x"), address_text("a://u:p/w#@h/x?sig=s"), address_text("s3://bucket/x")
    ('s3://...@bucket/x', 'a://...@h/x?...', 's3://bucket/x')
    """
    scheme, there, rest = address.partition("://")
    if not there:
        return address
    _login, at, rest = rest.rpartition("@")
    return f"{scheme}://{'...@' if at else ''}{re.sub(r'[?].*', '?...', rest)}"


def key_text(key: str) -> str:
    """A key of the store, as the log names it.

    >>> key_text("shop.{s3}i:film-1"), key_text("shop.{s3}u:ann").startswith("shop.{s3}u:user-")
    ('shop.{s3}i:film-1', True)
    """
    head, colon, whose = key.partition(":")
    kind = head.rpartition("}")[2].rpartition(".")[2]
    return key if not colon or kind in NOT_OF_USERS else f"{head}:{user_text(whose)}"


def error_text(error: BaseException) -> str:
    """What an error says, as the log may: of one that may quote what somebody sent, up to the first value.

    >>> error_text(InvalidMessage("schema", "events[3]@7: user_id: too long (given 'ann')")).split("...")[0]
    'events[3]@7: user_id: too long '
    """
    text = str(error)
    quotes = isinstance(error, InvalidMessage) or (not isinstance(error, HeadwaterError) and isinstance(error, QUOTING))
    if user_text.shown or not quotes:
        return text
    places = [at for mark in ("(given", "'", '"', "`") if (at := text.find(mark)) >= 0]
    return text if not places else text[: min(places)].removesuffix("b") + HIDDEN


def traceback_text(error: BaseException) -> str:
    """The stack of an error and of what caused it, the oldest first, each with what it may say."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and len(chain) < MOST_CAUSES:
        chain.append(at)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n\n".join(
        f"{''.join(traceback.format_tb(one.__traceback__))}{type(one).__name__}: {error_text(one)}"
        for one in reversed(chain)
    )
