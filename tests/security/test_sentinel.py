"""A store whose sentinels name its master: found by its name, and again after a failover."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from embedded import EmbeddedStore, free_port
from embedded.store import find_binary
from headwater import Unavailable
from headwater.errors import HeadwaterError
from headwater.settings import RedisSettings
from streams.features.store import FeatureStore
from tests.worlds.processes import eventually

FAST = "down-after-milliseconds main 300", "failover-timeout main 2000"


class Replica(EmbeddedStore):
    """Follows another."""

    def __init__(self, data_dir: Path, of: int) -> None:
        super().__init__(data_dir)
        self.of = of

    def command(self) -> list[str]:
        return [*super().command(), "--replicaof", f"127.0.0.1 {self.of}", "--repl-diskless-sync-delay", "0"]


class SentinelServer(EmbeddedStore):
    """Watches a master by the name `main`."""

    announcement = "+monitor master main"

    def __init__(self, data_dir: Path, master: int) -> None:
        super().__init__(data_dir, free_port())
        self.master = master

    def command(self) -> list[str]:
        told = [f"port {self.port}", "bind 127.0.0.1", f"sentinel monitor main 127.0.0.1 {self.master} 1"]
        told += ["requirepass sentinel-pw", *(f"sentinel {line}" for line in FAST)]
        file = self.data_dir / "sentinel.conf"
        file.write_text("\n".join(told) + "\n")
        return [find_binary(), str(file), "--sentinel"]

    def ready(self) -> bool:
        return "+monitor master main" in (self.data_dir / "store.out").read_text(errors="replace")


def test_the_master_is_found_by_its_name_and_again_after_a_failover(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "a") as master, Replica(tmp_path / "b", master.port) as replica:  # noqa: SIM117
        with SentinelServer(tmp_path / "s", master.port) as sentinel:
            settings = RedisSettings(
                url=SecretStr(f"redis://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/0"),
                sentinel="main",
                sentinel_password=SecretStr("sentinel-pw"),
                timeout_s=1.0,
            )
            with closing(FeatureStore(settings)) as store:
                store.claim()
                seen = sentinel.data_dir / "store.out"
                eventually(lambda: f"+slave slave 127.0.0.1:{replica.port}" in seen.read_text(), 30, "a replica known")
                master.kill()

                def claimed() -> bool:
                    try:
                        store.claim()
                    except HeadwaterError:  # away, or still read-only
                        return False
                    return True

                eventually(claimed, 60, "a write to the new master")
            unknown = settings.model_copy(update={"sentinel": "nobody"})
            with (
                closing(FeatureStore(unknown)) as store,
                pytest.raises(Unavailable, match="No master found for 'nobody'"),
            ):
                store.check()
