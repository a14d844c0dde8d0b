// Tables, lists of facts and empty states that several pages have.
import { copyable, el } from "/page/door.js";

export const facts = (pairs) => el("dl", { class: "facts" }, ...pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
export const panel = (...inside) => el("section", { class: "panel" }, ...inside);

// A time of two words is broken between them alone.
const shown = (cell) => (/^\d{4}-\d\d-\d\d \S+$/.test(cell) ? el("span", { class: "when" }, ...cell.split(" ").flatMap((word, place) => [place ? " " : "", el("span", {}, word)])) : cell);

// A head that is no text is for who listens: [text].
export function table(heads, rows) {
  const named = heads.flat().join(", ");
  return el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `Table: ${named}` }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, Array.isArray(head) ? el("span", { class: "hidden" }, head[0]) : head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, shown(cell))))))));
}
export const empty = (text, command) => el("div", { class: "empty" }, el("p", {}, text), command ? copyable(command) : null);
export const digits = (n, many = 4) => (n === null || n === undefined ? "–" : n.toFixed(many));
export const share = (n) => (n === null || n === undefined ? "–" : `${(100 * n).toFixed(n > 0 && n < 0.1 ? 1 : 0)}%`);
