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
  note(row) {
    const known = this.all().find((other) => other.id === row.id);
    const list = [{ ...known, ...row }, ...this.all().filter((other) => other.id !== row.id)];
    local.set(RECENT, JSON.stringify(list.slice(0, MAX_RECENT)));
  },
  drop(id) { local.set(RECENT, JSON.stringify(this.all().filter((row) => row.id !== id))); },
  clear() { local.remove(RECENT); },
};
