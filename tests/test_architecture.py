"""The house: imports only ever point down, and an app that imports `headwater` loads nothing of the engine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.topics import TOPICS

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "console": 5,
    "replay": 4,
    "trainer": 3,
    "serving": 3,
    "streams": 2,
    "models": 1,
    "headwater": 0,
}
PACKAGES = (*FLOORS, "embedded")


def modules(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, whether at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", FLOORS)
def test_imports_only_point_down(package: str) -> None:
    for path in modules(package):
        upward = {top for top in tops(path) & FLOORS.keys() if top != package and FLOORS[top] >= FLOORS[package]}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}: only lower floors"


@pytest.mark.parametrize("package", sorted(FLOORS.keys() - {"console"}))
def test_the_engine_never_imports_the_garden_house(package: str) -> None:
    for path in modules(package):
        assert "embedded" not in tops(path), path.relative_to(ROOT)


def test_the_garden_house_stands_alone() -> None:
    for path in modules("embedded"):
        assert not tops(path) & FLOORS.keys(), f"{path.relative_to(ROOT)}: broker and store need no engine"


def test_models_know_no_kafka_no_redis_and_no_clock() -> None:
    for path in modules("models"):
        assert not tops(path) & {"kafka", "redis", "faust", "time", "datetime"}, path.relative_to(ROOT)


def test_kafka_is_spoken_only_where_the_house_says() -> None:
    allowed = re.compile(
        r"headwater/(client|connections)\w*\.py|(trainer|serving)/\w+\.py|streams/(agents|outbox|lag|worker|audit)\w*\.py|replay/\w+\.py|console/[\w/]+\.py"
    )
    for package in FLOORS:
        for path in modules(package):
            if tops(path) & {"kafka", "aiokafka"}:
                assert allowed.fullmatch(str(path.relative_to(ROOT))), path.relative_to(ROOT)


def test_redis_is_spoken_only_by_the_store_and_the_console() -> None:
    for package in FLOORS:
        for path in modules(package):
            if tops(path) & {"redis", "valkey"}:
                assert package == "console" or path.name.startswith("store"), path.relative_to(ROOT)


def test_only_the_table_spells_a_topic_name() -> None:
    names = {topic.name for topic in TOPICS if "-" in topic.name or topic.name in ("examples", "recommendations")}
    for package in FLOORS:
        for path in modules(package):
            if path.name == "topics.py" or path == ROOT / "console/cli.py":  # a command may be called as a topic is
                continue
            literals = {
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not literals & names, f"{path.relative_to(ROOT)} spells {literals & names}: use headwater.topics"


def test_no_file_is_longer_than_one_idea() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in (*PACKAGES, "tests", "benchmarks", "examples")
        for path in modules(package)
        if (lines := len(path.read_text().splitlines())) > 330
    }
    assert not long, long


def test_every_module_says_what_it_is() -> None:
    for package in PACKAGES:
        for path in modules(package):
            if path.name != "__init__.py" or path.read_text().strip():
                assert ast.get_docstring(ast.parse(path.read_text())), path.relative_to(ROOT)


def test_importing_the_sdk_loads_nothing_of_the_engine() -> None:
    code = (
        "import sys, headwater; headwater.Event(user_id='u', item_id='i', type='view');"
        "heavy = {'torch', 'faust', 'redis', 'onnxruntime', 'kafka', 'numpy', 'typer'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_app_with_its_own_models_module_can_use_the_sdk(tmp_path: Path) -> None:
    for name in ("models", "streams", "serving", "trainer", "replay", "console"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "app.py").write_text(
        "import models, streams, serving\nfrom headwater import Client, Event\n"
        "assert models.MINE and streams.MINE and serving.MINE\n"
        "assert Event(user_id='u', item_id='i', type='view').type == 'view'\nprint(Client.__name__)\n"
    )
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Client\n"), done.stderr
