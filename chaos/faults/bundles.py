"""Files and topics of the model that hold nonsense: bundles, checkpoints, deltas, announcements."""

from __future__ import annotations

import os
from collections.abc import Iterator

import orjson

from chaos.bundle_files import BundleFiles, open_files
from chaos.faults.fault import Fault, NoEffect, Stage
from chaos.load.records import Outgoing
from headwater.errors import Unavailable
from headwater.topics import EXAMPLES, MODEL, MODEL_DELTAS
from models.published.layout import parse_name

__all__ = ["FAULTS"]


def _newest(files: BundleFiles) -> tuple[str, list[str]]:
    """The newest bundle and the paths of its files."""
    try:
        paths = sorted(path for path in files.paths() if parse_name(path.partition("/")[0]) is not None)
    except (OSError, Unavailable) as error:
        raise NoEffect(f"bundles are away: {error}") from error
    if not paths:
        raise NoEffect("there is no bundle")
    name = paths[-1].partition("/")[0]
    return name, [path for path in paths if path.startswith(f"{name}/")]


def _corrupt(stage: Stage) -> Iterator[str]:
    """A file of the newest bundle is flipped, cut or gone, and a worker that has to load it starts."""
    files = open_files(stage.stack.settings.trainer.bundles)
    bundle, paths = _newest(files)
    victim, how = stage.chance.choice(paths), stage.chance.choice(["flipped", "cut", "gone"])
    try:
        body = bytearray(files.get(victim))
        if how == "gone" or not body:
            files.delete([victim])
        else:
            body[stage.chance.randrange(len(body))] ^= 0x5A
            files.put(victim, bytes(body if how == "flipped" else body[: len(body) // 2]))
    except (OSError, Unavailable) as error:
        raise NoEffect(f"{bundle} was pruned meanwhile: {error}") from error
    part = stage.stack.pick("serving", stage.chance)
    if part is not None:
        part.kill()
    yield f"{victim} {how}; {'nobody' if part is None else part.name}, kill -9"


def _half_written(stage: Stage) -> Iterator[str]:
    """What looks like the next bundle holds half of one, as a trainer leaves it that died."""
    files = open_files(stage.stack.settings.trainer.bundles)
    bundle, paths = _newest(files)
    number = int(bundle[1:].partition("-")[0]) + stage.chance.randint(1, 5)
    torn = f"v{number:08d}-{'ab' * 8}"
    try:
        for path in paths[:2]:
            files.put(path.replace(bundle, torn), files.get(path)[:1000])
    except (OSError, Unavailable) as error:
        raise NoEffect(str(error)) from error
    for role in ("trainer", "serving"):
        if (part := stage.stack.pick(role, stage.chance)) is not None:
            part.kill()
    yield f"{torn} is half of a bundle; a trainer and a serving worker, kill -9"


def _torn_checkpoint(stage: Stage) -> Iterator[str]:
    """The trainer dies, and the newest of its two checkpoints is half there."""
    part = stage.stack.pick("trainer", stage.chance)
    if part is None:
        raise NoEffect("no trainer runs")
    with part.lock:
        part.kill()
        found = sorted(stage.stack.settings.trainer.directory.glob("checkpoint-*.ckpt"))
        if len(found) < 2:
            raise NoEffect(f"{len(found)} checkpoints: the only one is left alone")
        size = found[-1].stat().st_size
        os.truncate(found[-1], stage.chance.randrange(size))
    yield f"{part.name}, kill -9, and {found[-1].name} is torn"


def _garbage(stage: Stage) -> Iterator[str]:
    """Records that no trainer and no streams worker wrote, on the topics between them."""
    sealed = b"HWD\x01" + bytes(stage.chance.randrange(256) for _ in range(200))
    name, more = b"v%08d-none" % stage.chance.randrange(10**6), 10**8 + stage.chance.randrange(10**6)
    body = {
        "version": more, "digest": "d" * 64, "bundle": name.decode(), "parent": None, "delta_offset": 0,
        "published_time": 1, "examples_offset": 0, "metrics": {},
    }  # fmt: skip
    records = [
        Outgoing("garbage", MODEL_DELTAS.name, b"1", sealed),
        Outgoing("garbage", MODEL_DELTAS.name, b"%d" % more, b"x"),
        Outgoing("garbage", MODEL.name, b"snapshot:" + b"9" * 30, orjson.dumps(body)),
        Outgoing("garbage", MODEL.name, b"snapshot:%d" % more, orjson.dumps(body | {"bundle": "../../etc"})),
        Outgoing("garbage", EXAMPLES.name, None, b"{not json"),
        Outgoing("garbage", EXAMPLES.name, None, orjson.dumps({"format": 1, "segments": [], "partition": "a"})),
    ]
    yield f"{stage.load.also(records)} records on {MODEL.name}, {MODEL_DELTAS.name} and {EXAMPLES.name}"


FAULTS = [
    Fault("corrupt_bundle", "a file of the newest bundle is damaged", _corrupt),
    Fault("half_bundle", "half of a bundle lies where the next one will", _half_written),
    Fault("torn_checkpoint", "the newest checkpoint is half written", _torn_checkpoint),
    Fault("garbage", "nonsense on the topics between the workers", _garbage),
]
