"""`python -m benchmarks.ruler NAME ...`: one bench in a process of its own, for `benchmarks.ruler.running`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.benches import BENCHES
from benchmarks.ruler.figures import Report, Row
from benchmarks.ruler.machine import commit, machine
from benchmarks.ruler.registry import Setup


def main() -> int:
    """Run it, save its report, and say by the exit code whether it failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ruler", description=__doc__)
    parser.add_argument("name", choices=BENCHES)
    parser.add_argument("--out", type=Path, required=True, help="where its report goes")
    parser.add_argument("--work", type=Path, required=True, help="a folder of its own; who started this removes it")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--broker", default="embedded")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    chosen = BENCHES[given.name]
    began, loaded = time.monotonic(), os.getloadavg()[0]
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    failed = ""
    if given.quick:  # beside tests a trainer that yields would wait for ever
        os.environ["HEADWATER_TRAINER__YIELDS"] = "false"
    setup = Setup(given.work, given.quick, given.broker)
    rows: list[Row] = []
    try:
        for row in chosen.load()(setup):
            rows.append(row)  # kept, whatever the next one ends in
    except Exception as error:  # noqa: BLE001 - whatever ends a bench stands in its report
        traceback.print_exc()
        failed = f"{type(error).__name__}: {error}"
    report = Report(
        bench=chosen.name,
        about=chosen.about,
        broker=broker_name(given.broker) if chosen.uses_broker else "",
        quick=given.quick,
        machine=machine(),
        commit=commit(),
        began=stamp,
        seconds=round(time.monotonic() - began, 1),
        load=(round(loaded, 2), round(os.getloadavg()[0], 2)),
        rows=rows,
        left_out=setup.left_out,
        failed=failed,
    )
    report.save(given.out)
    return 1 if failed else 0


def _end(*_: object) -> None:
    """Told to stop: what was started is stopped on the way out."""
    raise SystemExit(1)


def broker_name(asked: str) -> str:
    """As a report has it: an address is that of a Kafka."""
    return asked if asked == "embedded" else "kafka"


if __name__ == "__main__":
    sys.exit(main())
