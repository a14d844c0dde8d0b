"""Times on the command line: a date, a zone, the machine's own or UTC."""

from __future__ import annotations

import doctest
import re
import time
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from console import times
from console.cli import app
from console.times import shown_time
from headwater import Client
from headwater.settings import Settings
from tests.worlds.processes import environment

NEW_YEAR_MS = 1_767_225_600_000


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets the machine be somewhere else."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def test_the_session_in_the_docstring_is_true() -> None:
    assert not doctest.testmod(times).failed


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Asia/Kolkata", "2026-01-01 05:30:00.000+05:30"),
        ("America/Los_Angeles", "2025-12-31 16:00:00.000-08:00"),
        ("UTC", "2026-01-01 00:00:00.000+00:00"),
    ],
)
def test_a_time_is_that_of_the_machine_and_says_its_zone(zone: Callable[[str], None], name: str, shown: str) -> None:
    zone(name)
    assert shown_time(NEW_YEAR_MS) == shown
    assert shown_time(NEW_YEAR_MS, utc=True) == "2026-01-01 00:00:00.000Z"


def test_summer_time_is_that_of_the_moment_and_not_of_today(zone: Callable[[str], None]) -> None:
    zone("Europe/Berlin")
    assert shown_time(NEW_YEAR_MS).endswith("+01:00")
    assert shown_time(NEW_YEAR_MS + 180 * 86_400_000).endswith("+02:00")


@pytest.mark.parametrize("at", [-1, -(10**17), 10**17, 2**63])
def test_a_timestamp_that_is_no_moment_is_shown_all_the_same(at: int) -> None:
    assert shown_time(at)


def test_tail_prints_date_and_zone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, zone: Callable[[str], None]
) -> None:
    zone("Asia/Kathmandu")
    for name, value in environment(settings).items():
        if name.startswith("HEADWATER_"):
            monkeypatch.setenv(name, value)
    with Client(settings=settings.kafka) as client:
        client.track("ann", "film-1", "view").result(30)
    tail = ["tail", "events", "--from-beginning", "-n", "1"]
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+05:45", CliRunner().invoke(app, tail).stdout)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z", CliRunner().invoke(app, [*tail, "--utc"]).stdout)
