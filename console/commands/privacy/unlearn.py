"""`headwater unlearn`: the model learned anew as if somebody had never been in the log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions
from console.printing import printer

if TYPE_CHECKING:
    from headwater.settings import Settings
    from trainer.unlearning import UnlearningCost


@grouped
def command(
    *,
    users: Annotated[list[str], typer.Argument(metavar="USER...", help="All ids of the person.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Learn from what the log holds, though its beginning is gone.")
    ] = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None,
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of the trainer's checkpoints. Default: trainer.directory.")
    ] = None,
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """Learn the model anew over the log of examples without these ids; the trainer must be stopped.

    Shows what it costs, and asks. The digest is that of a run that never saw them. Started again, the trainer goes on
    from there, and publishes through the usual guard.
    """
    from dataclasses import asdict

    import orjson

    from headwater.privacy import digest_of
    from headwater.privacy.audit_log import write_audit
    from trainer.checkpoints import Checkpoints
    from trainer.unlearning import Unlearning

    settings = servers.settings()
    folder = _folder(settings, directory, servers.data)
    checkpoints = Checkpoints(folder, logging.getLogger("headwater.unlearn"))
    try:
        checkpoints.refuse_restoring()
        unlearning = Unlearning(settings, frozenset(users := _called(settings, users)), checkpoints)
        cost = unlearning.cost()
        if not cost.of_person and not cost.loses:  # else theirs may be among what is gone
            _exit_unknown(users)
        if not accept_gap:
            _refuse_loss(cost)
        if not yes:
            base = "the beginning of the log" if cost.base is None else cost.base.name
            asked = (
                f"Learn {cost.examples:,} examples from {base}, without {cost.of_person:,} of theirs: about "
                f"{cost.seconds:,.0f} s. The checkpoints that there are give way. Go on"
            )
            typer.confirm(asked, abort=True, err=True)
        write_audit(settings.kafka, "unlearn", {"users": [digest_of(one) for one in users]}, by)
        with printer(stderr=True).status("learning ...") as shown:
            done = unlearning.run(cost, lambda many: shown.update(f"learned {many:,} of {cost.examples:,} examples"))
    finally:
        checkpoints.close()
    if as_json:
        print(orjson.dumps({"cost": asdict(cost), **asdict(done)}, default=str).decode())
        return
    print(
        f"{done.learned:,} examples learned in {done.seconds:,.1f} s, {done.left_out:,} left out. The trainer goes on "
        f"from {done.path}\ndigest {done.digest}"
    )
    if done.passed_over:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(done.passed_over.items()))
        print(f"records passed over, which the trainer refuses, too: {reasons}")


def _refuse_loss(cost: UnlearningCost) -> None:
    """Raises HeadwaterError where the model knows what cannot be learned again."""
    from headwater.errors import HeadwaterError

    if cost.oldest > 0:
        raise HeadwaterError(
            f"the log of examples begins at record {cost.oldest:,}: retention has taken those before, so that what "
            "the model learned of them, and of whom, can't be learned again. --accept-gap learns from what is "
            "there; to be able to, keep examples for longer (retention.ms)"
        )
    if cost.loses:
        raise HeadwaterError(
            f"the model has learned {cost.elsewhere:,} examples that the log does not hold (of `headwater train`, or "
            "of a log that was before this one): whose they were nobody can tell, and they can't be learned again. "
            "--accept-gap learns from what is there"
        )


def _called(settings: Settings, users: list[str]) -> list[str]:
    from console.privacy.held import called

    return [name for one in users for name in called(settings, one)]


def _exit_unknown(users: list[str]) -> None:
    who = " or ".join(map(repr, users))
    print(f"nothing is held of {who} in the log of examples: is the id right?", file=sys.stderr)
    raise typer.Exit(1)


def _folder(settings: Settings, directory: Path | None, data: Path) -> Path:
    """The trainer's directory, before anything is made there. Raises SettingsError where it can't be that of this
    world's trainer, or where that runs; Unavailable."""
    from console.local import DEFAULT_DATA
    from console.local.addresses import trainer_directory, workers_of
    from console.look.cluster import must_exist
    from headwater.errors import SettingsError
    from headwater.kafka.groups import committed_offsets
    from headwater.topics import EXAMPLES
    from trainer.examples_log import GROUP

    if "trainer" in workers_of(settings, data):
        raise SettingsError(
            f"the trainer runs, in the `headwater up` of {data}: stop that, run `headwater up --servers-only` in its "
            "place, and this again"
        )
    must_exist(settings.kafka, EXAMPLES)
    found = directory or (settings.trainer.directory if data == DEFAULT_DATA else trainer_directory(data))
    newest = max(found.glob("checkpoint-*.ckpt"), default=None)
    done = committed_offsets(settings.kafka, GROUP, [EXAMPLES])[EXAMPLES.name].get(0)
    if newest is None and done is not None:
        raise SettingsError(
            f"{found} has no checkpoint, and this world's trainer has made some (it is at record {done:,} of "
            "examples): name its folder, --directory, or that of its `headwater up`, --data"
        )
    return found
