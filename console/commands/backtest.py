"""`headwater replay backtest`: how good would we have been on a past stream, and beside whom?"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Data, Json, Kafka, json_fields
from console.commands.source_options import (
    Catalogue,
    Limit,
    SourceNames,
    SourceOptions,
    catalogue_of,
    opened_source,
    share_of,
    too_many_bad,
)
from console.local import DEFAULT_DATA

if TYPE_CHECKING:
    from headwater.events import Item
    from headwater.settings import Settings
    from headwater.surfaces import Surface
    from replay import Source
    from replay.backtest import Options, Result

__all__ = [
    "InputOptions",
    "ModelOptions",
    "Running",
    "command",
    "compare_command",
    "known_items",
    "settings_of",
    "writable",
]

DIVERSITY_QUERIES = 1000
"""Queries that --diversity asks, each at every step."""


@dataclass(frozen=True)
class Questions:
    """What is asked, and who is asked."""

    warm_up: Annotated[float, typer.Option(min=0, help="Learned before the first question: share or events.")] = 0.8
    exclude_seen: Annotated[
        str, typer.Option(metavar="RULE", help="Seen items are not ranked: auto, all, none, or TYPE,TYPE.")
    ] = "auto"
    peers: Annotated[str, typer.Option(metavar="NAME,NAME", help="Who is asked too; `usual`, `all`, `none`.")] = "usual"
    publish_every: Annotated[
        list[str],
        typer.Option(metavar="EVENTS", help="Also as served with weights published every so many events; `none`."),
    ] = field(default_factory=lambda: ["1000,5000"])
    frozen: Annotated[bool, typer.Option(help="Also as served with the weights of the end of the warm-up.")] = True
    hourly: Annotated[bool, typer.Option(help="Also as served with weights published every hour.")] = False
    retrained: Annotated[bool, typer.Option(help="Also as a batch job retrains it every hour.")] = False
    surface: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.toml",
            help="Also by the policy of a surface, under the code that serves it; of an experiment each variant.",
        ),
    ] = None
    ablation: Annotated[bool, typer.Option(help="Also without each of its parts: what each is worth.")] = False
    shares: Annotated[
        str,
        typer.Option(metavar="N,N", help="Also with shares of the blocks learned in full, as under too much to learn."),
    ] = ""
    diversity: Annotated[bool, typer.Option(help="Also lists of several diversities: what each costs.")] = False
    folds: Annotated[
        int, typer.Option(min=0, help="Mean and spread over so many spans, each asked with all before it learned.")
    ] = 0
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Seeds to repeat with; figures are of the first.")] = "0"
    window: Annotated[int, typer.Option(min=0, help="Events of one window of the curve; 0 makes about 20.")] = 0


@dataclass(frozen=True)
class SignalOptions:
    """What types of event mean, over the settings'."""

    signals: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="What types mean in this run: tables signals.NAME, as in the settings."),
    ] = None
    signal: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE=MEANING", help="Of one type: skip=negative, or 'stars={positive=\">= 4\"}'."),
    ] = None


@dataclass(frozen=True)
class InputOptions:
    """How much of the stream is used, what it means, and which catalogue the learner is told of first."""

    limit: Limit = None
    items: Annotated[Path | None, typer.Option(metavar="FILE", help="Catalogue: .jsonl, .csv, .tsv, .parquet.")] = None
    catalogue: Catalogue = True
    meaning: SignalOptions = field(default_factory=SignalOptions)


@dataclass(frozen=True)
class ModelOptions:
    """How our model is configured, and on what it runs."""

    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=JSON", help="Override a field of the model.")
    ] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or auto. Only cpu repeats bit by bit.")] = "cpu"


@dataclass(frozen=True)
class Written:
    """The files to write."""

    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the result as a page.")] = None
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the result as JSON.")] = None


@dataclass(frozen=True)
class Running:
    """The `headwater up` whose Kafka is read."""

    kafka: Kafka = None
    data: Data = DEFAULT_DATA


@grouped
def command(
    *,
    sources: SourceNames,
    questions: Questions,
    taken: InputOptions,
    model: ModelOptions,
    written: Written,
    reading: SourceOptions,
    running: Running,
    as_json: Json = False,
) -> None:
    """Test, then train, on a past stream: every event is predicted first and learned then. Nothing is sent anywhere."""
    from console.backtest_shown import live, summary
    from console.printing import printer
    from headwater.errors import SettingsError
    from replay.backtest import backtest

    writable((written.report, written.out), (*map(Path, sources), taken.items, taken.meaning.signals))
    options = _options(questions, taken.limit, model)
    settings = settings_of(running, taken.meaning)
    chosen = opened_source(sources, settings, reading)
    known = known_items(chosen, taken, reading)
    with live() as tell:
        result = backtest(chosen, options, settings, items=known, on_progress=tell)
    problems = _problems(result, written)
    if as_json:
        import orjson

        print(orjson.dumps(result.as_json()).decode())
    else:
        print(chosen.report.reading_text)
        for part in summary(result):
            printer().print(part)
    if problems:
        raise SettingsError("; ".join(problems))
    if too_many_bad(chosen, reading):
        raise typer.Exit(1)


