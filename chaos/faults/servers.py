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
    process = which(stage.stack).process
    if process is None or not process.running:
        raise NoEffect("it does not run, or is not ours")
    return process


def _proxy(which: Which, stage: Stage) -> Proxy:
    proxy = which(stage.stack).proxy
    if proxy is None:
        raise NoEffect("there is no proxy in front of it")
    return proxy


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
        cut = _proxy(which, stage).reset()
        if not cut:
            raise NoEffect("no connection was open")
        yield f"{cut} connections, RST"

    return act


def _half_open(which: Which, *, forget: bool) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxy = _proxy(which, stage)
        frozen = proxy.freeze()
        try:
            if not frozen:
                raise NoEffect("no connection was open")
            yield f"{frozen} connections half open"
        finally:
            proxy.thaw(forget=forget)

    return act


def _unreachable(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxy = _proxy(which, stage)
        cut = proxy.refuse()
        try:
            if not cut:
                raise NoEffect("no connection was open")
            yield f"{cut} connections cut, new ones refused"
        finally:
            proxy.listen()

    return act


def _slow(which: Which) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        proxy = _proxy(which, stage)
        before, proxy.delay_s = proxy.passed, stage.chance.choice([0.02, 0.1, 0.3])
        try:
            yield f"{proxy.delay_s * 1000:.0f} ms later, each piece, both ways"
            if proxy.passed == before:
                raise NoEffect("nothing went through")
        finally:
            proxy.delay_s = 0.0

    return act


def _broker(stack: Stack) -> ServerUnderTest:
    return stack.kafka


def _store(stack: Stack) -> ServerUnderTest:
    return stack.store


def _lacks(which: Which) -> Callable[[Stack], str | None]:
    return lambda stack: None if which(stack).process is not None else "it runs elsewhere, and is left alone"


FAULTS = [
    fault
    for name, which in (("broker", _broker), ("store", _store))
    for fault in (
        Fault(f"kill_{name}", f"kill -9 of the {name}", _kill(which), (0.1, 4.0), _lacks(which)),
        Fault(f"restart_{name}", f"the {name} is restarted in order", _restart(which), lacks=_lacks(which)),
        Fault(f"pause_{name}", f"the {name} stands still", _pause(which), (1.0, 7.0), _lacks(which)),
        Fault(f"reset_{name}", f"all connections to the {name} are cut", _reset(which), lacks=_lacks(which)),
        Fault(f"unreachable_{name}", f"the {name} refuses connections", _unreachable(which), (1.0, 6.0), _lacks(which)),
        Fault(f"slow_{name}", f"the way to the {name} is slow", _slow(which), (2.0, 6.0), _lacks(which)),
        Fault(
            f"half_open_{name}", f"the way to the {name} swallows all", _half_open(which, forget=False), (1.0, 6.0),
            _lacks(which),
        ),
        Fault(
            f"vanished_{name}", "connections stay silent for good; new ones pass", _half_open(which, forget=True),
            (0.2, 2.0), _lacks(which),
        ),
    )
]  # fmt: skip
