// Keeps the newest line in view while the reader is at the end. After scrolling up, a button leads back to it.
import { $, motion, show } from "./dom.js";

const NEAR_PX = 80, SETTLING_FRAMES = 5;

export class Newest {
  constructor(signal) {
    this.kept = true;
    this.frame = 0;
    this.seen = { y: scrollY, height: 0 };
    addEventListener("scroll", () => this.scrolled(), { signal, passive: true });
    $("job-newest").addEventListener("click", () => this.go(), { signal });
  }

  // Call this when lines were added. It acts once per frame, since a replay adds thousands at once.
  grew() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.settle(SETTLING_FRAMES));
  }

  go() {
    this.kept = true;
    this.grew();
  }

  leave() { this.kept = false; }

  // The end of live audio is always somewhere to go to, not only after new lines.
  onAir() {
    this.always = true;
    $("job-newest").textContent = "Jump to now";
  }

  end() {
    this.leave();
    this.ended = true;
    cancelAnimationFrame(this.frame);
    show($("job-newest"), false);
  }

  // Lines get their real height when they come into view, so the end may move while the page scrolls.
  settle(frames) {
    this.frame = 0;
    show($("job-newest"), !this.kept && left() > NEAR_PX);
    if (!this.kept || left() <= 1) return;
    scrollTo({ top: document.documentElement.scrollHeight, behavior: left() < innerHeight ? motion() : "auto" });
    if (frames) this.frame = requestAnimationFrame(() => this.settle(frames - 1));
  }

  // Scrolling up while the page did not shrink is the reader's choice; the page itself only scrolls down.
  scrolled() {
    const height = document.documentElement.scrollHeight, up = scrollY < this.seen.y;
    if (up && height >= this.seen.height) this.leave();
    else if (!up && left() <= NEAR_PX) this.kept = true;
    this.seen = { y: scrollY, height };
    if (this.always && !this.kept && !this.ended) show($("job-newest"), left() > NEAR_PX);
    if (this.kept) show($("job-newest"), false);
  }
}

const left = () => document.documentElement.scrollHeight - innerHeight - scrollY;
