// Who speaks: a name where the speaker changes, which the owner can change, and a choice of one speaker's lines.
import { $, make, show } from "./dom.js";

const COLOURS = 6; // of .who in transcript.css; the name says the same without colour
const EVERYONE = "", MOST_CHARS = 80;

export class Speakers {
  // `save(names)` stores the names of all speakers by their labels, and then calls `rename` with what is stored.
  constructor(lines, signal, changed, save) {
    Object.assign(this, { lines, names: [], given: {}, changed, save, editable: false });
    $("job-speaker").addEventListener("change", () => { this.filter(); this.changed(); }, { signal });
  }

  // Takes the labels of an event; each replaces an earlier one of its line.
  take(labels) {
    for (const { chunk_index: index, speaker, overlap } of labels) {
      const row = this.lines.rows[index];
      if (row) Object.assign(row, { label: speaker, overlap });
    }
    this.refresh();
  }

  // Takes the names of speakers by their labels.
  rename(given = {}) {
    this.given = given;
    this.refresh();
  }

  // Lets the owner change names.
  allow() {
    this.editable = true;
    this.refresh();
  }

  refresh() {
    const { rows } = this.lines;
    for (const row of rows) if (row.label) row.speaker = this.given[row.label] || row.label;
    this.names = [...new Set(rows.map((row) => row.speaker).filter(Boolean))];
    let last = null;
    for (const row of rows) {
      this.mark(row, row.speaker && row.speaker !== last ? row.speaker : null);
      last = row.speaker ?? last;
    }
    this.offer();
    this.filter();
  }

  // Shows a name before a line, or none.
  mark(row, name) {
    row.who?.remove();
    row.who = null;
    if (name) {
      row.who = this.editable ? this.button(row, name) : make("b", { className: "who", textContent: name });
      row.who.dir = "auto";
      row.who.dataset.colour = this.names.indexOf(name) % COLOURS;
      row.said.before(row.who);
    }
    row.item.classList.toggle("overlap", Boolean(row.overlap));
    row.item.title = row.overlap ? "Two people speak at once" : "";
  }

  button(row, name) {
    const button = make("button", { type: "button", className: "who", textContent: name, title: "Change the name" });
    button.addEventListener("click", (click) => {
      click.stopPropagation(); // a click on a line plays it
      this.edit(row);
    });
    return button;
  }

  // Puts a field in the place of a name. Enter, or leaving it, stores it; Escape does not; an empty one means the label.
  edit(row) {
    const field = make("input", { className: "who", type: "text", value: row.speaker, maxLength: MOST_CHARS, dir: "auto", autocomplete: "off" });
    field.setAttribute("aria-label", `Name of ${row.label}`);
    const close = async (keep) => {
      if (row.who !== field) return;
      row.who = null; // the field is left when it is removed
      const name = field.value.trim(), names = { ...this.given };
      delete names[row.label];
      if (name && name !== row.label) names[row.label] = name;
      const focused = document.activeElement === field;
      field.remove();
      if (keep && name !== row.speaker) await this.save(names);
      this.refresh();
      if (focused) row.who?.focus();
    };
    field.addEventListener("click", (click) => click.stopPropagation());
    field.addEventListener("blur", () => close(true));
    field.addEventListener("keydown", (press) => {
      if (press.key === "Enter" && !press.isComposing) close(true);
      else if (press.key === "Escape") close(false);
      else return;
      press.preventDefault();
    });
    row.who.replaceWith(field);
    row.who = field;
    field.select();
  }

  offer() {
    const select = $("job-speaker"), chosen = select.value;
    const options = [[EVERYONE, "Everyone"], ...this.names.map((name) => [name, name])];
    const same = options.length === select.length && options.every(([value], index) => select.options[index].value === value);
    if (same) return; // a new list would close the one that is open
    select.replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
    select.value = this.names.includes(chosen) ? chosen : EVERYONE;
    show($("job-speakers"), this.names.length > 1);
  }

  filter() {
    const chosen = $("job-speaker").value;
    this.lines.filter(({ speaker }) => !chosen || speaker === chosen);
  }
}
