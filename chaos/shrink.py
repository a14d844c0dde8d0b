"""The fewest faults that still fail: delta debugging over a schedule (Zeller and Hildebrandt 2002). Pure.

Before: a campaign that broke a promise. After: a schedule that a person can read, and run again.
"""

from __future__ import annotations

from collections.abc import Callable

from chaos.schedule import Schedule

__all__ = ["shrunk"]


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """A part of the schedule that fails, from which no single fault can be taken without its passing.

    Parameters
        schedule: one that fails.
        fails: whether a part of it does; each question is a campaign, and none is asked twice.

    >>> from chaos.schedule import Planned
    >>> all_ten = tuple(Planned(float(n), f"f{n}", 0.0, n) for n in range(10))
    >>> [one.fault for one in shrunk(all_ten, lambda part: {"f3", "f8"} <= {one.fault for one in part})]
    ['f3', 'f8']
    """
    asked: dict[Schedule, bool] = {}

    def still_fails(part: Schedule) -> bool:
        if part not in asked:
            asked[part] = fails(part)
        return asked[part]

    pieces = 2
    while len(schedule) > 1:
        size = -(-len(schedule) // pieces)
        cuts = [schedule[start : start + size] for start in range(0, len(schedule), size)]
        rests = [tuple(one for one in schedule if one not in cut) for cut in cuts]
        smaller = next((part for part in (*cuts, *rests) if part and part != schedule and still_fails(part)), None)
        if smaller is not None:
            pieces = 2 if smaller in cuts else max(pieces - 1, 2)
            schedule = smaller
        elif pieces >= len(schedule):
            break
        else:
            pieces = min(pieces * 2, len(schedule))
    return schedule
