"""Files of other systems whose format is known: by their begin, or named before the path (`segment:track.jsonl`).

Before: `reading`. After: `replay.open_source`. A new one is a file here and a line in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwater.errors import SourceError
from replay.sources.formats.google_analytics import GoogleAnalytics
from replay.sources.formats.gorse import Gorse
from replay.sources.formats.gorse_meanings import tables_of
from replay.sources.formats.known import Format, KnownFile
from replay.sources.formats.metarank import Metarank
from replay.sources.formats.segment import SegmentCalls
from replay.sources.formats.snowplow import Snowplow
from replay.sources.reading import begin_of, parts_of

__all__ = ["FORMATS", "Format", "Gorse", "KnownFile", "Metarank", "format_of", "tables_of"]

FORMATS: dict[str, Format] = {
    "segment": SegmentCalls(),
    "rudderstack": SegmentCalls(),
    "ga4": GoogleAnalytics(),
    "snowplow": Snowplow(),
}
"""Name before a path -> the format."""


def format_of(names: Sequence[str | Path]) -> Format | None:
    """The format of files, by the begin of the first of them; None for none that is known."""
    try:
        begin = begin_of(parts_of(names[0])[0].path)
    except SourceError:
        return None
    return next((form for form in FORMATS.values() if begin.kind and form.is_here(begin)), None)
