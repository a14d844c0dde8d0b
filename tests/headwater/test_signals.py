"""The table of signals: what an event means, by its type and value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from headwater.signals import Meaning, Signal, Signals


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("purchase", Meaning.POSITIVE),
        ("not_interested", Meaning.NEGATIVE),
        ("impression", Meaning.EXPOSURE),
        ("search", Meaning.CONTEXT),
        ("unlike", Meaning.CONTEXT),
        ("a-type-of-ones-own", Meaning.POSITIVE),
    ],
)
def test_common_names_have_their_meaning_whatever_the_value(kind: str, meaning: Meaning) -> None:
    assert {Signals().meaning(kind, value) for value in (None, -1.0, 5.0)} == {meaning}


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (4.0, Meaning.POSITIVE),
        (3.0, Meaning.CONTEXT),
        (2.0, Meaning.NEGATIVE),
        (None, Meaning.CONTEXT),
    ],
)
def test_thresholds_split_a_type_by_its_value(value: float | None, meaning: Meaning) -> None:
    table = Signals({"rating": Signal(positive=">= 4", negative="<= 2")})
    assert table.meaning("rating", value) is meaning


def test_a_rating_without_thresholds_speaks_for_its_item() -> None:
    assert Signals().meaning("rating", 1.0) is Meaning.POSITIVE


@pytest.mark.parametrize(
    "given",
    [
        {"positive": "4"},
        {"positive": ">= many"},
        {"means": "good"},
        {"means": "negative", "positive": ">= 4"},
        {"weight": -1},
        {"wieght": 1},
    ],
)
def test_a_signal_that_says_two_things_or_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Signal(**given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"positive": ">= 4", "negative": "<= 2"},
        {"undoes": ("like",)},
        {"means": "negative", "negative_for_days": 3},
        {"reward": "0.01 * value", "weight": 2},
    ],
)
def test_what_a_checkpoint_says_of_a_signal_is_read_again(given: dict[str, Any]) -> None:
    signal = Signal(**given)
    assert Signal(**signal.model_dump(mode="json")) == signal


def test_a_signal_says_no_more_than_in_the_release_before_unless_more_is_meant() -> None:
    """The digests of that release's models are of what it said."""
    said = Signal(positive=">= 4").model_dump(mode="json")
    assert said == {"means": "positive", "positive": ">= 4", "negative": None, "weight": None}
