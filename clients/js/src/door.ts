// One gateway, over fetch: who speaks, how far her own events have come, and what a refusal says.

import type { Kept } from "./kept";

/** Why the gateway did not do what it was asked. `status` 0: it was not reached, or who gives tokens was not. */
export class Refused extends Error {
  override readonly name = "Refused";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterMs = 0,
  ) {
    super(message);
  }

  /** Whether the same may succeed later. */
  get passes(): boolean {
    return this.status === 0 || this.status === 401 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** "", null and undefined: there is none for that user any more. */
type Token = string | null | undefined;
/**
 * Gives a token that speaks for `user`, and may link it with `was`: `POST /v1/tokens`, asked by your server. What it
 * throws says only that it could not tell now: all waits, and it is asked again.
 */
export type TokenSource = (user: string, was?: string) => Token | Promise<Token>;

const AFTER = "headwater-after";
const AFTER_HOLDS_MS = 600_000; // features have long had what is older
const PATIENCE_MS = 30_000;

function outOfPatience(): Promise<never> {
  return new Promise((_, fail) => setTimeout(() => fail(new Error(`nothing in ${PATIENCE_MS / 1000} s`)), PATIENCE_MS));
}

export class Door {
  readonly #url: string;
  readonly #kept: Kept;
  readonly #source: TokenSource | undefined;
  #token = "";
  #speaksFor = "";

  constructor(url: string, kept: Kept, source: TokenSource | undefined) {
    this.#url = url;
    this.#kept = kept;
    this.#source = source;
  }

  /** Whether a 401 tells of a user: without tokens it tells of the page, whoever speaks. */
  get hasTokens(): boolean {
    return this.#source !== undefined;
  }

  /** The answer to a POST, when it is a good one; else it throws Refused. */
  async post(path: string, body: unknown, user: string, was?: string, signal?: AbortSignal): Promise<Response> {
    let answer = await this.#asked(path, body, user, was, signal);
    if (answer.status === 401 && this.#source) {
      this.#speaksFor = ""; // its time is over: a new one
      answer = await this.#asked(path, body, user, was, signal);
    }
    const after = answer.headers.get(AFTER);
    if (after) this.#kept.write("after", JSON.stringify([Date.now(), after]));
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    const retryAfterMs = 1000 * Number(answer.headers.get("retry-after") ?? 0) || 0;
    throw new Refused(answer.status, told?.error?.code ?? "", told?.error?.message ?? `status ${answer.status}`, retryAfterMs);
  }

  /** Hands over what a page that is being left can still send; whether the browser took it. Nobody reads the answer. */
  leave(path: string, body: unknown, user: string): boolean {
    if (this.#source && this.#speaksFor !== user) return false;
    const key = this.#source ? `?key=${encodeURIComponent(this.#token)}` : "";
    return navigator.sendBeacon(this.#url + path + key, JSON.stringify(body));
  }

  async #asked(path: string, body: unknown, user: string, was?: string, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { "content-type": "application/json" };
    const after = this.#after();
    if (after) headers[AFTER] = after;
    if (this.#source) headers.authorization = `Bearer ${await this.#tokenOf(this.#source, user, was)}`;
    try {
      return await fetch(this.#url + path, {
        method: "POST", headers, body: JSON.stringify(body), signal: signal ?? AbortSignal.timeout(PATIENCE_MS),
      });
    } catch (error) {
      throw new Refused(0, "unreached", `the gateway ${this.#url || location.origin} was not reached: ${String(error)}`);
    }
  }

  async #tokenOf(source: TokenSource, user: string, was?: string): Promise<string> {
    if (this.#speaksFor !== user || was !== undefined) {
      let told: Token;
      try {
        told = (await Promise.race([source(user, was), outOfPatience()])) ?? "";
        if (typeof told !== "string") throw new TypeError(`it gave ${JSON.stringify(told)}`);
      } catch (error) {
        throw new Refused(0, "token", `the token source did not tell a token for ${user}: ${String(error)}`);
      }
      if (!told) throw new Refused(401, "token", `there is no token for ${user} any more`);
      this.#token = told;
      this.#speaksFor = user;
    }
    return this.#token;
  }

  /** Positions of her own events, which answers must include; "" when there are none, or not of late. */
  #after(): string {
    try {
      const [at, text] = JSON.parse(this.#kept.read("after") ?? "[0]") as [number, string];
      return Math.abs(Date.now() - at) < AFTER_HOLDS_MS ? text : "";
    } catch {
      return "";
    }
  }
}
