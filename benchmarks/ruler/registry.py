"""What a bench is, and how it is run: `benchmarks.benches` has the table of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.ruler.figures import Row
from benchmarks.ruler.turns import Left

__all__ = ["Bench", "Setup"]

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """How a bench runs."""

    directory: Path
    """Its own, removed afterwards."""
    quick: bool = False
    """Small enough to see that the bench works; its figures say nothing."""
    broker: str = "embedded"
    """`embedded`, `kafka` (Apache Kafka beside the checkout), or the address of one that runs."""
    left_out: list[str] = field(default_factory=list)

    @property
    def turns(self) -> int:
        """How often each part runs, where turns are cheap; where whole worlds take them, `few`."""
        return 2 if self.quick else 5

    @property
    def few(self) -> int:
        """How often a part runs that takes seconds of the wall each time."""
        return 1 if self.quick else 3

    def pick(self, full: T, quick: T) -> T:
        """One of two sizes."""
        return quick if self.quick else full

    def left(self, why: Left | str) -> None:
        """Tell of a peer that is not measured."""
        if str(why) not in self.left_out:
            self.left_out.append(str(why))


@dataclass(frozen=True)
class Bench:
    """A file of `benchmarks/benches`, `NAME.py`, whose function `measured` takes a `Setup` and yields rows."""

    name: str
    about: str
    uses_broker: bool = False
    """Whether its figures depend on the broker, so that they are kept for each."""

    def load(self) -> Callable[[Setup], Iterable[Row]]:
        """Its function; only now is imported what it needs."""
        found: Callable[[Setup], Iterable[Row]] = importlib.import_module(f"benchmarks.benches.{self.name}").measured
        return found
