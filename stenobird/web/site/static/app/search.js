// Search within the transcript: marks all matches, and leads from one to the next.
import { $, show } from "./dom.js";
import { highlight, rangeOf } from "./lines.js";

// Browsers without highlights only scroll to the line.
const found = highlight("found"), match = highlight("match");
if (match) match.priority = 1;

// Returns the offsets [from, to] of a query in a text, whatever the case; any space matches any space.
export function offsets(text, query) {
  const words = query.trim().split(/\s+/u).filter(Boolean).map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  if (!words.length) return [];
  return [...text.matchAll(new RegExp(words.join("\\s+"), "giu"))].map((match) => [match.index, match.index + match[0].length]);
}

export class Search {
  // `leave()` is called before the page scrolls to a match.
  constructor(lines, signal, leave) {
    Object.assign(this, { lines, leave, found: [], at: -1, query: "" });
    const on = (id, name, act) => $(id).addEventListener(name, act, { signal });
    on("job-query", "input", () => this.look());
    on("job-query", "keydown", (press) => this.pressed(press));
    on("job-next", "click", () => this.go(1));
    on("job-previous", "click", () => this.go(-1));
  }

  focus() {
    $("job-query").focus();
    $("job-query").select();
  }

  // Looks again, since the query or the lines have changed. Stays at its match, else starts at the first below the top.
  look() {
    const query = $("job-query").value, same = query === this.query, current = same ? this.found[this.at] : null;
    this.query = query;
    this.found = this.lines.shown.flatMap((row) => offsets(row.said.textContent, query).map(([from, to]) => ({ row, from, to })));
    this.at = current ? this.found.findIndex((one) => one.row === current.row && one.from === current.from) : -1;
    found?.clear();
    for (const one of this.found) found?.add(rangeOf(one.row, one));
    if (this.at < 0 && !same && this.found.length) {
      const below = this.found.findIndex(({ row }) => row.item.getBoundingClientRect().bottom > 0);
      this.go(1, Math.max(0, below) - 1);
    } else this.tell();
  }

  grew() {
    if (this.query.trim()) this.look();
  }

  go(step, from = this.at) {
    const { length } = this.found;
    if (!length) return;
    this.at = (from + step + length) % length;
    this.leave();
    this.found[this.at].row.item.scrollIntoView({ block: "center" });
    this.tell();
  }

  tell() {
    const asked = Boolean(this.query.trim()), current = this.found[this.at];
    match?.clear();
    if (current) match?.add(rangeOf(current.row, current));
    const place = current ? `${(this.at + 1).toLocaleString("en")} of ${this.found.length.toLocaleString("en")}` : "Not found";
    $("job-matches").textContent = asked ? place : "";
    $("job-find").classList.toggle("asked", asked);
    for (const id of ["job-next", "job-previous"]) show($(id), this.found.length > 1);
  }

  pressed(press) {
    if (press.key === "Enter") {
      press.preventDefault();
      this.go(press.shiftKey ? -1 : 1);
    } else if (press.key === "Escape") {
      press.preventDefault();
      const { row } = this.found[this.at] || {};
      $("job-query").value = "";
      this.look();
      (row?.item.querySelector(".time:enabled") || $("job-title")).focus({ preventScroll: Boolean(row) });
    }
  }
}
