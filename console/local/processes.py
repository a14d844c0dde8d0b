"""One worker process: started with its settings, watched through its own port, stopped, never left behind.

Before: `console.local.supervisor` decides when. After: `console.local.child`, which runs the worker's module. Knows
nothing of which workers there are or of what they do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from embedded import free_port
from headwater.settings import Settings
from viewing.worker_metrics import Scrape, http_get, read_metrics

__all__ = ["WorkerProcess", "settings_environment"]

ROOT = Path(__file__).resolve().parents[2]
"""Where the packages are: the checkout, or site-packages."""


def settings_environment(settings: Settings, **overrides: str) -> dict[str, str]:
    """The process environment in which `load_settings()` finds exactly these settings, whatever the folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    env |= {name: os.environ[name] for name in ("HEADWATER_CONFIG", "HEADWATER_CACHE") if name in os.environ}
    # signals are one value: names of types keep their spelling, and what nobody set stays unset, which has a meaning
    signals = settings.model_dump(mode="json", include={"signals"}, exclude_unset=True)
    env["HEADWATER_SIGNALS"] = json.dumps(signals.get("signals", {}))
    for section, values in settings.model_dump(mode="python", exclude={"signals"}).items():
        for name, value in values.items():
            if value is not None:
                env[f"HEADWATER_{section.upper()}__{name.upper()}"] = _as_text(value)
    return {**env, **overrides}


def _as_text(value: Any) -> str:
    if hasattr(value, "get_secret_value"):
        return str(value.get_secret_value())
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return str(value)


EDGES = ("gateway",)
"""Workers that say users' ids, and so may have the keys of pseudonyms."""


READERS = ("streams", "serving")
"""Workers that read what the store keeps of people, and so need the master key where that is sealed."""


def _without_pseudonyms(settings: Settings, name: str) -> Settings:
    privacy = settings.privacy
    keys = ["pseudonym_keys", "pseudonym_keys_file", "user_keys_file"]
    if name not in READERS or (privacy.user_keys_file is not None and not privacy.seal_states):
        keys += ("master_key", "master_key_file", "master_key_command")
    return settings.model_copy(update={"privacy": privacy.model_copy(update=dict.fromkeys(keys))})


class WorkerProcess:
    """One worker: `WorkerProcess("streams", settings, log)`. Not thread-safe; its supervisor holds a lock."""

    def __init__(self, name: str, settings: Settings, log_path: Path, *command: str) -> None:
        self.name = name
        self.command = command or (f"{name}.worker",)
        """The module that runs, and words that it is given."""
        self.settings = settings
        self.log_path = log_path
        self.port = 0
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where /metrics, /healthz and /readyz are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the newest start, or None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, or start it again.

        In a session of its own: Ctrl-C reaches the console alone, which then stops all in order.
        """
        self._close_pipe()
        self.port = free_port()
        self.starts += 1
        python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        env = settings_environment(
            self.settings if self.name in EDGES else _without_pseudonyms(self.settings, self.name),
            HEADWATER_OPERATIONS__HOST="127.0.0.1",
            HEADWATER_OPERATIONS__PORT=str(self.port),
            PYTHONPATH=python_path,
        )
        self._process = self.spawn(env)

    def spawn(self, env: dict[str, str]) -> subprocess.Popen[bytes]:
        """A process that runs the module in this environment, and writes to the log."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "console.local.child", *self.command],
                env=env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """The exit code, or None while it runs (or before it was started)."""
        return None if self._process is None else self._process.poll()

    def ready(self) -> bool:
        """Whether /readyz answers 200."""
        return self._get("/readyz")[0] == 200

    def answers(self, timeout_s: float) -> bool:
        """Whether /healthz answers 200 in time: a stopped or hung process listens still, and says nothing."""
        return http_get(self.url + "/healthz", timeout_s)[0] == 200

    def health(self) -> str:
        """`ready`, or why not."""
        status, body = self._get("/readyz")
        return body.strip() or f"status {status}"

    def metrics(self) -> Scrape:
        """What /metrics says; empty when the worker does not answer."""
        status, body = self._get("/metrics")
        return read_metrics(body) if status == 200 else Scrape()

    def _get(self, path: str) -> tuple[int, str]:
        return http_get(self.url + path)

    def log_tail(self, lines: int = 8) -> str:
        """The end of its log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def terminate(self) -> None:
        """Ask it to drain and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended by itself within the time; it is killed when not. Either way it is gone afterwards."""
        if self._process is None:
            return True
        ended = True
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            ended = False
            self._process.kill()
            self._process.wait()
        self._close_pipe()
        return ended

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
