"""A disk that is full, and a folder of bundles that is away."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from chaos.faults.fault import Fault, NoEffect, Stage
from chaos.stack import Stack

__all__ = ["FAULTS"]

PIECE = 65_536


def _full(stage: Stage) -> Iterator[str]:
    """The small file system that holds checkpoints and bundles has not a byte left."""
    filler = small_disk(stage.stack.folder) / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * PIECE)
        try:
            with (small_disk(stage.stack.folder) / "one-more").open("wb", buffering=0) as file:
                file.write(b"\0" * PIECE)
            raise NoEffect("there is room left")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise NoEffect(f"it says {error}") from error
        killed = ""
        if stage.chance.random() < 0.4 and (part := stage.stack.pick("trainer", stage.chance)) is not None:
            part.kill()
            killed = f"; {part.name}, kill -9"
        yield f"no byte left for checkpoints and bundles{killed}"
    finally:
        for name in ("filler", "one-more"):
            (small_disk(stage.stack.folder) / name).unlink(missing_ok=True)


def _away(stage: Stage) -> Iterator[str]:
    """The folder of bundles is not there, as a network mount that is lost."""
    here = Path(stage.stack.settings.trainer.bundles)
    away = here.with_suffix(".away")
    try:
        here.rename(away)
    except OSError as error:
        raise NoEffect(f"it cannot be moved: {error}") from error
    try:
        yield f"{here.name} is not there"
    finally:
        if here.exists():  # somebody has made it anew, and may have published
            for one in here.iterdir():
                if not (away / one.name).exists():
                    shutil.move(one, away / one.name)
            shutil.rmtree(here)
        away.rename(here)


def small_disk(folder: Path) -> Path:
    """Where checkpoints and bundles of a campaign lie."""
    return folder / "disk"


def _lacks(stack: Stack) -> str | None:
    if small_disk(stack.folder).is_mount():
        return None
    return "it takes a file system of its own, which only root may mount"


def _in_folder(stack: Stack) -> str | None:
    return None if isinstance(stack.settings.trainer.bundles, Path) else "bundles are in object storage"


FAULTS = [
    Fault("full_disk", "no room for checkpoints and bundles", _full, (1.0, 8.0), _lacks),
    Fault("bundles_away", "the folder of bundles is lost for a while", _away, (1.0, 8.0), _in_folder),
]
