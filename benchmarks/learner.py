"""How fast the learner learns, by encoder, size and device: events a second, test then train, in one process.

Every row learns the same events of a file. The figures of one run compare; those of two machines do not.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch

from headwater.examples import Example
from models.config import model_config
from models.learner import Learner, compile_loops
from replay import open_source
from streams.features.fold import Limits
from streams.features.recording import recorded

__all__ = ["Figure", "main", "measured"]

SIZES: dict[str, dict[str, object]] = {
    "gru 64": {},
    "attention 64": {"encoder": "attention"},
    "gru 256, 256 replayed windows": {"width": 256, "replay_windows": 256, "replay_targets": 4096},
    "attention 256, 256 replayed windows": {
        "encoder": "attention",
        "width": 256,
        "replay_windows": 256,
        "replay_targets": 4096,
    },
}
"""Configurations by the name that the table gives them; the first is the default one."""


@dataclass(frozen=True)
class Figure:
    """One row: what learned, where, how fast, and the mean loss over all queries."""

    size: str
    device: str
    events_per_s: float
    loss: float


def measured(examples: Sequence[Example], warm_up: int, size: str, device: str) -> Figure:
    """Learn all examples; the time is that of those after `warm_up`."""
    learner = Learner(model_config(dict(SIZES[size])), seed=0, device=device)
    scored = learner.learn(examples[:warm_up])
    _finish(learner.device)
    started_s = time.perf_counter()
    scored += learner.learn(examples[warm_up:])
    _finish(learner.device)
    seconds = time.perf_counter() - started_s
    losses = [one.loss for one in scored if one.is_query and one.loss]
    return Figure(size, learner.device, (len(examples) - warm_up) / seconds, sum(losses) / max(len(losses), 1))


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row per size and device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learner", description=__doc__)
    parser.add_argument("file", type=Path, help="past events, of any form that `headwater look` reads")
    parser.add_argument("--events", type=int, default=20_000, help="how many are learned")
    parser.add_argument("--warm-up", type=int, default=2_000, help="how many of these are not timed")
    parser.add_argument("--device", nargs="+", default=["cpu"], choices=("cpu", "cuda"))
    parser.add_argument("--size", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    compile_loops()
    source = open_source(str(given.file))
    examples = list(recorded(islice(source.events(), given.events), Limits()).examples())
    names = {"cpu": f"{platform.processor() or platform.machine()}, {given.threads} thread(s)"}
    if "cuda" in given.device:
        names["cuda"] = torch.cuda.get_device_name()
    print(f"{len(examples):,} events of {given.file.name}; torch {torch.__version__}; {names}", file=sys.stderr)
    figures = []
    for size in given.size:
        for device in given.device:
            figures.append(one := measured(examples, given.warm_up, size, device))
            if not given.json:
                print(f"{size:38} {device:5} {one.events_per_s:9,.0f} events/s   loss {one.loss:.4f}", flush=True)
    if given.json:
        print(json.dumps([asdict(one) for one in figures]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
