"""Two wheels: what lies in each, and an app with modules of its own that installs the SDK's alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from headwater.settings import Settings
from tests.worlds.answering import ScriptedAnswers
from tests.worlds.processes import ROOT

ENGINE = {
    "embedded",
    "streams",
    "models",
    "trainer",
    "serving",
    "gateway",
    "viewing",
    "replay",
    "recovery",
    "console",
    "chaos",
}

APP = """
import importlib.util, runpy, sys
import models
assert models.OURS, models.__file__
found = [name for name in sys.argv.pop(1).split(",") if name != "models" and importlib.util.find_spec(name)]
assert not found, f"the SDK brought {found}"
runpy.run_path(sys.argv.pop(1))
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Standard output of a program that sees neither the checkout nor settings of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env={**inherited, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution by its name, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    run(*build, ROOT / "headwater", ROOT, cwd=folder)
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def content(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def tree(package: str, *without: str) -> set[str]:
    """Every file of a package in this checkout."""
    paths = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(ROOT)) for path in paths} - {f"{package}/{name}" for name in without}


def test_the_sdk_is_one_package(wheels: dict[str, Path]) -> None:
    assert content(wheels["headwater"]) == tree("headwater", "pyproject.toml", "README.md", "LICENSE")


def test_the_engine_is_the_rest_with_its_scripts_and_pages(wheels: dict[str, Path]) -> None:
    held = content(wheels["headwater_engine"])
    assert held == set().union(*map(tree, ENGINE))
    assert {".lua", ".css", ".js", ".html"} <= {Path(name).suffix for name in held}
    with ZipFile(wheels["headwater_engine"]) as wheel:
        (points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        assert "headwater = console.cli:main" in wheel.read(points).decode()


def oldest_python() -> str:
    """A Python 3.10 that runs, where the machine has one; else the one that runs the tests."""
    for folder in os.get_exec_path():  # the first may be a shim that does not run
        found = Path(folder) / "python3.10"
        if found.is_file() and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(found)
    return sys.executable


def test_an_app_with_its_own_models_installs_the_sdk_alone_and_gets_an_answer(
    wheels: dict[str, Path], settings: Settings, tmp_path: Path
) -> None:
    run(oldest_python(), "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run(*pip, "install", "--quiet", wheels["headwater"], cwd=tmp_path)
    assert "No broken requirements" in run(*pip, "check", cwd=tmp_path)
    app = tmp_path / "app"
    app.mkdir()
    (app / "models.py").write_text("OURS = True\n")
    (app / "app.py").write_text(APP)
    with ScriptedAnswers(settings.kafka) as answering:
        printed = run(
            python,
            "app.py",
            ",".join(sorted(ENGINE)),
            ROOT / "examples/producer.py",
            settings.kafka.bootstrap,
            cwd=app,
            HEADWATER_KAFKA__PREFIX=settings.kafka.prefix,
        )
    assert "['item-1', 'item-2', 'item-3', 'item-4', 'item-5'] personal" in printed
    assert answering.seen[0]["after"]
