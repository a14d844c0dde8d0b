"""The scorer and `score`: one version at a time, deltas equal to the whole, providers as asked, and known answers."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from headwater.errors import BundleError, Unavailable
from headwater.events import Item, session_number
from headwater.examples import Entry
from headwater.recommendations import Recommendation
from headwater.signals import Signal
from models.config import ModelConfig
from models.experts.popularity import UNSEEN
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.graph import outputs_of
from models.published.names import CUT
from models.published.onnx_runtime import onnxruntime
from models.published.opinions import said_by
from serving.catalogue import Catalogue
from serving.popular import Popular
from serving.runs import CPU, GraphRun
from serving.scorer import Scorer
from serving.scoring import Ask, ScoredBatch, score
from tests.worlds.serving import FILMS, SMALL, items_of, request, trained, walk

NOW_MS = 5_000_000_000


def bundle_of(learner: Learner, **options: Any) -> Bundle:
    made = learner.publish(created_ms=1, **options)
    assert isinstance(made, Bundle)
    return made


def delta_of(learner: Learner, films: list[str], number: int) -> Delta:
    walk(learner, f"more-{number}", films, 5000 + 100 * number)
    made = learner.publish(created_ms=2 + number)
    assert isinstance(made, Delta)
    return made


def scorer_with(bundle: Bundle, catalogue: Catalogue | None = None) -> Scorer:
    scorer = Scorer(catalogue or Catalogue(), "cpu")
    scorer.load(bundle, 100)
    return scorer


def history(*films: str) -> list[Entry]:
    return [Entry(film, "click", 2_000_000 + place, None) for place, film in enumerate(films)]


def answer(scorer: Scorer, stored: list[Entry] | None, **fields: Any) -> Recommendation:
    weights = fields.pop("popular", {})
    popular = Popular(dict(sorted(weights.items(), key=lambda one: -one[1])))
    return score(scorer, [Ask(request(**fields), stored)], now_ms=NOW_MS, exclude_seen=["*"], popular=popular).answers[
        0
    ]


def raw_scores(scorer: Scorer) -> np.ndarray[Any, np.dtype[np.float32]]:
    with scorer.live() as half:
        assert half is not None
        _, (scores,) = half.run([history(*FILMS[:3])], NOW_MS, ["scores"])
        return np.array(scores)


def test_what_follows_in_the_stream_is_recommended_first() -> None:
    scorer = scorer_with(bundle_of(trained()))
    assert items_of(answer(scorer, history("film-0", "film-1")))[0] == "film-2"
    assert len(items_of(answer(scorer, history("film-0", "film-1"), k=1000))) == len(FILMS) - 2


def test_an_answer_is_of_the_session_that_is_going_on() -> None:
    bundle = bundle_of(trained())
    bundle.weights["session_fresh"] += 0.5  # what a model has learned of sessions that begin
    scorer, stored = scorer_with(bundle), [one._replace(session=session_number("s1")) for one in history(*FILMS[:3])]
    unknown, same, new = (answer(scorer, stored, **told) for told in ({}, {"session_id": "s1"}, {"session_id": "s2"}))
    assert same.items == unknown.items
    assert [one.score for one in new.items] != [one.score for one in same.items]


def test_a_batch_answers_as_each_request_alone() -> None:
    scorer = scorer_with(bundle_of(trained()))
    histories = [history(*FILMS[start : start + 3]) for start in range(8)]
    asks = [Ask(request(k=5, request_id=f"r{i}"), stored) for i, stored in enumerate(histories)]
    together = score(scorer, asks, now_ms=NOW_MS, exclude_seen=["*"]).answers
    alone = [score(scorer, [ask], now_ms=NOW_MS, exclude_seen=["*"]).answers[0] for ask in asks]
    assert [items_of(one) for one in together] == [items_of(one) for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert [i.score for i in one.items] == pytest.approx([i.score for i in other.items], rel=1e-4, abs=1e-5)


def test_deltas_lead_to_the_very_scores_of_the_whole_bundle() -> None:
    learner = trained()
    scorer = scorer_with(bundle_of(learner))
    for number in range(4):
        new = [f"new-{number}-{i}" for i in range(6)]  # the capacity grows on the way
        scorer.apply(delta_of(learner, [*new, "film-1", "film-5"], number), 200 + number)
    whole = scorer_with(bundle_of(learner, full=True))
    assert scorer.version == 5
    assert scorer.published_ms == 203
    np.testing.assert_array_equal(raw_scores(scorer), raw_scores(whole))
    ids = set(items_of(answer(scorer, history("film-1"), k=1000)))
    assert {"new-3-5", "new-0-0", "film-5"} <= ids


def test_a_delta_may_name_places_of_vectors_instead_of_rows() -> None:
    learner = trained()
    first = bundle_of(learner)
    by_row, by_place = scorer_with(first.copy()), scorer_with(first)
    delta = delta_of(learner, ["film-1", "film-5"], 0)
    rows, values = delta.rows["item_vectors"]
    places = (rows[:, None] * values.shape[1] + np.arange(values.shape[1])).ravel()
    by_row.apply(delta, 0)
    by_place.apply(replace(delta, rows=delta.rows | {"item_vectors": (places, values.ravel())}), 0)
    np.testing.assert_array_equal(raw_scores(by_place), raw_scores(by_row))


def test_a_batch_sees_one_version_whole_while_deltas_apply() -> None:
    learner = trained()
    first = bundle_of(learner)
    deltas = [delta_of(learner, FILMS[::-1] if number % 2 else FILMS, number) for number in range(20)]
    reference = scorer_with(first.copy())
    expected = {1: raw_scores(reference)}
    for delta in deltas:
        reference.apply(delta, 0)
        expected[delta.version] = raw_scores(reference)
    scorer = scorer_with(first)
    seen: set[int] = set()
    torn: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with scorer.live() as half:
                assert half is not None
                version = half.bundle.version
                _, (scores,) = half.run([history(*FILMS[:3])], NOW_MS, ["scores"])
                scores = np.array(scores)
            seen.add(version)
            if not np.array_equal(scores, expected[version]):
                torn.append(version)

    reader = threading.Thread(target=read)
    reader.start()
    for delta in deltas:
        scorer.apply(delta, 0)
    done.set()
    reader.join()
    assert not torn
    assert len(seen) > 1


def test_a_delta_that_does_not_follow_changes_nothing() -> None:
    learner = trained()
    scorer = scorer_with(bundle_of(learner))
    before = raw_scores(scorer)
    delta_of(learner, FILMS, 1)
    with pytest.raises(BundleError, match="v3 follows on v2 but v1 is held"):
        scorer.apply(delta_of(learner, FILMS, 2), 0)
    np.testing.assert_array_equal(raw_scores(scorer), before)


def test_a_delta_with_nan_or_with_another_content_is_refused_and_the_next_good_one_applies() -> None:
    learner = trained()
    scorer = scorer_with(bundle_of(learner))
    good = delta_of(learner, FILMS, 1)
    name, (rows, values) = next((name, change) for name, change in good.rows.items() if change[1].dtype.kind == "f")
    poisoned = replace(good, rows={**good.rows, name: (rows, np.full_like(values, np.nan))})
    with pytest.raises(BundleError, match="NaN or infinite"):
        scorer.apply(poisoned, 0)
    forged = replace(good, rows={**good.rows, name: (rows, values + 1)})
    with pytest.raises(BundleError, match="digest"):
        scorer.apply(forged, 0)
    assert scorer.version == 1
    scorer.apply(good, 0)
    np.testing.assert_array_equal(raw_scores(scorer), raw_scores(scorer_with(bundle_of(learner, full=True))))


def test_a_version_that_could_be_written_only_half_way_answers_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    learner = trained()
    scorer = scorer_with(bundle_of(learner))
    with monkeypatch.context() as broken:
        broken.setattr(GraphRun, "bind", full)
        with pytest.raises(MemoryError):
            scorer.apply(delta_of(learner, FILMS, 0), 200)
    assert scorer.version is None
    assert answer(scorer, history("film-0"), popular={"film-9": 1.0}).receipt.model_version is None
    scorer.load(bundle_of(learner, full=True), 300)
    assert scorer.version == learner.version


def test_a_bundle_that_is_not_finite_is_refused() -> None:
    bundle = bundle_of(trained())
    next(array for array in bundle.weights.values() if array.dtype.kind == "f").flat[0] = np.inf
    with pytest.raises(BundleError, match="NaN or infinite"):
        scorer_with(bundle)


def cut_short(graph: bytes, output: str) -> bytes:
    """The graph with the last row of one of its outputs left out."""
    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"whole_{name}" if name == output else name for name in names]
    ends = {"cut_from": 0, "cut_before": -1, "cut_axis": 1}
    model.graph.initializer.extend(onnx.helper.make_tensor(name, 7, [1], [at]) for name, at in ends.items())
    model.graph.node.append(onnx.helper.make_node("Slice", [f"whole_{output}", *ends], [output]))
    (told,) = (one for one in model.graph.output if one.name == output)
    told.type.tensor_type.shape.dim[1].dim_param = "fewer"
    return model.SerializeToString()


def test_a_bundle_whose_graph_says_less_than_of_all_rows_is_refused() -> None:
    bundle = bundle_of(trained())
    for name in ("scores", "few_returns"):
        with pytest.raises(BundleError, match=f"its graph gives {name} as"):
            scorer_with(replace(bundle, graph=cut_short(bundle.graph, name)))


def test_scores_that_are_not_finite_are_counted_and_never_recommended() -> None:
    bundle = bundle_of(trained())
    scorer = scorer_with(bundle)
    bundle.weights["item_bias"][bundle.item_rows["film-4"]] = np.nan  # past every check, as a fault of memory would be
    scored: ScoredBatch = score(scorer, [Ask(request(k=100), history("film-0"))], now_ms=NOW_MS, exclude_seen=["*"])
    assert scored.not_finite >= 1
    assert "film-4" not in items_of(scored.answers[0])
    assert len(scored.answers[0].items) == len(FILMS) - 2


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """ONNX Runtime's sessions in the order in which they are made."""
    made: list[Any] = []
    real = onnxruntime.InferenceSession

    def noted(*arguments: Any, **options: Any) -> Any:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    return made


