// The lines of a transcript: one list item per segment, with its time.
//
// The words of a line are one text node: three hours of audio would be 80,000 elements, and a screen reader would read
// each by itself. Words are found by their offset in the text. CSS highlights mark the one that is playing, and those
// that are doubtful; they change neither the text nor what is copied.
import { $, clock, count, make, show } from "./dom.js";

const SPOKEN_MS = 1000, SPOKEN_AT_ONCE = 5, SPOKEN_KEPT = 3, MANY = 300;

// Confidence is calibrated: below the first, at least one word in five is wrong (measured: nearly half of them), below
// the second, half of the words of a line. See docs/decisions/0016-calibrated-confidence.md.
const DOUBTFUL_WORD = 0.8, DOUBTFUL_LINE = 0.5;

// transcript.css styles the highlights by their names. Browsers without them mark the line that is playing, and name
// doubtful words in its tooltip.
const highlights = globalThis.CSS?.highlights && globalThis.Highlight;
export function highlight(name) {
  if (!highlights) return null;
  CSS.highlights.set(name, new Highlight());
  return CSS.highlights.get(name);
}
const doubtful = highlight("doubtful"), heard = highlight("heard");

export class Lines {
  // `seek(seconds)` is called when a word or a time is pressed.
  constructor(list, seek) {
    this.list = list;
    this.rows = [];
    this.rightToLeft = 0;
    this.canSeek = false;
    this.now = { row: null, word: null };
    this.unspoken = [];
    list.addEventListener("click", (click) => {
      if (String(getSelection())) return; // the user is selecting text
      const row = this.rowOf(click.target);
      if (row && this.canSeek) seek(wordAt(row, click)?.start ?? row.start);
    });
    list.addEventListener("keydown", (press) => this.step(press));
    list.addEventListener("focusin", (focus) => { if (focus.target.matches(".time")) this.stopAt(focus.target); });
  }

  get words() { return this.rows.reduce((sum, { text }) => sum + text.split(/\s+/).filter(Boolean).length, 0); }

  add({ text, start, end, language, words, confidence }) {
    const row = { start, end, text, words: [] };
    const shown = words ? placed(words, row.words) : text.trim();
    const time = make("button", { type: "button", className: "time", textContent: clock(start), disabled: !this.canSeek });
    time.tabIndex = this.rows.length ? -1 : 0;
    time.setAttribute("aria-label", `Play from ${clock(start)}`);
    row.said = make("p", { dir: "auto", textContent: shown });
    row.item = make("li", {}, time, row.said);
    row.item.dataset.row = this.rows.push(row) - 1;
    row.item.dataset.start = start;
    if (language) this.list.lang = language;
    this.rightToLeft += isRightToLeft(text) ? 1 : -1;
    this.list.dir = this.rightToLeft > 0 ? "rtl" : "ltr";
    if (this.rows.length === MANY) this.list.classList.add("many"); // then only lines in view are laid out
    this.list.append(row.item);
    this.doubt(row, time, words
      ? row.words.filter((word) => word.confidence < DOUBTFUL_WORD) // engines that can't tell give none
      : [{ from: 0, to: shown.length }].filter(() => confidence < DOUBTFUL_LINE));
  }

  // Marks where live audio is missing.
  miss({ start, message }) {
    const time = make("span", { className: "time", textContent: clock(start) });
    this.list.append(make("li", { className: "gap" }, time, make("p", { textContent: message })));
  }

  // Marks doubtful parts of a row: some of its words, or all of it if it has none.
  doubt(row, time, words) {
    if (!words.length) return;
    for (const word of words) doubtful?.add(rangeOf(row, word));
    const names = words.map(({ from, to }) => row.said.textContent.slice(from, to).replace(/^\p{P}+|\p{P}+$/gu, ""));
    row.said.title = time.title = `Doubtful: ${row.words.length ? names.join(", ") : "the whole line"}`;
    show($("job-doubts"));
  }

