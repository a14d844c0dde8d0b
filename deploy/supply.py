"""What the lock file and the images are made from, as lines of requirements: `python deploy/supply.py WORD`.

`wanted` is what both distributions and their extras for running ask for, but for the distributions themselves;
`installed` is what this environment has of it, so that the lock names what the tests ran with; `needs gateway
cloud,signing` is what the image of one worker has, with these extras: what the engine asks for, but for WITHOUT.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("backup", "cloud", "embedded", "grpc", "msk", "otel", "signing", "text")
"""Of those who run it; not those of tests and benchmarks, nor `gpu`, which wants another torch."""


LEARNING = ("torch", "implicit", "pyarrow")
SCORING = ("numba", "scipy", "threadpoolctl", "onnx", "onnxruntime-gpu", "onnxruntime")
FOLDING = ("faust-streaming", "aiokafka")
DOORS = (
    *("starlette", "uvicorn", "httptools", "websockets", "jinja2", "markupsafe", "argon2-cffi"),
    *("grpcio", "grpcio-tools", "grpcio-health-checking", "grpcio-reflection"),
)
WITHOUT = {
    "streams": (*LEARNING, *SCORING, *DOORS, "safetensors"),
    "serving": (*LEARNING, *FOLDING, *DOORS),
    "gateway": (*LEARNING, *SCORING, *FOLDING, "redis", "hiredis"),
}
"""Worker -> what it never imports, which a test takes away from it. The trainer, and most commands, want everything."""


def needs(worker: str, extras: str = "") -> Iterator[str]:
    """Requirements of the engine for one worker, and of extras that it or the SDK has, separated by commas."""
    engine, sdk = (
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "headwater/pyproject.toml")
    )
    found = dict.fromkeys(engine["dependencies"])
    for extra in filter(None, extras.split(",")):
        found |= dict.fromkeys(engine["optional-dependencies"].get(extra, sdk["optional-dependencies"].get(extra)))
    return (one for one in found if name_of(one) not in WITHOUT[worker] and not re.match(r"headwater==", one))


def name_of(requirement: str) -> str:
    """Of which distribution it is."""
    return re.match(r"[\w.-]+", requirement)[0].lower()  # type: ignore[index]


def wanted() -> Iterator[str]:
    """Requirements, each once."""
    found: dict[str, None] = {}
    for path in (ROOT / "pyproject.toml", ROOT / "headwater/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        extras = project.get("optional-dependencies", {})
        for one in [*project["dependencies"], *(line for name in EXTRAS for line in extras.get(name, ()))]:
            found[one] = None
    return (one for one in found if not re.match(r"headwater\b", one))


def installed() -> Iterator[str]:
    """Every distribution with its version; of a build for one kind of machine, the version that all have."""
    for one in distributions():
        name, version = one.metadata["Name"], one.version.partition("+")[0]
        if not name.startswith("headwater"):
            yield f"{name}=={version}"


if __name__ == "__main__":
    words = {"wanted": wanted, "installed": installed, "needs": needs}
    print("\n".join(sorted(words[sys.argv[1]](*sys.argv[2:]))))
