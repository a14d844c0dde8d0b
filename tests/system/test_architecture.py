"""The architecture: imports only point down, never in a circle; folders and functions keep their sizes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

import pytest

from headwater.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    "console": 6,
    "recovery": 5,
    "gateway": 5,
    "replay": 4,
    "trainer": 3,
    "serving": 3,
    "streams": 2,
    "models": 1,
    "viewing": 1,
    "headwater": 0,
}
PACKAGES = (*FLOORS, "embedded", "chaos")


@cache
def modules(package: str) -> tuple[Path, ...]:
    return tuple(sorted((ROOT / package).rglob("*.py")))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Of a file, parents before their children."""
    return tuple(ast.walk(parsed(path)))


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, whether at its top or inside a function."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """One job runs all of a file with such a fixture; what it has read is let go afterwards."""
    yield
    for read in (parsed, nodes, imports):
        read.cache_clear()


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", FLOORS)
def test_imports_only_point_down(package: str) -> None:
    for path in modules(package):
        upward = {top for top in tops(path) & FLOORS.keys() if top != package and FLOORS[top] >= FLOORS[package]}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}: only lower floors"


def test_only_the_page_of_the_gateway_knows_more_than_the_sdk() -> None:
    for path in modules("gateway"):
        page = path.parent == ROOT / "gateway/page"
        assert page or not tops(path) & FLOORS.keys() - {"gateway", "headwater", "viewing"}, path.relative_to(ROOT)


@pytest.mark.parametrize("package", sorted(FLOORS.keys() - {"console"}))
def test_the_engine_never_imports_the_embedded_servers(package: str) -> None:
    for path in modules(package):
        assert "embedded" not in tops(path), path.relative_to(ROOT)


def test_the_embedded_servers_import_no_engine() -> None:
    for path in modules("embedded"):
        assert not tops(path) & FLOORS.keys(), f"{path.relative_to(ROOT)}: broker and store need no engine"


def test_campaigns_stand_beside_the_house_and_only_their_command_imports_them() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for package in (*FLOORS, "embedded")
        for path in modules(package)
        if "chaos" in tops(path)
    }
    assert users == {"console/commands/chaos.py"}


def test_models_know_no_kafka_no_redis_and_no_clock() -> None:
    for path in modules("models"):
        assert not tops(path) & {"kafka", "redis", "faust", "time", "datetime"}, path.relative_to(ROOT)


def test_only_these_modules_use_kafka_clients() -> None:
    allowed = re.compile(
        r"headwater/(client|kafka|process)/\w+\.py|(trainer|serving)/\w+\.py|streams/(agents|app|faust_internals|outbox|lag|worker)\w*\.py"
        r"|gateway/access\.py|console/[\w/]+\.py"
    )
    for package in FLOORS:
        for path in modules(package):
            if tops(path) & {"kafka", "aiokafka"}:
                assert allowed.fullmatch(str(path.relative_to(ROOT))), path.relative_to(ROOT)


PRIVATE = re.compile(r"_(?!_|replace\b|make\b|asdict\b|fields\b|exit\b)\w+")
PRIVATES_OF = {
    "headwater/kafka/producer.py": "kafka-python",
    "streams/faust_internals.py": "faust, aiokafka",
    "models/compiled.py": "numba",
    "models/sequence/encoder.py": "torch: its kernel of a step of the GRU",
    "models/sequence/losses.py": "torch: what the processor can do",
}
"""The files that use private attributes of a library, and of which."""


def test_private_attributes_of_a_library_stand_where_they_are_listed() -> None:
    for package in PACKAGES:
        for path in modules(package):
            tree = nodes(path)
            own = {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            used: dict[str, int] = {}
            for node in tree:
                if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
                    if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                        own.add(node.attr)
                    else:
                        used[node.attr] = node.lineno
            foreign = {name: line for name, line in used.items() if name not in own}
            assert not foreign or str(path.relative_to(ROOT)) in PRIVATES_OF, f"{path.relative_to(ROOT)}: {foreign}"


def test_one_module_knows_opentelemetry_and_loads_it_where_it_is_asked_for() -> None:
    users = {path: parsed(path) for package in PACKAGES for path in modules(package) if "opentelemetry" in tops(path)}
    assert [path.relative_to(ROOT).as_posix() for path in users] == ["headwater/tracing.py"]
    at_the_top = [one for tree in users.values() for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
    assert "opentelemetry" not in "".join(map(ast.unparse, at_the_top))


def test_redis_is_spoken_only_by_the_store_and_the_console() -> None:
    for package in FLOORS:
        for path in modules(package):
            if tops(path) & {"redis", "valkey"}:
                where = path.relative_to(ROOT)
                assert package == "console" or str(where) == "streams/features/store/server.py", where


def test_onnx_runtime_is_imported_in_one_place_where_it_is_kept_from_reporting(tmp_path: Path) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for package in FLOORS
        for path in modules(package)
        if "onnxruntime" in tops(path)
    }
    assert users == {"models/published/onnx_runtime.py"}
    code = "from models.published.onnx_runtime import onnxruntime; onnxruntime.SessionOptions()"
    outside = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=outside | home, check=True)
    assert not list(tmp_path.rglob("*")), "it wrote down whom it runs for"


def test_only_the_table_spells_a_topic_name() -> None:
    names = {topic.name for topic in TOPICS if "-" in topic.name or topic.name in ("examples", "recommendations")}
    for package in FLOORS:
        for path in modules(package):
            if path.name == "topics.py" or path == ROOT / "console/cli.py":  # a command may be called as a topic is
                continue
            literals = {
                node.value for node in nodes(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not literals & names, f"{path.relative_to(ROOT)} spells {literals & names}: use headwater.topics"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def module_imports(path: Path, known: Set[str]) -> set[str]:
    """Modules of ours that a file imports: `from package import module` is the module, not the package's face."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known
            if inner - known:
                found.add(node.module)
    return (found & known) - {module_name(path)}


