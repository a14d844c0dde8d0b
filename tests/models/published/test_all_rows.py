"""What is said of all rows: the same bits whoever shares the batch and wherever a row lies, and numpy's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import BundleError
from models.experts.popularity import UNSEEN
from models.published.all_rows import BLOCK, AllRows, Encoded

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def laid_out(capacity: int, width: int) -> tuple[AllRows, dict[str, Array], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    weights = {"item_vectors": numbers(capacity, width), "item_bias": numbers(capacity, seed=1)}
    rows, is_open = AllRows(weights), np.random.default_rng(2).random(capacity) < 0.9
    is_open[: min(BLOCK, capacity // 3)] = False
    rows.renew(None, is_open)
    return rows, weights, is_open


@pytest.mark.parametrize(("capacity", "width", "reaches"), [(5, 3, 1), (300, 64, 2), (517, 13, 3), (256, 8, 2)])
def test_any_batch_gives_each_history_the_bits_that_it_gets_alone(capacity: int, width: int, reaches: int) -> None:
    rows, weights, is_open = laid_out(capacity, width)
    hidden, trust, trusts = numbers(9, width, seed=3), numbers(9, 1, seed=4), numbers(9, reaches, seed=5)
    known = numbers(reaches, capacity, seed=6)
    whole, slow = (one.copy() for one in rows.say(Encoded(hidden, trust, trusts), known, slow=True))
    logits = (hidden @ weights["item_vectors"].T + weights["item_bias"]) * trust
    np.testing.assert_allclose(slow[:, is_open], logits[:, is_open], rtol=1e-4, atol=1e-5)
    expected = np.where(is_open, logits + trusts @ known, np.float32(UNSEEN))
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=2e-5)
    for size in range(1, 9):
        for at in range(9 - size):
            some = slice(at, at + size)
            one = rows.say(Encoded(hidden[some], trust[some], trusts[some]), known, slow=size % 2 == 0)
            assert one.whole.tobytes() == whole[some].tobytes(), (size, at)


def test_rows_that_changed_are_as_if_laid_out_anew() -> None:
    rows, weights, is_open = laid_out(300, 16)
    touched = np.array([0, 127, 128, 299])
    weights["item_vectors"][touched] = numbers(4, 16, seed=9)
    is_open[:] = True
    rows.renew(touched, is_open)
    anew = AllRows(weights)
    anew.renew(None, is_open)
    asked = Encoded(numbers(1, 16, seed=3), numbers(1, 1), numbers(1, 2)), numbers(2, 300)
    np.testing.assert_array_equal(rows.say(*asked, slow=False).whole, anew.say(*asked, slow=False).whole)


def test_a_row_has_the_bits_that_it_has_elsewhere() -> None:
    weights = {"item_vectors": np.tile(numbers(1, 24), (301, 1)), "item_bias": np.ones(301, np.float32)}
    rows = AllRows(weights)
    rows.renew(None, np.ones(301, bool))
    asked = Encoded(numbers(5, 24, seed=3), numbers(5, 1), numbers(5, 2))
    whole, _ = rows.say(asked, np.ones((2, 301), np.float32), slow=False)
    assert (whole == whole[:, :1]).all()


def test_values_and_weights_of_other_shapes_are_refused() -> None:
    rows, weights, is_open = laid_out(300, 16)
    with pytest.raises(BundleError, match="should be"):
        rows.say(Encoded(numbers(2, 15), numbers(2, 1), numbers(2, 2)), numbers(2, 300), slow=False)
    with pytest.raises(BundleError, match="do not fit together"):
        AllRows(weights | {"item_bias": weights["item_bias"][1:]}).renew(None, is_open)
