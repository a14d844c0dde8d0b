"""Surfaces and signals as they are in force, their history, and whether what somebody would write is valid. It writes
nothing: the page shows the command or the file by which it is changed.

Before: `gateway.page.views`, in a thread. After: the topics `surfaces` and `events`, and the settings of this process.
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from typing import Any

from gateway.page.lookup import newest_records
from headwater.errors import InvalidMessage, SettingsError
from headwater.events import MAX_ID_LENGTH, now_ms
from headwater.settings import Settings, signals_of, surfaces_of
from headwater.signals import Signal, Signals
from headwater.surfaces import Surface
from headwater.topics import EVENTS
from headwater.wire import EventRow, read_past_events

__all__ = ["SettingsShown"]

MOST_CHANGES = 50
NEWEST_EVENTS = 5_000
"""Of each partition: whose types are counted."""
PASTED = "what you wrote"


class SettingsShown:
    """Each method reads, and takes as long as that. Raises Unavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def surfaces(self) -> dict[str, Surface]:
        """By name, as requests may name them."""
        from serving.surfaces.kept import surfaces_kept

        return {name: one.surface for name, one in sorted(surfaces_kept(self._settings).named.items())}

    def variants(self, whose: str) -> list[dict[str, str]]:
        """Which variant somebody has of each surface that has an experiment."""
        return [
            {"surface": name, "experiment": one.experiment.name, "variant": one.experiment.variant_of(whose)}
            for name, one in self.surfaces().items()
            if one.experiment is not None
        ]

    def in_force(self) -> dict[str, Any]:
        """Surfaces with where each is from and what of it does not hold now; their history; what types mean."""
        from serving.surfaces.kept import not_now, surfaces_kept
        from serving.surfaces.records import surface_records

        records = list(surface_records(self._settings))
        kept, now = surfaces_kept(self._settings, records), now_ms()
        return {
            "surfaces": [
                {"name": name, "from": one.source, "notes": not_now(one.surface, now), **_surface(one.surface)}
                for name, one in sorted(kept.named.items())
            ],
            "refused": kept.refused,
            "history": [
                {
                    "at": one.at,
                    "name": one.name,
                    "time_ms": one.written_ms,
                    "refused": None if one.refused is None else str(one.refused),
                    "removed": one.refused is None and one.surface is None,
                    **({} if one.surface is None else _surface(one.surface)),
                }
                for one in records[: -MOST_CHANGES - 1 : -1]
            ],
            "signals": self._signals(),
            "file": os.environ.get("HEADWATER_CONFIG", "headwater.toml"),
            "exposures": self._settings.serving.exposures,
        }

    def _signals(self) -> list[dict[str, Any]]:
        """Types of the newest events, and those of the settings, the most frequent first."""
        seen = Counter[str]()
        for record in newest_records(self._settings.kafka, EVENTS, NEWEST_EVENTS):
            seen.update(row.type for row in read_past_events(record) if isinstance(row, EventRow))
        signals = Signals(self._settings.signals)
        given = self._settings.signals
        kinds = [*(kind for kind, _ in seen.most_common()), *(kind for kind in given if kind not in seen)]
        return [
            {
                "type": kind,
                "events": seen[kind],
                "from": "settings" if kind in given else "default" if signals.knows(kind) else "unknown",
                "means": _meaning(signals.of(kind)),
                "says": _said(given[kind]) if kind in given else {},
            }
            for kind in kinds
        ]

    def check(self, kind: str, name: str, text: str) -> dict[str, Any]:
        """Whether a text of TOML would be taken for a surface, or for signals; with what it says.

        Raises
            InvalidMessage: it would not, and why.
        """
        if kind == "surface" and not 0 < len(name) <= MAX_ID_LENGTH:
            raise InvalidMessage("schema", f"name: give the surface's, 1 to {MAX_ID_LENGTH} characters")
        try:
            tree = tomllib.loads(text)
            if kind == "surface":
                return {"surfaces": {one: _surface(said) for one, said in surfaces_of(tree, name, PASTED).items()}}
            section = tree.get("signals", tree)
            found = signals_of(section if isinstance(section, dict) else {"signals": section}, PASTED)
        except tomllib.TOMLDecodeError as error:
            raise InvalidMessage("schema", f"{PASTED} is not TOML: {error}") from error
        except (SettingsError, RecursionError) as error:
            raise InvalidMessage("schema", str(error)) from error
        if not found:
            raise InvalidMessage("schema", f"{PASTED} names no type: begin with [signals.TYPE]")
        return {"signals": {one: {"means": _meaning(said), "says": _said(said)} for one, said in found.items()}}


def _surface(surface: Surface) -> dict[str, Any]:
    """What a person reads of it: version, kind, and all that it says beside the defaults."""
    says = surface.model_dump(mode="json", exclude_defaults=True)
    shares = surface.experiment.shares if surface.experiment else {}
    return {"version": surface.version, "kind": surface.kind, "k": surface.k, "says": says, "shares": shares}


def _said(signal: Signal) -> dict[str, Any]:
    return signal.model_dump(mode="json", exclude_defaults=True)


def _meaning(signal: Signal) -> str:
    if signal.undoes:
        return f"undoes {', '.join(signal.undoes)}"
    parts = [f"positive {signal.positive}"] if signal.positive else []
    parts += [f"negative {signal.negative}"] if signal.negative else []
    return ", ".join(parts) or signal.means.value
