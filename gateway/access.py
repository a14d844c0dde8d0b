"""Who may do what at the front door: API keys as the topic `api-keys` tells them, tokens of browsers, rates.

Before: a request's credentials. After: a `Caller`, or a `Denied` with the status to answer. A key is looked up by
its id and checked against its argon2id hash once; after that by a digest of it in memory, until its record changes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway.api_keys import ADMIN, PRODUCE, RECOMMEND, ApiKey, key_id_of, opens, read_key
from gateway.tokens import Speaker, read_speaker
from headwater.errors import HeadwaterError, SettingsError
from headwater.events import now_ms
from headwater.kafka import consumer, read_topic
from headwater.security.secrets import read_secret
from headwater.settings import GatewaySettings, KafkaSettings
from headwater.topics import API_KEYS, topic_name

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord
    from starlette.requests import HTTPConnection

__all__ = ["Caller", "Denied", "Keys", "RateLimits", "credentials_of", "refuse_foreign_page"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_CALLERS = 10_000
"""Of whom a rate is remembered at once; the one that was silent longest is forgotten first."""

WAIT_S = 0.5
LEAST_SECRET_BYTES = 32
NO_KEY = "this is no key, or it was revoked: `headwater keys list`"


class Denied(Exception):
    """Why nothing is done. `status`: 401, 403, 404, 409, 429 or 503."""

    def __init__(self, status: int, code: str, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Fields
        name: for rates and metrics: a key's id, or the address of who needs none.
        scopes: what it may do.
        user_id: the only one that it may speak for; None: any.
        was: ids that this one may be linked with.
        key_id: of the API key; None: a token, or nobody was asked for one.
    """

    name: str
    scopes: frozenset[str]
    user_id: str | None = None
    was: tuple[str, ...] = ()
    key_id: str | None = None

    def may(self, scope: str) -> None:
        """Raises Denied."""
        if scope not in self.scopes:
            who = "key" if self.user_id is None else "token"
            raise Denied(403, "scope", f"it takes the scope {scope}; this {who} has {', '.join(sorted(self.scopes))}")

    def speaks_for(self, user_id: Any, was: Any = None) -> None:
        """Raises Denied where it may not; nor link that user with another id."""
        if self.user_id is None:
            return
        if user_id != self.user_id:
            raise Denied(403, "user", "this token speaks for another user: ask your server for one of this user")
        if was is not None and was not in self.was:
            raise Denied(403, "user", "this token may not link that id: ask your server for one that names it in `was`")


class Keys:
    """All keys, as the topic tells them now. `follow` in a thread of its own; `caller` from any.

    Parameters
        needed: whether nobody may do anything without a key, also before there was one.

    Raises
        SettingsError: the secret of tokens cannot be read, or can be guessed.
    """

    def __init__(self, kafka: KafkaSettings, settings: GatewaySettings, *, needed: bool) -> None:
        self._kafka = kafka
        self._needed = needed
        self._opens_again = settings.needs_keys is False
        """Else nobody gets in without a key any more once there was one: the last is revoked, or cannot be read."""
        self._secrets = _token_secrets(settings)
        self._kept: dict[str, ApiKey] = {}
        self._known: dict[bytes, ApiKey] = {}
        self._lock = threading.Lock()
        self._next = 0  # the offset below which all is known
        self.ignored = 0
        """Records of the topic that cannot be read."""

    @property
    def count(self) -> int:
        return len(self._kept)

    @property
    def token_secret(self) -> bytes | None:
        """The one that signs."""
        return self._secrets[0] if self._secrets else None

    def load(self) -> None:
        """Read all that there is. Raises Unavailable."""
        for record in read_topic(self._kafka, API_KEYS, missing_ok=True):
            self._take(record)

    def follow(self, stopping: threading.Event) -> None:
        """Hear of every change at once, until told to stop."""
        name = topic_name(API_KEYS, self._kafka.prefix)
        opened = consumer(self._kafka, reconnect_backoff_max_ms=1000)  # after an outage, what was revoked is heard soon
        try:
            from kafka import TopicPartition

            part = TopicPartition(name, 0)
            opened.assign([part])
            opened.seek(part, self._next)  # read again from the first, a key would open until its end is read again
            while not stopping.is_set():
                for records in opened.poll(timeout_ms=round(WAIT_S * 1000)).values():
                    for record in records:
                        self._take(record)
        finally:
            opened.close()

    def _take(self, record: ConsumerRecord) -> None:
        at = f"{API_KEYS.name}[{record.partition}]@{record.offset}"
        self._next = record.offset + 1
        self._needed = self._needed or not self._opens_again
        try:
            key_id, kept = read_key(record.key, record.value, at)
        except HeadwaterError:  # what cannot be read opens nothing, whatever stood there before
            self.ignored += 1
            key_id, kept = (record.key or b"").decode(errors="replace"), None
        with self._lock:
            self._known = {digest: one for digest, one in self._known.items() if one.key_id != key_id}
            if kept is None:
                self._kept.pop(key_id, None)
            else:
                self._kept[key_id] = kept

    def known(self, credentials: str | None, address: str) -> Caller | None:
        """Who asks, where that is known without a slow hash; None: ask `caller`.

        Raises
            Denied: nobody that may.
        """
        if credentials is None:
            if self._needed or self._kept:
                raise Denied(401, "no_key", "send a key: `Authorization: Bearer hw_...` (`headwater keys create`)")
            return Caller(address, frozenset((PRODUCE, RECOMMEND, ADMIN)))
        if credentials.startswith("hwt_"):
            return self._browser(credentials)
        kept = self._known.get(hashlib.sha256(credentials.encode()).digest())
        if kept is None and key_id_of(credentials) not in self._kept:  # nobody's tries are counted for that
            raise Denied(401, "key", NO_KEY)
        return None if kept is None else self._as_caller(kept)

    def still(self, request: HTTPConnection) -> None:
        """`holds`, of who sent a request. Raises Denied."""
        address = request.client.host if request.client else ""
        self.holds(credentials_of(request.headers, request.query_params), address)

    def holds(self, credentials: str | None, address: str) -> None:
        """Whether who began something may go on: keys are revoked, and tokens run out. Raises Denied."""
        if self.known(credentials, address) is None:
            raise Denied(401, "key", "this key was written anew: begin again")

    def caller(self, credentials: str) -> Caller:
        """As `known`, for a key that has not been seen before: about 20 ms. Raises Denied."""
        kept = self._kept.get(key_id_of(credentials) or "")
        if kept is None or not opens(kept, credentials):
            raise Denied(401, "key", NO_KEY)
        with self._lock:
            if self._kept.get(kept.key_id) == kept:
                self._known[hashlib.sha256(credentials.encode()).digest()] = kept
        return self._as_caller(kept)

    def _as_caller(self, kept: ApiKey) -> Caller:
        if kept.expires_time is not None and kept.expires_time <= now_ms():
            raise Denied(401, "expired", "this key has expired: `headwater keys create` makes another")
        return Caller(kept.key_id, frozenset(kept.scopes), key_id=kept.key_id)

    def _browser(self, token: str) -> Caller:
        told = (read_speaker(one, token, now_ms()) for one in self._secrets)
        speaker: Speaker | None = next(filter(None, told), None)
        if speaker is None:
            raise Denied(401, "token", "this token is not ours, or its time is over: ask your server for a new one")
        name = "browser:" + hashlib.sha256(speaker.user_id.encode()).hexdigest()[:16]
        return Caller(name, frozenset((PRODUCE, RECOMMEND)), speaker.user_id, speaker.was)


