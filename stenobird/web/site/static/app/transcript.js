// The page of one transcript: its stages and lines as they arrive, and the actions on it.
import { api, explain, json, start } from "./api.js";
import { copy } from "./copying.js";
import { $, announce, clock, count, main, make, nameOf, show } from "./dom.js";
import { follow } from "./events.js";
import { askKey } from "./keys.js";
import { key, recent } from "./kept.js";
import { Lines } from "./lines.js";
import { Newest } from "./newest.js";
import { Player } from "./player.js";
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
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.newest = new Newest(signal);
    this.lines = new Lines($("job-lines"), (seconds) => this.player.seek(seconds));
    this.player = new Player(this.lines, signal, () => this.newest.leave());
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

  get owned() { return !this.share && this.mode !== "" && this.mode !== "preview"; }

  // --- facts

  describe(body) {
    this.live = !body.terminal; // else no more lines will arrive
    this.mode = body.mode;
    this.url = body.audio_url;
    $("job-kind").textContent = this.share ? "Shared transcript" : KINDS[body.mode] || "Transcript";
    this.title(nameOf(this.url));
    if (body.source) this.found(body.source);
    this.note();
    $("job-lines").classList.toggle("live", this.live);
    show($("job-cancel"), this.live && !this.share);
    show($("job-tools"), this.live && !this.share);
  }

  note() {
    if (!this.share) recent.note({ id: this.id, title: this.source?.title || nameOf(this.url), mode: this.mode, at: Date.now() });
  }

  title(text) {
    $("job-title").textContent = text;
    $("job-title").classList.toggle("long", text.length > 60);
    document.title = `${text} · Stenobird`;
  }

  found(source) {
    this.source = source;
    if (source.title) this.title(source.title);
    const facts = [source.podcast, source.published?.slice(0, 10), source.duration_seconds ? clock(source.duration_seconds) : null];
    const link = source.page_url || source.submitted_url || this.url;
    const where = /^https?:/.test(link) ? make("a", { href: link, rel: "noreferrer noopener", textContent: new URL(link).host }) : "";
    $("job-source").replaceChildren(...facts.filter(Boolean).flatMap((fact) => [make("bdi", { textContent: fact }), " · "]), where);
    this.player.offer(source);
    this.note();
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
    else if (event === "preview_locked") this.locked();
    else if (event === "error") this.problem(data);
    else if (event === "done") this.done(data);
  }

  stage(data) {
    if (data.source) this.found(data.source);
    if (data.progress) this.progress(data.progress);
    if (data.stage === "transcribing") return this.state("Transcribing", "running");
    const label = stageName(data.stage), text = data.source?.reason || data.message || "";
    const item = this.stages.get(data.stage) || $("job-stages").appendChild(make("li"));
    this.stages.set(data.stage, item);
    item.replaceChildren(make("b", { textContent: label }), ...(text ? [" ", make("span", { textContent: text, dir: "auto" })] : []));
    return this.state(label, "running");
  }

  progress({ audio_seconds: heard, audio_seconds_total: total }) {
    this.total = total || this.total;
    this.heardTo = Math.max(this.heardTo, heard || 0);
    const bar = $("job-progress");
    if (!this.total || this.mode === "preview" || !this.live) return;
    show(bar);
    bar.value = Math.min(1, this.heardTo / this.total);
    bar.setAttribute("aria-valuetext", `${clock(this.heardTo)} of ${clock(this.total)}`);
  }

  line(data) {
    if (!this.lines.rows.length) {
      $("job-found").open = false;
      for (const id of ["job-tools", "job-copy"]) show($(id));
    }
    this.state("Transcribing", "running");
    this.lines.add(data);
    this.progress({ audio_seconds: data.end });
    if (!this.live) return;
    this.lines.speak(data.text);
    this.newest.grew();
  }

  locked() {
    show($("job-lock"));
    $("job-lock-text").textContent = `These were the first ${this.previewSeconds} seconds. With a key the transcript continues to the end.`;
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
    show($("job-problem-again"), RETRYABLE.includes(code) && !this.share);
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
    if (document.activeElement === $("job-cancel")) $("job-title").focus();
    for (const id of ["job-cancel", "job-progress"]) show($(id), false);
    show($("job-tools"), this.lines.rows.length > 0);
  }

  done(data) {
    this.over();
    show($("job-remove"), this.owned);
    if (this.owned) show($("job-tools"));
    if (data.status === "cancelled") this.state("Stopped before it was finished; nothing is billed", "bad");
    if (!data.result_ready) return;
    const words = this.lines.text.split(/\s+/).filter(Boolean).length;
    const billed = data.billable_minutes ? `, ${count(data.billable_minutes, "minute", "minutes")} billed` : "";
    this.state(`Done: ${words ? count(words, "word", "words") : "no speech"}${billed}`, "good");
    $("job-warning").textContent = data.warning || "";
    show($("job-warning"), Boolean(data.warning));
    show($("job-tools"));
    show(document.querySelector(".downloads"));
    show($("job-share"), !this.share);
    if (this.owned) this.countLinks();
  }

  // --- actions

  bind() {
    const { signal } = this.abort;
    const on = (id, act) => $(id).addEventListener("click", act, { signal });
    on("job-copy", () => copy(this.lines.text, $("job-copy")));
    on("job-share", () => this.act(() => this.makeLink()));
    on("job-link-copy", () => copy($("job-link-field").value, $("job-link-copy")));
    on("job-revoke", () => this.act(() => this.revoke()));
    on("job-cancel", () => this.act(() => this.api("", { method: "DELETE" })));
    on("job-remove", () => this.act(() => this.remove()));
    on("job-whole", () => this.whole());
    on("job-have-key", () => askKey(() => this.whole()));
    on("job-problem-key", () => askKey());
    on("job-problem-again", () => this.act(() => start(this.url)));
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
    const button = $("job-whole"), line = $("job-lock-problem");
    button.disabled = true;
    line.textContent = "";
    try {
      await start(this.url, this.id);
    } catch (error) {
      const { title, text, href, link } = explain(error);
      line.replaceChildren(`${title}. ${text}`, ...(href ? [" ", make("a", { href, textContent: link })] : []));
      button.disabled = false;
      button.focus();
    }
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
