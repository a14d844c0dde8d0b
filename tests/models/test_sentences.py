"""Items whose texts mean the same, told by a sentence model: a real tokenizer and a real ONNX graph, tiny ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from headwater.errors import SettingsError
from headwater.examples import CatalogueEntry
from models.config import ModelConfig
from models.content import Content
from models.learner import Learner
from models.sentences import SentenceModel
from tests.worlds.tastes import ring

MEANINGS = {"unknown": (0, 0, 0), "dog": (1, 0, 0), "hound": (0.9, 0.1, 0), "cat": (0, 1, 0), "feline": (0.1, 0.9, 0)}
MEANINGS |= {"tale": (0, 0, 1)}


def sentence_model(folder: Path) -> Path:
    """A model that knows six words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(MEANINGS)}, unk_token="unknown"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    folder.mkdir()
    words.save(str(folder / "tokenizer.json"))
    table = numpy_helper.from_array(np.array(list(MEANINGS.values()), np.float32), "table")
    shape = ("batch", "tokens")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "sentences",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, (*shape, 3))],
        [table],
    )
    onnx.save(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx"
    )
    return folder


def test_words_that_mean_the_same_are_near_and_no_words_are_nothing(tmp_path: Path) -> None:
    model = SentenceModel(sentence_model(tmp_path / "m"))
    dog, hound, cat = (model.vector(word) for word in ("Dog", "hound", "cat"))
    assert model.size == 3
    assert dog @ hound > 0.99 > 0.1 > dog @ cat
    assert np.linalg.norm(model.vector("dog tale cat")) == pytest.approx(1)
    assert not model.vector("").any()


def test_a_new_row_starts_near_the_items_whose_texts_mean_what_its_own_does(tmp_path: Path) -> None:
    content = Content(limit=100, sentences=SentenceModel(sentence_model(tmp_path / "m")))
    vectors = np.eye(4, dtype=np.float32)
    for row, title in enumerate(("dog", "cat", "feline", "hound")):
        content.observe(f"i{row}", {"title": title}, row)
    mean = content.similar_mean(content.likes(3, 4), vectors)  # no word in common with any
    assert mean is not None
    assert mean[0] > 0.9
    content.set_row(0, None)
    mean = content.similar_mean(content.likes(3, 4), vectors)
    assert mean is not None
    assert mean[0] == 0
    content.observe("i3", None, 3)
    assert content.similar_mean(content.likes(3, 4), vectors) is None


def test_a_learner_with_a_sentence_model_goes_on_from_its_checkpoint_bit_by_bit(tmp_path: Path) -> None:
    config = ModelConfig(
        width=8, block=8, initial_capacity=32, replay_windows=4, sentence_model=str(sentence_model(tmp_path / "m"))
    )
    examples = ring(120)
    titles = list(MEANINGS)
    learner = Learner(config, 0)
    for n in range(24):
        learner.observe_item(CatalogueEntry(f"i{n}", {"title": f"{titles[n % 6]} {titles[n % 5]}"}))
    learner.learn(examples[:20])
    learner.save(tmp_path / "one.ckpt")
    again, _ = Learner.load(tmp_path / "one.ckpt")
    assert again.content.meanings.tobytes() == learner.content.meanings.tobytes()
    for one in (learner, again):
        one.learn(examples[20:])
    assert again.publish(created_ms=0, full=True).digest == learner.publish(created_ms=0, full=True).digest
    without = Learner(config.model_copy(update={"sentence_model": ""}), 0)
    without.learn(examples)
    assert without.publish(created_ms=0, full=True).digest != learner.publish(created_ms=0, full=True).digest


@pytest.mark.parametrize("damage", ["absent", "tokenizer", "graph"])
def test_a_folder_that_holds_no_sentence_model_is_refused_with_what_to_do(damage: str, tmp_path: Path) -> None:
    folder = sentence_model(tmp_path / "m")
    if damage == "absent":
        (folder / "model.onnx").unlink()
    else:
        (folder / {"tokenizer": "tokenizer.json", "graph": "model.onnx"}[damage]).write_bytes(b"{nothing")
    with pytest.raises(SettingsError, match=r"sentence_model: .*m (does not hold|cannot be read)"):
        Learner(ModelConfig(sentence_model=str(folder)), 0)


def test_without_the_package_its_extra_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from pathlib import Path; from models.sentences import SentenceModel\n"
        f"SentenceModel(Path({str(sentence_model(tmp_path / 'm'))!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'headwater-engine[text]'" in ended.stderr
