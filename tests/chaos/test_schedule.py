"""Schedules come from their seed, are kept and read again, and are shrunk to what breaks something."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.faults import FAULTS
from chaos.schedule import Planned, draw, read_schedule, write_schedule
from chaos.shrink import shrunk
from headwater.errors import SettingsError

HOLDS = {name: fault.hold_s for name, fault in FAULTS.items()}


def test_a_seed_is_a_schedule_in_which_every_kind_comes_before_any_comes_again() -> None:
    first, again = draw(3, 600.0, 5.0, HOLDS), draw(3, 600.0, 5.0, HOLDS)
    assert first == again != draw(4, 600.0, 5.0, HOLDS)
    assert len(first) == 120
    assert {one.fault for one in first[: len(HOLDS)]} == HOLDS.keys()
    assert [one.at_s for one in first] == sorted(one.at_s for one in first)
    assert all(HOLDS[one.fault][0] <= one.hold_s <= HOLDS[one.fault][1] for one in first)


def test_there_are_more_than_twenty_kinds() -> None:
    assert len(FAULTS) > 20


def test_a_schedule_is_read_as_it_was_kept(tmp_path: Path) -> None:
    schedule = draw(1, 60.0, 2.0, HOLDS)
    write_schedule(tmp_path / "kept", schedule)
    assert read_schedule(tmp_path / "kept", FAULTS) == schedule


@pytest.mark.parametrize("line", ["{", "[]", '{"at_s": 1}', '{"at_s": 1, "fault": "flood", "hold_s": 0, "seed": 1}'])
def test_a_line_that_is_no_fault_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "kept").write_text(f'{{"at_s": 0, "fault": "poison", "hold_s": 0, "seed": 1}}\n{line}\n')
    with pytest.raises(SettingsError, match="line 2"):
        read_schedule(tmp_path / "kept", FAULTS)


def test_three_faults_that_break_something_together_are_found_among_a_hundred() -> None:
    schedule = tuple(Planned(float(n), "poison", 0.0, n) for n in range(100))
    asked = 0

    def fails(part: tuple[Planned, ...]) -> bool:
        nonlocal asked
        asked += 1
        return {3, 50, 97} <= {one.seed for one in part}

    assert [one.seed for one in shrunk(schedule, fails)] == [3, 50, 97]
    assert asked < 150
