"""One gateway with the workers that answer, for all files that knock at it: one job runs those (tests/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedded import free_port
from tests.gateway.fronts import SECRET, Front, front


@pytest.fixture(scope="session")
def door(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """With a catalogue of six films, and what a crowd did."""
    ports = {"grpc_port": free_port()}
    folder = tmp_path_factory.mktemp("gateway")
    with front(kafka_address, redis_url, folder, "streams", "serving", token_secret=SECRET, **ports) as made:
        items = [{"item_id": f"film-{number}", "title": f"Film {number}"} for number in range(6)]
        assert made.call("PUT", "/v1/items", items)[:2] == (202, {"accepted": 6})
        made.call("POST", "/v1/events", {"user_id": "crowd", "item_id": "film-0", "type": "click"})
        yield made
