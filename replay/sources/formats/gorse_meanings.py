"""What gorse's configuration says its types of feedback mean, as our `[signals.NAME]`.

Before: the `config.toml` of gorse (https://gorse.io/docs/concepts/data-source). After: `gorse`, `headwater look`.

| gorse | here |
|---|---|
| `positive_feedback_types = ["star", "rating>=4"]` | `star` means positive; `rating` has `positive = ">= 4"` |
| `negative_feedback_types = ["dislike", "rating<=2"]` | `dislike` means negative; `negative = "<= 2"`; goes first |
| `read_feedback_types = ["read"]` | exposure; with a threshold elsewhere what is below it is context |
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headwater.errors import SourceError
from headwater.signals import Meaning, Signal
from replay.sources.kinds import slug

__all__ = ["meanings_of", "tables_of"]

_WRITTEN = re.compile(r"\s*(.+?)\s*(?:(>=|<=|==|>|<)\s*([+-]?\d+(?:\.\d+)?))?\s*")
_OTHERWISE = {">=": "<", "<=": ">", ">": "<=", "<": ">="}


def meanings_of(config: Path) -> dict[str, Signal]:
    """Type -> what it means by a configuration of gorse; {} where that names none. Raises SourceError."""
    try:
        held = tomllib.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{config} is no configuration of gorse ({error})") from error
    recommend = held.get("recommend")
    found = recommend.get("data_source") if isinstance(recommend, dict) else None
    found = found or held.get("database")  # to 0.3
    named = found if isinstance(found, dict) else {}
    positive, negative, read = (
        dict(_types(named.get(f"{what}_feedback_types"), config)) for what in ("positive", "negative", "read")
    )
    return {
        kind: _meaning(kind in positive, positive.get(kind), kind in negative, negative.get(kind))
        for kind in (*positive, *(set(negative) - positive.keys()), *(read.keys() - positive.keys() - negative.keys()))
    }


def _meaning(is_positive: bool, above: str | None, is_negative: bool, below: str | None) -> Signal:
    if is_negative and below is None:
        return Signal(means=Meaning.NEGATIVE)
    if is_positive and below is not None and above is None:
        sign, number = below.split()
        return Signal(positive=f"{_OTHERWISE[sign]} {number}", negative=below) if sign in _OTHERWISE else Signal()
    if above is not None or below is not None:
        return Signal(positive=above, negative=below)
    return Signal(means=Meaning.POSITIVE if is_positive else Meaning.EXPOSURE)


def _types(given: Any, config: Path) -> Iterator[tuple[str, str | None]]:
    """Each type with its threshold. Raises SourceError."""
    for text in given.split(",") if isinstance(given, str) else given or ():
        found = _WRITTEN.fullmatch(str(text))
        kind = slug(found[1]) if found else None
        if found is None or kind is None:
            raise SourceError(f'{config}: {text!r:.80} is no type of feedback, as "star" or "rating>=4"')
        yield kind, f"{found[2]} {found[3]}" if found[2] else None


def tables_of(signals: Mapping[str, Signal]) -> str:
    """Signals as the settings file has them."""
    blocks = []
    for kind, signal in signals.items():
        fields = signal.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        name = kind if re.fullmatch(r"[\w-]+", kind) else f'"{kind}"'
        blocks.append("\n".join([f"[signals.{name}]", *(f'{field} = "{value}"' for field, value in fields.items())]))
    return "\n\n".join(blocks)
