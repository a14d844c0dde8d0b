"""When ten times more is asked than a serving worker answers: what is answered in time, and when it is as before.

Real worker, real broker, over TCP. First it is measured how many requests a second the worker answers without end, and
how long it takes in a calm. Then, for a while, so many times as many come, each with a deadline as the SDK sends one;
after it probes come at an easy rate until a second of them is answered as in the calm.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import orjson

from benchmarks.ruler.turns import resident_mb
from benchmarks.ruler.worlds import Replies, paced, writer
from console.local.supervisor import Supervisor
from headwater.topics import REQUESTS, topic_name

__all__ = ["FloodFigures", "flooded"]

DEADLINE_MS = 1000
CALM_PER_S = 20
GIVE_UP_S = 60.0
LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class FloodFigures:
    """What was measured.

    Fields
        sustained_per_s: answers a second where requests wait without end.
        calm_p99_ms: of requests at an easy rate, before the flood.
        asked, answered, expired: requests of the flood; of them those with a list, and those refused for their time.
        p99_ms: of those with a list, from the request to its answer.
        before_mb, most_mb, after_mb: memory of the worker before, at most during, and after the flood.
        normal_s: from the flood's end to the first of a second of probes that are answered as in the calm.
    """

    sustained_per_s: float
    calm_p99_ms: float
    asked: int
    answered: int
    expired: int
    p99_ms: float
    before_mb: float
    most_mb: float
    after_mb: float
    normal_s: float

    @property
    def silent(self) -> int:
        """Requests of the flood that got no answer at all."""
        return self.asked - self.answered - self.expired


@dataclass
class _Asking:
    """Asks, and has a thread that takes the answers down."""

    made: Supervisor
    sent: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)  # ms, of those with a list
    refused: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        kafka = self.made.settings.kafka
        self._topic = topic_name(REQUESTS, kafka.prefix)
        self._replies, self._out = Replies(kafka), writer(kafka)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            for _, value, headers in self._replies.read(0.05):
                now, name = time.perf_counter(), headers["correlation-id"].decode()
                if b'"error":{' in value:
                    self.refused.add(name)
                elif name in self.sent:
                    self.took[name] = (now - self.sent[name]) * 1000

    def ready(self, names: list[str], users: int, deadline_ms: int | None) -> list[tuple[str, str, bytes]]:
        """Requests, made before the clock runs: the generator shares the machine with what it measures."""
        chosen = np.random.default_rng(len(names)).integers(0, users, len(names)).tolist()
        more = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        asked = [(name, f"user-{user}") for name, user in zip(names, chosen, strict=True)]  # asked when they are sent
        return [(name, user, orjson.dumps({"request_id": name, "user_id": user, **more})) for name, user in asked]

    def send(self, one: tuple[str, str, bytes]) -> None:
        """One request, now."""
        name, user, value = one
        self.sent[name] = time.perf_counter()
        self._out.produce(self._topic, value, user, headers=[("reply-partition", b"0")])
        self._out.poll(0)

    def answered(self, names: list[str]) -> int:
        """How many of these have any answer."""
        return sum(name in self.took or name in self.refused for name in names)

    def all_answered(self, names: list[str]) -> None:
        """Wait until they are, or nothing comes for a while."""
        self._out.flush()
        before, since = -1, time.monotonic()
        while (now := self.answered(names)) < len(names) and time.monotonic() - since < GIVE_UP_S:
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.02)

    def close(self) -> None:
        """Let go."""
        self._stop.set()
        self._thread.join()
        self._replies.close()


def flooded(made: Supervisor, users: int, times: float, flood_s: float, several: int = 2000) -> FloodFigures:
    """The figures of one flood.

    Parameters
        made: a world that is ready.
        users: whose requests they are.
        times: as many come as are sustained.
        flood_s: for how long.
        several: requests that tell what is sustained.
    """
    pid = made.workers["serving"].pid
    assert pid is not None
    asking = _Asking(made)
    try:
        calm = _at_ease(asking, users, "calm", 4.0)
        names = [f"all-{n}" for n in range(several)]
        requests = asking.ready(names, users, None)
        began = time.perf_counter()
        for one in requests:
            asking.send(one)
        asking.all_answered(names)
        sustained = several / (time.perf_counter() - began)
        rate = times * sustained
        names = [f"flood-{n}" for n in range(int(rate * flood_s))]
        requests, before_mb = asking.ready(names, users, DEADLINE_MS), resident_mb(pid)
        with _Watch(pid) as watch:
            paced(rate, flood_s, lambda n: asking.send(requests[n]))
            normal_s = _until_normal(asking, users, max(2 * calm, 50.0))
            asking.all_answered(names)
        took = [asking.took[name] for name in names if name in asking.took]
        return FloodFigures(
            sustained_per_s=round(sustained),
            calm_p99_ms=round(calm, 1),
            asked=len(names),
            answered=len(took),
            expired=sum(name in asking.refused for name in names),
            p99_ms=round(float(np.percentile(took, 99)), 1) if took else GIVE_UP_S * 1000,
            before_mb=round(before_mb),
            most_mb=round(watch.most_mb),
            after_mb=round(resident_mb(pid)),
            normal_s=round(normal_s, 2),
        )
    finally:
        asking.close()


def _at_ease(asking: _Asking, users: int, turn: str, seconds: float) -> float:
    """p99 of requests at an easy rate; those of the first half warm caches."""
    names = [f"{turn}-{n}" for n in range(int(CALM_PER_S * seconds))]
    requests = asking.ready(names, users, None)
    paced(CALM_PER_S, seconds, lambda n: asking.send(requests[n]))
    asking.all_answered(names)
    return float(np.percentile([asking.took[name] for name in names[len(names) // 2 :]], 99))


def _until_normal(asking: _Asking, users: int, most_ms: float) -> float:
    """Seconds until a second of probes is answered within `most_ms`, all of them with lists."""
    began, probes = time.perf_counter(), list[str]()
    while time.perf_counter() - began < GIVE_UP_S:
        name = f"probe-{len(probes)}"
        asking.send(asking.ready([name], users, DEADLINE_MS)[0])
        probes.append(name)
        time.sleep(1 / CALM_PER_S)
        newest = probes[-CALM_PER_S - 2 : -2]  # the last may be on their way
        if len(newest) == CALM_PER_S and all(asking.took.get(one, np.inf) <= most_ms for one in newest):
            return max(asking.sent[newest[0]] - began, 0.0)
    return GIVE_UP_S


class _Watch:
    """The most memory that a process holds meanwhile."""

    def __init__(self, pid: int) -> None:
        self.most_mb = 0.0
        self._pid, self._stop = pid, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self.most_mb = max(self.most_mb, resident_mb(self._pid))

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
