// What the pages share: calls of the API, server-sent events by fetch, elements made of text. Nothing that comes
// from outside is ever read as HTML, but for charts, which the gateway itself draws.
const KEY = "headwater-key";

export function el(tag, given = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.filter((one) => one !== null && one !== undefined));
  return made;
}
export const at = (id) => document.getElementById(id);

// Changes a text only where it is another: who listens to a page is told of each change.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
export function problem(text) {
  write(at("problem"), text || "");
  at("problem").hidden = !text;
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

const away = (error) => (error.name === "AbortError" ? error : new Error("The gateway does not answer. Does `headwater up`, or the demo, still run? The page goes on when it is back."));

async function answered(path, body, signal) {
  let found;
  try {
    found = await fetch(path, { method: body === undefined ? "GET" : "POST", headers: headers(), signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    throw away(error);
  }
  if (found.ok) return found;
  const told = await found.json().catch(() => ({}));
  if (found.status === 401 || (told.error && told.error.code === "scope")) at("key-form").hidden = false;
  const error = new Error(told.error ? told.error.message : `status ${found.status}`);
  error.status = found.status;
  throw error;
}

export async function call(path, body) {
  return (await answered(path, body)).json();
}

// Calls `take(kind, data)` for each event; comes back when the stream ends. Begin again is the caller's.
export async function stream(path, body, take, signal) {
  const reader = (await answered(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => { throw away(error); });
    if (done) return;
    kept += value;
    const parts = kept.split("\n\n");
    kept = parts.pop();
    for (const part of parts) {
      const kind = /^event: (.*)$/m.exec(part);
      const data = /^data: (.*)$/m.exec(part);
      if (kind && data) take(kind[1], JSON.parse(data[1]));
    }
  }
}

// The same for as long as the page is open: begins again where the gateway was away, and says so meanwhile.
export async function lasting(path, take) {
  for (let lost = false; ;) {
    try {
      await stream(path, undefined, (kind, told) => {
        if (lost) problem("");
        lost = false;
        take(told);
      });
    } catch (error) {
      lost = true;
      problem(error.message);
      if (error.status === 401 || error.status === 403) return;
    }
    await pause(2000);
  }
}

export const pause = (ms) => new Promise((go) => setTimeout(go, ms));
export const whole = (n) => Math.round(n).toLocaleString("en");
export const ms = (n) => (n === null || n === undefined ? "–" : n >= 1000 ? `${(n / 1000).toFixed(1)} s` : n >= 10 ? `${n.toFixed(0)} ms` : `${n.toFixed(1)} ms`);
export const clock = (n) => new Date(n).toISOString().replace("T", " ").slice(0, 19);

// Reasons as people say them: titles come as the catalogue writes them.
export const reasoned = (text) => text.replace(/(because you \w+ )(.+?), (The|An?)(?=; |$)/g, "$1$3 $2").replace(/(because you (\w+) [^;]*); because you \2 /g, "$1 and ");

// A word of a command that is copied into a shell: ids are whatever somebody chose. What does not show, or turns the
// direction of writing, is written as its number.
const UNSEEN = /[\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
export const quoted = (word) => (word.search(UNSEEN) >= 0 ? `$'${word.replace(/[\\']/g, "\\$&").replace(UNSEEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)}'` :
  /^[\w.:@%+/][\w.:@%+/-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

export function copyable(text) {
  const made = el("button", { class: "copy", type: "button", title: "Copy" }, text);
  return ready(made);
}
function ready(button) {
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.textContent);
      button.classList.add("done");
      at("aside").textContent = `Copied: ${button.textContent}`;
    } catch { getSelection().selectAllChildren(button); }
  });
  return button;
}

// A sign of who looks, and its words for who listens.
export const sign = (style, seen, heard) => el("span", { class: style }, el("span", { "aria-hidden": "true" }, seen), el("span", { class: "hidden" }, heard));

const signed = (n) => n.toFixed(3).replace("-", "−");
// Named numbers as bars, the longest fills the width; and their sum, where it is told.
export function bars(parts, sum) {
  const pairs = Object.entries(parts).filter(([, n]) => Math.abs(n) >= 0.0005).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(...pairs.map(([, n]) => Math.abs(n)), 1e-9);
  const made = el("div", { class: "bars" });
  for (const [name, n] of pairs) {
    const bar = el("div", { class: n < 0 ? "bar minus" : "bar" });
    bar.style.width = `${(100 * Math.abs(n)) / most}%`;
    made.append(el("span", {}, name), bar, el("span", { class: "soft" }, signed(n)));
  }
  if (sum !== undefined) made.append(el("span", {}, "together"), el("div"), el("strong", {}, signed(sum)));
  return made;
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  location.reload();
});
document.querySelectorAll("button.copy").forEach(ready);
