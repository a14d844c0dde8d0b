"""`headwater experiments`: lists and what followed on them, by variant; and how far the figures may be trusted."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from headwater.client import Client
from headwater.consent import Consent
from headwater.experiments import TOLD_AS, Experiment
from headwater.settings import Settings
from headwater.surfaces import Surface
from headwater.wire import EventRow
from replay import experiments
from replay.experiments import Outcomes
from tests.worlds.commands import headwater
from tests.worlds.processes import environment

AT_MS = 1_700_000_000_000
WIDE = Experiment.model_validate({"name": "wider", "variants": {"wide": {"share": 0.5, "overrides": {"k": 5}}}})


def row(user: str, kind: str, item: str = "a", **more: Any) -> EventRow:
    told = {"time_ms": AT_MS, "value": None, "event_id": f"e{random.random()}", "request_id": None, **more}
    return EventRow(user_id=user, item_id=item, type=kind, offset=0, place=0, **told)


def shown(user: str, variant: str, request: str | None = None, items: Sequence[str] = ("a", "b")) -> EventRow:
    told = {TOLD_AS: {"name": "wider", "variant": variant}}
    return row(user, "served", items[0], items=tuple(items), request_id=request, properties=told)


def measured(rows: Sequence[EventRow], in_force: Sequence[Experiment] = (WIDE,), **settings: Any) -> dict[str, Any]:
    outcomes = Outcomes(Settings(**settings))
    for one in rows:
        outcomes.take(one)
    (found,) = outcomes.results(in_force)
    return found.told()


def figures(told: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    return {
        one["variant"]: (one["people"], one["lists"], *(of["value"] * one["lists"] for of in one["measures"].values()))
        for one in told["variants"]
    }


def test_a_reaction_answers_the_list_that_it_names_else_the_newest_with_its_item() -> None:
    click = row("ann", "click", "b", request_id="r1", event_id="once")
    rows = [
        row("ann", "click", "a", request_id="r1"),  # its list comes later in the log
        shown("ann", "control", "r1"),
        shown("ann", "control", "r1", items=("a", "b", "c")),  # the same list
        click,
        click,  # sent twice
        row("ann", "click", "c", request_id="other"),  # of a list of something else
        shown("ann", "control", "r2"),
        row("ann", "purchase", "b", time_ms=AT_MS + 60_000),
        row("ann", "click", "b", time_ms=AT_MS + 3_600_000),  # too late
        row("ann", "click", "b", time_ms=AT_MS - 1),  # before it was shown
        row("ann", "search", "b"),
        row("bob", "click", "b"),
        shown("bob", "wide", None),
        row("bob", "dismiss", "a"),
        row("bob", "dismiss", "b"),
    ]
    purchase = {"purchase": {"reward": 10}}
    assert figures(measured(rows, signals=purchase)) == {"control": (1, 2, 2, 0, 12.0), "wide": (1, 1, 0, 1, 0)}


def test_what_should_be_known_before_one_goes_by_the_figures_is_said() -> None:
    rows = [shown(f"u{n}", "control", f"r{n}") for n in range(300)]
    rows += [shown(f"v{n}", "wide", f"s{n}") for n in range(150)]
    told = measured([*rows, shown("u1", "wide", "other")])
    assert "1 people had lists of more than one variant" in told["remarks"][0]
    assert [one.split(" has ")[0] for one in told["remarks"][1:]] == ["control", "wide"]
    assert measured([*rows, *(shown(f"w{n}", "wide", f"t{n}") for n in range(150))])["remarks"] == []


def test_a_reaction_of_who_has_logged_in_answers_the_list_of_the_guest() -> None:
    rows = [
        row("ann", "purchase", "b", request_id="r1"),  # in a partition that is read before the guest's
        shown("guest", "wide", "r1"),
        row("ann", "click", "b", request_id="r1"),
        row("ann", "click", "z", request_id="r1"),  # was not in it
        shown("bob", "wide", "home"),
        shown("eve", "wide", "home"),  # an app that names each list of a place alike
        row("eve", "click", "b", request_id="home"),
        row("ann", "click", "b", request_id="home"),  # nobody knows whose
    ]
    assert figures(measured(rows)) == {"wide": (3, 3, 2, 0, 3)}


def test_only_so_many_lists_may_still_be_reacted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "MOST_OPEN", 3)
    rows = [shown("ann", "wide", f"r{n}") for n in range(3)] + [shown("bob", "wide", f"s{n}") for n in range(2)]
    rows += [row("ann", "click", request_id="r1"), row("ann", "click", request_id="r2"), row("bob", "click")]
    assert figures(measured(rows)) == {"wide": (2, 5, 2, 0, 2)}


def test_a_variant_that_nobody_was_shown_a_list_of_is_told_of() -> None:
    (remark,) = measured([shown(f"u{n}", "control") for n in range(40)])["remarks"][1:]
    assert remark.startswith("wide has 0 of 40 people and should have 50%")


def test_one_person_of_ten_is_no_remark_where_a_variant_has_a_hundredth() -> None:
    rare = Experiment.model_validate({"name": "wider", "variants": {"wide": {"share": 0.01, "overrides": {"k": 5}}}})
    rows = [shown(f"u{n}", "control") for n in range(18)] + [shown("v", "wide"), shown("w", "wide")]
    (few,) = measured(rows, [rare])["remarks"]  # and nothing of its share: chance does so in 2 experiments of a hundred
    assert few == "of fewer than 20 people in a variant or in control there is no interval"


def test_surfaces_that_deal_the_same_experiment_by_other_shares_are_told_of() -> None:
    other = Experiment.model_validate({"name": "wider", "variants": {"wide": {"share": 0.1, "overrides": {"k": 5}}}})
    rows = [shown(f"u{n}", ("control", "wide")[n % 2]) for n in range(100)]
    assert [one[:24] for one in measured(rows, [WIDE, other])["remarks"]] == ["its surfaces deal people"]
    assert measured(rows, [WIDE, WIDE])["remarks"] == []


def test_without_control_nothing_is_compared_and_that_is_said() -> None:
    told = measured([shown(f"u{n}", "ab"[n % 2]) for n in range(100)], [])
    assert {one["measures"]["reacted"]["low"] for one in told["variants"]} == {None}
    assert told["remarks"] == ["no list of control was shown, so there is nothing to compare with"]


def test_a_few_people_have_no_interval() -> None:
    rows = [shown(f"u{n}", ("control", "wide")[n % 2], f"r{n}") for n in range(38)]
    rows += [row(f"u{n}", "click", request_id=f"r{n}") for n in range(1, 38, 2)]
    few = measured(rows)["variants"][1]["measures"]["reacted"]
    assert (few["difference"], few["low"], few["high"]) == (1.0, None, None)


def test_an_interval_holds_what_it_says_where_people_differ_and_lists_of_one_person_do_not() -> None:
    draws, wrong = random.Random(1), 0
    for _ in range(200):
        rows = []
        for person in range(60):
            taste = draws.choice((0.05, 0.6))  # of all of her lists
            for n in range(draws.randrange(1, 12)):
                name = f"{person}-{n}"
                rows.append(shown(f"u{person}", ("control", "wide")[person % 2], name))
                if draws.random() < taste:
                    rows.append(row(f"u{person}", "click", "a", request_id=name))
        wide = measured(rows)["variants"][1]["measures"]["reacted"]
        wrong += not wide["low"] <= 0 <= wide["high"]
    assert 2 <= wrong <= 22, wrong  # of 200, 5% by the book; by lists in the place of people 53


def test_the_command_reads_the_log_and_leaves_out_who_may_not_be_analysed(settings: Settings) -> None:
    told = {TOLD_AS: {"name": "wider", "variant": "wide"}}
    with Client(settings=settings.kafka) as client:
        client.put_surface("home", Surface(experiment=WIDE)).result(20)
        env = {**environment(settings), "HEADWATER_PRIVACY__CONSENT": "opt-out"}
        before = headwater("experiments", **env)
        assert "wider: nobody was shown a list of it yet" in before.stdout, before.stderr
        for user in ("ann", "bob", "denies"):
            may = Consent(analyse=False) if user == "denies" else None
            lists = {"items": ("a", "b"), "properties": told, "request_id": f"r-{user}", "consent": may}
            client.track(user, "a", "served", **lists)
            client.track(user, "a", "click", request_id=f"r-{user}", consent=may)
        client.flush(20)
    found = headwater("experiments", "wider", "--json", **env)
    (wide,) = json.loads(found.stdout)["wider"]["variants"]
    assert (wide["people"], wide["lists"], wide["measures"]["reacted"]["value"]) == (2, 2, 1.0)
    shown_as = headwater("experiments", **env)
    assert "4 events of who may not be analysed" not in shown_as.stdout
    assert "2 events of who may not be analysed" in shown_as.stdout
    assert "100.0%" in shown_as.stdout
    refused = headwater("experiments", "wilder", **env)
    assert refused.returncode == 2
    assert "Did you mean wider?" in refused.stderr
