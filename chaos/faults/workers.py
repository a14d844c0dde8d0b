"""Workers that die, stop, come and go."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

from chaos.faults.fault import Act, Fault, NoEffect, Stage
from chaos.stack import CampaignWorker
from chaos.waiting import wait

__all__ = ["FAULTS"]

ROLES = ("streams", "trainer", "serving", "gateway")
MANY = ("streams", "serving", "gateway")
"""Roles of which there may be any number."""
MOST = 4
"""Workers of one role, after which the next one that is added takes an older one's place."""


def _victim(stage: Stage, role: str) -> CampaignWorker:
    part = stage.stack.pick(role, stage.chance)
    if part is None:
        raise NoEffect(f"no {role} runs")
    return part


def _kill(role: str) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        part = _victim(stage, role)
        part.kill()
        yield f"{part.name}, kill -9"

    return act


def _pause(role: str) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        part = _victim(stage, role)
        with part.stopped():
            if part.process.answers(0.3):
                raise NoEffect(f"{part.name} answers although it is stopped")
            yield f"{part.name}, SIGSTOP"

    return act


def _throttle(role: str) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        """Four fifths of the time stopped, for as long as it is held: a consumer that cannot keep up."""
        part = _victim(stage, role)
        over = threading.Event()

        def throttle() -> None:
            while not over.wait(0.1):
                with part.stopped():
                    over.wait(0.4)

        thread = threading.Thread(target=throttle, daemon=True)
        thread.start()
        try:
            yield f"{part.name}, stopped four fifths of the time"
        finally:
            over.set()
            thread.join()

    return act


def _replace(role: str) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        """One more, and one less where there are many: partitions change hands under load."""
        added = stage.stack.add(role)
        removed = [one for one in stage.stack.living(role) if one is not added]
        if len(removed) >= MOST:
            stage.stack.remove(stage.chance.choice(removed))
        yield f"{added.name} joins"

    return act


def _remove(role: str) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        living = stage.stack.living(role)
        if len(living) < 2:
            raise NoEffect(f"only {len(living)} {role}")
        part = stage.chance.choice(living)
        stage.stack.remove(part)
        yield f"{part.name} leaves, SIGTERM"

    return act


def _kill_all(stage: Stage) -> Iterator[str]:
    killed = [part for role in ROLES for part in stage.stack.living(role)]
    for part in killed:
        part.kill()
    if not killed:
        raise NoEffect("nobody runs")
    yield f"all {len(killed)} workers, kill -9"


def _rolling_restart(stage: Stage) -> Iterator[str]:
    """SIGTERM, start, ready: the workers of one role after another, as an upgrade does."""
    stack, done, role = stage.stack, 0, stage.chance.choice(ROLES)
    for part in stack.living(role):
        with part.lock:
            ready = part.process.ready()
            code = part.stop(stack.grace_s)
            if code is None or (code and ready):
                said = part.process.log_tail(2)[:300]
                stack.wrong.append(f"{part.name} in a rolling restart: exit code {code}, {said}")
            part.start()
            part.wanted = True
        wait(part.process.ready, 120.0, lambda part=part: f"{part.name} ready: {part.process.health()}")  # type: ignore[misc]
        done += 1
    if not done:
        raise NoEffect(f"no {role} runs")
    yield f"{done} {role}, one after another"


def _cut_round(stage: Stage) -> Iterator[str]:
    """The store stands still, a streams worker dies in the midst of its round, the store goes on."""
    standing = [process.pid for process in stage.stack.store.processes if process.running]
    part = _victim(stage, "streams")
    for pid in standing:
        process_signal(pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)
        part.kill()
        time.sleep(0.2)
    finally:
        for pid in standing:
            process_signal(pid, signal.SIGCONT)
    yield f"{part.name}, kill -9 while the store stood still"


def process_signal(pid: int, number: int) -> None:
    """Send a signal. Raises NoEffect where nobody has the pid."""
    import os

    try:
        os.kill(pid, number)
    except ProcessLookupError as error:
        raise NoEffect(f"process {pid} is gone") from error


def _store_is_not_ours(stack: object) -> str | None:
    return None if getattr(stack, "store").ours else "the store runs elsewhere"  # noqa: B009


FAULTS = [
    *(Fault(f"kill_{role}", "kill -9 of a worker", _kill(role)) for role in ROLES),
    *(Fault(f"pause_{role}", "a worker is stopped and goes on", _pause(role), (1.0, 8.0)) for role in ROLES),
    Fault("slow_streams", "a consumer that gets a fifth of its time", _throttle("streams"), (2.0, 6.0)),
    Fault("slow_trainer", "a trainer that gets a fifth of its time", _throttle("trainer"), (2.0, 6.0)),
    *(Fault(f"add_{role}", "one worker more: a rebalance", _replace(role)) for role in MANY),
    *(Fault(f"remove_{role}", "one worker less: a rebalance", _remove(role)) for role in MANY),
    Fault("kill_all", "kill -9 of every worker at once", _kill_all),
    Fault("rolling_restart", "the workers of a role restarted in turn: an upgrade", _rolling_restart),
    Fault("cut_round", "a worker dies between what it sent and what it stores", _cut_round, lacks=_store_is_not_ours),
]
