"""Lists that were shown, from the moment they are shown to what is learned of them.

Before: the learner, when a block closes: its examples in order, and what the experts say of its lists. After: the click
model and fatigue have learned what is known now; `Judged` say what was thought and what came of it. All of it is done
by the block, in the order of the log, so that how calls cut the log changes nothing. A stream that shows nothing has
nothing of this, not in its checkpoints either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Kind
from headwater.signals import Meaning
from models.block import Pending
from models.config import ModelConfig
from models.experts.fusion import Heard
from models.experts.registry import Parts
from models.inputs import event_weight
from models.part import Part
from models.quality import Judged, ShownFigures
from models.ranker.lists import TaughtList
from models.shown.clicks import HEADS, Clicks, Taught
from models.shown.facts import Before, ListMoment, count_of, facts_of, sizes_of
from models.shown.habits import Habits
from models.shown.numbers import ItemNumbers
from models.shown.rates import ReactionRates
from models.shown.waiting import AtShowing, Reaction, ToRank, Waiting, WaitingList, scattered

__all__ = ["ShownLists"]

Array = NDArray[np.float32]

logger = logging.getLogger(__name__)

BATCH_ITEMS = 256
"""A step is of so many items or a list more."""

REHEARSED = 4
"""Steps on lists of the past after each one on new ones, once `ENOUGH_ITEMS` were learned; before, in proportion: of a
few lists it would learn every accident by heart (docs/lab-book.md)."""

ENOUGH_ITEMS = 20_000

SAID = 5 + HEADS
"""Columns of `AtShowing.said`."""


class News(NamedTuple):
    """What has become known of an item: its place in the list, the kinds of reaction that were learned (None: not
    yet), the right ones, and what its reactions weigh.
    """

    place: int
    learned: int | None
    kinds: int
    weight: float


class Lesson(NamedTuple):
    """What is to be learned of a list."""

    waiting: WaitingList
    news: list[News]


BITS = np.arange(1 + HEADS)


def _by_output(kinds: int) -> NDArray[np.float32]:
    """Which outputs of the click model are true, (1 + HEADS,)."""
    return (kinds >> BITS & 1).astype(np.float32)


def _taught(lessons: Sequence[Lesson], heads: int) -> Taught:
    """Lessons as the click model takes them; so many of its heads are in use."""
    parts: list[tuple[NDArray[Any], ...]] = []
    groups, first = [], 0
    for one, news in lessons:
        many = len(one.items)
        label, weight, correction, chosen = np.zeros((4, many, 1 + HEADS), np.float32)
        for i, learned, kinds, worth in news:
            if kinds:
                label[i] = chosen[i] = _by_output(kinds)
                chosen[i, 0] = worth
            if learned is None:
                weight[i, 0] = worth or 1.0
                weight[i, 1 : 1 + heads] = 1.0
            elif learned != kinds:
                correction[i] = _by_output(learned) - label[i]
        if many > 1 and chosen.any():
            groups.append((np.arange(first, first + many), chosen))
        parts.append((one.asked.facts, one.asked.tired, label, weight, correction))
        first += many
    facts, tired, label, weight, correction = (
        np.concatenate(one, dtype=np.float32) for one in zip(*parts, strict=True)
    )
    return Taught(facts, tired, label, weight, correction, groups)


def _news(one: WaitingList, i: int) -> News:
    """The label of an item as it is now, which counts as learned from here on."""
    before = one.learned[i]
    one.learned[i] = one.kinds[i]
    return News(i, before, one.kinds[i], max(one.label[i], 0.0))


class ShownLists(Part):
    """Waiting lists, rates and the click model, from the first list of a stream on.

    Parameters
        config: of the model.
        parts: whose opinions there are of each item; fatigue, whose weights are learned here, and the ranker, which
            learns of lists here, too.
        figures: kept in checkpoints here.
    """

    def __init__(self, config: ModelConfig, parts: Parts, figures: ShownFigures) -> None:
        self.config = config
        self.ranker = parts.ranker
        self.figures = figures
        self.begun = False
        self.waiting = Waiting(int(config.join_window_s * 1000))
        self.items, self.users = ReactionRates(), ReactionRates()
        self.habits = Habits()
        self.numbers = ItemNumbers(2 * config.max_items)
        self.clicks = Clicks(count_of(sum(expert.trusts for expert in parts.experts)), parts.fatigue)
        self.heads: dict[str, int] = {}  # type of event -> head of the click model, from 1
        self.taught = self.drawn = 0  # items learned, lists rehearsed
        self._lessons: list[Lesson] = []
        self._resting = False

    def pass_block(
        self, examples: Sequence[Pending], heard: Mapping[int, Heard], resting: bool = False
    ) -> list[tuple[Judged, ...]]:
        """Take a block's examples in, in order, and learn what has become known.

        Parameters
            examples: all of the block.
            heard: of each list by its place among them.
            resting: nothing is learned: reactions are joined to lists that wait, and that is all.

        Returns
            Of each example what it, or its time, told.
        """
        if not (self.begun or heard):
            return [()] * len(examples)
        self.begun, self._resting = True, resting
        found = []
        for i, one in enumerate(examples):
            judged = [each for due in self.waiting.advance(one.target.time_ms) for each in self._close(due)]
            if i in heard:
                judged += self._open(one, heard[i])
            elif one.kind is Kind.EVENT and one.capped:
                self.waiting.forget_user(one.user_id)
            elif one.kind is not Kind.SHOWN:
                judged += self._react(one)
            found.append(tuple(judged))
        if resting:
            self._lessons = []
        else:
            self._learn()
        self._tell_waiting()
        return found

    def known_users(self) -> set[str]:
        """Of whom a list, a reaction, a rate or a habit is kept."""
        return self.waiting.known_users() | self.users.known() | self.habits.known()

    def forget_user(self, user_id: str) -> None:
        """Keep nothing of what somebody was shown and did with it."""
        self.waiting.forget_whole(user_id)
        self._lessons = [one for one in self._lessons if one.waiting.user_id != user_id]
        self.users.forget(user_id)
        self.habits.forget(user_id)

    def _tell_waiting(self) -> None:
        self.figures.closed_early = self.waiting.closed_early
        if self.ranker is not None:
            self.ranker.growing = self.waiting.growing

    def undecided(self) -> list[Judged]:
        """Items of the lists whose window is still open, as they stand. Learns nothing."""
        return [self._judged(one, i) for one in self.waiting.open_lists() for i in range(len(one.items))]

    def _open(self, example: Pending, heard: Heard) -> list[Judged]:
        listed, user_id, of_all = example.listed, example.user_id, self.items.of_all
        assert listed is not None
        rates = [self.items.of(item_id) for item_id in listed.items]
        before = self._before(example, listed.list_id)
        facts = facts_of(
            ListMoment(
                listed=listed,
                opinions=heard.opinions,
                scores=heard.scores,
                items=rates,
                user=self.users.of(user_id),
                of_all=of_all,
                length=len(example.steps.rows),
                since=example.since,
                time_ms=example.target.time_ms,
                numbers=self.numbers.columns(listed.numbers, len(listed.items)),
                before=before,
                habit=self.habits.of(user_id),
            )
        )
        tired = np.array(listed.tired, np.float32)
        said = np.empty((len(rates), SAID))
        said[:, 1] = [rate.smoothed(of_all) for rate in rates]
        said[:, 2] = np.where(np.array(listed.rows) >= 0, heard.served, -np.inf)  # below all that can be ranked
        said[:, [0, *range(3, 3 + HEADS)]] = self.clicks.chances(facts, tired)
        said[:, -2] = said[:, -1] = said[:, 2]
        if heard.revision is not None and heard.revision.in_full is not None:
            said[heard.known, -2] += heard.revision.added
            said[heard.known, -1] += heard.revision.in_full
        self.clicks.meet(facts)
        for item_id in self.waiting.new_items(user_id, listed.list_id, listed.items):
            self.items.expose(item_id)
            self.users.expose(user_id)
        asked, shown_ms = AtShowing(facts.astype(np.float16), tired.astype(np.float16), said), example.target.time_ms
        made = WaitingList(user_id, listed.list_id, shown_ms, list(listed.items), list(listed.places), asked)
        made.ranked = self._to_rank(heard)
        return [each for one, i in self.waiting.open(made) for each in self._told(one, i)]

    def _to_rank(self, heard: Heard) -> ToRank | None:
        """What the ranker is to learn from of the items that it was told of; None where it was told of none."""
        if heard.revision is None or self.ranker is None:
            return None
        many, facts = len(heard.served), heard.revision.facts
        kept = ToRank(np.zeros((many, len(self.ranker.network.mean)), np.float16), np.full(many, np.nan, np.float32))
        kept.facts[heard.known, : facts.shape[1]], kept.plain[heard.known] = facts, heard.revision.plain
        return kept

    def _before(self, example: Pending, list_id: str) -> Before | None:
        """The list that its user was shown before; what was taken of it becomes their habit."""
        found = self.waiting.before(example.user_id, list_id)
        if found is None:
            return None
        strongest = max(found.label)
        if strongest > 0:
            taken = found.label.index(strongest)
            sizes = sizes_of(found.asked.facts[taken].tolist())
            self.habits.take(found.user_id, found.number, found.items, found.places, taken, sizes)
        return Before(found.items, found.label, example.target.time_ms - found.time_ms)

    def _react(self, example: Pending) -> list[Judged]:
        target, meanings = example.target, self.config.meanings
        meaning = meanings.meaning(target.type, target.value)
        if meaning not in (Meaning.POSITIVE, Meaning.NEGATIVE):
            return []
        weight = -1.0 if meaning is Meaning.NEGATIVE else event_weight(target.type, target.value, self.config)
        if not weight:
            return []
        reaction = Reaction(target.item_id, target.time_ms, example.request_id, weight, self._head(target.type, weight))
        if example.kind is Kind.UNDONE:
            found = self.waiting.take_back(example.user_id, reaction)
        else:
            found = self.waiting.react(example.user_id, reaction)
        return [] if found is None else self._told(*found)

    def _head(self, event_type: str, weight: float) -> int:
        """Which head learns of a reaction; the first types that come have one each, others and dismissals none: 0."""
        if weight > 0 and event_type not in self.heads and len(self.heads) < HEADS:
            self.heads[event_type] = len(self.heads) + 1
        return self.heads.get(event_type, 0) if weight > 0 else 0

    def _told(self, one: WaitingList, i: int) -> list[Judged]:
        """An item's label has changed: count it, and learn it at once where no window is to be waited for."""
        reacted = one.label[i] > 0
        if reacted != one.counted[i]:
            by = 1.0 if reacted else -1.0
            self.items.react(one.items[i], by)
            self.users.react(one.user_id, by)
            one.counted[i] = reacted
        before = one.learned[i]
        if before is None and not one.closed and one.label[i] >= 0:
            return []
        if before == one.kinds[i]:
            return []
        self._lessons.append(Lesson(one, [_news(one, i)]))
        return [self._judged(one, i, corrected=before is not None)]

    def _close(self, one: WaitingList) -> list[Judged]:
        """A window is over: what is not known by now was shown and not reacted to."""
        left = [i for i in range(len(one.items)) if one.learned[i] is None]
        self._lessons.append(Lesson(one, [_news(one, i) for i in left]))
        self._teach_ranker(one)
        return [self._judged(one, i) for i in left]

    def _teach_ranker(self, one: WaitingList) -> None:
        """Which of the list it was, among the items that had a row; what comes after the window comes too late."""
        ranked, one.ranked = one.ranked, None
        if ranked is None or self.ranker is None or self._resting:
            return
        known = np.flatnonzero(~np.isnan(ranked.plain))
        chosen = np.array(one.label, np.float32)[known].clip(min=0.0)
        if chosen.any() and len(known) > 1:
            facts = ranked.facts[known].astype(np.float32)
            self.ranker.network.taught_list(TaughtList(facts, ranked.plain[known], np.array(one.places)[known], chosen))

    def _judged(self, one: WaitingList, i: int, corrected: bool = False) -> Judged:
        chance, rate, score, *by_head, revised, full = one.asked.said[i].tolist()
        kinds = one.kinds[i]
        return Judged(
            list_id=one.list_id,
            user_id=one.user_id,
            item_id=one.items[i],
            time_ms=one.time_ms,
            place=one.places[i],
            chance=chance,
            item_rate=rate,
            rank=int(np.count_nonzero(one.asked.said[:, -2] >= revised)),
            in_full=int(np.count_nonzero(one.asked.said[:, -1] >= full)) if self.ranker else 0,
            unrevised=int(np.count_nonzero(one.asked.said[:, 2] >= score)) if self.ranker else 0,
            reacted=one.label[i] > 0,
            weight=max(one.label[i], 0.0),
            corrected=corrected,
            by_type=tuple((name, by_head[head - 1], kinds >> head & 1 == 1) for name, head in self.heads.items()),
        )

    def _learn(self) -> None:
        """Steps on what the block brought, and after each some on lists of the past."""
        if self.ranker is not None:
            self.ranker.network.step_lists()
        lessons, self._lessons = [one for one in self._lessons if one.news], []
        while lessons:
            many, items = 0, 0
            while many < len(lessons) and items < BATCH_ITEMS:
                items += len(lessons[many].waiting.items)
                many += 1
            heads = len(self.heads)
            self.clicks.learn(_taught(lessons[:many], heads))
            lessons = lessons[many:]
            self.taught += items
            for _ in range(REHEARSED * min(self.taught, ENOUGH_ITEMS) // ENOUGH_ITEMS):
                if past := self._drawn(items):
                    self.clicks.learn(_taught(past, heads), rehearsed=True)

    def _drawn(self, items: int) -> list[Lesson]:
        """Closed lists of so many items or a few more, any of those that are kept."""
        closed, found = self.waiting.closed, []
        while closed and items > 0:
            self.drawn += 1
            one = closed[scattered(self.drawn, len(closed))]
            items -= len(one.items)
            known = [News(i, None, kinds, max(one.label[i], 0.0)) for i, kinds in enumerate(one.kinds)]
            found.append(Lesson(one, known))
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """The click model, and the facts of waiting lists; nothing before the first list."""
        if not self.begun:
            return {}
        waiting = {f"waiting.{name}": array for name, array in self.waiting.arrays().items()}
        figures = {"shown.said": self.figures.said, "shown.reacted": self.figures.reacted}
        return self.clicks.state() | waiting | figures

    def values(self) -> dict[str, Any]:
        """The rest, JSON-able; of lists nothing before the first one."""
        if not self.begun:
            return self.numbers.values()
        shown = {
            "waiting": self.waiting.values(),
            "items": self.items.values(),
            "users": self.users.values(),
            "habits": self.habits.values(),
            "steps": self.clicks.steps,
            "judged": self.figures.items,
            "drawn": self.drawn,
            "taught": self.taught,
            "heads": list(self.heads),
        }
        return {"shown": shown} | self.numbers.values()

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `values` and `state` returned."""
        self.numbers.load(values)
        shown = values.get("shown")
        if shown is None:
            return
        self.begun = True
        self.figures.items = shown["judged"]
        self.figures.said, self.figures.reacted = np.array(arrays["shown.said"]), np.array(arrays["shown.reacted"])
        self.items.load(shown["items"])
        self.users.load(shown["users"])
        if not self.clicks.fits(arrays):
            logger.warning("the click model and lists that wait begin anew: the checkpoint's are of another shape")
            return
        self.habits.load(shown["habits"])
        self.heads = {name: i + 1 for i, name in enumerate(shown["heads"])}
        self.clicks.load(shown["steps"], arrays)
        self.drawn, self.taught = shown["drawn"], shown["taught"]
        waiting = {name.removeprefix("waiting."): one for name, one in arrays.items() if name.startswith("waiting.")}
        self.waiting.load(shown["waiting"], waiting)
        self._tell_waiting()
