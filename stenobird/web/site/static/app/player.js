// Plays the audio from its source, which is loaded when the user presses play.
import { $, make, show } from "./dom.js";

export class Player {
  constructor(lines, signal, begun) {
    this.lines = lines;
    this.audio = $("job-audio");
    this.wanted = null;
    const on = (name, act) => this.audio.addEventListener(name, act, { signal });
    on("loadedmetadata", () => this.jump());
    on("play", () => {
      $("job").classList.add("heard");
      begun();
      this.tick();
    });
    on("seeked", () => lines.mark(this.audio.currentTime, true));
    on("error", () => this.refuse("The source does not let other pages play its audio; you can "));
  }

  offer(source) {
    const url = source.final_url || source.media_url || "";
    if (this.url === url || !/^https?:/.test(url)) return;
    this.url = url;
    if (source.kind === "hls" && !this.audio.canPlayType("application/vnd.apple.mpegurl")) {
      this.refuse("This browser does not play this kind of stream; you can ");
    } else if (location.protocol === "https:" && url.startsWith("http:")) { // mixed content, which browsers refuse
      this.refuse("The audio has no secure address, so it can't be played here; you can ");
    } else {
      this.audio.src = url;
      this.setSeekable(true);
    }
  }

  setSeekable(yes) {
    this.lines.setSeekable(yes);
    show($("job-player"), yes);
    show($("job-hearing"), yes);
  }

  refuse(why) {
    this.setSeekable(false);
    const link = make("a", { href: this.url, rel: "noreferrer noopener", textContent: "open the audio there" });
    $("job-silent").replaceChildren(why, link, ".");
    show($("job-silent"));
  }

  seek(seconds) {
    this.wanted = seconds;
    this.jump();
    this.audio.play().catch(() => {}); // the error event reports it
  }

  jump() {
    if (this.wanted === null || this.audio.readyState < 1) return;
    this.audio.currentTime = this.wanted;
    this.wanted = null;
  }

  // Once per frame, since `timeupdate` fires only four times a second.
  tick() {
    this.lines.mark(this.audio.currentTime);
    if (!this.audio.paused && !this.audio.ended) requestAnimationFrame(() => this.tick());
  }
}
