import { at, call, clock, copyable, el, problem, quoted, whole } from "/page/door.js";
import { empty, share, table } from "/page/tables.js";

const said = (says) => (Object.keys(says).length ? JSON.stringify(says) : "all as by default");

function show(told) {
  at("surfaces").replaceChildren(
    told.surfaces.length ? table(["Surface", "Kind", "k", "Version", "From", "What it says", "Change it"], told.surfaces.map((one) => [one.name, one.kind, whole(one.k), one.version, one.from,
      el("span", {}, said(one.says), ...one.notes.map((note) => el("div", { class: "small soft" }, note))), copyable(`headwater surfaces set ${quoted(`${one.name}.toml`)}`)]))
      : empty("No surface yet: requests name none. Write its fields into home.toml, check it below, then:", "headwater surfaces set home.toml"),
    ...told.refused.map((text) => el("p", { class: "problem" }, `${text} The last good one stays.`)));
  at("signals").replaceChildren(
    told.signals.length ? table(["Type", "Events looked at", "Means", "From", "What the settings say"], told.signals.map((one) => [one.type, whole(one.events), one.means,
      one.from === "unknown" ? el("strong", {}, "nobody named it") : one.from, one.from === "settings" ? said(one.says) : "–"]))
      : empty("Nothing has happened yet, and the settings name no type.", "headwater replay stream movielens"),
    el("p", { class: "small soft" }, `Tables [signals.TYPE] of ${told.file}, read when a worker starts; these are as this gateway read them. A model that learned other meanings has to be trained anew.`));
  const drawn = told.surfaces.filter((one) => one.says.explore);
  const dealt = told.surfaces.filter((one) => one.says.experiment);
  at("experiments").replaceChildren(
    dealt.length ? table(["Surface", "Experiment", "Variant", "Share of the people", "What is otherwise"], dealt.flatMap((one) => Object.entries(one.shares).map(([variant, part]) => [one.name, one.says.experiment.name, variant, share(part),
      one.says.experiment.variants[variant] ? JSON.stringify(one.says.experiment.variants[variant].overrides) : "nothing: the surface as it is"])))
      : empty("No surface has an experiment. A table [surfaces.NAME.experiment] in the surface's file answers some people otherwise (docs/surfaces.md); what came of it is under Quality. Then:", "headwater surfaces set home.toml"),
    el("p", { class: "small soft" }, drawn.length ? `Surfaces that leave places to chance (explore): ${drawn.map((one) => `${one.name} ${JSON.stringify(one.says.explore)}`).join("; ")}.` : "No surface in force leaves places to chance (explore)."));
  at("history").replaceChildren(told.history.length ? table(["When, UTC", "Surface", "What", "Where"], told.history.map((one) => [clock(one.time_ms), one.name,
    one.refused ? `refused: ${one.refused}` : one.removed ? "removed" : `${one.kind}, version ${one.version}: ${said(one.says)}`, one.at]))
    : empty("The topic holds no surface.", "headwater surfaces list"));
}

function checked(told) {
  if (told.surfaces) {
    return Object.entries(told.surfaces).map(([name, one]) => el("div", {}, el("p", { class: "ms" }, `${name}: ${one.kind}, version ${one.version}: it would be taken.`), el("pre", {}, JSON.stringify(one.says, null, 2)),
      el("p", {}, "Save it as a file, and: ", copyable(`headwater surfaces set ${quoted(`${name}.toml`)}`))));
  }
  return [el("p", { class: "ms" }, "It would be taken."), table(["Type", "Means", "What it says"], Object.entries(told.signals).map(([type, one]) => [type, one.means, said(one.says)])),
    el("p", {}, "Write it into headwater.toml, and try what it changes before workers start with it: ", copyable("headwater replay backtest kafka --signals FILE.toml"))];
}

at("kind").addEventListener("change", () => {
  const surface = at("kind").value === "surface";
  at("named").hidden = !surface;
  at("text").value = surface ? 'kind = "for-you"\nk = 12\ndiversity = 0.2\n' : '[signals.rating]\npositive = ">= 4"\nnegative = "<= 2"\n';
  at("checked").replaceChildren();
});
at("check").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    at("checked").replaceChildren(...checked(await call("/page/data/check", { kind: at("kind").value, name: at("name").value.trim(), text: at("text").value })));
  } catch (error) { at("checked").replaceChildren(el("p", { class: "problem" }, error.message)); }
});
try { show(await call("/page/data/settings")); } catch (error) { problem(error.message); }
