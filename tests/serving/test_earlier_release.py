"""What the first release published is served: a bundle of format 1 with its own graph, and the deltas behind it.

`earlier/first_format.tar.xz` is what commit 9d3033e wrote of a small model: dense memories, the first digest, one of
them averse and one that fades by time, a capacity that grows on the way; and the scores that it gave in the end.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import BundleError
from headwater.examples import Entry
from headwater.recommendations import Request
from models.published.delta import DeltaAssembler
from models.published.digest import FIRST_SCHEME
from models.published.stores.folder import read_bundle, write_bundle
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score

NOW_MS = 1_700_000_999_000
HISTORY = [Entry(f"film-{k}", "click", 1_700_000_000_000 + 60_000 * k, None) for k in range(4)]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "earlier" / "first_format.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path


def test_a_bundle_of_the_first_format_and_its_deltas_give_the_scores_that_they_gave(earlier: Path) -> None:
    scorer, assembler = Scorer(Catalogue(), "cpu"), DeltaAssembler()
    scorer.load(read_bundle(next(earlier.glob("v*"))), 0)
    for number in range(2):
        delta = assembler.add((earlier / f"delta-{number}").read_bytes())
        assert delta is not None
        scorer.apply(delta, 0)
    with scorer.live() as half:
        assert half is not None
        assert (half.bundle.version, half.bundle.hashes.scheme) == (3, FIRST_SCHEME)
        _, (found,) = half.run([HISTORY], NOW_MS, ["scores"])
    np.testing.assert_allclose(found[0], json.loads((earlier / "scores.json").read_text()), rtol=1e-6)
    asked = Ask(Request(user_id="ann", k=3, explain=True), HISTORY)
    (answer,) = score(scorer, [asked], now_ms=NOW_MS, exclude_seen=["*"]).answers
    assert [item.item_id for item in answer.items] == ["film-5", "film-4", "film-6"]
    assert answer.items[0].reasons


def test_one_that_is_written_again_keeps_its_digest(earlier: Path, tmp_path: Path) -> None:
    held = read_bundle(next(earlier.glob("v*")))
    assert read_bundle(write_bundle(tmp_path / "again", held)).digest == held.digest


def test_a_delta_that_leads_elsewhere_changes_nothing(earlier: Path) -> None:
    held = read_bundle(next(earlier.glob("v*")))
    before, digest = held.copy(), held.digest
    delta = DeltaAssembler().add((earlier / "delta-0").read_bytes())
    assert delta is not None
    delta.dense["gate_output_bias"][0] += 1
    with pytest.raises(BundleError, match="the trainer had"):
        held.apply(delta)
    assert (held.digest, held.items, held.version) == (digest, before.items, before.version)
    for name, array in before.weights.items():
        np.testing.assert_array_equal(held.weights[name], array)
    delta.dense["gate_output_bias"][0] -= 1
    held.apply(delta)
    assert held.version == 2
