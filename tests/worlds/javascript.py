"""What tests need of Node: packages as lock files name them, the built browser client, a site that has its files.

Skips, and says what to install, where there is no Node, or the registry of npm is not reached.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from filelock import FileLock

from tests.worlds.processes import ROOT

CLIENT = ROOT / "clients" / "js"
UNREACHED = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")
INSTALL_S = 300


def node() -> str:
    """The command."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("no Node with npm here: apt-get install nodejs npm (Node 18 or later)")
    return found


def _npm(folder: Path, *words: str) -> None:
    done = subprocess.run(["npm", *words], cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode and any(word in done.stderr for word in UNREACHED):
        pytest.skip(f"npm does not reach its registry: `npm {' '.join(words)}` in {folder} where there is a network")
    assert done.returncode == 0, f"npm {' '.join(words)} in {folder}:\n{done.stdout}{done.stderr}"


def _newest(*files: Path) -> float:
    return max(file.stat().st_mtime for file in files)


def install(folder: Path) -> None:
    """What the lock file of a folder names, unless it is there."""
    node()
    there = folder / "node_modules" / ".package-lock.json"
    with FileLock(folder / "node_modules.lock"):
        if not there.exists() or there.stat().st_mtime < _newest(folder / "package.json", folder / "package-lock.json"):
            _npm(folder, "ci")
            there.touch()


def built_client() -> Path:
    """The folder of the browser client, built anew where a source or the API has changed."""
    install(CLIENT)
    made = [CLIENT / "dist" / name for name in ("headwater.js", "headwater.iife.js", "index.d.ts")]
    sources = [one for one in (CLIENT / "src").glob("*.ts") if one.name != "api.ts"]
    names = ("package.json", "package-lock.json", "tsconfig.json")
    with FileLock(CLIENT / "dist.lock"):
        newest = _newest(*sources, *(CLIENT / name for name in names), ROOT / "docs" / "contract" / "openapi.json")
        if not all(one.exists() and one.stat().st_mtime > newest for one in made):
            _npm(CLIENT, "run", "build")
            for one in made:
                os.utime(one)
    return CLIENT / "dist"


@contextlib.contextmanager
def site(port: int, token: Callable[[str, list[str]], str]) -> Iterator[str]:
    """Serves the repository's files on loopback, an empty page at /blank, and a token for whom /token?user= names.

    Parameters
        token: gets the user and the ids in `was`.
    """

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: object) -> None:
            super().__init__(*given, directory=str(ROOT))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/blank":
                return self._told("text/html", "<!doctype html><link rel=icon href=data:,><title>blank</title>")
            if asked.path == "/token":
                query = parse_qs(asked.query)
                return self._told("application/json", json.dumps(token(query["user"][0], query.get("was", []))))
            return super().do_GET()

        def _told(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()
            thread.join()
