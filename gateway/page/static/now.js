import { at, copyable, el, lasting, ms, problem, whole, write } from "/page/door.js";

let newest = null;
let came = 0;

// Changed in place: who reads with the keyboard, or by ear, is not thrown out every two seconds.
const tiles = new Map();
function tile(name, value, more, about, bad = false) {
  if (!tiles.has(name)) {
    tiles.set(name, el("a", {}, el("span", { class: "name" }, name), el("span", { class: "value" }), el("span", { class: "more" })));
    at("tiles").append(tiles.get(name));
  }
  const made = tiles.get(name);
  made.className = bad ? "tile bad" : "tile";
  made.setAttribute("href", about);
  write(made.children[1], value);
  if (more !== null) write(made.children[2], more);
}
const drawn = new Map();
function rows(id, told, row) {
  const now = JSON.stringify(told);
  if (drawn.get(id) === now) return;
  drawn.set(id, now);
  at(id).replaceChildren(...told.map(row));
}
const pair = ([half, most]) => [ms(half), `99 of 100 within ${ms(most)}`];
const rate = (n) => (n === null ? "–" : n >= 10 || n === 0 ? whole(n) : n.toFixed(1));
const age = (s) => (s >= 120 ? `${Math.round(s / 60)} min` : `${s.toFixed(s < 10 ? 1 : 0)} s`);

function tick() {
  if (newest === null || newest.weight_age_s === null) return;
  write(tiles.get("Model").children[2], `weights ${age(newest.weight_age_s + (performance.now() - came) / 1000)} old`);
}

function show(told) {
  at("empty").hidden = told.known;
  at("live").hidden = !told.known;
  problem(told.problem);
  if (!told.known) {
    write(at("said"), told.problem ? "" : "No worker is known here yet.");
    rows("empty", ["unknown"], () => el("div", {},
      el("p", {}, "The page asks the workers that the setting gateway.workers_file names. The simplest is to run all on this machine:"),
      copyable("headwater up")));
    return;
  }
  newest = told;
  came = performance.now();
  const [feature, featureMore] = pair(told.to_feature_ms);
  const [answer, answerMore] = pair(told.to_answer_ms);
  const times = told.ndcg === null ? "after the first events" : told.ndcg_popularity ? `${(told.ndcg / told.ndcg_popularity).toFixed(1)} × popularity` : "over the newest events";
  tile("Events a second", rate(told.events_per_s), `${whole(told.events)} since the start`, "#about-flow");
  tile("Answers a second", rate(told.answers_per_s), `${whole(told.items)} items in the catalogue`, "#about-flow");
  tile("Event to feature", feature, featureMore, "#about-fresh");
  tile("Request to answer", answer, answerMore, "#about-answer");
  tile("Quality, NDCG@10", told.ndcg === null ? "–" : told.ndcg.toFixed(3), times, "#about-quality");
  tile("Model", told.version ? `v ${whole(told.version)}${told.held ? ", held" : ""}` : "–", told.version ? null : "none yet", told.held ? "/models" : "#about-model");
  tile("Learned", whole(told.learned), "examples since the start", "#about-quality");
  tile("Refused", whole(told.dead_letters), told.dead_letters ? "dead letters: look at them" : "no dead letters", told.dead_letters ? "/look#letters" : "#about-letters", told.dead_letters > 0);
  tick();
  const well = Object.values(told.workers).every((one) => one.ready);
  write(at("said"), !well ? "Not every worker is ready." : told.events ? "All workers are ready." : "All is up, and nothing has happened yet.");
  rows("workers", Object.entries(told.workers), ([name, one]) => el("li", {}, el("span", { class: one.ready ? "dot" : "dot bad" }, name), el("span", { class: "soft" }, one.health)));
  rows("lag", Object.entries(told.lag).flatMap(([name, topics]) => Object.entries(topics).map(([topic, n]) => [name, topic, n])), ([name, topic, n]) =>
    el("li", {}, el("span", {}, `${name} `, el("span", { class: "soft" }, `reads ${topic}`)), el("span", {}, el("strong", {}, whole(n)), el("span", { class: "soft" }, n === 1 ? " record" : " records"))));
  for (const name of ["quality", "flow"]) if (told.charts[name]) at(name).innerHTML = told.charts[name];
  at("empty").hidden = told.events > 0 || !well;
  if (!at("empty").hidden) rows("empty", ["nothing yet"], () => el("div", {},
    el("p", {}, "Let a past stream of film ratings happen again, or click in the ", el("a", { href: "/play" }, "playground"), ":"),
    copyable("headwater replay stream movielens")));
}

setInterval(tick, 100);
lasting("/page/data/now", show);
