"""An upgrade without a gap: serving workers are restarted in turn while requests come, and every one is answered in
time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from headwater.settings import Settings
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.serving import CATALOGUE, World, put_trained_model

DEADLINE_MS = 5000


def test_serving_workers_restarted_in_turn_leave_no_request_without_its_list(
    settings: Settings, worker: Callable[..., LiveWorker]
) -> None:
    world = World(settings)
    asked: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.03):
            asked.append(world.ask(k=3, user=f"user-{len(asked) % 40}", deadline_ms=DEADLINE_MS))

    asking = threading.Thread(target=ask)
    try:
        world.put_items(CATALOGUE)
        put_trained_model(world)
        running = [worker("serving.worker", wait=False) for _ in range(2)]
        for one in running:
            eventually(one.is_ready, 60, one.module)
        asking.start()
        for one in running:
            worker("serving.worker")  # the new one is ready before the old one goes
            assert one.stop() == 0
        stop.set()
        asking.join()

        def answered() -> bool:
            world.poll()
            return {one.request_id for one in world.answers} >= {*asked}

        eventually(answered, 30)
        late = [one.error for one in world.answers if one.error is not None]
        assert late == [], f"{len(late)} of {len(asked)}: serving refuses what comes after its deadline"
        assert len(asked) > 20
    finally:
        stop.set()
        if asking.is_alive():
            asking.join()
        world.close()
