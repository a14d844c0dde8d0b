"""The ranker as it is served: the candidates of one request, facts of each, and what the network adds to their scores.

Before: `serving.scorer` holds a bundle. After: `serving.second_stage` revises scores. Candidates and facts are those of
`models.ranker`, which the learner calls, too; the network is a graph of its own (`models.published.ranker_graph`), run
for one request at a time, so that no answer depends on who shares its batch. Knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from headwater.context import clock_ahead_ms, named
from headwater.errors import BundleError
from headwater.examples import Entry
from models.block import Sparse, Weighed
from models.inputs import Steps, encode_entries, encode_fresh, encode_since
from models.part import OWN_ROW
from models.published.names import SAID as SAID_OF
from models.published.ranker_graph import BY_HEAD, FACTS, HEAD_WEIGHTS, HIDDEN, SAID, WEIGHTS, build_ranker_graph
from models.ranker.affinity import CONTENT_ROWS, KNOWN, NAME_BYTES, NAMED, first_taste
from models.ranker.bounds import LISTS
from models.ranker.candidates import Few, StandingList, alike_of, candidates_of, said_at, standing_lists
from models.ranker.facts import (
    FIRST,
    ITEM,
    POSITIVE,
    AskedMoment,
    ItemTables,
    Past,
    are_new,
    fact_names,
    facts_count,
    facts_of,
    first_facts,
    moment_of,
    narrow_facts,
    past_of,
)
from models.ranker.posterior import POSTERIOR, drawn
from models.ranker.revision import NO_HEADS, added_to
from models.ranker.statistics import ALIKE
from models.ranker.told import told_count, told_names, told_of
from streams.features.state import EMPTY, UserState

if TYPE_CHECKING:
    from models.published.bundle import Bundle
    from models.published.delta import Delta

__all__ = ["CLOSED", "SecondStage", "SecondStageCounts", "Situation", "Spoken"]

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]

Spoken = Mapping[str, Array | Sparse | Weighed]
"""What experts add to scores, by output of the graph: (capacity,), or what is of few rows of these alone."""

NOTHING = np.zeros(1, np.float32)

SHOWN = "shown"
"""The objective that is of no type: what people react to where they are shown it, wherever it stands."""

NO_ROWS: RowIds = np.zeros(0, np.int64)

CLOSED = -1e29
"""Scores below are of rows that no event has had."""


class Situation(NamedTuple):
    """What the second stage knows of one request.

    Fields
        history: that it is answered from, oldest first.
        at_ms: the instant, epoch ms.
        state: whose history it is, for what it tells beyond it.
        context: of the moment, as in `Request.context`.
        attributes: what was told of the user (`headwater.users`).
        session: `events.session_number` of the one that it is asked in, None where that is not known.
        objectives: `Surface.objectives` by which it is answered.
        steps: the history as the model that answers reads it, where that is done (`ServedModel.steps_of`).
    """

    history: Sequence[Entry]
    at_ms: int
    state: UserState = EMPTY
    context: Mapping[str, Any] = {}
    attributes: Mapping[str, Any] = {}
    session: int | None = None
    objectives: Mapping[str, float] = {}
    steps: Steps | None = None


@dataclass
class SecondStageCounts:
    """How many requests the second stage has seen, how many candidates these had, and how much that it said of them
    was no number and was left out."""

    requests: int = 0
    candidates: int = 0
    not_finite: int = 0


@dataclass
class SecondStage:
    """The ranker of one half of the scorer: its weights as they are bound, and the candidates of every query.

    Fields
        bundle: whose weights are read.
        experts: the graph's outputs with what each expert adds, in order; and of which of them the best are candidates,
            each with whether it speaks of few items.
        seen: counts.
        heads: by type of event that has one, the ranker's.
    """

    bundle: Bundle
    experts: Sequence[tuple[str, str | None]]
    seen: SecondStageCounts
    standing: RowIds = field(init=False)
    heads: dict[str, int] = field(init=False)
    _facts: int = field(init=False)
    _weights: dict[str, Array] = field(init=False)
    _head_weights: dict[str, Array] = field(init=False)
    _standing: list[StandingList] = field(default_factory=list)

    @classmethod
    def of(cls, bundle: Bundle, experts: str | None, seen: SecondStageCounts) -> SecondStage | None:
        """That of a bundle, None where it has none: it was made by an earlier release, or without. `experts` is of the
        metadata of its graph. Raises BundleError for weights that do not fit together.
        """
        if experts is None or "ranker_mean" not in bundle.weights:
            return None
        found = cls(bundle, [(name, kind) for name, kind in orjson.loads(experts)], seen)
        found.refuse_unfit()
        found.renew()
        return found

    @property
    def outputs(self) -> list[str]:
        """Of the graph, that it needs; experts that share one have it once."""
        return list(dict.fromkeys(name for name, _ in self.experts))

    @property
    def fact_names(self) -> list[str]:
        """Of the facts, in order."""
        experts = [name.removeprefix(SAID_OF).removesuffix("_part") for name, _ in self.experts]
        return fact_names(experts, told_names(self.bundle.config), self.bundle.weights.get("ranker_names"))[
            : self._facts
        ]

    @property
    def _narrow(self) -> int:
        return narrow_facts(len(self.experts), told_count(self.bundle.config))

    def _read(self) -> int:
        """How many facts the network reads: of an earlier release fewer, and fewer where the catalogue told of nothing
        so far, for all others are 0 then.
        """
        mean, known = self.bundle.weights["ranker_mean"], self.bundle.weights.get("ranker_known")
        if known is None or known.any() or mean[self._narrow :].any():
            return mean.size
        return self._narrow

    def refuse_unfit(self) -> None:
        """Raises BundleError for weights that the compiled loops, or the graph, would read beyond."""
        weights = self.bundle.weights
        known, told = len(self.experts), told_count(self.bundle.config)
        facts = facts_count(known, told) if "ranker_content" in weights else first_facts(known, told)
        hidden, named = weights["ranker_hidden_bias"].size, WEIGHTS
        sizes: dict[str | int, int] = {"facts": facts, "hidden": hidden, 1: 1}
        if "ranker_heads" in weights:
            sizes |= {"heads": weights["ranker_head_types"].size, "hidden and facts": hidden + facts}
            named = {**named, **HEAD_WEIGHTS, "ranker_head_types": ("heads",), "ranker_head_share": ("heads",)}
        wanted = {name: tuple(sizes[one] for one in shape) for name, shape in named.items()}
        wanted |= {"ranker_landmark_ms": (1,), "ranker_share": (1,)}
        wanted |= {POSTERIOR: (hidden, hidden)} if POSTERIOR in weights else {}
        wanted |= {"ranker_lift": (1,)} if "ranker_lift" in weights else {}
        of_row: dict[str, tuple[int, ...]] = {"ranker_items": (len(ITEM),), "ranker_alike": (ALIKE,)}
        if "ranker_content" in weights:
            of_row |= CONTENT_ROWS
            wanted |= {
                "ranker_known": (KNOWN,),
                "ranker_names": (NAMED, NAME_BYTES),
                "ranker_taste": first_taste().shape,
            }
        wanted |= {name: (self.bundle.capacity, *shape) for name, shape in of_row.items()}
        for name, shape in wanted.items():
            if weights[name].shape != shape:
                raise BundleError(
                    f"bundle v{self.bundle.version}: {name} is {weights[name].shape}, not {shape}. Publish one anew."
                )
        fills = self.bundle.tables  # what bundle and deltas are held to: rows as many as items, row numbers within them
        for name in of_row:
            if name not in fills or (fills[name] is OWN_ROW) != (name == "ranker_alike"):
                raise BundleError(
                    f"bundle v{self.bundle.version}: its metadata has {name} as no table of its kind. Publish one anew."
                )

    def renew(self, delta: Delta | None = None) -> None:
        """The bundle is another version: its weights are read where they lie, and what is popular and new is anew, as
        far as the delta from the version before it says.
        """
        weights, types = self.bundle.weights, self.bundle.types
        self._facts = facts = self._read()
        self._weights = {name: weights[name][:facts] if "facts" in WEIGHTS[name] else weights[name] for name in WEIGHTS}
        hidden = weights["ranker_hidden_bias"].size
        self._head_weights = {
            name: np.ascontiguousarray(weights[name][:, : hidden + facts]) for name in HEAD_WEIGHTS if name in weights
        }
        kinds = weights["ranker_head_types"].tolist() if "ranker_heads" in weights else []
        self.heads = {types[kind - 1]: head for head, kind in enumerate(kinds) if 0 < kind <= len(types)}
        if LISTS in kinds:
            self.heads.setdefault(SHOWN, kinds.index(LISTS))
        told, touched = ("popularity", "ranker_items"), None
        if delta is not None and delta.dense.keys().isdisjoint(told):
            changed = [delta.rows[name][0] for name in told if name in delta.rows]
            touched = np.unique(np.concatenate([NO_ROWS, *changed]))
        first = weights["ranker_items"][:, FIRST]
        self._standing = standing_lists(weights["popularity"], first, self._standing, touched)
        self.standing = np.concatenate([one.rows for one in self._standing])

    def candidates(self, situation: Situation, scores: Array, parts: Spoken) -> tuple[RowIds, Past]:
        """The candidates' rows (C,), ascending, and the history; arguments as of `second_stage.revise`."""
        bundle = self.bundle
        steps = situation.steps
        if steps is None:
            types = {name: i + 1 for i, name in enumerate(bundle.types)}
            steps = encode_entries(situation.history, bundle.item_rows, types, bundle.config)
        past = past_of(steps, encode_since(situation.history, situation.at_ms))
        alike = alike_of(bundle.weights["ranker_alike"], past.rows)
        spoken = [(parts[name], kind) for name, kind in self.experts if kind is not None]
        known = [(one.at(slice(None)) if isinstance(one, Weighed) else one, kind) for one, kind in spoken]
        opinions = [values if kind == "all" or isinstance(values, Sparse) else Few(values) for values, kind in known]
        others, counts = np.concatenate([self.standing, alike]), bundle.weights["ranker_items"][:, POSITIVE]
        rows = candidates_of(scores, opinions, past.rows, others, counts)
        return rows[scores[rows] > CLOSED], past

    def facts(self, situation: Situation, scores: Array, parts: Spoken, rows: RowIds, past: Past) -> Array:
        """Facts (C, F) of the candidates `rows`; `past` is the history."""
        config, weights, at_ms = self.bundle.config, self.bundle.weights, situation.at_ms
        moment = AskedMoment(
            length=len(past.rows),
            since=encode_since(situation.history, at_ms),
            fresh=encode_fresh(situation.history, situation.session),
            time_ms=at_ms,
            landmark_ms=int(weights["ranker_landmark_ms"][0]),
            ahead_ms=clock_ahead_ms(at_ms, config.time_zone),
            told=told_of(config, named(situation.context, config.context_fields), situation.attributes),
        )
        said = np.array([said_at(parts[name], rows) for name, _ in self.experts])
        narrow, tables = self._facts <= self._narrow, ItemTables.of(weights)
        return facts_of(said, scores[rows], tables, past, rows, moment_of(moment), narrow=narrow)[:, : self._facts]

    def added(self, facts: Array, scores: Array, rows: RowIds, by_head: Mapping[int, np.float32] = NO_HEADS) -> Array:
        """What is added to the scores (C,) of candidates with these rows (C,) and facts (C, F), by these heads, too
        (`weighed`).
        """
        given, more = {**self._weights, FACTS: facts}, self.lifted(rows)
        if by_head:
            said, heads = _session(heads=True).run([SAID, BY_HEAD], given | self._head_weights)
            for head, weight in by_head.items():
                more += weight * heads[:, head]
        else:
            (said,) = _session().run([SAID], given)
        return added_to(scores, self.share * said + more, np.float32(1))

    @property
    def lift(self) -> np.float32:
        """How far new items are lifted."""
        lift: np.float32 = self.bundle.weights.get("ranker_lift", NOTHING)[0]
        return lift

    def lifted(self, rows: RowIds) -> Array:
        """What is added to candidates with these rows (C,) because they are new: (C,)."""
        new: Array = are_new(self.bundle.weights["ranker_items"][rows, POSITIVE])
        return self.lift * new.astype(np.float32)

    def weighed(self, objectives: Mapping[str, float]) -> dict[int, np.float32]:
        """How far each head is listened to: by what objectives weigh it, and by its share. Those that say nothing are
        left out.
        """
        found = {self.heads[name]: weight for name, weight in objectives.items() if name in self.heads}
        shares = self.bundle.weights["ranker_head_share"] if found else ()
        weighed = {head: np.float32(weight) * shares[head] for head, weight in found.items()}
        return {head: weight for head, weight in weighed.items() if weight}

    def drawn(self, facts: Array, scores: Array, spread: float) -> Array | str:
        """What each draw of the last layer adds to the revised scores (C,) of these candidates, (M, C); or why there is
        none. `spread` as in `posterior.drawn`.
        """
        factor = self.bundle.weights.get(POSTERIOR)
        if factor is None:
            return "no_posterior"
        (hidden,) = _session().run([HIDDEN], {**self._weights, FACTS: facts})
        return drawn(factor, hidden, scores, self.share, spread)

    @property
    def share(self) -> np.float32:
        """How far the network is listened to: 0 as long as it has not shown its worth."""
        share: np.float32 = self.bundle.weights["ranker_share"][0]
        return share


@cache
def _session(heads: bool = False) -> Any:
    """One of each for the process: runs of several threads do not disturb each other, and weights come with each."""
    from models.published.onnx_runtime import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(build_ranker_graph(heads), options, providers=["CPUExecutionProvider"])
