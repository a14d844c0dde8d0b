import { at, call, clock, copyable, el, lasting, problem, quoted, whole } from "/page/door.js";
import { digits, empty, facts, panel, share, table } from "/page/tables.js";

const NAMES = { ndcg_at_10: "NDCG@10", hit_rate_at_10: "Hit rate@10", mrr: "Reciprocal rank" };

let before = "";
function standing(told) {
  if (told.charts && told.charts.quality) at("quality").innerHTML = told.charts.quality;
  const now = JSON.stringify([told.known, told.quality, told.queries]);
  if (now === before) return;
  before = now;
  const { quality } = told;
  if (!told.known || !quality || !Object.keys(quality.ndcg_at_10).length) {
    at("standing").replaceChildren(empty("Nothing was learned yet, or the page does not know the trainer (gateway.workers_file).", "headwater up"));
    return;
  }
  const rows = Object.entries(NAMES).map(([key, name]) => {
    const { headwater, popularity } = quality[key];
    return [name, digits(headwater), digits(popularity), popularity ? `${(headwater / popularity).toFixed(1)} ×` : "–"];
  });
  const shown = quality.judged ? [["Items of lists judged", whole(quality.judged)], ["Told apart, ROC-AUC", quality.shown_auc.headwater === undefined ? "not known: too few reactions" : `${digits(quality.shown_auc.headwater, 3)}, the item's own rate ${digits(quality.shown_auc.item_rate, 3)}`],
    ["Calibration, log loss (less is better)", quality.shown_auc.headwater === undefined ? "not known: too few reactions" : `${digits(quality.shown_log_loss.headwater, 3)}, the item's own rate ${digits(quality.shown_log_loss.item_rate, 3)}`]] : [["Reactions to lists", "none were judged yet"]];
  const ranker = quality.candidate_recall === null ? [] : [["Ranker: share that counts", share(quality.ranker_share)], ["Ranker: candidates hold the item", share(quality.candidate_recall)],
    ["NDCG@10 without the ranker", digits(quality.ranker_ndcg_at_10["without ranker"])]];
  at("standing").replaceChildren(table(["Of the newest window", "Headwater", "Popularity", "Times"], rows), facts([["Questions", whole(told.queries)], ...shown, ...ranker]));
}

function shown(told) {
  at("looked").textContent = `The newest ${whole(told.lists)} lists and ${whole(told.events)} events.`;
  if (!told.lists) return at("shown").replaceChildren(empty("Nobody has asked for a list yet.", "headwater recommend visitor-1"));
  const made = [facts([["Coverage", told.catalogue ? `${share(told.in_catalogue / told.catalogue)}: ${whole(told.in_catalogue)} of ${whole(told.catalogue)} items` : "the catalogue is empty"],
    ["Diversity", told.diversity === null ? "items have no categories" : `${share(told.diversity)} of a list's pairs share no category`],
    ["Personal", share((told.kinds.personal || 0) / told.lists)], ...Object.entries(told.kinds).filter(([kind]) => kind !== "personal").map(([kind, n]) => [kind.replaceAll("_", " "), whole(n)]),
    ["Reactions that name a list", whole(told.reacted)]]),
  el("h3", {}, "Popularity of what is shown")];
  made.push(told.popular.length ? table(["The most popular", "Items", "Share of places in lists", "Share of what people did"], told.popular.map((one) => [share(one.part), whole(one.items), share(one.of_places), share(one.of_events)]))
    : empty("Nothing that speaks for an item is among the newest events.", "headwater replay stream movielens"));
  made.push(el("h3", {}, "New items' first hours"));
  if (told.new.length) {
    made.push(table(["Item", "Hours old", "Shown", "Events", "Reactions to lists"], told.new.map((one) => [told.titles[one.item_id] || one.item_id, (one.age_ms / 3600000).toFixed(1), whole(one.shown), whole(one.events), whole(one.reacted)])));
  } else made.push(empty(told.dated ? "No item was published within the last week." : "No item says when it was published (published_time). What a past stream's new items got is told by a backtest:", told.dated ? null : "headwater replay backtest kafka"));
  at("shown").replaceChildren(...made);
}

// A figure of a variant, and how far it is from control's.
function beside({ value, difference, low, high }, part) {
  const said = (n, sign) => `${sign && n >= 0 ? "+" : ""}${part ? (100 * n).toFixed(1) : n.toFixed(3)}`;
  const text = said(value) + (part ? "%" : "");
  if (low === null) return text;
  const apart = `${said(difference, true)} (${said(low, true)} to ${said(high, true)})`;
  return el("span", {}, `${text} `, el(low > 0 || high < 0 ? "strong" : "span", { class: "when" }, el("span", {}, apart)));
}

function experiments(told) {
  at("experiments-looked").textContent = told.events ? `By the newest ${whole(told.events)} events. All of them: headwater experiments` : "";
  const names = [...new Set([...told.in_force, ...Object.keys(told.results)])].sort();
  if (!names.length) return at("experiments").replaceChildren(empty("No surface has an experiment: [surfaces.NAME.experiment] answers some people otherwise (docs/surfaces.md). Those in force are under Settings.", "headwater surfaces list"));
  if (told.consents) return at("experiments").replaceChildren(empty(`In force: ${told.in_force.join(", ") || "none"}. People say here what may be analysed, which takes all of the log:`, "headwater experiments"));
  at("experiments").replaceChildren(...names.flatMap((name) => {
    const found = Object.hasOwn(told.results, name) ? told.results[name] : null;
    const over = told.in_force.includes(name) ? "" : " (of no surface any more)";
    if (!found) return [el("h3", {}, name), empty("Nobody was shown a list of it among the newest events.")];
    return [el("h3", {}, name + over), table(["Variant", "People", "Lists", "Reacted to", "Turned down", "Reward a list"], found.variants.map(({ variant, people, lists, measures }) => [variant, whole(people), whole(lists),
      beside(measures.reacted, true), beside(measures.turned_down, true), beside(measures.reward)])), ...found.remarks.map((text) => el("p", { class: "problem" }, text))];
  }), el("p", { class: "small soft" }, "Shares of lists, and what reactions are worth a list; beside each its difference from control with a 95% interval, over people. Bold: the interval leaves zero out."));
}

