import { at, copyable, el, ms, pause, problem, stream, whole } from "/page/door.js";

let newest = null;
let came = 0;

function tile(name, value, more, about, bad = false) {
  return el("a", { class: bad ? "tile bad" : "tile", href: about },
    el("span", { class: "name" }, name), el("span", { class: "value" }, value), el("span", { class: "more" }, more));
}
const pair = ([half, most]) => [ms(half), `99 of 100 within ${ms(most)}`];
const rate = (n) => (n === null ? "–" : n >= 10 || n === 0 ? whole(n) : n.toFixed(1));
const age = (s) => (s >= 120 ? `${Math.round(s / 60)} min` : `${s.toFixed(s < 10 ? 1 : 0)} s`);

function tick() {
  const shown = at("weight-age");
  if (!shown || newest.weight_age_s === null) return;
  shown.textContent = `weights ${age(newest.weight_age_s + (performance.now() - came) / 1000)} old`;
}

function show(told) {
  at("empty").hidden = told.known;
  at("live").hidden = !told.known;
  problem(told.problem);
  if (!told.known) {
    at("said").textContent = told.problem ? "" : "No worker is known here yet.";
    at("empty").replaceChildren(
      el("p", {}, "The page asks the workers that the setting gateway.workers_file names. The simplest is to run all on this machine:"),
      copyable("headwater up"));
    return;
  }
  newest = told;
  came = performance.now();
  const [feature, featureMore] = pair(told.to_feature_ms);
  const [answer, answerMore] = pair(told.to_answer_ms);
  const times = told.ndcg === null ? "after the first events" : told.ndcg_popularity ? `${(told.ndcg / told.ndcg_popularity).toFixed(1)} × popularity` : "over the newest events";
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  at("tiles").replaceChildren(
    tile("Events a second", rate(told.events_per_s), `${whole(told.events)} since the start`, "#about-flow"),
    tile("Answers a second", rate(told.answers_per_s), `${whole(told.items)} items in the catalogue`, "#about-flow"),
    tile("Event to feature", feature, featureMore, "#about-fresh"),
    tile("Request to answer", answer, answerMore, "#about-answer"),
    tile("Quality, NDCG@10", told.ndcg === null ? "–" : told.ndcg.toFixed(3), times, "#about-quality"),
    tile("Model", told.version ? `v ${whole(told.version)}` : "–", "", "#about-model"),
    tile("Learned", whole(told.learned), "examples since the start", "#about-quality"),
    tile("Refused", whole(told.dead_letters), told.dead_letters ? "dead letters: look at them" : "no dead letters", told.dead_letters ? "/look#letters" : "#about-letters", told.dead_letters > 0));
  at("tiles").children[5].lastChild.id = "weight-age";
  if (focused) { const again = [...at("tiles").children].find((one) => one.getAttribute("href") === focused); if (again) again.focus(); }
  tick();
  const well = Object.values(told.workers).every((one) => one.ready);
  at("said").textContent = !well ? "Not every worker is ready." : told.events ? "All workers are ready." : "All is up, and nothing has happened yet.";
  at("workers").replaceChildren(...Object.entries(told.workers).map(([name, one]) =>
    el("li", {}, el("span", { class: one.ready ? "dot" : "dot bad" }, name), el("span", { class: "soft" }, one.health))));
  at("lag").replaceChildren(...Object.entries(told.lag).flatMap(([name, topics]) => Object.entries(topics).map(([topic, n]) =>
    el("li", {}, el("span", {}, `${name} `, el("span", { class: "soft" }, `reads ${topic}`)), el("strong", {}, whole(n))))));
  for (const name of ["quality", "flow"]) if (told.charts[name]) at(name).innerHTML = told.charts[name];
  at("empty").hidden = told.events > 0 || !well;
  if (!at("empty").hidden) at("empty").replaceChildren(
    el("p", {}, "Let a past stream of film ratings happen again, or click in the ", el("a", { href: "/play" }, "playground"), ":"),
    copyable("headwater replay stream movielens"));
}

setInterval(tick, 100);
for (;;) {
  try {
    await stream("/page/data/now", undefined, (kind, told) => show(told));
  } catch (error) {
    problem(error.message);
    if (error.status === 401 || error.status === 403) break;
  }
  await pause(2000);
}
