// A shop of thirty films. What is Headwater here: `client`, its calls of track, recommend, identify and subscribe.
const at = (id) => document.getElementById(id);
const gateway = new URLSearchParams(location.search).get("gateway") || "http://127.0.0.1:8080";
if (!window.headwater) say("clients/js is not built yet: npm ci && npm run build, in clients/js");
const client = new headwater.Client({ gateway, onProblem: (problem) => say(problem.message) });
const K = 6;
const films = new Map();
let shown = [];
let list = null; // the answer that is on the page
let open = null; // the film whose page is open

function say(problem) {
  at("problem").textContent = problem;
  at("problem").hidden = !problem;
}

function el(tag, words, ...inside) {
  const made = Object.assign(document.createElement(tag), words);
  made.append(...inside);
  return made;
}

function about(film) {
  return `${film.attributes.year}, ${film.categories.join(", ")}`;
}

function paint(poster, film) {
  poster.textContent = film.title.replace(/^The /, "")[0];
  poster.style.setProperty("--hue", ([...film.item_id].reduce((sum, one) => sum * 31 + one.charCodeAt(0), 7) >>> 0) % 360);
  return poster;
}

function card(film, from) {
  const poster = paint(el("span", { className: "poster", ariaHidden: "true" }), film);
  const words = { className: "card", type: "button", onclick: () => visit(film.item_id, from) };
  const made = el("button", words, poster, el("span", { className: "title" }, film.title), el("span", { className: "about" }, about(film)));
  made.dataset.film = film.item_id;
  return el("li", {}, made);
}

/** Puts an answer in a row; what was not there before is marked. Returns what came. */
function fill(row, answer, before) {
  const known = answer.items.map((one) => films.get(one.item_id)).filter(Boolean);
  const held = row.contains(document.activeElement) ? document.activeElement.dataset.film : null;
  row.replaceChildren(...known.map((film) => {
    const made = card(film, answer);
    if (before.length && !before.includes(film.item_id)) made.className = "new";
    return made;
  }));
  if (held) (row.querySelector(`[data-film="${CSS.escape(held)}"]`) || row.querySelector("button"))?.focus();
  return known.map((film) => film.item_id);
}

function show(answer, took) {
  list = answer;
  const before = shown;
  shown = fill(at("list"), answer, before);
  const came = shown.filter((id) => !before.includes(id)).map((id) => films.get(id).title);
  const kind = answer.receipt.fallback ? "what is popular, or new" : "personal";
  if (took !== undefined) at("said").textContent = `A list ${Math.round(took)} ms after what you did (${kind})${came.length && before.length ? `: ${came.join(", ")} came` : ""}.`;
}

/** Tells what she did, and asks for a list that knows of it. */
async function act(type, film, from) {
  const began = performance.now();
  client.track(type, film, from ? { request_id: from.request_id } : {});
  try {
    show(await client.recommend({ k: K }), performance.now() - began);
    say("");
  } catch (error) {
    say(error.message);
  }
}

async function visit(id, from) {
  const film = films.get(id);
  open = { id, from };
  at("film").hidden = false;
  at("film-title").textContent = film.title;
  at("film-about").textContent = about(film);
  paint(at("film-poster"), film);
  at("similar").replaceChildren();
  at("film-title").focus();
  await act("click", id, from);
  try {
    const similar = await client.recommend({ k: 4, context_item: id, exclude: [id] });
    if (open && open.id === id) fill(at("similar"), similar, []);
  } catch (error) {
    say(error.message);
  }
}

function close() {
  if (!open) return;
  at("film").hidden = true;
  at("films").querySelector(`[data-film="${CSS.escape(open.id)}"]`)?.focus({ preventScroll: true }); // where she was, for who goes by keys
  open = null;
}

function greet() {
  const guest = client.user.startsWith("guest-");
  at("who").textContent = guest ? "a guest" : client.user;
  at("logout").hidden = guest;
}

document.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", () => {
  act(button.dataset.act, open.id, open.from);
  if (button.dataset.act === "dismiss") close();
}));
at("close").addEventListener("click", close);
at("film").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const user = at("name").value.trim();
  at("name").value = "";
  if (!user) return;
  await client.identify(user); // what the guest did is the user's from now on; the row begins again by itself
  greet();
});
at("logout").addEventListener("click", () => {
  client.reset();
  greet();
});

async function begin() {
  for (const film of await (await fetch("films.json")).json()) films.set(film.item_id, film);
  at("films").replaceChildren(...[...films.values()].map((film) => card(film, null)));
  client.subscribe({ k: K }, (answer) => {
    const ids = answer.items.map((one) => one.item_id);
    // a list on its way while she went on is not shown over one that knows more
    const older = list && list.user_id === answer.user_id && (answer.receipt.history_events ?? 0) < (list.receipt.history_events ?? 0);
    if (!older && ids.join() !== shown.join()) show(answer);
    say(ids.length ? "" : `No film is known there yet: curl -X PUT ${gateway}/v1/items --data-binary @examples/shop/films.json`);
  });
}
greet();
begin();