def _token_secrets(settings: GatewaySettings) -> list[bytes]:
    """By which tokens are signed, first, and those by which they hold, too. Raises SettingsError."""
    told = read_secret("gateway", settings, "token_secret")
    found = [] if told is None else [one.removesuffix("\r").encode() for one in told.split("\n")]
    for number, one in enumerate(found, 1):
        if len(one) < LEAST_SECRET_BYTES:
            raise SettingsError(
                f"gateway.token_secret, line {number}: {len(one)} bytes, and whoever guesses it speaks for every user: "
                f"give {LEAST_SECRET_BYTES} or more in each line, `openssl rand -hex 32` makes some"
            )
    return found


def refuse_foreign_page(headers: Mapping[str, str], allowed: Sequence[str]) -> None:
    """Where nobody is asked for a key, a page of anybody could speak through the browser of who runs this: from its own
    origin; by what asks without one, as images do; or as this very gateway, under a name of its own that it has let
    point to this machine (DNS rebinding), which Host tells. Behind an address there is no name that could do so.

    Parameters
        headers: of the request, as browsers send them.
        allowed: origins of the settings. Pages of this machine may.

    Raises
        Denied: it is none of these.
    """
    if "*" in allowed:
        return
    origin, host = headers.get("origin"), headers.get("host")
    if origin is not None and origin not in allowed and _name_of(origin) not in LOOPBACK:
        raise Denied(403, "origin", f"pages of {origin!r:.80} may not speak here: gateway.cors_origins says which may")
    if origin is None and headers.get("sec-fetch-site") == "cross-site":
        raise Denied(403, "origin", "pages of other sites may not ask here without saying who they are")
    name = None if host is None else _name_of(f"//{host}")
    if host is None or name in LOOPBACK or _is_address(name) or name in map(_name_of, allowed):
        return
    text = f"this gateway is not called {host!r:.80}: ask for localhost, make a key, or name it in gateway.cors_origins"
    raise Denied(403, "host", text)


def _name_of(url: str) -> str | None:
    with contextlib.suppress(ValueError):
        return urlsplit(url).hostname
    return None


def _is_address(name: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name or ""))
    return False


def credentials_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """A key or token: of the Authorization header (Bearer, or the user of Basic, as trackers send it), of X-API-Key, of
    what a WebSocket offers as subprotocols, which are the only header that a page can give it, or of `?key=`, for what
    cannot send headers."""
    given = headers.get("authorization", "")
    kind, _, value = given.partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    offered = (one.strip() for one in headers.get("sec-websocket-protocol", "").split(","))
    told = next((one for one in offered if one.startswith(("hw_", "hwt_"))), None)
    return headers.get("x-api-key") or told or query.get("key") or None


@dataclass
class RateLimits:
    """A token bucket for each caller. Who takes more than a burst at once waits the longer for the next.

    Parameters
        per_s: tokens that come back each second; None: no limit.
        burst: most tokens that a caller can have.
        code, why: what is told to who has too few.

    Source
        The token bucket of ITU-T I.371 and RFC 2697.
    """

    per_s: float | None
    burst: float
    code: str = "rate"
    why: str = "more than its rate (gateway.rate_per_s)"
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, caller: Caller, tokens: float = 1.0) -> None:
        """Raises Denied (429) where the caller has not so many."""
        if self.per_s is None:
            return
        now = time.monotonic()
        left, at = self._left.pop(caller.name, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.per_s)
        enough = min(tokens, self.burst)
        taken = left >= enough
        self._left[caller.name] = (left - tokens if taken else left, now)
        if len(self._left) > MOST_CALLERS:
            self._left.popitem(last=False)
        if not taken:
            wait_s = (enough - left) / self.per_s
            raise Denied(429, self.code, f"{self.why}, {self.per_s:g} a second: wait", wait_s)
