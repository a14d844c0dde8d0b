"""What each path of the page answers: the pages themselves, their files, and what their scripts ask for.

Before: `gateway.app`, which has found out who asks and what they may. After: templates, the catalogue, the watch, the
look-ups. Ids of people come in bodies, never in a URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response, StreamingResponse

from gateway.access import Caller, Denied, Keys, RateLimits
from gateway.admin_log import who
from gateway.api_keys import ADMIN, RECOMMEND
from gateway.bodies import Bodies
from gateway.open_streams import OpenStreams
from gateway.operations import Operation
from gateway.page.catalogue import TitleCatalogue
from gateway.page.live_models import LiveModels
from gateway.page.lookup import Lookup
from gateway.page.quality import Quality
from gateway.page.settings_shown import SettingsShown
from gateway.page.watch import Watch
from headwater.errors import InvalidMessage
from headwater.events import MAX_ID_LENGTH
from headwater.settings import Settings
from viewing.written import printable

__all__ = ["PAGE_OPERATIONS", "Views"]

HERE = Path(__file__).parent
EVERY_S = 2.0
MOST_BODY_BYTES = 20_000
MOST_TITLES = 1_000
MOST_WORDS = 200
LOOKING = 2
"""Look-ups at once: each reads thousands of records."""
PAGES = {
    "now": "Now",
    "play": "Playground",
    "look": "Look up",
    "quality": "Quality",
    "models": "Models",
    "settings": "Settings",
}
FILES = {
    "page.css": "text/css",
    "mark.svg": "image/svg+xml",
    **dict.fromkeys(("door.js", "tables.js", *(f"{name}.js" for name in PAGES)), "text/javascript"),
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
PAGE_OPERATIONS = (
    Operation("GET", "/", "now", None, "Now."),
    Operation("GET", "/play", "play", None, "Playground."),
    Operation("GET", "/look", "look", None, "Look up."),
    Operation("GET", "/quality", "quality", None, "Quality."),
    Operation("GET", "/models", "models", None, "Models."),
    Operation("GET", "/settings", "settings", None, "Settings."),
    Operation("GET", "/page/{name}", "file", None, "Style and scripts."),
    Operation("GET", "/page/data/now", "figures", ADMIN, "Figures and curves, as server-sent events."),
    Operation("GET", "/page/data/surfaces", "surfaces", RECOMMEND, "Names of surfaces."),
    Operation("POST", "/page/data/search", "search", RECOMMEND, "Items by words."),
    Operation("POST", "/page/data/titles", "titles", RECOMMEND, "Titles of items by id."),
    Operation("POST", "/page/data/user", "user", ADMIN, "What is known of a user."),
    Operation("POST", "/page/data/item", "item", ADMIN, "What is known of an item."),
    Operation("POST", "/page/data/request", "request", ADMIN, "An answer that was given."),
    Operation("GET", "/page/data/letters", "letters", ADMIN, "What was refused last."),
    Operation("GET", "/page/data/models", "versions", ADMIN, "Models that were published, and which is live."),
    Operation("POST", "/page/data/rollback", "rollback", ADMIN, "Go back to a version, or end that (null)."),
    Operation("GET", "/page/data/shown", "shown", ADMIN, "Coverage, diversity and newness of the newest lists."),
    Operation("GET", "/page/data/experiments", "experiments", ADMIN, "What came of experiments, by the newest events."),
    Operation("GET", "/page/data/results", "results", ADMIN, "Results of backtests."),
    Operation("POST", "/page/data/report", "report", ADMIN, "What one of them says."),
    Operation("POST", "/page/data/compared", "compared", ADMIN, "Two of them side by side."),
    Operation("GET", "/page/data/settings", "in_force", ADMIN, "Surfaces and signals in force."),
    Operation("POST", "/page/data/check", "check", ADMIN, "Whether a surface or signals would be taken."),
)


class Views:
    """One method for each of `PAGE_OPERATIONS`.

    Parameters
        called: what a user's id is on topics: a pseudonym, where these are set.
        rates: those of the API, which what scripts ask for counts in.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: threading.Event,
        called: Callable[[str], str],
        keys: Keys,
        rates: RateLimits,
    ) -> None:
        self.catalogue = TitleCatalogue(settings.kafka)
        self.watch = Watch(settings.gateway.workers_file)
        self._lookup = Lookup(settings)
        self._models = LiveModels(settings)
        self._quality = Quality(settings)
        self._in_force = SettingsShown(settings)
        self._stopping = stopping
        self._called = called
        self._keys = keys
        self._rates = rates
        self._streams = OpenStreams(settings.gateway.max_waiting)
        self._bodies = Bodies(MOST_BODY_BYTES)
        self._looking = asyncio.Semaphore(LOOKING)
        made = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, finalize=printable
        )
        self._pages = {
            name: made.get_template(f"{name}.html").render(name=name, title=title, pages=PAGES).encode()
            for name, title in PAGES.items()
        }

    def start(self) -> None:
        """Follow catalogue and workers, in threads."""
        for name, follow in (("catalogue", self.catalogue.follow), ("watch", self.watch.follow)):
            threading.Thread(target=follow, args=(self._stopping,), name=name, daemon=True).start()

    def call(self, one: Operation) -> Callable[[HttpRequest, Caller], Awaitable[Response]]:
        """What answers it."""
        if one.name in PAGES:
            return partial(self._page, one.name)
        answers: Callable[[HttpRequest, Caller], Awaitable[Response]] = getattr(self, one.name)
        if one.scope is None:
            return answers

        async def counted(request: HttpRequest, caller: Caller) -> Response:
            self._rates.take(caller)
            return await answers(request, caller)

        return counted

    async def _page(self, name: str, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        return Response(self._pages[name], media_type="text/html", headers=HEADERS)

    async def file(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/{name}"""
        name = request.path_params["name"]
        if name not in FILES:
            return _told({"error": {"code": "not_found", "message": "no such file"}}, 404)
        return FileResponse(HERE / "static" / name, media_type=FILES[name], headers=HEADERS)

    async def figures(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /page/data/now"""
        figures = self._figures(request, caller)
        await anext(figures)
        return StreamingResponse(
            figures,
            media_type="text/event-stream",
            headers={**HEADERS, "cache-control": "no-store"},
        )

    async def _figures(self, request: HttpRequest, caller: Caller) -> AsyncIterator[bytes]:
        """Nothing once there is room for them, then figures."""
        with self._streams.one(caller), contextlib.suppress(Denied):  # who asks again is told why
            yield b""
            while not self._stopping.is_set():
                self._keys.still(request)
                yield b"event: now\ndata: " + orjson.dumps(self.watch.told) + b"\n\n"
                until = asyncio.get_running_loop().time() + EVERY_S
                while not self._stopping.is_set() and asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(0.2)

    async def surfaces(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/surfaces"""
        return _told(list(await self._looked(self._in_force.surfaces)))

    async def search(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/search"""
        text = await self._text(request, caller, "text", MOST_WORDS)
        return _told({"items": await run_in_threadpool(self.catalogue.search, text), "of": len(self.catalogue)})

    async def titles(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/titles"""
        async with self._bodies.json(request, caller) as body:
            ids = body.get("ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or len(ids) > MOST_TITLES or not all(isinstance(one, str) for one in ids):
            raise InvalidMessage("schema", f"ids: give a list of at most {MOST_TITLES:,} texts")
        return _told(self.catalogue.titles(ids))

    async def user(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/user"""
        user_id = await self._text(request, caller, "user_id")
        found = await self._looked(lambda: self._user(self._called(user_id)))  # a file may tell the name
        items = [one["item_id"] for one in found["events"]] + [item for one in found["shown"] for item in one["items"]]
        return _told({**found, "titles": self.catalogue.titles(items)})

    def _user(self, whose: str) -> dict[str, Any]:
        return {**self._lookup.user(whose), "experiments": self._in_force.variants(whose)}

    async def item(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/item"""
        item_id = await self._text(request, caller, "item_id")
        known = self.catalogue.item(item_id)
        found = await self._looked(lambda: self._lookup.item(item_id))
        told = None if known is None else known.model_dump(mode="json", exclude_none=True)
        return _told({**found, "item_id": item_id, "item": told, "titles": self.catalogue.titles([item_id])})

    async def request(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/request"""
        request_id = await self._text(request, caller, "request_id")
        found = await self._looked(lambda: self._lookup.answer(request_id))
        titles = self.catalogue.titles([one["item_id"] for one in (found or {}).get("items", ())])
        return _told({"answer": found, "titles": titles})

    async def letters(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/letters"""
        return _told(await self._looked(self._lookup.letters))

    async def versions(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/models"""
        return _told({**await self._looked(self._models.listed), "serves": self.watch.told.get("version")})

    async def rollback(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/rollback"""
        async with self._bodies.json(request, caller) as body:
            given = body if isinstance(body, dict) else {}
        version, pinned = given.get("version", 0), given.get("pinned", 0)
        if not all(one is None or (type(one) is int and one > 0) for one in (version, pinned)):
            text = "version, pinned: give the version to go back to, and the one that is held; null for none of it"
            raise InvalidMessage("schema", text)
        announced = await self._looked(lambda: self._models.go(version, pinned, who(caller)))
        return _told({"version": announced.version, "pinned": announced.pinned})

    async def shown(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/shown"""
        found = await self._looked(lambda: self._quality.shown(self.catalogue.known()))
        return _told({**found, "titles": self.catalogue.titles(one["item_id"] for one in found["new"])})

    async def experiments(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/experiments"""
        return _told(await self._looked(self._quality.experiments))

    async def results(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/results"""
        return _told(await self._looked(self._quality.results))

    async def report(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/report"""
        name = await self._text(request, caller, "file")
        return _told(await self._looked(lambda: self._quality.report(name)))

    async def compared(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/compared"""
        first, second = await self._texts(request, caller, {"a": MAX_ID_LENGTH, "b": MAX_ID_LENGTH})
        return _told(await self._looked(lambda: self._quality.compared(first, second)))

    async def in_force(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /page/data/settings"""
        return _told(await self._looked(self._in_force.in_force))

    async def check(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /page/data/check"""
        most = {"kind": MAX_ID_LENGTH, "name": MAX_ID_LENGTH, "text": MOST_BODY_BYTES}
        kind, name, text = await self._texts(request, caller, most)
        return _told(await run_in_threadpool(self._in_force.check, kind, name, text))

    async def _looked(self, call: Callable[[], Any]) -> Any:
        async with self._looking:
            return await run_in_threadpool(call)

    async def _text(self, request: HttpRequest, caller: Caller, name: str, most: int = MAX_ID_LENGTH) -> str:
        return (await self._texts(request, caller, {name: most}))[0]

    async def _texts(self, request: HttpRequest, caller: Caller, most: Mapping[str, int]) -> list[str]:
        """Texts of a body by name, each of so many characters at most. Raises InvalidMessage."""
        async with self._bodies.json(request, caller) as body:
            given = body if isinstance(body, dict) else {}
        texts = []
        for name, longest in most.items():
            found = given.get(name)
            if not isinstance(found, str) or len(found) > longest:
                raise InvalidMessage("schema", f"{name}: give a text of at most {longest} characters")
            texts.append(found)
        return texts


def _told(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json", headers={"cache-control": "no-store"})
