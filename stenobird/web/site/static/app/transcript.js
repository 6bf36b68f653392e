// The page of one transcript: its stages and lines as they arrive, and the actions on it.
import { api, explain, json, start } from "./api.js";
import { minutesOf, minutesProblem } from "./choices.js";
import { copy } from "./copying.js";
import { $, announce, clock, count, main, make, nameOf, show } from "./dom.js";
import { follow } from "./events.js";
import { askKey } from "./keys.js";
import { key, left, recent } from "./kept.js";
import { Lines, isRightToLeft } from "./lines.js";
import { Newest } from "./newest.js";
import { Pace, roughly } from "./pace.js";
import { textOf } from "./paragraphs.js";
import { Player } from "./player.js";
import { Search } from "./search.js";
import { bindShortcuts } from "./shortcuts.js";
import { Speakers } from "./speakers.js";
import { KINDS, stageName } from "./words.js";

const RETRYABLE = ["transcription_failed", "audio_unreachable", "audio_source_unreachable", "directory_lookup_failed", "extractor_unavailable"];
const NEEDS_KEY = ["missing_api_key", "invalid_api_key", "transcript_not_found"];

class Transcript {
  constructor({ job, share, previewSeconds, silenceSeconds }) {
    this.id = job;
    this.share = share;
    this.previewSeconds = previewSeconds;
    this.silence = Number(silenceSeconds) * 1000;
    this.mode = "";
    this.stages = new Map();
    this.heardTo = 0;
    this.pace = new Pace();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.newest = new Newest(signal);
    this.lines = new Lines($("job-lines"), (seconds) => this.player.seek(seconds));
    this.player = new Player(this.lines, signal, () => this.newest.leave());
    this.search = new Search(this.lines, signal, () => this.newest.leave());
    this.speakers = new Speakers(this.lines, signal, () => this.search.grew(), (names) => this.act(() => this.nameSpeakers(names)));
  }

  async run() {
    show($("job"));
    this.title("Transcript");
    this.state("Waiting in the queue", "running");
    this.bind();
    try {
      await follow(this.id, {
        share: this.share, silence: this.silence, signal: this.abort.signal,
        begin: (status) => this.describe(status),
        take: (event, data) => this.take(event, data),
        connected: (yes) => this.connected(yes),
      });
    } catch (error) {
      if (!("code" in error)) throw error;
      this.problem(error.body.error ? error.body : { error: error.code, message: error.message });
    }
  }

  api(path, options = {}) { return api(`/v1/transcripts/${this.id}${path}`, { share: this.share, ...options }); }

  // What was chosen when the link was sent from this browser.
  get options() { return recent.get(this.id)?.options; }

  get owned() { return !this.share && this.mode !== "" && this.mode !== "preview"; }

  // --- facts

  describe(body) {
    this.live = !body.terminal; // else no more lines will arrive
    this.mode = body.mode;
    this.url = body.audio_url;
    this.speakers.rename(body.speaker_names);
    $("job-kind").textContent = this.share ? "Shared transcript" : KINDS[body.mode] || "Transcript";
    this.title(this.name);
    if (body.source) this.found(body.source);
    this.note();
    $("job").classList.toggle("live", this.live);
    if (body.stop_requested) this.stopping();
    show($("job-found"), !this.url.startsWith("upload:"));
    show($("job-cancel"), this.live && !this.share);
    show($("job-tools"), this.live && !this.share);
  }

  // An upload is known by the name of its file, others by their title, or by their address.
  get name() {
    if (this.source?.title) return this.source.title;
    return this.url.startsWith("upload:") ? recent.get(this.id)?.title || "Uploaded file" : nameOf(this.url);
  }

  note() {
    if (!this.share) recent.note({ id: this.id, title: this.name, mode: this.mode, at: Date.now() });
  }

  title(text) {
    $("job-title").textContent = text;
    $("job-title").classList.toggle("long", text.length > 60);
    $("job-title").parentElement.dir = isRightToLeft(text) ? "rtl" : "ltr";
    this.named = `${text} · Stenobird`;
    document.title = this.named;
  }

