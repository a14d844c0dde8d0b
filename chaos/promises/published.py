"""Nothing that is published or answered holds NaN or infinity."""

from __future__ import annotations

import math
from collections.abc import Iterator

from chaos.promises.aftermath import Aftermath
from headwater.errors import BundleError, InvalidMessage, Unavailable
from headwater.topics import MODEL_DELTAS
from models.finite import not_finite
from models.published.announcement import read_delta_headers
from models.published.delta import Delta, DeltaAssembler
from models.published.stores import open_store

__all__ = ["are_numbers"]


def are_numbers(aftermath: Aftermath) -> Iterator[str]:
    """Every weight of every delta on the topic and of every bundle that is kept, and every score of an answer."""
    count = 0
    for delta in _deltas(aftermath):
        count += 1
        arrays = delta.dense | {name: values for name, (_, values) in delta.rows.items()}
        if (bad := not_finite(arrays)) is not None:
            yield f"delta {delta.version}: {bad}"
    store = open_store(aftermath.settings.trainer.bundles)
    for name in store.names():
        try:
            bundle = store.read(name)
        except (BundleError, Unavailable):  # a fault has damaged it
            continue
        if (bad := not_finite(bundle.weights)) is not None:
            yield f"{name}: {bad}"
    for request, several in aftermath.answers.items():
        for answer in several:
            bad = next((item.item_id for item in answer.items if not math.isfinite(item.score)), None)
            if bad is not None:
                yield f"{request}: the score of {bad} is no number"
    aftermath.figures["deltas published"] = count


def _deltas(aftermath: Aftermath) -> Iterator[Delta]:
    """All that are whole; versions may come again after a trainer has gone back."""
    collected: dict[int, DeltaAssembler] = {}
    for record in aftermath.records(MODEL_DELTAS):
        try:
            said = read_delta_headers(record.headers)
            found = collected.setdefault(said.version, DeltaAssembler()).add(record.value or b"", said)
        except (InvalidMessage, BundleError):
            continue
        if found is not None:
            del collected[said.version]
            yield found