const file = (folder, name) => quoted(folder ? `${folder}/${name}` : name);

// Of the newest result that has it.
function newest(id, folder, part, why, command) {
  at(id).replaceChildren(...(part ? [el("p", { class: "small soft" }, `Of ${part.file}, written ${clock(part.written_ms)} UTC. `, el("button", { class: "link", type: "button", onclick: () => report(folder, part.file) }, "All of it")), ...drawn(part)]
    : [empty(why, command)]));
}

const dash = (n, many) => digits(n, many);

function results({ folder, results: found, calibration, ablation }) {
  const own = `headwater replay backtest kafka --ablation --out ${file(folder, "own.json")}`;
  newest("calibration", folder, calibration, "No result has chances beside what came of them. A backtest of a stream with lists that were shown does, such as your own events once people have reacted to lists:", own);
  newest("ablation", folder, ablation, "No result has the model without each of its parts. A backtest asks for it:", own);
  at("folder").textContent = folder ? `Results in ${folder}` : "";
  const make = `headwater replay backtest movielens --diversity --out ${file(folder, "movielens.json")}`;
  if (!folder || !found.length) {
    const text = folder ? "No result is there yet (make the folder where it is missing). About three minutes, and nothing is sent anywhere:" : "Set gateway.backtests to a folder, and write results there:";
    return at("results").replaceChildren(empty(text, make));
  }
  const box = (one) => el("input", { type: "checkbox", value: one.file, "aria-label": `Choose ${one.file}` });
  const compare = el("button", { type: "button", id: "compare", onclick: () => side(folder) }, "Side by side");
  at("results").replaceChildren(table([["Choose"], "Result", "Written, UTC", "Stream", "Questions", "NDCG@10", "Popularity", "Best peer", "Lead", "Coverage", "Novelty"], found.map((one) => (one.problem
    ? ["", one.file, clock(one.written_ms), one.problem, "", "", "", "", "", "", ""]
    : [box(one), el("button", { class: "link", type: "button", onclick: () => report(folder, one.file) }, one.file), clock(one.written_ms), one.source, whole(one.queries), dash(one.ndcg.headwater), dash(one.ndcg.popularity),
      one.peer ? `${one.peer.name} ${dash(one.peer.ndcg)}` : "–", one.lead ? `${dash(one.lead[1])} (${dash(one.lead[0])} to ${dash(one.lead[2])})` : "–", share(one.coverage), dash(one.novelty, 2)]))),
  el("p", { class: "row wrap" }, compare, el("span", { class: "soft small" }, "Choose two. Another one: "), copyable(make)));
}

// A chart may stand on the page twice: each has names of its own for its title and description.
let pictures = 0;
function drawn(part) {
  const chart = el("div", { class: "chart" });
  chart.innerHTML = part.chart;
  const own = `-${++pictures}`;
  for (const one of chart.querySelectorAll("[id]")) one.id += own;
  for (const one of chart.querySelectorAll("[aria-labelledby]")) one.setAttribute("aria-labelledby", one.getAttribute("aria-labelledby").replace(/\S+/g, `$&${own}`));
  return [part.chart ? chart : null, part.rows.length ? table(part.heads, part.rows) : null];
}

function parts(told) {
  return told.parts.map((part) => panel(el("h2", {}, part.title), ...drawn(part)));
}

async function report(folder, name) {
  try {
    const told = await call("/page/data/report", { file: name });
    problem("");
    at("report").replaceChildren(panel(el("h2", { tabindex: -1 }, name), ...told.verdict.map((text) => el("p", {}, text)), ...(told.concerns.length ? [el("h3", {}, "Before you decide"), el("ul", {}, ...told.concerns.map((text) => el("li", {}, text)))] : []),
      ...Object.entries(told.missing).map(([what, option]) => el("p", { class: "small soft" }, `Not measured: ${what} (${option})`))), ...parts(told));
    at("report").querySelector("h2").focus();
  } catch (error) { problem(error.message); }
}

async function side(folder) {
  const [a, b, ...more] = [...at("results").querySelectorAll("input:checked")].map((one) => one.value);
  if (!b || more.length) return problem("Choose two results.");
  try {
    const told = await call("/page/data/compared", { a, b });
    problem("");
    at("report").replaceChildren(panel(el("h2", { tabindex: -1 }, "Side by side"), el("p", { class: "small soft" }, `A is ${a}, B is ${b}.`), el("p", {}, told.verdict), el("ul", {}, ...told.reasons.map((text) => el("li", {}, text))),
      el("p", {}, copyable(`headwater replay compare ${file(folder, a)} ${file(folder, b)} --report both.html`))), ...parts(told));
    at("report").querySelector("h2").focus();
  } catch (error) { problem(error.message); }
}

const asked = (path, show, where) => call(path).then(show).catch((error) => { at(where).replaceChildren(); problem(error.message); });
asked("/page/data/shown", shown, "shown");
asked("/page/data/experiments", experiments, "experiments");
asked("/page/data/results", results, "results");
lasting("/page/data/now", standing);
