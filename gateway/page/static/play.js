import { at, bars, call, copyable, el, ms, pause, problem, reasoned, sign, stream } from "/page/door.js";

const ME = "headwater-visitor";
const K = 10;
const titles = new Map();
let me = sessionStorage.getItem(ME) || stranger();
let after = "";
let shown = [];
let since = []; // the list before the last thing that she did: what moved is told against it until she does another
let context = null;
let following = null;
let turn = 0; // an answer to an older question is not shown over a newer one

function stranger() {
  const made = `visitor-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  sessionStorage.setItem(ME, made);
  return made;
}
const title = (id) => titles.get(id) || id;

async function named(ids) {
  const unknown = [...new Set(ids)].filter((id) => !titles.has(id));
  if (unknown.length) for (const [id, text] of Object.entries(await call("/page/data/titles", { ids: unknown }))) titles.set(id, text);
}

function asked(more = {}) {
  const { name, kind } = at("surface").selectedOptions[0].dataset; // a surface says how long its lists are
  const place = name ? { surface: name } : kind ? { k: K, overrides: { kind } } : { k: K };
  return { user_id: me, explain: true, ...place, ...(context ? { context_item: context } : {}), ...more };
}

async function ask(more = {}) {
  const mine = ++turn;
  const found = await call("/v1/recommendations", asked({ ...(after ? { after } : {}), ...more }));
  return mine === turn ? found : null;
}

// ---- the list

function moved(item, before) {
  if (!before.length) return el("span", { class: "moved" });
  const was = before.indexOf(item.item_id);
  if (was < 0) return el("span", { class: "moved new" }, "new");
  const by = was + 1 - item.rank;
  if (!by) return sign("moved", "·", "same place");
  return sign(by > 0 ? "moved up" : "moved down", `${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`, `${by > 0 ? "up" : "down"} by ${Math.abs(by)}`);
}

function parts(item) {
  if (Object.keys(item.contributions || {}).join() === "popular") return null; // a decayed count, which says nothing by itself
  const made = el("details", { class: "parts" }, el("summary", {}, `score ${item.score.toFixed(3)}`), bars(item.contributions || {}, item.score));
  if (item.because) made.append(el("p", { class: "small soft" }, "Without it, less: "),
    bars(Object.fromEntries(item.because.map((one) => [`${one.type} ${title(one.item_id)}`, one.share]))));
  return made;
}

function render(found, before) {
  const last = shown;
  shown = found.items.map((one) => one.item_id);
  const open = new Set([...at("list").querySelectorAll("details[open]")].map((one) => one.closest("li").dataset.id));
  const held = document.activeElement && document.activeElement.dataset ? { at: [...at("list").children].indexOf(document.activeElement.closest("#list > li")), id: document.activeElement.closest("li")?.dataset.id, act: document.activeElement.dataset.act } : {};
  const heads = new Map((found.rows || []).map((row) => [row.first, row.title]));
  at("list").replaceChildren(...found.items.flatMap((item) => {
    const fresh = before.length && !before.includes(item.item_id) && !last.includes(item.item_id);
    const made = el("li", { "data-id": item.item_id, class: fresh ? "fresh" : null },
      el("span", { class: "rank" }, String(item.rank)), moved(item, before),
      el("div", {}, el("div", { class: "name-line" }, el("span", { class: "title" }, title(item.item_id)), acts(item.item_id)),
        item.reasons && item.reasons.length ? el("div", { class: "reason" }, reasoned(item.reasons.slice(0, 2).join("; "))) : null,
        parts(item)));
    if (open.has(item.item_id)) made.querySelector("details").open = true;
    return heads.has(item.rank) ? [el("li", { class: "row-title" }, el("h3", {}, heads.get(item.rank))), made] : [made];
  }));
  if (held.act && held.at >= 0) { // the same item, or what took its place
    const item = [...at("list").children].find((one) => one.dataset.id === held.id) || at("list").children[Math.min(held.at, found.items.length - 1)];
    item?.querySelector(`[data-act="${held.act}"]`)?.focus();
  }
  const receipt = found.receipt;
  const same = found.items.every((item) => ["popular", "trending"].includes(Object.keys(item.contributions || {}).join())); // whatever a surface, or her variant of it, calls for
  const asked = ["popular", "trending"].includes(at("surface").selectedOptions[0].dataset.kind);
  const kind = asked ? "The same for everybody." : receipt.fallback ? { no_events: "Nobody has done anything yet: the newest of the catalogue.", no_model: "No model yet: what is popular.", no_history: "Nothing is known of you yet: what is popular.", unknown_history: "This model has learned nothing of what you did: what is popular.", no_features: "The store could not be read just now: what is popular.", no_consent: "What is known of you may not be used for lists: what is popular." }[receipt.fallback] || `Not personal: ${receipt.fallback}.` : same ? "The same for everybody." : receipt.history_length ? `Personal, by ${receipt.history_length} ${receipt.history_length === 1 ? "event" : "events"} of yours.` : "By the page or the surface: nothing that you did went in.";
  const late = (receipt.policy || []).includes("after=not_reached") ? "What you did had not arrived yet: look again in a moment. " : "";
  const filled = (receipt.policy || []).filter((one) => one.startsWith("fill=")).map((one) => ` Filled up with ${one.slice(5).replace(":", ": ")}.`).join("");
  const dealt = receipt.variant ? ` Variant ${receipt.variant} of ${receipt.experiment}.` : "";
  at("kind").textContent = `${late}${kind}${filled}${dealt}${receipt.model_version ? ` Model ${receipt.model_version}, weights ${ms(receipt.weight_age_ms)} old.` : ""} Made in ${ms((receipt.timings_ms || {}).total)}.`;
  at("empty").hidden = found.items.length > 0;
  if (!found.items.length) at("empty").replaceChildren(el("p", {}, "There is nothing to recommend yet. Bring some films:"), copyable("headwater replay stream movielens"));
}

async function refresh() {
  try {
    const found = await ask();
    if (!found) return;
    await named(found.items.flatMap((one) => [one.item_id, ...(one.because || []).map((entry) => entry.item_id)]));
    problem("");
    since = [];
    render(found, since);
    if (!paused) follow();
  } catch (error) { await again(error, () => turn, refresh); }
}

// What was not answered, or was too much just now, is asked once more, unless she has asked for something else meanwhile.
async function again(error, turns, what) {
  problem(error.message);
  if (error.status && error.status < 429) return;
  const mine = turns();
  await pause(2000);
  if (mine === turns() && !paused) what();
}

// Lists that change by themselves: by the model, or by what this visitor does elsewhere. Each is an answer, which may
// count as shown: so none is asked for while nobody looks, or where nobody has touched anything for a while.
const IDLE_MS = 180000;
let touched = performance.now();
const looks = () => !document.hidden && performance.now() - touched < IDLE_MS;
let paused = false;
function watched() {
  if (looks() === !paused) return;
  paused = !paused;
  at("ms").textContent = paused ? "paused: nobody looks" : "";
  if (!paused) refresh();
  else if (following) following.abort();
}
for (const one of ["pointermove", "keydown", "scroll", "touchstart"]) addEventListener(one, () => { touched = performance.now(); watched(); }, { passive: true });
addEventListener("visibilitychange", () => { if (!document.hidden) touched = performance.now(); watched(); });
setInterval(watched, 5000);

async function follow() {
  if (following) following.abort();
  const mine = (following = new AbortController());
  let lost = false;
  while (!mine.signal.aborted) {
    try {
      await stream("/v1/recommendations/stream", asked(), async (kind, found) => {
        if (kind !== "list" || mine.signal.aborted) return;
        if (lost) problem("");
        lost = false;
        const ids = found.items.map((one) => one.item_id);
        if (ids.join("\n") === shown.join("\n") || found.receipt.history_events < seen) return;
        const before = shown;
        await named(ids);
        if (mine.signal.aborted) return;
        if (!at("ms").textContent.endsWith("itself")) at("ms").textContent += `${at("ms").textContent ? "; since then " : ""}changed by itself`;
        render(found, since.length ? since : before);
      }, mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      lost = true;
      problem(error.message);
      if (error.status === 401 || error.status === 403) return;
    }
    await pause(1000);
  }
}
let seen = 0;

// ---- what the visitor does

const DONE = { click: "You clicked", purchase: "You bought", dismiss: "You dismissed" };

async function act(type, item) {
  const before = shown;
  const began = performance.now();
  turn += 1;
  try {
    const told = await call("/v1/events", { user_id: me, item_id: item, type });
    after = told.after || after;
    const found = await ask();
    if (!found) return;
    const took = performance.now() - began;
    seen = found.receipt.history_events || 0;
    await named([item, ...found.items.flatMap((one) => [one.item_id, ...(one.because || []).map((entry) => entry.item_id)])]);
    problem("");
    since = before;
    forgetWhy();
    tell(type, item, before, found, took);
    render(found, before);
  } catch (error) { problem(error.message); }
}

function tell(type, item, before, found, took) {
  const now = found.items.map((one) => one.item_id);
  const came = now.filter((id) => !before.includes(id));
  const gone = before.filter((id) => !now.includes(id));
  const told = `${came.length || gone.length || now.join() !== before.join() ? "new list" : "same list"} after ${ms(took)}`;
  at("ms").textContent = told;
  at("aside").textContent = `${DONE[type] || type} ${title(item)}: ${told}. First now: ${title(now[0])}.`;
  const names = (ids) => ids.slice(0, 3).map(title).join(", ") + (ids.length > 3 ? ` and ${ids.length - 3} more` : "");
  at("did").hidden = false;
  at("did").replaceChildren(...[
    el("div", {}, `${DONE[type] || type} `, el("strong", {}, title(item)), `: ${told}.`),
    came.length ? el("div", { class: "small" }, `Came: ${names(came)}`) : null,
    gone.length ? el("div", { class: "small" }, `Went: ${names(gone)}`) : null,
    el("details", {}, el("summary", {}, "The list before"), el("ol", {}, ...before.map((id) => el("li", {}, title(id)))))].filter(Boolean));
}

function acts(item) {
  const one = (name, text, what, first) => el("button", { class: first ? "act first" : "act", type: "button", "data-act": name, "aria-label": `${text}: ${title(item)}`, onclick: what }, text);
  return el("div", { class: "acts" },
    one("click", "Click", () => act("click", item), true),
    one("purchase", "Buy", () => act("purchase", item)),
    one("dismiss", "Dismiss", () => act("dismiss", item)),
    one("context", "Open its page", () => stand(item)));
}

async function whyNot(item, where) {
  try {
    const found = await call("/v1/recommendations", asked({ why_not: item, ...(after ? { after } : {}) }));
    const why = found.why_not;
    const made = el("div", { class: "why" });
    if (!why) made.append("The answer does not tell of it.");
    else {
      made.append(el("div", {}, why.stage === "listed" ? `It is in your list, at place ${why.rank}.` : why.text));
      if (why.contributions && Object.keys(why.contributions).length) made.append(bars(why.contributions));
      if (Object.values(why.behind || {}).some((n) => Math.abs(n) >= 0.0005)) made.append(el("div", { class: "soft" }, "What the list's last item has more of:"), bars(why.behind));
    }
    where.querySelector(".why")?.remove();
    where.append(made);
  } catch (error) { problem(error.message); }
}

function stand(item) {
  context = item;
  at("context").hidden = !item;
  if (item) at("context").replaceChildren(el("span", {}, "On the page of ", el("strong", {}, title(item))), el("button", { type: "button", onclick: () => { stand(null); at("list-title").focus(); } }, "Leave"));
  at("ms").textContent = "";
  refresh();
}

// What was asked before is no longer so.
const forgetWhy = () => document.querySelectorAll(".why").forEach((one) => one.remove());

function become(name) {
  forgetWhy();
  me = name;
  sessionStorage.setItem(ME, me);
  at("me").textContent = me;
  at("did").hidden = true;
  at("ms").textContent = "";
  seen = 0;
}

// ---- the catalogue

let waiting = 0;
async function search() {
  const mine = ++waiting;
  await pause(120);
  if (mine !== waiting) return;
  try {
    const found = await call("/page/data/search", { text: at("text").value });
    if (mine !== waiting) return;
    problem("");
    found.items.forEach((one) => titles.set(one.item_id, one.title));
    at("found").textContent = found.of ? `${found.items.length} shown; the catalogue has ${found.of.toLocaleString("en")}` : "";
    at("cards").replaceChildren(...found.items.map((one) => {
      const made = el("li", { class: "card" }, el("div", { class: "name-line" }, el("span", { class: "title" }, one.title), el("span", { class: "soft small" }, [one.categories, `id ${one.item_id}`].filter(Boolean).join(" · "))));
      const row = acts(one.item_id);
      row.append(el("button", { class: "act", type: "button", "aria-label": `Why not: ${one.title}`, onclick: () => whyNot(one.item_id, made) }, "Why not?"));
      made.append(row);
      return made;
    }));
    if (!found.of) at("cards").replaceChildren(el("li", { class: "empty" }, el("p", {}, "The catalogue is empty. Bring 1,682 films and what people did with them:"), copyable("headwater replay stream movielens")));
    else if (!found.items.length) at("cards").replaceChildren(el("li", { class: "soft" }, "Nothing has all these words."));
  } catch (error) { await again(error, () => waiting, search); }
}

at("text").addEventListener("input", search);
at("find").addEventListener("submit", (event) => { event.preventDefault(); search(); });
at("fresh").addEventListener("click", () => { after = ""; become(stranger()); refresh(); });
at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  if (!name || name === me) return;
  try {
    if (me.startsWith("visitor-")) { // a guest who logs in; somebody who changes to another account is not the same person
      const told = await call("/v1/identify", { user_id: name, was: me });
      after = told.after || after;
    }
    at("name").value = "";
    become(name);
    refresh();
  } catch (error) { problem(error.message); }
});
at("surface").addEventListener("change", refresh);

become(me);
search();
refresh();
call("/page/data/surfaces").then((names) => {
  if (names.length) at("surface").append(el("optgroup", { label: "Surfaces" }, ...names.map((name) => el("option", { "data-name": name }, name))));
}).catch(() => undefined);
