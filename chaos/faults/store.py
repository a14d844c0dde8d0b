"""A store that loses data, refuses writes or is full. On one that runs elsewhere only with --break-servers."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from chaos.faults.fault import Fault, NoEffect, Stage
from chaos.stack import Stack

__all__ = ["FAULTS"]


@contextlib.contextmanager
def _clients(stage: Stage) -> Iterator[list[Any]]:
    """Of everybody who takes writes, or, of a cluster, of one of them; past the proxies. Raises NoEffect where the
    store does not answer or refuses.
    """
    made: list[Any] = []
    try:
        addresses = stage.stack.store.primaries
        if not addresses:
            raise NoEffect("nobody takes writes")
        chosen = stage.chance.sample(addresses, 1) if stage.chance.random() < 0.5 else addresses
        made = [redis.Redis.from_url(address, socket_timeout=5) for address in chosen]
        yield made
    except redis.RedisError as error:
        raise NoEffect(f"the store says {error!r}") from error
    finally:
        for client in made:
            client.close()


def _flush(stage: Stage) -> Iterator[str]:
    """All keys are gone, as after a restart without persistence."""
    with _clients(stage) as clients:
        keys = sum(client.dbsize() for client in clients)
        if not keys:
            raise NoEffect("the store is empty")
        for client in clients:
            client.flushall()
    yield f"FLUSHALL of {keys} keys{_of(clients)}"


def _of(clients: list[Any]) -> str:
    return f", {len(clients)} nodes" if len(clients) > 1 else ""


def _lose(*, all_of_it: bool) -> Callable[[Stage], Iterator[str]]:
    def act(stage: Stage) -> Iterator[str]:
        """kill -9, and what was on its way to the disk is gone: the tail of its file, or all of it."""
        store = stage.stack.store
        found = store.processes if store.cluster is None else store.cluster.primaries()
        if not found or not (process := stage.chance.choice([*found])).running:
            raise NoEffect("it does not run, or is not ours")
        process.kill()
        try:
            files = Path(process.data_dir, "appendonlydir")
            log = max(files.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
            size = log.stat().st_size
            left = 0 if all_of_it else size - min(size // 3, stage.chance.randrange(2_000, 400_000))
            if all_of_it:
                shutil.rmtree(files)
            else:
                os.truncate(log, left)
        finally:
            process.start()
        if left == size:
            raise NoEffect("its file was empty")
        yield f"kill -9, and {size - left:,} of {size:,} bytes are lost"

    return act


def _read_only(stage: Stage) -> Iterator[str]:
    """It has become somebody's replica: reads work, writes are refused."""
    with _clients(stage) as clients:
        for client in clients:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            for client in clients:
                with contextlib.suppress(redis.ReadOnlyError):
                    client.set("chaos", "1")
                    raise NoEffect("it takes writes all the same")
            yield "READONLY"
        finally:
            for client in clients:
                client.execute_command("REPLICAOF", "NO", "ONE")


def _full(stage: Stage) -> Iterator[str]:
    """It has no room: writes are refused with OOM."""
    with _clients(stage) as clients:
        for client in clients:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
        try:
            for client in clients:
                try:
                    client.set("chaos", "1")
                except redis.OutOfMemoryError:
                    continue
                except redis.ResponseError:  # of a cluster: another node has that key
                    continue
                raise NoEffect("it takes writes all the same")
            yield f"maxmemory reached{_of(clients)}"
        finally:
            for client in clients:
                client.config_set("maxmemory", "0")


def _forgotten_scripts(stage: Stage) -> Iterator[str]:
    """It has forgotten the scripts and every client."""
    cut = 0
    with _clients(stage) as clients:
        for client in clients:
            client.script_flush()
            cut += client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    yield f"scripts forgotten, {cut} clients cut{_of(clients)}"


def _ours(stack: Stack) -> str | None:
    return None if stack.store.ours else "the store runs elsewhere, and its files are not here"


def _breakable(stack: Stack) -> str | None:
    return None if stack.store.breakable else "the store runs elsewhere: --break-servers would allow it"


def _single(stack: Stack) -> str | None:
    return "a node of a cluster takes no REPLICAOF" if stack.store.cluster is not None else _breakable(stack)


FAULTS = [
    Fault("flush_store", "FLUSHALL: all features are gone", _flush, lacks=_breakable),
    Fault("lose_store_tail", "the store dies and loses its newest writes", _lose(all_of_it=False), lacks=_ours),
    Fault("lose_store", "the store dies, without persistence", _lose(all_of_it=True), lacks=_ours),
    Fault("read_only_store", "the store refuses writes: READONLY", _read_only, (1.0, 6.0), _single),
    Fault("full_store", "the store is full: maxmemory", _full, (1.0, 6.0), _breakable),
    Fault("forgotten_scripts", "the store forgets scripts and clients", _forgotten_scripts, lacks=_breakable),
]
