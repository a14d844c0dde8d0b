"""The trainer's checkpoints: one file each with the learner's whole state and its place in the log.

Before: the worker, between two chunks. After: a restart goes on exactly where the file was written, so that the
weights after example N are bit-identical to those of an undisturbed run (CPU). Two files are kept, so that a
damaged newest one costs some relearning and not the model. Knows nothing of Kafka and of how a file is laid out
(`models.checkpoint`).

A file is named after the record of the log that comes next, `checkpoint-<offset>.ckpt`; a damaged one is set aside as
`.corrupt` once a good newer one is written, and never passed over in silence. An erasure takes those away, too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from headwater.errors import CheckpointError, HeadwaterError, SettingsError
from models.checkpoint import draft_checkpoint, finish_checkpoint, read_checkpoint
from models.finite import not_finite
from models.learner import Learner

__all__ = ["UNDER_WAY", "Checkpoints", "state_digest"]

KEPT = 2
UNDER_WAY = "restore-under-way"
"""The file in the directory that says of which backup a restore was begun, and which topics were gone."""
VOLATILE = frozenset({"extra", "version", "digest"})
"""Header fields that depend on when a model was published and not on what was learned."""


class Checkpoints:
    """The checkpoint files of one trainer directory; locked, so that no two trainers write the same model.

    Parameters
        directory: made where it is missing.
        log: told of damaged files.
        progress: called again and again while somebody waits for a file that is written.

    Fields
        durable: the offset of the newest file that this process has written whole, with those gone that had to go;
            None before the first.

    Raises
        SettingsError: another trainer has the directory.
    """

    def __init__(self, directory: Path, log: logging.Logger, progress: Callable[[], None] = lambda: None) -> None:
        self.directory = directory
        self._log = log
        self._progress = progress
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None
        self._good: list[Path] = []
        self._damaged: set[Path] = set()
        self._alone = False  # the next file that is known good is to be the only one
        self.durable: int | None = None
        self.last_s = 0.0
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(directory / "lock")
        for torn in directory.glob(".checkpoint-*"):  # a write that a kill interrupted; its rename never happened
            torn.unlink()

    def files(self) -> list[Path]:
        """Checkpoints in the directory, newest first."""
        return sorted(self.directory.glob("checkpoint-*.ckpt"), reverse=True)

    def refuse_restoring(self) -> None:
        """Raises HeadwaterError where a restore into the directory was killed: the other files are not whole."""
        if (self.directory / UNDER_WAY).exists():
            raise HeadwaterError(
                f"{self.directory / UNDER_WAY}: a restore was begun and has not ended. Run `headwater restore` again, "
                "--clear, and then start this again"
            )

    def load(self, device: str) -> tuple[Learner, dict[str, Any]] | None:
        """The newest good checkpoint. A damaged file is logged with its remedy and the one before it is taken.

        Parameters
            device: `cpu`, `cuda` or `auto`.

        Returns
            The learner and the `extra` it was saved with; None when there is no file at all.

        Raises
            CheckpointError: there are files and none is good: starting from nothing beside them is for a person to
                decide.
        """
        problems: list[str] = []
        for path in self.files():
            try:
                learner, extra = Learner.load(path, device)
                _refuse_broken(str(path), *learner.collect({}))  # a release before this one kept such, too
            except CheckpointError as error:
                problems.append(str(error))
                self._damaged.add(path)
                self._log.error("checkpoint cannot be used: trying the one before it", extra={"error": str(error)})
                continue
            self._good = [path]
            return learner, extra
        if problems:
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be read: {' | '.join(problems)}. Restore one from a backup, or "
                "move the directory away to learn anew from what the examples log holds."
            )
        return None

    def save(
        self, learner: Learner, offset: int, extra: dict[str, Any], *, wait: bool = False, alone: bool = False
    ) -> bool:
        """Write a checkpoint; learning goes on while it is made durable. The state is in the file when this returns,
        straight from where it lies: a copy in memory would be half of the learner again.

        Parameters
            learner: between two chunks.
            offset: of the record of `examples` that comes next.
            extra: any JSON, given back by `load`.
            wait: the file is durable at return.
            alone: keep no other beside it, damaged or not, for those hold somebody who has been forgotten since. Where
                this write fails, that holds for the next one.

        Returns
            False when the last one is still being written, and this one is not.

        Raises
            OSError: of this write (with `wait`), or of the last one.
            CheckpointError: weights are no numbers: a restart would go on with them for ever, so those before stay.
        """
        if self._thread is not None and self._thread.is_alive() and not wait:
            return False
        self.join()
        self._alone |= alone
        path = self.directory / f"checkpoint-{offset:020d}.ckpt"
        arrays, header = learner.collect(extra)
        _refuse_broken("the state", arrays, header)
        draft_checkpoint(path, arrays, header, self._progress)
        told = self._progress if wait else _nobody
        self._thread = threading.Thread(target=self._finish, args=(path, offset, told), name="checkpoint")
        self._thread.start()
        if wait:
            self.join()
        return True

    @property
    def failed(self) -> bool:
        """Whether the last write has ended, and not well; the next `save` or `join` says why."""
        return self._failure is not None

    def _finish(self, path: Path, offset: int, told: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            finish_checkpoint(path, told)
            self._damaged.discard(path)
            keep = 1 if self._alone else KEPT
            self._good = [path, *(good for good in self._good if good != path)][:keep]
            for other in set(self.files()) - set(self._good):
                if other in self._damaged and not self._alone:
                    other.rename(other.with_suffix(".corrupt"))
                else:
                    other.unlink()
            if self._alone:
                for other in self.directory.glob("*.corrupt"):
                    other.unlink()
                self._alone = False
            self.durable = offset
        except OSError as error:
            self._failure = error
        self.last_s = time.monotonic() - began

    def join(self) -> None:
        """Wait for the write that is under way.

        Raises
            OSError: it failed.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self) -> None:
        """Finish writing and let another trainer have the directory."""
        try:
            self.join()
        finally:
            self._lock.release()


def _refuse_broken(name: str, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Raises CheckpointError where a weight that is learned is NaN or infinite; of lists that wait some numbers are."""
    if (found := not_finite({one: arrays[one] for one in header["adam_steps"]})) is not None:
        raise CheckpointError(f"{name} after {header['examples_seen']} examples is no good: {found}")


def _nobody() -> None:
    """Learning goes on beside it, and tells of itself."""


def _locked(path: Path) -> FileLock:
    """A lock that is held until it is released or this process ends. Raises SettingsError when another has it."""
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise SettingsError(
            f"{path.parent} belongs to a running trainer (pid {path.read_text().strip() or 'unknown'}), or a restore "
            "writes there. Stop the trainer, wait until the restore has ended, or "
            "give this one its own trainer.directory and kafka.prefix."
        ) from error
    path.write_text(f"{os.getpid()}\n")
    return lock


def state_digest(path: Path) -> str:
    """SHA-256 over all that was learned and will shape later learning, of a checkpoint file.

    Equal for equal logs, however often the trainer was killed on the way and whatever it published. Raises
    CheckpointError.
    """
    tensors, header = read_checkpoint(path)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    kept = {name: value for name, value in header.items() if name not in VOLATILE}
    digest.update(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