def test_a_new_bundle_of_the_same_graph_keeps_the_session(sessions: list[Any]) -> None:
    learner = trained()
    scorer = scorer_with(bundle_of(learner))
    before = len(sessions)
    assert before >= 1
    scorer.load(bundle_of(learner, full=True), 7)
    assert len(sessions) == before
    assert scorer.version == 2


def test_the_provider_reported_is_the_one_that_runs(sessions: list[Any]) -> None:
    from serving.scorer import cuda_is_there

    scorer = Scorer(Catalogue(), "auto")
    scorer.load(bundle_of(trained()), 1)
    assert scorer.provider == sessions[-1].get_providers()[0]
    assert (scorer.provider == CPU) is not cuda_is_there()


def test_cuda_demanded_and_absent_is_an_error() -> None:
    from serving.scorer import cuda_is_there

    if cuda_is_there():
        pytest.skip("there is a GPU here")
    with pytest.raises(Unavailable, match=r"HEADWATER_SERVING__PROVIDER=cpu"):
        Scorer(Catalogue(), "cuda")


@pytest.mark.parametrize("config", [SMALL, ModelConfig()], ids=["small", "default"])
def test_what_a_history_gets_does_not_depend_on_its_batch(config: ModelConfig) -> None:
    scorer = scorer_with(bundle_of(trained(config=config)))
    others = [history(*FILMS[first : first + 4]) for first in range(8)]
    with scorer.live() as half:
        assert half is not None
        outputs = outputs_of(half.bundle.config)
        for length in (1, 2, 3, 6, 7, 11, 13):
            asked = history(*FILMS[:length])
            _, alone = half.run([asked], NOW_MS + 977 * length, outputs)
            for size in (2, 3, 5, 7, 8, 9, 12, 32):
                for place in (0, size // 2, size - 1):
                    batch = [*(others * 4)[:place], asked, *(others * 4)[: size - 1 - place]]
                    _, together = half.run(batch, NOW_MS + 977 * length, outputs)
                    for one, many in zip(alone, together, strict=True):
                        assert one[0].tobytes() == many[place].tobytes(), (length, size, place)


@pytest.mark.parametrize("changes", [{}, {"encoder": "attention"}, {"experts": {"newness": {}}}, {"repeats": False}])
def test_loops_between_the_halves_of_a_graph_say_what_its_nodes_would(changes: dict[str, Any]) -> None:
    bundle = bundle_of(trained(config=SMALL.model_copy(update=changes)))
    bundle.weights["popularity"][bundle.item_rows["film-3"]] = UNSEEN  # closed, and in a history
    scorer, told = (
        scorer_with(bundle),
        [history(*FILMS[:6], "film-1", "film-5"), history(*FILMS[2:5]), [], history("x")],
    )
    told[0][-1] = told[0][-1]._replace(type="buy", time_ms=2_900_000)
    now, names = [NOW_MS, 2_000_500, NOW_MS, 0], outputs_of(bundle.config)
    whole = onnxruntime.InferenceSession(bundle.graph, providers=[CPU])
    expected = said_by(whole, bundle, names, told, now)
    with scorer.live() as half:
        assert half is not None
        _, found = half.run(told, now, names)
    shut = [row for row, item in enumerate(bundle.items) if item is None or item == "film-3"]
    for name, values in zip(names, found, strict=True):
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=2e-6, err_msg=name)
    assert (found[0][:, shut] == np.float32(UNSEEN)).all()


