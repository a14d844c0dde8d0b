"""The connection to Redis or Valkey, single or cluster: scripts and commands in pipelines, and what an error means.

Before: the parts of the store say what to run, each call on the keys of one slot. After: any server. The only file that
imports redis. A script is asked for by its digest, and sent whole to a server that does not know it: one that has been
started anew, or has taken a slot over.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from headwater.errors import AccessDenied, HeadwaterError, SettingsError, Unavailable
from headwater.security import broken_off, redis_login
from headwater.settings import RedisSettings
from streams.features.store.slots import advised_slots

__all__ = ["Script", "StoreCall", "StoreServer", "is_wrong_type"]

PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.SlotNotCoveredError,
    redis.exceptions.RedisClusterException,
)
"""What redis-py raises when a server is away, full, or in the middle of a failover or of a migration of slots."""

AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
)
"""What it raises where it looks for a node that is gone."""

REFUSING = (
    redis.AuthenticationError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
    redis.exceptions.NoPermissionError,
)
"""What it raises when the server does not let us in, or not do this."""


SENTINEL_PORT = 26379
FEWEST_PRIMARIES = 3

REST_S = 1.0
"""A node of a cluster that did not answer is left alone for so long by whoever can do without it."""


class Script:
    """A Lua file beside this one."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / f"{name}.lua").read_text()
        self.digest = sha1(self.text.encode()).hexdigest()


class _Packer:
    """Commands as the protocol has them. redis-py's own looks at each argument before hiredis does, and a round has ten
    an event.
    """

    def pack(self, *words: Any) -> list[bytes]:
        """One command; its name may be two words."""
        if " " in words[0]:
            words = (*words[0].split(), *words[1:])
        return [hiredis.pack_command(words)]


class StoreCall(NamedTuple):
    """What to run on one slot: a script on keys with arguments, or a command, whose first argument is its key."""

    what: Script | str
    keys: Sequence[str]
    arguments: Sequence[Any] = ()