  found(source) {
    this.source = source;
    if (source.title) this.title(source.title);
    const facts = [source.podcast, source.published?.slice(0, 10), source.duration_seconds ? clock(source.duration_seconds) : null];
    const link = source.page_url || source.submitted_url || this.url, known = facts.filter(Boolean);
    const shown = known.map((fact) => make("bdi", { textContent: fact }));
    if (/^https?:/.test(link)) shown.push(make("a", { href: link, rel: "noreferrer noopener", textContent: new URL(link).host }));
    $("job-source").replaceChildren(...shown.flatMap((fact, index) => (index ? [" · ", fact] : [fact])));
    this.total ||= source.duration_seconds;
    if (source.live) this.onAir(source);
    else this.player.offer(source); // what was on air can't be played again
    this.note();
  }

  onAir(source) {
    this.since = source.at && new Date(source.at);
    this.newest.onAir();
    if (!this.share) $("job-kind").textContent = this.mode === "preview" ? KINDS.preview : "Live transcript";
  }

  // --- progress

  state(text, look = "") {
    if ($("job-state").textContent !== text) $("job-state").textContent = text;
    $("job-state").className = `state ${look}`;
  }

  connected(yes) {
    const text = yes ? "" : navigator.onLine ? "The connection was lost. Reconnecting…" : "You are offline. The transcript continues when the connection is back.";
    if ($("job-connection").textContent !== text) $("job-connection").textContent = text;
  }

  take(event, data) {
    if (event === "status") this.stage(data);
    else if (event === "transcript") this.line(data);
    else if (event === "speakers") this.speakers.take(data.labels);
    else if (event === "preview_locked") this.locked();
    else if (event === "error") this.problem(data);
    else if (event === "done") this.done(data);
  }

  stage(data) {
    if (data.source) this.found(data.source);
    if (data.progress) this.progress(data.progress);
    if (data.stage === "stream_gap") return this.gap(data);
    if (data.stage === "now_playing") return this.playing(data.title);
    if (data.stage === "transcribing") return this.running();
    const label = stageName(data.stage), text = data.source?.reason || data.message || "";
    const item = this.stages.get(data.stage) || $("job-stages").appendChild(make("li"));
    this.stages.set(data.stage, item);
    item.replaceChildren(make("b", { textContent: label }), ...(text ? [" ", make("span", { textContent: text, dir: "auto" })] : []));
    return this.running(label);
  }

  running(text = this.source?.live ? "Transcribing live" : "Transcribing") {
    if (!this.stopped) this.state(text, "running");
  }

  gap(data) {
    this.lines.miss(data);
    if (this.live) this.newest.grew();
  }

  playing(title) {
    if (!this.live) return;
    $("job-playing-title").textContent = title;
    show($("job-playing"), Boolean(title));
  }

  progress({ audio_seconds: heard, audio_seconds_total: total }) {
    this.total = total || this.total;
    this.heardTo = Math.max(this.heardTo, heard || 0);
    if (!this.live || this.mode === "preview") return;
    if (this.source?.live) return this.elapsed();
    this.pace.note(this.heardTo);
    const bar = $("job-progress"), left = this.pace.left(this.total);
    const done = this.total ? `${clock(this.heardTo)} of ${clock(this.total)}` : clock(this.heardTo);
    $("job-pace").textContent = left === null ? done : `${done} · ${roughly(left)}`;
    show($("job-pace"));
    if (!this.total) return;
    show(bar);
    bar.value = Math.min(1, this.heardTo / this.total);
    bar.setAttribute("aria-valuetext", done);
  }

  // Live audio has no end that could be near.
  elapsed() {
    const began = this.since?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    $("job-pace").textContent = [clock(this.heardTo), began && `since ${began}`].filter(Boolean).join(" · ");
    show($("job-pace"));
  }

