// What can be chosen besides the link or the file.
import { $, make } from "./dom.js";

// Some browsers have no names for these languages.
const UNNAMED = { ba: "Bashkir", bo: "Tibetan" };

// Returns the choices of a form as fields of the request, without those that were left alone.
export function choices(form) {
  const { audio_url: _url, max_minutes: _minutes, keywords, ...chosen } = Object.fromEntries(new FormData(form));
  const filled = Object.entries({ ...chosen, keywords: keywordsOf(keywords || "") }).filter(([, value]) => value.length);
  const ticked = "speakers" in chosen ? { speakers: true } : {};
  return { ...Object.fromEntries(filled), ...ticked, ...minutesOf($("ask-minutes")) };
}

// Returns how long live audio is transcribed as a field of the request; nothing if it was left empty.
export const minutesOf = ({ value }) => (value ? { max_minutes: Number(value) } : {});

// Returns what is wrong with the number of minutes in a field, if something is.
export const minutesProblem = (field) => (field.checkValidity() ? "" : `Live audio can be transcribed for 1 to ${field.max} minutes. Enter a whole number, or leave it empty.`);

// Returns the keywords in a line, which commas separate; each once.
export const keywordsOf = (line) => [...new Set(line.split(/[,;،、\n]/u).map((word) => word.trim()).filter(Boolean))];

export function nameLanguages(select) {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const named = select.dataset.codes.split(" ").map((code) => [code, UNNAMED[code] || names.of(code)]);
  named.sort(([, one], [, other]) => one.localeCompare(other, "en"));
  select.append(...named.map(([value, textContent]) => make("option", { value, textContent })));
}
