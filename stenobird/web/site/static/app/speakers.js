// Who speaks: a name where the speaker changes, and a choice of one speaker's lines.
import { $, make, show } from "./dom.js";

const COLOURS = 6; // of .who in transcript.css; the name says the same without colour
const EVERYONE = "";

export class Speakers {
  constructor(lines, signal, changed) {
    Object.assign(this, { lines, names: [], changed });
    $("job-speaker").addEventListener("change", () => { this.filter(); this.changed(); }, { signal });
  }

  // Takes the labels of an event; each replaces an earlier one of its line.
  take(labels) {
    for (const { chunk_index: index, speaker, overlap } of labels) {
      const row = this.lines.rows[index];
      if (row) Object.assign(row, { speaker, overlap });
    }
    this.names = [...new Set(this.lines.rows.map((row) => row.speaker).filter(Boolean))];
    let last = null;
    for (const row of this.lines.rows) {
      this.mark(row, row.speaker && row.speaker !== last ? row.speaker : null);
      last = row.speaker ?? last;
    }
    this.offer();
    this.filter();
  }

  // Shows a name before a line, or none.
  mark(row, name) {
    if (!name) row.who?.remove();
    if (!name) row.who = null;
    else {
      if (!row.who) row.said.before(row.who = make("b", { className: "who", dir: "auto" }));
      row.who.textContent = name;
      row.who.dataset.colour = this.names.indexOf(name) % COLOURS;
    }
    row.item.classList.toggle("overlap", Boolean(row.overlap));
    row.item.title = row.overlap ? "Two people speak at once" : "";
  }

  offer() {
    const select = $("job-speaker"), chosen = select.value;
    const options = [[EVERYONE, "Everyone"], ...this.names.map((name) => [name, name])];
    select.replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
    select.value = this.names.includes(chosen) ? chosen : EVERYONE;
    show($("job-speakers"), this.names.length > 1);
  }

  filter() {
    const chosen = $("job-speaker").value;
    for (const { item, speaker } of this.lines.rows) show(item, !chosen || speaker === chosen);
  }
}