  line(data) {
    if (!this.lines.rows.length) {
      $("job-found").open = false;
      for (const id of ["job-tools", "job-copying", "job-find"]) show($(id));
    }
    this.running();
    this.lines.add(data);
    this.progress({ audio_seconds: data.end });
    if (!this.live) return;
    this.lines.speak(data.text);
    this.newest.grew();
    this.search.grew();
  }

  locked() {
    const live = Boolean(this.source?.live);
    $("job-lock-text").textContent = live
      ? `These were ${this.previewSeconds} seconds of live audio. With a key it is transcribed for longer, from the moment you start.`
      : `These were the first ${this.previewSeconds} seconds. With a key the transcript continues to the end.`;
    show($("job-lock-minutes"), live);
    if ($("job-lock").hidden) $("job-minutes").value = this.options?.max_minutes ?? "";
    show($("job-lock"));
    if (live) $("job-whole").textContent = "Transcribe what is on air";
    const has = Boolean(key.value);
    show($("job-whole"), has);
    show($("job-buy"), !has);
    show($("job-have-key"), !has);
  }

  problem(body) {
    const code = body.error || "";
    const { title, text, href, link } = explain({ code, message: body.message || "Try again in a moment.", body });
    $("job-problem-title").textContent = title;
    $("job-problem-text").textContent = text;
    Object.assign($("job-problem-link"), href ? { href, textContent: link, hidden: false } : { hidden: true });
    show($("job-problem-key"), NEEDS_KEY.includes(code));
    show($("job-problem-again"), RETRYABLE.includes(code) && !this.share && /^https?:/.test(this.url || ""));
    show($("job-problem"));
    this.over();
    for (const id of ["job-state", "job-warning"]) show($(id), false);
    show($("job-found"), this.stages.size > 0);
    if (code === "transcript_not_found") recent.drop(this.id);
  }

  // No more events will arrive.
  over() {
    this.live = false;
    this.connected(true);
    this.lines.quiet();
    this.newest.end();
    this.keepFocus();
    $("job").classList.remove("live");
    for (const id of ["job-cancel", "job-progress", "job-pace", "job-playing"]) show($(id), false);
    show($("job-tools"), this.lines.rows.length > 0);
  }

  done(data) {
    this.over();
    show($("job-remove"), this.owned);
    if (this.owned) show($("job-tools"));
    const minutes = data.billable_minutes && this.owned ? count(data.billable_minutes, "minute", "minutes") : "";
    if (data.status === "cancelled") this.state(`Stopped before it was finished${this.share ? "" : `; ${minutes ? `${minutes} billed` : "nothing is billed"}`}`, "bad");
    if (!data.result_ready) return;
    if (document.hidden) { // the name of the tab says so, until somebody looks
      document.title = `✓ ${this.named}`;
      document.addEventListener("visibilitychange", () => { document.title = this.named; }, { once: true });
    }
    const { words } = this.lines;
    this.state(`Done: ${words ? count(words, "word", "words") : "no speech"}${minutes && `, ${minutes} billed`}`, "good");
    $("job-warning").textContent = data.warning || "";
    show($("job-warning"), Boolean(data.warning));
    show($("job-tools"));
    show(document.querySelector(".downloads"));
    show($("job-share"), !this.share);
    if (!this.owned) return;
    this.speakers.allow();
    this.countLinks();
  }

  // --- actions

  bind() {
    const { signal } = this.abort;
    const on = (id, act) => $(id).addEventListener("click", act, { signal });
    on("job-copy", () => copy(textOf(this.lines.shown, $("job-copy-times").checked), $("job-copy")));
    on("job-buy", () => left.keep(this.id));
    on("job-share", () => this.act(() => this.makeLink()));
    on("job-link-copy", () => copy($("job-link-field").value, $("job-link-copy")));
    on("job-revoke", () => this.act(() => this.revoke()));
    on("job-cancel", () => this.act(() => this.stop()));
    on("job-remove", () => this.act(() => this.remove()));
    on("job-whole", () => this.whole());
    on("job-have-key", () => askKey(() => this.whole()));
    on("job-problem-key", () => askKey());
    on("job-problem-again", () => this.act(() => start({ audio_url: this.url, ...this.options })));
    bindShortcuts({
      " ": () => this.player.toggle(),
      ArrowLeft: () => this.player.skip(-1),
      ArrowRight: () => this.player.skip(1),
      "<": () => this.player.changeSpeed(-1),
      ">": () => this.player.changeSpeed(1),
      "/": () => (this.lines.rows.length ? this.search.focus() : false),
    }, signal);
    for (const link of document.querySelectorAll("[data-format]")) {
      link.addEventListener("click", (click) => {
        click.preventDefault();
        this.act(() => this.download(link.dataset.format));
      }, { signal });
    }
  }