def test_a_graph_that_misplaces_where_it_can_be_cut_is_refused() -> None:
    bundle = bundle_of(trained())
    for places in ("{}", '{"hidden": "since"}', "no JSON"):
        model = onnx.load_from_string(bundle.graph)
        next(one for one in model.metadata_props if one.key == CUT).value = places
        with pytest.raises(BundleError, match="graph cannot be read"):
            scorer_with(replace(bundle, graph=model.SerializeToString()))
    model = onnx.load_from_string(bundle.graph)
    told = next(one for one in model.metadata_props if one.key == CUT)
    told.value = told.value.replace('"encoded"', '"trust_slow"')
    with pytest.raises(BundleError, match="should be"):
        scorer_with(replace(bundle, graph=model.SerializeToString()))


def test_without_a_model_the_catalogue_is_ranked_by_popularity() -> None:
    scorer = Scorer(Catalogue([Item(item_id="a"), Item(item_id="b"), Item(item_id="c", available=False)]), "cpu")
    found = answer(scorer, [], popular={"b": 2.0, "new": 5.0, "c": 9.0}, explain=True)
    assert items_of(found) == ["new", "b", "a"]
    assert [item.reasons for item in found.items] == [("popular now",), ("popular now",), ("in the catalogue",)]
    assert found.receipt.fallback == "no_model"
    assert found.receipt.model_version is None


