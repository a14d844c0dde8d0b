"""What we install is pinned by hash, and nothing that we read can run code."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = ["headwater", *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]

PIN = re.compile(r"([\w.-]+)==([\w.]+)(?: ; [^\n]+?)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")

RUNS_CODE = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle",
    "pandas.read_pickle",
    "allow_pickle", "eval", "exec", "torch.load", "torch.jit.load", "numpy.load", "np.load",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip

SUSPECT = re.compile(r"pickle|marshal|shelve|joblib|dill|yaml|\b(load|eval|exec)\b")
"""What a file that does any of it has in its text; the others need not be taken apart."""

HARMLESS = {"models/compiled.py": "names the error that numba's own cache raises; reads nothing"}


def test_the_lock_file_pins_all_that_is_wanted_by_hash_and_names_no_machine_s_addresses() -> None:
    text = (ROOT / "deploy/requirements.lock").read_text()
    assert not PIN.sub("", text), "what is no pin: run `make lock`"
    assert "://" not in text
    pinned = {canonicalize_name(name): Version(version) for name, version, _ in PIN.findall(text)}
    for one in map(Requirement, runpy.run_path(f"{ROOT}/deploy/supply.py")["wanted"]()):
        if one.marker is None or one.marker.evaluate():
            assert pinned[canonicalize_name(one.name)] in one.specifier, f"{one}: run `make lock`"


def used(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports, and of what it takes of them."""
    tree = ast.parse(path.read_text("utf-8"))
    named = {
        alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            root, _, rest = dotted.partition(".")
            yield f"{named.get(root, root)}.{rest}"
        elif isinstance(node, ast.keyword):
            yield str(node.arg)
        elif isinstance(node, ast.Name):
            yield named.get(node.id, node.id)


def test_no_source_reads_what_could_run_code() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): bad
        for package in SOURCES
        for path in sorted((ROOT / package).rglob("*.py"))
        if SUSPECT.search(path.read_text("utf-8"))
        and (bad := {name for name in used(path) if name in RUNS_CODE or name.partition(".")[0] in RUNS_CODE})
    }
    assert set(found) == set(HARMLESS), found


def test_what_could_run_code_is_found_however_it_is_imported(tmp_path: Path) -> None:
    for text in (
        "import pickle as p\np.loads(b'')",
        "from torch import load",
        "import torch as t\nt.load('x')",
        "import numpy\nnumpy.load('x')",
        "from numpy import load",
        "import yaml\nyaml.load('x')",
        "f('x', allow_pickle=True)",
        "eval('1')",
        "def f():\n    from joblib.numpy_pickle import load",
    ):
        path = tmp_path / "one.py"
        path.write_text(text)
        assert {name for name in used(path) if name in RUNS_CODE or name.partition(".")[0] in RUNS_CODE}, text
