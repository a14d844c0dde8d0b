"""`headwater demo`: the main job on real events, shown live, checked at the end. Everything is stopped afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.printing import printer


def command(
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay this file (.parquet, .csv, .jsonl, u.data).")
    ] = None,
    quick: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N events.")] = None,
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Use this Kafka; the demo's topics are removed afterwards.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Use this Redis; the demo's keys are removed afterwards.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Show the page, too, and keep everything running at the end until Ctrl-C.")
    ] = False,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep data and logs in this folder.")] = None,
) -> None:
    """Replay 100,000 real ratings through everything, watch it learn, and see a new visitor's list change.

    About 3 minutes. Exit code 1 when something was lost, came twice, or was not answered.
    """
    import sys
    import tempfile
    import time

    import orjson

    from console.demonstration import Demo, LinesView, LiveView, Pages, View, own_world, read_data
    from console.local.supervisor import stopping_signals

    started_s = time.monotonic()
    out = printer(stderr=as_json)
    pages = Pages(out, program(sys.argv[0]))
    view: View = LiveView(out) if out.is_terminal and not as_json else LinesView(out)
    pages.opening()
    data = read_data(events, quick)
    with tempfile.TemporaryDirectory(prefix="headwater-demo-") as temporary, stopping_signals():
        directory = keep.resolve() if keep is not None else Path(temporary)
        with own_world(directory, kafka, redis) as world:
            demo = Demo(directory, world, data, pages, view, started_s, page=page)
            summary = demo.run()
    if not page:
        pages.summary(summary)
    if as_json:
        print(orjson.dumps(summary.as_json()).decode())
    else:
        pages.next_commands()
    raise typer.Exit(1 if summary.failures() else 0)


def program(path: str) -> str:
    """How the person typed us: `headwater`, or a path when that is not on the PATH."""
    import shutil

    name = Path(path).name
    if name != "headwater":
        return "headwater"
    found = shutil.which(name)
    if found is not None and Path(found).resolve() == Path(path).resolve():
        return name
    here = Path(path).resolve()
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)
