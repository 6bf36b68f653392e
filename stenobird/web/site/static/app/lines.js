// The lines of a transcript: one list item a segment, its time beside it.
//
// A line's words stay one text: three hours of them as elements would be 80,000, and a screen reader would read each
// by itself. Where a word is, its place in that text says; which one is heard, a highlight without an element shows.
import { $, clock, count, make } from "./dom.js";

const SPOKEN_MS = 1000, SPOKEN_AT_ONCE = 5, SPOKEN_KEPT = 3, MANY = 300;

// The name that app.css gives a look to. Browsers without highlights mark the line only.
const heard = globalThis.CSS?.highlights && globalThis.Highlight ? new Highlight() : null;
if (heard) CSS.highlights.set("heard", heard);

export class Lines {
  // `seek(seconds)` is called when a word or a time is pressed.
  constructor(list, seek) {
    this.list = list;
    this.rows = [];
    this.texts = [];
    this.canSeek = false;
    this.now = { row: null, word: null };
    this.unspoken = [];
    list.addEventListener("click", (click) => {
      if (String(getSelection())) return; // somebody marks text
      const row = this.rowOf(click.target);
      if (row && this.canSeek) seek(wordAt(row, click)?.start ?? row.start);
    });
    list.addEventListener("keydown", (press) => this.step(press));
    list.addEventListener("focusin", (focus) => { if (focus.target.matches(".time")) this.stopAt(focus.target); });
  }

  get text() { return this.texts.join("").trim(); }

  add({ text, start, end, language, words }) {
    this.texts.push(text);
    const row = { start, end, words: [] };
    const shown = words ? placed(words, row.words) : text.trim();
    const time = make("button", { type: "button", className: "time", textContent: clock(start), disabled: !this.canSeek });
    time.tabIndex = this.rows.length ? -1 : 0;
    time.setAttribute("aria-label", `Play from ${clock(start)}`);
    row.said = make("p", { dir: "auto", textContent: shown });
    row.item = make("li", {}, time, row.said);
    row.item.dataset.row = this.rows.push(row) - 1;
    row.item.dataset.start = start;
    if (language) this.list.lang = language;
    if (this.rows.length === MANY) this.list.classList.add("many"); // then only what is in view is laid out
    this.list.append(row.item);
  }

  // Has a screen reader say a line that has just arrived; of many at once, how many there are.
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

  // All is said: what is left for screen readers is the list.
  quiet() {
    clearTimeout(this.speaking);
    $("job-said").replaceChildren();
    this.list.classList.remove("live");
  }

  setSeekable(yes) {
    this.canSeek = yes;
    this.list.classList.toggle("plays", yes);
    for (const button of this.list.querySelectorAll(".time")) button.disabled = !yes;
  }

  // Marks what is said at this second, and keeps it in view for whoever watches it, or `sought` it.
  mark(seconds, sought = false) {
    const row = latest(this.rows, seconds), spoken = row && latest(row.words, seconds);
    const word = spoken && seconds < spoken.end ? spoken : null; // a line stays marked in a pause, a word does not
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

  stopAt(time) {
    if (this.stop) this.stop.tabIndex = -1;
    else this.list.querySelector(".time").tabIndex = -1;
    time.tabIndex = 0;
    this.stop = time;
  }

  // One stop for the Tab key, arrows from line to line.
  step(press) {
    const row = press.target.matches(".time") && this.rowOf(press.target);
    const to = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[press.key];
    if (!row || !to) return;
    press.preventDefault();
    const index = Math.max(0, Math.min(this.rows.length - 1, Number(row.item.dataset.row) + to));
    this.rows[index].item.querySelector(".time").focus();
  }
}

// The text of the words, which is one text; notes in `into` where in it each word is.
function placed(words, into) {
  let text = "";
  for (const { text: word, start, end } of words) {
    text += text ? word : word.trimStart();
    const from = text.length - word.trimStart().length;
    into.push({ start, end, from, to: from + word.trim().length });
  }
  return text.trimEnd();
}

function rangeOf(row, word) {
  const range = new Range();
  range.setStart(row.said.firstChild, word.from);
  range.setEnd(row.said.firstChild, word.to);
  return range;
}

// The word under a click, if it is on one and not beside the text.
function wordAt(row, { clientX: x, clientY: y }) {
  const caret = document.caretPositionFromPoint?.(x, y) ?? document.caretRangeFromPoint?.(x, y);
  const node = caret?.offsetNode ?? caret?.startContainer, offset = caret?.offset ?? caret?.startOffset;
  if (!node || node !== row.said.firstChild) return null;
  const around = row.words.filter((word) => word.from <= offset && offset <= word.to);
  return around.find((word) => [...rangeOf(row, word).getClientRects()].some(
    (box) => box.left <= x && x <= box.right && box.top <= y && y <= box.bottom));
}

// The last of `items`, which are in order, that has begun by then.
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
