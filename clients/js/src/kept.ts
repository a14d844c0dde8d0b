// What waits to be sent, and what is remembered between two pages: in localStorage, and where there is none (blocked, or
// full) in memory alone. An entry each, so that tabs of one site do not write over each other's.

/** What waits: an event, or a link of two ids. `path` says which. */
export interface Waiting {
  readonly id: string;
  readonly path: "/v1/events" | "/v1/identify";
  readonly user: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** Epoch ms of this browser. */
  readonly at: number;
}

let count = 0;

/** An id that sorts by when it was made: no two are alike, in any browser. */
export function newId(): string {
  const chance = [...crypto.getRandomValues(new Uint32Array(3))].map((one) => one.toString(36)).join("");
  return `${Date.now().toString(36)}${(46_656 + count++).toString(36)}${chance}`;
}

function attempt<T>(what: () => T): T | undefined {
  try {
    return what();
  } catch {
    return undefined; // the browser keeps nothing: what is in memory is all there is
  }
}

export class Kept {
  readonly #prefix: string;
  readonly #waiting = new Map<string, Waiting>();
  readonly #words = new Map<string, string>();

  /** `name` tells stores of one site apart. */
  constructor(name: string) {
    this.#prefix = `headwater ${name} `;
    const names = attempt(() => Object.keys(localStorage)) ?? [];
    for (const one of names.filter((name) => name.startsWith(`${this.#prefix}waits `)).sort()) {
      const found = attempt(() => JSON.parse(localStorage.getItem(one) ?? "") as Waiting);
      if (found?.id && found.body) this.#waiting.set(found.id, found);
      else attempt(() => localStorage.removeItem(one));
    }
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** The oldest first. */
  all(): Waiting[] {
    return [...this.#waiting.values()];
  }

  add(one: Waiting): void {
    this.#waiting.set(one.id, one);
    attempt(() => localStorage.setItem(`${this.#prefix}waits ${one.id}`, JSON.stringify(one)));
  }

  remove(several: readonly Waiting[]): void {
    for (const { id } of several) {
      this.#waiting.delete(id);
      attempt(() => localStorage.removeItem(`${this.#prefix}waits ${id}`));
    }
  }

  /** What was kept under a name; another tab may have written it. */
  read(name: string): string | undefined {
    return attempt(() => localStorage.getItem(this.#prefix + name)) ?? this.#words.get(name);
  }

  write(name: string, value: string): void {
    this.#words.set(name, value);
    attempt(() => localStorage.setItem(this.#prefix + name, value));
  }
}
