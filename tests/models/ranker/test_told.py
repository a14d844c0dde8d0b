"""Context and attributes as numbers: the same for what is the same, 0 for what was not told, finite for whatever is."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from headwater.context import clock_ahead_ms
from headwater.errors import SettingsError
from headwater.events import MAX_TIME_MS
from models.config import ModelConfig, model_config
from models.ranker.told import told_count, told_names, told_of

CONFIG = ModelConfig(context_fields=("device", "page"), user_fields=("age", "genre", "n", "m", "t", "b"))


def test_what_was_not_told_is_zero_and_names_are_as_many_as_numbers() -> None:
    nothing = told_of(CONFIG, {}, {})
    assert nothing.dtype == np.float32
    assert not nothing.any()
    assert len(nothing) == told_count(CONFIG) == len(told_names(CONFIG)) == len(set(told_names(CONFIG)))


def test_a_field_that_counts_sets_one_of_its_columns_and_others_none() -> None:
    app, web = (told_of(CONFIG, {"device": one, "other": "x"}, {}) for one in ("app", "web"))
    assert app.sum() == web.sum() == 1
    assert [name.split(" ")[1] for name, one in zip(told_names(CONFIG), app, strict=True) if one] == ["device"]
    np.testing.assert_array_equal(told_of(CONFIG, {"page": 1}, {}), told_of(CONFIG, {"page": 1.0}, {}))
    assert told_of(CONFIG, {"page": True}, {}).any()


def test_attributes_of_a_user_are_numbers_by_size_and_texts_by_being_equal() -> None:
    young, old = (told_of(CONFIG, {}, {"age": age}) for age in (20, 80))
    assert 0 < young.sum() < old.sum()
    one, list_of_one = told_of(CONFIG, {}, {"genre": "noir"}), told_of(CONFIG, {}, {"genre": ("noir",)})
    np.testing.assert_array_equal(one, list_of_one)
    assert np.abs(one).sum() == 1
    assert not told_of(CONFIG, {}, {"genre": ()}).any()
    wild = told_of(CONFIG, {"device": "\ud800"}, {"n": -1e308, "m": 1e308, "t": "x" * 256, "b": False})
    assert np.isfinite(wild).all()


def test_clocks_go_by_the_zone_with_summer_time_to_the_end_of_time() -> None:
    for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"):
        for time_ms in (0, 1_690_000_000_000, 1_700_000_000_000):
            at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(zone))
            offset = at.utcoffset()
            assert offset is not None
            assert clock_ahead_ms(time_ms, zone) == offset.total_seconds() * 1000
    assert clock_ahead_ms(MAX_TIME_MS, "Pacific/Kiritimati") == 14 * 3_600_000


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "Europe/", "\x00", "CET-1"])
def test_a_time_zone_that_is_none_is_refused_with_a_good_one(zone: str) -> None:
    with pytest.raises(SettingsError, match=r"time_zone.*Europe/Berlin"):
        model_config({"time_zone": zone})
