"""Experiments: a surface answers some people otherwise, the same people each time.

Before: an operator writes `[surfaces.NAME.experiment]`. After: serving answers by the variant that a person has;
receipts and the event `served` name it, and `replay.experiments` says what came of each. Who has which variant is made
of the experiment's name and the person's id alone: no table of people is kept, and every worker says the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["CONTROL", "TOLD_AS", "Dealt", "Experiment", "Variant", "dealt_in"]

CONTROL = "control"
"""Variant of who has none of the others: the surface as it is."""

TOLD_AS = "headwater_experiment"
"""Name in the `properties` of the event `served`: {"name": ..., "variant": ...}."""

MOST_VARIANTS = 8
ROUNDING = 1e-9
"""Shares that are written in decimals add up to so much more than 1."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]


class Dealt(NamedTuple):
    """The variant of an experiment that an answer was made by."""

    experiment: str
    variant: str


class Variant(BaseModel):
    """What some people get."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(gt=0, le=1, strict=True, description="Of the people.")
    overrides: dict[str, Any] = Field(description="Fields of the surface that are otherwise, as a request's overrides.")


class Experiment(BaseModel):
    """Which people a surface answers otherwise. Who is in no variant has `control`: the surface as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="Another name deals people anew.")
    variants: dict[Name, Variant] = Field(min_length=1, max_length=MOST_VARIANTS, description="By name.")

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        if CONTROL in self.variants:
            raise ValueError(f"variants: {CONTROL!r} is what is left of the shares, the surface as it is: leave it out")
        if (total := sum(one.share for one in self.variants.values())) > 1 + ROUNDING:
            raise ValueError(f"variants: their shares add up to {total:g}, more than all")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Of each variant, `control` among them, unless nothing is left for it."""
        found = {name: one.share for name, one in self.variants.items()}
        left = 1.0 - sum(found.values())
        return found if left < ROUNDING else {CONTROL: left, **found}

    def variant_of(self, whose: str) -> str:
        """The variant of a person, by the id that is asked with: uniform in [0, 1) of a hash of both names, which falls
        into one of the shares, by the order of their names: that of a JSON object says nothing. `control` takes what is
        beyond them, so a share that grows takes people from there alone, if it is the last.

        >>> one = Experiment(name="wider", variants={"wide": {"share": 0.5, "overrides": {"diversity": 0.3}}})
        >>> [one.variant_of(f"user-{number}") for number in range(4)]
        ['control', 'control', 'wide', 'control']
        """
        digest = hashlib.blake2b(f"{self.name}\0{whose}".encode(), digest_size=8).digest()
        at = int.from_bytes(digest, "big") / 2**64
        for name, one in sorted(self.variants.items()):
            if at < one.share:
                return name
            at -= one.share
        return CONTROL if CONTROL in self.shares else name


def dealt_in(properties: Mapping[str, Any] | None) -> Dealt | None:
    """What an exposure says of the variant that its list was made by. Whoever may write events may write what is none:
    that is no variant.

    >>> dealt_in({"headwater_experiment": {"name": "wider", "variant": "wide"}, "device": "app"})
    Dealt(experiment='wider', variant='wide')
    """
    told = (properties or {}).get(TOLD_AS)
    if not isinstance(told, dict):
        return None
    name, variant = told.get("name"), told.get("variant")
    if not isinstance(name, str) or not isinstance(variant, str):
        return None
    return Dealt(name, variant) if re.fullmatch(NAME, name) and re.fullmatch(NAME, variant) else None
