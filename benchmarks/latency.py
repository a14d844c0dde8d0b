"""End-to-end latency with all workers up, beside a bare echo of the same records on the same broker in the same run.

    python -m benchmarks.latency                        embedded broker
    python -m benchmarks.latency --broker kafka         Apache Kafka from ../shared/kafka
    python -m benchmarks.latency --kafka HOST:PORT      a broker that is there

Events (300/s) and requests (30/s) are sent by one producer; each record is sent a second time to a topic that a minimal
process (benchmarks/echo.py) copies to another. Measured from before `send` to
  event -> feature: the store's notification that the user's state was written,
  request -> reply: the recommendation in the consumer,
  echo: the copy in the same consumer.
The trainer learns all the while. p99 of a ratio comes from ten equal slices of the run, so that its spread is seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.traffic import Measured, Stopwatch, send_load, warm, watch_features, watch_replies
from console.local.supervisor import Supervisor
from headwater.kafka import admin_client
from headwater.settings import Settings, load_settings

SLICES = 10


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def percentiles(values: np.ndarray) -> dict[str, float]:
    return {"p50": round(float(np.percentile(values, 50)), 2), "p99": round(float(np.percentile(values, 99)), 2)}


def slices_p99(ours: Stopwatch, echo: Stopwatch, begun: float, seconds: float) -> list[tuple[float, float]]:
    """p99 of both in each of ten slices of the run, in milliseconds."""
    found = []
    for number in range(SLICES):
        low, high = begun + seconds * number / SLICES, begun + seconds * (number + 1) / SLICES
        a = [took for at, took in ours.took if low <= at < high]
        b = [took for at, took in echo.took if low <= at < high]
        if a and b:
            found.append((1000 * float(np.percentile(a, 99)), 1000 * float(np.percentile(b, 99))))
    return found


@contextlib.contextmanager
def broker(arguments: argparse.Namespace, directory: Path) -> Iterator[str]:
    """Address of the broker that was asked for."""
    if arguments.kafka:
        yield arguments.kafka
    elif arguments.broker == "kafka":
        from tests.worlds.brokers import ApacheKafka

        with ApacheKafka(directory / "kafka") as server:
            yield server.address
    else:
        from embedded import EmbeddedBroker

        with EmbeddedBroker(directory / "kafka") as server:
            yield server.address


Measure = Callable[[argparse.Namespace, Settings, Supervisor], dict[str, Any]]


def measure(arguments: argparse.Namespace, directory: Path, measured: Measure) -> dict[str, Any]:
    """What `measured` finds in a world of its own: a broker, a store and all workers."""
    with broker(arguments, directory) as address:
        settings = load_settings(
            kafka={"bootstrap": address, "prefix": f"bench{os.getpid()}.", "linger_ms": arguments.linger_ms},
            trainer={"directory": directory / "trainer", "bundles": directory / "models"},
            serving={"bundles": directory / "models"},
        )
        with Supervisor(
            directory, settings, embedded_kafka=False, embedded_redis=not arguments.redis, say=print_to_stderr
        ) as supervisor:
            return measured(arguments, supervisor.settings, supervisor)


@contextlib.contextmanager
def echoing(settings: Settings) -> Iterator[tuple[str, str]]:
    """A process that copies one topic to another, for as long as it is needed; the names of the two."""
    from kafka.admin import NewTopic

    source, target = f"{settings.kafka.prefix}echo-in", f"{settings.kafka.prefix}echo-out"
    admin = admin_client(settings.kafka)
    admin.create_topics([NewTopic(name, 1, 1) for name in (source, target)])
    admin.close()
    env = {
        **os.environ,
        "HEADWATER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HEADWATER_KAFKA__LINGER_MS": str(settings.kafka.linger_ms),
    }
    echo = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.echo", source, target], env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        yield source, target
    finally:
        echo.terminate()
        echo.wait(10)


def _measure(arguments: argparse.Namespace, settings: Settings, supervisor: Supervisor) -> dict[str, Any]:
    warm(settings, supervisor, arguments.warm_events)
    with echoing(settings) as (source, target):
        return _measured(arguments, settings, supervisor, source, target)


def _measured(
    arguments: argparse.Namespace, settings: Settings, supervisor: Supervisor, source: str, target: str
) -> dict[str, Any]:
    load, ready = Measured(), threading.Event()
    threads = [
        threading.Thread(target=watch_features, args=(load, settings)),
        threading.Thread(target=watch_replies, args=(load, settings, target, ready)),
    ]
    try:
        for thread in threads:
            thread.start()
        ready.wait(30)
        rates = (arguments.events_per_s, arguments.requests_per_s)
        send_load(load, settings, source, arguments.settle_s, rates)  # JVM and caches get warm; not counted
        learned = supervisor.workers["trainer"].metrics().total("headwater_examples_learned_total")
        load.fallbacks = 0
        begun = send_load(load, settings, source, arguments.seconds, rates)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (load.reply.sent or load.feature.sent or load.request_echo.sent):
            time.sleep(0.1)
        learned = supervisor.workers["trainer"].metrics().total("headwater_examples_learned_total") - learned
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join()
    result: dict[str, Any] = {
        "broker": arguments.kafka or arguments.broker,
        "linger_ms": settings.kafka.linger_ms,
        "events_per_s": arguments.events_per_s,
        "requests_per_s": arguments.requests_per_s,
        "seconds": arguments.seconds,
        "examples_learned": int(learned),
        "fallbacks": load.fallbacks,
        "unanswered": len(load.reply.sent),
        "unseen_features": len(load.feature.sent),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    for name, ours, yardstick in (
        ("event_to_feature_ms", load.feature, load.event_echo),
        ("request_to_reply_ms", load.reply, load.request_echo),
    ):
        mine, bare = percentiles(ours.milliseconds(begun)), percentiles(yardstick.milliseconds(begun))
        by_slice = slices_p99(ours, yardstick, begun, arguments.seconds)
        slices = sorted(round(a / b, 2) for a, b in by_slice)
        result[name] = {
            **mine,
            "echo": bare,
            "p50_ratio": round(mine["p50"] / bare["p50"], 2),
            "p99_ratio": round(mine["p99"] / bare["p99"], 2),
            "p99_ratio_of_slices": {"min": slices[0], "median": slices[len(slices) // 2], "max": slices[-1]},
            "p99_of_slices": {"ours": [a for a, _ in by_slice], "echo": [b for _, b in by_slice]},
            "count": len(ours.milliseconds(begun)),
        }
    return result


def options(about: str | None) -> argparse.ArgumentParser:
    """What both benchmarks beside this load may be told."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument("--kafka", help="address of a broker that is there")
    parser.add_argument("--redis", help="URL of a store that is there")
    parser.add_argument("--linger-ms", type=int, default=None, help="default: the setting's own default")
    parser.add_argument("--events-per-s", type=int, default=300)
    parser.add_argument("--requests-per-s", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--settle-s", type=float, default=30)
    parser.add_argument("--warm-events", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    return parser


def figures(*words: str) -> dict[str, Any]:
    """What a run with these options finds: for events and requests `p50`, `p99` and those of the echo in milliseconds,
    and `p99_of_slices` of both.
    """
    return run(options(None), _measure, words)[0]


def run(
    parser: argparse.ArgumentParser, measured: Measure, words: Sequence[str] | None = None
) -> tuple[dict[str, Any], argparse.Namespace]:
    """Read the options, those of the command line unless they are given, and measure."""
    arguments = parser.parse_args(words)
    sys.setswitchinterval(0.0005)  # four threads share this process: at the default 5 ms it would measure itself
    if arguments.linger_ms is None:
        arguments.linger_ms = load_settings().kafka.linger_ms
    with tempfile.TemporaryDirectory() as directory:
        return measure(arguments, Path(directory), measured), arguments


def main() -> None:
    """Measure and print."""
    result, arguments = run(options(__doc__), _measure)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['broker']}, linger {result['linger_ms']} ms, {result['machine']}, commit {result['commit']}")
    print(f"{result['examples_learned']} examples learned meanwhile, {result['fallbacks']} fallbacks")
    for name in ("event_to_feature_ms", "request_to_reply_ms"):
        row = result[name]
        print(
            f"{name:22} p50 {row['p50']:7.2f}  p99 {row['p99']:7.2f}   echo p50 {row['echo']['p50']:7.2f}  "
            f"p99 {row['echo']['p99']:7.2f}   ratio p50 {row['p50_ratio']:.2f} p99 {row['p99_ratio']:.2f} "
            f"(slices {row['p99_ratio_of_slices']['min']}..{row['p99_ratio_of_slices']['max']})"
        )


if __name__ == "__main__":
    main()
