// Plays the audio from its source, which is loaded when the user presses play.
import { $, make, show } from "./dom.js";
import { speed } from "./kept.js";

const SKIP_SECONDS = 5;

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
    $("job-speed").addEventListener("change", () => this.setSpeed(Number($("job-speed").value)), { signal });
    $("job-local").addEventListener("change", () => this.useFile($("job-local").files[0]), { signal });
    this.setSpeed(speed.value);
    on("seeked", () => lines.mark(this.audio.currentTime, true));
    on("error", () => (this.local ? this.refuseFile() : this.refuse("The source does not let other pages play its audio; you can ")));
  }

  offer(source) {
    const url = source.final_url || source.media_url || "";
    if (url.startsWith("upload:") && !this.url) show($("job-file"));
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

  // Plays a file of this device: an upload can't be downloaded again.
  useFile(file) {
    if (!file) return;
    this.url = URL.createObjectURL(file);
    this.audio.src = this.url;
    this.local = true;
    this.setSeekable(true);
    show($("job-file"), false);
    show($("job-hearing"), false);
    this.audio.focus();
  }

  setSpeed(rate) {
    const select = $("job-speed"), known = [...select.options].some((option) => Number(option.value) === rate);
    const chosen = known ? rate : 1;
    select.value = chosen;
    this.audio.defaultPlaybackRate = chosen;
    this.audio.playbackRate = chosen;
    if (speed.value !== chosen) speed.value = chosen;
  }

  // Chooses the next speed, or the one before.
  changeSpeed(step) {
    const select = $("job-speed"), option = select.options[select.selectedIndex + step];
    if (option) this.setSpeed(Number(option.value));
  }

  toggle() {
    if (!this.canPlay) return false;
    if (this.audio.paused) this.audio.play().catch(() => {});
    else this.audio.pause();
    return true;
  }

  skip(direction) {
    if (!this.canPlay) return false;
    const from = this.wanted ?? this.audio.currentTime;
    this.wanted = Math.max(0, from + direction * SKIP_SECONDS);
    this.jump();
    return true;
  }

  get canPlay() { return !$("job-player").hidden; }

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

  refuseFile() {
    this.local = false;
    this.setSeekable(false);
    show($("job-file"));
    $("job-silent").textContent = "This browser can't play that file.";
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
