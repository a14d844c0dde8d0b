"""The page in a real Chromium, in front of a real broker and real workers; axe-core, from npm, looks at it too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse

from gateway.access import Caller, Denied, Keys, RateLimits
from gateway.page import lookup
from gateway.page.lookup import Lookup
from gateway.page.views import FILES, PAGE_OPERATIONS, PAGES, Views
from gateway.page.watch import Watch
from headwater.kafka import producer, read_topic
from headwater.kafka.sending import send_records
from headwater.privacy.audit_log import read_audit
from headwater.settings import GatewaySettings, KafkaSettings, Settings
from headwater.topics import SURFACES
from models.published.announcement import Announcement
from models.published.stores import open_store
from tests.gateway.fronts import Front, front
from tests.serving.test_follower import bundle_of
from tests.worlds.javascript import CLIENT, install
from tests.worlds.processes import eventually
from tests.worlds.publishing import LOG
from tests.worlds.serving import FILMS, trained, walk
from trainer.registry import Registry

HOSTILE = "<img src=x onerror=alert(1)>"
SHOWN = f"{HOSTILE}\ufffd"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def shop(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("page")
    workers = folder / "addresses.json"
    page = {"page": True, "needs_keys": False, "workers_file": workers, "backtests": folder / "backtests"}
    with front(kafka_address, redis_url, folder, "streams", "serving", **page) as made:
        gateway = f"http://127.0.0.1:{made.settings.gateway.port}"
        workers.write_text(json.dumps({"workers": {"gateway": gateway}}))
        items = [{"item_id": f"film-{number}", "title": f"Film {number}, The"} for number in range(14)]
        made.call("PUT", "/v1/items", [*items, {"item_id": "bad", "title": f"{HOSTILE}\u202e"}])
        made.call("POST", "/v1/events", [{"user_id": "crowd", "item_id": "film-0", "type": "click"}])
        eventually(lambda: made.call("POST", "/page/data/search", {"text": ""})[1]["of"] == 15)
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(DRIVER)) as driver:
        yield driver


def opened(browser: webdriver.Chrome, shop: Front, path: str) -> None:
    browser.get(f"http://127.0.0.1:{shop.settings.gateway.port}{path}")


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    """In one step: the page changes its elements meanwhile."""
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def press(browser: webdriver.Chrome, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def complaints(browser: webdriver.Chrome) -> list[Any]:
    return [one["message"] for one in browser.get_log("browser")]


def test_a_click_in_the_playground_changes_the_list(browser: webdriver.Chrome, shop: Front) -> None:
    opened(browser, shop, "/play")
    eventually(lambda: len(texts(browser, "#list .title")) == 10, 20, lambda: texts(browser, "#problem"))
    first = texts(browser, "#list .title")
    assert all(one.startswith("The Film") or one == SHOWN for one in first)
    browser.find_element(By.ID, "text").send_keys("onerror")
    eventually(lambda: texts(browser, "#cards .title") == [SHOWN], 10)
    assert texts(browser, "#cards .name-line .soft")[0].endswith("id bad")  # to look it up by
    press(browser, "#cards [aria-label^='Why not']")
    eventually(lambda: texts(browser, ".why"), 10)
    browser.execute_script("document.querySelector('#list [data-act=dismiss]').focus()")
    press(browser, "#list [data-act=dismiss]")
    eventually(lambda: texts(browser, "#did strong") == [first[0]], 10, lambda: texts(browser, "#problem"))
    eventually(lambda: first[0] not in texts(browser, "#list .title"), 10)
    assert texts(browser, "#did ol li") == first
    first_now = texts(browser, "#list .title")[0]
    assert browser.execute_script("return document.activeElement.ariaLabel") == f"Dismiss: {first_now}"  # for keys
    assert texts(browser, "#aside")[0].startswith(f"You dismissed {first[0]}: ")  # and for ears
    assert re.search(r"list after [\d.]+ m?s", texts(browser, "#did")[0])
    visitor = texts(browser, "#me")[0]
    assert [one["type"] for one in shop.events_of(visitor) if not one.get("items")] == ["dismiss"]
    browser.find_element(By.ID, "name").send_keys("ann")
    browser.find_element(By.ID, "name").submit()
    eventually(lambda: texts(browser, "#me") == ["ann"], 10)
    assert texts(browser, ".why") == [], "it was said of the list of somebody else"
    told = "because you clicked A; because you clicked B; because you bought C"
    said = "import('/page/door.js').then((door) => arguments[1](door.reasoned(arguments[0])))"
    assert browser.execute_async_script(said, told) == "because you clicked A and B; because you bought C"
    assert visitor not in browser.current_url
    assert complaints(browser) == []


def test_a_playground_that_nobody_looks_at_asks_for_no_lists(browser: webdriver.Chrome, shop: Front) -> None:
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true}); "
    told = hide + "dispatchEvent(new Event('visibilitychange'))"
    opened(browser, shop, "/play")
    eventually(lambda: len(texts(browser, "#list .title")) == 10, 20, lambda: texts(browser, "#problem"))
    browser.execute_script(told, True)
    assert texts(browser, "#ms") == ["paused: nobody looks"]
    asked = "performance.getEntriesByType('resource').filter((one) => one.name.includes('recommendations')).length"
    before = browser.execute_script(f"return {asked}")
    browser.execute_script(told, False)
    assert texts(browser, "#ms") == [""]
    eventually(lambda: browser.execute_script(f"return {asked}") > before, 10)
    assert complaints(browser) == []


def test_look_up_finds_a_user_and_an_item(browser: webdriver.Chrome, shop: Front) -> None:
    opened(browser, shop, "/look")
    browser.execute_script("document.getElementById('id').value = 'crowd'")
    browser.find_element(By.ID, "ask").submit()
    eventually(lambda: "The Film 0" in texts(browser, "#result td .link"), 20, lambda: texts(browser, "main"))
    press(browser, "#result td .link")
    eventually(lambda: "The Film 0" in texts(browser, "#result h2"), 20, lambda: texts(browser, "main"))
    press(browser, "#tab-request")
    browser.execute_script("document.getElementById('id').value = \"$(reboot)'x\"")
    browser.find_element(By.ID, "ask").submit()
    eventually(lambda: texts(browser, "#result .copy") == ["headwater replay explain '$(reboot)'\\''x'"], 20)
    press(browser, "#tab-letters")
    eventually(lambda: "Nothing was refused" in texts(browser, "#result")[0], 20)
    assert "crowd" not in browser.current_url
    assert complaints(browser) == []


def test_now_shows_workers_also_in_the_dark_and_on_a_phone(browser: webdriver.Chrome, shop: Front) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for path in ("/play", "/look", "/quality", "/models", "/settings", "/"):
        opened(browser, shop, path)
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(int(one) for one in paper[4:-1].split(",")) < 60, paper
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390, path
    eventually(lambda: "gatewayready" in texts(browser, "#workers li"), 20, lambda: texts(browser, "main"))
    assert len(texts(browser, ".tile")) == 8
    assert complaints(browser) == []


def published(shop: Front) -> list[int]:
    """Two versions, as the trainer announces them; the newer is live."""
    settings, learner = shop.settings, trained(FILMS[:6], rounds=1)
    writer, versions = producer(settings.kafka), []
    with contextlib.closing(Registry(settings.kafka, writer, LOG)) as registry:
        for _ in range(2):
            walk(learner, "more", FILMS[:6], 1000 * (1 + len(versions)))
            bundle = bundle_of(learner)
            said = Announcement(
                version=bundle.version, digest=bundle.digest, bundle=open_store(settings.trainer.bundles).write(bundle),
                parent=bundle.parent, delta_offset=0, published_time=1_700_000_000_000, examples_offset=9,
                metrics={"ndcg_at_10": {"headwater": 0.2, "popularity": 0.1}},
            )  # fmt: skip
            registry.add(said)
            registry.set_live(said)
            versions.append(bundle.version)
    writer.close()
    return versions


def test_models_go_back_and_forward_by_a_button_that_asks_first_and_stand_in_the_audit_log(
    browser: webdriver.Chrome, shop: Front
) -> None:
    first, second = published(shop)
    opened(browser, shop, "/models")
    eventually(lambda: len(texts(browser, "#versions tbody tr")) == 2, 20, lambda: texts(browser, "main"))
    press(browser, f"[data-version='{first}']")
    assert str(first) in texts(browser, "#confirm-title")[0]
    press(browser, "#confirm-no")
    assert shop.call("GET", "/page/data/models")[1]["live"]["version"] == second
    press(browser, f"[data-version='{first}']")
    press(browser, "#confirm-yes")
    eventually(lambda: "is held by a rollback" in texts(browser, "#said")[0], 20, lambda: texts(browser, "#problem"))
    found = shop.call("GET", "/page/data/models")[1]
    assert (found["live"]["version"], found["pinned"]) == (first, True)
    late = shop.call("POST", "/page/data/rollback", {"version": second, "pinned": None})
    assert (late[0], late[1]["error"]["code"]) == (400, "changed")
    gone = shop.call("POST", "/page/data/rollback", {"version": 987, "pinned": first})
    assert (gone[0], gone[1]["error"]["code"]) == (400, "refused")
    assert shop.call("POST", "/page/data/rollback", {"version": True})[0] == 400
    press(browser, "#resume")
    press(browser, "#confirm-yes")
    eventually(lambda: "publishes" in texts(browser, "#said")[0] and not found_pinned(shop), 20)
    deeds = [one for _, one in read_audit(shop.settings.kafka) if one is not None and one.action == "rollback"]
    assert [one.target for one in deeds] == [{"version": first}, {"resume": True}]
    assert {one.by for one in deeds} == {"gateway, no key"}
    assert complaints(browser) == []


def found_pinned(shop: Front) -> bool:
    return bool(shop.call("GET", "/page/data/models")[1]["pinned"])


def test_settings_are_shown_with_their_history_and_checked_but_never_written(
    browser: webdriver.Chrome, shop: Front
) -> None:
    tried = b'"experiment":{"name":"longer","variants":{"long":{"share":0.4,"overrides":{"k":9}}}}'
    for value in (b'{"k": 7}', b'{"k": 8,%s}' % tried, b'{"k": "many"}'):
        send_records(shop.settings.kafka, SURFACES, [(b"home", value)])
    opened(browser, shop, "/settings")
    eventually(lambda: "home" in texts(browser, "#surfaces td"), 20, lambda: texts(browser, "main"))
    assert "8" in texts(browser, "#surfaces td")
    assert len(texts(browser, "#surfaces .problem")) == 1
    assert len(texts(browser, "#history tbody tr")) == 3
    assert "click" in texts(browser, "#signals td")
    dealt = ["home", "longer", "control", "60%", "nothing: the surface as it is", "home", "longer", "long", "40%"]
    assert texts(browser, "#experiments td") == [*dealt, '{"k":9}']
    press(browser, "#check button")
    eventually(lambda: "headwater surfaces set home.toml" in texts(browser, "#checked .copy"), 10)
    browser.execute_script("document.getElementById('text').value = 'k = -1'")
    press(browser, "#check button")
    eventually(lambda: "surfaces.home.k" in "".join(texts(browser, "#checked .problem")), 10)
    signals = {"kind": "signals", "name": "", "text": "[signals.rating]\npositive = '>= 4'"}
    assert shop.call("POST", "/page/data/check", signals)[1]["signals"]["rating"]["means"] == "positive >= 4"
    assert shop.call("POST", "/page/data/check", {**signals, "text": "= ="})[0] == 400
    assert len(list(read_topic(shop.settings.kafka, SURFACES))) == 3
    assert ["400 (Bad Request)" in one for one in complaints(browser)] == [True]  # what was refused, and nothing else


WITH_A_MODEL = """const asked = window.fetch;
    window.fetch = async (...call) => {
      const answer = await asked(...call);
      if (!String(call[0]).includes("recommendations")) return answer;
      const told = await answer.json();
      told.receipt = { ...told.receipt, fallback: undefined, history_length: 1 };
      told.items = told.items.map((one) => ({ ...one, contributions: { popular: 1 } }));
      return new Response(JSON.stringify(told), answer);
    };"""
"""Answers are as if there were one, and she had a history."""


def test_an_experiment_is_seen_in_quality_at_a_user_and_in_the_playground(
    browser: webdriver.Chrome, shop: Front
) -> None:
    tried = b'{"experiment":{"name":"tried","variants":{"long":{"share":0.5,"overrides":{"k":4}}}}}'
    send_records(shop.settings.kafka, SURFACES, [(b"tried", tried), (b"loved", b'{"kind":"popular"}')])
    ask = {"user_id": "dealt", "surface": "tried", "explain": False}
    answer = eventually(lambda: _answered(shop.call("POST", "/v1/recommendations", ask)), 20)
    variant = answer["receipt"]["variant"]
    shop.call("POST", "/v1/identify", {"user_id": "dealt", "was": "guest-of-dealt"})
    item = answer["items"][0]["item_id"]
    click = {"user_id": "dealt", "item_id": item, "type": "click", "request_id": answer["request_id"]}
    shop.call("POST", "/v1/events", click)
    eventually(lambda: "click" in [one["type"] for one in shop.events_of("dealt")], 20)
    opened(browser, shop, "/quality")
    eventually(lambda: "100.0%" in texts(browser, "#experiments td"), 20, lambda: texts(browser, "#experiments"))
    assert texts(browser, "#experiments td")[0] == variant
    opened(browser, shop, "/look")
    browser.execute_script("document.getElementById('id').value = 'dealt'")
    browser.find_element(By.ID, "ask").submit()
    eventually(lambda: f"{variant} of tried" in texts(browser, "#result dd"), 20, lambda: texts(browser, "#result"))
    assert texts(browser, "#result p .link") == ["guest-of-dealt"]
    opened(browser, shop, "/play")
    eventually(lambda: "tried" in texts(browser, "#surface option"), 20)
    script = """const pick = document.getElementById("surface");
        pick.selectedIndex = [...pick.options].findIndex((one) => one.text === arguments[0]);
        pick.dispatchEvent(new Event("change"));"""
    for chosen, said in (("popular", "The same for everybody."), ("tried", "Variant ")):
        browser.execute_script(script, chosen)
        eventually(lambda said=said: said in texts(browser, "#kind")[0], 20, lambda: texts(browser, "#kind"))
    browser.execute_script(WITH_A_MODEL)
    browser.execute_script(script, "loved")
    eventually(lambda: "The same for everybody." in texts(browser, "#kind")[0], 20, lambda: texts(browser, "#kind"))
    assert complaints(browser) == []


def test_what_was_told_of_who_was_forgotten_links_nobody_on_the_page(shop: Front) -> None:
    def also() -> Any:
        return shop.call("POST", "/page/data/user", {"user_id": "forgets"})[1]["also"]

    shop.call("POST", "/v1/identify", {"user_id": "forgets", "was": "guest-of-forgets"})
    eventually(lambda: also() == ["guest-of-forgets"], 20, also)
    shop.call("DELETE", "/v1/users/forgets")
    eventually(lambda: also() == [], 20, also)  # the topic keeps the word for ever


def test_who_may_not_be_analysed_is_in_no_experiment_of_the_page(shop: Front) -> None:
    for name, consent in (("denied", {"analyse": False}), ("granted", None)):
        told = {"headwater_experiment": {"name": name, "variant": "wide"}}
        shown = {"user_id": name, "type": "impression", "items": ["film-1"], "properties": told, "consent": consent}
        assert shop.call("POST", "/v1/events", shown)[0] == 202

    def found() -> Any:
        return shop.call("GET", "/page/data/experiments")[1]["results"].keys() & {"denied", "granted"}

    eventually(lambda: "granted" in found(), 20)
    assert found() == {"granted"}


def _answered(found: tuple[Any, ...]) -> Any:
    return found[1] if found[0] == 200 and found[1]["items"] else None


def test_quality_tells_what_lists_show_and_puts_backtests_side_by_side(browser: webdriver.Chrome, shop: Front) -> None:
    folder = shop.settings.gateway.backtests
    assert folder is not None
    folder.mkdir()
    for name, ndcg in (("a", 0.1), ("b", 0.2)):
        (folder / f"{name}.json").write_text(json.dumps(result_of(ndcg)))
    (folder / "bad.json").write_text("{}")
    opened(browser, shop, "/quality")
    eventually(lambda: len(texts(browser, "#results tbody tr")) == 3, 20, lambda: texts(browser, "main"))
    eventually(lambda: "Coverage" in "".join(texts(browser, "#shown dt")), 20, lambda: texts(browser, "main"))
    assert "Without memory" in texts(browser, "#ablation td")
    assert "+0.0400" in texts(browser, "#ablation td")
    assert len(texts(browser, "#ablation svg title")) == 2  # for a desk, and for a phone
    assert "headwater replay backtest kafka --ablation" in texts(browser, "#calibration .copy")[0]
    browser.execute_script("document.querySelectorAll('#results input').forEach((one) => one.click())")
    press(browser, "#compare")
    eventually(lambda: "Side by side" in texts(browser, "#report h2"), 20, lambda: texts(browser, "#problem"))
    assert {"NDCG@10", "A: What each part is worth", "B: What each part is worth"} <= set(texts(browser, "#report h2"))
    press(browser, "#results .link")
    eventually(lambda: "Rankers, by the same questions" in texts(browser, "#report h2"), 20)
    assert shop.call("POST", "/page/data/report", {"file": "../addresses.json"})[0] == 400
    assert complaints(browser) == []


def result_of(ndcg: float) -> dict[str, Any]:
    of = {"headwater": {"ndcg@10": ndcg, "coverage@10": 0.5}, "popularity": {"ndcg@10": 0.05}}
    of["without memory"] = {"ndcg@10": ndcg - 0.04}
    measured = {"events": 100, "warm_up": 50, "queries": 40, "results": of}
    leads = {"without memory": {"ndcg@10": [0.01, 0.04, 0.07]}}
    return {"format": 1, "source": {"name": "films"}, "settings": {}, "differences": leads, **measured}


AXE = """
const [rules, done] = arguments;
axe.run(document, { resultTypes: ['violations'], ...(rules ? { runOnly: rules } : {}) }).then(({ violations }) => done(
  violations.filter((one) => ['serious', 'critical'].includes(one.impact))
    .map((one) => [one.id, ...one.nodes.map((node) => node.html)])
), (error) => done([String(error)]));
"""


def test_axe_finds_nothing_serious_on_any_page_by_day_and_no_weak_colours_by_night(
    browser: webdriver.Chrome, shop: Front
) -> None:
    install(CLIENT)
    axe = (CLIENT / "node_modules" / "axe-core" / "axe.min.js").read_text()
    browser.set_script_timeout(60)
    for scheme, rules in (("light", None), ("dark", ["color-contrast"])):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for name in PAGES:
            opened(browser, shop, "/" if name == "now" else f"/{name}")
            eventually(lambda: "Looking …" not in "".join(texts(browser, "main")), 20)
            if name == "play":
                eventually(lambda: texts(browser, "#list .title"), 20, lambda: texts(browser, "#problem"))
            assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0, name
            browser.execute_script(axe)
            assert (name, scheme, browser.execute_async_script(AXE, rules)) == (name, scheme, [])


def test_pages_run_no_script_but_their_own_and_data_takes_what_the_api_takes(shop: Front) -> None:
    status, text, headers = shop.call("GET", "/play")
    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "onclick" not in text
    assert "style=" not in text
    for name in FILES:
        assert shop.call("GET", f"/page/{name}")[0] == 200
    assert shop.call("GET", "/page/..%2fviews.py")[0] == 404
    data = [one for one in PAGE_OPERATIONS if "/data/" in one.path]
    assert all(one.scope is not None for one in data)
    foreign = {"origin": "https://evil.example"}
    assert shop.call("POST", "/page/data/user", {"user_id": "crowd"}, **foreign)[0] == 403
    assert shop.call("GET", "/page/data/letters", host="evil.example:8080")[0] == 403  # also with needs_keys = false
    assert shop.call("POST", "/page/data/user", {"user_id": "x" * 300})[0] == 400
    assert shop.call("POST", "/page/data/search", b"x" * 30_000)[0] == 413
    assert shop.call("POST", "/page/data/user", {"user_id": "crowd"})[1]["count"] == 1
    found = shop.call("POST", "/v1/recommendations", {"user_id": "crowd", "k": 3})[1]
    told = eventually(lambda: shop.call("POST", "/page/data/request", {"request_id": found["request_id"]})[1]["answer"])
    assert [one["item_id"] for one in told["items"]] == [one["item_id"] for one in found["items"]]


def test_look_ups_read_no_more_than_the_newest(shop: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.call("PUT", "/v1/users", [{"user_id": "reader", "attributes": {"age": "old"}}])
    for _ in range(3):
        shop.call("POST", "/v1/events", {"user_id": "reader", "item_id": "film-1", "type": "click"})
    look = Lookup(shop.settings)
    assert (found := look.user("reader"))["count"] == 3
    assert found["attributes"] == {"age": "old"}
    monkeypatch.setattr(lookup, "MOST_RECORDS", 1)
    monkeypatch.setattr(lookup, "MOST_USERS", 0)
    assert (found := look.user("reader"))["looked_at"] == 1
    assert found["attributes"] == {}
    assert look.item("film-1")["looked_at"] == 0


def test_whatever_the_file_of_workers_or_a_worker_says_the_page_goes_on(shop: Front, tmp_path: Path) -> None:
    file = tmp_path / "addresses.json"
    watch = Watch(file)
    for said in (
        "[]",
        "{}",
        '{"workers": ["x"]}',
        '{"workers": {"a": 1}}',
        '{"workers": {"a": "file:///etc/passwd"}}',
        "<",
    ):
        file.write_text(said)
        watch.look()
        assert "cannot ask the workers" in watch.told["problem"]
        assert not watch.told["known"]
    page = f"http://127.0.0.1:{shop.settings.gateway.port}/play?"
    file.write_text(json.dumps({"workers": {"streams": page, "serving": "http://[", "trainer": "http://127.0.0.1:1"}}))
    watch.look()
    watch.look()
    assert {name: one["health"][:14] for name, one in watch.told["workers"].items()} == {
        "streams": "is no worker: ", "serving": "is no worker: ", "trainer": "does not answe",
    }  # fmt: skip
    assert watch.told["events_per_s"] is None  # not known, rather than none


def test_figures_end_with_the_key_and_what_scripts_ask_counts() -> None:
    keys = Keys(KafkaSettings(), GatewaySettings(), needed=True)
    views = Views(Settings(), threading.Event(), str, keys, RateLimits(1.0, 1.0))
    request = HttpRequest({"type": "http", "headers": [], "query_string": b"", "client": ("127.0.0.1", 1)})
    caller = Caller("page", frozenset(("admin",)))
    figures = views.call(next(one for one in PAGE_OPERATIONS if one.name == "figures"))

    async def read() -> list[bytes]:
        answer = await figures(request, caller)
        assert isinstance(answer, StreamingResponse)
        return [piece async for piece in answer.body_iterator]  # type: ignore[misc]

    assert asyncio.run(read()) == []
    with pytest.raises(Denied) as refused:
        asyncio.run(read())
    assert refused.value.status == 429
