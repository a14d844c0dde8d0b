import { at, bars, call, clock, copyable, el, ms, problem, quoted, reasoned, whole } from "/page/door.js";
import { facts, panel, table } from "/page/tables.js";

const KINDS = {
  user: { label: "User", hint: "An id, such as a visitor of the playground or one of the replayed stream.", path: "/page/data/user", field: "user_id", show: user },
  item: { label: "Item", hint: "An item's id. The playground finds items by title, and shows the id of each.", path: "/page/data/item", field: "item_id", show: item },
  request: { label: "Request", hint: "The request_id that an answer has.", path: "/page/data/request", field: "request_id", show: request },
  letters: { label: "Dead letters" },
};
let kind = "user";

const link = (to, id, text) => el("button", { class: "link", type: "button", onclick: () => go(to, id) }, text);

const named = (told, id) => link("item", id, told.titles[id] || id);

function user(told) {
  const made = [panel(el("h2", {}, told.user_id), facts([["Events", whole(told.count)], ["Lists shown", whole(told.lists)],
    ...told.experiments.map((one) => [`Variant on ${one.surface}`, `${one.variant} of ${one.experiment}`]), ...Object.entries(told.attributes).map(([name, value]) => [name, String(value)])]),
  told.also.length ? el("p", {}, "The same person, by other ids: ", ...told.also.flatMap((id, place) => [place ? ", " : "", link("user", id, id)]), ". What was done under each stands there; lists go by all of it.") : null)];
  if (!told.count && !told.shown.length && !told.also.length) {
    return [panel(el("p", {}, `Nothing of this user is among the newest ${whole(told.looked_at)} events of their partition. To look at all that is kept: `), copyable(`headwater export ${quoted(told.user_id)}`))];
  }
  if (told.events.length) made.push(panel(el("h2", {}, "What they did, newest first"), table(["When, UTC", "What", "Item", "Where"],
    told.events.map((one) => [clock(one.time_ms), one.type + (one.value === null ? "" : ` ${one.value}`), named(told, one.item_id), el("span", { class: "soft small" }, one.at)]))));
  if (told.shown.length) made.push(panel(el("h2", {}, "What they were shown, newest first"), table(["When, UTC", "Items", "Request"],
    told.shown.map((one) => [clock(one.time_ms), one.items.slice(0, 4).map((id) => told.titles[id] || id).join(", ") + (one.items.length > 4 ? ` and ${one.items.length - 4} more` : ""),
      one.request_id ? link("request", one.request_id, "look at it") : "–"]))));
  return made;
}

function item(told) {
  const known = told.item;
  if (!known && !Object.keys(told.types).length && !told.shown) return [panel(el("p", {}, "This item is neither in the catalogue nor in the newest events. What there is: "), copyable("headwater items"))];
  const made = [panel(el("h2", {}, told.titles[told.item_id] || told.item_id), el("p", { class: "soft small" }, told.item_id), facts([
    ["Users", whole(told.users)], ...Object.entries(told.types).map(([type, n]) => [type, whole(n)]), ["Lists that show it", whole(told.shown)],
    known && known.categories && known.categories.length ? ["Categories", known.categories.join(", ")] : null,
    known ? ["Available", known.available ? "yes" : "no"] : ["Catalogue", "not in it"],
    ...Object.entries((known && known.attributes) || {}).slice(0, 8).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)])]))];
  if (told.rate.length) {
    const most = Math.max(...told.rate);
    const text = `Its events, from the oldest to the newest of the ${whole(told.looked_at)} that were looked at, in ${told.rate.length} pieces; most in one: ${whole(most)}.`;
    made.push(panel(el("h2", {}, "Over time"), el("p", { class: "soft small" }, text), el("div", { class: "rate", role: "img", "aria-label": text }, ...told.rate.map((n) => {
      const bar = el("div");
      bar.style.height = `${(100 * n) / most}%`;
      return bar;
    }))));
  }
  const near = panel(el("h2", {}, "Neighbours"), el("p", { class: "soft small" }, "What somebody gets who stands on its page."));
  made.push(near);
  call("/v1/recommendations", { context_item: told.item_id, k: 8 }).then(async (found) => {
    const ids = found.items.map((one) => one.item_id);
    const titles = await call("/page/data/titles", { ids });
    near.append(el("ol", {}, ...ids.map((id) => el("li", {}, link("item", id, titles[id] || id)))));
  }).catch((error) => near.append(el("p", {}, error.message)));
  return made;
}

