"""Training on history: a recorded stream in, a checkpoint out from which the trainer goes on with the live one.

Before: `headwater train` reads events of a file. After: `trainer.worker` takes the checkpoint on. Knows no file format
and no Kafka.

Three parts. The older events are absorbed: rows, association memories and popularity in one pass. Then the encoder
rehearses them, epoch after epoch. Then the newest slice is learned as a stream, test then train: the gate must see
what the encoder says of events that it did not rehearse, or it would trust it for what it knows by heart. The quality
that is reported is that of the newest slice, each event asked before it was learned.

A checkpoint of the work under way lies beside the trainer's own as `history.ckpt`. kill -9 costs what was done since:
run again with the same file, it absorbs anew (that is quick and always the same) and goes on from there, to the same
bits (on the CPU) as without the kill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from headwater.errors import SettingsError
from headwater.examples import CatalogueEntry, Example
from models.config import ModelConfig
from models.learner import Learner
from models.recorder import Recorder, absorb
from models.sequence.history import History
from models.sequence.rehearsal import Plan, Rehearsal
from streams.features.recording import Recording
from trainer.checkpoints import Checkpoints

__all__ = ["HistoryTraining", "TrainingReport"]

NAME = "history.ckpt"
CHUNK = 64
MEASURED_STEPS = 20
"""Steps after which it is known how many epochs fit into the minutes that were given."""


@dataclass
class TrainingReport:
    """How far training is; complete when `HistoryTraining.run` returns it.

    Fields
        events: of the recording.
        absorbed, streamed: of them so far, before and after the rehearsal.
        epoch, epochs: done, and planned.
        loss: mean of the newest epoch.
        resumed: whether an earlier run's work was taken up.
        seconds: of this run.
        quality: prequential figures of the newest slice.
    """

    events: int = 0
    absorbed: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    streamed: int = 0
    resumed: bool = False
    seconds: float = 0.0
    quality: dict[str, Any] = field(default_factory=dict)


class HistoryTraining:
    """One training on one recording, in the directory of a trainer that is not running.

    Parameters
        recording: the past, in order.
        checkpoints: of the directory.
        config: of the model.
        plan: epochs and rates of the rehearsal.
        fresh: the newest events are learned as a stream: a share below 1, or how many.
        catalogue: known before any event.
        device: `cpu`, `cuda` or `auto`.
        checkpoint_every_s: how often the work under way is kept.

    Raises
        SettingsError: nothing older than `fresh` is left to train on.
    """

    def __init__(
        self,
        recording: Recording,
        checkpoints: Checkpoints,
        config: ModelConfig,
        *,
        plan: Plan,
        fresh: float = 0.1,
        catalogue: Sequence[CatalogueEntry] = (),
        device: str = "cpu",
        checkpoint_every_s: float = 15.0,
    ) -> None:
        """`fresh` newest events are learned as a stream: a share below 1, or how many. `catalogue` is known before any.

        Raises SettingsError.
        """
        newest = int(fresh * len(recording)) if 0 <= fresh < 1 else int(fresh)
        if not 0 <= newest < len(recording):
            raise SettingsError(f"fresh is {fresh} of {len(recording):,} events: nothing older is left to train on")
        self.recording, self.checkpoints, self.config = recording, checkpoints, config
        self.plan, self.device, self.catalogue = plan, device, catalogue
        self.older = len(recording) - newest
        self.report = TrainingReport(events=len(recording), epochs=plan.epochs)
        self._log = logging.getLogger("headwater.train")
        self._every_s = checkpoint_every_s
        self._path = checkpoints.directory / NAME
        self._mark = {"recording": recording.digest(), "older": self.older}

    def run(
        self, *, minutes: float | None = None, on_progress: Callable[[TrainingReport], None] = lambda _report: None
    ) -> Learner:
        """Do all of it, or what an earlier run left. Writes the trainer's checkpoint at the end.

        Parameters
            minutes: bounds the rehearsal: fewer epochs, if need be.
            on_progress: called now and then, and at the end.

        Returns
            The learner as it is in the checkpoint.

        Raises
            SettingsError: a checkpoint is there already, or the work under way is of another file or configuration.
        """
        if self.checkpoints.files():
            raise SettingsError(
                f"{self.checkpoints.directory} holds checkpoints of a trainer: training would put them aside. Move "
                "them away, or give another trainer.directory."
            )
        began = time.monotonic()
        saved = self._saved()
        examples = self.recording.examples()
        learner = Learner(self.config, self.plan.seed, self.device)
        for entry in self.catalogue:
            learner.observe_item(entry)
        recorder = Recorder()
        while self.report.absorbed < self.older:
            chunk = list(islice(examples, min(CHUNK, self.older - self.report.absorbed)))
            for one in absorb(learner, chunk):
                recorder.add(learner, one)
            self._report_progress(began, on_progress, absorbed=len(chunk))
        history = recorder.history(learner)
        state: dict[str, Any] | None = None
        if saved is not None:
            learner, state = saved
            self.report.resumed = True
        rehearsal = Rehearsal(
            learner.parts.sequence.encoder, history, learner.popularity.chances(learner.items.used), self.plan
        )
        if state is not None:
            rehearsal.load(state["rehearsal"])
        self._rehearse(learner, rehearsal, minutes, lambda: self._report_progress(began, on_progress))
        streamed = 0 if state is None else int(state["streamed"])
        if not streamed and not learner.parts.sequence.replay.ringed:
            self._fill_replay(learner, recorder, history)
            self._save(learner, rehearsal, 0)
        self._stream(learner, rehearsal, islice(examples, streamed, None), streamed, began, on_progress)
        self.report.quality = learner.prequential.summary()
        self.checkpoints.save(learner, 0, {"trained": self._mark}, wait=True)
        self._path.unlink(missing_ok=True)
        self._report_progress(began, on_progress)
        return learner

    def _saved(self) -> tuple[Learner, dict[str, Any]] | None:
        """The work under way, if there is any."""
        if not self._path.exists():
            return None
        learner, state = Learner.load(self._path, self.device)
        if state["mark"] != self._mark or learner.config != self.config or learner.seed != self.plan.seed:
            raise SettingsError(
                f"{self._path} is training under way on another file, share, seed or configuration. Give those again "
                "to finish it, or delete it to begin anew."
            )
        return learner, state

    def _rehearse(
        self, learner: Learner, rehearsal: Rehearsal, minutes: float | None, tell: Callable[[], None]
    ) -> None:
        if not self.config.slow:
            return
        began = saved = time.monotonic()
        steps = 0
        while not rehearsal.done:
            rehearsal.step()
            steps += 1
            now = time.monotonic()
            if minutes is not None and steps == MEASURED_STEPS:
                every_s = (now - began) / steps * max(rehearsal.batches(), 1)
                fitting = rehearsal.epoch + max(int(minutes * 60 / every_s), 1)
                rehearsal.plan = replace(rehearsal.plan, epochs=min(rehearsal.plan.epochs, fitting))
            if now - saved >= self._every_s:
                self._save(learner, rehearsal, 0)
                saved = time.monotonic()
            self.report.epoch, self.report.epochs = rehearsal.epoch, rehearsal.plan.epochs
            self.report.loss = rehearsal.losses[-1] if rehearsal.losses else None
            tell()

    def _fill_replay(self, learner: Learner, recorder: Recorder, history: History) -> None:
        """What the stream rehearses beside new events: the newest window of every user."""
        for user_id, user in recorder.newest_first_seen():
            learner.parts.sequence.replay.add(user_id, history.steps(user, self.config.length + 1))

    def _stream(
        self,
        learner: Learner,
        rehearsal: Rehearsal,
        examples: Iterator[Example],
        streamed: int,
        began: float,
        on_progress: Callable[[TrainingReport], None],
    ) -> None:
        saved = time.monotonic()
        self.report.streamed = streamed
        while chunk := list(islice(examples, CHUNK)):
            learner.learn(chunk)
            streamed += len(chunk)
            if time.monotonic() - saved >= self._every_s:
                self._save(learner, rehearsal, streamed)
                saved = time.monotonic()
            self._report_progress(began, on_progress, streamed=len(chunk))

    def _save(self, learner: Learner, rehearsal: Rehearsal, streamed: int) -> None:
        state = {"mark": self._mark, "rehearsal": rehearsal.state(), "streamed": streamed}
        try:
            learner.save(self._path, state)
        except OSError as error:
            self._log.error("training goes on without a checkpoint: make room", extra={"error": str(error)})

    def _report_progress(
        self, began: float, on_progress: Callable[[TrainingReport], None], absorbed: int = 0, streamed: int = 0
    ) -> None:
        self.report.absorbed += absorbed
        self.report.streamed += streamed
        self.report.seconds = time.monotonic() - began
        on_progress(self.report)
