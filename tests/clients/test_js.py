"""The browser client and the shop in a real Chromium, in front of a real gateway, broker, store and workers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from embedded import free_port
from headwater.topics import IDENTITIES
from tests.gateway.fronts import SECRET, Front, beside, front
from tests.gateway.test_page import browser, complaints, press, texts  # noqa: F401
from tests.worlds.javascript import CLIENT, built_client, site
from tests.worlds.processes import ROOT, eventually

FILMS = json.loads((ROOT / "examples/shop/films.json").read_text())
MOST_BYTES = 6_000

BEGUN = """
const [gateway, fields, take, given, done] = arguments;
const problems = [];
const read = (asked) => fetch('/token?' + new URLSearchParams(asked)).then((one) => one.json());
import('/clients/js/dist/headwater.js').then(async ({ Client }) => {
  const client = (window.client = new Client({ gateway, onProblem: (one) => problems.push(one.message), ...fields }));
  const run = new Function('client', 'given', 'problems', 'read', 'return (async () => {' + take + '})()');
  return run(client, given, problems, read);
}).then(done, (error) => done({ failed: String(error) }));
"""


@pytest.fixture(scope="module")
def shop(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, str]]:
    """A world with the thirty films, and the address of the site whose pages may call its gateway."""
    built_client()
    folder, port = tmp_path_factory.mktemp("js"), free_port()
    origins = {"cors_origins": (f"http://127.0.0.1:{port}",), "token_secret": SECRET}
    with front(kafka_address, redis_url, folder, "streams", "serving", **origins) as made:

        def token(user: str, was: list[str]) -> str:
            if user == "gone":
                return "hwt_x.y"
            return str(made.call("POST", "/v1/tokens", {"user_id": user, "was": was})[1]["token"])

        assert made.call("PUT", "/v1/items", FILMS)[:2] == (202, {"accepted": 30})
        made.call("POST", "/v1/events", {"user_id": "crowd", "item_id": "heat", "type": "click"})
        with site(port, token) as address:
            yield made, address


@pytest.fixture
def blank(browser: webdriver.Chrome, shop: tuple[Front, str]) -> webdriver.Chrome:
    """An empty page of the site, whose browser remembers nobody."""
    browser.set_script_timeout(30)
    browser.get(f"{shop[1]}/blank")
    browser.execute_script("localStorage.clear()")
    return browser


def run(at: webdriver.Chrome, shop: tuple[Front, str], take: str, given: Any = None, **fields: Any) -> Any:
    """What some lines return that have a new `client`, what it complained of as `problems`, and `given`."""
    gateway = f"http://127.0.0.1:{shop[0].settings.gateway.port}"
    found = at.execute_async_script(BEGUN, gateway, fields, take, given)
    assert not (isinstance(found, dict) and "failed" in found), found
    return found


def events_of(shop: tuple[Front, str], user: str) -> list[dict[str, Any]]:
    """What a browser told of a user; lists that serving has sent are events, too."""
    return [one for one in shop[0].events_of(user) if one["type"] != "served"]


def test_it_is_small_and_brings_nothing_along() -> None:
    dist = built_client()
    for name in ("headwater.js", "headwater.iife.js"):
        assert len(gzip.compress((dist / name).read_bytes(), 9)) < MOST_BYTES
    package, lock = (json.loads((CLIENT / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert not package.keys() & {"dependencies", "peerDependencies", "optionalDependencies"}
    assert not [name for name, one in lock["packages"].items() if "resolved" in one]
    assert all("integrity" in one for name, one in lock["packages"].items() if name and not one.get("inBundle"))
    declared = (dist / "index.d.ts").read_text()
    assert "subscribe(" in declared


def test_a_visitor_reads_her_own_events_on_the_next_page_too(blank: webdriver.Chrome, shop: tuple[Front, str]) -> None:
    take = """
    client.track('click', 'heat');
    const list = await client.recommend({ k: 5 });
    return { user: client.user, waiting: client.waiting, events: list.receipt.history_events, problems };
    """
    told = run(blank, shop, take)
    assert told == {"user": told["user"], "waiting": 0, "events": 1, "problems": []}
    assert [one["type"] for one in events_of(shop, told["user"])] == ["click"]
    blank.get(f"{shop[1]}/blank")
    again = (
        "const list = await client.recommend(); return [list.user_id, list.receipt.history_events, list.items.length]"
    )
    assert run(blank, shop, again) == [told["user"], 1, 10]


def test_what_a_page_has_no_time_to_send_goes_by_a_beacon_and_counts_once(
    blank: webdriver.Chrome, shop: tuple[Front, str]
) -> None:
    take = "client.track('view', 'alien'); client.track('like', 'alien'); return client.user"
    user = run(blank, shop, take, lingerMs=3_600_000)
    blank.get(f"{shop[1]}/blank")  # where no client is begun
    eventually(lambda: [one["type"] for one in events_of(shop, user)] == ["view", "like"], 10, "the beacon came")
    told = run(
        blank, shop, "const list = await client.recommend(); return [list.receipt.history_events, client.waiting]"
    )
    assert told == [2, 0]
    sent = events_of(shop, user)  # nobody has read the answer to a beacon, so the next page has sent both again
    assert [one["event_id"] for one in sent] == [one["event_id"] for one in sent[:2]] * 2


def test_what_is_told_without_a_network_is_sent_by_a_later_page_with_its_time(
    blank: webdriver.Chrome, shop: tuple[Front, str]
) -> None:
    blank.execute_cdp_cmd("Network.enable", {})
    blank.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/*"]})
    take = """
    navigator.sendBeacon = () => true;  // as without a network: taken, and lost; Chromium blocks no beacon by its URL
    const at = Date.now() - 3_600_000;
    const now = Date.now;
    Date.now = () => at;  // an hour ago
    const id = client.track('purchase', 'fargo');
    client.track('impression', ['alien', 'heat']);
    Date.now = now;
    await client.flush();
    return { id, at, user: client.user, waiting: client.waiting, problems };
    """
    told = run(blank, shop, take, lingerMs=3_600_000)
    assert told["waiting"] == 2
    assert len(told["problems"]) == 1
    assert "was not reached" in told["problems"][0]
    blank.get(f"{shop[1]}/blank")
    blank.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    assert events_of(shop, told["user"]) == []
    assert run(blank, shop, "await client.flush(); return [client.waiting, problems]") == [0, []]
    bought, seen = events_of(shop, told["user"])
    assert (bought["event_id"], bought["event_time"], bought["item_id"]) == (told["id"], told["at"], "fargo")
    assert seen["items"] == ["alien", "heat"]


def test_an_answer_that_is_lost_makes_no_second_event(blank: webdriver.Chrome, shop: tuple[Front, str]) -> None:
    take = """
    const real = fetch;
    window.fetch = async (...given) => { await real(...given); window.fetch = real; throw new TypeError('cut'); };
    const id = client.track('click', 'fargo');
    await client.flush();
    const waited = client.waiting;
    dispatchEvent(new Event('online'));  // does not wait out the pause before the next try
    const list = await client.recommend();
    return { id, waited, events: list.receipt.history_events, user: client.user, waiting: client.waiting };
    """
    told = run(blank, shop, take)
    assert (told["waited"], told["waiting"], told["events"]) == (1, 0, 1)
    assert [one["event_id"] for one in events_of(shop, told["user"])] == [told["id"]] * 2


def test_one_event_that_is_refused_holds_up_no_other(blank: webdriver.Chrome, shop: tuple[Front, str]) -> None:
    take = """
    for (const type of ['view', 'click', 'headwater.forget', 'like', 'cart']) client.track(type, 'chinatown');
    await client.flush();
    return { user: client.user, waiting: client.waiting, problems };
    """
    told = run(blank, shop, take)
    assert told["waiting"] == 0
    assert len(told["problems"]) == 1
    assert "headwater.forget is the engine's own" in told["problems"][0]
    assert [one["type"] for one in events_of(shop, told["user"])] == ["view", "click", "like", "cart"]


def test_what_json_cannot_say_holds_up_nothing_and_what_is_told_stays_as_it_was(
    blank: webdriver.Chrome, shop: tuple[Front, str]
) -> None:
    take = """
    const properties = { place: 1 };
    client.track('view', 'fargo', { properties });
    properties.place = 2;
    client.track('view', 'fargo', { properties: { much: 10n } });
    client.track('like', 'fargo');
    await client.flush();
    return [client.user, client.waiting, problems.length];
    """
    user, waiting, problems = run(blank, shop, take)
    assert (waiting, problems) == (0, 1)
    told = events_of(shop, user)
    assert [(one["type"], one.get("properties")) for one in told] == [("view", {"place": 1}), ("like", None)]


def test_a_guest_becomes_a_user_and_two_users_are_not_one(blank: webdriver.Chrome, shop: tuple[Front, str]) -> None:
    take = """
    client.track('click', 'alien');
    const guest = client.user;
    await client.identify('js-ann');
    const list = await client.recommend({ k: 3 });
    client.reset();
    const next = client.user;
    await client.identify('js-bob');
    await client.identify('js-ann');  // says who it is: bob was no guest
    await client.flush();
    return { guest, next, people: list.receipt.people, waiting: client.waiting, problems };
    """
    told = run(blank, shop, take)
    assert (told["people"], told["problems"]) == ({told["guest"]: 1, "js-ann": 0}, [])
    links = [one for one in shop[0].values(IDENTITIES) if one["user_id"].startswith("js-")]
    assert [(one["user_id"], one["was"]) for one in links] == [("js-ann", told["guest"]), ("js-bob", told["next"])]


def test_a_list_changes_while_she_goes_on_and_begins_again_for_another(
    blank: webdriver.Chrome, shop: tuple[Front, str]
) -> None:
    take = """
    const lists = [];
    let told = () => {};
    const until = (done) => new Promise((go) => (told = () => done() && go(), told()));
    const stop = client.subscribe({ k: 4 }, (list) => (lists.push(list), told()));
    await until(() => lists.length);
    client.track('purchase', lists[0].items[0].item_id);
    await until(() => lists.length > 1);
    const ids = lists.map((list) => list.items.map((one) => one.item_id));
    await client.identify('js-watcher');
    await until(() => lists.at(-1).user_id === 'js-watcher');
    stop();
    return { ids, problems };
    """
    told = run(blank, shop, take)
    assert told["problems"] == []
    assert told["ids"][0][0] not in told["ids"][1]


BACKGROUND = """
const [done] = arguments;
let asked = 0, open = 0, told = () => {};
window.fetch = async (_, { signal }) => {
  asked += 1;
  open += 1;
  const start = (stream) => {
    stream.enqueue(new TextEncoder().encode('event: list\\ndata: {"items":[]}\\n\\n'));
    signal.addEventListener('abort', () => (open -= 1, stream.error(signal.reason)));
  };
  return new Response(new ReadableStream({ start }));
};
const shown = (state) => {
  Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
  return new Promise((go) => setTimeout(go, 0)); // all that is ready has had its turn
};
import('/clients/js/dist/headwater.js').then(async ({ Client }) => {
  const list = () => new Promise((go) => (told = go));
  let comes = list();
  const stop = new Client().subscribe({}, () => told());
  await comes;
  comes = list();
  await shown('hidden');
  const away = [asked, open];
  if (open) return away;
  await shown('visible');
  await comes;
  const back = [asked, open];
  await shown('hidden');
  stop();
  await shown('visible');
  return [away, back, [asked, open]];
}).then(done, (error) => done(String(error)));
"""


def test_a_page_that_nobody_looks_at_asks_for_no_lists(browser: webdriver.Chrome) -> None:
    built_client()
    browser.set_script_timeout(30)
    with site(free_port(), lambda *_: "") as address:
        browser.get(f"{address}/blank")
        assert browser.execute_async_script(BACKGROUND) == [[1, 0], [2, 1], [2, 0]]


def test_with_tokens_it_asks_for_a_new_one_when_the_old_does_not_hold(
    blank: webdriver.Chrome, shop: tuple[Front, str]
) -> None:
    take = """
    const { Client } = await import('/clients/js/dist/headwater.js');
    const asked = [];
    const token = (user, was) => {
      asked.push([user, was ?? null]);
      return read(asked.length === 1 ? { user: 'gone' } : was ? { user, was } : { user });
    };
    const own = new Client({ gateway: given, token, onProblem: (one) => problems.push(one.message) });
    own.track('click', 'alien');
    const first = await own.recommend({ k: 3 });
    const guest = own.user;
    await own.identify('js-token');
    const second = await own.recommend({ k: 3 });
    let refused = 0;
    await own.recommend({ user_id: 'crowd' }).catch((error) => (refused = error.status));
    return { asked, guest, first: first.receipt.history_events, second: second.receipt.people, refused, problems };
    """
    told = run(blank, shop, take, f"http://127.0.0.1:{shop[0].settings.gateway.port}")
    guest = told["guest"]
    assert told["asked"] == [[guest, None], [guest, None], ["js-token", guest]]
    assert (told["first"], told["second"], told["refused"]) == (1, {guest: 1, "js-token": 0}, 403)
    assert told["problems"] == []


LEFT = """
navigator.sendBeacon = () => true;  // as without a network: taken, and lost
client.track('click', 'heat');
return client.user;
"""


@pytest.mark.parametrize(
    "away", ["fetch('/blank').then((one) => one.json())", "{ error: 'come again' }", "new Promise(() => {})"]
)
def test_what_a_guest_did_waits_while_the_token_source_is_away(
    blank: webdriver.Chrome, shop: tuple[Front, str], away: str
) -> None:
    guest = run(blank, shop, LEFT, lingerMs=3_600_000)
    blank.get(f"{shop[1]}/blank")
    take = f"""
    const {{ Client }} = await import('/clients/js/dist/headwater.js');
    let away = true;
    const later = window.setTimeout;
    window.setTimeout = (go, ms) => later(go, away && ms === 30_000 ? 50 : ms);  // of a source that never answers
    const token = (user, was) => away ? {away} : read(was ? {{ user, was }} : {{ user }});
    const onProblem = (one) => problems.push([one.status, one.code]);
    const own = new Client({{ ...given, token, onProblem }});
    await own.flush();
    const waited = own.waiting;
    away = false;
    while (own.waiting) await new Promise((go) => setTimeout(go, 50));
    const list = await own.recommend({{ k: 3 }});
    return {{ waited, people: list.receipt.people, problems }};
    """
    user = f"js-late-{len(away)}"
    given = {"gateway": f"http://127.0.0.1:{shop[0].settings.gateway.port}", "user": user}
    told = run(blank, shop, take, given, lingerMs=3_600_000)
    assert told == {"waited": 2, "people": {guest: 1, user: 0}, "problems": [[0, "token"]]}


@pytest.mark.parametrize(("none", "asks"), [("''", 2), ("null", 2), ("undefined", 2), ("read({ user: 'gone' })", 3)])
def test_what_one_did_who_gets_no_token_any_more_is_given_up_at_once(
    blank: webdriver.Chrome, shop: tuple[Front, str], none: str, asks: int
) -> None:
    take = f"""
    const {{ Client }} = await import('/clients/js/dist/headwater.js');
    const asked = [];
    const token = (user) => (asked.push(user), user === first ? {none} : read({{ user }}));
    const onProblem = (one) => problems.push(one.status);
    const own = new Client({{ gateway: given, token, onProblem, lingerMs: 3_600_000 }});
    const first = own.user;
    for (let one = 0; one < 60; one++) own.track('view', 'alien');
    await own.flush();
    const waited = own.waiting;  // she has not logged out: a token may come
    own.reset();
    const second = own.user;
    own.track('like', 'fargo');
    dispatchEvent(new Event('online'));  // does not wait out the pause before the next try
    await own.flush();
    return {{ first, second, asked, waited, waiting: own.waiting, problems }};
    """
    told = run(blank, shop, take, f"http://127.0.0.1:{shop[0].settings.gateway.port}")
    assert told["asked"] == [told["first"]] * asks + [told["second"]]
    assert (told["waited"], told["waiting"], told["problems"]) == (60, 0, [401, 401])
    assert events_of(shop, told["first"]) == []
    assert [one["type"] for one in events_of(shop, told["second"])] == ["like"]


def test_what_a_page_without_tokens_may_not_send_waits(blank: webdriver.Chrome, shop: tuple[Front, str]) -> None:
    take = """
    const real = fetch;  // the gateway answers as one that has got keys since the page was written
    const own = { authorization: 'Bearer hw_x_y' };
    window.fetch = (url, asked) => real(url, { ...asked, headers: { ...asked.headers, ...own } });
    const guest = client.user;
    client.track('click', 'heat');
    await client.identify('js-keyless');
    const waited = client.waiting;
    window.fetch = real;
    dispatchEvent(new Event('online'));  // does not wait out the pause before the next try
    const list = await client.recommend({ k: 3 });
    return { guest, waited, waiting: client.waiting, people: list.receipt.people, problems: problems.length };
    """
    told = run(blank, shop, take)
    assert told["people"] == {told["guest"]: 1, "js-keyless": 0}
    assert (told["waited"], told["waiting"], told["problems"]) == (2, 0, 1)


def test_a_page_of_another_origin_hears_how_long_it_is_to_wait(
    blank: webdriver.Chrome, shop: tuple[Front, str], tmp_path: Path
) -> None:
    take = """
    const ask = () => client.recommend({ k: 3 }).then(() => [], (one) => [one.status, one.retryAfterMs]);
    return [await ask(), await ask()];
    """
    with beside(shop[0], tmp_path, cors_origins=(shop[1],), rate_per_s=0.1, burst=1) as other:
        first, (status, wait_ms) = run(blank, (other, shop[1]), take)
    assert (first, status) == ([], 429)
    assert 1_000 <= wait_ms <= 10_000


@pytest.mark.parametrize("width", [1280, 390])
def test_the_shop_can_be_clicked_through(
    browser: webdriver.Chrome,
    shop: tuple[Front, str],
    width: int,
    tmp_path: Path,
) -> None:
    made, address = shop
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(f"{address}/blank")
    browser.execute_script("localStorage.clear()")
    complaints(browser)
    browser.get(f"{address}/examples/shop/?gateway=http://127.0.0.1:{made.settings.gateway.port}")
    eventually(lambda: len(texts(browser, "#list .title")) == 6, 20, lambda: texts(browser, "body"))
    assert len(texts(browser, "#films .title")) == 30
    first = texts(browser, "#list .title")
    press(browser, "#list .card")
    eventually(lambda: len(texts(browser, "#similar .title")) == 4, 10, lambda: texts(browser, "body"))
    assert texts(browser, "#film-title") == first[:1]
    browser.save_screenshot(str(tmp_path / f"film-{width}.png"))
    press(browser, "[data-act=dismiss]")
    eventually(lambda: first[0] not in texts(browser, "#list .title"), 10, lambda: texts(browser, "body"))
    eventually(lambda: "ms after what you did" in texts(browser, "#said")[0], 10)
    browser.execute_script("document.getElementById('name').value = 'shop-' + arguments[0]", str(width))
    press(browser, "#login button")
    eventually(lambda: texts(browser, "#who") == [f"shop-{width}"], 10)
    guest = next(one["was"] for one in made.values(IDENTITIES) if one["user_id"] == f"shop-{width}")
    eventually(lambda: [one["type"] for one in events_of(shop, guest)] == ["click", "dismiss"], 10)
    assert events_of(shop, guest)[0]["request_id"]  # which list it answers
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.save_screenshot(str(tmp_path / f"shop-{width}.png"))
    press(browser, "#logout")
    eventually(lambda: texts(browser, "#who") == ["a guest"], 10)
    assert complaints(browser) == []
