"""What the learner said of a query at its instant is what serving says by the version published then, alone or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headwater.errors import BundleError
from headwater.examples import CatalogueEntry, Example
from headwater.recommendations import Recommendation, Request
from models.config import ModelConfig
from models.learner import Learner, Scored
from models.published.bundle import Bundle
from models.published.parity import check_parity
from models.published.shadow import Asked, Shadow
from models.ranker.facts import ITEM, OF_OWN, OF_PAST, fact_names
from models.ranker.second import AskedQuery, Revision
from models.ranker.told import told_names
from serving.catalogue import Catalogue
from serving.ranker import Situation
from serving.scorer import Scorer, ServedModel
from serving.scoring import Ask, score
from serving.second_stage import asked_outputs, revise
from serving.serving_metrics import ServingMetrics
from tests.worlds.tastes import START_MS, parade, ring

SMALL = ModelConfig(
    width=8,
    block=8,
    initial_capacity=8,
    replay_windows=0,
    exclude_seen=("*",),
    context_fields=("device",),
    user_fields=("plan", "born"),
    time_zone="Asia/Kathmandu",
)
TOLD = ({"device": "app"}, {"plan": "family", "born": 1990.0})
SURE = 24.0


def told(examples: Sequence[Example]) -> list[Example]:
    """The same, every second of them with what an app may tell."""
    return [one._replace(context=TOLD[0], attributes=TOLD[1]) if i % 2 else one for i, one in enumerate(examples)]


def tell(learner: Learner, items: range) -> None:
    """What a catalogue tells of them; of every fifth nothing."""
    random = np.random.default_rng(items.start)
    for n in items:
        content = {
            "title": f"Number {n}",
            "categories": [f"c{n % 3}"],
            "attributes": {"price": 10.0 * n, "colour": "red"},
            "vectors": {"image": random.normal(size=20).tolist(), "sound": [1.0, -float(n)]},
        }
        learner.observe_item(CatalogueEntry(f"i{n}", content if n % 5 else None))


def taught(examples: Sequence[Example], config: ModelConfig = SMALL) -> Learner:
    """A learner that knows of a catalogue, whose ranker says something, and is listened to."""
    learner = Learner(config, seed=0)
    tell(learner, range(40))
    learner.learn(examples)
    ranker = learner.parts.ranker
    assert ranker is not None
    network, random = ranker.network, np.random.default_rng(1)
    for name in ("ranker_output_weight", "ranker_linear"):
        network.weights()[name][:] = random.normal(size=network.weights()[name].shape) / 2
    ranker.taste.weights()["ranker_taste"][:] += random.normal(size=ranker.taste.taste.shape) / 9
    network.gain[0] = SURE
    network.share[0] = 1.0
    ranker.heads.heads[:] = random.normal(size=ranker.heads.heads.shape) / 4
    ranker.heads.gain[:], ranker.heads.share[:] = SURE, 1.0
    return learner


def two_types(events: int) -> list[Example]:
    """The parade, with every third event a purchase."""
    return [
        one._replace(target=one.target._replace(type="view" if i % 3 else "purchase"))
        for i, one in enumerate(parade(events))
    ]


def bundle_of(learner: Learner) -> Bundle:
    bundle = learner.publish(created_ms=1, full=True)
    assert isinstance(bundle, Bundle)
    return bundle


def scorer_of(bundle: Bundle) -> Scorer:
    scorer = Scorer(Catalogue(), "cpu")
    scorer.load(bundle, 1)
    return scorer


def situation_of(example: Example) -> Situation:
    at_ms = example.target.time_ms
    return Situation(example.history, at_ms, context=example.context, attributes=example.attributes)


def ask_of(example: Example, **fields: Any) -> Ask:
    request = Request(user_id=example.user_id, context=example.context, exclude_seen=("*",), k=1000, **fields)
    return Ask(request, example.history, at_ms=example.target.time_ms, attributes=example.attributes)


def answers(scorer: Scorer, asks: Sequence[Ask]) -> list[Recommendation]:
    return score(scorer, asks, now_ms=START_MS, exclude_seen=("*",)).answers


def heard(learner: Learner, example: Example, monkeypatch: pytest.MonkeyPatch) -> tuple[Scored, list[Revision]]:
    """What the learner made of an example, and what its ranker said of it."""
    ranker, said = learner.parts.ranker, list[Revision]()
    assert ranker is not None
    ask = ranker.ask

    def listening(asked: AskedQuery, scores: Any) -> Revision:
        said.append(ask(asked, scores))
        return said[-1]

    with monkeypatch.context() as patch:
        patch.setattr(ranker, "ask", listening)
        (scored,) = learner.learn([example])
    return scored, said


@pytest.mark.parametrize("world", [ring, two_types])
def test_what_the_learner_said_at_an_instant_is_what_its_published_version_says(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = told(world(78))
    learner = taught(examples[:70], SMALL.model_copy(update={"block": 1}))
    names = fact_names([one.name for one in learner.parts.experts], told_names(SMALL))
    by_model = names.index("events")  # facts before it are of what experts say, in another arithmetic
    compared, moved, headed = 0, 0.0, 0
    for example in examples[70:]:
        tell(learner, range(20, 23))
        scorer = scorer_of(bundle_of(learner))
        shadow = Shadow(bundle_of(learner))
        scored, said = heard(learner, example, monkeypatch)
        if not said:
            continue
        (learned,) = said
        with scorer.live() as half:
            assert half is not None
            assert half.second is not None
            outputs = ["scores", *asked_outputs(half)]
            _, found = half.run([example.history], example.target.time_ms, outputs)
            parts = {name: one[0] for name, one in zip(outputs, found, strict=True)}
            scores = parts["scores"].copy()
            seen = {entry.item_id for entry in example.history}
            scores[[row for item, row in half.bundle.item_rows.items() if item in seen]] = -np.inf
            scores[[row for row, item in enumerate(half.bundle.items) if item is None]] = -np.inf
            rows, own = half.second.candidates(situation_of(example), scores, parts)
            facts = half.second.facts(situation_of(example), scores, parts, rows, own)
            assert rows.tolist() == learned.rows.tolist()
            assert facts.shape == learned.facts.shape == (len(rows), len(names))
            np.testing.assert_array_equal(facts[:, by_model:], learned.facts[:, by_model:])  # bit by bit
            np.testing.assert_allclose(facts, learned.facts, rtol=1e-4, atol=1e-4)
            same = half.second.added(learned.facts, learned.plain, learned.rows)
            np.testing.assert_allclose(same, learned.added, rtol=1e-5, atol=1e-5)
            revise(half, situation_of(example), scores, parts)
            np.testing.assert_allclose(scores[rows], learned.plain + learned.added, rtol=1e-4, atol=1e-4)
        moved += np.ptp(learned.added)
        (answer,) = answers(scorer, [ask_of(example)])
        ids = [one.item_id for one in answer.items]
        assert ids.index(example.target.item_id) + 1 == scored.headwater
        assert shadow.ranks([Asked(example, seen)]) == [scored.headwater]
        weighed = {"objectives": {example.target.type: 1.0, "finish": 1.0, "shown": 1.0}}
        (answer,) = answers(scorer, [ask_of(example, overrides=weighed)])
        ids = [one.item_id for one in answer.items]
        assert scored.headed in (0, ids.index(example.target.item_id) + 1)  # 0: of one type there is nothing to learn
        assert "unknown_objectives=finish" in answer.receipt.policy
        assert "shown" in next(one for one in answer.receipt.policy if one.startswith("young_objectives="))
        headed += scored.headed not in (0, scored.headwater)
        compared += 1
    assert compared > 3
    assert (headed > 1) == (world is two_types)
    assert moved > compared / 10
    assert {*OF_OWN, *OF_PAST} < {*names[by_model:]}
    assert learned.facts[:, by_model:].any()
    of_content = [f"{one} {what}" for one in ("kinds", "words", "vector 1") for what in ("like the history", "is told")]
    for name in (*of_content, "vector 2 liked by all", "number 1", "number 1, from the history", "recency of type 1"):
        assert np.ptp(learned.facts[:, names.index(name)]) > 0 or name == "recency of type 1"


def test_an_answer_has_the_same_bits_alone_and_in_any_company() -> None:
    examples = told(parade(100))
    scorer = scorer_of(bundle_of(taught(examples[:80])))
    asks = [ask_of(one, request_id=f"r{i}") for i, one in enumerate(examples[80:]) if one.history]
    together = [one.items for one in answers(scorer, asks)]
    assert [one.items for one in answers(scorer, asks[::-1])] == together[::-1]
    assert [answers(scorer, [ask])[0].items for ask in asks] == together


def test_deltas_bring_the_ranker_where_a_whole_bundle_would() -> None:
    examples = told(parade(120))
    learner = taught(examples[:80])
    scorer = scorer_of(bundle_of(learner))
    for begin in range(80, 110, 10):
        tell(learner, range(begin - 70, begin - 60))
        learner.learn(examples[begin : begin + 10])
        scorer.apply(learner.publish(created_ms=2), 2)  # type: ignore[arg-type]
    drawn = {"overrides": {"explore": {"by": "thompson"}}}
    asks = [ask_of(one, request_id="r", **more) for one in examples[110:] if one.history for more in ({}, drawn)]
    followed = [one.items for one in answers(scorer, asks)]
    assert followed == [one.items for one in answers(scorer_of(bundle_of(learner)), asks)]


def test_a_network_that_its_graph_does_not_repeat_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of(taught(told(parade(60))))
    assert check_parity(bundle) < 1e-4
    monkeypatch.setattr("models.ranker.network.WIDEST", 1.0)
    with pytest.raises(BundleError, match="the ranker's graph and network differ by"):
        check_parity(bundle)


def test_a_young_ranker_changes_no_bit_and_neither_does_none() -> None:
    examples = told(parade(100))
    young = Learner(SMALL, seed=0)
    young.learn(examples[:80])
    assert young.parts.ranker is not None
    young.parts.ranker.network.share[0] = 0.0
    none = Learner(SMALL.model_copy(update={"ranker": False}), seed=0)
    none.learn(examples[:80])
    asks = [ask_of(one, request_id="r") for one in examples[80:] if one.history]
    found, wanted = (answers(scorer_of(bundle_of(one)), asks) for one in (young, none))
    assert [one.items for one in found] == [one.items for one in wanted]
    drawn = ask_of(examples[-1], request_id="r", overrides={"explore": {"by": "thompson"}})
    for learner, why in ((young, "no_share"), (none, "no_ranker")):
        answer = answers(scorer_of(bundle_of(learner)), [drawn])[0]
        assert answer.items == found[-1].items
        assert f"not_explored={why}" in answer.receipt.policy


def test_a_model_of_a_release_without_a_posterior_is_served_and_not_explored_by_it() -> None:
    bundle = bundle_of(taught(parade(60)))
    del bundle.weights["ranker_posterior"]
    example = next(one for one in reversed(parade(60)) if one.history)
    plain, drawn = answers(
        scorer_of(bundle),
        [ask_of(example), ask_of(example, overrides={"explore": {"by": "thompson", "temperature": 9}})],
    )
    assert drawn.items == plain.items
    assert "not_explored=no_posterior" in drawn.receipt.policy


def test_context_and_attributes_move_what_is_said_and_others_do_not() -> None:
    examples = parade(80)
    scorer = scorer_of(bundle_of(taught(told(examples))))
    example = next(one for one in reversed(examples) if one.history)

    def scores(context: dict[str, Any], attributes: dict[str, Any]) -> list[float]:
        asked = ask_of(example._replace(context=context, attributes=attributes), request_id="r")
        return [one.score for one in answers(scorer, [asked])[0].items]

    plain = scores({}, {})
    assert scores({"page": "home"}, {"city": "Porto"}) == plain
    assert scores({"device": ""}, {}) != plain
    assert scores({"device": "app"}, {}) != plain
    assert scores({}, {"plan": "family"}) != plain
    assert scores({"device": "x" * 256 + "y"}, {}) == scores({"device": "x" * 256}, {})


def test_what_is_no_number_is_left_out_and_counted_and_candidates_are_too() -> None:
    examples = told(parade(100))
    bundle = bundle_of(taught(examples[:90]))
    scorer = scorer_of(bundle)
    asks = [ask_of(one, request_id="r") for one in examples[90:] if one.history]
    answers(scorer, asks)
    assert scorer.seen.requests == len(asks)
    assert 0 < scorer.seen.candidates <= 300 * len(asks)
    with scorer.live() as half:
        assert isinstance(half, ServedModel)
        half.bundle.weights["ranker_linear"][:] = 3e38
        half.bundle.weights["ranker_hidden_weight"][:] = -3e38
        half.bundle.weights["ranker_output_weight"][:] = 3e38
    registry = CollectorRegistry()
    ServingMetrics(registry, scorer)
    assert all(np.isfinite([item.score for item in one.items]).all() for one in answers(scorer, asks))
    text = generate_latest(registry).decode()
    assert f"headwater_second_stage_requests {2.0 * len(asks)}" in text
    assert "headwater_second_stage_candidates " in text


@pytest.mark.parametrize(
    "name",
    [
        "ranker_items",
        "ranker_alike",
        "ranker_mean",
        "ranker_hidden_weight",
        "ranker_share",
        "ranker_heads",
        "ranker_content",
        "ranker_taste",
    ],
)
def test_weights_of_the_ranker_that_do_not_fit_together_are_refused(name: str) -> None:
    bundle = bundle_of(taught(parade(60), SMALL))
    assert len(ITEM) == bundle.weights["ranker_items"].shape[1]
    array = bundle.weights[name]
    bundle.weights[name] = np.concatenate([array, array], axis=-1)
    with pytest.raises(BundleError, match=name):
        scorer_of(bundle)


@pytest.mark.parametrize("said", [{"ranker_alike": 0.0}, {"ranker_alike": "no table"}, {"ranker_content": "no table"}])
def test_a_bundle_that_hides_which_tables_hold_rows_is_refused(said: dict[str, Any]) -> None:
    bundle = bundle_of(taught(parade(60), SMALL))
    tables = bundle.tables | said
    bundle.tables = {name: fill for name, fill in tables.items() if fill != "no table"}
    with pytest.raises(BundleError, match=next(iter(said))):
        scorer_of(bundle)
