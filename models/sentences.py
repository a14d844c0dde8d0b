"""What a text means, as a vector: a small sentence model in ONNX form, where one is named.

Before: `content` has an item's title and text. After: `content` looks for items whose texts mean the same. Knows no
items.

A folder as sentence models are published in: `tokenizer.json` and `model.onnx` (or `onnx/model.onnx`), whose output of
every token is averaged and brought to length 1 (Reimers & Gurevych 2019, section 3). Texts go through one at a time, on
one thread: a vector does not depend on what else was asked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.errors import SettingsError
from models.published.onnx_runtime import onnxruntime

__all__ = ["SentenceModel"]

LONGEST = 256
"""Tokens of a text that are read."""

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class SentenceModel:
    """Text -> vector (`size`,). Raises SettingsError, with the remedy, for what is missing or not such a model."""

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise SettingsError("sentence_model needs a package: pip install 'headwater-engine[text]'") from error
        models = [path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()]
        if not models or not (folder / "tokenizer.json").is_file():
            raise SettingsError(
                f"sentence_model: {folder} does not hold tokenizer.json and model.onnx. Give the folder of a sentence "
                "model in ONNX form"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._session = onnxruntime.InferenceSession(models[0], options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise SettingsError(f"sentence_model: {folder} cannot be read ({error})") from error
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.no_padding()
        self._wanted = {one.name for one in self._session.get_inputs()}
        if not {"input_ids"} <= self._wanted <= set(NAMES):
            raise SettingsError(f"sentence_model: {models[0]} wants {sorted(self._wanted)}, not {', '.join(NAMES)}")
        self.size = len(self.vector("size"))

    def vector(self, text: str) -> NDArray[np.float32]:
        """The text's vector, (size,), of length 1; zeros for a text without words."""
        found = self._tokenizer.encode(text)
        arrays = (found.ids, found.attention_mask, found.type_ids)
        inputs = {
            name: np.array([array], np.int64) for name, array in zip(NAMES, arrays, strict=True) if name in self._wanted
        }  # (1, T)
        if not found.ids:
            return np.zeros(self.size, np.float32)
        states = self._session.run(None, inputs)[0][0]  # (T, size)
        mean: NDArray[np.float32] = states.mean(0, dtype=np.float32)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)
