"""When more comes than can be learned: how far behind learning is, and which share of the blocks there is time for.

Before: the worker tells of the end of the log, of what it learned and how long that took. After: it writes the share
that `Overload.decide` names to the topic `learning`, and goes by it. Pure: no Kafka, no learner, and the
clock is passed in.

Going down is quick, for what comes must not wait: as soon as learning is half of what is allowed behind, to the share
that there is time for beside what waits, and to none at all where it is all of that. Where there is time for all, as
after a pause at a quiet hour, nothing rests before it is twice of that. Going up takes a second of keeping up, to the
share that would leave a quarter of the time free: so it neither flutters nor waits long.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

__all__ = ["Behind", "Overload", "ShareVerdict"]

MOST_LOOKS = 4096
"""Beyond it every second look is forgotten: the moments in between are reckoned from their neighbours."""

RATE_S = 1.0
"""Of so many newest seconds of the log the rate is that of now."""

NEWS = 0.1
"""How much of what was measured the newest measure is."""

BUSY = 0.75
"""Share of the time that learning may take: the rest is publications, checkpoints and what comes unevenly."""

FAST_SHARE = 0.1
"""Of the time of an example, what it takes where its block rests, as long as none was measured."""

KEEPS_UP_S = 1.0
"""How long learning has to have kept up before the share goes up."""

WORTH = 1.25
"""The share goes up by a quarter at least, or to all: each step is a record of the log."""

LEAST = 0.01
"""Of a lower share nothing is learned that counts: then it is none."""


class Behind:
    """How long ago what is learned now came into the log, by this machine's clock alone: clocks of others may go wrong.

    >>> behind = Behind()
    >>> for now_s, end in ((0.0, 100), (1.0, 200), (2.0, 400)):
    ...     behind.look(now_s, end)
    >>> [behind.seconds(2.0, offset) for offset in (400, 300, 200, 150)], behind.rate()
    ([0.0, 0.5, 1.0, 1.5], 200.0)
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()  # when, and the end of the log then; ascending

    def look(self, now_s: float, end: int) -> None:
        """The log ends at `end` now."""
        self._looks.append((now_s, end))
        if len(self._looks) > MOST_LOOKS:
            self._looks = deque(list(self._looks)[::2])

    def seconds(self, now_s: float, offset: int) -> float:
        """How long ago the record at an offset came; 0 where it has not, as far as is known. They only ever rise."""
        looks = self._looks
        while len(looks) > 2 and looks[1][1] <= offset and looks[1][0] < now_s - RATE_S:
            looks.popleft()
        earlier = looks[0] if looks else (now_s, 0)
        for look in looks:
            if look[1] > offset:
                (before_s, before), (at_s, end) = earlier, look
                part = (offset - before) / (end - before) if end > before and offset > before else 0.0
                return max(now_s - before_s - part * (at_s - before_s), 0.0)
            earlier = look
        return 0.0

    def rate(self) -> float:
        """Records a second that came lately."""
        looks = self._looks
        if len(looks) < 2:
            return 0.0
        at_s, end = looks[-1]
        since = next(look for look in reversed(looks) if look[0] <= at_s - RATE_S or look is looks[0])
        return (end - since[1]) / (at_s - since[0]) if at_s > since[0] else 0.0


class ShareVerdict(NamedTuple):
    """The share from now on, and the short word for why."""

    share: float
    why: str


class Overload:
    """Decides the share.

    Parameters
        most_behind_s: how far behind learning may be; 0: however far, and all is learned.
        block: examples of one.
    """

    def __init__(self, most_behind_s: float, block: int) -> None:
        self.most_behind_s = most_behind_s
        self._block = block
        self._example_s = 0.0  # what one takes where its block rests
        self._block_s = 0.0  # what a block takes beyond that
        self._measured = False  # a block, since the share was last looked at
        self._kept_up_since: float | None = None

    def took(self, seconds: float, examples: int, blocks: int) -> None:
        """So many examples were learned in that time, and so many blocks ended that were learned by the slow part."""
        if not examples:
            return
        if not blocks:
            self._example_s = _with(self._example_s, seconds / examples)
            return
        fast = self._example_s or FAST_SHARE * seconds / examples
        self._measured = True
        self._block_s = _with(self._block_s, max(seconds - fast * examples, 0.0) / blocks)

    def affordable(self, examples_per_s: float) -> float:
        """The share of the blocks that there is time for."""
        if not self._block_s or not examples_per_s:
            return 1.0
        fast = self._example_s or FAST_SHARE * self._block_s / self._block
        return min(max((BUSY / examples_per_s - fast) * self._block / self._block_s, 0.0), 1.0)

    def decide(
        self, now_s: float, behind_s: float, examples_per_s: float, share: float, waiting: float = math.inf
    ) -> ShareVerdict | None:
        """What is to hold from now on; None where all stays as it is.

        Parameters
            now_s: monotonic.
            behind_s: how far behind learning is.
            examples_per_s: that came lately.
            share: in force.
            waiting: examples that wait; where it is less than a block, as of single events after a pause, that is none
                too many, however late they are.
        """
        if not self.most_behind_s:
            return ShareVerdict(1.0, "off") if share < 1.0 else None
        if share == 1.0 and waiting < self._block:
            self._kept_up_since = None
            return None
        if behind_s > self.most_behind_s / 2:
            self._kept_up_since = None
            there_is = self.affordable(examples_per_s * (1.0 + behind_s / self.most_behind_s))
            if behind_s > self.most_behind_s * (1 if there_is < 1.0 else 2):
                return ShareVerdict(0.0, "behind") if share else None
            return ShareVerdict(_rounded(min(there_is, share / 2)), "behind") if there_is < share else None
        if share == 1.0 or behind_s > self.most_behind_s / 4:
            self._kept_up_since = None
            return None
        self._kept_up_since = now_s if self._kept_up_since is None else self._kept_up_since
        if now_s - self._kept_up_since < KEEPS_UP_S:
            return None
        higher = _rounded(self.affordable(examples_per_s))
        self._kept_up_since = now_s
        if higher > share and (higher == 1.0 or higher >= share * WORTH):
            return ShareVerdict(higher, "room")
        if not self._measured:  # what a block took when others had the machine must not hold for ever
            self._block_s *= 1.0 - NEWS
        self._measured = False
        return None


def _with(mean: float, news: float) -> float:
    return mean + NEWS * (news - mean) if mean else news


def _rounded(share: float) -> float:
    return round(share, 3) if share >= LEAST else 0.0
