"""An authority, and what it signs: made by openssl for one run of tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["Authority"]


class Authority:
    """A folder with `ca.pem`, and for each name `NAME.pem` (certificate), `NAME-key.pem` and `NAME-both.pem`."""

    def __init__(self, folder: Path, *names: str) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl here")
        self.folder = folder
        folder.mkdir(exist_ok=True)
        new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        self._run(f"req -x509 {new} -days 2 -keyout ca-key.pem -out ca.pem -subj /CN=authority")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        for name in names:
            self._run(f"req {new} -keyout {name}-key.pem -out {name}.csr -subj /CN={name}")
            signed = "-CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names"
            self._run(f"x509 -req -in {name}.csr {signed} -out {name}.pem")
            both = (folder / f"{name}-key.pem").read_text() + (folder / f"{name}.pem").read_text()
            (folder / f"{name}-both.pem").write_text(both)

    def _run(self, words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=self.folder, check=True, capture_output=True)

    def __getitem__(self, file: str) -> str:
        return str(self.folder / file)

    def of(self, name: str) -> dict[str, str]:
        """Settings of who shows this certificate and trusts this authority."""
        shown = {"ssl_certfile": self[f"{name}.pem"], "ssl_keyfile": self[f"{name}-key.pem"]}
        return {"ssl_cafile": self["ca.pem"], **shown}
