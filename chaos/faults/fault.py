"""What a fault is, and what it may use."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaos.load import Apps
from chaos.stack import Stack

__all__ = ["Act", "Fault", "NoEffect", "Stage"]


class NoEffect(Exception):
    """The fault found nothing to harm, or did none. The text says why."""


@dataclass
class Stage:
    """What a fault works on: the world, its load, and the chance of this one fault."""

    stack: Stack
    load: Apps
    chance: random.Random


Act = Callable[[Stage], Iterator[str]]


@dataclass(frozen=True)
class Fault:
    """One kind.

    Fields
        name: kind and victim.
        about: what happens, for the report.
        act: does it.
        hold_s: shortest and longest time that it lasts.
        lacks: of a stack, why it cannot be done there; None where it can.
    """

    name: str
    about: str
    act: Act
    hold_s: tuple[float, float] = (0.0, 0.0)
    lacks: Callable[[Stack], str | None] = lambda _: None
