"""What admin keys had done over HTTP, as the audit log has it: written before it is done, or it is not done.

Before: `gateway.doors`. After: the topic `audit`, beside what the verbs of `headwater` write. Who asked is the id of a
key; whom it is about is known by the digests of ids, or of their pseudonyms where the world has these.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from gateway.access import Caller
from headwater.privacy import digest_of
from headwater.privacy.audit_log import write_audit
from headwater.privacy.pseudonyms import names_of
from headwater.settings import Settings

__all__ = ["AdminLog"]


class AdminLog:
    """One a process.

    Parameters
        settings: Kafka, and whether ids are pseudonyms.
    """

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._pseudonyms = names_of(settings.privacy)

    async def write(self, action: str, user_id: str, caller: Caller) -> None:
        """Who is about to have what done to a person; returns when Kafka has it.

        Raises
            Unavailable, AccessDenied, SettingsError: it has not, and nothing may be done.
        """
        names = (user_id,) if self._pseudonyms is None else self._pseudonyms.named(user_id, make=True)
        by = "gateway, no key" if caller.key_id is None else f"key {caller.key_id}"
        target = {"users": [digest_of(one) for one in names]}
        await run_in_threadpool(write_audit, self._kafka, action, target, by)
