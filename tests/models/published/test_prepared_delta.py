"""A delta is reckoned with before it is written: what cannot be had is refused with nothing to mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from headwater.errors import BundleError
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler, encode_delta
from models.published.digest import SCHEME, ModelDigest
from tests.worlds.tastes import parade

CONFIG = ModelConfig(width=8, block=8, initial_capacity=8, replay_windows=4, replay_capacity=32)


Published = tuple[Bundle, list[Delta], Bundle]


@pytest.fixture(scope="module")
def published() -> Published:
    """A bundle, deltas behind it over which rows and places become more, and the bundle that they lead to."""
    learner, stream = Learner(CONFIG, seed=0), parade(240)
    learner.learn(stream[:60])
    first = learner.publish(created_ms=1)
    deltas = []
    for begin in range(60, 240, 60):
        learner.learn(stream[begin : begin + 60])
        deltas.append(learner.publish(created_ms=begin))
    last = learner.publish(created_ms=9, full=True)
    assert isinstance(first, Bundle)
    assert isinstance(last, Bundle)
    assert all(isinstance(delta, Delta) for delta in deltas)
    return first, [delta for delta in deltas if isinstance(delta, Delta)], last


def sent(delta: Delta) -> Delta:
    assembler = DeltaAssembler()
    (whole,) = (found for part in encode_delta(delta, 4096) if (found := assembler.add(part)) is not None)
    return whole


def test_deltas_lead_to_the_bundle_while_rows_and_places_become_more(
    published: Published,
) -> None:
    first, deltas, last = published
    held = first.copy()
    for delta in deltas:
        held.apply(sent(delta))
    assert held.capacity > first.capacity
    assert len(held.weights["memory0_ids"]) > len(first.weights["memory0_ids"])
    assert held.hashes.scheme == SCHEME
    assert held.items == last.items
    assert held.item_rows == last.item_rows
    for name, array in last.weights.items():
        np.testing.assert_array_equal(held.weights[name], array, err_msg=name)
    anew = ModelDigest.of(held.weights, held.items, held.tables, held.pools)
    assert anew.value(held.items, held.types, held.config) == held.digest


def _another_number(delta: Delta) -> Delta:
    rows, values = delta.rows["item_bias"]
    return replace(delta, rows={**delta.rows, "item_bias": (rows, values + 1)})


def _another_owner(delta: Delta) -> Delta:
    return replace(delta, items=[*delta.items, (0, "another")])


def _one_place_more(delta: Delta) -> Delta:
    return replace(delta, pools={name: length + 1 for name, length in delta.pools.items()})


def _places_without_end(delta: Delta) -> Delta:
    return replace(delta, pools=dict.fromkeys(delta.pools, 2**31 - 1))


@pytest.mark.parametrize("change", [_another_number, _another_owner, _one_place_more, _places_without_end])
def test_a_delta_that_leads_elsewhere_leaves_all_as_it_was(
    published: Published, change: Callable[[Delta], Delta]
) -> None:
    first, (delta, *_), _ = published
    held = first.copy()
    with pytest.raises(BundleError, match=r"the trainer had|places"):
        held.apply(change(delta))
    assert (held.digest, held.version, held.items) == (first.digest, first.version, first.items)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(held.weights[name], array, err_msg=name)
    held.apply(delta)
    assert held.digest == delta.digest


def test_what_kind_numbers_are_of_is_in_a_digest_and_in_those_of_earlier_releases_it_is_not() -> None:
    weights = {"bias": np.ones(4, np.float32), "alone": np.ones((2, 3), np.float32)}
    for scheme, equal in ((1, True), (2, True), (SCHEME, False)):
        for name in weights:
            other = weights | {name: weights[name].view(np.int32)}
            digests = {
                ModelDigest.of(one, ["a", None, None, None], ("bias",), scheme=scheme).value((), (), ModelConfig())
                for one in (weights, other)
            }
            assert (len(digests) == 1) is equal, (scheme, name)