def test_without_history_popularity_ranks_and_without_features_the_models_own() -> None:
    scorer = scorer_with(bundle_of(trained()))
    assert items_of(answer(scorer, [], popular={"film-9": 3.0}, k=1)) == ["film-9"]
    assert answer(scorer, [], popular={"film-9": 3.0}).receipt.fallback == "no_history"
    strange = answer(scorer, history("new"), popular={"film-9": 3.0})
    assert (strange.receipt.fallback, items_of(strange)[0]) == ("unknown_history", "film-9")
    assert answer(scorer, history("new", "film-3"), popular={"film-9": 3.0}).receipt.fallback is None
    blind = answer(scorer, None, k=3)
    assert blind.receipt.fallback == "no_features"
    assert len(blind.items) == 3


def test_a_refused_request_leaves_the_rest_of_its_batch_alone() -> None:
    scorer = scorer_with(bundle_of(trained()))
    asks = [Ask(request(filters={"year": 1}), []), Ask(request(k=1), history("film-3"))]
    refused, fine = score(scorer, asks, now_ms=NOW_MS, exclude_seen=["*"]).answers
    assert refused.error is not None
    assert refused.error.code == "unknown_field"
    assert items_of(fine) == ["film-4"]


def test_reasons_name_the_item_that_led_there() -> None:
    catalogue = Catalogue([Item(item_id="film-7", title="The Seventh Seal")])
    scorer = scorer_with(bundle_of(trained()), catalogue)
    stored = [Entry("film-1", "view", 1, None), Entry("film-7", "rating", 2, 5.0)]
    found = answer(scorer, stored, k=1, explain=True)
    assert items_of(found) == ["film-8"]
    assert found.items[0].reasons[0] == "because you rated The Seventh Seal"
    assert all(not item.reasons for item in answer(scorer, stored).items)


