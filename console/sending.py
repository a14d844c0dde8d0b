"""How a command ends that has sent events: it waits for the workers, and says what they refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import typer

from console.printing import printer

if TYPE_CHECKING:
    from console.look.refusals import Refusals, RefusalWatch

__all__ = ["end_of_sending", "waited"]


def waited(watch: RefusalWatch, sent: Mapping[int, Collection[int]], quiet: bool) -> Refusals:
    """What the workers refused of these records of `events`; a spinner on a terminal says what is waited for."""
    from console.look.refusals import Refusals

    out = printer(stderr=True)
    try:
        if quiet or not out.is_terminal:
            return watch.refusals(sent)
        with out.status("the workers read it ...") as shown:
            return watch.refusals(
                sent, waiting=lambda unread: shown.update(f"the workers read it: {unread:,} records left")
            )
    except KeyboardInterrupt:
        text = "Not waited for: `headwater dead-letters list` shows what the workers refuse of it."
        return Refusals(unknown=text)


def end_of_sending(
    text: str, body: Mapping[str, Any], refusals: Refusals, as_json: bool, *, wrong: bool = False
) -> None:
    """Say what was sent and what was refused, and end: with exit code 1 when anything was, or `wrong`."""
    import orjson

    if as_json:
        print(orjson.dumps({**body, **refusals.as_json()}).decode())
    else:
        print(text)
        if refusals.text:
            print(refusals.text)
    raise typer.Exit(1 if wrong or refusals.by_reason else 0)