  // Makes a screen reader read a new line, or after many lines at once, their number.
  speak(text) {
    this.unspoken.push(text.trim());
    this.speaking ??= setTimeout(() => {
      this.speaking = null;
      const lines = this.unspoken.splice(0);
      const said = lines.length > SPOKEN_AT_ONCE ? [count(this.rows.length, "line", "lines")] : lines;
      $("job-said").append(...said.map((line) => make("p", { dir: "auto", textContent: line })));
      while ($("job-said").children.length > SPOKEN_KEPT) $("job-said").firstChild.remove();
    }, SPOKEN_MS);
  }

  // No more lines will arrive: screen readers only need the list.
  quiet() {
    clearTimeout(this.speaking);
    $("job-said").replaceChildren();
  }

  setSeekable(yes) {
    this.canSeek = yes;
    this.list.classList.toggle("plays", yes);
    for (const button of this.list.querySelectorAll(".time")) button.disabled = !yes;
  }

  // Marks the line and the word at this position. Scrolls to the line if the last one was in view, or after a seek.
  mark(seconds, sought = false) {
    const row = latest(this.rows, seconds), spoken = row && latest(row.words, seconds);
    const word = spoken && seconds < spoken.end ? spoken : null; // in a pause the line stays marked, the word does not
    if (row !== this.now.row) {
      const followed = sought || (this.now.row && inView(this.now.row.item));
      this.now.row?.item.classList.remove("now");
      row?.item.classList.add("now");
      if (row && followed && !inView(row.item)) row.item.scrollIntoView({ block: "center" });
    }
    if (word !== this.now.word && heard) {
      heard.clear();
      if (word) heard.add(rangeOf(row, word));
    }
    this.now = { row, word };
  }

  rowOf(element) { return this.rows[element.closest("li")?.dataset.row]; }

  get shown() { return this.rows.filter(({ item }) => !item.hidden); }

  // Shows the rows that pass. The Tab stop is always one of them.
  filter(passes) {
    for (const row of this.rows) show(row.item, passes(row));
    const { shown: [first] } = this, stop = this.list.querySelector('.time[tabindex="0"]');
    if (first && stop && this.rowOf(stop)?.item.hidden) this.stopAt(first.item.querySelector(".time"));
  }

  stopAt(time) {
    if (this.stop) this.stop.tabIndex = -1;
    else this.list.querySelector(".time").tabIndex = -1;
    time.tabIndex = 0;
    this.stop = time;
  }

  // The list is one Tab stop; arrow keys move between lines.
  step(press) {
    const row = press.target.matches(".time") && this.rowOf(press.target);
    const to = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[press.key];
    if (!row || !to) return;
    press.preventDefault();
    const { shown } = this, index = Math.max(0, Math.min(shown.length - 1, shown.indexOf(row) + to));
    shown[index].item.querySelector(".time").focus();
  }
}

// Whether the first letter of a text is of a script that is written from right to left.
export const isRightToLeft = (text) => /^[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u
  .test(/\p{Letter}/u.exec(text)?.[0] ?? "");

// Joins the words to one text, and appends the offsets of each word to `into`.
function placed(words, into) {
  let text = "";
  for (const { text: word, start, end, confidence } of words) {
    text += text ? word : word.trimStart();
    const from = text.length - word.trimStart().length;
    into.push({ start, end, confidence, from, to: from + word.trim().length });
  }
  return text.trimEnd();
}

// Returns the range of a part of a row's text.
export function rangeOf(row, { from, to }) {
  const range = new Range();
  range.setStart(row.said.firstChild, from);
  range.setEnd(row.said.firstChild, to);
  return range;
}

// Returns the word under a click, if any.
function wordAt(row, { clientX: x, clientY: y }) {
  const caret = document.caretPositionFromPoint?.(x, y) ?? document.caretRangeFromPoint?.(x, y);
  const node = caret?.offsetNode ?? caret?.startContainer, offset = caret?.offset ?? caret?.startOffset;
  if (!node || node !== row.said.firstChild) return null;
  const around = row.words.filter((word) => word.from <= offset && offset <= word.to);
  return around.find((word) => [...rangeOf(row, word).getClientRects()].some(
    (box) => box.left <= x && x <= box.right && box.top <= y && y <= box.bottom));
}

// Returns the last of the sorted `items` that has started by then.
function latest(items, seconds) {
  let low = 0, high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].start <= seconds) low = middle + 1;
    else high = middle;
  }
  return items[low - 1] ?? null;
}

function inView(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}
