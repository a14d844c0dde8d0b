"""The learner beside what serves now, on the same queries: the evidence that the guard goes by.

Before: the worker's examples, on their way to the learner. After: the publisher asks `check` before each publication
and tells `published` after it. Knows no Kafka and no clock.

The first queries after each publication are asked of a published model, too (`Shadow`): that bounds the cost at some
milliseconds a publication, whatever the traffic, and a quiet world gathers evidence as fast as it can. That model stays
the rival until it was compared well, so that a learner that breaks step by step meets one from before; then the one
just published takes its place. The queries of those examples that the rival learned itself, after a restart, are left
out. Where nothing was published yet, serving lists what is popular: then that is the rival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from headwater.examples import Example, Kind
from models.experts.reserved import filed
from models.learner import Learner, Scored
from models.published.bundle import Bundle, Kept
from models.published.shadow import Asked, Shadow
from trainer.guard import WIDEST, Outcome, gain_of, refuse_worse

__all__ = ["SameQueries"]

QUERIES, FEWEST = 32, 8
"""Asked of the rival for each publication: 4 to 16 ms, at most 2% of a second. Fewer of a large catalogue."""

ROWS = 1_000_000
"""Scores that a publication may cost: above 31,250 rows of capacity it is these that count."""

COMPARED_WELL = 1000
"""Outcomes after which a rival gives way."""

SPENT = 0.25
"""It does not while the learner is worse by more than this share of what the bound allows: a slow decline adds up."""

YOUNG = 128
"""Outcomes after which one gives way to a learner that has learned twice as much."""


class SameQueries:
    """Lets a learner learn, and asks its rival some of the queries.

    Parameters
        learner: learns what `learn` is given; what it learns is what it would have learned without this.
        bound: see `guard.refuse_worse`.
        directory: on whose disk the rival lies.
        published: the model that serves now, None where there is none.
        state: of the checkpoint, as `state` returned it.

    `outcomes` are the newest ones, `rival` the published model that they compare with.
    """

    def __init__(
        self,
        learner: Learner,
        bound: float,
        directory: Path,
        published: Bundle | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.learner = learner
        self.bound = bound
        self._directory = directory
        self.rival = None if published is None else Shadow(published.kept(self._filed))
        self.held_back = bool((state or {}).get("held_back"))
        self.outcomes: deque[Outcome] = deque(
            (Outcome(*one) for one in (state or {}).get("outcomes", ()) if published is not None), WIDEST
        )
        self._round = self.outcomes[-1].round + 1 if self.outcomes else 0
        self._compared = 0  # outcomes of this rival
        self._left = QUERIES  # to ask until the next publication
        self._open: dict[int, Asked] = {}  # by the example's number: the learner's own answer is not there yet
        self._answered: list[tuple[Asked, Scored]] = []  # the rival's is not

    def learn(self, examples: Sequence[Example]) -> None:
        """Let the learner learn examples, in log order."""
        begin = 0
        for at, one in enumerate(examples):
            if one.kind is Kind.ERASED:  # what lies before it may end a block: so it is learned first
                self._learn_run(examples[begin:at])
                self.forget_user(one.user_id)
                begin = at
        self._learn_run(examples[begin:])

    def _learn_run(self, examples: Sequence[Example]) -> None:
        done = 0
        while done < len(examples) and self._left:
            self._ask(examples[done])
            self._learn(examples[done : done + 1])
            done += 1
        self._learn(examples[done:])

    def known_users(self) -> set[str]:
        """Of whom an outcome is kept."""
        return {one.user_id for one in self.outcomes}

    def forget_user(self, user_id: str) -> None:
        """Ask nothing more of somebody; the guard's own record of what was asked names nobody of them."""
        self.outcomes = deque((one for one in self.outcomes if one.user_id != user_id), self.outcomes.maxlen)
        self._open = {number: asked for number, asked in self._open.items() if asked.example.user_id != user_id}
        self._answered = [pair for pair in self._answered if pair[0].example.user_id != user_id]

    def _ask(self, example: Example) -> None:
        """Take an example down if it is a query that the rival may be asked."""
        learner, item_id = self.learner, example.target.item_id
        new = self.rival is None or learner.examples_seen >= self.rival.examples_seen
        event = example.kind is Kind.EVENT and not learner.rests()  # nobody scores what rests
        if not (new and event and example.history and item_id in learner.items.rows):
            return
        out = learner.excluded(example, {entry[0]: entry[1] for entry in example.history})
        if item_id not in out:
            self._open[learner.examples_seen] = Asked(example, out)
            self._left -= 1

    def _learn(self, examples: Sequence[Example]) -> None:
        first = self.learner.examples_seen - len(self.learner.pending)
        for number, scored in enumerate(self.learner.learn(examples), first):
            asked = self._open.pop(number, None)
            if asked is not None and scored.is_query:
                self._answered.append((asked, scored))

    def check(self) -> None:
        """Compare before a publication. Raises Refused (`regression`)."""
        rival, self._left = self.rival, self._queries()
        if rival is not None:
            ranks = rival.ranks([asked for asked, _ in self._answered])
            for (asked, scored), rank in zip(self._answered, ranks, strict=True):
                ours, popular = gain_of(scored.headwater), gain_of(scored.popularity)
                self.outcomes.append(Outcome(asked.example.user_id, ours, gain_of(rank), popular, self._round))
            self._compared += len(ranks)
            self._round += bool(ranks)
        self._answered.clear()
        name = "popularity, which serves without a model," if rival is None else f"version {rival.bundle.version}"
        outcomes = self._against_popularity() if rival is None else self.outcomes
        before, self.held_back = self.held_back, True
        refuse_worse(list(outcomes), self.bound, name, held_back=before)
        self.held_back = False

    def _queries(self) -> int:
        rows = 1 if self.rival is None else self.rival.bundle.capacity
        return max(FEWEST, min(QUERIES, ROWS // rows))

    def _against_popularity(self) -> list[Outcome]:
        prequential = self.learner.prequential
        ranks = prequential.ranks[: min(prequential.events, prequential.window_events), :2]
        asked = ranks[ranks[:, 0] > 0].tolist()
        return [
            Outcome(f"{i}", gain_of(ours), gain_of(most), gain_of(most), i // QUERIES)
            for i, (ours, most) in enumerate(asked)
        ]

    def published(self, kept: Callable[[Kept], Bundle]) -> None:
        """Something else serves now: the next rival, where the one before was compared well. `kept` gives it."""
        if self._is_due():
            self.rival = Shadow(kept(self._filed))
            self.outcomes.clear()
            self._open.clear()  # it has learned these
            self._compared = 0

    def _filed(self, array: NDArray[Any]) -> NDArray[Any]:
        """Queries read a part of it once a second."""
        return filed(array, self._directory)

    def _is_due(self) -> bool:
        rival = self.rival
        if rival is None:
            return True
        since = self.learner.examples_seen - rival.examples_seen
        if since < 0:  # of another learner, which this one does not continue
            return True
        young = self._compared >= YOUNG and since >= rival.examples_seen
        if not (young or self._compared >= COMPARED_WELL) or since < 2 * rival.bundle.capacity:  # rows cost copying
            return False
        found = self.ndcg()
        return found["headwater"] >= (1.0 - SPENT * self.bound) * found["published"]

    def ndcg(self) -> dict[str, float]:
        """NDCG@10 of the newest outcomes, by ranker; nothing without any."""
        outcomes, count = list(self.outcomes), len(self.outcomes)
        if not count:
            return {}
        return {
            "headwater": sum(one.ours for one in outcomes) / count,
            "published": sum(one.rival for one in outcomes) / count,
            "popularity": sum(one.popularity for one in outcomes) / count,
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, JSON-able: outcomes. The rival of a restart is the bundle that is live."""
        return {"outcomes": [list(one) for one in self.outcomes], "held_back": self.held_back}
