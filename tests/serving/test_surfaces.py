"""Surfaces: what each kind lists, what fills a short list, how names are resolved, and the examples of the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from headwater.errors import InvalidMessage, SettingsError
from headwater.events import Item
from headwater.examples import Entry
from headwater.experiments import dealt_in
from headwater.recommendations import Recommendation
from headwater.settings import read_surfaces
from headwater.surfaces import DEFAULT_SURFACE, Surface, SurfaceKind
from headwater.wire import decode_recommendation, decode_request, decode_surface_record, encode
from models.learner import Learner
from serving.catalogue import Catalogue
from serving.exposures import exposure_of
from serving.popular import Popular
from serving.scorer import Scorer
from serving.scoring import Ask, score
from serving.surfaces import Surfaces
from tests.worlds.serving import FILMS, SMALL, clicked, items_of, request, trained, walk

NOW_MS = 5_000_000_000_000
HOUR_MS = 3_600_000
POPULAR = Popular({"film-9": 3.0, "film-2": 2.0, "heard-of": 1.0}, NOW_MS)
HISTORY = clicked("film-2", "film-3")
KINDS = get_args(SurfaceKind)
DOCS = Path(__file__).parents[2] / "docs/surfaces.md"


def item(number: int, **fields: Any) -> Item:
    odd = number % 2
    attributes = {
        "in_stock": number != 7, "seller": f"seller-{number % 5}", "margin": number / 10, "price": 4.0 + number,
        "region": "north" if odd else "south", "desk": f"desk-{number % 4}",
    }  # fmt: skip
    given: dict[str, Any] = {
        "title": f"Film {number}", "categories": ("odd" if odd else "even",), "attributes": attributes,
        "published_time": NOW_MS - (number + 1) * HOUR_MS,
    }  # fmt: skip
    return Item(item_id=f"film-{number}", **given | fields)


COLD = [Item(item_id="summer-sale", categories=("odd",), attributes={"in_stock": True}, published_time=NOW_MS)]


@pytest.fixture(scope="module")
def learner() -> Learner:
    return trained()


@pytest.fixture(scope="module")
def scorer(learner: Learner) -> Scorer:
    made = Scorer(Catalogue([*(item(number) for number in range(len(FILMS))), *COLD]), "cpu")
    made.load(learner.publish(created_ms=1, full=True), 100)  # type: ignore[arg-type]
    return made


def ask(
    scorer: Scorer,
    surface: Surface | None,
    history: list[Entry] | None = HISTORY,
    popular: Popular = POPULAR,
    **fields: Any,
) -> Recommendation:
    surfaces = Surfaces({} if surface is None else {"here": surface})
    asked = request(**({} if surface is None else {"surface": "here"}) | fields)
    answers = score(
        scorer, [Ask(asked, history)], now_ms=NOW_MS, exclude_seen=["*"], popular=popular, surfaces=surfaces
    ).answers
    return answers[0]


def test_similar_is_what_goes_with_the_item_on_the_page_and_a_person_changes_the_order(scorer: Scorer) -> None:
    page = Surface(kind="similar", k=3)
    nobody = ask(scorer, page, [], user_id=None, context_item="film-5")
    assert items_of(nobody)[0] == "film-6"
    person = ask(scorer, page, clicked("film-9"), context_item="film-5")
    assert items_of(person)[0] in {"film-6", "film-10"}
    assert [one.score for one in person.items] != [one.score for one in nobody.items]
    assert items_of(ask(scorer, page))[0] == "film-4"  # no page: like the newest of the history
    cold = ask(scorer, page, [], context_item="summer-sale", explain=True)
    assert set(items_of(cold)) <= {film for number, film in enumerate(FILMS) if number % 2}
    assert cold.items[0].reasons == ("like summer-sale",)


def test_popular_is_by_the_store_and_by_the_model_where_nobody_asked_the_store(scorer: Scorer) -> None:
    assert items_of(ask(scorer, Surface(kind="popular", k=2))) == ["film-9", "heard-of"]  # film-2 is seen
    assert len(ask(scorer, Surface(kind="popular", k=4), popular=Popular()).items) == 4


def test_trending_is_what_grows_and_not_what_is_popular() -> None:
    learner = Learner(SMALL.model_copy(update={"popularity_half_lives_days": (14.0, 0.04)}), seed=1)
    for number in range(6):
        walk(learner, f"walker-{number}", ["old", "older"] * 4, first=number * 1000)
    day = 86_400
    walk(learner, "late", ["risen", "old", "risen", "risen"], first=30 * day)
    scorer = Scorer(Catalogue(), "cpu")
    scorer.load(learner.publish(created_ms=1), 100)  # type: ignore[arg-type]
    answer = ask(scorer, Surface(kind="trending", fallbacks=()), [])
    assert items_of(answer) == ["risen"]
    assert items_of(ask(scorer, Surface(kind="popular", k=1), [], Popular())) != ["risen"]


def test_new_is_the_newest_first_and_what_the_person_likes_climbs(scorer: Scorer) -> None:
    newest = ["summer-sale", "film-0", "film-1", "film-2", "film-3"]
    assert items_of(ask(scorer, Surface(kind="new", k=5), [])) == newest
    mine = items_of(ask(scorer, Surface(kind="new", k=12), clicked("film-3")))
    assert mine.index("film-4") < 4


def test_again_is_ones_own_and_what_was_turned_down_is_not(scorer: Scorer) -> None:
    history = [*HISTORY, Entry("film-6", "dismiss", 2_000_000_010, None), *clicked("never-heard-of")]
    answer = ask(scorer, Surface(kind="again", k=4, fallbacks=()), history)
    assert sorted(items_of(answer)) == ["film-2", "film-3"]
    filled = ask(scorer, Surface(kind="again", k=4), history, explain=True)
    assert sorted(items_of(filled)[:2]) == ["film-2", "film-3"]
    assert items_of(filled)[2] == "film-9"
    assert "fill=popular:2" in filled.receipt.policy
    assert [one.reasons for one in filled.items[1:3]] == [("you come back to it",), ("popular now",)]
    assert (answer.receipt.exclude_seen, filled.receipt.exclude_seen) == ((), ("*",))
    assert ("seen_kept=again" in filled.receipt.policy, "seen_kept=again" in answer.receipt.policy) == (True, False)
    none = ask(scorer, Surface(kind="again", exclude_seen=("click",), fallbacks=()), history)
    assert (none.items, none.receipt.exclude_seen, none.receipt.policy) == ((), ("click",), ("exact",))


def test_again_loses_no_item_as_seen_and_why_not_says_so(scorer: Scorer) -> None:
    for surface in (Surface(kind="again", k=1), Surface(kind="similar", k=1, fallbacks=("again",))):
        answer = ask(scorer, surface, clicked(*FILMS), why_not="film-2")
        assert answer.why_not is not None
        assert (answer.why_not.stage, "seen" in answer.why_not.text) == ("rank", False)
    told = ask(scorer, Surface(kind="again", exclude_seen=("click",)), why_not="film-2").why_not
    assert told is not None
    assert told.stage == "excluded"


@pytest.mark.parametrize(("rounds", "few"), [(4, len(FILMS) + 2), (8, 2)])
@pytest.mark.parametrize("kind", ["for-you", "popular"])
def test_new_to_a_guest_is_what_had_few_events_and_nothing_else(kind: SurfaceKind, rounds: int, few: int) -> None:
    scorer = Scorer(Catalogue([*(item(number) for number in range(len(FILMS))), *COLD]), "cpu")
    scorer.load(trained(rounds=rounds).publish(created_ms=1, full=True), 100)  # type: ignore[arg-type]
    answer = ask(scorer, Surface(kind=kind, k=1, explore={"new_items": 1.0}), [])
    assert answer.items[0].propensity == pytest.approx(1 / few)


def test_because_you_is_rows_with_titles_and_no_item_twice(scorer: Scorer) -> None:
    answer = ask(scorer, Surface(kind="because-you", k=3, rows=3), popular=Popular())
    assert [(row.title, row.because, row.first, row.count) for row in answer.rows] == [
        ("Because you clicked Film 3", "film-3", 1, 3),
        ("Because you clicked Film 2", "film-2", 4, 3),
        ("Popular now", None, 7, 3),
    ]
    assert len(set(items_of(answer))) == 9
    assert [one.rank for one in answer.items] == list(range(1, 10))
    stranger = ask(scorer, Surface(kind="because-you", k=3), [])
    assert [row.title for row in stranger.rows] == ["Popular now"]
    assert stranger.receipt.fallback == "no_history"


RAISED = ({"filters": {"item": "other"}, "times": 1000},) * 5 + ({"filters": {"item": "own"}, "times": 1e-300},)


@pytest.mark.parametrize(
    "changed", [{"boosts": RAISED}, {"diversity": 1}, {"boosts": RAISED, "explore": {"temperature": 9, "epsilon": 0.9}}]
)
def test_a_fallback_comes_after_the_kind_before_it_whatever_is_said(learner: Learner, changed: dict[str, Any]) -> None:
    own = ("film-2", "film-3", "film-4")
    items = [item(n, attributes={"item": "own" if film in own else "other"}) for n, film in enumerate(FILMS)]
    here = Scorer(Catalogue(items), "cpu")
    here.load(learner.publish(created_ms=1, full=True), 100)  # type: ignore[arg-type]
    answer = ask(here, Surface(kind="again", k=8, fallbacks=("new", "popular"), **changed), clicked(*own))
    assert set(items_of(answer)[:3]) == set(own)
    assert "fill=new:5" in answer.receipt.policy


@pytest.mark.parametrize("kind", KINDS)
def test_a_pin_has_its_place_in_a_list_of_any_kind_and_in_the_first_of_several_rows(
    scorer: Scorer, kind: SurfaceKind
) -> None:
    pins = [{"item_id": "summer-sale", "place": 2}, {"item_id": "film-7", "place": 1}, {"item_id": "gone", "place": 3}]
    for fallbacks in ((), ("new", "popular")):
        policy = Surface(kind=kind, k=3, pins=pins, fallbacks=fallbacks, filters={"price": {"not": 11}})
        answer = ask(scorer, policy, explain=True)
        listed = items_of(answer)
        assert ("film-7" in listed, listed.count("summer-sale")) == (False, 1)
        assert listed.index("summer-sale") == min(1, len(listed) - 1), listed
        assert "pins_missing=1,3" in answer.receipt.policy
        assert len(answer.rows) == (0 if kind != "because-you" else 2 if fallbacks == () else 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("history", [HISTORY, [], None, clicked("unheard-of")])
@pytest.mark.parametrize("modelled", [True, False])
def test_every_kind_has_a_list_for_everybody_and_holds_its_rules(
    scorer: Scorer, kind: SurfaceKind, history: list[Entry] | None, modelled: bool
) -> None:
    one = scorer if modelled else Scorer(scorer.catalogue, "cpu")
    policy = Surface(kind=kind, k=4, filters={"price": {"gte": 6}}, max_per={"desk": 2}, fallbacks=("new", "popular"))
    answer = ask(one, policy, history, exclude=["film-9"])
    assert answer.error is None
    assert answer.items
    assert not {"film-0", "film-1", "film-9", "heard-of", "summer-sale"} & set(items_of(answer))
    runs = [items_of(answer)[row.first - 1 :][: row.count] for row in answer.rows] or [items_of(answer)]
    for run in runs:
        desks = [int(film.removeprefix("film-")) % 4 for film in run]
        assert max(map(desks.count, desks)) <= 2
    assert answer.receipt.surface_version == policy.version
    assert policy.version == Surface(**policy.model_dump(exclude_defaults=True), explore={}).version


def test_an_empty_list_tells_that_no_item_has_what_its_surface_asks_for(scorer: Scorer) -> None:
    answer = ask(scorer, Surface(filters={"prise": {"gte": 6}}))
    assert (answer.error, answer.items) == (None, ())
    assert "unknown_fields=filters" in answer.receipt.policy
    assert "unknown_fields=filters" not in ask(scorer, Surface(filters={"price": {"gte": 600}})).receipt.policy


def test_without_a_surface_answers_are_what_they_were(scorer: Scorer) -> None:
    plain, default = ask(scorer, None), ask(scorer, DEFAULT_SURFACE)
    assert plain.items == default.items
    assert (plain.receipt.surface, plain.receipt.surface_version, plain.rows) == (None, None, ())
    absent = (b'"surface"', b'"surface_version"', b'"rows"', b'"propensity"')
    assert not any(word in encode(plain) for word in absent)
    assert decode_recommendation(encode(plain)) == plain


def test_a_request_says_otherwise_than_its_surface(scorer: Scorer) -> None:
    policy = Surface(k=3, exclude_seen=())
    assert len(ask(scorer, policy).items) == 3
    assert len(ask(scorer, policy, k=2).items) == 2
    assert "film-3" in items_of(ask(scorer, policy, k=12))
    assert "film-3" not in items_of(ask(scorer, policy, k=12, exclude_seen=["*"]))
    other = ask(scorer, policy, overrides={"kind": "again", "k": 1})
    assert len(other.items) == 1
    assert other.receipt.surface_version == policy.changed({"kind": "again", "k": 1}).version
    assert ask(scorer, None, overrides={"k": 2}).receipt.surface_version == Surface(k=2).version


def test_an_experiment_answers_each_person_by_her_variant_and_says_which(scorer: Scorer) -> None:
    long = {"name": "long", "variants": {"long": {"share": 0.5, "overrides": {"k": 4, "kind": "popular"}}}}
    policy = Surface.model_validate({"k": 2, "experiment": long})
    assert policy.experiment is not None
    told = {}
    for user in ("ann", "bob", "cyd", "dan", "eve", "fay"):
        answer = ask(scorer, policy, user_id=user)
        variant = str(answer.receipt.variant)
        assert (answer.receipt.experiment, variant) == ("long", policy.experiment.variant_of(user))
        assert answer.receipt.surface_version == policy.variants[variant].version
        assert len(answer.items) == {"control": 2, "long": 4}[variant]
        told[variant] = user, answer
        own = ask(scorer, policy, user_id=user, overrides={"k": 1})
        assert (own.receipt.variant, len(own.items)) == (variant, 1)
    assert set(told) == {"control", "long"}
    for user, answer in told.values():
        shown = exposure_of(request(user_id=user, context={"device": "tv"}), answer)
        assert shown.properties is not None
        assert dealt_in(shown.properties) == ("long", answer.receipt.variant)
        assert shown.properties["device"] == "tv"
    for fields in ({"user_id": None, "context_item": "film-5"}, {"overrides": {"experiment": None}}):
        out = ask(scorer, policy, **fields)
        assert (out.receipt.experiment, out.receipt.variant, len(out.items)) == (None, None, 2)
        assert "variant" not in encode(out).decode()
    refused = ask(scorer, policy, overrides={"experiment": {**long, "name": "mine"}}).error
    assert refused is not None
    assert (refused.code, "a request makes none" in refused.message) == ("bad_surface", True)


def test_overrides_that_one_variant_does_not_take_are_refused_with_its_name(scorer: Scorer) -> None:
    drawn = {"name": "drawn", "variants": {"drawn": {"share": 0.5, "overrides": {"explore": {"by": "thompson"}}}}}
    policy = Surface.model_validate({"experiment": drawn})
    refused = {user: ask(scorer, policy, user_id=user, overrides={"kind": "popular"}).error for user in ("ann", "bob")}
    assert policy.experiment is not None
    for user, error in refused.items():
        if policy.experiment.variant_of(user) == "control":
            assert error is None
        else:
            assert error is not None
            assert error.message.startswith("in variant drawn of experiment drawn: overrides: explore.by = 'thompson'")
    assert len({error is None for error in refused.values()}) == 2


def test_what_cannot_be_resolved_is_refused_by_name_and_the_others_are_answered(scorer: Scorer) -> None:
    surfaces = Surfaces({"home": Surface(), "product": Surface()})
    asks = [
        Ask(request(surface="hone"), HISTORY),
        Ask(request(surface="home", overrides={"diversty": 1}), HISTORY),
        Ask(request(overrides={"filters": {"price": {"above": 3}}}), HISTORY),
        Ask(request(surface="home"), HISTORY),
    ]
    answers = score(scorer, asks, now_ms=NOW_MS, exclude_seen=["*"], surfaces=surfaces).answers
    told = [(one.error.code, one.error.message) for one in answers if one.error is not None]
    assert [code for code, _ in told] == ["unknown_surface", "bad_surface", "bad_surface"]
    assert "There are: home, product. Did you mean home?" in told[0][1]
    assert "diversty: Extra inputs are not permitted. Did you mean diversity? (docs/surfaces.md)" in told[1][1]
    assert "filters.price" in told[2][1]
    assert answers[3].items
    none_yet = score(scorer, asks[:1], now_ms=NOW_MS, exclude_seen=["*"]).answers[0].error
    assert none_yet is not None
    assert "headwater surfaces set" in none_yet.message


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"diversity": True}, "diversity: Input should be a valid number"),
        ({"k": "5"}, "k: Input should be a valid integer"),
        ({"explore": {"epsilon": True}}, "explore.epsilon: Input should be a valid number"),
        ({"explore": "thompson"}, "explore: Input should be an object of names and values"),
        ({"exclude_seen": "purchase"}, "exclude_seen: Input should be a list"),
    ],
)
def test_a_number_is_a_number_and_whatever_is_none_is_refused_in_words_of_json(said: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=f"^overrides: {told} "):
        Surface().changed(said)


def test_the_topic_takes_the_place_of_the_settings_and_gives_it_back() -> None:
    surfaces = Surfaces({"home": Surface(k=1)})
    surfaces.put("home", Surface(k=2))
    surfaces.put("other", Surface(k=3))
    assert {name: one.k for name, one in surfaces.named.items()} == {"home": 2, "other": 3}
    surfaces.remove("home")
    surfaces.remove("other")
    surfaces.remove("never there")
    assert {name: one.k for name, one in surfaces.named.items()} == {"home": 1}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, b"{}", "null_key"),
        (b"", b"{}", "schema"),
        (b"\xff", b"{}", "undecodable"),
        (b"home", b"{", "undecodable"),
        (b"home", b"[]", "schema"),
        (b"home", b'{"kind": "nonsense"}', "schema"),
        (b"home", b'{"filters": {"price": {"above": 3}}}', "schema"),
        (b"home", b'{"max_per": {"seller": "much"}}', "schema"),
        (b"home", b'{"later_release": 1}', "schema"),
    ],
)
def test_a_record_that_is_no_surface_says_why(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        decode_surface_record(key, value, "surfaces[0]@7")
    assert refused.value.reason == reason
    assert "surfaces[0]@7" in str(refused.value)


def test_a_request_of_a_surface_need_not_be_for_anybody(scorer: Scorer) -> None:
    asked = decode_request(b'{"request_id": "r1", "surface": "here"}')
    surfaces = Surfaces({"here": Surface(kind="new")})
    answer = score(scorer, [Ask(asked)], now_ms=NOW_MS, exclude_seen=[], surfaces=surfaces)
    assert answer.answers[0].items[0].item_id == "summer-sale"
    with pytest.raises(InvalidMessage, match="whom for"):
        decode_request(b'{"request_id": "r1"}')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "says no surface"),
        ("diversty = 0.2", "home.diversty: .*Did you mean diversity.*docs/surfaces.md"),
        ("kind = 'for_yuo'", "Did you mean for-you"),
        ("[explore]\ntemp = 1", "Did you mean temperature"),
        ("[[boosts]]\nfilter = { a = 1 }\ntimes = 2", r"boosts.0.filter: .*Did you mean filters"),
        ("filters = { price = { gtee = 3 } }", 'Did you mean "gte"'),
        ("filters = { price = { '>=' = 3 } }", '">=" is "gte" here'),
        ("kind = ", "is not TOML"),
        ("kind = 'again'\nk = 0", "surfaces.home.k"),
        ("[surfaces.front]\nk = 1\n[home]\nk = 2", "stands beside"),
        ("[surfaces]", "says no surface"),
        ("[kafka]\nprefix = 'x'", "surfaces.home.kafka"),
        ("filters = { price = { gte = nan } }", "filters.price.gte: nan is no number of JSON"),
        ("filters = { price = [1, -inf] }", "is no number of JSON"),
        ("filters = { price = 99999999999999999999 }", "is no number of JSON"),
        ("filters = { published_time = { gte = 2026-06-01T00:00:00 } }", "2026-06-01 00:00:00 names no instant"),
        ("filters = { published_time = { gte = 2026-06-01 } }", "2026-06-01 names no instant"),
        (
            "filters = { or = [{ published_time = { gte = '2026-06-01' } }] }",
            r"or\[0\].published_time.gte: '2026-06-01'",
        ),
        ("filters = { not = { expires_time = { lt = 1780000000 } } }", "looks like seconds"),
        ("[[pins]]\nitem_id = 'a'\nplace = 1\nsince = 2026-06-01", "2026-06-01 names no instant"),
        ("[[pins]]\nitem_id = 'a'\nplace = 1\nuntil = 1780000000", "if it is seconds, send 1780000000000"),
        ("[[pins]]\nitem_id = 'a'\nplace = 1\nsince = 2000000000000\nuntil = 1900000000000", "would never hold"),
    ],
)
def test_a_file_that_says_no_surface_is_refused_before_anything_is_sent(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "home.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_surfaces(path)


def examples() -> list[tuple[str, str]]:
    blocks = re.findall(r"```toml\n# (\w+\.toml)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return [(f"{place}-{name}", body) for place, (name, body) in enumerate(blocks)]


@pytest.mark.parametrize(("name", "body"), examples())
def test_the_examples_of_the_docs_are_read_and_answer(scorer: Scorer, tmp_path: Path, name: str, body: str) -> None:
    path = tmp_path / name.split("-", 1)[1]
    path.write_text(body)
    for surface in read_surfaces(path).values():
        for history in (HISTORY, []):
            answer = ask(scorer, surface, history, context_item="film-5" if surface.kind == "similar" else None)
            assert answer.error is None
            assert answer.items or surface.kind == "again"
            if "in_stock" in surface.filters:
                assert "film-7" not in items_of(answer)
            assert len(answer.items) <= surface.k * surface.rows


def test_there_are_six_examples_and_one_of_an_experiment() -> None:
    assert {name.split("-", 1)[1] for name, _ in examples()} == {
        "home.toml", "product.toml", "front.toml", "feed.toml", "email.toml", "kiosk.toml",
        "variety.toml",
    }  # fmt: skip