def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="A result that `backtest --out` wrote.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the comparison as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Put two backtests side by side: may they be compared, what was set differently, what changed."""
    from console.printing import printer
    from headwater.errors import SettingsError
    from replay.backtest import read_result
    from replay.report import compare, render, write_comparison

    writable((report,), (first, second))
    a, b = read_result(first), read_result(second)
    found = compare(a, b)
    if report is not None:
        try:
            write_comparison(a, b, report)
        except OSError as error:
            raise SettingsError(_unwritten(report, error)) from error
    if as_json:
        import orjson

        print(orjson.dumps(found.model_dump(mode="json")).decode())
    else:
        printer().print(render(found))


def writable(written: tuple[Path | None, ...], read: tuple[Path | None, ...]) -> None:
    """Refuse before hours of work what could not be written after them, or would take the place of what is read."""
    taken = {path.resolve() for path in read if path is not None}
    for path in written:
        if path is None:
            continue
        folder = path.absolute().parent
        if not folder.is_dir():
            raise typer.BadParameter(f"{folder} is not a folder: make it first")
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder: give the name of a file in it")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise typer.BadParameter(f"{path} cannot be written: no permission")
        if path.resolve() in taken:
            raise typer.BadParameter(f"{path} is read or written already: give another name")
        taken.add(path.resolve())


def _options(questions: Questions, limit: int | None, model: ModelOptions) -> Options:
    from replay.backtest import Options

    cadences = questions.publish_every
    return Options(
        warm_up=questions.warm_up,
        exclude_seen=_rule(questions.exclude_seen),
        peers=_peers(questions.peers),
        publish_every=() if cadences == ["none"] else tuple(_numbers(cadences, "--publish-every")),
        frozen=questions.frozen,
        hourly=questions.hourly,
        retrained=questions.retrained,
        ablation=questions.ablation,
        shares=_shares(questions.shares),
        surfaces=_surfaces(questions.surface or ()),
        diversity=DIVERSITY_QUERIES if questions.diversity else 0,
        folds=questions.folds,
        seeds=tuple(dict.fromkeys(_numbers((questions.seeds,), "--seeds"))),
        window=questions.window,
        limit=limit,
        overrides=json_fields(model.override or (), "--set"),
        device=model.device,
    )


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(one) for one in text.split(",") if one.strip()))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: give numbers from 0 to 1, such as .5,.1", param_hint="--shares") from error


def settings_of(running: Running, given: SignalOptions) -> Settings:
    """The settings of what runs, with other signals: those of the file over the settings', single ones over both."""
    import tomllib

    from console.local.addresses import located_settings
    from headwater.settings import read_signals, signals_of

    settings = located_settings(running.kafka, None, None, running.data)
    signals = dict(settings.signals)
    if given.signals is not None:
        signals |= read_signals(given.signals)
    for text in given.signal or ():
        word = re.fullmatch(r"\s*(\S+?)\s*=\s*(\w+)\s*", text)
        try:
            tree = {word[1]: {"means": word[2]}} if word else tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise typer.BadParameter(
                f"--signal {text!r}: write TYPE=MEANING, or TYPE={{...}} as a table of TOML ({error})"
            ) from error
        signals |= signals_of(tree, f"--signal {text}")
    return settings.model_copy(update={"signals": signals})


def _surfaces(paths: Sequence[Path]) -> dict[str, Surface]:
    from headwater.experiments import CONTROL
    from headwater.settings import read_surfaces

    return {
        name if variant == CONTROL else f"{name} {variant}": said
        for path in paths
        for name, surface in read_surfaces(path).items()
        for variant, said in surface.variants.items()
    }


def _rule(given: str) -> tuple[str, ...]:
    words: dict[str, tuple[str, ...]] = {"auto": ("auto",), "all": ("*",), "none": ()}
    types = words[given] if given in words else tuple(filter(None, map(str.strip, given.split(","))))
    if not types and given != "none":
        raise typer.BadParameter("--exclude-seen: give auto, all, none or types of events")
    return types


def _peers(given: str) -> tuple[str, ...]:
    if given == "none":
        return ()
    if given in ("all", "usual"):
        from replay.peers import PEERS, USUAL

        return tuple(PEERS) if given == "all" else USUAL
    return tuple(dict.fromkeys(filter(None, map(str.strip, given.split(",")))))


def _numbers(given: Sequence[str], option: str) -> list[int]:
    texts = [part.strip() for text in given for part in text.split(",") if part.strip()]
    if not all(re.fullmatch("[0-9]{1,30}", text) for text in texts):
        raise typer.BadParameter(f"{option}: {', '.join(texts)}: give whole numbers, with commas between")
    return [int(text) for text in texts]


def known_items(chosen: Source, taken: InputOptions, reading: SourceOptions) -> list[Item]:
    """The catalogue that the learner is told of first."""
    from replay.sources import FileFormat, SourceReport, catalogue_from

    if taken.items is not None:
        report = SourceReport(str(taken.items))
        form = FileFormat(encoding=reading.file.form.encoding)
        items = catalogue_from(taken.items, form=form, report=report, most_bad=share_of(reading.max_bad))
        if report.bad:
            print(f"items: {report.bad_text}", file=sys.stderr)
        return items
    return catalogue_of(chosen) if taken.catalogue else []


def _problems(result: Result, written: Written) -> list[str]:
    """Write the files; what could not be written, for the end: the result itself is to be shown all the same."""
    import orjson

    from replay.report import write_report

    problems = []
    for path in (written.out, written.report):
        if path is None:
            continue
        try:
            if path is written.out:
                path.write_bytes(orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
            else:
                write_report(result, path)
        except OSError as error:
            problems.append(_unwritten(path, error))
    return problems


def _unwritten(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror or error}): make room or give another place"
