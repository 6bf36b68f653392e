// Stenobird's pages. No dependencies: one event stream over fetch (EventSource can't send a key), and the DOM.
"use strict";

const $ = (id) => document.getElementById(id);
const main = $("main");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
// What to call a link whose page has no title: its file, else its host.
function nameOf(url) {
  try {
    const { host, pathname } = new URL(url);
    const last = pathname.split("/").filter(Boolean).pop();
    return last ? decodeURIComponent(last) : host;
  } catch { return url || ""; }
}
const show = (element, visible = true) => { element.hidden = !visible; };

function clock(seconds) {
  const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

// --- what this browser keeps; where storage is refused, this page keeps it until it is left

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

const key = {
  get value() { return session.get(KEY) || local.get(KEY) || ""; },
  keep(value, remember) {
    this.forget();
    (remember ? local : session).set(KEY, value);
  },
  forget() { session.remove(KEY); local.remove(KEY); },
};

const recent = {
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

// --- the API

class Problem extends Error {
  constructor(status, body) {
    super(body.message || "The service gave no answer that this page understands. Try again in a moment.");
    this.status = status;
    this.code = body.error || "";
    this.body = body;
  }
}

async function api(path, { method = "GET", body, headers = {}, signal, share, withKey = key.value } = {}) {
  const sent = { ...headers };
  if (withKey && !share) sent.Authorization = `Bearer ${withKey}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (share) path += `${path.includes("?") ? "&" : "?"}share=${encodeURIComponent(share)}`;
  let response;
  try {
    response = await fetch(path, {
      method, signal, headers: sent, cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { error: "offline", message: "The service can't be reached. Check the connection, then try again." });
  }
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  return response;
}

// The stream format of HTML's "Server-sent events", as far as the service uses it.
async function* eventsOf(stream) {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "", id = "", event = "", data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return; // an event without its empty line is not an event
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { id, event: event || "message", data: data.join("\n") };
          event = ""; data = [];
          continue;
        }
        const colon = line.indexOf(":");
        if (colon === 0) continue;
        const field = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") data.push(text);
        else if (field === "event") event = text;
        else if (field === "id") id = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const RETRY_MS = 1000, MAX_RETRY_MS = 15000;

// Hands every event to `take` once and in order, across lost connections, until `done`.
async function follow(id, { share, signal, take, connected }) {
  let last = "", wait = RETRY_MS;
  for (;;) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await api(`/v1/transcripts/${id}/events`, { headers, share, signal });
      if (response.status === 204) return;
      connected(true);
      for await (const event of eventsOf(response.body)) {
        last = event.id;
        wait = RETRY_MS;
        take(event.event, JSON.parse(event.data));
        if (event.event === "done") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted) return;
    connected(false);
    await new Promise((resolve) => {
      const go = () => { clearTimeout(timer); removeEventListener("online", go); signal.removeEventListener("abort", go); resolve(); };
      const timer = setTimeout(go, wait);
      addEventListener("online", go);
      signal.addEventListener("abort", go);
    });
    wait = Math.min(wait * 2, MAX_RETRY_MS);
  }
}

// --- the key

const keyDialog = $("key-dialog");
let afterKey = () => {};

function showKey() {
  const value = key.value;
  for (const button of document.querySelectorAll("[data-key-button]")) {
    show(button);
    button.textContent = value ? `Key …${value.slice(-4)}` : "Add key";
  }
  show(document.querySelector("[data-key-forget]"), Boolean(value));
}

function askKey(then = () => location.reload()) {
  afterKey = then;
  $("key-input").value = "";
  $("key-remember").checked = Boolean(local.get(KEY));
  show($("key-problem"), false);
  keyDialog.showModal();
}

keyDialog.querySelector("form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const value = $("key-input").value.trim();
  const problem = (text) => {
    $("key-problem").textContent = text;
    show($("key-problem"));
    $("key-input").setAttribute("aria-invalid", "true");
    $("key-input").focus();
  };
  if (!value) return problem("Paste the key here. It begins with sb_ or alef_sk_.");
  try {
    await api("/v1/transcripts?limit=1", { withKey: value });
  } catch (error) {
    return problem(error.message);
  }
  $("key-input").removeAttribute("aria-invalid");
  key.keep(value, $("key-remember").checked);
  showKey();
  keyDialog.close();
  return afterKey();
});
document.querySelector("[data-key-cancel]").addEventListener("click", () => keyDialog.close());
document.querySelector("[data-key-forget]").addEventListener("click", () => { key.forget(); location.reload(); });
for (const button of document.querySelectorAll("[data-key-button]")) button.addEventListener("click", () => askKey());
for (const link of document.querySelectorAll(".top nav a")) {
  if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
}
showKey();

async function copy(text, button) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard for pages over plain http
    const field = make("textarea", { value: text, readOnly: true });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 2000);
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy($(button.dataset.copy).textContent, button));
}
for (const button of document.querySelectorAll("[data-use-key]")) {
  show(button);
  button.addEventListener("click", () => {
    key.keep($(button.dataset.useKey).textContent.trim(), false);
    showKey();
    location.assign("/");
  });
}

// --- one transcript

const STAGES = {
  validating_url: "Checking the link", resolving_direct: "Looking at what is there", resolving_feed: "Reading the feed",
  resolving_page: "Reading the page", resolving_directory: "Asking the podcast directory",
  resolving_extractor: "Trying what video sites need", source_resolved: "Found the audio", submitted: "Fetching and listening",
};
const KINDS = { preview: "Free preview", full: "Transcript", test: "Made-up text for a test key" };
const PROBLEMS = {
  audio_source_not_found: "No audio was found behind this link", unsupported_url: "This link can't be transcribed",
  audio_unreachable: "The audio can't be reached", audio_source_unreachable: "The page can't be reached",
  audio_content_type_not_supported: "This is not audio", audio_too_large: "This audio is too large",
  transcription_failed: "The transcription failed", missing_api_key: "This transcript belongs to an account",
  invalid_api_key: "This key is not valid", transcript_not_found: "There is no such transcript",
  billing_failed: "The last payment failed", insufficient_credits: "The credits are used up",
  queue_busy: "The service is busy", rate_limited: "Too many requests", offline: "No connection",
};

class TranscriptView {
  constructor(id, { share = "", url = "" } = {}) {
    this.id = id;
    this.share = share;
    this.url = url;
    this.mode = "";
    this.source = null;
    this.heardTo = 0;
    this.abort = new AbortController();
    this.texts = [];
    this.stages = new Map();
    this.canSeek = false;
    this.pinned = true;
    this.frame = 0;
  }

  async run() {
    show($("job"));
    this.title();
    this.state("Waiting for its turn", "running");
    this.bind();
    try {
      this.describe(await (await this.api("")).json());
      if (this.status === "failed" || this.status === "cancelled") show($("job-progress"), false);
      await follow(this.id, {
        share: this.share, signal: this.abort.signal,
        take: (event, data) => this.take(event, data),
        connected: (yes) => show($("job-connection"), !yes),
      });
    } catch (error) {
      if (error instanceof Problem) this.problem(error.body.error ? error.body : { error: error.code, message: error.message });
      else if (error.name !== "AbortError") throw error;
    }
  }

  api(path, options = {}) { return api(`/v1/transcripts/${this.id}${path}`, { share: this.share, ...options }); }

  get owned() { return !this.share && this.mode !== "" && this.mode !== "preview"; }

  describe(body) {
    this.status = body.status;
    this.finished = body.terminal; // then nobody is waiting for the next line
    this.mode = body.mode;
    this.url = body.audio_url;
    $("job-kind").textContent = this.share ? "Shared transcript" : KINDS[body.mode] || "Transcript";
    if (body.source) this.found(body.source);
    else this.title();
    this.note();
    show($("job-cancel"), !body.terminal && !this.share);
  }

  note() {
    if (!this.share) recent.note({ id: this.id, title: this.source?.title || nameOf(this.url), mode: this.mode, at: Date.now() });
  }

  title(given) {
    const text = given || nameOf(this.url);
    $("job-title").textContent = text || "Transcript";
    $("job-title").classList.toggle("long", (text || "").length > 60);
    if (text) document.title = `${text} · Stenobird`;
  }

  state(text, look = "") {
    if ($("job-state").textContent !== text) $("job-state").textContent = text;
    $("job-state").className = `state ${look}`;
  }

  found(source) {
    this.source = source;
    this.title(source.title);
    const facts = [source.podcast, source.published?.slice(0, 10), source.duration_seconds ? clock(source.duration_seconds) : null];
    const link = source.page_url || source.submitted_url || this.url;
    const where = /^https?:/.test(link) ? make("a", { href: link, rel: "noreferrer noopener", textContent: new URL(link).host }) : "";
    $("job-source").replaceChildren(facts.filter(Boolean).map((fact) => `${fact} · `).join(""), where);
    this.offerPlayer();
    this.note();
  }

  take(event, data) {
    if (event === "status") this.stage(data);
    else if (event === "transcript") this.line(data);
    else if (event === "preview_locked") this.locked();
    else if (event === "error") this.problem(data);
    else if (event === "done") this.done(data);
  }

  stage(data) {
    if (data.source) this.found(data.source);
    if (data.progress) this.progress(data.progress);
    if (data.stage === "transcribing") return this.state("Listening", "running");
    const label = STAGES[data.stage] || data.stage.replaceAll("_", " ");
    const text = data.source?.reason || data.message || "";
    const item = this.stages.get(data.stage) || $("job-stages").appendChild(make("li"));
    this.stages.set(data.stage, item);
    item.replaceChildren(make("b", { textContent: label }), ...(text ? [" ", make("span", { textContent: text })] : []));
    return this.state(label, "running");
  }

  progress({ audio_seconds: heard, audio_seconds_total: total }) {
    this.total = total || this.total;
    this.heardTo = Math.max(this.heardTo, heard || 0);
    const bar = $("job-progress");
    if (!this.total || this.mode === "preview") return;
    show(bar);
    bar.value = Math.min(1, this.heardTo / this.total);
    bar.textContent = `${clock(this.heardTo)} of ${clock(this.total)}`;
  }

  line(data) {
    if (!this.texts.length) $("job-found").open = false;
    this.state("Listening", "running");
    this.texts.push(data.text);
    const lines = $("job-lines");
    const time = make("button", { type: "button", className: "time", textContent: clock(data.start), tabIndex: lines.children.length ? -1 : 0 });
    time.setAttribute("aria-label", `Play from ${clock(data.start)}`);
    time.disabled = !this.canSeek;
    const paragraph = make("p", { dir: "auto" });
    if (data.language) lines.lang = data.language;
    if (data.words) {
      for (const word of data.words) {
        const span = make("span", { className: "w", textContent: word.text.trim() });
        span.dataset.start = word.start;
        span.dataset.end = word.end;
        paragraph.append(/^\s/.test(word.text) && paragraph.childNodes.length ? " " : "", span);
      }
    } else paragraph.textContent = data.text.trim();
    const item = make("li", { className: this.finished ? "" : "fresh" }, time, paragraph);
    item.dataset.start = data.start;
    item.dataset.end = data.end;
    lines.classList.add("live");
    lines.append(item);
    if (this.texts.length > 300) lines.classList.add("many"); // the rest is laid out when it is scrolled to
    this.progress({ audio_seconds: data.end });
    if (this.texts.length === 1) {
      show($("job-tools"));
      for (const tool of document.querySelectorAll("[data-format]")) show(tool, false);
    }
    if (this.texts.length > 4) this.stayAtEnd();
  }

  // Whoever reads at the end stays there; whoever has scrolled up is left alone. Once a frame, since a replay
  // brings thousands of lines at once and measuring the page costs a layout.
  stayAtEnd() {
    if (this.finished || !this.pinned || this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      scrollTo({ top: document.documentElement.scrollHeight, behavior: calm.matches ? "auto" : "smooth" });
    });
  }

  locked() {
    show($("job-lock"));
    $("job-lock-text").textContent = `You read the first ${main.dataset.previewSeconds || 15} seconds. A key carries on from here, to the end.`;
    const has = Boolean(key.value);
    show($("job-whole"), has);
    show($("job-buy"), !has);
    show($("job-have-key"), !has);
  }

  problem(body) {
    show($("job-problem"));
    const code = body.error || "";
    $("job-problem-title").textContent = PROBLEMS[code] || "This did not work";
    $("job-problem-text").textContent = body.message || "Try again in a moment.";
    show($("job-problem-key"), ["missing_api_key", "invalid_api_key", "transcript_not_found"].includes(code));
    for (const id of ["job-state", "job-progress", "job-cancel", "job-connection"]) show($(id), false);
    show($("job-found"), this.stages.size > 0);
    if (code === "transcript_not_found") recent.drop(this.id);
  }

  done(data) {
    this.ended = true;
    $("job-lines").classList.remove("live");
    for (const id of ["job-cancel", "job-connection", "job-progress"]) show($(id), false);
    show($("job-remove"), this.owned);
    if (data.result_ready) {
      const words = this.texts.join("").split(/\s+/).filter(Boolean).length;
      const count = `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}`;
      const minutes = data.billable_minutes ? `, ${data.billable_minutes} ${data.billable_minutes === 1 ? "minute" : "minutes"} billed` : "";
      this.state(words ? `Done: ${count}${minutes}` : `Done: nothing was said${minutes}`, "good");
      if (data.warning) $("job-silent").textContent = data.warning;
      show($("job-silent"), Boolean(data.warning));
      show($("job-tools"));
      for (const tool of document.querySelectorAll("[data-format]")) show(tool);
      show($("job-share"), !this.share);
    } else if (data.status === "cancelled") {
      this.state("Stopped before it was finished; nothing is billed", "bad");
      show($("job-share"), false);
    }
    if (this.owned && data.result_ready) {
      this.api("/share").then((answer) => answer.json()).then(({ links }) => { if (links) this.showLink("", links); }).catch(() => {});
    }
  }

  // --- hearing it

  offerPlayer() {
    const audio = $("job-audio");
    const url = this.source.final_url || this.source.media_url || "";
    if (audio.dataset.url === url || !/^https?:/.test(url)) return;
    audio.dataset.url = url;
    if (this.source.kind === "hls" && !audio.canPlayType("application/vnd.apple.mpegurl")) return;
    if (location.protocol === "https:" && url.startsWith("http:")) return; // a browser would refuse it
    audio.addEventListener("error", () => this.noPlayer(), { once: true });
    audio.src = url;
    this.setSeekable(true);
  }

  setSeekable(yes) {
    this.canSeek = yes;
    show($("job-player"), yes);
    $("job-lines").classList.toggle("plays", yes);
    for (const button of $("job-lines").querySelectorAll(".time")) button.disabled = !yes;
  }

  noPlayer() {
    this.setSeekable(false);
    const link = make("a", { href: this.source.final_url || this.source.media_url, rel: "noreferrer noopener", textContent: "open the audio there" });
    $("job-silent").replaceChildren("The source does not let other pages play its audio; you can ", link, ".");
    show($("job-silent"));
  }

  seek(seconds) {
    if (!this.canSeek) return;
    const audio = $("job-audio");
    const go = () => { audio.currentTime = Number(seconds); };
    if (audio.readyState >= 1) go();
    else audio.addEventListener("loadedmetadata", go, { once: true });
    audio.play().catch((error) => { if (error.name === "NotSupportedError") this.noPlayer(); });
  }

  follow() {
    const now = $("job-audio").currentTime;
    const at = (element) => Number(element.dataset.start) <= now && now < Number(element.dataset.end);
    for (const old of $("job-lines").querySelectorAll(".now")) if (!at(old)) old.classList.remove("now");
    for (const item of $("job-lines").children) {
      if (!at(item)) continue;
      item.classList.add("now");
      for (const word of item.querySelectorAll(".w")) word.classList.toggle("now", at(word));
    }
  }

  // --- what one can do with it

  bind() {
    const on = (id, act) => $(id).addEventListener("click", act, { signal: this.abort.signal });
    const lines = $("job-lines");
    on("job-lines", (click) => {
      if (String(getSelection())) return; // somebody marks text
      const word = click.target.closest(".w"), item = click.target.closest("li");
      if (item) this.seek((word || item).dataset.start);
    });
    // One stop for the Tab key, arrows from line to line.
    lines.addEventListener("keydown", (press) => {
      const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[press.key];
      const buttons = [...lines.querySelectorAll(".time")];
      const index = buttons.indexOf(document.activeElement);
      if (!step || index < 0) return;
      press.preventDefault();
      const next = buttons[Math.max(0, Math.min(buttons.length - 1, index + step))];
      buttons[index].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }, { signal: this.abort.signal });
    addEventListener("scroll", () => {
      this.pinned = innerHeight + scrollY >= document.documentElement.scrollHeight - 160;
    }, { signal: this.abort.signal, passive: true });
    $("job-audio").addEventListener("timeupdate", () => this.follow(), { signal: this.abort.signal });
    on("job-copy", () => copy(this.texts.join("").trim(), $("job-copy")));
    for (const link of document.querySelectorAll("[data-format]")) {
      link.addEventListener("click", (click) => { click.preventDefault(); this.download(link); }, { signal: this.abort.signal });
    }
    on("job-share", () => this.makeLink());
    on("job-link-copy", () => copy($("job-link-field").value, $("job-link-copy")));
    on("job-revoke", () => this.act(async () => {
      await this.api("/share", { method: "DELETE" });
      show($("job-link"), false);
      this.state("The links are revoked", "good");
      $("job-share").focus();
    }));
    on("job-cancel", () => this.act(() => this.api("", { method: "DELETE" })));
    on("job-remove", () => this.act(async () => {
      if (!confirm("Delete this transcript for good?")) return;
      await this.api("", { method: "DELETE" });
      recent.drop(this.id);
      location.assign("/");
    }));
    on("job-whole", () => start(this.url, this.id));
    on("job-have-key", () => askKey(() => start(this.url, this.id)));
    on("job-problem-key", () => askKey());
  }

  async act(deed) {
    try { await deed(); } catch (error) { this.state(error.message, "bad"); }
  }

  download(link) {
    return this.act(async () => {
      const response = await this.api(`/result?format=${link.dataset.format}`);
      const named = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") || "");
      const address = URL.createObjectURL(await response.blob());
      const name = named ? decodeURIComponent(named[1]) : `${this.id}.${link.dataset.format}`;
      make("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
    });
  }

  makeLink() {
    return this.act(async () => {
      if (!this.owned) return this.showLink(`${location.origin}/t/${this.id}`, 0);
      const made = await (await this.api("/share", { method: "POST" })).json();
      return this.showLink(made.share_url, 1);
    });
  }

  showLink(url, links) {
    show($("job-link"));
    const field = $("job-link-field");
    field.value = url || `${links} ${links === 1 ? "link was" : "links were"} made; Share makes another`;
    show($("job-link-copy"), Boolean(url));
    show($("job-revoke"), links > 0);
    if (url) { field.focus(); field.select(); }
  }
}

// --- paste a link

function askProblem(text) {
  const line = $("ask-problem");
  line.textContent = text;
  show(line, Boolean(text));
  $("audio-url").toggleAttribute("aria-invalid", false);
  if (text) { $("audio-url").setAttribute("aria-invalid", "true"); $("audio-url").focus(); }
}

async function start(url, previewId) {
  const body = { audio_url: url, word_timestamps: true };
  if (previewId && key.value) body.preview_id = previewId;
  const made = await (await api("/v1/transcripts", { method: "POST", body })).json().catch(() => ({}));
  recent.note({ id: made.id, title: nameOf(url), mode: made.mode, at: Date.now() });
  location.assign(`/t/${made.id}`);
}

function bindAsk() {
  const form = $("ask-form");
  const go = async (url) => {
    askProblem("");
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await start(url);
    } catch (error) {
      askProblem(error.message);
    } finally {
      button.disabled = false;
    }
  };
  form.addEventListener("submit", (submit) => {
    submit.preventDefault();
    const url = $("audio-url").value.trim();
    if (!url) return askProblem("Paste a link first.");
    return go(/^[a-z][a-z0-9+.-]*:/i.test(url) ? url : `https://${url}`);
  });
  form.querySelector("[data-sample]")?.addEventListener("click", (click) => {
    $("audio-url").value = click.target.dataset.sample;
    go(click.target.dataset.sample);
  });
  $("recent-clear").addEventListener("click", () => { recent.clear(); show($("recent"), false); $("audio-url").focus(); });
  const rows = recent.all();
  show($("recent"), rows.length > 0);
  $("recent-list").replaceChildren(...rows.map((row) => make("li", {},
    make("a", { href: `/t/${encodeURIComponent(row.id)}`, textContent: row.title || row.id }),
    make("span", { textContent: [KINDS[row.mode], new Date(row.at).toLocaleDateString()].filter(Boolean).join(" · ") }))));
}