def test_no_circle_of_imports() -> None:
    paths = {module_name(path): path for package in PACKAGES for path in modules(package)}
    assert not circles({name: module_imports(path, paths.keys()) for name, path in paths.items()})


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_folder_has_more_than_twenty_modules() -> None:
    folders = {path.parent for package in (*PACKAGES, "tests", "benchmarks") for path in modules(package)}
    counts = {
        str(folder.relative_to(ROOT)): len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        for folder in folders
    }
    assert not {folder: count for folder, count in counts.items() if count > 20}


LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8

EXEMPT: dict[str, str] = {}
"""Functions over the limits, as `path:name`, each with its reason."""


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, lines (without the docstring) and parameters (without self) of every function of a file."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            parameters = len(names) - (names[:1] in (["self"], ["cls"]))
            told = len((ast.get_docstring(node, clean=False) or "").splitlines())
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - told, parameters


def test_functions_are_short_and_take_few_parameters() -> None:
    over = {
        f"{path.relative_to(ROOT)}:{name}": (lines, parameters)
        for package in PACKAGES
        for path in modules(package)
        for name, lines, parameters in functions(path)
        if lines > LONGEST_FUNCTION or parameters > MOST_PARAMETERS
    }
    assert not over.keys() - EXEMPT.keys(), {name: over[name] for name in over.keys() - EXEMPT.keys()}
    assert not EXEMPT.keys() - over.keys(), "exempt without need: take it off the list"


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for package in (*PACKAGES, "tests", "benchmarks"):
        for path in modules(package):
            for node in parsed(path).body:
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_every_module_says_what_it_is() -> None:
    for package in PACKAGES:
        for path in modules(package):
            if path.name != "__init__.py" or path.read_text().strip():
                assert ast.get_docstring(parsed(path)), path.relative_to(ROOT)


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
