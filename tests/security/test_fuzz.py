"""The small form of `fuzzing`: every decoder takes what is genuine, and of anything else raises what it declares."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.security.fuzzing import Decoder, Failure, decoders, limited, mutated, tried


@pytest.fixture(scope="module")
def known() -> Iterator[list[Decoder]]:
    with limited():
        yield decoders()


def test_what_is_genuine_is_taken(known: list[Decoder]) -> None:
    for decoder in known:
        assert [tried(decoder, sample) for sample in decoder.samples] == ["taken"] * len(decoder.samples), decoder.name


@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(choose=st.randoms(use_true_random=False))
def test_whatever_is_changed_each_decoder_takes_it_or_says_what_is_wrong(
    known: list[Decoder], choose: random.Random
) -> None:
    for decoder in known:
        became = tried(decoder, mutated(choose, choose.choice(decoder.samples), decoder.samples))
        if isinstance(became, Failure):
            raise AssertionError(f"{decoder.name}: {became.parts!r:.2000}") from became.error
        assert not became.endswith("internal"), f"{decoder.name} was saved by its last guard alone"
