"""What pyproject.toml says is true: one version, the oldest Python everywhere, every import declared."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SDK: dict[str, Any] = tomllib.loads((ROOT / "headwater/pyproject.toml").read_text())
PACKAGES: list[str] = ENGINE["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
OURS = {"headwater", "tests", "benchmarks", "examples", *PACKAGES}
WORKERS_ONLY = {"prometheus-client"}
"""What `headwater/process/` imports when a worker starts; an app never gets there, so the engine brings it."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[\w.-]+", one)[0]) for one in requirements}  # type: ignore[index]


DECLARED_BY_SDK = named(SDK["project"]["dependencies"])
DECLARED_BY_SDK |= named([one for extra in SDK["project"]["optional-dependencies"].values() for one in extra])
EXTRAS: dict[str, list[str]] = ENGINE["project"]["optional-dependencies"]
DECLARED_BY_ENGINE = DECLARED_BY_SDK | named(ENGINE["project"]["dependencies"])
DECLARED_BY_ENGINE |= named([one for name, extra in EXTRAS.items() if name != "dev" for one in extra])


def imported(folder: str) -> Iterator[tuple[Path, str]]:
    """Each file with each top-level package of others that it imports, whether at its top or inside a function."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                yield path.relative_to(ROOT), top


def undeclared(folder: str, declared: set[str]) -> set[str]:
    brought_by = importlib.metadata.packages_distributions()
    return {
        f"{path} imports {top}"
        for path, top in imported(folder)
        if not declared & {normal(name) for name in brought_by.get(top, [top])}
    }


def test_the_sdk_declares_what_it_imports() -> None:
    assert not undeclared("headwater", DECLARED_BY_SDK | WORKERS_ONLY)
    workers_only = {path.parts[1] for path, top in imported("headwater") if normal(top) in WORKERS_ONLY}
    assert workers_only == {"process"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_engine_declares_what_it_imports(package: str) -> None:
    assert not undeclared(package, DECLARED_BY_ENGINE)


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_the_extra_dev_declares_what_tests_and_benchmarks_import(folder: str) -> None:
    assert not undeclared(folder, DECLARED_BY_ENGINE | named(EXTRAS["dev"]))


def test_an_undeclared_import_would_be_found() -> None:
    assert any("scipy" in one for one in undeclared("replay", DECLARED_BY_ENGINE - {"scipy"}))


def test_both_distributions_and_the_image_have_one_version() -> None:
    version = SDK["project"]["version"]
    assert ENGINE["project"]["version"] == version
    assert f"headwater=={version}" in ENGINE["project"]["dependencies"]
    assert f"image: headwater:{version}\n" in (ROOT / "docker-compose.yml").read_text()


def test_lint_and_types_know_the_oldest_python_and_make_the_range() -> None:
    ruff, makefile = ENGINE["tool"]["ruff"], (ROOT / "Makefile").read_text()
    oldest, end = re.findall(r"3\.(\d+)", ENGINE["project"]["requires-python"])
    assert (ruff["target-version"], ENGINE["tool"]["mypy"]["python_version"]) == (f"py3{oldest}", f"3.{oldest}")
    assert f"(3, {oldest}) <= sys.version_info[:2] <= (3, {int(end) - 1})" in makefile
    (oldest,) = re.findall(r"3\.(\d+)", SDK["project"]["requires-python"])
    assert ruff["per-file-target-version"]["headwater/**"] == f"py3{oldest}"
    assert f"mypy --python-version 3.{oldest} -p headwater" in makefile
