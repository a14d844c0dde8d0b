"""What the learner makes of MovieLens-100K's first 20,000 events is what it made of them before it was taken apart.

The digest was recorded at commit 69a72a8. On another kind of processor or another torch the last bits differ, and
differences grow with learning: there the losses are compared, to 1e-6 over the first thousand.
"""

from __future__ import annotations

from itertools import islice

import llvmlite.binding
import pytest
import torch

from headwater.errors import SourceError
from headwater.examples import CatalogueEntry
from models.learner import Learner
from replay.sources import MovieLens
from streams.features.fold import Limits
from streams.features.recording import recorded

EVENTS = 20_000
DIGESTS = {
    ("2.13.0", "znver5", "AVX512"): "901d20f782daf85d6f32d0b8b9bc6fb797511abad1c83bfc80bd7b5d8eb4e9b9",
}
"""By torch, processor and what torch uses of it."""

FIRST, ALL = 2.2011269946098326, 5.15083023537404  # mean loss of the first 1,000 events, and of all of full blocks


def processor() -> tuple[str, str, str]:
    torch_version = torch.__version__.partition("+")[0]
    return torch_version, llvmlite.binding.get_host_cpu_name(), torch.backends.cpu.get_cpu_capability()


@pytest.fixture
def films() -> MovieLens:
    try:
        return MovieLens()
    except SourceError as error:
        pytest.skip(f"MovieLens-100K is neither in the cache nor to be fetched: {error}")


def test_the_digest_or_the_losses_are_those_of_before(films: MovieLens) -> None:
    torch.set_num_threads(1)
    recording = recorded(islice(films.events(), EVENTS), Limits())
    learner = Learner(seed=0)
    for item in films.items():
        learner.observe_item(CatalogueEntry(item.item_id, item.model_dump(mode="json", exclude_none=True)))
    losses = [one.loss for example in recording.examples() for one in learner.learn((example,))]
    digest = learner.publish(created_ms=0).digest
    assert sum(losses[:1000]) / 1000 == pytest.approx(FIRST, rel=1e-6)
    assert sum(losses) / len(losses) == pytest.approx(ALL, rel=1e-4)
    if processor() in DIGESTS:
        assert digest == DIGESTS[processor()], f"losses {sum(losses)!r}"