class StoreServer:
    """One server or a cluster of them; which it is shows when it is first asked.

    Parameters
        settings: URL, time-out, number of slots.
        check: called with a new connection, before anything else is run on it.

    Raises
        Unavailable: here for a URL that is none; from every method when a server does not answer.
        AccessDenied: from every method when a server does not let us in: no waiting mends that.
        SettingsError: from every method when the server is a cluster and the store has one slot.
        HeadwaterError: from every method when a server refuses a command.
    """

    def __init__(self, settings: RedisSettings, check: Callable[[], None]) -> None:
        url = settings.url.get_secret_value()
        self.address = _without_password(url)
        self._shards = settings.shards
        self._check = check
        self._lock = threading.RLock()
        self._single: Any  # redis-py types none of what is called here
        self._cluster: Any = None
        self._is_open = False
        self._is_checked = False
        self._resting: dict[str, tuple[float, Unavailable]] = {}  # node that did not answer -> until when, and why
        self._sentinel = settings.sentinel
        login = redis_login(settings)
        self.user = settings.username or unquote(urlsplit(url).username or "") or None
        waiting: dict[str, Any] = {"socket_timeout": settings.timeout_s, "socket_connect_timeout": settings.timeout_s}
        self._options: dict[str, Any] = {
            **waiting,
            "retry": Retry(NoBackoff(), 1),  # one try more covers a pooled connection that went stale
            **login.arguments,
        }
        self._sentinel_options: dict[str, Any] = waiting | login.sentinel
        self._tls, self._timeout_s = login.context, settings.timeout_s
        if _is_torn(url):
            raise Unavailable(
                "redis.url, which is not shown, has an @ and no user or password before it: write /, ? and # in these "
                "percent-encoded (%2F, %3F, %23). Give redis://user:password@host:port/db"
            )
        try:
            self._urls = _one_by_one(url)
            singles = [self._client(one) for one in self._urls]
            self._single = singles[0] if settings.sentinel is None else self._master(settings.sentinel)
        except ValueError as error:
            raise Unavailable(f"redis.url {self.address}: {error}. Give redis://host:port/db") from error

    def _client(self, url: str) -> Any:
        made: Any = redis.Redis.from_url
        return made(url, command_packer=_Packer(), **self._options)

    def _master(self, name: str) -> Any:
        """A client of the master that the sentinels at the URL name, asked for at each new connection."""
        told = self._told_by(self._urls[0])
        sentinels = [(parts.hostname, parts.port or SENTINEL_PORT) for parts in map(urlsplit, self._urls)]
        made: Any = Sentinel  # redis-py types none of it
        return made(sentinels, sentinel_kwargs=self._sentinel_options, **told).master_for(name)

    def _told_by(self, url: str) -> dict[str, Any]:
        """What the URL says beside its host: database, login, TLS."""
        parsed: Any = redis.connection.parse_url
        said = {key: value for key, value in parsed(url).items() if key not in ("host", "port")}
        tls = said.pop("connection_class", None) is not None
        return said | self._options | ({"ssl": True} if tls else {})

    @property
    def is_cluster(self) -> bool:
        """Whether the keys lie on several nodes."""
        self._connect(checked=False)
        return self._cluster is not None

    def close(self) -> None:
        """Close all connections."""
        if self._cluster is not None:
            self._cluster.close()
        self._single.close()

    def run(self, calls: Sequence[StoreCall], *, may_be_odd: bool = False) -> list[Any]:
        """Run all calls in one pipeline a node, and give their replies in their order. Each call is atomic by itself.

        Parameters
            calls: idempotent ones: they are repeated when a connection breaks.
            may_be_odd: give the error in the place of a reply where a key is of another type, and do not raise it.
        """
        if not calls:
            return []
        self._connect()
        with self._answering():
            replies = self._executed(calls, [_by_digest(call) for call in calls])
            unknown = [n for n, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
            if unknown:
                several = [calls[n] for n in unknown]
                for n, reply in zip(unknown, self._executed(several, list(map(_whole, several))), strict=True):
                    replies[n] = reply
            for reply in replies:
                if isinstance(reply, Exception) and not (may_be_odd and is_wrong_type(reply)):
                    raise reply
        return replies

    def run_partly(self, calls: Sequence[StoreCall]) -> list[Any]:
        """As `run`; but of a cluster, where a node does not answer, an `Unavailable` stands in the place of what it
        would have said, and for a second it is not asked again. Raises Unavailable where no node answers.
        """
        self._connect()
        if self._cluster is None:
            return self.run(calls)
        now = time.monotonic()
        self._resting = {node: rest for node, rest in self._resting.items() if rest[0] > now}
        nodes = [self._node_of(call) for call in calls]
        replies: list[Any] = [self._resting[node][1] if node in self._resting else None for node in nodes]
        asked = [n for n, node in enumerate(nodes) if node not in self._resting]
        try:
            found = self.run([calls[n] for n in asked])
        except Unavailable as error:
            if len({nodes[n] for n in asked}) < 2:
                raise
            return self._node_by_node(calls, asked, replies, error)
        for n, reply in zip(asked, found, strict=True):
            replies[n] = reply
        if calls and not asked:
            raise replies[0]
        return replies

    def _node_by_node(
        self, calls: Sequence[StoreCall], asked: Sequence[int], replies: list[Any], error: Unavailable
    ) -> list[Any]:
        """Fill in what each node says by itself, or why it does not; raises `error` where none does."""
        nodes: dict[str, list[int]] = {}
        for n in asked:
            nodes.setdefault(self._node_of(calls[n]), []).append(n)  # anew: slots may have gone to others
        for node, places in nodes.items():
            try:
                found = self.run([calls[n] for n in places])
            except Unavailable as why:
                self._resting[node] = (time.monotonic() + REST_S, why)
                found = [why] * len(places)
            for n, reply in zip(places, found, strict=True):
                replies[n] = reply
        if all(isinstance(reply, Unavailable) for reply in replies):
            raise error
        return replies

    def _node_of(self, call: StoreCall) -> str:
        """Which node has a call's keys; none where no node is known to."""
        try:
            node = self._cluster.get_node_from_key(call.keys[0])
        except AWAY:
            return ""
        return "" if node is None else str(node.name)

    def command(self, *words: Any) -> list[Any]:
        """What one command that names no key gives on each node that answers."""
        self._connect(checked=False)
        with self._answering():
            if self._cluster is None:
                return [self._single.execute_command(*words)]
            found: list[Any] = []
            nodes = self._cluster.get_primaries()
            for node in nodes:
                try:
                    found.append(self._cluster.execute_command(*words, target_nodes=node))
                except AWAY:
                    if node is nodes[-1] and not found:
                        raise
            return found

    def keys(self, pattern: str) -> Iterator[bytes]:
        """Every key on any node that fits a glob; one that moves between nodes meanwhile may come twice."""
        self._connect()
        with self._answering():
            if self._cluster is not None:
                yield from self._cluster.scan_iter(pattern, count=1000, target_nodes=RedisCluster.PRIMARIES)
            else:
                yield from self._single.scan_iter(pattern, count=1000)

    def transaction(self, change: Callable[[Any], None], key: str) -> None:
        """Run a function of redis-py's pipeline that watches a key."""
        self._connect()
        with self._answering():
            (self._cluster or self._single).transaction(change, key)

    def _executed(self, calls: Sequence[StoreCall], commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._cluster is None:
            pipe = self._single.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            found: list[Any] = pipe.execute(raise_on_error=False)
            return found
        try:
            found = self._on_nodes(calls, commands)
            if not any(isinstance(reply, AWAY) for reply in found):
                return found
        except AWAY:
            pass
        self._cluster.nodes_manager.initialize()  # a node is gone: who has its slots now?
        self._cluster.replace_default_node()
        return self._on_nodes(calls, commands)

    def _on_nodes(self, calls: Sequence[StoreCall], commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pipe = self._cluster.pipeline()
        for call, command in zip(calls, commands, strict=True):  # else redis-py asks a node for the keys of each script
            pipe.execute_command(*command, target_nodes=self._cluster.get_node_from_key(call.keys[0]))
        found: list[Any] = pipe.execute(raise_on_error=False)
        return found

    def denied(self, why: str) -> AccessDenied:
        """The error of what this user may not do."""
        return _refused(self.address, self.user, redis.exceptions.NoPermissionError(why))

    def check(self) -> None:
        """Look that the server is there, and may be used for this store."""
        self._connect()

    def _connect(self, *, checked: bool = True) -> None:
        if self._is_checked or (self._is_open and not checked):
            return
        with self._lock:
            if not self._is_open:
                with self._answering():
                    if self._has_cluster():
                        self._cluster = self._clustered()
                self._is_open = True
            if checked and not self._is_checked:
                self._is_checked = True  # what checks runs commands itself
                try:
                    self._check()
                except BaseException:
                    self._is_checked = False
                    raise

    def _has_cluster(self) -> bool:
        """Ask the first address that answers whether it is of a cluster."""
        if self._sentinel is not None:
            self._single.ping()
            return False
        for place, url in enumerate(self._urls):
            if place:
                self._single.close()
                self._single = self._client(url)
            try:
                return bool(self._single.info("cluster").get("cluster_enabled"))
            except redis.ResponseError as error:
                if "SELECT is not allowed" in str(error) or "DB index" in str(error):
                    raise SettingsError(
                        f"redis.url {_without_password(url)}: the server has no such database ({error}). "
                        "Set HEADWATER_REDIS__URL to one that it has; a cluster has 0 alone."
                    ) from error
                if not isinstance(error, redis.exceptions.NoPermissionError):
                    raise
                return False  # a user who may not ask; a cluster of one slot then refuses commands
            except PASSING:
                if url == self._urls[-1]:
                    raise
        return False

    def _primaries(self) -> int:
        """Nodes of the cluster that hold slots; 3, the fewest that make one, where this user may not ask."""
        try:
            told: Any = self._single.execute_command("CLUSTER INFO")
        except redis.ResponseError:
            return FEWEST_PRIMARIES
        if isinstance(told, bytes):
            told = dict(line.split(":", 1) for line in told.decode().split() if ":" in line)
        return max(int(told.get("cluster_size", FEWEST_PRIMARIES)), 1)

    def _clustered(self) -> Any:
        if self._shards == 1:
            many = self._primaries()
            raise SettingsError(
                f"redis.shards is 1, and the server at {self.address} is of a cluster of {many} primaries, which "
                f"keeps keys of one slot together and no others. Set HEADWATER_REDIS__SHARDS={advised_slots(many)} (16 "
                "a primary that there is or will be, as a power of two), in all workers and commands; the features are "
                "then made from the log. To take those of a single server along, keep that server."
            )
        path = urlsplit(self._urls[0]).path.strip("/")
        if path not in ("", "0"):
            raise SettingsError(
                f"redis.url {self.address}: a cluster has no database {path:.40}, only 0. Set HEADWATER_REDIS__URL "
                "without it."
            )
        node: Any = ClusterNode
        nodes = [node(parts.hostname, parts.port or 6379) for parts in map(urlsplit, self._urls)]
        return RedisCluster.from_url(self._urls[0], startup_nodes=nodes, **self._options)

    def _ended_tls(self) -> Exception | None:
        """What the server says about the certificate that it wants of us."""
        assert self._tls is not None
        parts = urlsplit(self._urls[0])
        return broken_off(self._tls, parts.hostname or "", parts.port or 6379, self._timeout_s)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except REFUSING as error:
            raise _refused(self.address, self.user, error) from error
        except PASSING as error:
            broken = None if self._tls is None else _broken_tls(error) or self._ended_tls()
            if broken is not None:
                raise _refused(self.address, self.user, broken) from error
            if self._cluster is not None:
                raise Unavailable(
                    f"the Redis Cluster at {self.address} does not answer for all its slots ({error}). Where no "
                    "replica takes over, bring a node back: `redis-cli --cluster check HOST:PORT` names what is gone."
                ) from error
            raise Unavailable(
                f"no Redis answers at {self.address} ({error}). Start one (`headwater up` brings its own), "
                "or set HEADWATER_REDIS__URL to where it is."
            ) from error
        except redis.RedisError as error:
            raise HeadwaterError(f"Redis at {self.address} refused a command ({error})") from error


def is_wrong_type(reply: object) -> bool:
    """Whether a reply says that a key is of another type."""
    return isinstance(reply, redis.ResponseError) and "WRONGTYPE" in str(reply)


def _by_digest(call: StoreCall) -> tuple[Any, ...]:
    if isinstance(call.what, str):
        return (call.what, *call.keys, *call.arguments)
    return ("EVALSHA", call.what.digest, len(call.keys), *call.keys, *call.arguments)


def _whole(call: StoreCall) -> tuple[Any, ...]:
    assert isinstance(call.what, Script)
    return ("EVAL", call.what.text, len(call.keys), *call.keys, *call.arguments)


def _one_by_one(url: str) -> list[str]:
    """The URL of each address: `redis://a:1,b:2/0` names two nodes of one cluster."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts.split(",")]


def _broken_tls(error: BaseException) -> Exception | None:
    """Why TLS cannot come about, at the root of redis-py's error: a certificate, a file of ours, a plain port."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, (ssl.SSLError, FileNotFoundError, PermissionError)):
            return None if isinstance(at, ssl.SSLEOFError) else at  # the server ended meanwhile
        at = at.__cause__ or at.__context__
    return None


def _refused(address: str, user: str | None, error: Exception) -> AccessDenied:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    if reason.startswith("HELLO must be called"):  # redis-py's first word to a server that wants a password, in RESP3
        reason = "NOAUTH: it wants a password"
    if isinstance(error, OSError):
        remedy = (
            "Name the authority that signed its certificate (redis.ssl_cafile) and a host that is in it; where it "
            "wants a certificate of ours, redis.ssl_certfile and redis.ssl_keyfile; where it speaks no TLS, redis:// "
            "instead of rediss://."
        )
    elif isinstance(error, redis.exceptions.NoPermissionError):
        remedy = (
            f"Allow {'user ' + repr(user) if user else 'the default user'} that command and these keys: "
            "`headwater acls --redis` prints what each worker needs; or name another in redis.username."
        )
    else:
        remedy = (
            "Correct user and password: redis.username and redis.password (or redis.password_file), or in "
            "HEADWATER_REDIS__URL, redis://user:password@host:port/db."
        )
    return AccessDenied(f"Redis at {address} refuses us ({reason}). {remedy}")


def _is_torn(url: str) -> bool:
    """Whether what should be a login ends at a character of it that ends the host."""
    parts = urlsplit(url)
    beyond = f"{parts.path}{parts.fragment}{parts.query.partition('=')[0]}"
    return bool(parts.netloc) and "@" not in parts.netloc and "@" in beyond


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="").geturl()
