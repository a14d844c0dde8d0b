"""Who asked to be forgotten is forgotten: told by other code than the engine's, and by its own checks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import orjson

from chaos.promises.aftermath import Aftermath
from console.privacy.forgetting import Check, checks
from headwater.privacy import digest_of
from headwater.topics import ERASURES
from streams.erasing import erased_users

__all__ = ["are_forgotten"]

CHECKPOINT_S = 20.0
"""Within which the trainer has made a checkpoint of beyond the last erasure."""


def are_forgotten(aftermath: Aftermath) -> Iterator[str]:
    """Each acknowledged erasure has its fact, and nothing from before it is left; what came later is a new user's."""
    asked: dict[str, int] = {}
    for row in aftermath.ledger.rows:
        if row.topic == ERASURES.name and row.holds is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # poison
                user, when = _said(row.holds)
                asked[user] = max(asked.get(user, 0), when)
    for one in aftermath.ledger.promises:
        if one.what == "erasure":  # by the clock of a gateway, which may be turned
            since_ms = 0 if "gateway" in aftermath.turned else one.began_ms
            asked[one.said[0]] = max(asked.get(one.said[0], 0), since_ms)
    aftermath.figures["users forgotten"] = len(asked)
    known = erased_users(aftermath.settings).facts
    facts = {digest_of(user): known[digest_of(user)] for user in asked if digest_of(user) in known}
    for user, when in asked.items():
        if digest_of(user) not in facts:
            yield f"{user} asked to be forgotten, and no fact on {ERASURES.name} says so"
        elif facts[digest_of(user)].erased_time < when:
            yield f"{user} is forgotten until {facts[digest_of(user)].erased_time}, and asked for {when}"
    deadline = time.monotonic() + CHECKPOINT_S
    while bad := [one for one in checks(aftermath.settings, facts, sorted(asked)) if not one.ok]:
        if time.monotonic() > deadline or not any("checkpoint" in one.name for one in bad):
            yield from map(_text, bad)
            return
        time.sleep(0.5)


def _said(value: bytes) -> tuple[str, int]:
    """Of a whole record, or of the beginning of one that the SDK wrote."""
    body: Any = orjson.loads(value if value.endswith(b"}") else value + b"}")
    return str(body["user_id"]), int(body.get("erased_time", 0))


def _text(check: Check) -> str:
    return f"{check.name}: {check.found[:400]}"
