"""Finds out who asks: what is known at once, and what takes a slow hash, in a thread and not too often.

Before: a request's headers. After: a `Caller`, or a `Denied`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from gateway.access import Caller, Keys, RateLimits, credentials_of, refuse_foreign_page
from gateway.api_keys import key_id_of

__all__ = ["Callers"]

TRIES = (5.0, 50.0)
"""How often an address may try what is called like one key: a second, and at once. Each costs 20 ms and 19 MiB. Not the
address alone: behind a balancer that is everybody's.
"""


class Callers:
    """One of each process, for all its doors.

    Parameters
        origins: whose pages may ask where nobody is asked for a key.
    """

    def __init__(self, keys: Keys, origins: Sequence[str]) -> None:
        self._keys = keys
        self._origins = origins
        self._tries = RateLimits(*TRIES, "key_tries", "this key was tried too often from this address")
        self._hashing = asyncio.Lock()  # one hash at a time: who has come with the same key meanwhile needs none

    async def of(self, request: HTTPConnection) -> Caller:
        """Who sent a request, or opens a socket. Raises Denied."""
        credentials = credentials_of(request.headers, request.query_params)
        return await self.asking(credentials, request.headers, request.client.host if request.client else "")

    async def asking(self, credentials: str | None, headers: Mapping[str, str], address: str) -> Caller:
        """Who asks with these credentials, or none. Raises Denied."""
        if credentials is None:
            self._keys.known(None, "")  # who has no key is told that before who asks from afar
            refuse_foreign_page(headers, self._origins)
        return await self.known(credentials, address)

    async def known(self, credentials: str | None, address: str) -> Caller:
        """Who has these credentials. Raises Denied."""
        known = self._keys.known(credentials, address)
        if known is None:
            assert credentials is not None
            async with self._hashing:
                known = self._keys.known(credentials, address)
                if known is None:
                    self._tries.take(Caller(f"{address} {key_id_of(credentials)}", frozenset()))
                    known = await run_in_threadpool(self._keys.caller, credentials)
        return known
