"""Workers leave as they are told, none hangs, and none grows."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.promises.aftermath import Aftermath

__all__ = ["behaved", "stay_small"]

LONG_S = 900.0
"""A campaign that is shorter says nothing of memory: in the first minutes a trainer fills its buffers, from 389 to 583
MB in the second and third hundred seconds of one."""
MOST_GROWTH, SLACK = 1.25, 64 << 20


def behaved(aftermath: Aftermath) -> Iterator[str]:
    """No exit but 0 after SIGTERM and 70 after waiting too long; each drains in time; /healthz answers."""
    aftermath.figures["left to be started again (70)"] = sum(one.code == 70 for one in aftermath.stack.endings)
    yield from aftermath.stack.wrong


def stay_small(aftermath: Aftermath) -> Iterator[str]:
    """The largest worker of the last third is about as large as that of the second."""
    for role, peaks in aftermath.stack.peaks.items():
        aftermath.figures[f"largest {role} (MB)"] = round(max(size for _, size in peaks) / 2**20)
        if not peaks or peaks[-1][0] < LONG_S:
            continue
        third = peaks[-1][0] / 3
        before = max((size for at, size in peaks if third <= at < 2 * third), default=0)
        after = max((size for at, size in peaks if at >= 2 * third), default=0)
        if before and after > MOST_GROWTH * before + SLACK:
            yield f"{role} grew from {before / 2**20:.0f} to {after / 2**20:.0f} MB in {third:.0f} s"
