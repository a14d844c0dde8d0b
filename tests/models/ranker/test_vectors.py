"""Vectors that the catalogue brings: validated where they come in, and items that point the same way are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from headwater import InvalidMessage, Item
from headwater.examples import CatalogueEntry, pack_items, unpack
from headwater.wire import decode_item, encode
from models.content import Content, buckets_of, features_of
from serving.catalogue import Catalogue


@pytest.mark.parametrize(
    "vectors",
    [
        {"image": []},
        {"image": [1.0, float("nan")]},
        {"image": [float("inf")]},
        {"image": [0.1] * 2049},
        {"image": ["a"]},
        {"image": 1.0},
        {"": [1.0]},
        {f"v{n}": [1.0] for n in range(5)},
        [1.0],
    ],
)
def test_vectors_that_are_none_are_refused(vectors: Any) -> None:
    with pytest.raises(ValidationError):
        Item(item_id="film-1", vectors=vectors)


def test_vectors_go_to_the_learner_and_are_not_kept_by_whoever_answers() -> None:
    item = Item(item_id="film-1", vectors={"image": [0.1, -2, 1e300]})
    assert decode_item(encode(item)) == item
    assert b"vectors" not in encode(Item(item_id="film-1"))
    (entry,) = unpack(pack_items([CatalogueEntry("film-1", item.model_dump(mode="json"))]))
    assert isinstance(entry, CatalogueEntry)
    assert entry.content is not None
    assert features_of(entry.content)
    kept = Catalogue([item]).get("film-1")
    assert kept is not None
    assert not kept.vectors
    for wrong in ({"image": 3}, {"image": ["x"]}, {"image": [None]}, [1]):
        with pytest.raises(InvalidMessage):
            list(unpack(pack_items([CatalogueEntry("film-1", {"vectors": wrong})])))


def test_items_whose_vectors_point_the_same_way_are_alike_and_others_are_not() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 512))
    content = Content(100)
    for row in range(40):
        vector = (centres[row % 4] + 0.4 * random.normal(size=512)) * random.uniform(0.1, 10)
        content.observe(f"i{row}", {"vectors": {"image": vector.tolist()}}, row)
    content.observe("none", {"title": "no picture"}, 40)
    content.observe("zero", {"vectors": {"image": [0.0] * 512}}, 41)
    for row in range(40):
        (like,) = content.likes(row, 42)
        assert {one % 4 for one in like[0][:3].tolist()} == {row % 4}
    assert content.likes(40, 42) == content.likes(41, 42) == []


def test_buckets_are_the_same_in_every_process_and_finite_numbers_never_overflow() -> None:
    assert buckets_of("image", [1.0, -1.0, 0.5]) == buckets_of("image", [1e308, -1e308, 0.5e308])
    assert buckets_of("image", [1.0, -1.0, 0.5]) != buckets_of("sound", [1.0, -1.0, 0.5])
    assert len(buckets_of("image", [5e-324])) == 16
    assert orjson.loads(orjson.dumps(buckets_of("image", [3.0]))) == buckets_of("image", [3.0])
