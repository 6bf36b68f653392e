// Finds, creates and shows elements.

export const $ = (id) => document.getElementById(id);
export const main = $("main");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export const motion = () => (calm.matches ? "auto" : "smooth");
export const show = (element, visible = true) => { element.hidden = !visible; };

// Returns an element with properties and children. Strings become text, never markup.
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Makes a screen reader say the text once.
export function announce(text) {
  const announcer = $("announcer");
  announcer.textContent = "";
  setTimeout(() => { announcer.textContent = text; }, 50);
}

export const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// Formats a position in audio: 0:07, 12:30, 1:02:03.
export function clock(seconds) {
  const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

// Returns a name for a link whose page has no title: the file name, else the host.
export function nameOf(url) {
  try {
    const { host, pathname } = new URL(url);
    const last = pathname.split("/").filter(Boolean).pop();
    return last ? decodeURIComponent(last) : host;
  } catch { return url || ""; }
}