  // Runs the action, or shows its error.
  async act(deed) {
    try {
      await deed();
    } catch (error) {
      const { title, text } = explain(error);
      show($("job-state"));
      this.state(`${title}. ${text}`, "bad");
    }
  }

  // Transcribes all of the preview's audio. Errors are shown next to the button.
  async whole() {
    this.locked();
    const button = $("job-whole"), line = $("job-lock-problem"), minutes = $("job-minutes");
    line.textContent = minutesProblem(minutes);
    if (line.textContent) return minutes.focus();
    button.disabled = true;
    try {
      await start({ audio_url: this.url, ...this.options, ...minutesOf(minutes), preview_id: this.id });
    } catch (error) {
      const { title, text, href, link } = explain(error);
      line.replaceChildren(`${title}. ${text}`, ...(href ? [" ", make("a", { href, textContent: link })] : []));
      button.disabled = false;
      button.focus();
    }
  }

  // What was on air so far is kept; a recording is cancelled.
  async stop() {
    await (this.source?.live ? this.api("/stop", { method: "POST" }) : this.api("", { method: "DELETE" }));
    if (this.live) this.stopping();
  }

  stopping() {
    this.stopped = true;
    this.keepFocus();
    $("job-cancel").disabled = true;
    this.state("Stopping", "running");
  }

  // A button that is disabled or hidden gives the focus to nothing.
  keepFocus() {
    if (document.activeElement === $("job-cancel")) $("job-title").focus();
  }

  async nameSpeakers(names) {
    const stored = await (await this.api("/speakers", { method: "PUT", body: { names } })).json();
    this.speakers.rename(stored.speaker_names);
    announce("The name is stored");
  }

  async download(format) {
    const response = await this.api(`/result?format=${format}`);
    const named = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") || "");
    const address = URL.createObjectURL(await response.blob());
    make("a", { href: address, download: named ? decodeURIComponent(named[1]) : `${this.id}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  async remove() {
    if (!confirm("Delete this transcript for good?")) return;
    await this.api("", { method: "DELETE" });
    recent.drop(this.id);
    location.assign("/");
  }

  // --- share links

  async countLinks() {
    const { links } = await json(`/v1/transcripts/${this.id}/share`).catch(() => ({}));
    if (links) this.showLinks(links);
  }

  async makeLink() {
    if (!this.owned) return this.showLinks(0, `${location.origin}/t/${this.id}`); // anyone can read a preview
    const made = await (await this.api("/share", { method: "POST" })).json();
    const { links } = await json(`/v1/transcripts/${this.id}/share`);
    return this.showLinks(links, made.share_url);
  }

  showLinks(links, url = "") {
    show($("job-link"));
    show($("job-link-new"), Boolean(url));
    show($("job-revoke"), links > 0);
    const others = links - (url ? 1 : 0);
    $("job-link-count").textContent = others > 0 ? `${count(others, "link", "links")} ${url ? "more " : ""}to this transcript ${others === 1 ? "is" : "are"} open.` : "";
    show($("job-link-count"), others > 0);
    if (!url) return;
    $("job-link-field").value = url;
    $("job-link-field").focus();
    $("job-link-field").select();
  }

  async revoke() {
    await this.api("/share", { method: "DELETE" });
    show($("job-link"), false);
    announce("The links are revoked");
    this.state("The links are revoked", "good");
    $("job-share").focus();
  }
}

new Transcript(main.dataset).run();
