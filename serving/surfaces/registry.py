"""The surfaces that requests may name: of the settings, and of the topic `surfaces`, which take their place.

Before: settings, and whoever reads the topic. After: `serving.scoring` answers by what a request names. Knows nothing
of Kafka. One thread may `put` and `remove` while others resolve: the table is replaced, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.errors import RequestRefused, SettingsError
from headwater.experiments import CONTROL, Dealt
from headwater.recommendations import Request
from headwater.spelling import did_you_mean
from headwater.surfaces import DEFAULT_SURFACE, Surface

__all__ = ["Surfaces", "as_asked"]

NAMED = 20
"""Most names that a refusal lists."""


class Surfaces:
    """Surfaces by name.

    Parameters
        settings: those of the settings; `remove` leaves them standing.
    """

    def __init__(self, settings: Mapping[str, Surface] | None = None) -> None:
        self._settings = dict(settings or {})
        self._named = dict(self._settings)

    @property
    def named(self) -> Mapping[str, Surface]:
        """All, by name, as they are now."""
        return self._named

    def put(self, name: str, surface: Surface) -> None:
        """The surface of this name from now on."""
        self._named = {**self._named, name: surface}

    def remove(self, name: str) -> None:
        """The topic has none of this name any more: that of the settings is back, if they have one."""
        others = {other: surface for other, surface in self._named.items() if other != name}
        self._named = others | ({name: self._settings[name]} if name in self._settings else {})

    def of(self, request: Request) -> tuple[Surface, Dealt | None]:
        """By which a request is answered, its overrides included; and in which variant of the surface's experiment. Of
        one that is asked by nobody, or with the override `experiment` = null, in none.

        Raises
            RequestRefused: `unknown_surface` or `bad_surface`.
        """
        surface: Surface | None = DEFAULT_SURFACE
        if request.surface is not None:
            surface = self._named.get(request.surface)
        if surface is None:
            raise RequestRefused("unknown_surface", self._unknown(str(request.surface)))
        dealt = None
        try:
            dealt, surface = _variant(request, surface)
            surface = surface.changed(request.overrides)
        except SettingsError as error:
            whose = f"in variant {dealt.variant} of experiment {dealt.experiment}: " if dealt else ""
            raise RequestRefused("bad_surface", f"{whose}{error}") from error
        if surface.experiment is not None:
            raise RequestRefused("bad_surface", "overrides: experiment: null leaves it, and a request makes none")
        return surface, dealt

    def _unknown(self, name: str) -> str:
        names = sorted(self._named)
        if not names:
            known = "There are none yet: write [surfaces.NAME] into the settings, or `headwater surfaces set FILE.toml`"
        else:
            known = f"There are: {', '.join(names[:NAMED])}"
            known += f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        return f"surface: there is no {name!r:.80}. {known}.{did_you_mean(name, names)}"


def _variant(request: Request, surface: Surface) -> tuple[Dealt | None, Surface]:
    """What the surface's experiment makes of it for whom the request is."""
    one, whose = surface.experiment, request.whose
    if one is None:
        return None, surface
    if whose is None or "experiment" in request.overrides:
        return None, surface.variants[CONTROL]
    dealt = Dealt(one.name, one.variant_of(whose))
    return dealt, surface.variants[dealt.variant]


def as_asked(request: Request, surface: Surface) -> Request:
    """The request with the surface's word wherever it says nothing itself: how many items, and `exclude_seen`."""
    said: dict[str, Any] = {}
    if request.k is None:
        said["k"] = surface.k
    if request.exclude_seen is None and surface.exclude_seen is not None:
        said["exclude_seen"] = surface.exclude_seen
    if request.exclude_seen_days is None and surface.exclude_seen_days is not None:
        said["exclude_seen_days"] = surface.exclude_seen_days
    return request.model_copy(update=said) if said else request
