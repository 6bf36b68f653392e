// What is stored in the browser: the key, and the list of recent transcripts.

// Where the browser refuses storage, values last as long as the page.
function shelf(kind) {
  const fallback = new Map();
  const attempt = (use, instead) => { try { return use(window[kind]); } catch { return instead(); } };
  return {
    get: (name) => attempt((s) => s.getItem(name), () => fallback.get(name) ?? null),
    set: (name, value) => attempt((s) => s.setItem(name, value), () => fallback.set(name, value)),
    remove: (name) => attempt((s) => s.removeItem(name), () => fallback.delete(name)),
  };
}
const session = shelf("sessionStorage"), local = shelf("localStorage");
const KEY = "stenobird.key", RECENT = "stenobird.recent", MAX_RECENT = 20;
const SPEED = "stenobird.speed", SHORTCUTS = "stenobird.shortcuts", PREVIEW = "stenobird.preview";

export const key = {
  get value() { return session.get(KEY) || local.get(KEY) || ""; },
  get remembered() { return Boolean(local.get(KEY)); },
  keep(value, remember) {
    this.forget();
    (remember ? local : session).set(KEY, value);
  },
  forget() { session.remove(KEY); local.remove(KEY); },
};

export const recent = {
  all() {
    try {
      const list = JSON.parse(local.get(RECENT) || "[]");
      return Array.isArray(list) ? list.filter((row) => row && typeof row.id === "string") : [];
    } catch { return []; }
  },
  get(id) { return this.all().find((row) => row.id === id); },
  note(row) {
    const list = [{ ...this.get(row.id), ...row }, ...this.all().filter((other) => other.id !== row.id)];
    local.set(RECENT, JSON.stringify(list.slice(0, MAX_RECENT)));
  },
  drop(id) { local.set(RECENT, JSON.stringify(this.all().filter((row) => row.id !== id))); },
  clear() { local.remove(RECENT); },
};

// How fast the audio is played: 1 is as it was recorded.
export const speed = {
  get value() { return Number(local.get(SPEED)) || 1; },
  set value(rate) { local.set(SPEED, rate); },
};

// Whether single keys are shortcuts: people who dictate turn them off.
export const shortcuts = {
  get on() { return local.get(SHORTCUTS) !== "off"; },
  set on(yes) { local.set(SHORTCUTS, yes ? "on" : "off"); },
};

// The preview whose reader went to buy a key in this tab.
export const left = {
  get path() { return /^tr_\w+$/.test(session.get(PREVIEW) || "") ? `/t/${session.get(PREVIEW)}` : ""; },
  keep(id) { session.set(PREVIEW, id); },
  forget() { session.remove(PREVIEW); },
};
