"""An app that uses the SDK: it tracks, publishes, logs people in, and asks with a deadline.

What its handles say is acknowledged goes into the ledger. How often an app that waits is answered in time is counted.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future
from typing import Any

from chaos.ledger import LoadLedger
from chaos.load.records import CATALOGUE, asker, own_word, sayer, word
from headwater.client import Client, Position
from headwater.errors import HeadwaterError
from headwater.events import Event, Item, now_ms
from headwater.settings import Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS, Topic

__all__ = ["run_app"]

WAIT_S = 2.0
WHO = "Client"


def run_app(settings: Settings, ledger: LoadLedger, rate: float, seed: int, done: threading.Event) -> None:
    """Use the SDK as an app does, until `done`; at the end wait for what is under way.

    Parameters
        seed: of what it does.
    """
    client: Client | None = None
    app = _App(ledger, seed)
    try:
        due = time.monotonic()
        while not done.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / rate, time.monotonic() - 1.0)
            try:
                client = client or Client(settings=settings.kafka)
                app.act(client)
            except HeadwaterError as error:
                ledger.count(f"app: {type(error).__name__}")
    finally:
        if client is not None:
            try:
                client.flush(60.0)
            except HeadwaterError as error:
                ledger.count(f"app: {type(error).__name__} at its end")
            client.close()


class _App:
    """One thing after another, drawn by chance."""

    def __init__(self, ledger: LoadLedger, seed: int) -> None:
        self._ledger = ledger
        self._chance = random.Random(f"{seed}-app")
        self._seed = seed
        self._count = 0
        self._answered: str | None = None

    def act(self, client: Client) -> None:
        """Do the next thing. Raises HeadwaterError where that cannot be done now."""
        chance, draw = self._chance, self._chance.random()
        if draw < 0.15:
            self._several(client)
        elif draw < 0.25:
            self._ask(client)
        elif draw < 0.28:
            item = Item(item_id=f"i{chance.randrange(CATALOGUE)}", title=f"again {self._count}", categories=("c1",))
            for sent in client.put_items([item]).records:
                self._note("item", ITEMS, item.item_id, sent)
        elif draw < 0.30:
            user = self._user()
            for sent in client.put_users([{"user_id": user, "attributes": {"plan": "c"}}]).records:
                self._note("user", USERS, user, sent)
        elif draw < 0.32:
            guest = chance.randrange(20)
            self._note("merge", IDENTITIES, f"guest{guest}", client.identify(f"u{guest * 2}", f"guest{guest}"))
        elif draw < 0.33:
            user = self._user()
            self._note("erasure", ERASURES, f'{{"user_id":"{user}"', client.forget_user(user))
        elif draw < 0.36:
            user = sayer(chance)
            self._note("word", CONSENTS, f'"user_id":"{user}"', client.set_consent(user, **word(chance, now_ms())))
        else:
            self._one(client)

    def _one(self, client: Client) -> None:
        self._count += 1
        event_id = f"c{self._seed}.app-{self._count}"
        fields: dict[str, Any] = {"event_id": event_id} | own_word(self._chance, user := self._user())
        fields |= {} if self._answered is None else {"request_id": self._answered}
        sent = client.track(user, f"i{self._chance.randrange(CATALOGUE)}", "click", **fields)
        self._note("event", EVENTS, event_id, sent)

    def _several(self, client: Client) -> None:
        made = []
        for _ in range(6):
            self._count += 1
            event_id = f"c{self._seed}.app-{self._count}"
            item = f"i{self._chance.randrange(CATALOGUE)}"
            made.append(Event(event_id=event_id, user_id=self._user(), item_id=item, type="view"))
        for sent in client.track_many(made).records:
            self._note("packed events", EVENTS, "", sent)

    def _ask(self, client: Client) -> None:
        try:
            answer = client.recommend(self._user(), k=5, deadline_s=WAIT_S)
        except HeadwaterError as error:
            self._ledger.count(f"app: no answer in {WAIT_S:g} s" if "time" in str(error) else "app: could not ask")
        else:
            self._answered = answer.request_id
            self._ledger.count("app: answered in time")

    def _user(self) -> str:
        return asker(self._chance)

    def _note(self, what: str, topic: Topic, holds: str, sent: Future[Position]) -> None:
        def told(done: Future[Position]) -> None:
            if done.exception() is None:
                at = done.result()
                self._ledger.acknowledged(what, topic.name, (at.partition, at.offset), holds.encode(), WHO)
            else:
                self._ledger.count("failed sends")

        sent.add_done_callback(told)