def test_nothing_is_recommended_because_of_what_was_turned_down() -> None:
    stars = Signal(positive=">= 4", negative="<= 2")
    learner = Learner(ModelConfig(**{**SMALL.model_dump(), "signals": {"rating": stars}}), seed=1)
    for number in range(8):
        walk(learner, f"walker-{number}", [f"{'ab'[number % 2]}{n}" for n in range(10)], first=number * 1000)
    scorer = scorer_with(bundle_of(learner))
    for kind, value in (("dismiss", None), ("rating", 1.0)):
        stored = [Entry(f"{'ab'[n % 2]}{n}", kind, 2_000_000 + n, value) for n in range(8)]
        reasons = [reason for item in answer(scorer, stored, k=12, explain=True).items for reason in item.reasons]
        assert reasons
        assert not [reason for reason in reasons if "because" in reason or "choice" in reason]


def test_reasons_name_what_was_turned_down_where_the_list_would_be_another_one_without_it_and_nowhere_else() -> None:
    learner = Learner(SMALL, seed=1)
    for number in range(8):
        walk(learner, f"walker-{number}", [f"{'ab'[number % 2]}{n}" for n in range(10)], first=number * 1000)
    scorer = scorer_with(bundle_of(learner), Catalogue([Item(item_id=f"b{n}", title=f"Bees {n}") for n in (2, 3, 4)]))
    clicked = history("a0", "b0", "a1", "b1")
    turned_down = [Entry(f"b{n}", "dismiss", 2_000_100 + n, None) for n in (2, 3, 4)]

    def told(stored: list[Entry], **fields: Any) -> dict[str, list[str]]:
        found = answer(scorer, stored, explain=True, **fields).items
        return {item.item_id: [reason for reason in item.reasons if "instead" in reason] for item in found}

    without = told(clicked, k=4, exclude=["b2", "b3", "b4"])
    assert not any(without.values())
    with_all = told([*clicked, *turned_down], k=4)
    new = with_all.keys() - without.keys()
    assert new == {item for item, reasons in with_all.items() if reasons} != set()
    assert {item[0] for item in new} == {"a"}
    (reason,) = {reason for reasons in with_all.values() for reason in reasons}
    assert re.fullmatch(r"instead of more like Bees [234], which you dismissed", reason)
    everything = told([*clicked, *turned_down], k=100)  # all are in this list, with or without it
    assert not any(everything.values())
