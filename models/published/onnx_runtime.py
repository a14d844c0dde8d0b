"""ONNX Runtime, which tells nobody of what it runs.

From 1.29 on its packages for Linux and macOS report models, sessions and errors to their maker, under an id that they
keep in the home folder. Read when it is imported, the variable below stops all of it; so it is imported here alone. Who
sets ORT_DISABLE_TELEMETRY to 0 has it back. Before: nothing. After: `onnxruntime` as it is.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
