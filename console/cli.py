"""The `headwater` command: which commands there are, and how their errors end.

Each command lives in its own module and loads what it needs when it runs, so that `headwater --help` is quick. Exit
codes: 0 done, 1 done and something is wrong, 2 could not be done (one line on stderr says why), 130 Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys

import typer

from console.commands import (
    audit,
    bench,
    chaos,
    contract,
    dead_letters,
    demo,
    doctor,
    explain,
    look,
    produce,
    recommend,
    replay,
    rollback,
    signals,
    surfaces,
    tail,
    topics,
    trace,
    train,
    up,
)
from console.commands.privacy import consent, export, forget, inactive, items, pseudonyms, seal_states, unlearn
from console.commands.recovery import backup, gap, rebuild, restore
from console.commands.security import acls, keys, signing
from console.commands.surfaces import experiments
from headwater.errors import HeadwaterError

app = typer.Typer(
    name="headwater",
    help="Recommendations that change before the next page loads: Kafka events in, an online-trained model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

START, USE, LOOK, MEND = "Start here", "Use it", "Look inside", "Mend and maintain"
app.command("demo", rich_help_panel=START)(demo.command)
app.command("up", rich_help_panel=START)(up.command)
app.command("look", rich_help_panel=START)(look.command)
app.command("doctor", rich_help_panel=START)(doctor.command)
app.command("recommend", rich_help_panel=USE)(recommend.command)
app.command("produce", rich_help_panel=USE)(produce.command)
app.add_typer(replay.app, name="replay", rich_help_panel=USE)
app.command("train", rich_help_panel=USE)(train.command)
app.add_typer(surfaces.app, name="surfaces", rich_help_panel=USE)
app.command("experiments", rich_help_panel=LOOK)(experiments.command)
app.command("signals", rich_help_panel=LOOK)(signals.command)
app.add_typer(explain.app, name="explain", rich_help_panel=LOOK)
app.command("items", rich_help_panel=LOOK)(items.command)
app.command("trace", rich_help_panel=LOOK)(trace.command)
app.command("tail", rich_help_panel=LOOK)(tail.command)
app.command("topics", rich_help_panel=LOOK)(topics.command)
app.add_typer(audit.app, name="audit", rich_help_panel=LOOK)
app.add_typer(bench.app, name="bench", rich_help_panel=LOOK)
app.command("chaos", rich_help_panel=MEND)(chaos.command)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=MEND)
app.add_typer(backup.app, name="backup", rich_help_panel=MEND)
app.command("restore", rich_help_panel=MEND)(restore.command)
app.add_typer(rebuild.app, name="rebuild", rich_help_panel=MEND)
app.command("accept-gap", rich_help_panel=MEND)(gap.command)
app.command("consent", rich_help_panel=MEND)(consent.command)
app.command("forget", rich_help_panel=MEND)(forget.command)
app.command("forget-inactive", rich_help_panel=MEND)(inactive.command)
app.command("seal-states", rich_help_panel=MEND)(seal_states.command)
app.command("export", rich_help_panel=MEND)(export.command)
app.command("unlearn", rich_help_panel=MEND)(unlearn.command)
app.add_typer(pseudonyms.app, name="pseudonyms", rich_help_panel=MEND)
app.command("rollback", rich_help_panel=MEND)(rollback.command)
app.command("acls", rich_help_panel=MEND)(acls.command)
app.add_typer(signing.app, name="signing", rich_help_panel=MEND)
app.add_typer(keys.app, name="keys", rich_help_panel=MEND)
app.command("contract", rich_help_panel=MEND)(contract.command)


def main() -> None:
    """Entry point of the `headwater` script."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime 1.31 brings a telemetry client
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it logs about retries, errors of ours say better
    try:
        app(prog_name="headwater")  # also for `python -m console`
    except HeadwaterError as error:
        print(f"headwater: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `headwater tail events | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"headwater: {error.filename}: {error.strerror}. Mend that, or give another file", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "kafka":
            raise
        text = f"Kafka does not do this ({error!r}). Check it, and what this Kafka user may do there"
        print(f"headwater: {text}; `headwater doctor` says more", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
