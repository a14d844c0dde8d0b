"""A short campaign with a fixed seed: every kind of fault that this machine can do, and every promise kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos.campaign import CampaignOptions, run
from chaos.schedule import Schedule, draw
from tests.worlds.brokers import KIND
from tests.worlds.campaigns import ForkedWorkerProcess

SEED = 11
pytestmark = [pytest.mark.any_broker, pytest.mark.timeout(400)]


def test_a_campaign_of_every_kind_breaks_no_promise(tmp_path: Path) -> None:
    said: list[str] = []

    def planned(holds: Mapping[str, tuple[float, float]]) -> Schedule:
        return draw(SEED, 1.0 * len(holds), 1.0, dict.fromkeys(holds, (0.3, 0.8)))

    kafka = "apache" if KIND == "kafka" else KIND
    asked = CampaignOptions(tmp_path, SEED, kafka, rate=25.0, make_worker=ForkedWorkerProcess)
    result = run(asked, planned, said.append)
    assert result.ok, "\n".join(
        [*said, *(f"{name}: {found[:5]}" for name, found in result.violations.items() if found)]
    )
    took = {one.planned.fault for one in result.faults if one.took}
    assert len(took) >= 30, "\n".join(said)
    assert result.figures["applied"] > 500
    assert result.figures["items taken down"] > 0
    assert result.figures["answers made again"] > 0
    assert result.figures["events promised over HTTP"] > 50
    assert result.figures["events refused over HTTP"] > 0
    assert result.figures["of these that knew what they had to"] > 0
    assert result.figures["words of consent given"] > 5
    assert result.figures["events that nobody may learn from"] > 0
