"""What admin keys had done over HTTP, as the audit log has it: written before it is done, or it is not done.

Before: `gateway.doors`. After: the topic `audit`, beside what the verbs of `headwater` write. Who asked is the id of a
key; whom it is about is known by the digests of what the backend calls a user, which are what the erasures say.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from gateway.access import Caller
from headwater.privacy import digest_of
from headwater.privacy.audit_log import write_audit
from headwater.settings import KafkaSettings

__all__ = ["AdminLog", "who"]


def who(caller: Caller) -> str:
    """What the audit log calls who asked."""
    return "gateway, no key" if caller.key_id is None else f"key {caller.key_id}"


class AdminLog:
    """One a process.

    Parameters
        kafka: which cluster.
        names: what a user is called, and was under the keys before.
    """

    def __init__(self, kafka: KafkaSettings, names: Callable[[str], tuple[str, ...]]) -> None:
        self._kafka = kafka
        self._names = names

    async def write(self, action: str, user_id: str, caller: Caller) -> None:
        """Who is about to have what done to a person; returns when Kafka has it.

        Raises
            Unavailable, AccessDenied, SettingsError: it has not, and nothing may be done.
        """

        def write() -> None:
            target = {"users": [digest_of(one) for one in self._names(user_id)]}
            write_audit(self._kafka, action, target, who(caller))

        await run_in_threadpool(write)
