// Headwater for browsers: tells a gateway what a visitor does, and asks it for her lists. No dependencies.
//
// An event waits in localStorage until the gateway has said that Kafka has it. It is sent again, by this page or the
// next, under the id that it got here, and a repeated id changes nothing: so nothing is lost, and nothing counts twice.

import type { components } from "./api";
import { Door, Refused, type TokenSource } from "./door";
import { Kept, newId, type Waiting } from "./kept";

export { Refused, type TokenSource };

type Schemas = components["schemas"];

/** What may be told of an event beside its user, item and type: `request_id`, `value`, `properties`, ... */
export type EventFields = Omit<Schemas["Event"], "user_id" | "item_id" | "type">;
/** A request, as POST /v1/recommendations takes it. */
export type Asked = Partial<Schemas["Asked"]>;
/** An answer: `items`, and the `receipt` that says what they know of. */
export type Recommendation = Schemas["Recommendation"] & { items: Schemas["RecommendedItem"][] };

export interface Options {
  /** Where the gateway is, `https://recommend.example.com`; left out: where the page is from. */
  gateway?: string;
  /** Who is logged in, as your server knows; left out: who it was before, at first a guest with an id made here. */
  user?: string;
  /** Gives a token that speaks for a user. Left out where nobody is asked for a key. */
  token?: TokenSource;
  /** Events wait so long for others to go with; 200 ms. */
  lingerMs?: number;
  /** Hears of what was refused, and of what is tried again; console.warn. */
  onProblem?: (problem: Error) => void;
}

const BATCH = 100; // events in one call
const MOST_WAITING = 1_000;
const LEAST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 60_000;
const FRESH_MS = 5_000;
const OF_ONE_EVENT = [400, 413, 422]; // what a list may be refused for because of one in it

export class Client {
  readonly #kept: Kept;
  readonly #door: Door;
  readonly #lingerMs: number;
  readonly #problem: (problem: Error) => void;
  readonly #streams = new Set<AbortController>();
  readonly #left = new Set<string>();
  #user = "";
  #isGuest = true;
  #sending: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #notBefore = 0;

