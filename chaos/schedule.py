"""Which fault is when: drawn from a seed, so that the same seed is the same campaign. Pure.

Before: `headwater chaos --seed`. After: `chaos.campaign` works it off, `chaos.shrink` takes parts of it away.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from headwater.errors import SettingsError

__all__ = ["Planned", "Schedule", "draw", "read_schedule", "write_schedule"]


class Planned(NamedTuple):
    """One fault to come.

    Fields
        at_s: seconds after the load began.
        fault: its name in the table of faults.
        hold_s: how long it lasts, where it lasts.
        seed: of every choice that it makes: which worker, which byte.
    """

    at_s: float
    fault: str
    hold_s: float
    seed: int


Schedule = tuple[Planned, ...]


def draw(seed: int, length_s: float, every_s: float, holds: Mapping[str, tuple[float, float]]) -> Schedule:
    """A schedule: each fault once before any comes again, in an order that the seed says.

    Parameters
        seed: of the order, the times and the choices.
        length_s: no fault begins later.
        every_s: seconds from one fault to the next; each comes up to half of it late.
        holds: name of a fault -> shortest and longest time that it lasts.

    >>> [one.fault for one in draw(1, 6.0, 3.0, {"a": (0.0, 1.0), "b": (0.0, 1.0)})]
    ['a', 'b']
    """
    chance = random.Random(seed)
    deck: list[str] = []
    found = []
    for number in range(int(length_s / every_s)):
        if not deck:
            deck = sorted(holds)
            chance.shuffle(deck)
        name = deck.pop()
        at_s = round((number + chance.uniform(0.0, 0.5)) * every_s, 3)
        found.append(Planned(at_s, name, round(chance.uniform(*holds[name]), 3), chance.randrange(2**31)))
    return tuple(found)


def write_schedule(path: Path, schedule: Sequence[Planned]) -> None:
    """Keep a schedule as JSON, a fault a line."""
    path.write_text("".join(json.dumps(one._asdict()) + "\n" for one in schedule), encoding="utf-8")


def read_schedule(path: Path, known: Mapping[str, object]) -> Schedule:
    """What `write_schedule` kept, or somebody wrote by hand.

    Raises
        SettingsError: a line is no fault, or of a name that is not known.
    """
    found = []
    for number, line in enumerate(filter(None, path.read_text("utf-8").splitlines()), 1):
        try:
            body = json.loads(line)
            one = Planned(float(body["at_s"]), str(body["fault"]), float(body["hold_s"]), int(body["seed"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{path}, line {number}: {line[:80]!r} is no fault ({error!r}): "
                'write {"at_s": 3.5, "fault": "kill_streams", "hold_s": 1.0, "seed": 7}'
            ) from error
        if one.fault not in known:
            raise SettingsError(f"{path}, line {number}: no fault is called {one.fault!r}: {', '.join(sorted(known))}")
        found.append(one)
    return tuple(sorted(found))
