"""Servers that die or stand still, and networks between them and everybody that cut, delay, swallow or refuse."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from chaos.faults.fault import Act, Fault, NoEffect, Stage
from chaos.faults.workers import process_signal
from chaos.proxy import Proxy
from chaos.servers import ServerUnderTest
from chaos.stack import Stack

if TYPE_CHECKING:
    from embedded import ServerProcess

__all__ = ["FAULTS"]

Which = Callable[[Stack], ServerUnderTest]


def _process(which: Which, stage: Stage) -> ServerProcess:
    process = which(stage.stack).running(stage.chance)
    if process is None:
        raise NoEffect("it does not run, or is not ours")
    return process


def _proxies(which: Which, stage: Stage) -> list[Proxy]:
    """Those in front of all of it, or of one node of a cluster to which somebody is connected."""
    proxies = which(stage.stack).proxies
    if not proxies:
        raise NoEffect("there is no proxy in front of it")
    used = [one for one in proxies if one.in_use] if len(proxies) > 1 else []
    return [stage.chance.choice(used)] if used and stage.chance.random() < 0.5 else [*proxies]


def _at(proxies: list[Proxy]) -> str:
    return f", {len(proxies)} node{'s' if len(proxies) > 1 else ''}"


def _kill(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        process = _process(which, stage)
        process.kill()
        try:
            yield f"{process.name}, kill -9"
        finally:
            process.start()

    return act


def _restart(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        process = _process(which, stage)
        process.stop()
        process.start()
        yield f"{process.name}, SIGTERM and started again"

    return act


def _pause(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        process = _process(which, stage)
        process_signal(process.pid, signal.SIGSTOP)
        try:
            yield f"{process.name}, SIGSTOP"
        finally:
            process_signal(process.pid, signal.SIGCONT)

    return act


def _reset(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxies = _proxies(which, stage)
        cut = sum(proxy.reset() for proxy in proxies)
        if not cut:
            raise NoEffect("no connection was open")
        yield f"{cut} connections, RST{_at(proxies)}"

    return act


def _half_open(which: Which, *, forget: bool) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxies = _proxies(which, stage)
        frozen = sum(proxy.freeze() for proxy in proxies)
        try:
            met = _asked_for(which, stage)
            if not frozen and not met:
                raise NoEffect("no connection was open")
            yield f"{frozen} connections half open{_at(proxies)}{met}"
        finally:
            for proxy in proxies:
                proxy.thaw(forget=forget)

    return act


def _unreachable(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxies = _proxies(which, stage)
        cut = sum(proxy.refuse() for proxy in proxies)
        try:
            met = _asked_for(which, stage)
            if not cut and not met:
                raise NoEffect("no connection was open")
            yield f"{cut} connections cut, new ones refused{_at(proxies)}{met}"
        finally:
            for proxy in proxies:
                proxy.listen()

    return act


def _slow(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxies, delay_s = _proxies(which, stage), stage.chance.choice([0.02, 0.1, 0.3])
        before = sum(proxy.passed for proxy in proxies)
        try:
            for proxy in proxies:
                proxy.delay_s = delay_s
            yield f"{delay_s * 1000:.0f} ms later, each piece, both ways{_at(proxies)}"
            if sum(proxy.passed for proxy in proxies) == before:
                raise NoEffect("nothing went through")
        finally:
            for proxy in proxies:
                proxy.delay_s = 0.0

    return act


def _asked_for(which: Which, stage: Stage) -> str:
    """Bundles are asked for now and then: somebody starts who has to load or to write one. Who, in words."""
    if which is not _objects:
        return ""
    part = stage.stack.pick(stage.chance.choice(["serving", "serving", "trainer"]), stage.chance)
    if part is None:
        raise NoEffect("nobody would ask it for anything")
    part.kill()
    return f"; {part.name}, kill -9"


def _refusing(stage: Stage) -> Iterator[str]:
    """Object storage answers, and not with what was asked for: too busy, not allowed, broken off in the middle."""
    switches = getattr(stage.stack.objects, "switches", None)
    if switches is None:
        raise NoEffect("its answers are not ours")
    how = stage.chance.choice([503, 403, 500, "cut"])
    asked = len(switches.asked)
    switches.refuses = lambda *_: how
    try:
        yield f"answers are {how}{_asked_for(_objects, stage)}"
        if len(switches.asked) == asked:
            raise NoEffect("nobody asked meanwhile")
    finally:
        switches.refuses = lambda *_: None


def _broker(stack: Stack) -> ServerUnderTest:
    return stack.kafka


def _store(stack: Stack) -> ServerUnderTest:
    return stack.store


def _objects(stack: Stack) -> ServerUnderTest:
    if stack.objects is None:
        raise NoEffect("there is none")
    return stack.objects


def _lacks(which: Which) -> Callable[[Stack], str | None]:
    def lacks(stack: Stack) -> str | None:
        if which is _objects and stack.objects is None:
            return "bundles are in a folder: --bundles s3 starts object storage"
        return None if which(stack).ours else "it runs elsewhere, and is left alone"

    return lacks


def _of_process(name: str, which: Which) -> list[Fault]:
    lacks = _lacks(which)
    return [
        Fault(f"kill_{name}", f"kill -9 of the {name}", _kill(which), (0.1, 4.0), lacks),
        Fault(f"restart_{name}", f"the {name} is restarted in order", _restart(which), lacks=lacks),
        Fault(f"pause_{name}", f"the {name} stands still", _pause(which), (1.0, 7.0), lacks),
        Fault(f"reset_{name}", f"all connections to the {name} are cut", _reset(which), lacks=lacks),
    ]


def _of_network(name: str, which: Which) -> list[Fault]:
    lacks, words, silent = _lacks(which), name.replace("_", " "), _half_open(which, forget=True)
    return [
        Fault(f"unreachable_{name}", f"the {words} refuses connections", _unreachable(which), (1.0, 6.0), lacks),
        Fault(f"slow_{name}", f"the way to the {words} is slow", _slow(which), (2.0, 6.0), lacks),
        Fault(
            f"half_open_{name}", f"the way to the {words} swallows all", _half_open(which, forget=False), (1.0, 6.0),
            lacks,
        ),
        Fault(f"vanished_{name}", "connections stay silent for good; new ones pass", silent, (0.2, 2.0), lacks),
    ]  # fmt: skip


FAULTS = [
    *(one for name, which in (("broker", _broker), ("store", _store)) for one in _of_process(name, which)),
    *(
        one
        for name, which in (("broker", _broker), ("store", _store), ("object_store", _objects))
        for one in _of_network(name, which)
    ),
    Fault("refusing_object_store", "the object store answers with errors", _refusing, (2.0, 8.0), _lacks(_objects)),
]