  constructor(options: Options = {}) {
    const gateway = (options.gateway ?? "").replace(/\/+$/, "");
    this.#kept = new Kept(gateway);
    this.#door = new Door(gateway, this.#kept, options.token);
    this.#lingerMs = options.lingerMs ?? 200;
    this.#problem = options.onProblem ?? ((problem) => console.warn(`headwater: ${problem.message}`));
    const [user, isGuest] = this.#remembered();
    this.#become(user, isGuest);
    if (options.user) void this.identify(options.user);
    if (typeof document !== "undefined") {
      addEventListener("online", () => this.#again());
      addEventListener("pagehide", () => this.#leave());
      document.addEventListener("visibilitychange", () => (isHidden() ? this.#hide() : this.#again()));
    }
    this.#later(this.#lingerMs); // what an earlier page left
  }

  /** Who is asked and told for. */
  get user(): string {
    return this.#user;
  }

  /** Events and links that the gateway has not acknowledged yet. */
  get waiting(): number {
    return this.#kept.size;
  }

  /**
   * Tells that the visitor did something with an item, or was shown a list of them. Returns the event's id.
   *
   *     client.track("click", "film-7", { request_id: list.request_id })
   *     client.track("impression", ["film-7", "film-9"])
   */
  track(type: string, item: string | readonly string[], more: EventFields = {}): string {
    const id = more.event_id ?? newId();
    const what = typeof item === "string" ? { item_id: item } : { items: item };
    this.#add("/v1/events", id, { ...more, ...what, type, event_id: id, user_id: this.#user });
    this.#later(this.#kept.size < BATCH ? this.#lingerMs : 0);
    return id;
  }

  /** Says who the visitor is. What the guest did, and waits to be sent, counts as done by this user. */
  async identify(user: string): Promise<void> {
    const was = this.#user;
    if (user === was) return;
    if (this.#isGuest) this.#add("/v1/identify", newId(), { user_id: user, was });
    this.#become(user, false);
    await this.flush();
  }

  /** Forgets here who the visitor is, as at a logout: from now on she is a new guest. */
  reset(): void {
    this.#become(`guest-${newId()}`, true);
  }

  /** The best items for the visitor, by all that she did until now. */
  async recommend(asked: Asked = {}): Promise<Recommendation> {
    await this.flush();
    const answer = await this.#door.post("/v1/recommendations", { user_id: this.#user, ...asked }, this.#user);
    return listOf(await answer.json());
  }

  /**
   * Calls `onList` with a list, and with each that takes its place as she goes on; with none while the page is in the
   * background. Returns what ends it.
   */
  subscribe(asked: Asked, onList: (list: Recommendation) => void): () => void {
    const ending = new AbortController();
    void this.#follow(asked, onList, ending.signal);
    return () => ending.abort();
  }

  /** Sends what waits, and comes back when that is acknowledged, or has to be tried again later. */
  flush(): Promise<void> {
    if (!this.#kept.size || Date.now() < this.#notBefore) return Promise.resolve();
    return (this.#sending ??= this.#drain());
  }

  // ---- who it is

  #remembered(): [string, boolean] {
    const [user, kind] = (this.#kept.read("user") ?? "").split("\n");
    return user ? [user, kind === "guest"] : [`guest-${newId()}`, true];
  }

  #become(user: string, isGuest: boolean): void {
    this.#user = user;
    this.#isGuest = isGuest;
    this.#kept.write("user", `${user}\n${isGuest ? "guest" : ""}`);
    this.#anew(); // for whom it is now
  }

  // ---- what waits

  #add(path: Waiting["path"], id: string, given: Record<string, unknown>): void {
    let body: Waiting["body"];
    try {
      body = JSON.parse(JSON.stringify(given)); // as it is now, whatever the page makes of it later
    } catch (error) {
      return this.#problem(new Error(`JSON cannot say the event ${id}: ${String(error)}`));
    }
    this.#kept.add({ id, path, body, user: String(body.user_id), at: Date.now() });
    const over = this.#kept.all().slice(0, Math.max(0, this.#kept.size - MOST_WAITING));
    this.#kept.remove(over);
    if (over.length) this.#problem(new Error(`over ${MOST_WAITING} events wait: the oldest is given up`));
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    const wait = Math.max(ms, this.#notBefore - Date.now());
    this.#timer = setTimeout(() => this.#again(), wait); // which may come a fraction of a millisecond early
  }

  #again(): void {
    this.#notBefore = 0;
    void this.flush();
  }

  async #drain(): Promise<void> {
    try {
      while (this.#kept.size && Date.now() >= this.#notBefore) await this.#send(this.#next());
    } finally {
      this.#sending = undefined;
    }
  }

  /** The oldest, with those behind it that one call can take: of one kind and one user, whom a token speaks for. */
  #next(): Waiting[] {
    const all = this.#kept.all().slice(0, BATCH);
    const [first] = all;
    if (!first || first.path === "/v1/identify") return all.slice(0, 1);
    const other = all.findIndex((one) => one.path !== first.path || one.user !== first.user);
    return other < 0 ? all : all.slice(0, other);
  }

  async #send(several: Waiting[]): Promise<void> {
    const [first] = several;
    if (!first || Date.now() < this.#notBefore) return;
    try {
      const link = first.path === "/v1/identify";
      const was = link ? String(first.body.was) : undefined;
      await this.#door.post(first.path, link ? first.body : several.map(asEvent), first.user, was);
      this.#failures = 0;
    } catch (error) {
      const refused = error as Refused;
      // who has logged out gets no token any more: what she left behind does not hold up what comes after it
      const over = refused.status === 401 && this.#door.hasTokens && first.user !== this.#user;
      if (refused.passes && !over) return this.#wait(refused);
      if (several.length > 1 && OF_ONE_EVENT.includes(refused.status)) {
        const half = several.length >> 1; // all of a list is taken, or nothing: look for the one that is wrong
        await this.#send(several.slice(0, half));
        return this.#send(several.slice(half));
      }
      this.#problem(refused);
    }
    this.#kept.remove(several);
  }

  #wait(refused: Refused): void {
    const ms = Math.min(MOST_WAIT_MS, LEAST_WAIT_MS * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    if (!this.#failures++) this.#problem(refused); // once, until something is acknowledged again
    this.#notBefore = Date.now() + Math.max(ms, refused.retryAfterMs);
    this.#later(0);
  }

  /** The page may never come back: what waits goes out now, and waits on, because nobody reads the answer. */
  #leave(): void {
    const events = this.#next().filter((one) => one.path === "/v1/events" && !this.#left.has(one.id));
    const user = events[0]?.user ?? "";
    let many = events.length;
    while (many && !this.#door.leave("/v1/events", events.slice(0, many).map(asEvent), user)) many >>= 1;
    for (const one of events.slice(0, many)) this.#left.add(one.id);
  }

  // ---- lists that change

  /** Ends all streams, which begin again by themselves. */
  #anew(): void {
    for (const one of this.#streams) one.abort();
  }

  #hide(): void {
    this.#anew(); // when she is back: each list that is asked for counts as shown
    this.#leave();
  }

  async #follow(asked: Asked, onList: (list: Recommendation) => void, ending: AbortSignal): Promise<void> {
    let failures = 0;
    while (!ending.aborted) {
      await looks(ending);
      if (ending.aborted) return;
      const turn = new AbortController();
      const end = (): void => turn.abort();
      this.#streams.add(turn);
      ending.addEventListener("abort", end);
      try {
        await this.flush();
        const user = this.#user;
        const answer = await this.#door.post("/v1/recommendations/stream", { user_id: user, ...asked }, user, undefined, turn.signal);
        await read(answer, (kind, told) => {
          failures = 0;
          if (kind === "problem") this.#problem(new Error(told.message));
          else if (!turn.signal.aborted) queueMicrotask(() => onList(listOf(told))); // what it throws is not ours
        });
      } catch (error) {
        if (!turn.signal.aborted) {
          this.#problem(error as Error);
          if (error instanceof Refused && !error.passes) return;
        }
      } finally {
        this.#streams.delete(turn);
        ending.removeEventListener("abort", end);
      }
      if (!turn.signal.aborted) await pause(Math.min(MOST_WAIT_MS, LEAST_WAIT_MS * 2 ** failures++), ending);
    }
  }
}

/** What is told at once has the gateway's time: clocks of browsers are wrong. What has waited has its own. */
function asEvent(one: Waiting): Waiting["body"] {
  return Date.now() - one.at < FRESH_MS ? one.body : { event_time: one.at, ...one.body };
}

function listOf(told: Schemas["Recommendation"]): Recommendation {
  return { ...told, items: told.items ?? [] };
}

function pause(ms: number, ending: AbortSignal): Promise<void> {
  return new Promise((go) => {
    const timer = setTimeout(go, ms);
    ending.addEventListener("abort", () => (clearTimeout(timer), go()), { once: true });
  });
}

function isHidden(): boolean {
  return typeof document !== "undefined" && document.visibilityState === "hidden";
}

/** Until somebody looks at the page. */
function looks(ending: AbortSignal): Promise<void> {
  return new Promise((go) => {
    const look = (): void => {
      if (isHidden() && !ending.aborted) return;
      document.removeEventListener("visibilitychange", look);
      go();
    };
    if (!isHidden()) return go();
    document.addEventListener("visibilitychange", look);
    ending.addEventListener("abort", look, { once: true });
  });
}

/** Server-sent events of an answer, until it ends. */
async function read(answer: Response, take: (kind: string, told: any) => void): Promise<void> {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop()!;
    for (const part of parts) {
      const found = /^event: (.*)\ndata: (.*)$/.exec(part);
      if (found) take(found[1]!, JSON.parse(found[2]!));
    }
  }
}
