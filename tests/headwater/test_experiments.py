"""Experiments: who has which variant, and what is refused when one is written."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import Any

import pytest

from headwater.errors import SettingsError
from headwater.experiments import Experiment, dealt_in
from headwater.settings import surfaces_of
from headwater.surfaces import Surface

PEOPLE = [f"person-{number}" for number in range(20_000)]


def shared(name: str = "wider", **shares: float) -> Experiment:
    variants = {variant: {"share": share, "overrides": {"diversity": 0.3}} for variant, share in shares.items()}
    return Experiment.model_validate({"name": name, "variants": variants})


def dealt(one: Experiment) -> list[str]:
    return [one.variant_of(person) for person in PEOPLE]


def test_people_are_dealt_by_the_shares_and_each_name_deals_anew() -> None:
    one = dealt(shared(wide=0.5, wider=0.2))
    counts = Counter(one)
    for variant, share in (("control", 0.3), ("wide", 0.5), ("wider", 0.2)):
        assert abs(counts[variant] / len(PEOPLE) - share) < 0.015, counts
    other = dealt(shared("another", wide=0.5, wider=0.2))
    both = Counter(zip(one, other, strict=True))
    assert abs(both["wide", "wide"] / counts["wide"] - 0.5) < 0.02  # neither tells of the other


def test_a_share_that_grows_takes_people_from_control_alone() -> None:
    few, more = dealt(shared(wide=0.1)), dealt(shared(wide=0.4))
    assert {now for was, now in zip(few, more, strict=True) if was == "wide"} == {"wide"}


def test_equal_surfaces_deal_people_alike_in_whatever_order_their_variants_are_written() -> None:
    one, other = shared(wide=0.3, again=0.2), shared(again=0.2, wide=0.3)
    assert Surface(experiment=one).version == Surface(experiment=other).version
    assert dealt(one) == dealt(other)


def test_shares_that_are_all_leave_no_control() -> None:
    one = shared(a=0.7, b=0.2, c=0.1)
    assert set(one.shares) == {"a", "b", "c"}
    assert set(dealt(one)) == {"a", "b", "c"}


def test_a_surface_is_another_to_each_variant_and_has_a_version_for_each() -> None:
    surface = Surface(k=5, experiment=shared(wide=0.5))
    assert surface.variants == {"control": Surface(k=5), "wide": Surface(k=5, diversity=0.3)}
    assert len({surface.version, *(one.version for one in surface.variants.values())}) == 3
    assert Surface(k=5).variants == {"control": Surface(k=5)}


def test_a_variant_of_the_settings_is_that_of_the_topic_also_where_it_names_an_instant() -> None:
    since = {"published_time": {"gte": datetime(2026, 6, 1, tzinfo=timezone.utc)}}  # as TOML reads it
    said = {"name": "recent", "variants": {"late": {"share": 0.5, "overrides": {"filters": since}}}}
    told = Surface.model_validate({"experiment": said})
    sent = Surface.model_validate_json(told.model_dump_json(exclude_defaults=True))
    assert {name: one.version for name, one in told.variants.items()} == {
        name: one.version for name, one in sent.variants.items()
    }


WIDE: dict[str, Any] = {"share": 0.5, "overrides": {"diversity": 0.3}}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"name": "x", "variants": {}}, "at least 1"),
        ({"name": "a b", "variants": {"wide": WIDE}}, "home.experiment.name"),
        ({"name": "x", "variants": {"control": WIDE}}, "'control' is what is left of the shares"),
        ({"name": "x", "variants": {"a": WIDE, "b": {**WIDE, "share": 0.6}}}, "add up to 1.1, more than all"),
        ({"name": "x", "variants": {"a": {**WIDE, "share": 0}}}, "greater than 0"),
        (
            {"name": "x", "variants": {"a": {**WIDE, "overrides": {"diversty": 1}}}},
            "a.overrides: diversty: .*diversity",
        ),
        ({"name": "x", "variants": {"a": {**WIDE, "overrides": {}}}}, "a.overrides: say what is otherwise"),
        ({"name": "x", "variants": {"a": {**WIDE, "overrides": {"experiment": None}}}}, "and no other experiment"),
        ({"name": "x", "variants": {str(n): {**WIDE, "share": 0.1} for n in range(9)}}, "at most 8"),
    ],
)
def test_what_is_no_experiment_is_refused_with_its_place(said: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        surfaces_of({"experiment": said}, "home", "home.toml")


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"headwater_experiment": "x"},
        {"headwater_experiment": {"name": 1}},
        {"headwater_experiment": {"name": "wider", "variant": ["wide"]}},
        {"headwater_experiment": {"name": "wider", "variant": "[/wide]"}},
        {"headwater_experiment": {"name": "\x1b[31mwider", "variant": "wide"}},
        {"headwater_experiment": {"name": "w" * 65, "variant": "wide"}},
        {"headwater_experiment": {"name": "wider\n", "variant": "wide"}},
    ],
)
def test_whatever_an_app_sends_by_that_name_is_no_variant(said: dict[str, Any] | None) -> None:
    assert dealt_in(said) is None
