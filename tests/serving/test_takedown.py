"""What is taken down is in no list, of whatever kind and by whatever rule, with a model and without."""

from __future__ import annotations

from typing import get_args

import pytest

from headwater.events import Item
from headwater.surfaces import Surface, SurfaceKind
from serving.catalogue import Catalogue
from serving.popular import Popular
from serving.scorer import Scorer
from serving.scoring import Ask, score
from serving.surfaces import Surfaces
from tests.worlds.serving import CATALOGUE, FILMS, catalogue_entry, clicked, items_of, request, trained

NOW_MS = 2_000_000_100
COLD = [Item(item_id=f"cold-{number}", title=f"Film-{number}", categories=("odd",)) for number in range(6)]
ENDED = {"film-1": "removed", "film-4": "unavailable", "film-5": "expired", "cold-1": "removed", "cold-2": "expired"}
POPULAR = Popular({**{film: 20.0 - place for place, film in enumerate(FILMS)}, "cold-2": 30.0, "nobody-knows": 1.0}, 1)


@pytest.fixture(scope="module")
def scorers() -> dict[bool, Scorer]:
    learner = trained()
    for item in CATALOGUE:
        learner.observe_item(catalogue_entry(item))
    bundle = learner.publish(created_ms=1)
    found = {}
    for with_model in (True, False):
        scorer = found[with_model] = Scorer(Catalogue([*CATALOGUE, *COLD]), "cpu")
        if with_model:
            scorer.load(bundle.copy(), 0)
        for item_id, how in ENDED.items():
            item = scorer.catalogue.get(item_id)
            assert item is not None
            if how == "removed":
                scorer.catalogue.remove(item_id)
            else:
                ended = {"available": False} if how == "unavailable" else {"expires_time": NOW_MS}
                scorer.catalogue.put(item.model_copy(update=ended))
    return found


def surface(kind: SurfaceKind, **fields: object) -> Surface:
    return Surface.model_validate({"kind": kind, "exclude_seen": (), "k": 20, **fields})


RULES: dict[str, dict[str, object]] = {
    "plain": {},
    "pins": {"pins": [{"item_id": item_id, "place": place + 1} for place, item_id in enumerate(ENDED)]},
    "boosts and shares": {
        "boosts": [{"filters": {"categories": "odd"}, "times": 1000}],
        "shares": [{"filters": {"categories": {"exists": True}}, "least": 1}],
        "max_per": {"year": 1},
        "diversity": 0.5,
    },
    "chance": {"explore": {"temperature": 5, "epsilon": 0.5, "new_items": 0.5}},
    "every fallback": {"fallbacks": ["similar", "trending", "new", "again", "popular", "for-you"]},
}


@pytest.mark.parametrize("kind", get_args(SurfaceKind))
@pytest.mark.parametrize("rules", RULES)
def test_no_list_holds_what_was_taken_down(kind: SurfaceKind, rules: str, scorers: dict[bool, Scorer]) -> None:
    surfaces = Surfaces({"place": surface(kind, **RULES[rules])})
    asks = [
        Ask(request(surface="place"), []),
        Ask(request(surface="place", explain=True), clicked("film-1", "film-2", "film-3", "film-4")),
        Ask(request(surface="place", candidates=[*FILMS, *ENDED]), clicked("film-3")),
        Ask(request(surface="place", context_item="film-4", filters={"categories": "odd"}), clicked("film-5")),
    ]
    held: set[str] = set()
    for with_model, popular in ((True, POPULAR), (True, None), (False, POPULAR)):
        found = score(
            scorers[with_model], asks, now_ms=NOW_MS, exclude_seen=(), popular=popular, surfaces=surfaces
        ).answers
        for answer in found:
            held |= set(items_of(answer))
    assert held, "nothing was asked of it"
    assert not held & ENDED.keys()


def test_what_expires_is_listed_until_then(scorers: dict[bool, Scorer]) -> None:
    for at_ms, expected in ((NOW_MS - 1, {"film-5", "cold-2"}), (NOW_MS, set()), (NOW_MS - 1, {"film-5", "cold-2"})):
        ask = Ask(request(k=100), clicked("film-2"), at_ms=at_ms)
        (answer,) = score(scorers[True], [ask], now_ms=at_ms, exclude_seen=()).answers
        assert {one for one, how in ENDED.items() if how == "expired"} & set(items_of(answer)) == expected