function request(told, id) {
  const found = told.answer;
  if (!found) return [panel(el("p", {}, "No such answer is among the newest of each partition. To look further: "), copyable(`headwater replay explain ${quoted(id)}`))];
  const receipt = found.receipt || {};
  const refused = found.error ? panel(el("p", { class: "problem" }, `${found.error.code}: ${found.error.message}`)) : null;
  return [panel(el("h2", {}, "Answer"), el("p", { class: "soft small" }, found.at), facts([["For", found.user_id || "nobody by name"], ["Answered, UTC", clock(found.answered_ms)],
    ["Model", receipt.model_version ? String(receipt.model_version) : "none"], ["Weights' age", ms(receipt.weight_age_ms)], ["History", `${receipt.history_length} events`], ["Features' age", ms(receipt.feature_age_ms)],
    ["Kind", receipt.fallback || "personal"], receipt.surface ? ["Surface", receipt.surface] : null, receipt.experiment ? ["Variant", `${receipt.variant} of ${receipt.experiment}`] : null])),
  refused,
  panel(el("h2", {}, "Where the time went, ms"), bars(receipt.timings_ms || {}), el("p", { class: "small soft" }, "Rebuilt from the log, bit for bit: ", copyable(`headwater replay explain ${quoted(found.request_id)}`))),
  panel(el("h2", {}, "The list"), table(["Place", "Item", "Score", "Reasons"], (found.items || []).map((one) => [String(one.rank), named(told, one.item_id), one.score.toFixed(3), reasoned((one.reasons || []).join("; "))]))),
  panel(el("details", {}, el("summary", {}, "The whole receipt"), el("pre", {}, JSON.stringify(receipt, null, 2))))].filter(Boolean);
}

function letters(told) {
  if (!told.length) return [panel(el("p", {}, "Nothing was refused. What workers cannot read is kept as a dead letter, with why."))];
  return [panel(el("p", { class: "soft small" }, "The newest, first. Mend who sends them, then send them again: ", copyable("headwater dead-letters redrive"))),
    ...told.map((one) => panel(el("div", { class: "head" }, el("h2", {}, one.reason), el("span", { class: "soft small" }, clock(one.time_ms))), el("p", {}, one.error),
      facts([["From", one.from || "unknown"], ["Key", one.key || "none"], ["Bytes", whole(one.bytes)], ["Kept at", one.at]]),
      el("details", {}, el("summary", {}, "The bytes"), el("pre", {}, one.value))))];
}

let turn = 0; // what is found late is not shown below another question
async function look(id, moved = false) {
  const mine = ++turn;
  at("result").replaceChildren(el("p", { class: "soft" }, "Looking …"));
  try {
    const made = kind === "letters" ? letters(await call("/page/data/letters")) : KINDS[kind].show(await call(KINDS[kind].path, { [KINDS[kind].field]: id }), id);
    if (mine !== turn) return;
    problem("");
    at("result").replaceChildren(...made);
    const head = at("result").querySelector("h2, p"); // in a sentence: nobody wants to hear a table of sixty rows
    at("aside").textContent = head.textContent;
    if (!moved) return;
    head.tabIndex = -1;
    head.focus({ preventScroll: true });
  } catch (error) {
    if (mine !== turn) return;
    at("result").replaceChildren();
    problem(error.message);
  }
}

function choose(name) {
  kind = name;
  turn += 1;
  document.querySelectorAll("[role=tab]").forEach((tab) => {
    tab.setAttribute("aria-selected", tab.dataset.kind === kind);
    tab.tabIndex = tab.dataset.kind === kind ? 0 : -1;
  });
  at("panel").setAttribute("aria-labelledby", `tab-${kind}`);
  at("ask").hidden = kind === "letters";
  at("ask-label").textContent = KINDS[kind].label;
  at("hint").textContent = KINDS[kind].hint || "";
  at("result").replaceChildren();
  history.replaceState(null, "", `#${kind}`);
  if (kind === "letters") look();
}
function go(to, id) {
  choose(to);
  at("id").value = id;
  look(id, true);
  scrollTo(0, 0);
}

document.querySelectorAll("[role=tab]").forEach((tab, place, all) => {
  tab.addEventListener("click", () => { at("id").value = ""; choose(tab.dataset.kind); });
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = all[(to + all.length) % all.length];
    next.focus();
    next.click();
  });
});
at("ask").addEventListener("submit", (event) => { event.preventDefault(); look(at("id").value.trim()); });
choose(KINDS[location.hash.slice(1)] ? location.hash.slice(1) : "user");
if (kind === "user" && sessionStorage.getItem("headwater-visitor")) { at("id").value = sessionStorage.getItem("headwater-visitor"); look(at("id").value); }
