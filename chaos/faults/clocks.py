"""A clock that jumps, of one worker."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.faults.fault import Act, Fault, NoEffect, Stage

__all__ = ["FAULTS"]


def _step(role: str) -> Act:
    def act(stage: Stage) -> Iterator[str]:
        part = stage.stack.pick(role, stage.chance)
        if part is None:
            raise NoEffect(f"no {role} runs")
        seconds = stage.chance.choice([-3600.0, -90.0, -2.0, 2.0, 90.0, 3600.0])
        part.clock.write_text(f"{seconds}")
        try:
            yield f"{part.name}, {seconds:+g} s"
        finally:
            part.clock.write_text("0")

    return act


FAULTS = [
    Fault(f"clock_{role}", "the clock of a worker jumps, and back", _step(role), (2.0, 8.0))
    for role in ("streams", "trainer", "serving", "gateway")
]
