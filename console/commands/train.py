"""`headwater train`: learns recorded history, into a checkpoint that the trainer goes on from."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Data, Json
from console.commands.source_options import (
    Catalogue,
    FileOptions,
    Limit,
    RowsOptions,
    SourceOptions,
    catalogue_of,
    opened_source,
)
from console.local import DEFAULT_DATA

if TYPE_CHECKING:
    from headwater.examples import CatalogueEntry
    from headwater.settings import Settings
    from replay import Source
    from streams.features.recording import Recording
    from trainer.checkpoints import Checkpoints
    from trainer.pretraining import HistoryTraining, TrainingReport

__all__ = ["command"]


@dataclass(frozen=True)
class Training:
    """How history is learned."""

    epochs: Annotated[int, typer.Option(min=0, help="Passes of the encoder over the older events.")] = 20
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Longest time for them: fewer, if need be.")] = None
    fresh: Annotated[float, typer.Option(min=0, max=0.99, help="Newest share, learned as a stream and measured.")] = 0.1
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest step size of the encoder.")] = 4e-3
    batch_steps: Annotated[int, typer.Option(min=1, help="Padded history entries of one gradient step.")] = 6400
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto. Default: trainer.device.")] = None
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the checkpoint goes. Default: that of the trainer.")
    ] = None


@grouped
def command(
    *,
    source: Annotated[
        str, typer.Option("--from", metavar="FILE", help="Events: a file, folder or glob, or `movielens`.")
    ],
    learning: Training,
    limit: Limit = None,
    catalogue: Catalogue = True,
    reading: FileOptions,
    rows: RowsOptions,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Learn a file's history; the trainer goes on from there. Run again after a kill, it takes up where it was."""
    import torch

    from console.local.addresses import servers_to_run
    from models.config import model_config
    from models.device import choose_device
    from models.sequence.rehearsal import Plan
    from trainer.pretraining import HistoryTraining

    if not math.isfinite(learning.learning_rate):
        raise typer.BadParameter(f"--learning-rate {learning.learning_rate}: give a number such as 0.004")
    if learning.device not in (None, "cpu", "cuda", "auto"):
        raise typer.BadParameter(f"--device {learning.device!r}: choose of cpu, cuda, auto")
    settings = servers_to_run(data).settings
    chosen = opened_source([source], settings, SourceOptions(file=reading, rows=rows))
    torch.set_num_threads(settings.trainer.threads)
    rate = learning.learning_rate
    with _checkpoints(learning.directory or settings.trainer.directory) as checkpoints:
        training = HistoryTraining(
            _recording(chosen, limit, settings),
            checkpoints,
            model_config(settings.model.given, settings.signals),
            plan=Plan(learning.epochs, learning.batch_steps, rate, 1.5 * rate, seed=settings.trainer.seed),
            fresh=learning.fresh,
            catalogue=_catalogue(chosen, catalogue),
            device=choose_device(learning.device or settings.trainer.device),
            checkpoint_every_s=settings.trainer.checkpoint_every_s,
        )
        _shown(training, learning.minutes, as_json)
    report = training.report
    if as_json:
        from dataclasses import asdict

        import orjson

        body = {**asdict(report), "directory": str(checkpoints.directory), "source": str(chosen.report)}
        print(orjson.dumps(body).decode())
        return
    print(f"{chosen.report}")
    print(_summary(report))
    print(f"The trainer goes on from {checkpoints.files()[0]}.")


@contextmanager
def _checkpoints(directory: Path) -> Iterator[Checkpoints]:
    """The trainer's checkpoints, locked until the end. Raises SettingsError where they cannot be written."""
    from headwater.errors import SettingsError
    from trainer.checkpoints import Checkpoints

    try:
        checkpoints = Checkpoints(directory, logging.getLogger("headwater.train"))
    except OSError as error:
        raise SettingsError(f"{directory} cannot be written ({error.strerror}): give another --directory") from error
    try:
        yield checkpoints
    except OSError as error:
        raise SettingsError(
            f"{directory} could not be written ({error.strerror or error}): make room, and run the same command again"
        ) from error
    finally:
        checkpoints.close()


def _recording(source: Source, limit: int | None, settings: Settings) -> Recording:
    """The source's events, each with the history that the streams worker would have had. Raises SourceError."""
    from headwater.errors import SourceError
    from streams.features.fold import Limits
    from streams.features.recording import recorded

    recording = recorded(islice(source.events(), limit), Limits.of(settings))
    if not len(recording):
        raise SourceError(f"the source has no events. {source.report}")
    return recording


def _catalogue(source: Source, wanted: bool) -> list[CatalogueEntry]:
    from headwater.examples import CatalogueEntry

    items = catalogue_of(source) if wanted else []
    return [CatalogueEntry(one.item_id, one.model_dump(mode="json", exclude_none=True)) for one in items]


def _shown(training: HistoryTraining, minutes: float | None, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn(),
        console=Console(stderr=True), disable=quiet, transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task("reading", told="")

        def tell(report: TrainingReport) -> None:
            if report.absorbed < training.older:
                done, of, what, told = report.absorbed, training.older, "older events", f"{report.absorbed:,}"
            elif not report.streamed:
                loss = "" if report.loss is None else f", loss {report.loss:.3f}"
                done, of, what, told = report.epoch, report.epochs, "epochs", f"{report.epoch} of {report.epochs}{loss}"
            else:
                of = report.events - training.older
                done, what, told = report.streamed, "newest events", f"{report.streamed:,}"
            progress.update(task, description=what, completed=done, total=max(of, 1), told=told)

        training.run(minutes=minutes, on_progress=tell)


def _summary(report: TrainingReport) -> str:
    taken = " (taken up again)" if report.resumed else ""
    text = (
        f"{report.absorbed:,} older events{taken}: {report.epoch} epochs"
        + (f", loss {report.loss:.3f}" if report.loss is not None else "")
        + f"; then {report.streamed:,} of the newest as a stream, {report.seconds:,.0f} s in all."
    )
    ndcg, queries = report.quality.get("ndcg_at_10", {}), report.quality.get("queries", 0)
    if queries:
        parts = ", ".join(f"{name} {value:.4f}" for name, value in ndcg.items() if value is not None)
        text += f"\nNDCG@10 of {queries:,} of those events, each asked before it was learned: {parts}."
    return text
