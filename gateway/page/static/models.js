import { at, call, clock, copyable, el, problem, whole, write } from "/page/door.js";
import { digits, empty, facts, table } from "/page/tables.js";

let told = null;

const ndcg = (one, who) => digits(one.measures.ndcg_at_10[who]);
const lineage = (one) => (one.parent_version ? `version ${whole(one.parent_version)}` : one.parent ? `${one.parent.slice(0, 12)}, a delta` : "none: the first");

function show() {
  const { live, snapshots, pinned } = told;
  at("empty").hidden = Boolean(live || snapshots.length);
  at("live").hidden = !at("empty").hidden;
  if (!at("empty").hidden) {
    at("said").textContent = "No model has been published yet.";
    at("empty").replaceChildren(empty("The trainer publishes as soon as something is learned. Let something happen:", "headwater replay stream movielens"));
    return;
  }
  write(at("said"), pinned ? `Version ${whole(live.version)} is held by a rollback: the trainer learns on, and publishes nothing.` : "The newest is live, and the trainer publishes on.");
  at("resume").hidden = !pinned;
  at("now").replaceChildren(live ? facts([["Bundle", `version ${whole(live.version)}`], ["Answers now", told.serves ? `version ${whole(told.serves)}` : "not known here"],
    ["Announced, UTC", clock(live.published_ms)], ["Learned", `${whole(live.learned)} records of examples`], ["Came from", lineage(live)], ["Digest", live.digest.slice(0, 12)],
    live.signer ? ["Signed by", live.signer] : ["Signed", "no"]]) : el("p", {}, "Nothing is live."));
  at("curve").hidden = !told.chart;
  if (told.chart) at("chart").innerHTML = told.chart;
  at("versions").replaceChildren(snapshots.length ? table(["Version", "Made, UTC", "Learned", "NDCG@10", "Popularity", "Hit rate", "Came from", "Digest", ["Go back"]], snapshots.map((one) => {
    const here = live && live.version === one.version;
    return [whole(one.version), clock(one.published_ms), whole(one.learned), ndcg(one, "headwater"), ndcg(one, "popularity"), digits(one.measures.hit_rate_at_10.headwater), lineage(one), one.digest.slice(0, 12),
      here && pinned ? el("strong", {}, "held") : el("button", { class: "act", type: "button", "data-version": one.version, "aria-label": `${here ? "Hold this one" : "Go back to it"}: version ${one.version}`, onclick: () => ask(one.version) }, here ? "Hold this one" : "Go back to it")];
  })) : empty("No bundle is kept any more but by deltas.", "headwater rollback"));
  if (told.foreign.length) at("versions").append(el("p", { class: "problem" }, `Records of the topic that are none of ours: ${told.foreign.join("; ")}`));
  at("deeds").replaceChildren(told.deeds.length ? table(["When, UTC", "What", "Who"], told.deeds.map((one) => [clock(one.time_ms), one.version ? `back to version ${whole(one.version)}` : "resumed", one.by]))
    : el("p", { class: "soft" }, "Nobody has, as far as the newest records tell."));
}

let chosen = null;
function ask(version) {
  chosen = version;
  const back = version !== null;
  at("confirm-title").textContent = back ? `Make version ${whole(version)} live?` : "Let the trainer publish again?";
  at("confirm-text").replaceChildren(...(back
    ? ["Every answer is by it within a second, and until somebody resumes. The trainer goes on learning meanwhile. It stands in the audit log. The same by hand: ", copyable(`headwater rollback ${version}`)]
    : ["The newest model is live at once. It stands in the audit log. The same by hand: ", copyable("headwater rollback --resume")]));
  at("confirm-yes").textContent = back ? `Make ${whole(version)} live` : "Resume";
  at("confirm").showModal();
  at("confirm-no").focus();
}

async function go() {
  at("confirm").close();
  try {
    const done = await call("/page/data/rollback", { version: chosen, pinned: told.pinned ? told.live.version : null });
    problem("");
    await look();
    for (const later of [3000, 6000, 12000]) setTimeout(look, later); // workers have loaded it, and said so
    at("said").focus();
    if (!done.pinned) at("said").textContent = `Version ${whole(done.version)} is live, and the trainer publishes again.`;
  } catch (error) { problem(error.message); }
}

let lost = false;
async function look() {
  try {
    told = await call("/page/data/models");
    if (lost) problem("");
    lost = false;
    show();
  } catch (error) {
    lost = true;
    at("said").textContent = "";
    problem(error.message);
  }
}

at("said").tabIndex = -1;
at("said").setAttribute("role", "status");
at("resume").addEventListener("click", () => ask(null));
at("confirm-no").addEventListener("click", () => at("confirm").close());
at("confirm-yes").addEventListener("click", go);
await look();
setInterval(() => { if (!document.hidden && !at("confirm").open && !document.activeElement?.closest("#live")) look(); }, 10000);
