// Keeps the newest line in view for whoever reads at the end; whoever scrolls up is left alone, and gets a way back.
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

  // To be called when lines were added. Looks once a frame, since a replay brings thousands at once.
  grew() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.settle(SETTLING_FRAMES));
  }

  go() {
    this.kept = true;
    this.grew();
  }

  leave() { this.kept = false; }

  end() {
    this.leave();
    cancelAnimationFrame(this.frame);
    show($("job-newest"), false);
  }

  // Lines get their true height when they come into view, so the end may move away while one goes there.
  settle(frames) {
    this.frame = 0;
    show($("job-newest"), !this.kept && left() > NEAR_PX);
    if (!this.kept || left() <= 1) return;
    scrollTo({ top: document.documentElement.scrollHeight, behavior: left() < innerHeight ? motion() : "auto" });
    if (frames) this.frame = requestAnimationFrame(() => this.settle(frames - 1));
  }

  // Up, while the page has not become shorter, is somebody's wish; what the page does by itself goes down.
  scrolled() {
    const height = document.documentElement.scrollHeight, up = scrollY < this.seen.y;
    if (up && height >= this.seen.height) this.leave();
    else if (!up && left() <= NEAR_PX) this.kept = true;
    this.seen = { y: scrollY, height };
    if (this.kept) show($("job-newest"), false);
  }
}

const left = () => document.documentElement.scrollHeight - innerHeight - scrollY;
