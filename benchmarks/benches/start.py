"""From `headwater up` to the first answer, and from nothing to a serving worker that has a large model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.machine import ROOT
from benchmarks.ruler.worlds import fill, newest_bundle, wait, world
from console.local.processes import WorkerProcess
from headwater.client import Client

IMPORTS = {
    "streams": "import faust, uvloop, redis, orjson",
    "trainer": "import torch, numba, kafka",
    "serving": "import onnxruntime, numba, kafka, redis",
}


def measured(setup: Setup) -> Iterator[Row]:
    """Whole processes; the floor of a start is to import the libraries, of a model to read its bytes."""
    turns = setup.few
    answers = [_up(setup.directory / f"up-{turn}") for turn in range(turns)]
    imports = [sum(_imports(words) for words in IMPORTS.values()) for _ in range(turns)]
    yield Row(
        "up to the first answer",
        "s",
        "less",
        answers,
        [Beside("imports of all three, one after the other", "floor", imports)],
        [Bar(10.0, 5.0)],
    )
    items = setup.pick(100_000, 500)
    with world(replace(setup, directory=setup.directory / "items"), serving={"exposures": False}) as made:
        fill(made, items=items, events=setup.pick(30_000, 500), users=5000)
        serving = made.workers["serving"]
        version = made.workers["trainer"].metrics().total("headwater_model_version")
        cold, read = [], []
        for _ in range(turns):
            read.append(_read(newest_bundle(made)))
            cold.append(_cold(serving, version))
    case = f"a cold serving worker, {items:,} items"
    yield Row(case, "s", "less", cold, [Beside("the bundle's bytes from disk", "floor", read)], [Bar(20.0, 5.0)])


def _cold(serving: WorkerProcess, version: float) -> float:
    """Seconds from a start to being ready with this version; its supervisor starts it after a kill."""
    starts = serving.starts
    serving.kill()
    wait(lambda: serving.starts > starts, lambda: serving.starts, "the worker is started again")
    began = time.monotonic()
    wait(
        lambda: serving.ready() and serving.metrics().total("headwater_model_version") >= version,
        lambda: int(time.monotonic() - began) // 60,
        "the worker is ready with the model",
    )
    return time.monotonic() - began


def _up(data: Path) -> float:
    """Seconds from the command to an answer."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    env = {name: value for name, value in env.items() if not name.startswith("HEADWATER_")}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "console", "up", "--json", "--data", str(data)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=data.parent,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"`headwater up` ended with exit code {process.wait()}; its logs are gone with {data}")
        with Client(orjson.loads(said)["kafka"]) as client:
            client.recommend("somebody", k=1, deadline_s=60)
        return time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


def _imports(words: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", words], check=True)
    return time.monotonic() - began


def _read(folder: Path) -> float:
    """Seconds to read all of a folder, as far as the system has it in memory."""
    began = time.monotonic()
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()
    return max(time.monotonic() - began, 1e-4)