// --- usage

const svg = (tag, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

function drawChart(days) {
  const width = 720, height = 220, left = 40, bottom = 24, top = 12;
  const busiest = Math.max(0, ...days.map((day) => day.minutes)), most = Math.max(5, busiest);
  const unit = 10 ** Math.floor(Math.log10(most));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * unit / 2).find((n) => most / n <= 4) || unit * 5);
  const ceiling = Math.ceil(most / step) * step;
  const y = (minutes) => top + (height - bottom - top) * (1 - minutes / ceiling);
  const slot = (width - left) / days.length;
  const total = days.reduce((sum, day) => sum + day.minutes, 0);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${total} minutes in ${days.length} days; the busiest day had ${busiest}.` });
  for (let minutes = 0; minutes <= ceiling; minutes += step) {
    chart.append(svg("line", { class: "axis", x1: left, x2: width, y1: y(minutes), y2: y(minutes) }),
      svg("text", { x: left - 8, y: y(minutes) + 4, "text-anchor": "end" }, minutes.toLocaleString("en")));
  }
  days.forEach((day, index) => {
    const x = left + index * slot;
    if (day.minutes) {
      const bar = svg("rect", { class: "bar", x: x + slot * .15, width: slot * .7, y: y(day.minutes), height: y(0) - y(day.minutes), rx: 2 });
      bar.append(svg("title", {}, `${day.day}: ${day.minutes} min`));
      chart.append(bar);
    }
    if ((days.length - 1 - index) % 7 === 0) chart.append(svg("text", { x: x + slot / 2, y: height - 4, "text-anchor": "middle" }, day.day.slice(5)));
  });
  $("usage-chart").replaceChildren(chart);
}

async function showUsage() {
  show($("usage-ask"), !key.value);
  if (!key.value) return;
  const day = (moment) => moment.toISOString().slice(0, 10);
  const today = new Date(), days = [];
  for (let back = 29; back >= 0; back -= 1) days.push({ day: day(new Date(today - back * 864e5)), minutes: 0, jobs: 0 });
  try {
    const usage = await (await api(`/v1/usage?from=${days[0].day}&limit=1`)).json();
    for (const row of usage.days) {
      Object.assign(days.find((other) => other.day === row.date) || {}, { minutes: row.billable_minutes, jobs: row.jobs });
    }
    const account = await (await api("/v1/account")).json();
    const numbers = [["Minutes, 30 days", usage.total.billable_minutes], ["Transcripts, 30 days", usage.total.jobs]];
    if (account.billing !== "operator") numbers.push(["Credits left", account.credits.available_units]);
    numbers.push(["Plan", account.tier]);
    $("usage-numbers").replaceChildren(...numbers.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value.toLocaleString("en") }))));
    drawChart(days);
    $("usage-rows").replaceChildren(...days.filter((row) => row.jobs).reverse().map((row) => make("tr", {},
      make("td", { textContent: row.day }), make("td", { textContent: row.jobs }), make("td", { textContent: row.minutes }))));
    show($("usage-body"));
    await showJobs("");
  } catch (error) {
    $("usage-problem").textContent = error.message;
    show($("usage-problem"));
    show($("usage-ask"), error.status === 401);
    return;
  }
  // Only an account that pays through Stripe has invoices.
  const billing = await api("/v1/billing").then((answer) => answer.json()).catch(() => null);
  show($("usage-billing"), Boolean(billing?.subscribed || billing?.latest_receipt_url));
}

async function showJobs(cursor) {
  const page = await (await api(`/v1/transcripts?limit=20${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`)).json();
  $("usage-jobs").append(...page.transcripts.map((job) => make("li", {},
    make("a", { href: `/t/${job.id}`, textContent: job.source?.title || nameOf(job.audio_url) }),
    make("span", { textContent: [job.created_at.slice(0, 10), job.status.replaceAll("_", " "), job.billable_minutes ? `${job.billable_minutes} min` : ""].filter(Boolean).join(" · ") }))));
  if (!$("usage-jobs").children.length) $("usage-jobs").append(make("li", { textContent: "No transcripts yet." }));
  show($("usage-more"), Boolean(page.next_cursor));
  $("usage-more").onclick = () => showJobs(page.next_cursor);
}

// --- which page this is

if (main.dataset.page === "home") bindAsk();
if (main.dataset.page === "transcript") {
  new TranscriptView(main.dataset.job, { share: main.dataset.share }).run();
}
if (main.dataset.page === "usage") {
  $("usage-portal").addEventListener("click", async () => {
    try {
      location.assign((await (await api("/v1/billing/portal", { method: "POST" })).json()).portal_url);
    } catch (error) {
      $("usage-problem").textContent = error.message;
      show($("usage-problem"));
    }
  });
  showUsage();
}
