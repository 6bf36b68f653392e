// The text in paragraphs, as the service's own txt has them.
import { clock } from "./dom.js";

const PAUSE_SECONDS = 2, LONG = 600;
const ENDS_SENTENCE = /[.!?…。！？؟۔]["'”’»)\]]*\s*$/u;

// Returns [{ start, text, speaker }] of rows { start, end, text, speaker }: a paragraph starts with another speaker, after a
// pause, or after a sentence once the last one is long. Text without punctuation is split at twice that length.
export function paragraphs(rows) {
  const found = [];
  let now = null, previous = null;
  for (const row of rows) {
    const text = row.text.replace(/\s+/gu, " ");
    if (!text.trim()) continue;
    const breaks = now && (row.speaker !== previous.speaker || row.start - previous.end >= PAUSE_SECONDS || now.text.length >= 2 * LONG
      || (now.text.length >= LONG && ENDS_SENTENCE.test(now.text)));
    if (!now || breaks) found.push(now = { start: row.start, text: text.trimStart(), ...(row.speaker && { speaker: row.speaker }) });
    else now.text += text;
    previous = row;
  }
  return found.map((one) => ({ ...one, text: one.text.trim() }));
}

export function textOf(rows, withTimes) {
  let last = null;
  return paragraphs(rows).map(({ start, text, speaker }) => {
    const name = speaker && speaker !== last ? `${speaker}: ` : "";
    last = speaker;
    return `${withTimes ? `[${clock(start)}] ` : ""}${name}${text}`;
  }).join("\n\n");
}
